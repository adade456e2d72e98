"""Where a run's figures go: metrics.jsonl, TensorBoard, and the terminal."""

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath
from tqdm import tqdm

from vq_jax.errors import UserError
from vq_jax.host.files import write_atomic
from vq_jax.host.streams import progress_stream
from vq_jax.runs.rundir import CONFIG_FILE, METRICS_FILE

# tqdm's own bar without its estimate of what is left, which takes all steps for equal.
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]"
_QUIET_SECONDS = 10.0  # between lines where there is no terminal
_log = logging.getLogger("vq_jax")


class MetricsLog:
    """Appends one row of figures for each logged step; a row is on disk when `write` returns.

    TensorBoard's events are written to a local directory only, because its writer must append.
    """

    def __init__(self, workdir: epath.Path, first_step: int) -> None:
        self._path, self._config = workdir / METRICS_FILE, workdir / CONFIG_FILE
        self._remote = "://" in os.fspath(workdir)
        self._lines = self._path.read_text() if self._remote and self._path.exists() else ""
        self._board = None if self._remote else _Events(os.fspath(workdir), first_step)

    def write(self, step: int, figures: dict[str, float | str]) -> None:
        """Writes the row of a step, and its numbers to TensorBoard."""
        line = json.dumps({"step": step, **figures}) + "\n"
        if self._remote:
            self._lines += line
            write_atomic(self._path, self._lines)
            return
        if not self._config.exists():
            raise UserError(
                f"{self._path.parent} was removed while the run wrote in it: the same command begins anew"
            )
        with self._path.open("a") as file:
            file.write(line)
        if self._board is not None:
            self._board.write(step, figures)

    def write_picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Sends a picture uint8 [H, W, 3] to TensorBoard."""
        if self._board is not None:
            self._board.write_picture(step, name, picture)

    def close(self) -> None:
        """Closes the files."""
        if self._board is not None:
            self._board.close()


class _Events:
    """TensorBoard's events. They are to look at: what cannot be written of them is left out, and said once.

    They are written by this thread: a thread of the library's that dies of a full disk stops those who hand
    it events for ever.
    """

    def __init__(self, workdir: str, first_step: int) -> None:
        # Imported here, because the import warns of protobuf descriptors: only a run needs it.
        with _absent("torch"):  # it imports it, seconds long, for nothing but a type in its annotations
            from tensorboardX import summary
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._summary, self._event, self._writer = summary, Event, None
        with self._looking():
            self._writer = EventsWriter(os.path.join(workdir, "events"))
            # What an earlier start wrote of the steps to come is hidden.
            start = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(step=first_step + 1, wall_time=time.time(), session_log=start))

    def write(self, step: int, figures: dict[str, float | str]) -> None:
        """Writes the numbers of a step."""
        numbers = {name: value for name, value in figures.items() if not isinstance(value, str)}
        self._write(step, [self._summary.scalar(name, value) for name, value in numbers.items()])

    def write_picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Writes a picture uint8 [H, W, 3]."""
        self._write(step, [self._summary.image(name, picture, dataformats="HWC")])

    def close(self) -> None:
        """Closes the file."""
        with self._looking():
            if self._writer is not None:
                self._writer.close()

    def _write(self, step: int, summaries: list[Any]) -> None:
        with self._looking():
            if self._writer is None:
                return
            for summary in summaries:
                self._writer.write_event(self._event(step=step, wall_time=time.time(), summary=summary))
            self._writer.flush()

    @contextlib.contextmanager
    def _looking(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            writer, self._writer = self._writer, None
            with contextlib.suppress(OSError):
                if writer is not None:  # it was opened
                    writer.close()
            _log.warning("TensorBoard's events are left out from here on: %s", error.strerror or error)


@contextlib.contextmanager
def _absent(module: str) -> Iterator[None]:
    """Lets imports that can do without a module do so; one that is imported already stays."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # raises ImportError where it is imported
    try:
        yield
    finally:
        del sys.modules[module]


class Progress:
    """A bar with loss, perplexity, pictures/s and ETA on a terminal; elsewhere a line every 10 s or so.

    The ETA is that of the stage that runs: where a phase or a loss begins, steps cost more or less, and how
    much is not known before. Until the last stage it is the time to the step where the next one begins, and
    says so.

    Args:
      first_step: updates made before.
      steps: updates in all.
      stages: the steps after which another kind of step begins.
    """

    def __init__(self, first_step: int, steps: int, stages: Sequence[int] = ()) -> None:
        self._step, self._steps = first_step, steps
        self._stages = sorted({*(stage for stage in stages if first_step < stage < steps), steps})
        self._rate = _Rate(first_step)
        self._spoke = 0.0
        self._out = progress_stream()
        terminal = self._out.isatty()
        self._bar = (
            tqdm(total=steps, initial=first_step, unit="step", file=self._out, bar_format=_BAR)
            if terminal
            else None
        )

    def advance(self) -> None:
        """Counts one step."""
        self._step += 1
        self._rate.advance(self._step)
        if self._step in self._stages:
            self._stages.remove(self._step)
            self._rate = _Rate(self._step)
        if self._bar is not None:
            self._bar.update()

    def show(self, step: int, figures: dict[str, Any]) -> None:
        """Shows the figures of a step."""
        names = [name for name in ("loss", "perplexity") if name in figures]
        shown: dict[str, str] = {name: f"{figures[name]:.4g}" for name in names}
        if "time/images_per_second" in figures:
            shown["images/s"] = f"{figures['time/images_per_second']:.0f}"
        text = "  ".join([*(f"{name} {value}" for name, value in shown.items()), *self._eta()])
        if self._bar is not None:
            self._bar.set_postfix_str(text)
            return
        now = time.monotonic()
        if now - self._spoke < _QUIET_SECONDS and step < self._steps:
            return
        self._spoke = now
        print(f"step {step}/{self._steps}  {text}", file=self._out, flush=True)

    def _eta(self) -> list[str]:
        seconds = self._rate.seconds()
        if seconds is None or not self._stages:
            return []
        end = self._stages[0]
        left = tqdm.format_interval(round(seconds * (end - self._step)))
        return [f"ETA {left}{'' if end == self._steps else f' to step {end}'}"]

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()


class _Rate:
    """Measures how long steps take, evaluations and saves included, without the first, which is compiled."""

    def __init__(self, first_step: int) -> None:
        self._begin, self._began = first_step + 2, 0.0  # the loop is up to two steps ahead of the devices
        self._step = first_step

    def advance(self, step: int) -> None:
        """Counts a step."""
        self._step = step
        if step == self._begin:
            self._began = time.monotonic()

    def seconds(self) -> float | None:
        """Returns the seconds that a step takes; None where they are not known yet."""
        steps = self._step - self._begin
        return (time.monotonic() - self._began) / steps if steps > 0 else None


class Silent:
    """Stands in for `MetricsLog` and `Progress` on the processes that leave writing to process 0."""

    def write(self, step: int, figures: dict[str, float | str]) -> None:
        """Discards the row."""

    def write_picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Discards the picture."""

    def advance(self) -> None:
        """Ignores the step."""

    def show(self, step: int, figures: dict[str, Any]) -> None:
        """Shows no figures."""

    def close(self) -> None:
        """Has no files to close."""
