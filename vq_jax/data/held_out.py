"""Held-out pictures: batches to measure on, and whole pictures to look at."""

import functools
import math
from collections.abc import Iterator

import numpy as np

from vq_jax.configs.data import DataConfig
from vq_jax.data.crops import held_out_windows
from vq_jax.data.examples import Example, ExampleBuilder, RecordRng, stack
from vq_jax.data.source import Batch, Source, crop_record, source_labels
from vq_jax.data.splits import evenly_over_classes, evenly_spaced
from vq_jax.errors import UserError
from vq_jax.host.memory import require_memory

_CROPS = 256  # over all pictures, as far as each gives more than one
_SEED = 0  # not the run's: all runs are measured on the same examples


def test_batches(
    source: Source, config: DataConfig, *, batch_size: int, limit: int | None = None
) -> Iterator[Batch]:
    """Yields examples of the held-out pictures once, the same ones each time.

    With `config.resize` none, a large picture gives several crops, side by side, so that a set of a few
    photographs gives up to 256 in all, or up to `limit`. Otherwise, and where there are many pictures, each
    gives one from its middle.

    Args:
      source: the held-out pictures.
      config: image_size, resize, where random counts as short-side, and degradation.
      batch_size: crops in each batch.
      limit: most crops in all, 1 and up; of more pictures than that, only evenly spaced ones are read.

    Yields:
      `image` uint8 [B, H, W, C], or clips [B, T, H, W, C]; `valid` bool [B], false where the last batch
      repeats its last example to fill up; `broken` int32 [B]; `label` int32 [B] where the source has labels;
      `target` like `image` where the degradation changes pictures, see `train_batches`.

    Raises:
      UserError: the source is empty.

    Example:
      >>> [batch["valid"].sum() for batch in test_batches(source, DataConfig(), batch_size=64)]
      [64, 18]
    """
    if len(source) == 0:
        raise UserError("expected at least one held-out picture, the source is empty")
    chosen = evenly_spaced(len(source), len(source) if limit is None else limit)
    maximum = max(1, (_CROPS if limit is None else limit) // len(chosen))
    make_example = ExampleBuilder(config)
    examples: list[Example] = []
    for index in chosen:
        record = source[index]
        height, width = record["image"].shape[-3:-1]
        windows = held_out_windows(height, width, config.picture_size, config.resize, maximum)
        for number, window in enumerate(windows):
            rng = RecordRng(window, (_SEED, index, number))
            examples.append(make_example(functools.partial(crop_record, record), rng))
            if len(examples) == batch_size:
                yield _batch(examples, batch_size)
                examples = []
    if examples:
        yield _batch(examples, batch_size)


def all_test_batches(source: Source, config: DataConfig, *, batch_size: int) -> list[Batch]:
    """Returns the batches of `test_batches`, up to `config.test_limit` examples, to keep them.

    Raises:
      UserError: the source is empty, or its pictures are larger than the machine's memory.
    """
    count = min(config.test_limit, len(source))
    kept = 2 if config.degradation.changes else 1  # a degraded picture and the one from before
    require_memory(
        kept * count * math.prod(config.lengths) * source.channels,
        f"keeping {count} held-out pictures of {' x '.join(map(str, config.lengths))} pixels",
        "lower data.test_limit or data.image_size",
    )
    return list(test_batches(source, config, batch_size=batch_size, limit=config.test_limit))


def _batch(examples: list[Example], size: int) -> Batch:
    return {**stack(examples, size), "valid": np.arange(size) < len(examples)}


def test_pictures(source: Source, count: int) -> list[np.ndarray]:
    """Returns up to `count` whole pictures, evenly spaced over the source, or over its classes.

    Args:
      source: the held-out pictures.
      count: how many.

    Returns:
      Pictures uint8 [H, W, C], each of its own size.
    """
    labels = source_labels(source)
    chosen = evenly_spaced(len(source), count) if labels is None else evenly_over_classes(labels, count)
    return [source[index]["image"] for index in chosen]
