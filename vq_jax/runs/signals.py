"""Ctrl-C, SIGTERM and SIGHUP as a request that the loop reads between two steps."""

import signal
from types import FrameType, TracebackType
from typing import Any

from vq_jax.host import interruption


class StopRequest:
    """While it is open, `signal` holds the first signal received.

    A second Ctrl-C interrupts at once, and a third one ends the process. Outside the main thread, where
    Python allows no handlers, no signal is recorded.
    """

    signal: int | None = None
    _at_once = False

    def __enter__(self) -> "StopRequest":
        self._before = self._handle()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def reached(self, step: int) -> bool:
        """Whether to stop now, after `step` updates."""
        return self.signal is not None

    def interrupt(self) -> None:
        """From now on a signal, one already received too, raises `Stopped`: nothing is left to save."""
        self._at_once = True
        if self.signal is not None:
            raise interruption.Stopped(self.signal)

    def _handle(self) -> dict[int, Any]:
        return interruption.handle(self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._at_once or (self.signal is not None and number == signal.SIGINT):
            interruption.stop(number)
        self.signal = number
