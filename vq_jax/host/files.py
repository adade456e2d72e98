"""Files as this machine holds them: written whole or not at all, and read only where they are files."""

import contextlib
import io
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from vq_jax.errors import UserError

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_PREFIX, _SUFFIX = ".vq-jax-", ".part"

PathLike = str | os.PathLike[str]


def is_remote(path: PathLike) -> bool:
    """Whether a path is a URL, such as gs://bucket/run."""
    return "://" in os.fspath(path)


def is_temporary(name: str) -> bool:
    """Whether a file of this name is what an interrupted `write_atomic` left; it may be removed."""
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)


def require_regular(path: PathLike) -> None:
    """Checks that a path, if there is anything, is a regular file: reading a pipe or a device may never end.

    Args:
      path: local; a symbolic link counts as what it points to. Nothing is checked of a URL.

    Raises:
      UserError: it is a directory, a pipe, a socket or a device.
    """
    if is_remote(path):
        return
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except OSError:
        return  # opening it says why
    if kind != stat.S_IFREG:
        raise UserError(f"expected a file, {os.fspath(path)} is {_KINDS.get(kind, 'something else')}")


def read_json(path: PathLike) -> Any:
    """Reads what a JSON file holds, of any kind.

    Args:
      path: local or gs://.

    Raises:
      UserError: it is no file.
      ValueError: it is not JSON in UTF-8, or is nested too deep to be read.
      OSError: it cannot be read.
    """
    require_regular(path)
    try:
        return json.loads(epath.Path(path).read_bytes())
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def write_atomic(path: PathLike, content: bytes | str) -> None:
    """Writes a file whole or not at all: at any moment it is the old one or the new one.

    Args:
      path: local or gs://; its directory exists. A symbolic link that lies there is replaced, not followed.
      content: bytes, or text, which is written as UTF-8.

    Raises:
      UserError: something that is not a file lies there.
      OSError: it cannot be written; nothing of it is left.
    """
    write_all({path: content.encode() if isinstance(content, str) else content})


def write_all(contents: Mapping[PathLike, bytes]) -> None:
    """Writes several files as `write_atomic` does: none takes its place before all are on the disk.

    Args:
      contents: by their paths, in the order in which they take their places.

    Raises:
      UserError: something that is not a file lies at one of the paths.
      OSError: one cannot be written.
    """
    with contextlib.ExitStack() as stack:
        for path, content in reversed(list(contents.items())):
            if is_remote(path):  # an object appears whole
                stack.callback(epath.Path(path).write_bytes, content)
            else:
                file = stack.enter_context(replacing(path))
                file.write(content)
                _sync(file)


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[io.BufferedRandom]:
    """Opens a file that takes the place of `path` when the block ends, and is removed if the block fails.

    Until then it lies in the same directory under a name that nobody can foresee, and that was free.

    Args:
      path: local; its directory exists.

    Raises:
      UserError: something that is not a file lies there.
      OSError: it cannot be written.
    """
    target = os.fspath(path)
    require_regular(target)
    # A name of its own, not one made of the target's: that may be as long as names can be.
    part = os.path.join(os.path.dirname(target), f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    number = os.open(part, flags, 0o666)
    try:
        with os.fdopen(number, "w+b") as file:
            yield file
            _sync(file)
        os.replace(part, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def _sync(file: io.BufferedRandom) -> None:
    file.flush()
    os.fsync(file.fileno())
