"""Standard streams that may be closed, broken or full: a program that cannot speak goes on."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class Forgiving:
    """A text stream in front of another one, whose failures it keeps to itself.

    After the first failure what is written goes nowhere.

    Args:
      stream: the other one; None where the program was started without it.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes, if it can."""
        self._attempt("write", text)
        return len(text)

    def flush(self) -> None:
        """Flushes, if it can."""
        self._attempt("flush")

    def isatty(self) -> bool:
        """Whether a person may be looking at it."""
        try:
            return bool(self._stream is not None and self._stream.isatty())
        except ValueError:  # closed
            return False

    def _attempt(self, method: str, *arguments: str) -> None:
        if self._stream is None:
            return
        try:
            getattr(self._stream, method)(*arguments)
        except (OSError, ValueError):
            silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def silence(stream: Any) -> None:
    """Sends what a broken stream still holds nowhere, so that Python does not complain of it at its exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def progress_stream() -> Forgiving:
    """Standard error, for those whose work is more than what they say."""
    return Forgiving(sys.stderr)


def fill_closed_streams() -> None:
    """Puts the null device where the program was started without one of the three standard streams.

    Files that the program opens would take their numbers, and libraries would write errors into them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)


@contextlib.contextmanager
def forgiving_streams(*, output: bool) -> Iterator[None]:
    """Lets failures of standard error pass while the block runs, and of standard output too if asked to.

    Names that the encoding of a stream does not have are written with escapes.
    """
    before = sys.stdout, sys.stderr
    errors = [(stream, getattr(stream, "errors", None)) for stream in before]
    for stream, _ in errors:
        _set_errors(stream, "backslashreplace")
    sys.stderr = Forgiving(sys.stderr)
    if output or sys.stdout is None:
        sys.stdout = Forgiving(sys.stdout)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
        for stream, was in errors:
            _set_errors(stream, was)


def _set_errors(stream: Any, errors: str | None) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, broken, or no text file
        stream.reconfigure(errors=errors)
