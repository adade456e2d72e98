"""The stream of training batches, built on grain.

One grain node makes a whole batch from the numbers of its records: grain's bookkeeping for each record
(shuffle, map, batch) would cost several times as much as the crop itself. The node does what those would do:
it shuffles all records anew each epoch, gives each record its own random numbers, from the seed and the place
in the stream, and shares the batch between processes.

The batch at position i depends only on the seed and i: a checkpoint keeps a position and nothing else.
"""

import functools
import os
from types import TracebackType
from typing import Any

import grain
import numpy as np
from absl import flags
from jaxtyping import Int

from vq_jax.configs.data import DataConfig
from vq_jax.data import workers
from vq_jax.data.examples import CROP_NUMBERS, ExampleBuilder, RecordRng, stack
from vq_jax.data.source import Batch, Source, take_crop
from vq_jax.errors import UserError

_POSITIONS = 2**48  # batches in the stream: no run takes as many, and grain's arithmetic holds


def train_batches(
    source: Source,
    config: DataConfig,
    *,
    seed: int,
    start_batch: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    copy: bool = True,
) -> "BatchIterator":
    """Streams training batches without end, shuffled anew each epoch.

    An epoch holds every picture `config.crops_per_picture` times; a batch may span two epochs. The batches
    of all processes, joined in the order of their indices, are the batch that a single process would get.

    Args:
      source: the pictures.
      config: size of batch and picture, resize, crop, flip, workers.
      seed: of the order and of the crops; 0 and up.
      start_batch: position to start from; batches before it are skipped at no cost.
      process_index: index of this process.
      process_count: number of processes that share each batch.
      copy: copy the workers' pictures out of the memory that is shared with them, /dev/shm on Linux. False is
        3 % faster, for a loop that puts batches on devices at once: a batch's pictures then stay in shared
        memory, with two files open for each array of them, until the last reference to them is gone, which
        must be before the program ends.

    Returns:
      An iterator of batches: `image` uint8 [B, H, W, C], or clips [B, T, H, W, C], `broken` int32 [B] and,
      where the source has labels, `label` int32 [B], with B = config.batch_size // process_count, H and W of
      config.image_size and T = config.frames. Where `config.degradation` changes pictures, `image` is the
      degraded one, and `target`, of config.image_size, the one from before. Close it, or use it as a context
      manager.

    Raises:
      UserError: the processes cannot share a batch evenly, the source is empty, or workers cannot start.

    Example:
      >>> with train_batches(source, DataConfig(batch_size=8), seed=0) as batches:
      ...     next(batches)["image"].shape
      (8, 64, 64, 3)
    """
    if config.batch_size % process_count:
        raise UserError(
            f"data.batch_size {config.batch_size} does not divide by the {process_count} processes "
            f"that share it; the nearest that does is "
            f"{max(1, round(config.batch_size / process_count)) * process_count}"
        )
    config.check_channels(source.channels)
    if len(source) == 0:
        raise UserError("expected at least one picture to train on, the source is empty")
    share = config.batch_size // process_count
    rows = slice(process_index * share, (process_index + 1) * share)
    dataset = (
        grain.MapDataset.source(Order(len(source), config, seed))
        .random_map(_Assembler(source, config, rows), seed=seed)
        .slice(slice(start_batch, None))
    )
    # Workers are the parallelism where there are any: each makes its batches in its main thread.
    threads = 0 if config.num_workers else min(8, os.cpu_count() or 1)
    stream: Any = dataset.to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(1, 2 * threads))
    )
    if config.num_workers:
        workers.require_start()
        # grain reads absl's flags, which only absl's own main function parses.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        stream = stream.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=config.num_workers, per_worker_buffer_size=2),
            worker_init_fn=workers.begin,
        )
    return BatchIterator(iter(stream), start_batch, copy=copy and config.num_workers > 0)


class BatchIterator:
    """Training batches in order, prefetched in the background until it is closed.

    Attributes:
      position: index of the next batch in the stream.
    """

    def __init__(self, batches: Any, position: int, copy: bool) -> None:
        self.position = position
        self._batches = batches
        self._copy = copy
        batches.start_prefetch()

    def __iter__(self) -> "BatchIterator":
        return self

    def __next__(self) -> Batch:
        try:
            made = next(self._batches)
        except RuntimeError as error:
            raise workers.explained(error) from error
        viewed = () if self._copy else ("image", "target")
        batch = {
            # A view keeps grain's own kind of array, which frees the shared memory when it goes.
            key: value.view(np.ndarray) if key in viewed else np.array(value, subok=False)
            for key, value in made.items()
        }
        self.position += 1
        return batch

    def close(self) -> None:
        """Ends the threads or processes that prefetch; may be called again."""
        self._batches.close()

    def __enter__(self) -> "BatchIterator":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Order:
    """The record numbers of every batch of the stream, int64 [B] each."""

    def __init__(self, pictures: int, config: DataConfig, seed: int) -> None:
        self._pictures = pictures
        self._epoch = pictures * config.crops_per_picture
        self._batch_size = config.batch_size
        self._seed = seed

    def __len__(self) -> int:
        return _POSITIONS

    def __getitem__(self, index: int) -> Int[np.ndarray, " B"]:
        places = np.arange(index * self._batch_size, (index + 1) * self._batch_size)
        epochs, within = np.divmod(places, self._epoch)
        numbers = np.empty_like(within)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            chosen = epochs == epoch
            numbers[chosen] = _permutation(self._epoch, self._seed, epoch)[within[chosen]]
        return numbers % self._pictures


@functools.lru_cache(maxsize=4)
def _permutation(size: int, seed: int, epoch: int) -> Int[np.ndarray, " N"]:
    return np.random.default_rng((seed, epoch)).permutation(size)


class _Assembler:
    """Makes this process's rows of a batch from record numbers and random numbers."""

    def __init__(self, source: Source, config: DataConfig, rows: slice) -> None:
        self._source = source
        self._rows = rows
        self._make_example = ExampleBuilder(config)

    def __call__(self, numbers: Int[np.ndarray, " B"], rng: np.random.Generator) -> Batch:
        # Drawn for the rows of all processes, so that an example does not depend on which of them makes it.
        windows = rng.random((len(numbers), CROP_NUMBERS))
        seed = int(rng.integers(2**63))
        rows = range(len(numbers))[self._rows]
        examples = (
            self._make_example(
                functools.partial(take_crop, self._source, int(numbers[row])),
                RecordRng(windows[row], (seed, row)),
            )
            for row in rows
        )
        return stack(examples, len(rows))
