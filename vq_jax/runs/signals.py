"""Ctrl-C and SIGTERM as a request that the loop reads between two steps."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While it is open, `signal` holds the first signal received; a second Ctrl-C interrupts at once.

    Outside the main thread, where Python allows no handlers, no signal is recorded.
    """

    signal: int | None = None
    _signals = _SIGNALS

    def __enter__(self) -> "StopRequest":
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in self._signals:
                self._before[number] = signal.signal(number, self._note)
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

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
