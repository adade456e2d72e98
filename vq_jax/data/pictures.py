"""Reads a picture file of any format, mode and orientation into a uint8 array."""

import math
import os

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageCms, ImageOps

from vq_jax.data.crops import Choose, shrink

# Pillow only recognises these; reading them needs another program or a plug-in.
_NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
_SCALED = {"JPEG", "MPO"}
_MARGIN = 1.5
"""A JPEG is decoded to at least this many times the size asked for. Crops of a few photographs then had a
PSNR of at least 39 dB against those decoded at full size; with 1.0, of 30 dB."""
# Orientations in EXIF where the left or top edge of the upright picture is the right or bottom edge of the
# stored one, and those where the picture lies on its side.
_FROM_RIGHT, _FROM_BOTTOM, _ON_ITS_SIDE = {2, 3, 6, 7}, {3, 4, 7, 8}, {5, 6, 7, 8}


def picture_extensions() -> frozenset[str]:
    """Returns the lower-case file name extensions of the formats that Pillow decodes."""
    readable = {
        extension
        for extension, name in Image.registered_extensions().items()
        if name in Image.OPEN and name not in _NOT_DECODED
    }
    return frozenset(readable)


def read_picture(path: str | os.PathLike[str], channels: int) -> UInt8[np.ndarray, "H W C"]:
    """Reads a picture file, upright and in the channels asked for.

    The orientation in EXIF is applied. Transparent pictures get a white background, 16-bit ones lose
    their low byte, and only the first of several frames is read.

    Args:
      path: a file of any format that Pillow decodes.
      channels: 3 for colour, 1 for grey.

    Returns:
      The picture, uint8 [H, W, channels].

    Raises:
      OSError, ValueError and others of Pillow's: the file is damaged or not a picture, or its pixels are
        floating-point numbers, which have no fixed range.

    Example:
      >>> picture = read_picture("holiday.jpg", channels=3)
    """
    with Image.open(path) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        converted = _convert(image, "L" if channels == 1 else "RGB")
    pixels = np.array(converted)
    return pixels.reshape(*pixels.shape[:2], channels)


def read_square(
    path: str | os.PathLike[str], channels: int, choose: Choose, size: int, scaled: bool
) -> UInt8[np.ndarray, "S S C"]:
    """Reads a square of a picture file, upright, in the channels and size asked for.

    Without `scaled` the result is that of `crops.cut` and `read_picture`, to the bit, with less work.

    Args:
      path: see `read_picture`.
      channels: see `read_picture`.
      choose: chooses the square, from the height and width of the upright picture.
      size: side of the result.
      scaled: decode a JPEG at the smallest of 1/1, 1/2, 1/4 and 1/8 of its size that leaves the square at
        least 1.5 times as large as the result.

    Returns:
      The square, uint8 [size, size, channels].

    Raises:
      OSError, ValueError and others of Pillow's: see `read_picture`.
    """
    with Image.open(path) as image:
        width, height = image.size
        turn, window, factor = 1, None, 1.0
        if scaled and image.format in _SCALED:  # the upright size of others is known once they are decoded
            turn = image.getexif().get(ExifTags.Base.Orientation, 1)
            if turn in _ON_ITS_SIDE:
                width, height = height, width
            window = choose(height, width)
            factor = _decode_smaller(image, window.side / (_MARGIN * size))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if window is None:
            window = choose(image.height, image.width)
        # The last pixel of a smaller picture may reach beyond the edge of the whole one.
        left = window.left / factor + (image.width - width / factor if turn in _FROM_RIGHT else 0.0)
        top = window.top / factor + (image.height - height / factor if turn in _FROM_BOTTOM else 0.0)
        side = window.side / factor
        first = (math.floor(left), math.floor(top))
        square = image.crop((*first, math.ceil(left + side), math.ceil(top + side)))
        square = _convert(square, "L" if channels == 1 else "RGB")
    left, top = left - first[0], top - first[1]
    pixels = np.asarray(shrink(square, size, (left, top, left + side, top + side), window.mirrored))
    return pixels.reshape(size, size, channels)


def _decode_smaller(image: Image.Image, factor: float) -> float:
    """Makes Pillow decode a JPEG smaller, by at most a factor; returns the factor that it will use."""
    width, height = image.size
    scale = next((scale for scale in (8, 4, 2) if scale <= factor), 1)
    drafted = image.draft(None, (width // scale, height // scale)) if scale > 1 else None
    return width / drafted[1][2] if drafted is not None else 1.0


def decode_check(path: str | os.PathLike[str]) -> None:
    """Decodes a picture file and discards the result; a JPEG at an eighth of its size, which is quick.

    Raises:
      Exception: the file is damaged; Pillow raises many kinds.
    """
    with Image.open(path) as image:
        image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
        image.load()
        _convert(image, "RGB")


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values at 255; 32-bit integers carry 16-bit pictures.
        wide = np.clip(np.asarray(image), 0, 65535)
        return Image.fromarray((wide >> 8).astype(np.uint8)).convert(mode)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert(mode)
    if image.mode == "LAB":
        to_rgb = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        converted = ImageCms.applyTransform(image, to_rgb)
        return converted.convert(mode) if converted is not None else image
    return image if image.mode == mode else image.convert(mode)  # which would copy it
