"""Ctrl-C, SIGTERM and SIGHUP, from the first import of the program to its end."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal that ends what the program is doing.

    Attributes:
      signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


def end_at_once(number: int, frame: FrameType | None = None) -> NoReturn:
    """Ends the process, as a handler of signals: with 128 and the signal's number, and one line."""
    with contextlib.suppress(OSError):
        os.write(2, f"vq-jax: ended at once by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)


def stop(number: int, frame: FrameType | None = None) -> NoReturn:
    """Raises `Stopped`, as a handler of signals; the next signal ends the process at once."""
    handle(end_at_once)
    raise Stopped(number)


def handle(handler: Any, signals: Sequence[int] = SIGNALS) -> dict[int, Any]:
    """Sets the handler of signals but for those that were to be ignored, as nohup has it for SIGHUP.

    Args:
      handler: as for `signal.signal`.
      signals: their numbers. One that a library handles in C is left out: Python's handler would replace it,
        and could not put it back.

    Returns:
      The handlers before, by the numbers of the signals. Outside the main thread, where Python allows no
      handlers, none.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [number for number in signals if not _ignored(number)]
    return {number: signal.signal(number, handler) for number in numbers}


def _ignored(number: int) -> bool:
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Signals raise `Stopped` while the block runs."""
    before = handle(stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
