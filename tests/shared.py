"""Directories that one test process makes and all of them use."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def made_once(base: Path, name: str, make: Callable[[Path], None]) -> Path:
    """A directory with what the first process that wanted it made there; the others wait for that.

    Args:
      base: pytest's base directory of this process.
      name: of the directory, the same in all processes.
      make: fills the directory, which is there and empty.
    """
    session = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    directory, done = session / "shared" / name, session / "shared" / f"{name}.done"
    directory.parent.mkdir(exist_ok=True)
    with (directory.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # gone with the process, whatever ends it
        if not done.exists():
            shutil.rmtree(directory, ignore_errors=True)  # of an attempt that failed
            directory.mkdir()
            make(directory)
            done.touch()
    return directory
