"""Directories that one test process makes and all of them use."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

_SHARED = Path(os.environ["VQ_JAX_TESTS_SESSION"]) / "shared"  # see conftest.py; gone with the session


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """A directory with what the first process that wanted it made there; the others wait for that.

    Args:
      name: of the directory, the same in all processes.
      make: fills the directory, which is there and empty.
    """
    directory, done = _SHARED / name, _SHARED / f"{name}.done"
    directory.parent.mkdir(exist_ok=True)
    with (directory.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # gone with the process, whatever ends it
        if not done.exists():
            shutil.rmtree(directory, ignore_errors=True)  # of an attempt that failed
            directory.mkdir()
            make(directory)
            done.touch()
    return directory
