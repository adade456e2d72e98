"""Grids of pictures to look at, and PNG files of them."""

import io
from collections.abc import Sequence

import numpy as np
from etils import epath
from PIL import Image

from vq_jax.host.files import write_atomic

_SHOWN_HEIGHT = 112  # px; smaller pictures are enlarged, pixel by pixel
_GAP = 4


def comparison_grid(*rows: Sequence[np.ndarray]) -> np.ndarray:
    """Puts pictures above others of the same number: originals above reconstructions, say.

    Clips stand the other way round: each is a strip, its frames from left to right, above its reconstruction,
    and the next clip follows below.

    Args:
      *rows: pictures uint8 [H, W, C] from left to right, C 1 or 3. Sizes may differ within a row; in a
        column, that of the largest is a multiple of the others. Or clips [T, H, W, C], all of one size.

    Returns:
      uint8 [H, W, 3], white between the pictures.
    """
    if rows[0][0].ndim == 4:
        strips = [[strip(clip) for clip in clips] for clips in zip(*rows, strict=True)]
        return _stacked([_stacked(of_clip, _GAP) for of_clip in strips], 3 * _GAP)
    columns = []
    for pictures in zip(*rows, strict=True):
        largest = max(picture.shape[0] for picture in pictures)
        height = largest * max(1, round(_SHOWN_HEIGHT / largest))
        column = [_enlarged(picture, height // picture.shape[0]) for picture in pictures]
        gap = np.full((_GAP, column[0].shape[1], 3), 255, np.uint8)
        columns.append(np.concatenate([part for picture in column for part in (picture, gap)][:-1]))
    height = max(column.shape[0] for column in columns)
    padded = [
        np.pad(column, [(0, height - column.shape[0]), (0, _GAP), (0, 0)], constant_values=255)
        for column in columns
    ]
    return np.concatenate(padded, axis=1)[:, :-_GAP]


def picture_grid(pictures: Sequence[np.ndarray] | np.ndarray, columns: int) -> np.ndarray:
    """Puts pictures of one size in rows with white gaps.

    Args:
      pictures: uint8 [H, W, C], C 1 or 3.
      columns: pictures in each row.

    Returns:
      uint8 [H', W', 3]; small pictures are enlarged, pixel by pixel.
    """
    first = pictures[0]
    scale = max(1, round(_SHOWN_HEIGHT / 2 / first.shape[0]))
    height, width = (scale * size for size in first.shape[:2])
    rows = -(-len(pictures) // columns)
    shape = (rows * (height + _GAP) - _GAP, min(columns, len(pictures)) * (width + _GAP) - _GAP, 3)
    grid = np.full(shape, 255, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * (height + _GAP), number % columns * (width + _GAP)
        grid[top : top + height, left : left + width] = _enlarged(picture, scale)
    return grid


def strip(clip: np.ndarray) -> np.ndarray:
    """Puts the frames of a clip, uint8 [T, H, W, C], side by side: uint8 [H', W', 3]; see `picture_grid`."""
    return picture_grid(clip, len(clip))


def _stacked(pictures: Sequence[np.ndarray], gap: int) -> np.ndarray:
    """Puts pictures of one width above each other."""
    white = np.full((gap, pictures[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, white)][:-1])


def _enlarged(picture: np.ndarray, scale: int) -> np.ndarray:
    colour = np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else picture
    return np.repeat(np.repeat(colour, scale, 0), scale, 1)


def encode_png(picture: np.ndarray) -> bytes:
    """Encodes uint8 [H, W, C], C 1 or 3, as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(buffer, "PNG")
    return buffer.getvalue()


def write_png(path: epath.Path, picture: np.ndarray) -> None:
    """Writes uint8 [H, W, C], C 1 or 3, as a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, encode_png(picture))
