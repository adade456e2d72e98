"""Chooses a part of a picture and brings it to the size of a training picture.

Every policy chooses a rectangle of whole pixels with the proportions of a training picture, which is cut out,
resized unless it already has the right size, and mirrored or not: a whole picture is never resized to keep a
small part.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from vq_jax.data.splits import evenly_spaced

if TYPE_CHECKING:
    from PIL import Image

Resize = Literal["none", "short-side", "random"]
Size = tuple[int, int]
"""Height and width in pixels."""


class Window(NamedTuple):
    """A part of a picture, in pixels, and whether it is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False


Choose = Callable[[int, int], Window]
"""Chooses a part of a picture from its height and width."""


def training_window(
    height: int,
    width: int,
    size: Size,
    resize: Resize,
    crop: Literal["random", "center"],
    draws: Float[np.ndarray, "3"],
) -> Window:
    """Chooses the part to train on.

    Args:
      height: of the picture.
      width: of the picture.
      size: of the training picture.
      resize: none: a part of `size` or, where the picture is smaller, the largest of its proportions.
        short-side: the largest. random: as if the picture were first resized so that the largest is between
        `size` and twice that.
      crop: where the part lies.
      draws: three numbers in [0, 1): scale, vertical and horizontal position.
    """
    largest = _largest(height, width, size)
    part = size if resize == "none" and _holds(height, width, size) else largest
    if resize == "random":
        length = size[0] + int(draws[0] * (size[0] + 1))
        part = (max(1, round(largest[0] * size[0] / length)), max(1, round(largest[1] * size[0] / length)))
    if crop == "center":
        return _centred(height, width, part)
    top, left = int(draws[1] * (height - part[0] + 1)), int(draws[2] * (width - part[1] + 1))
    return Window(top, left, *part)


def held_out_windows(height: int, width: int, size: Size, resize: Resize, maximum: int) -> list[Window]:
    """Chooses the parts to test on, the same ones each time.

    Args:
      height: of the picture.
      width: of the picture.
      size: of the test picture.
      resize: none: parts of `size` side by side, centred in the picture; where more than `maximum` fit,
        evenly spaced ones. Otherwise the largest part with the proportions of `size`, from the middle.
      maximum: most parts of one picture; a single one lies in the middle.
    """
    if resize != "none" or not _holds(height, width, size):
        return [_centred(height, width, _largest(height, width, size))]
    if maximum == 1:
        return [_centred(height, width, size)]
    rows, columns = height // size[0], width // size[1]
    top, left = (height - rows * size[0]) // 2, (width - columns * size[1]) // 2
    return [
        Window(top + cell // columns * size[0], left + cell % columns * size[1], *size)
        for cell in evenly_spaced(rows * columns, maximum)
    ]


def _holds(height: int, width: int, size: Size) -> bool:
    return height >= size[0] and width >= size[1]


def _largest(height: int, width: int, size: Size) -> Size:
    """The largest part of a picture with the proportions of `size`."""
    if height * size[1] <= width * size[0]:
        return height, max(1, round(height * size[1] / size[0]))
    return max(1, round(width * size[0] / size[1])), width


def _centred(height: int, width: int, part: Size) -> Window:
    return Window((height - part[0]) // 2, (width - part[1]) // 2, *part)


def cut(picture: UInt8[np.ndarray, "*T H W C"], window: Window, size: Size) -> UInt8[np.ndarray, "*T h w C"]:
    """Cuts a part out of a picture, or out of every frame of a clip, and resizes it, bicubic and antialiased.

    Returns:
      uint8 [*T, *size, C]; a view of the picture where it is neither resized nor mirrored.
    """
    top, left, height, width, mirrored = window
    patch = picture[..., top : top + height, left : left + width, :]
    if (height, width) == size:
        return _mirror(patch) if mirrored else patch
    if patch.ndim > 3:
        part = Window(0, 0, height, width, mirrored)
        return np.stack([cut(frame, part, size) for frame in patch])
    from PIL import Image

    channels = patch.shape[-1]
    planes = [patch] if channels == 3 else [patch[..., channel] for channel in range(channels)]
    images = [Image.fromarray(np.ascontiguousarray(plane)) for plane in planes]
    whole = (0.0, 0.0, float(width), float(height))
    resized = [np.asarray(shrink(image, size, whole, mirrored)) for image in images]
    return resized[0] if channels == 3 else np.stack(resized, axis=-1)


def shrink(
    image: "Image.Image", size: Size, box: tuple[float, float, float, float], mirrored: bool
) -> "Image.Image":
    """Resizes a box (left, top, right, bottom) to `size`, bicubic and antialiased; mirrors it if asked."""
    from PIL import Image

    resized = image.resize((size[1], size[0]), Image.Resampling.BICUBIC, box, reducing_gap=3.0)
    return resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else resized


def _mirror(patch: UInt8[np.ndarray, "*T H W C"]) -> UInt8[np.ndarray, "*T H W C"]:
    mirrored = np.empty(patch.shape, np.uint8)
    for channel in range(patch.shape[-1]):  # four times as fast as all channels at once
        mirrored[..., channel] = patch[..., ::-1, channel]
    return mirrored
