"""The index of a folder of pictures: its picture files, and which of those are broken."""

import functools
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from vq_jax.data.pictures import decode_check, picture_extensions
from vq_jax.data.splits import evenly_spaced
from vq_jax.errors import UserError

_LOG = logging.getLogger("vq_jax")
_MAX_DECODED = 2000
_TOLERATED_SHARE = 0.01
_NAMED = 5  # broken pictures named in one message


class PictureFile(NamedTuple):
    """A file with a picture's extension."""

    name: str  # relative to the folder, with forward slashes
    size: int
    mtime_ns: int


def list_pictures(root: Path) -> tuple[PictureFile, ...]:
    """Lists the picture files in a folder and its subfolders, without hidden ones.

    Returns:
      The files, sorted by path.

    Raises:
      UserError: there are none.
    """
    extensions, others = picture_extensions(), 0
    files: list[PictureFile] = []
    seen = {os.path.realpath(root)}
    for folder, subfolders, names in os.walk(root, followlinks=True):
        entered = []
        for name in sorted(subfolders):
            real = os.path.realpath(os.path.join(folder, name))
            if name[0] != "." and real not in seen:  # a link to a parent would never end
                seen.add(real)
                entered.append(name)
        subfolders[:] = entered
        for name in names:
            path = Path(folder, name)
            if name[0] == "." or path.suffix.lower() not in extensions or not path.is_file():
                others += 1
                continue
            status = path.stat()
            relative = path.relative_to(root).as_posix()
            files.append(PictureFile(relative, status.st_size, status.st_mtime_ns))
    if not files and not others:
        raise UserError(f"expected pictures in {root}, the folder is empty")
    if not files:
        raise UserError(
            f"expected pictures in {root}, none of its {others} files has the extension of a picture "
            "(.jpg, .png, .webp, .tif and all others that Pillow reads)"
        )
    return tuple(sorted(files))


@functools.lru_cache(maxsize=8)  # both splits of a folder are opened one after the other
def find_broken(root: Path, files: tuple[PictureFile, ...]) -> tuple[dict[str, str], int]:
    """Opens every picture, decodes up to 2,000 evenly spaced ones, and warns of the broken ones.

    Args:
      root: the folder.
      files: its pictures.

    Returns:
      Why each broken picture cannot be read, by its name; and how many pixels all others have together.

    Raises:
      UserError: all are broken, or more than the larger of one and 1 %.
    """
    decoded = evenly_spaced(len(files), _MAX_DECODED)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        headers = list(pool.map(lambda file: _header(root / file.name), files))
        whole = [index for index in decoded if isinstance(headers[index], int)]
        damage = list(pool.map(lambda index: _damage(root / files[index].name), whole))
    reasons = {files[i].name: h for i, h in enumerate(headers) if isinstance(h, str)}
    in_sample = len(decoded) - len(whole) + sum(reason is not None for reason in damage)
    reasons |= {
        files[index].name: reason for index, reason in zip(whole, damage, strict=True) if reason is not None
    }
    reasons = dict(sorted(reasons.items()))
    named = "; ".join(f"{_shown(name)} ({reason})" for name, reason in list(reasons.items())[:_NAMED])
    if len(reasons) == len(files):
        raise UserError(f"expected pictures in {root}, all {len(files)} are broken: {named}")
    tolerated, tolerated_in_sample = (
        max(1.0, _TOLERATED_SHARE * count) for count in (len(files), len(decoded))
    )
    if len(reasons) > tolerated or in_sample > tolerated_in_sample:
        raise UserError(
            f"expected at most one broken picture, or 1 %, in {root}; got {len(reasons)} of "
            f"{len(files)} ({len(decoded)} were decoded): {named}; repair or remove them"
        )
    for name, reason in reasons.items():
        warn_broken(name, reason)
    return reasons, sum(header for header in headers if isinstance(header, int))


def _header(path: Path) -> int | str:
    """Returns the pixels of a picture, or why its header cannot be read."""
    try:
        with Image.open(path) as image:
            return image.width * image.height
    except Exception as error:  # Pillow's decoders raise nearly every kind
        return reason_of(error)


def _damage(path: Path) -> str | None:
    try:
        decode_check(path)
    except Exception as error:  # Pillow's decoders raise nearly every kind
        return reason_of(error)
    return None


def reason_of(error: Exception) -> str:
    """Returns what an error says about a picture, in a few words."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture"
    return str(error) or type(error).__name__


def warn_broken(name: str, reason: str) -> None:
    """Warns of a broken picture."""
    _LOG.warning("broken picture %s, replaced by the next one: %s", _shown(name), reason)


def _shown(name: str) -> str:
    """Returns a name that every terminal and log can write: bytes that are not UTF-8 are escaped."""
    return os.fsencode(name).decode(errors="backslashreplace")
