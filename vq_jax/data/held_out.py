"""Held-out pictures: batches to measure on, and whole pictures to look at."""

from collections.abc import Iterator

import numpy as np

from vq_jax.configs.data import DataConfig
from vq_jax.data.crops import cut, held_out_windows
from vq_jax.data.source import Batch, Record, Source
from vq_jax.data.splits import evenly_spaced
from vq_jax.errors import UserError

_CROPS = 256  # over all pictures, as far as each gives more than one


def test_batches(
    source: Source, config: DataConfig, *, batch_size: int, limit: int | None = None
) -> Iterator[Batch]:
    """Yields the held-out pictures once, the same each time.

    With `config.resize` none, a large picture gives several squares, side by side: as many as bring
    a set of a few photographs to 256 in all, or to `limit`. Otherwise, and where there are many
    pictures, each gives one square from its middle.

    Args:
      source: the held-out pictures.
      config: image_size and resize; random counts as short-side.
      batch_size: squares in each batch.
      limit: most squares in all, 1 and up; of more pictures than that, evenly spaced ones are read.

    Yields:
      `image` uint8 [B, S, S, C]; `valid` bool [B], false where the last batch repeats its last
      square to fill up; `broken` int32 [B]; `label` int32 [B] where the source has labels.

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
    rows: list[Record] = []
    for index in chosen:
        record = source[index]
        height, width, _ = record["image"].shape
        extra: Record = {key: np.int32(value) for key, value in record.items() if key != "image"}
        extra.setdefault("broken", np.int32(0))
        for window in held_out_windows(height, width, config.image_size, config.resize, maximum):
            square = cut(record["image"], window, config.image_size)
            rows.append({"image": square, **extra})
            if len(rows) == batch_size:
                yield _stack(rows, batch_size)
                rows = []
    if rows:
        yield _stack(rows, batch_size)


def _stack(rows: list[Record], batch_size: int) -> Batch:
    filled = rows + rows[-1:] * (batch_size - len(rows))
    batch = {key: np.stack([row[key] for row in filled]) for key in rows[0]}
    return {**batch, "valid": np.arange(batch_size) < len(rows)}


def test_pictures(source: Source, count: int) -> list[np.ndarray]:
    """Returns up to `count` whole pictures, evenly spaced over the source.

    Args:
      source: the held-out pictures.
      count: how many.

    Returns:
      Pictures uint8 [H, W, C], each of its own size.
    """
    return [source[index]["image"] for index in evenly_spaced(len(source), count)]
