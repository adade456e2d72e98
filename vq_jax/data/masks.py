"""Masks for inpainting out of picture files: what is to be filled."""

import os

import numpy as np
from jaxtyping import Bool, UInt8

from vq_jax.data.pictures import DEFAULT_READING, opened, read_picture, turn_upright

_LEAST_CONTRAST = 16
"""Transparency that varies by less says nothing; colours that vary by less are one."""
_SAME = 16.0  # mean difference up to which a mask is a copy of the picture


def read_mask(path: str | os.PathLike[str], picture: UInt8[np.ndarray, "H W C"]) -> Bool[np.ndarray, "h w"]:
    """Reads what is to be filled of a picture.

    Where the transparency of the file varies, it is the mask: strokes of any colour on a transparent ground
    are to be filled and, in a copy of the picture, what was erased. Otherwise what is white is to be filled.

    Args:
      path: the mask, a picture file.
      picture: that is to be filled, of which the mask may be a copy.

    Returns:
      True where a pixel is to be filled.

    Raises:
      OSError, ValueError and others of Pillow's: as `read_picture`.
    """
    with opened(path, DEFAULT_READING) as (image, orientation):
        image.load()
        upright = turn_upright(image, orientation)
        if not upright.has_transparency_data:
            return read_picture(path, 1)[..., 0] >= 128
        pixels = upright.convert("RGBA")
    alpha, colours = np.asarray(pixels)[..., 3].astype(int), np.asarray(pixels)[..., :3]
    low, high = int(alpha.min()), int(alpha.max())
    if high - low < _LEAST_CONTRAST:
        white: np.ndarray = np.asarray(pixels.convert("RGB").convert("L")) >= 128
        return white
    drawn: np.ndarray = alpha > (low + high) / 2
    return ~drawn if _is_copy(colours, picture, drawn) else drawn


def _is_copy(colours: np.ndarray, picture: np.ndarray, drawn: np.ndarray) -> bool:
    """Whether a mask shows the picture where it is not transparent, and not strokes of one colour."""
    if colours.shape[:2] != picture.shape[:2]:
        return False
    shown = colours[drawn].astype(int)
    if (np.ptp(shown, axis=0) < _LEAST_CONTRAST).all():
        return False
    return bool(np.abs(shown - picture[drawn]).mean() < _SAME)  # grey: one channel against three
