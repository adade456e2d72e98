"""Chooses a square of a picture and brings it to the size of a training picture.

Every policy chooses a square of whole pixels, which is cut out, resized unless it already has the right size,
and mirrored or not: a whole picture is never resized to keep a small part.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from vq_jax.data.splits import evenly_spaced

if TYPE_CHECKING:
    from PIL import Image

Resize = Literal["none", "short-side", "random"]


class Window(NamedTuple):
    """A square of a picture, in pixels, and whether it is mirrored left to right."""

    top: int
    left: int
    side: int
    mirrored: bool = False


Choose = Callable[[int, int], Window]
"""Chooses a square of a picture from its height and width."""


def training_window(
    height: int,
    width: int,
    size: int,
    resize: Resize,
    crop: Literal["random", "center"],
    draws: Float[np.ndarray, "3"],
) -> Window:
    """Chooses the square to train on.

    Args:
      height: of the picture.
      width: of the picture.
      size: side of the training picture.
      resize: none: a square of `size` (or the short side, where that is less). short-side: a square
        of the short side. random: as if the short side were first brought to a random length between
        `size` and twice that.
      crop: where the square lies.
      draws: three numbers in [0, 1): scale, vertical and horizontal position.
    """
    short = min(height, width)
    side = min(size, short) if resize == "none" else short
    if resize == "random":
        length = size + int(draws[0] * (size + 1))
        side = max(1, round(short * size / length))
    if crop == "center":
        return _centred(height, width, side)
    return Window(int(draws[1] * (height - side + 1)), int(draws[2] * (width - side + 1)), side)


def held_out_windows(height: int, width: int, size: int, resize: Resize, maximum: int) -> list[Window]:
    """Chooses the squares to test on, the same ones each time.

    Args:
      height: of the picture.
      width: of the picture.
      size: side of the test picture.
      resize: none: squares of `size` side by side, centred in the picture; where more than `maximum` fit,
        evenly spaced ones. Otherwise one square of the short side, from the middle.
      maximum: most squares of one picture; a single one lies in the middle.
    """
    side = min(size, height, width) if resize == "none" else min(height, width)
    rows, columns = height // side, width // side
    if resize != "none" or maximum == 1 or side < size:
        return [_centred(height, width, side)]
    top, left = (height - rows * side) // 2, (width - columns * side) // 2
    return [
        Window(top + cell // columns * side, left + cell % columns * side, side)
        for cell in evenly_spaced(rows * columns, maximum)
    ]


def _centred(height: int, width: int, side: int) -> Window:
    return Window((height - side) // 2, (width - side) // 2, side)


def cut(picture: UInt8[np.ndarray, "H W C"], window: Window, size: int) -> UInt8[np.ndarray, "S S C"]:
    """Cuts a square out of a picture and resizes it to `size`, bicubic and antialiased.

    Returns:
      uint8 [size, size, C]; a view of the picture where it is neither resized nor mirrored.
    """
    top, left, side, mirrored = window
    patch = picture[top : top + side, left : left + side]
    if side == size:
        return _mirror(patch) if mirrored else patch
    from PIL import Image

    channels = patch.shape[-1]
    planes = [patch] if channels == 3 else [patch[..., channel] for channel in range(channels)]
    images = [Image.fromarray(np.ascontiguousarray(plane)) for plane in planes]
    whole = (0.0, 0.0, float(side), float(side))
    resized = [np.asarray(shrink(image, size, whole, mirrored)) for image in images]
    return resized[0] if channels == 3 else np.stack(resized, axis=-1)


def shrink(
    image: "Image.Image", size: int, box: tuple[float, float, float, float], mirrored: bool
) -> "Image.Image":
    """Resizes a box (left, top, right, bottom) to a square, bicubic and antialiased; mirrors it if asked."""
    from PIL import Image

    square = image.resize((size, size), Image.Resampling.BICUBIC, box, reducing_gap=3.0)
    return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else square


def _mirror(patch: UInt8[np.ndarray, "S S C"]) -> UInt8[np.ndarray, "S S C"]:
    mirrored = np.empty(patch.shape, np.uint8)
    for channel in range(patch.shape[-1]):  # four times as fast as all channels at once
        mirrored[..., channel] = patch[:, ::-1, channel]
    return mirrored
