"""Figures of a run: TensorBoard's events are to look at, and cost no step."""

import errno
import io
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from etils import epath
from tensorboardX.event_file_writer import EventsWriter

from vq_jax.errors import UserError
from vq_jax.runs import metrics_log
from vq_jax.runs.metrics_log import MetricsLog, Progress
from vq_jax.runs.rundir import read_metrics


def test_events_that_cannot_be_written_are_left_out_and_said_once(tmp_path, monkeypatch, caplog):
    def full(writer, event):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "config.json").touch()
    log = MetricsLog(epath.Path(tmp_path), 0)
    log.write(1, {"loss": 1.0, "phase": "gan"})
    monkeypatch.setattr(EventsWriter, "write_event", full)
    for step in range(2, 40):
        log.write(step, {"loss": 1.0})
        log.write_picture(step, "a", np.zeros((4, 4, 3), np.uint8))
    log.close()
    assert [row["step"] for row in read_metrics(tmp_path)] == list(range(1, 40))
    assert caplog.text.count("events are left out from here on: No space left on device") == 1


def test_events_are_written_without_pytorch_which_can_be_imported_later(tmp_path):
    (tmp_path / "torch.py").write_text("print('imported')")
    (tmp_path / "run").mkdir()
    program = (
        "from etils import epath; from vq_jax.runs.metrics_log import MetricsLog\n"
        f"MetricsLog(epath.Path({str(tmp_path / 'run')!r}), 0).close(); print('written'); import torch"
    )
    command, environment = [sys.executable, "-c", program], {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["written", "imported"], done.stderr
    assert [*(tmp_path / "run").glob("events*")]


def test_a_run_whose_directory_was_removed_says_so(tmp_path):
    (tmp_path / "config.json").touch()
    log = MetricsLog(epath.Path(tmp_path), 0)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=f"{tmp_path} was removed while the run wrote in it"):
        log.write(1, {"loss": 1.0})
    log.close()


def test_the_eta_is_that_of_the_stage_that_runs(monkeypatch):
    clock, out = [0.0], io.StringIO()
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(metrics_log, "progress_stream", lambda: out)
    progress = Progress(0, 1000, stages=(0, 500))

    def take(number, seconds):
        for _ in range(number):
            clock[0] += seconds
            progress.advance()

    def said():
        progress._spoke = -100.0  # else there is one line in ten seconds
        progress.show(progress._step, {"loss": 1.0})
        return out.getvalue().splitlines()[-1].partition("loss 1")[2].strip()

    take(2, 60.0)  # compiles
    assert said() == ""
    take(98, 0.1)
    assert said() == "ETA 00:40 to step 500"
    take(400, 0.1)
    assert said() == ""  # what steps cost with one loss more is not known yet
    take(2, 60.0)
    take(98, 1.0)
    assert said() == "ETA 06:40"
    take(400, 1.0)
    assert progress._step == 1000 and said() == ""
