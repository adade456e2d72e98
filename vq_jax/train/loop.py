"""A run, from configuration to report: the only part of training that reads and writes files."""

import contextlib
import dataclasses
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from vq_jax.configs.runs import RunConfig
from vq_jax.configs.training import Part
from vq_jax.data import workers
from vq_jax.errors import UserError
from vq_jax.host.interruption import Stopped
from vq_jax.host.storage import checked_directory
from vq_jax.runs import distributed, grids, rundir
from vq_jax.runs.checkpoint import Checkpointer
from vq_jax.runs.collapse import Collapse, warning
from vq_jax.runs.metrics_log import MetricsLog, Progress, Silent
from vq_jax.runs.notes import Figures, shown_notes
from vq_jax.runs.signals import StopRequest
from vq_jax.runs.telemetry import FLOPS, Clock, Trace
from vq_jax.runs.watchdog import Watchdog
from vq_jax.train.finite import NonFiniteError, fetch_finite, require_finite
from vq_jax.train.optimizers import make_schedule
from vq_jax.train.tasks.base import Task, open_task
from vq_jax.types import Metrics

_INTERVALS = ("log_every", "eval_every", "image_every", "save_every")
# Steps given to the devices and not finished: one that runs, one that follows it at once. With more, the host
# would wait for data that the devices do not need yet, and the time would count as waiting.
_IN_FLIGHT = 2
_log = logging.getLogger("vq_jax")

Callback = Callable[[int, dict[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class RunResult:
    """How a run ended: its last step, the signal that stopped it (None: it finished), its last figures.

    A run that was stopped has no figures of the report, such as `test/psnr`: asking for one says so.
    """

    workdir: epath.Path
    step: int
    signal: int | None
    figures: Figures


@shown_notes()
def train(
    config: RunConfig,
    workdir: epath.PathLike,
    *,
    init: epath.PathLike | None = None,
    init_parts: Sequence[Part] = (),
    callbacks: Sequence[Callback] = (),
    profile: tuple[int, int] | None = None,
    command: str | None = None,
) -> RunResult:
    """Trains what the configuration describes, or resumes the run in `workdir`.

    Args:
      config: the run's.
      workdir: run directory, local or gs://; created if it does not exist.
      init: run or model directory whose weights the run starts from: `training.init`.
      init_parts: parts of a tokenizer to train, the others staying as they are: `training.init_parts`.
      callbacks: called by process 0 with the step and the metrics by name, whenever these are logged; an
        exception of one ends the run, and the steps taken are saved.
      profile: first and last step of a trace to write into the run directory.
      command: the command line that runs it, for the report.

    Raises:
      UserError: the data, the directory or the configuration cannot be used; nothing has been written.
      NonFiniteError: a metric became infinite or not a number.
    """
    workers.end_if_unguarded()
    workdir = epath.Path(checked_directory(workdir, "workdir"))
    if init is not None:
        started = dataclasses.replace(config.training, init=os.fspath(init), init_parts=tuple(init_parts))
        config = dataclasses.replace(config, training=started)
    elif init_parts:
        raise UserError(f"init_parts = {tuple(init_parts)} needs init, the run or model to start from")
    config = config.in_steps()
    task = distributed.together(lambda: open_task(config, workdir))
    config = task.config  # it also says what the data are
    distributed.check_same(config, task.data)
    make_schedule(config.optimizer, config.training.steps)
    with contextlib.ExitStack() as stack:
        claim = rundir.claim(workdir, config) if distributed.is_main() else contextlib.nullcontext()
        distributed.together(lambda: stack.enter_context(claim))
        distributed.check_shared(workdir)
        _log.info("%s: %d steps, in %s", config.name, config.training.steps, workdir)
        task.prepare(workdir)
        stop = stack.enter_context(distributed.stop_request())
        saved = Checkpointer(workdir / rundir.CHECKPOINTS, keep=config.training.keep_checkpoints)
        run = _Run(task, workdir, stack.enter_context(saved), callbacks, command)
        return run.go(stop, profile)


class _Run:
    """The objects of one run, and its loop."""

    def __init__(
        self,
        task: Task,
        workdir: epath.Path,
        checkpointer: Checkpointer,
        callbacks: Sequence[Callback],
        command: str | None,
    ) -> None:
        self.callbacks = callbacks if distributed.is_main() else ()
        self.task, self.workdir, self.checkpointer, self.command = task, workdir, checkpointer, command
        self.config = task.config
        self.schedule = make_schedule(self.config.optimizer, self.config.training.steps)
        self.broken, self._new_broken = 0, 0  # pictures: of the whole run; of this process since last counted
        self.state, self.step = self._restore_or_init()
        self.collapse, self._said = Collapse(), set[str]()
        for row in rundir.read_metrics(workdir) if distributed.is_main() else ():
            self.collapse.see(row)

    def _restore_or_init(self) -> tuple[Any, int]:
        restored = self.checkpointer.restore_latest(self.task.abstract_state())
        if restored is None:
            self._begin(0)
            return self.task.init_state(), 0
        if not {"data", "broken"} <= restored.meta.keys():
            raise UserError(
                f"the checkpoint of step {restored.step} in {self.workdir} is not of a training run: it "
                "does not say of what data it is; move it away"
            )
        if restored.meta["data"] != self.task.data:
            raise UserError(
                f"{self.task.data_name} are not those that the run in {self.workdir} began with: "
                "give it the same ones, or another --workdir"
            )
        self.broken = restored.meta["broken"]
        self._begin(restored.step)
        _log.info("Resuming from the checkpoint of step %d.", restored.step)
        return restored.state, restored.step

    def _begin(self, step: int) -> None:
        if distributed.is_main():
            rundir.write_config(self.workdir, self.config)
            rundir.cut_metrics(self.workdir, step)

    def go(self, stop: StopRequest, profile: tuple[int, int] | None) -> RunResult:
        """Takes all remaining steps, or those before a signal."""
        config, steps = self.config, self.config.training.steps
        if self.step >= steps:
            _log.info("The run in %s has all its %d steps; nothing to do.", self.workdir, self.step)
            if rundir.is_reported(self.workdir, self.step):  # it may have been killed before the end
                return self._result()
            return self._finish(stop)
        pending: list[tuple[int, Metrics]] = []  # fetched at intervals, not at every step
        clock = Clock(config.data.batch_size, self.step)
        last: dict[str, float] | None = None  # of a run that stops before its end
        with (
            contextlib.closing(self._open_progress()) as progress,
            contextlib.closing(self._open_log()) as log,
            self.task.batches(self.step) as batches,
            Trace(self.workdir / rundir.PROFILE, profile) as trace,
            Watchdog(config.training.watchdog_minutes) as watchdog,
        ):
            while self.step < steps and not stop.reached(self.step):
                watchdog.step(self.step)
                trace.before(self.step + 1)
                with clock.waiting(), self._keeping(pending):
                    batch = next(batches)
                self._new_broken += int(np.sum(batch.pop("broken", 0)))
                self.state, metrics = self.task.take_step(self.state, batch, self.step)
                del batch  # it may be workers' shared memory, which must not be referred to at exit
                self.step += 1
                pending.append((self.step, metrics))
                jax.block_until_ready(pending[-_IN_FLIGHT:-1])
                progress.advance()
                trace.after(self.step, self.state)
                if any(map(self._due, _INTERVALS)):
                    row: dict[str, Any] = {**self.task.words(self.step), **self._fetch(pending)}
                    pending.clear()
                    row |= clock.lap(self.step, row.pop(FLOPS, None))
                    with self._keeping([]):
                        self._record(row, log)
                    progress.show(self.step, row)
                    clock.start(self.step)
            if stop.signal is not None:
                last = self._fetch(pending)  # a state that is not finite is never saved
                self._count_broken()
                self._save(None)
        self.checkpointer.wait()
        # A signal that came after the last step, in closing or waiting, is answered there.
        return self._finish(stop) if last is None else self._result(stop.signal, last)

    def _open_progress(self) -> Progress | Silent:
        if not distributed.is_main():
            return Silent()
        return Progress(self.step, self.config.training.steps, self.task.stages())

    def _open_log(self) -> MetricsLog | Silent:
        return MetricsLog(self.workdir, self.step) if distributed.is_main() else Silent()

    def _record(self, row: dict[str, Any], log: MetricsLog | Silent) -> None:
        """Evaluates, logs, saves and draws, as is due at this step."""
        row["learning_rate"] = float(self.schedule(self.step - 1))
        self._count_broken()
        row["data/broken_pictures"] = self.broken
        save = self._due("save_every")
        if save or self._due("eval_every"):
            figures = self.task.evaluate(self.state, self.step)
            row |= {f"validation/{name}": value for name, value in figures.items()}
            require_finite(self.step, row, self.task.metric_groups)
        log.write(self.step, row)
        self._warn_of_collapse(row)
        for callback in self.callbacks:
            callback(self.step, dict(row))
        if save:
            self._save(row["validation/loss"])
        if self._due("image_every"):
            try:
                self._draw(log)
            except Exception as error:  # pictures are to look at: they are not worth a run
                _log.warning("No pictures of step %d: %s: %s", self.step, type(error).__name__, error)

    def _warn_of_collapse(self, row: dict[str, Any]) -> None:
        if not distributed.is_main():
            return
        low = self.collapse.see({"step": self.step, **row})
        for name in low.keys() - self._said:
            _log.warning("%s", warning(self.config, name, low[name]))
        self._said = set(low)

    def _draw(self, log: MetricsLog | Silent) -> None:
        grid = self.task.draw(self.state, self.step)
        if distributed.is_main():
            grids.write_png(self.workdir / rundir.IMAGES / f"{self.step}.png", grid)
        log.write_picture(self.step, self.task.pictures, grid)

    @contextlib.contextmanager
    def _keeping(self, pending: list[tuple[int, Metrics]]) -> Iterator[None]:
        """Saves the steps taken where an error leaves the state whole; one of several processes cannot."""
        try:
            yield
        except NonFiniteError:
            raise
        except Exception:
            if jax.process_count() == 1 and self.step:
                try:
                    self._fetch(pending)  # a state that is not finite is never saved
                    self._count_broken()
                    self._save(None)
                    self.checkpointer.wait()
                except Exception as error:
                    _log.warning("The state of step %d is not saved: %s", self.step, error)
            raise

    def _fetch(self, pending: list[tuple[int, Metrics]]) -> dict[str, float]:
        """Brings metrics to the host and returns the last step's; raises NonFiniteError."""
        return fetch_finite(pending, self.task.metric_groups)

    def _count_broken(self) -> None:
        self.broken += sum(distributed.exchange(self._new_broken))
        self._new_broken = 0

    def _due(self, interval: str) -> bool:
        every = getattr(self.config.training, interval)
        return self.step == self.config.training.steps or self.step % every == 0

    def _save(self, validation_loss: float | None) -> None:
        meta = {"data": self.task.data, "broken": self.broken}
        self.checkpointer.save(self.step, self.state, meta, validation_loss)

    def _finish(self, stop: StopRequest) -> RunResult:
        """Writes the report. A signal leaves it to the next start."""
        try:
            stop.interrupt()
            figures = self.task.report(self.workdir, self.state, self.step, self.command)
        except Stopped as stopped:
            return self._result(stopped.signal)
        # Process 0 writes the report; were the others to exit long before it, jax would end it with them.
        distributed.wait_for_all()
        return self._result(None, figures)

    def _result(self, number: int | None = None, last: dict[str, float] | None = None) -> RunResult:
        """The end of the run: by a signal, if one is given, and with figures newer than those logged."""
        figures: dict[str, float] = {}
        for row in rundir.read_metrics(self.workdir):
            figures |= row
        stopped = None if number is None else f"{signal.Signals(number).name} at step {self.step}"
        return RunResult(self.workdir, self.step, number, Figures(figures | (last or {}), stopped))
