"""Files of pictures without their metadata: of all that describes a picture, only its orientation is read.

Pillow reads comments, colour profiles, resolutions and EXIF before it decodes a pixel, and calls a picture
broken where one of them is damaged. Here a JPEG, PNG or TIFF file is presented to it without them. Formats
whose metadata cannot stop Pillow stay as they are.
"""

import io
import re
import struct
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = frozenset((b"IHDR", b"PLTE", b"tRNS"))
_PNG_EXIF, _PNG_TEXT = b"eXIf", b"iTXt"
_JPEG = b"\xff\xd8"
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
_TIFF_KEPT = frozenset(
    (254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325)
    + (332, 334, 338, 339, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 50674)
)
_EXIF, _XMP, _JFIF, _ADOBE = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"JFIF\0", b"Adobe"
_APP0, _APP1, _APP14, _APP15, _COMMENT = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_ENDS = frozenset((0xDA, 0xD9))  # pixels start; the file ends
_MAX_READ = 2**20  # bytes of a chunk of metadata that are looked into
_TAG = 0x0112
_INTEGERS = {1: "B", 3: "H", 4: "I"}  # types in EXIF


class Upright(NamedTuple):
    """A file without metadata, and how its picture is turned: 1 to 8 as in EXIF."""

    file: "BinaryIO | Spliced"
    orientation: int


def without_metadata(file: BinaryIO, *, whole: bool = True) -> Upright:
    """Removes from a JPEG, PNG or TIFF file what does not describe its pixels; other files stay whole.

    Args:
      file: at any position; it must stay open while the result is read.
      whole: False where only the size of the picture is wanted.
    """
    file.seek(0)
    start = file.read(len(_PNG))
    if start == _PNG:
        return _png(file, whole)
    if start.startswith(_JPEG):
        return _jpeg(file)
    if start[:4] in _TIFF:
        return _tiff(file, _TIFF[start[:4]])
    file.seek(0)
    return Upright(file, 1)


def exif_orientation(block: bytes) -> int:
    """Returns the orientation that a block of EXIF gives, 1 to 8; 1 where it gives none or is damaged."""
    block = block.removeprefix(_EXIF)
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}4xI", block)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", block, entry)
            if tag == _TAG:
                (value,) = struct.unpack_from(f"{order}{_INTEGERS.get(kind, 'H')}", block, entry + 8)
                return _valid(value)
    except struct.error:  # it ends too early
        pass
    return 1


def _xmp_orientation(block: bytes) -> int:
    found = re.search(rb"tiff:Orientation(?:=[\"']|>)([1-8])", block)
    return int(found[1]) if found else 1


def _valid(value: int) -> int:
    return value if 1 <= value <= 8 else 1


def _jpeg(file: BinaryIO) -> Upright:
    file.seek(2)
    kept, exif, xmp = bytearray(_JPEG), 1, 1
    while True:
        place = file.tell()
        marker = file.read(2)
        while marker == b"\xff\xff":  # fill bytes
            place += 1
            marker = marker[1:] + file.read(1)
        length = file.read(2)
        if len(marker + length) < 4 or marker[0] != 0xFF or marker[1] in _ENDS:
            break
        size, code = int.from_bytes(length), marker[1]
        content = file.read(size - 2) if size >= 2 else b""
        if size < 2 or len(content) < size - 2:
            break
        if code == _APP1 and content.startswith(_EXIF):
            exif = exif_orientation(content)
        elif code == _APP1 and content.startswith(_XMP):
            xmp = _xmp_orientation(content)
        described = _APP0 <= code <= _APP15 or code == _COMMENT
        # These two say how colours are stored.
        if not described or (code, content[:5]) in ((_APP0, _JFIF), (_APP14, _ADOBE)):
            kept += marker + length + content
    rest = (place, file.seek(0, io.SEEK_END))
    return Upright(Spliced(file, [bytes(kept), rest]), exif if exif != 1 else xmp)


def _png(file: BinaryIO, whole: bool) -> Upright:
    kept, exif, xmp = bytearray(_PNG), 1, 1
    first, last, end = None, 0, b""  # of the chunks with pixels; the last chunk
    while not end:
        place = file.tell()
        head = file.read(8)
        if len(head) < 8:
            break
        size, kind = struct.unpack(">I4s", head)
        after = place + 12 + size
        if kind == b"IDAT":
            first, last = place if first is None else first, after
            if not whole:
                break
        elif kind == b"IEND":
            end = head + file.read(4)
        elif kind in (_PNG_EXIF, _PNG_TEXT):
            content = file.read(min(size, _MAX_READ))
            if kind == _PNG_EXIF:
                exif = exif_orientation(content)
            elif content.startswith(b"XML:com.adobe.xmp\0"):
                xmp = _xmp_orientation(content)
        elif kind in _PNG_KEPT and first is None:
            kept += head + file.read(size + 4)
        file.seek(after)
    pixels = (place if first is None else first, last if end else file.seek(0, io.SEEK_END))
    spliced = Spliced(file, [bytes(kept), (pixels[0], max(pixels)), end])
    return Upright(spliced, exif if exif != 1 else xmp)


def _tiff(file: BinaryIO, order: str) -> Upright:
    """Keeps the tags of the first picture that say how its pixels are stored."""
    file.seek(4)
    try:
        (place,) = struct.unpack(f"{order}I", file.read(4))
        file.seek(place)
        (count,) = struct.unpack(f"{order}H", file.read(2))
    except struct.error:  # Pillow says that it ends too early
        count = 0
    entries = file.read(12 * count)
    size, end = len(entries), file.seek(0, io.SEEK_END)
    if not count or size < 12 * count:
        file.seek(0)
        return Upright(file, 1)
    each = [entries[first : first + 12] for first in range(0, size, 12)]
    kept = b"".join(e for e in each if struct.unpack_from(f"{order}H", e)[0] in _TIFF_KEPT)
    table = struct.pack(f"{order}H", len(kept) // 12) + kept  # zeros behind it: there is no second picture
    table += bytes(2 + size + 4 - len(table))
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, count)
    after = min(place + len(table), end)
    spliced = Spliced(file, [(0, place), table, (after, end)])
    return Upright(spliced, exif_orientation(header + entries))


class Spliced:
    """Bytes and parts of a file in a row, as Pillow reads files."""

    def __init__(self, file: BinaryIO, parts: Sequence[bytes | tuple[int, int]]) -> None:
        self._file, self._parts = file, parts
        self._sizes = [len(part) if isinstance(part, bytes) else part[1] - part[0] for part in parts]
        self._place = 0

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = max(0, offset + (0, self._place, sum(self._sizes))[whence])
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Reads up to `size` bytes, or all."""
        found, start = bytearray(), 0
        stop = sum(self._sizes) if size < 0 else self._place + size
        for part, length in zip(self._parts, self._sizes, strict=True):
            first, last = max(self._place - start, 0), min(stop - start, length)
            if first < last and isinstance(part, bytes):
                found += part[first:last]
            elif first < last:
                self._file.seek(part[0] + first)
                found += self._file.read(last - first)
            start += length
        self._place += len(found)
        return bytes(found)
