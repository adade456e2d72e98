"""What the program says where it fails, in one line, and its exit status."""

import errno
import os
import signal

from vq_jax.errors import UserError
from vq_jax.host.interruption import Stopped

# What to do where the machine refuses, whatever the command was doing.
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room or choose another directory"),
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) or choose another directory",
    errno.EROFS: "choose another directory",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "allow access to it or choose another"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR), "check the path; was it removed meanwhile?"),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "the disk fails: check it, or use another one"),
    errno.ENAMETOOLONG: "give it a shorter name",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit on open files (ulimit -n)"),
}


def explain(error: BaseException) -> tuple[str, int] | None:
    """What to say of an error, and the exit status; None where only a traceback says what it is."""
    if isinstance(error, UserError):
        return str(error), 2
    if isinstance(error, OSError) and error.errno in _ADVICE:
        return f"{error}; {_ADVICE[error.errno]}", 2
    if _is_of_memory(error):
        reason = (str(error).splitlines() or [""])[0].removeprefix("RESOURCE_EXHAUSTED: ")
        advice = "make the model, the batch or the pictures smaller"
        return f"not enough memory: {reason[:300] or 'no more is given'}; {advice}", 1
    if _is_of_backends(error):
        reason = (str(error).splitlines() or ["no such backend here"])[0]
        return f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}: {reason}", 2
    if isinstance(error, KeyboardInterrupt):
        number = error.signal if isinstance(error, Stopped) else signal.SIGINT
        return f"interrupted by {signal.Signals(number).name}", 128 + number
    return None


def _is_of_memory(error: BaseException) -> bool:
    is_device_s = isinstance(error, RuntimeError) and str(error).startswith("RESOURCE_EXHAUSTED")
    return is_device_s or isinstance(error, MemoryError)


def _is_of_backends(error: BaseException) -> bool:
    """Whether jax found no backend: it says so in words, or fails an assertion of its module of backends."""
    if isinstance(error, RuntimeError):
        return "nable to initialize backend" in str(error)
    trace = error.__traceback__ if isinstance(error, AssertionError) else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == "jax._src.xla_bridge"
