"""Reads a picture file of any format, mode and orientation into a uint8 array."""

import contextlib
import math
import os
import struct
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageCms

from vq_jax.configs.data import DataConfig
from vq_jax.data import deep_colours
from vq_jax.data.crops import Choose, Size, shrink
from vq_jax.data.metadata import Spliced, exif_orientation, without_metadata
from vq_jax.host.files import require_regular

FORMATS = (
    *("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "JPEG2000", "PPM", "AVIF", "QOI", "ICO", "PCX"),
    *("SGI", "TGA"),  # last: a TGA file has no signature
)
"""The formats that are read, by content: Pillow knows others, and hands one of them to another program."""
_MARGIN = 1.5
"""A JPEG is decoded to at least this many times the size asked for. Crops of a few photographs then had a
PSNR of at least 39 dB against those decoded at full size; with 1.0, of 30 dB."""
# Orientations in EXIF where the left or top edge of the upright picture is the right or bottom edge of the
# stored one, and those where the picture lies on its side.
_FROM_RIGHT, _FROM_BOTTOM, _ON_ITS_SIDE = {2, 3, 6, 7}, {3, 4, 7, 8}, {5, 6, 7, 8}

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SAMPLE_FORMAT, _UNSIGNED, _SIGNED = 339, 1, 2  # a tag of TIFF
_LARGE = threading.Lock()


class Reading(NamedTuple):
    """How picture files are read.

    Attributes:
      value_range: of pictures with more than 8 bits, the values that become 0 and 255; what the file says
        when None.
      max_megapixels: larger pictures are refused.
    """

    value_range: tuple[float, float] | None = None
    max_megapixels: int = 300

    @classmethod
    def of(cls, config: DataConfig) -> "Reading":
        """Returns how a configuration wants pictures read."""
        return cls(config.value_range, config.max_megapixels)


DEFAULT_READING = Reading()


class Levels(NamedTuple):
    """The values that a picture of more than 8 bits has, and those that it could have."""

    low: float
    high: float
    possible: tuple[float, float]


def picture_extensions() -> frozenset[str]:
    """Returns the lower-case file name extensions of the formats that are read."""
    Image.init()
    return frozenset(
        extension
        for extension, name in Image.registered_extensions().items()
        if name in FORMATS or name == "MPO"  # JPEG files with more pictures behind the first
    )


def read_picture(
    path: str | os.PathLike[str], channels: int, reading: Reading = DEFAULT_READING
) -> UInt8[np.ndarray, "H W C"]:
    """Reads a picture file, upright and in the channels asked for.

    The orientation in EXIF is applied; nothing else of the metadata is read. Transparent pictures get a white
    background, and only the first of several frames is read. Grey pictures with more than 8 bits are scaled
    from the range that the file says, unless all their values lie in 0..255; colours keep their high byte. A
    range of values that is given holds for both, of colours for those of PNG and TIFF files.

    Args:
      path: a file of one of `FORMATS`, whatever its name.
      channels: 3 for colour, 1 for grey.
      reading: the range of values, and the largest size.

    Returns:
      The picture, uint8 [H, W, channels].

    Raises:
      OSError, ValueError and others of Pillow's: the file is damaged, too large or not a picture, or its
        pixels are floating-point numbers and no range of values is given.

    Example:
      >>> picture = read_picture("holiday.jpg", channels=3)
    """
    with opened(path, reading) as (image, orientation):
        converted = _convert(_decoded(path, image, orientation, reading), "L" if channels == 1 else "RGB")
    pixels = np.array(converted)
    return pixels.reshape(*pixels.shape[:2], channels)


def to_array(picture: Image.Image, channels: int) -> UInt8[np.ndarray, "H W C"]:
    """Turns one of Pillow's pictures into an array as `read_picture` does a file's: upright, 8 bits.

    Args:
      picture: of any mode.
      channels: 3 for colour, 1 for grey.

    Raises:
      ValueError: its pixels are floating-point numbers.
    """
    orientation = exif_orientation(picture.info.get("exif") or b"")
    upright = turn_upright(picture, orientation)
    converted = _convert(_to_8_bits(upright, picture, DEFAULT_READING), "L" if channels == 1 else "RGB")
    pixels = np.array(converted)
    return pixels.reshape(*pixels.shape[:2], channels)


def read_crop(
    path: str | os.PathLike[str],
    channels: int,
    choose: Choose,
    size: Size,
    scaled: bool,
    reading: Reading = DEFAULT_READING,
) -> UInt8[np.ndarray, "h w C"]:
    """Reads a part of a picture file, upright, in the channels and size asked for.

    Without `scaled` the result is that of `crops.cut` and `read_picture`, to the bit, with less work.

    Args:
      path: see `read_picture`.
      channels: see `read_picture`.
      choose: chooses the part, from the height and width of the upright picture.
      size: of the result.
      scaled: decode a JPEG at the smallest of 1/1, 1/2, 1/4 and 1/8 of its size that leaves the part at
        least 1.5 times as large as the result.
      reading: see `read_picture`.

    Returns:
      The part, uint8 [*size, channels].

    Raises:
      OSError, ValueError and others of Pillow's: see `read_picture`.
    """
    with opened(path, reading) as (image, orientation):
        width, height = image.size
        turn, window, factor = 1, None, 1.0
        if scaled and image.format == "JPEG":  # the upright size of a TIFF is known once it is decoded
            turn = orientation
            if turn in _ON_ITS_SIDE:
                width, height = height, width
            window = choose(height, width)
            factor = _decode_smaller(
                image, min(window.height / (_MARGIN * size[0]), window.width / (_MARGIN * size[1]))
            )
        upright = _decoded(path, image, orientation, reading)
        if window is None:
            window = choose(upright.height, upright.width)
        # The last pixel of a smaller picture may reach beyond the edge of the whole one.
        left = window.left / factor + (upright.width - width / factor if turn in _FROM_RIGHT else 0.0)
        top = window.top / factor + (upright.height - height / factor if turn in _FROM_BOTTOM else 0.0)
        across, down = window.width / factor, window.height / factor
        first = (math.floor(left), math.floor(top))
        part = upright.crop((*first, math.ceil(left + across), math.ceil(top + down)))
        part = _convert(part, "L" if channels == 1 else "RGB")
    left, top = left - first[0], top - first[1]
    box = (left, top, left + across, top + down)
    pixels = np.asarray(shrink(part, size, box, window.mirrored))
    return pixels.reshape(*size, channels)


def count_pixels(path: str | os.PathLike[str], file: BinaryIO, reading: Reading) -> int:
    """Returns the pixels of a picture by its header.

    Args:
      path: its path.
      file: the file, open.
      reading: its largest size.

    Raises:
      Exception: the header is damaged, or the picture too large; Pillow raises many kinds.
    """
    image = _identify(path, without_metadata(file, whole=False).file)
    _check_size(image, reading)
    return image.width * image.height


def decode_check(path: str | os.PathLike[str], reading: Reading = DEFAULT_READING) -> Levels | None:
    """Decodes a picture file and discards the result; a JPEG at an eighth of its size, which is quick.

    Returns:
      The levels that it uses, where it has more than 8 bits and no range of values is given.

    Raises:
      Exception: the file is damaged; Pillow raises many kinds.
    """
    with opened(path, reading) as (image, orientation):
        image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
        is_deep, levels = deep_colours.has_deep_colours(image), None
        upright = _decoded(path, image, orientation, reading)
        if is_deep and reading.value_range is None:
            values = np.asarray(upright.convert("RGB"))
            levels = Levels(int(values.min()) << 8, int(values.max()) << 8 | 255, (0, 2**16 - 1))
        elif image.mode.startswith("I") and reading.value_range is None:
            levels = _levels(_values(image, image), image)
        _convert(upright, "RGB")
    return levels


def _decoded(
    path: str | os.PathLike[str], image: Image.Image, orientation: int, reading: Reading
) -> Image.Image:
    """Decodes an opened picture; returns it upright, of 8 bits."""
    is_deep = deep_colours.has_deep_colours(image)
    image.load()
    upright = turn_upright(image, orientation)
    if not is_deep or reading.value_range is None:
        return _to_8_bits(upright, image, reading)
    with opened(path, reading) as (again, _):
        channels = deep_colours.read_low_bytes(again)
        again.load()
        return deep_colours.stretch(upright, turn_upright(again, orientation), channels, reading.value_range)


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], reading: Reading) -> Iterator[tuple[Image.Image, int]]:
    """Opens a picture without its metadata; yields it with the orientation that `turn_upright` applies."""
    require_regular(path)
    with open(path, "rb") as file:
        plain = without_metadata(file)
        with _identify(path, plain.file) as image:
            pixels = _check_size(image, reading)
            orientation = plain.orientation
            if image.format == "TIFF":
                if not isinstance(plain.file, Spliced):  # a BigTIFF
                    orientation = _tag(image, ExifTags.Base.Orientation, 1)
                # Pillow would read all of EXIF, to turn the picture; turned it is here.
                setattr(image, "load_end", lambda: None)  # noqa: B010
                deep_colours.widen_planes(image, _tag(image, ExifTags.Base.BitsPerSample, 8))
            elif image.format in ("WEBP", "AVIF"):
                orientation = exif_orientation(image.info.get("exif") or b"")
            with _beyond_pillow_s_limit(pixels):
                yield image, orientation


def _identify(path: str | os.PathLike[str], file: Any) -> Image.Image:
    """Opens a file as one of the formats, by its content; Pillow's own function also checks its own limit."""
    Image.init()
    prefix = file.read(16)
    name = "" if isinstance(file, Spliced) else os.fspath(path)  # Pillow may map the named file into memory
    for kind in FORMATS:
        if kind not in Image.OPEN:  # of an optional library that this Pillow lacks
            continue
        factory, accepts = Image.OPEN[kind]
        file.seek(0)
        try:
            if accepts is None or accepts(prefix) is True:
                return factory(file, name)
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # as Pillow does: not of this format
    raise Image.UnidentifiedImageError(f"cannot identify image file {os.fspath(path)!r}")


def _check_size(image: Image.Image, reading: Reading) -> int:
    pixels = image.width * image.height
    if pixels > reading.max_megapixels * 10**6:
        raise ValueError(
            f"{pixels / 1e6:.0f} megapixels, more than data.max_megapixels {reading.max_megapixels}: raise "
            "that, or make the picture smaller"
        )
    return pixels


@contextlib.contextmanager
def _beyond_pillow_s_limit(pixels: int) -> Iterator[None]:
    """Suspends the limit of Pillow's own, which belongs to the whole process, for a picture above it."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None or pixels <= limit:
        yield
        return
    with _LARGE:  # one at a time: they take much memory, too
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turns a picture as its orientation in EXIF says, 1 to 8."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _decode_smaller(image: Image.Image, factor: float) -> float:
    """Makes Pillow decode a JPEG smaller, by at most a factor; returns the factor that it will use."""
    width, height = image.size
    scale = next((scale for scale in (8, 4, 2) if scale <= factor), 1)
    drafted = image.draft(None, (width // scale, height // scale)) if scale > 1 else None
    return width / drafted[1][2] if drafted is not None else 1.0


def _tag(image: Image.Image, tag: int, default: int) -> int:
    """Returns a whole number among the tags of a TIFF, the first where there are several."""
    try:
        value = getattr(image, "tag_v2", {}).get(tag, default)
        return int(value[0] if isinstance(value, tuple) else value)
    except Exception:  # of many kinds where the tag is damaged
        return default


def _values(upright: Image.Image, image: Image.Image) -> np.ndarray:
    """The numbers of a picture with more than 8 bits, as the file that was opened has them."""
    values = np.asarray(upright)
    unsigned = image.format == "TIFF" and _tag(image, _SAMPLE_FORMAT, _UNSIGNED) == _UNSIGNED
    return values.view(np.uint32) if values.dtype == np.int32 and unsigned else values


def _possible(values: np.ndarray, image: Image.Image) -> tuple[int, int]:
    """The least and the greatest number that a picture of whole numbers could have, as its file says."""
    bits = _tag(image, ExifTags.Base.BitsPerSample, 16)
    if bits == 32 and values.min() >= 0 and values.max() < 2**16:  # 16 bits in a wider type
        return 0, 2**16 - 1
    if _tag(image, _SAMPLE_FORMAT, _UNSIGNED) == _SIGNED:
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def _levels(values: np.ndarray, image: Image.Image) -> Levels | None:
    """The levels of a picture of whole numbers; None where they are those of 8 bits."""
    low, high = int(values.min()), int(values.max())
    return None if low >= 0 and high <= 255 else Levels(low, high, _possible(values, image))


def _to_8_bits(upright: Image.Image, image: Image.Image, reading: Reading) -> Image.Image:
    """Brings a picture of more than 8 bits to 8.

    Args:
      upright: the picture.
      image: as it was opened: it says how its numbers are stored.
      reading: the range of values, if one is given.
    """
    is_tiff = image.format == "TIFF"
    if image.mode == "L" and is_tiff and _tag(image, _SAMPLE_FORMAT, _UNSIGNED) == _SIGNED:
        return Image.fromarray(np.asarray(upright) ^ 0x80)  # Pillow takes them for unsigned
    if not image.mode.startswith(("I", "F")):
        return upright
    values = _values(upright, image)
    if reading.value_range is not None:
        scaled = deep_colours.scaled_to_8_bits(values, reading.value_range)
    elif image.mode == "F":
        raise ValueError(
            "its pixels are floating-point numbers: save it with 8 or 16 bits, or give the values that are "
            "black and white in data.value_range"
        )
    else:
        levels = _levels(values, image)
        scaled = values
        if levels is not None:
            first, last = levels.possible
            scaled = (values.astype(np.int64) - first) * 256 // (last - first + 1)
    pixels = np.nan_to_num(scaled).astype(np.uint8)
    if (
        is_tiff and _tag(image, ExifTags.Base.PhotometricInterpretation, 1) == 0
    ):  # of more bits Pillow's are not
        pixels = 255 - pixels
    return Image.fromarray(pixels)


def _convert(image: Image.Image, mode: str) -> Image.Image:
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
