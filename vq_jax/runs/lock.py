"""A directory that one process writes in: the second one is refused, and told of the first."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator

from vq_jax.errors import UserError
from vq_jax.host.files import PathLike, is_remote, read_json, require_regular

LOCK_FILE = ".lock"
_NOT_HERE = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # a file system without locks
_log = logging.getLogger("vq_jax")


@contextlib.contextmanager
def locked(directory: PathLike) -> Iterator[None]:
    """Holds a directory while the block runs.

    Of a run of several processes only the first holds it. The file `.lock` names the host and the process;
    the system frees the lock when that process ends, however it ends, so that a file left over is taken
    over. On a file system that has no locks, the process is looked for on this host. A directory on gs://
    is not locked: nothing there says whether a process still runs.

    Args:
      directory: there already, unless it is remote.

    Raises:
      UserError: another process holds it; the message names it.
      OSError: the directory cannot be written.
    """
    if is_remote(directory):
        yield
        return
    path = os.path.join(os.fspath(directory), LOCK_FILE)
    number = _acquire(path, directory)
    try:
        mine = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%F %T")}
        os.ftruncate(number, 0)
        os.pwrite(number, json.dumps(mine).encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):  # the directory may be gone
            if _is_at(number, path):
                os.unlink(path)
        os.close(number)


def _acquire(path: str, directory: PathLike) -> int:
    require_regular(path)
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            _lock(number, path, directory)
            if _is_at(number, path):  # not one that its owner removed in this moment
                return number
        except BaseException:
            os.close(number)
            raise
        os.close(number)


def _lock(number: int, path: str, directory: PathLike) -> None:
    owner = _owner(path)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        in_use = False
    except BlockingIOError:
        in_use = True
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        in_use = owner.get("host") == socket.gethostname() and _lives(owner.get("process"))
    if in_use:
        raise UserError(
            f"{os.fspath(directory)} is in use: process {owner.get('process', '?')} on "
            f"{owner.get('host', '?')} has written in it since {owner.get('since', '?')}.\n"
            "Wait for it or stop it, or give another directory"
        )
    if owner:
        _log.info("Process %s on %s, which held the run, has ended.", owner.get("process"), owner.get("host"))


def _owner(path: str) -> dict[str, object]:
    try:
        found = read_json(path)
    except (ValueError, OSError):  # empty: its process is just writing it
        return {}
    return found if isinstance(found, dict) else {}


def _lives(process: object) -> bool:
    if not isinstance(process, int) or process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_at(number: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(number), os.stat(path))
    except FileNotFoundError:
        return False
