"""One picture file to one uint8 array, whatever its format, mode and orientation."""

import os

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageOps

# Pillow knows these by their first bytes only; reading them needs a program or plug-in of its own.
_NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}


def picture_extensions() -> frozenset[str]:
    """Returns the lower-case file name extensions of the formats that Pillow decodes."""
    readable = {
        extension
        for extension, name in Image.registered_extensions().items()
        if name in Image.OPEN and name not in _NOT_DECODED
    }
    return frozenset(readable)


def read_picture(path: str | os.PathLike[str], channels: int) -> UInt8[np.ndarray, "H W C"]:
    """Reads a picture file, upright and in the wanted channels.

    The orientation in EXIF is applied. Transparent pictures are laid on white; 16-bit ones lose
    their low byte; of several frames the first is read.

    Args:
      path: a file of any format that Pillow decodes.
      channels: 3 for colour, 1 for grey.

    Returns:
      The picture, uint8 [H, W, channels].

    Raises:
      OSError, ValueError and others of Pillow's: the file is damaged, or no picture; its pixels are
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


def decode_check(path: str | os.PathLike[str]) -> None:
    """Decodes a picture file and drops the result; a JPEG at an eighth of its size, which is quick.

    Raises:
      Exception: of many kinds, Pillow's, where the file is damaged.
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
    return image.convert(mode)
