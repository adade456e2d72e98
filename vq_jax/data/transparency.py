"""What a picture file shows, taken apart: colours or greys, and transparency."""

import os
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vq_jax.data.pictures import DEFAULT_READING, Reading, opened, read_picture, to_array, turn_upright

_GREY_MODES = ("1", "L", "LA", "La", "I", "F")  # and those of 16 bits, I;16 and others


class Layers(NamedTuple):
    """A picture, upright.

    Attributes:
      pixels: uint8 [H, W, channels].
      alpha: opacity, uint8 [H, W]; None where the file has no transparency.
      grey: whether the file has no colours.
    """

    pixels: UInt8[np.ndarray, "H W C"]
    alpha: UInt8[np.ndarray, "H W"] | None
    grey: bool


def read_layers(path: str | os.PathLike[str], channels: int, reading: Reading = DEFAULT_READING) -> Layers:
    """Reads a picture file as `read_picture` does, but keeps transparency apart from the colours below it.

    Args:
      path: a picture file.
      channels: of the pixels: 3 for colour, 1 for grey.
      reading: see `read_picture`.

    Raises:
      OSError, ValueError and others of Pillow's: as for `read_picture`.
    """
    with opened(path, reading) as (image, orientation):
        image.load()
        upright = turn_upright(image, orientation)
        grey = upright.mode in _GREY_MODES or upright.mode.startswith("I;16")
        if not upright.has_transparency_data:
            return Layers(read_picture(path, channels, reading), None, grey)
        whole = upright.convert("RGBA")
        opaque = whole.convert("RGB")
        return Layers(to_array(opaque, channels), np.asarray(whole.getchannel("A")), grey)


def join_layers(layers: Layers) -> Image.Image:
    """Makes one of Pillow's pictures: grey where `grey` is set, and with transparency where there is some."""
    pixels = layers.pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if layers.grey and image.mode != "L":
        image = image.convert("L")
    if layers.alpha is not None:
        image.putalpha(Image.fromarray(layers.alpha))
    return image
