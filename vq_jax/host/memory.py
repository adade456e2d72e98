"""Host memory: how much there is, and, on CPU, keeping what a step frees instead of returning it."""

import ctypes
import glob
import os
import sys
from pathlib import Path

from vq_jax.errors import UserError

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_ACCELERATORS = ("/dev/nvidia[0-9]*", "/dev/accel*", "/dev/vfio/[0-9]*")


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory for the process, where its steps run on the CPU.

    A jitted step on CPU allocates its temporaries as one piece of memory and frees it at its end. glibc
    returns so large a piece to the system, which clears it page by page when the next step asks for it: up
    to a quarter of a step's time where the temporaries are gigabytes. With this setting the process stays
    as large as it has ever been. Must be called before the first thread starts, that is before jax is
    imported.

    Returns:
      Whether the setting was made; it is not on a machine with an accelerator, or without glibc.
    """
    if not sys.platform.startswith("linux") or any(glob.glob(pattern) for pattern in _ACCELERATORS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # All threads share one heap, everything comes from it, and none of it is returned.
    return all([mallopt(_ARENA_MAX, 1), mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1)])


def require_memory(needed: int, what: str, advice: str) -> None:
    """Checks, before it is allocated, that something fits into the machine's memory.

    Args:
      needed: bytes, at least.
      what: what needs them, in words.
      advice: what to do instead.

    Raises:
      UserError: the machine has less.
    """
    available = total_memory()
    if needed > available:
        sizes = f"at least {gibibytes(needed)} of memory and this machine has {gibibytes(available)}"
        raise UserError(f"{what} needs {sizes}: {advice}")


def gibibytes(count: float) -> str:
    """Writes a number of bytes, such as 1.5 GiB."""
    return f"{count / 2**30:.1f} GiB"


def total_memory() -> int:
    """Returns the bytes of memory that this machine, or the container that this is, may use."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, _LIMITS):
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            found.append(int(text))
    return min(found)
