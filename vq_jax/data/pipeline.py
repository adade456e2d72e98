"""The stream of training batches, built on grain.

A batch is made whole inside one grain node, from the numbers of its records: grain's bookkeeping
for each record (shuffle, map, batch) would cost several times as much as the crop itself. What the
nodes would do is kept: a global shuffle, a new one each epoch; random numbers of each record's own,
from the seed and its place in the stream; processes that share the batch between them.

The batch at position i depends on the seed and i alone: a position is all that a checkpoint keeps.
"""

import functools
import logging
import multiprocessing
import os
import signal
import threading
from types import TracebackType
from typing import Any

import grain
import numpy as np
from absl import flags
from jaxtyping import Float, Int

from vq_jax.configs.data import DataConfig
from vq_jax.data.crops import Window, training_window
from vq_jax.data.source import Batch, Source, take_square
from vq_jax.errors import UserError

_LOG = logging.getLogger("vq_jax")
_LOCK = threading.Lock()
_POSITIONS = 2**48  # batches in the stream: no run gets there, and grain's arithmetic holds
_DRAWS = 4  # random numbers a record: scale, vertical and horizontal position, flip


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

    An epoch holds every picture `config.crops_per_picture` times; batches run across its border.
    The batches of all processes, put together in the order of their indices, are the batch that a
    single process would get.

    Args:
      source: the pictures.
      config: size of batch and picture, resize, crop, flip, workers.
      seed: of the order and of the crops; 0 and up.
      start_batch: position to start from; batches before it are skipped at no cost.
      process_index: of this process.
      process_count: processes that share each batch.
      copy: copy pictures that workers make out of the memory that is shared with them, /dev/shm on Linux.
        Without, a batch's pictures stay there, with two files open, until their last reference goes, which
        must be before the program ends; that is 3 % faster, for a loop that puts them on devices at once.

    Returns:
      An iterator of batches: `image` uint8 [B, S, S, C], `broken` int32 [B] and, where the source
      has labels, `label` int32 [B], with B = config.batch_size // process_count and
      S = config.image_size. Close it, or use it as a context manager.

    Raises:
      UserError: the processes cannot share a batch evenly, or the source is empty.

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
        # grain reads absl's flags, which only absl's own main function parses.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        stream = stream.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=config.num_workers, per_worker_buffer_size=2),
            worker_init_fn=_begin_worker,
        )
    return BatchIterator(iter(stream), start_batch, copy=copy and config.num_workers > 0)


def _begin_worker(index: int, count: int) -> None:
    """Leaves a worker's end to the process that started it, and ends it when that process is gone.

    What is sent to all processes of a program, Ctrl-C or a host's end, would otherwise take the workers
    from a run that still has to save. grain's workers outlive a main process that was killed.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    main = multiprocessing.parent_process()
    assert main is not None, "called in a worker"

    def end_with_it() -> None:
        main.join()
        os._exit(1)

    threading.Thread(target=end_with_it, name="end-with-main", daemon=True).start()


class BatchIterator:
    """Training batches in order, prefetched in the background until it is closed.

    Attributes:
      position: index in the stream of the batch that comes next.
    """

    def __init__(self, batches: Any, position: int, copy: bool) -> None:
        self.position = position
        self._batches = batches
        self._copy = copy
        batches.start_prefetch()

    def __iter__(self) -> "BatchIterator":
        return self

    def __next__(self) -> Batch:
        batch = {
            # A view keeps grain's own kind of array, which frees the shared memory when it goes.
            key: value.view(np.ndarray) if key == "image" and not self._copy else np.array(value, subok=False)
            for key, value in next(self._batches).items()
        }
        self.position += 1
        return batch

    def close(self) -> None:
        """Ends the threads or processes that prefetch; harmless when repeated."""
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
        self._config = config
        self._rows = rows
        self._enlarged = False

    def __call__(self, numbers: Int[np.ndarray, " B"], rng: np.random.Generator) -> Batch:
        config, size = self._config, self._config.image_size
        # Drawn for all processes alike, so that a record's crop does not depend on who makes it.
        draws = rng.random((len(numbers), _DRAWS))[self._rows]
        numbers = numbers[self._rows]
        image = np.empty((len(numbers), size, size, self._source.channels), np.uint8)
        broken = np.zeros(len(numbers), np.int32)
        labels = np.zeros(len(numbers), np.int32)
        has_labels = self._source.num_classes is not None
        for row, number in enumerate(numbers.tolist()):
            choose = functools.partial(self._choose, draws[row])
            record = take_square(self._source, number, choose, size, config.scaled_decoding)
            image[row] = record["image"]
            broken[row] = record.get("broken", 0)
            if has_labels:
                labels[row] = record["label"]
        batch: Batch = {"image": image, "broken": broken}
        if has_labels:
            batch["label"] = labels
        return batch

    def _choose(self, draws: Float[np.ndarray, "4"], height: int, width: int) -> Window:
        config = self._config
        if min(height, width) < config.image_size and config.resize == "none":
            self._tell_enlarged(height, width)
        window = training_window(height, width, config.image_size, config.resize, config.crop, draws[:3])
        return window._replace(mirrored=bool(config.flip and draws[3] < 0.5))

    def _tell_enlarged(self, height: int, width: int) -> None:
        with _LOCK:
            told, self._enlarged = self._enlarged, True
        if not told:
            _LOG.warning(
                "pictures smaller than data.image_size %d are enlarged to it (one has %d x %d)",
                self._config.image_size,
                height,
                width,
            )
