"""Where a run's figures go: metrics.jsonl, TensorBoard, and the terminal."""

import json
import logging
import os
import time
from typing import Any

import numpy as np
from etils import epath
from tqdm import tqdm

from vq_jax.host.files import write_atomic
from vq_jax.host.streams import progress_stream
from vq_jax.runs.rundir import METRICS_FILE

_QUIET_SECONDS = 10.0  # between lines where there is no terminal
_log = logging.getLogger("vq_jax")


class MetricsLog:
    """Appends one row of figures for each logged step; a row is on disk when `write` returns.

    TensorBoard's events are written to a local directory only, because its writer must append.
    """

    def __init__(self, workdir: epath.Path, first_step: int) -> None:
        self._path = workdir / METRICS_FILE
        self._remote = "://" in os.fspath(workdir)
        self._lines = self._path.read_text() if self._remote and self._path.exists() else ""
        self._board: Any = None
        if not self._remote:
            # Imported here, because the import warns of protobuf descriptors: only a run needs it.
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(os.fspath(workdir), purge_step=first_step + 1)

    def write(self, step: int, figures: dict[str, float | str]) -> None:
        """Writes the row of a step, and its numbers to TensorBoard."""
        line = json.dumps({"step": step, **figures}) + "\n"
        if self._remote:
            self._lines += line
            write_atomic(self._path, self._lines)
            return
        with self._path.open("a") as file:
            file.write(line)
        for name, value in figures.items():
            if not isinstance(value, str):
                self._board.add_scalar(name, value, step)
        self._board.flush()

    def write_picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Sends a picture uint8 [H, W, 3] to TensorBoard."""
        if self._board is not None:
            self._board.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Closes the files."""
        if self._board is not None:
            self._board.close()


class Progress:
    """A bar with loss, perplexity, pictures/s and ETA on a terminal; elsewhere a line every 10 s or so."""

    def __init__(self, first_step: int, steps: int, batch_size: int) -> None:
        self._steps, self._batch_size = steps, batch_size
        self._first, self._started, self._spoke = first_step, time.monotonic(), 0.0
        self._out = progress_stream()
        terminal = self._out.isatty()
        self._bar = tqdm(total=steps, initial=first_step, unit="step", file=self._out) if terminal else None

    def advance(self) -> None:
        """Counts one step."""
        if self._bar is not None:
            self._bar.update()

    def show(self, step: int, figures: dict[str, Any]) -> None:
        """Shows the figures of a step."""
        names = [name for name in ("loss", "perplexity") if name in figures]
        shown: dict[str, str] = {name: f"{figures[name]:.4g}" for name in names}
        if "time/images_per_second" in figures:
            shown["images/s"] = f"{figures['time/images_per_second']:.0f}"
        if self._bar is not None:
            self._bar.set_postfix(shown)
            return
        now = time.monotonic()
        if now - self._spoke < _QUIET_SECONDS and step < self._steps:
            return
        self._spoke = now
        left = (now - self._started) / max(step - self._first, 1) * (self._steps - step)
        text = "  ".join(f"{name} {value}" for name, value in shown.items())
        print(f"step {step}/{self._steps}  {text}  ETA {left:.0f} s", file=self._out, flush=True)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()


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
