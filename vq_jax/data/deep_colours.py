"""Colours of 16 bits, of which Pillow reads 8: the others are read in a second pass."""

import sys
from typing import Any

import numpy as np
from PIL import Image

_MODES = ("RGB", "RGBA")
_PLANES = 284  # a tag of TIFF
_OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}


def has_deep_colours(image: Image.Image) -> bool:
    """Whether an opened picture, not yet decoded, has colours, or grey with transparency, of 16 bits."""
    return image.mode in _MODES and any(";16" in _raw_mode(tile) for tile in getattr(image, "tile", ()))


def widen_planes(image: Any, bits: int) -> None:
    """Makes Pillow read 16 bits of colours that a TIFF keeps in planes, uncompressed: it reads them as 8.

    Args:
      image: the TIFF, opened and not yet decoded.
      bits: of a sample, as the file says.
    """
    if bits == 16:
        order = "L" if image.tag_v2.prefix == b"II" else "B"
        for number, tile in enumerate(image.tile):
            if tile.codec_name == "raw" and len(tile.args[0]) == 1:
                image.tile[number] = _with_raw_mode(tile, f"{tile.args[0]};16{order}")


def read_low_bytes(image: Any) -> slice:
    """Makes Pillow decode the low bytes in place of the high ones, by the other order of the bytes.

    Of grey with transparency, which Pillow reads in one order only, all four bytes become channels.

    Args:
      image: with deep colours, opened and not yet decoded.

    Returns:
      The channels where the low bytes of the colours will be; one for all where the picture is grey.

    Raises:
      ValueError: a TIFF that keeps its colours in compressed planes: Pillow gives the high bytes alone.
    """
    is_grey = False
    if any(tile.codec_name == "libtiff" for tile in image.tile) and image.tag_v2.get(_PLANES, 1) == 2:
        raise ValueError(
            "its colours of 16 bits are in compressed planes, of which 8 bits can be read: save it with "
            "contiguous colours, or omit data.value_range"
        )
    for number, tile in enumerate(image.tile):
        name, _, order = _raw_mode(tile).partition(";")
        is_grey = name == "LA"
        other = "RGBA" if is_grey else f"{name};{_OTHER_BYTE[order]}"
        image.tile[number] = _with_raw_mode(tile, other)
    return slice(1, 2) if is_grey else slice(3)


def stretch(
    high: Image.Image, low: Image.Image, channels: slice, value_range: tuple[float, float]
) -> Image.Image:
    """Brings colours of 16 bits to 8.

    Args:
      high: the picture as Pillow decodes it, by its high bytes, of mode RGB or RGBA.
      low: the same, decoded after `read_low_bytes`.
      channels: that it returned.
      value_range: the values that become 0 and 255.

    Returns:
      The picture, of the mode of `high`; transparency keeps its high byte.
    """
    pixels = np.array(high)
    values = pixels[..., :3].astype(np.uint16) << 8 | np.asarray(low)[..., channels]
    pixels[..., :3] = scaled_to_8_bits(values, value_range)
    return Image.fromarray(pixels)


def scaled_to_8_bits(values: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Returns values on the scale where those of the range become 0 and 255, whole and cut there."""
    low, high = value_range
    return np.asarray(np.rint(np.clip((values - low) / (high - low), 0.0, 1.0) * 255))


def _raw_mode(tile: Any) -> str:
    return str(tile.args[0] if isinstance(tile.args, tuple) else tile.args)


def _with_raw_mode(tile: Any, mode: str) -> Any:
    return tile._replace(args=mode if isinstance(tile.args, str) else (mode, *tile.args[1:]))
