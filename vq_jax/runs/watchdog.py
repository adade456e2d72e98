"""Ends a run whose step hangs, with the stacks that show where."""

import faulthandler
import os
import sys
import threading
import time
from types import TracebackType

STATUS = 124
"""Exit status of a run that the watchdog ended, the same as that of timeout(1)."""


class Watchdog:
    """While it is open, a step that exceeds the limit prints all stacks and ends the process.

    The limit holds from one call of `step` to the next, which includes evaluation, saving and, in the first
    step, compilation.

    Args:
      minutes: the limit; 0 for none.
    """

    def __init__(self, minutes: float) -> None:
        self._seconds = 60.0 * minutes
        self._closed = threading.Event()
        self._began, self._number = time.monotonic(), 0

    def step(self, number: int) -> None:
        """Marks the start of the step after `number` others."""
        self._began, self._number = time.monotonic(), number

    def __enter__(self) -> "Watchdog":
        self.step(self._number)
        if self._seconds:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self._seconds / 4)):
            if time.monotonic() - self._began > self._seconds:
                faulthandler.dump_traceback(sys.stderr, all_threads=True)
                print(
                    f"vq-jax: step {self._number + 1} took longer than training.watchdog_minutes = "
                    f"{self._seconds / 60:g}: the run was ended; its last checkpoint is whole",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(STATUS)  # an orderly exit would wait for the step
