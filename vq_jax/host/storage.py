"""Paths as they come in: checked and expanded once, with the package that their storage needs."""

import importlib.util
import os
import re

from vq_jax.errors import UserError
from vq_jax.host.files import PathLike, is_remote

# pathlib makes one slash of two; c:/ may also be a directory.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|\w+://")
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes, of a file system


def checked_path(path: PathLike, name: str = "the path") -> str:
    """Checks a path that a user gives, and writes out the home directory.

    Args:
      path: local or gs://; need not exist. An empty one stays empty.
      name: what it is, for messages, such as "--workdir".

    Returns:
      The path without `~`; a local one without `://`.

    Raises:
      UserError: no file can have this path, or it is a URL of another kind.
    """
    text = os.fspath(path)
    shown = repr(text if len(text) <= 80 else f"{text[:77]}...")
    if "\0" in text:
        raise UserError(f"{name} must be a path, got {shown}, which has a null byte")
    scheme = _SCHEME.match(text)
    if scheme and not text.startswith("gs://"):
        raise UserError(
            f"{name} must be a local path or gs://BUCKET/..., got {shown}: copy it to a local directory and "
            "give that"
        )
    if scheme:
        return text
    expanded = os.path.expanduser(text).replace("://", ":/")  # the same place, and no URL to etils
    if text.startswith("~") and expanded == text:
        raise UserError(
            f"{name} must be a path, got {shown}, whose home directory is not known: write it out"
        )
    longest = max(len(_encoded(part)) for part in expanded.split(os.sep))
    if longest > _LONGEST_NAME or len(_encoded(expanded)) > _LONGEST_PATH:
        raise UserError(f"{name} must be a shorter path, got {shown} with a name of {longest} bytes")
    return expanded


def require_storage(path: PathLike, name: str = "the path") -> str:
    """Checks a path that is about to be opened, see `checked_path`.

    Raises:
      UserError: as `checked_path`, or nothing is installed that reads from there.
    """
    checked = checked_path(path, name)
    # etils.epath, which opens all such paths, uses TensorFlow if it is installed, else gcsfs.
    if checked.startswith("gs://") and not any(map(importlib.util.find_spec, ("gcsfs", "tensorflow"))):
        raise UserError(f'{checked} needs a package for Google Cloud Storage: pip install "vq-jax[gcs]"')
    return checked


def checked_directory(path: PathLike, name: str) -> str:
    """Checks a directory that will be written to, see `require_storage`; its whole name has to be UTF-8.

    Raises:
      UserError: as `require_storage`, or the path is empty or not UTF-8, which checkpoints cannot be kept
        under.
    """
    if not os.fspath(path):
        raise UserError(f"{name} must be a directory, got an empty name")
    expanded = require_storage(path, name)
    try:
        (expanded if is_remote(expanded) else os.path.abspath(expanded)).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{name} must be a path in UTF-8, got {os.fsencode(expanded)!r}: checkpoints cannot be kept there"
        ) from error
    return expanded


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
