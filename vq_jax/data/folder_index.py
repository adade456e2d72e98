"""The index of a folder of pictures: its picture files, and which of those are broken."""

import functools
import json
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from vq_jax.configs.registry import RUN_KINDS
from vq_jax.data.identity import digest_of
from vq_jax.data.pictures import Levels, Reading, count_pixels, decode_check, picture_extensions
from vq_jax.data.source import printable
from vq_jax.data.splits import evenly_spaced
from vq_jax.errors import UserError

_LOG = logging.getLogger("vq_jax")
_MAX_DECODED = 2000
_TOLERATED_SHARE = 0.01
_NAMED = 5  # broken pictures, or kinds of files, named in one message
_USED_SHARE = 8  # pictures that use less than one part in so many of their range are warned of
_ARCHIVE_LEFTOVERS = "__MACOSX"
_CONFIG_FILE, _MAX_CONFIG = "config.json", 2**22
_HIDDEN_FOLDER, _HIDDEN_FILE, _NO_EXTENSION = "hidden folder", "hidden file", "without extension"
_SPECIAL = "special file"  # a pipe, a socket, a device, or a link to nothing
_FOLDERS = {_HIDDEN_FOLDER}
_COUNTABLE = {_HIDDEN_FOLDER, _HIDDEN_FILE, _SPECIAL}


class PictureFile(NamedTuple):
    """A file with the extension of a picture, or of a video."""

    name: str  # relative to the folder, with forward slashes
    size: int
    mtime_ns: int


class Listing(NamedTuple):
    """The files of one kind in a folder, sorted by path, and what else lies in it, in words."""

    files: tuple[PictureFile, ...]
    left_out: tuple[str, ...]


def list_pictures(root: Path) -> Listing:
    """Lists the picture files in a folder and its subfolders; see `list_files`."""
    return list_files(root, picture_extensions(), "picture", ".jpg, .png, .webp, .tif")


def list_files(root: Path, extensions: frozenset[str], what: str, examples: str) -> Listing:
    """Lists the files of one kind in a folder and its subfolders.

    Hidden files and folders are left out, and so are the runs and models that the library writes, which may
    lie in the folder: their pictures are not data.

    Args:
      root: the folder.
      extensions: of the files.
      what: what these are, in a word.
      examples: extensions for the message where there are none.

    Raises:
      UserError: there are no such files, or the folder cannot be entered.
    """
    files: list[PictureFile] = []
    left_out: Counter[str] = Counter()
    closed: list[str] = []
    for folder, names in _folders(root, left_out, closed):
        for name in names:
            path = os.path.join(folder, name)
            found = _stat(path, extensions)
            if isinstance(found, str):
                left_out[found] += 1
            else:
                relative = os.path.relpath(path, root).replace(os.sep, "/")
                files.append(PictureFile(relative, found.st_size, found.st_mtime_ns))
    kinds = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    words = [*closed[:_NAMED], *(_counted(kind, count) for kind, count in kinds[:_NAMED])]
    more = len(closed[_NAMED:]) + sum(count for _, count in kinds[_NAMED:])
    words += [f"{more} others"] if more else []
    if not files and not words:
        raise UserError(f"expected {what}s in {root}, the folder is empty")
    if not files:
        others = sum(count for kind, count in left_out.items() if kind not in _FOLDERS)
        raise UserError(
            f"expected {what}s in {root}, none of its {others} files has the extension of a {what} "
            f"({examples} and others); left out: {', '.join(words)}"
        )
    return Listing(tuple(sorted(files)), tuple(words))


def _folders(root: Path, left_out: Counter[str], closed: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yields all folders to look into with their files; adds to the collections what is left out."""

    def refuse(error: OSError) -> None:
        if error.filename == os.fspath(root):
            raise UserError(f"the folder {root} cannot be read: {error.strerror}") from error
        closed.append(f"the folder {printable(os.path.relpath(error.filename, root))} ({error.strerror})")

    seen = {os.path.realpath(root)}
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=refuse):
        if folder != os.fspath(root) and _CONFIG_FILE in names and is_written_here(Path(folder)):
            closed.append(f"the run or model {printable(os.path.relpath(folder, root))}")
            subfolders.clear()
            continue
        entered = []
        for name in sorted(subfolders):
            real = os.path.realpath(os.path.join(folder, name))
            if name[0] == "." or name == _ARCHIVE_LEFTOVERS:
                left_out[_HIDDEN_FOLDER] += 1
            elif real not in seen:  # a link to a parent would never end
                seen.add(real)
                entered.append(name)
        subfolders[:] = entered
        yield folder, names


def is_written_here(directory: Path) -> bool:
    """Whether a directory with a `config.json` is a run or a model that the library wrote."""
    try:
        path = directory / _CONFIG_FILE
        if path.stat().st_size > _MAX_CONFIG or not path.is_file():
            return False
        values = json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError):
        return False
    if not isinstance(values, dict):
        return False
    ours = values.get("kind") in ("model", *RUN_KINDS)
    return ours if "version" in values else {"name", "training", "data"} <= values.keys()


def _stat(path: str, extensions: frozenset[str]) -> os.stat_result | str:
    """Returns the status of a picture file, or what kind of file it is that is left out."""
    name = os.path.basename(path)
    suffix = os.path.splitext(name)[1].lower()
    if name[0] == ".":
        return _HIDDEN_FILE
    if suffix not in extensions:
        return printable(suffix) if suffix else _NO_EXTENSION
    try:
        status = os.stat(path)
    except OSError:
        return _SPECIAL
    return status if stat.S_ISREG(status.st_mode) else _SPECIAL


def _counted(kind: str, count: int) -> str:
    return f"{count} {kind}{'s' if count != 1 and kind in _COUNTABLE else ''}"


class Examined(NamedTuple):
    """What the pictures of a folder turned out to be.

    Attributes:
      broken: why a picture cannot be read, by its name.
      pixels: of all others together.
      digests: of the files' content, in the order of the files.
    """

    broken: dict[str, str]
    pixels: int
    digests: tuple[str, ...]


@functools.lru_cache(maxsize=8)  # both splits of a folder are opened one after the other
def examine(root: Path, files: tuple[PictureFile, ...], reading: Reading) -> Examined:
    """Opens every picture, decodes up to 2,000 evenly spaced ones, and warns of the broken ones.

    Args:
      root: the folder.
      files: its pictures.
      reading: how they are read.

    Raises:
      UserError: all are broken, or more than the larger of one and 1 %.
    """
    decoded = evenly_spaced(len(files), _MAX_DECODED)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        headers = list(pool.map(lambda file: _header(root / file.name, reading), files))
        whole = [index for index in decoded if isinstance(headers[index].pixels, int)]
        checked = list(pool.map(lambda index: _check(root / files[index].name, reading), whole))
    reasons = {
        file.name: h.pixels for file, h in zip(files, headers, strict=True) if isinstance(h.pixels, str)
    }
    damage = {
        files[index].name: found
        for index, found in zip(whole, checked, strict=True)
        if isinstance(found, str)
    }
    in_sample = len(decoded) - len(whole) + len(damage)
    reasons = dict(sorted({**reasons, **damage}.items()))
    _check_broken(root, reasons, len(files), in_sample, len(decoded))
    for name, reason in reasons.items():
        warn_broken(name, reason)
    levels = [found for found in checked if isinstance(found, Levels)]
    _warn_unused_range(root, levels)
    pixels = sum(header.pixels for header in headers if isinstance(header.pixels, int))
    return Examined(reasons, pixels, tuple(header.digest for header in headers))


def _check_broken(root: Path, reasons: dict[str, str], count: int, in_sample: int, decoded: int) -> None:
    """Raises UserError where too many pictures are broken."""
    named = "; ".join(f"{printable(name)} ({reason})" for name, reason in list(reasons.items())[:_NAMED])
    if len(reasons) == count:
        raise UserError(f"expected pictures in {root}, all {count} are broken: {named}")
    tolerated, tolerated_in_sample = (max(1.0, _TOLERATED_SHARE * number) for number in (count, decoded))
    if len(reasons) > tolerated or in_sample > tolerated_in_sample:
        raise UserError(
            f"expected at most one broken picture, or 1 %, in {root}; got {len(reasons)} of "
            f"{count} ({decoded} were decoded): {named}; repair or remove them"
        )


def _warn_unused_range(root: Path, levels: list[Levels]) -> None:
    """Warns where pictures with many levels, taken together, use few of them."""
    for possible in {found.possible for found in levels}:
        alike = [found for found in levels if found.possible == possible]
        low, high = min(found.low for found in alike), max(found.high for found in alike)
        if (high - low) * _USED_SHARE < possible[1] - possible[0]:
            _LOG.warning(
                "pictures in %s use only the values %d to %d of %d to %d and become nearly uniform: give "
                "--data.value-range %d %d to use all of it",
                root, low, high, *possible, low, high,
            )  # fmt: skip


class _Header(NamedTuple):
    pixels: int | str  # or why the header cannot be read
    digest: str


def _header(path: Path, reading: Reading) -> _Header:
    digest = ""
    try:
        with path.open("rb") as file:
            digest = digest_of(file)
            return _Header(count_pixels(path, file, reading), digest)
    except Exception as error:  # Pillow's decoders raise nearly every kind
        return _Header(reason_of(error), digest)


def _check(path: Path, reading: Reading) -> Levels | str | None:
    """Decodes a picture: returns why it cannot be read, or the levels that one of more than 8 bits uses."""
    try:
        return decode_check(path, reading)
    except Exception as error:  # Pillow's decoders raise nearly every kind
        return reason_of(error)


def reason_of(error: Exception) -> str:
    """Returns what an error says about a picture, in a few words."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture"
    return str(error) or type(error).__name__


def warn_broken(name: str, reason: str) -> None:
    """Warns of a broken picture."""
    _LOG.warning("broken picture %s, replaced by the next one: %s", printable(name), reason)
