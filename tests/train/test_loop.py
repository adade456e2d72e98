"""The run: what it writes, that it resumes to the bit, that it stops where it must."""

import dataclasses
import json
import os
import shutil
import signal
import threading
import time

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image
from processes import Forked, finish
from runs import (
    STEPS,
    finished_run,
    poison,
    rows_of,
    shared_memory,
    small_config,
    state_of,
    train_until_killed,
)

from vq_jax import nn
from vq_jax.configs import Phase
from vq_jax.data import BatchIterator
from vq_jax.errors import UserError
from vq_jax.runs.lock import locked
from vq_jax.runs.metrics_log import MetricsLog
from vq_jax.runs.rundir import cut_metrics, read_config, read_metrics
from vq_jax.train import NonFiniteError, jit, train
from vq_jax.train.tasks import tokenizer as tokenizer_task
from vq_jax.train.tasks.base import open_task


@pytest.fixture(scope="session")
def finished():
    return finished_run()


def assert_same_run(workdir, other):
    assert rows_of(workdir) == rows_of(other)
    (step, state), (other_step, other_state) = (state_of(place, small_config()) for place in (workdir, other))
    assert step == other_step and state.keys() == other_state.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], other_state[name], err_msg=name)


def test_a_run_writes_all_that_a_run_directory_holds(finished):
    names = {path.name for path in finished.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "images", "report.md"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    images = {path.name for path in (finished / "images").iterdir()}
    assert images == {"6.png", "12.png", "final.png", "loss.png", "code-usage.png"}
    with Image.open(finished / "images" / "final.png") as picture:
        # five pictures of 24 x 24 side by side, five times as large, each above its reconstruction
        assert picture.size == (5 * (5 * 24) + 4 * 4, 2 * (5 * 24) + 4)
    report = (finished / "report.md").read_text()
    assert "dB, SSIM" in report and "of 16 codes are used" in report
    assert "pictures to train on" in report and "held out" in report and "The steps took 0:0" in report
    for target in ("images/loss.png", "images/final.png", "images/code-usage.png"):
        assert target in report


def test_rows_have_training_validation_and_timing_figures(finished):
    rows = read_metrics(finished)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    for name in ("loss", "reconstruction_loss", "perplexity", "usage", "revived", "learning_rate"):
        assert all(name in row for row in rows)
    assert [row["step"] for row in rows if "validation/psnr" in row] == [4, 8, 12]
    assert all(0.0 <= row["time/data_wait"] <= 1.0 for row in rows)


def test_the_host_waits_for_the_step_before_the_last(tmp_path, monkeypatch):
    waited = []
    original = jax.block_until_ready

    def wait(tree):
        if isinstance(tree, list):
            waited.append([step for step, _ in tree])
        return original(tree)

    monkeypatch.setattr(jax, "block_until_ready", wait)
    train(small_config(steps=4, log_every=4), tmp_path)
    assert waited == [[], [1], [2], [3]]


def test_an_error_of_the_data_ends_the_run_at_the_step_that_needs_them(tmp_path, monkeypatch):
    class Ending(BatchIterator):
        def __next__(self):
            if self.position == 5:
                raise UserError("no more pictures")
            return super().__next__()

    monkeypatch.setattr("vq_jax.data.pipeline.BatchIterator", Ending)
    with pytest.raises(UserError, match="no more pictures"):
        train(small_config(), tmp_path)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]
    monkeypatch.undo()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_a_run_with_workers_is_the_same_and_holds_none_of_their_memory_at_its_end(finished, tmp_path):
    config = small_config()
    train(dataclasses.replace(config, data=dataclasses.replace(config.data, num_workers=1)), tmp_path)
    end = time.monotonic() + 5
    while shared_memory() and time.monotonic() < end:
        time.sleep(0.05)  # of batches that were on their way
    assert not shared_memory()
    assert rows_of(tmp_path) == rows_of(finished)


def test_checkpoints_kept_are_the_newest_two_and_the_best(finished):
    steps = sorted(int(path.name) for path in (finished / "checkpoints").iterdir())
    losses = {
        row["step"]: row["validation/loss"] for row in read_metrics(finished) if "validation/loss" in row
    }
    assert steps == sorted({8, 12, min(losses, key=losses.get)})


def test_tensorboard_has_the_same_scalars_and_the_pictures(finished):
    from tensorboardX.proto import event_pb2
    from tensorboardX.record_writer import RecordWriter  # noqa: F401  the format is the writer's

    tags = set()
    for path in finished.glob("events.out.tfevents*"):
        data, place = path.read_bytes(), 0
        while place < len(data):
            size = int.from_bytes(data[place : place + 8], "little")
            event = event_pb2.Event.FromString(data[place + 12 : place + 12 + size])
            tags |= {value.tag for value in event.summary.value}
            place += 16 + size
    assert {"loss", "perplexity", "validation/psnr", "reconstructions"} <= tags


def test_a_finished_run_started_again_does_nothing(finished, tmp_path, caplog):
    finished = shutil.copytree(finished, tmp_path / "run")
    before = (finished / "metrics.jsonl").read_bytes()
    with caplog.at_level("INFO", logger="vq_jax"):
        result = train(small_config(image_every=6), finished)
    assert result.step == STEPS and "nothing to do" in caplog.text
    assert (finished / "metrics.jsonl").read_bytes() == before
    (finished / "report.md").unlink()  # as if killed between the last save and the report
    assert train(small_config(image_every=6), finished).figures["test/psnr"] > 0
    assert (finished / "report.md").exists()


@pytest.mark.parametrize(
    "point",
    [
        "during-save",
        *(pytest.param(point, marks=pytest.mark.ci) for point in ("before-save", "before-rename")),
    ],
)
def test_a_run_killed_at_a_save_resumes_to_the_same_bits(point, finished, tmp_path):
    ((status, _, err),) = finish([Forked(train_until_killed, str(tmp_path), point)])
    assert status == -signal.SIGKILL, err
    assert [path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()] == ["4"]
    result = train(small_config(), tmp_path)
    assert result.step == STEPS
    assert_same_run(tmp_path, finished)
    assert not [path for path in (tmp_path / "checkpoints").iterdir() if not path.name.isdigit()]


@pytest.mark.ci  # test_kinds.py stops this run at another step
@pytest.mark.parametrize("stop_at", [3, 4, 7])
def test_a_run_stopped_by_a_signal_saves_and_resumes_to_the_same_bits(
    stop_at, finished, tmp_path, monkeypatch
):
    original = tokenizer_task.TokenizerTask.take_step

    def take_step(task, state, batch, step):
        if step + 1 == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(task, state, batch, step)

    monkeypatch.setattr(tokenizer_task.TokenizerTask, "take_step", take_step)
    result = train(small_config(), tmp_path)
    assert result.signal == signal.SIGTERM and result.step == stop_at
    assert state_of(tmp_path, small_config())[0] == stop_at
    monkeypatch.undo()
    assert train(small_config(), tmp_path).step == STEPS
    # a stop between two logged steps adds no row; here every step is logged
    assert_same_run(tmp_path, finished)


def test_a_report_that_a_signal_stops_is_written_at_the_next_start(finished, tmp_path, monkeypatch):
    run = shutil.copytree(finished, tmp_path / "run")
    left = "# of the run when it was shorter, 4 steps\n"
    (run / "report.md").write_text(left)
    stop = lambda *inputs: signal.raise_signal(signal.SIGTERM)  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(tokenizer_task.TokenizerTask, "report", stop)
        result = train(small_config(image_every=6), run)
    assert result.signal == signal.SIGTERM and result.step == STEPS
    assert (run / "report.md").read_text() == left
    assert train(small_config(image_every=6), run).signal is None
    assert (run / "report.md").read_text() == (finished / "report.md").read_text()


def test_a_second_run_in_the_directory_is_refused_before_it_writes(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with locked(run):
        held = {*before, run / ".lock"}
        with pytest.raises(UserError, match=f"in use: process {os.getpid()} on "):
            train(small_config(image_every=6, steps=STEPS + 1), run)
        assert {*run.rglob("*")} == held
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_signal_while_the_last_save_ends_leaves_the_report_to_the_next_start(tmp_path, monkeypatch):
    close = MetricsLog.close

    def signalled(log):
        os.kill(os.getpid(), signal.SIGTERM)
        close(log)

    monkeypatch.setattr(MetricsLog, "close", signalled)
    config = small_config(steps=2, save_every=2, eval_every=2)
    result = train(config, tmp_path)
    assert (result.step, result.signal) == (2, signal.SIGTERM)
    assert (tmp_path / "checkpoints" / "2").is_dir() and not (tmp_path / "report.md").exists()
    monkeypatch.undo()
    assert train(config, tmp_path).figures["test/psnr"] > 0


def test_rows_past_the_checkpoint_and_a_torn_line_are_cut(finished, tmp_path):
    train(small_config(steps=4), tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 5, "loss": 7.0}) + "\n" + '{"step": 6, "lo')
    train(small_config(), tmp_path)
    assert rows_of(tmp_path) == rows_of(finished)


def test_rows_that_cannot_be_cut_are_all_kept(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in range(6)))
    before = path.read_text()
    monkeypatch.setattr(os, "fsync", lambda number: os.write(-1, b""))
    with pytest.raises(OSError, match="Bad file descriptor"):
        cut_metrics(epath.Path(tmp_path), 4)
    assert path.read_text() == before and os.listdir(tmp_path) == [path.name]


def test_a_non_finite_loss_stops_the_run_names_step_and_metric_and_keeps_the_last_good_checkpoint(
    tmp_path, monkeypatch
):
    poison(monkeypatch, "loss", float("nan"), step=6)
    with pytest.raises(NonFiniteError, match="loss is nan at step 6"):
        train(small_config(log_every=100), tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["4"]


def test_the_three_phases_run_in_turn_and_kmeans_fits_the_codebook(tmp_path):
    config = dataclasses.replace(
        small_config(steps=9, eval_every=3, save_every=3, keep_checkpoints=3),
        phases=(Phase("autoencoder", 3), Phase("codebook", 3, kmeans_batches=2), Phase("joint")),
    )
    train(config, tmp_path)
    rows = read_metrics(tmp_path)
    assert [row["phase"] for row in rows] == ["autoencoder"] * 3 + ["codebook"] * 3 + ["joint"] * 3
    assert "perplexity" not in rows[2] and rows[3]["usage"] > 0.5
    from vq_jax.runs.checkpoint import Checkpointer

    model = tokenizer_task.build_model(config)
    with Checkpointer(tmp_path / "checkpoints", keep=3, read_only=True) as checkpointer:
        target = tokenizer_task.abstract_state(config, model)
        states = [checkpointer.restore(step, target).state.generator for step in (3, 6, 9)]

    def same(a, b):
        import jax

        return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))

    first, second, third = states
    assert float(np.asarray(first.codebook["quantizer"]["cluster_size"]).sum()) == 0.0
    assert same(first.params, second.params) and not same(first.codebook, second.codebook)
    assert not same(second.params, third.params) and not same(second.codebook, third.codebook)
    resumed = tmp_path / "resumed"
    train(
        dataclasses.replace(config, training=dataclasses.replace(config.training, steps=7)),
        resumed,
    )
    train(config, resumed)
    assert [row["loss"] for row in read_metrics(resumed)] == [row["loss"] for row in rows]


def test_the_perceptual_loss_joins_a_run_at_its_start_and_that_is_said(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "vq_jax")
    weights, make = [], jit.jit_train_step

    def jit_train_step(mesh, *, losses, **options):
        plain = dataclasses.replace(losses, perceptual_weight=0.0)  # the network itself is not run here
        step = make(mesh, losses=plain, **options)

        def take(*inputs):
            weights.append(losses.perceptual_weight)
            return step(*inputs)

        take.eval_shape = step.eval_shape
        return take

    monkeypatch.setattr(jit, "jit_train_step", jit_train_step)
    load = nn.load_lpips  # the report asks for another backbone's
    monkeypatch.setattr(nn, "load_lpips", lambda backbone, *file: {} if backbone == "vgg" else load(backbone))
    config = small_config(steps=6, save_every=3)
    losses = dataclasses.replace(config.losses, perceptual_weight=0.5, perceptual_start=0.67)
    train(dataclasses.replace(config, losses=losses), tmp_path)
    assert weights == [0.0] * 4 + [0.5] * 2
    assert read_config(tmp_path).losses.perceptual_start == 4
    assert "Step 5: the perceptual loss joins." in caplog.text
    late = dataclasses.replace(losses, perceptual_start=6)
    open_task(dataclasses.replace(config, losses=late), epath.Path(tmp_path))
    assert "losses.perceptual_start = 6 is not below training.steps = 6" in caplog.text


@pytest.mark.parametrize("failing", ["evaluate", "batches"])
def test_an_error_beside_the_steps_costs_none_of_those_taken(failing, tmp_path, monkeypatch):
    class Ending(BatchIterator):
        def __next__(self):
            if self.position == 6:
                raise RuntimeError("broken")
            return super().__next__()

    def evaluate(task, state, step):
        if step == 6:
            raise RuntimeError("broken")
        return {"loss": 1.0}

    if failing == "batches":
        monkeypatch.setattr("vq_jax.data.pipeline.BatchIterator", Ending)
    else:
        monkeypatch.setattr(tokenizer_task.TokenizerTask, "evaluate", evaluate)
    with pytest.raises(RuntimeError, match="broken"):
        train(small_config(eval_every=6), tmp_path)
    assert (tmp_path / "checkpoints" / "6").exists()


def test_pictures_that_cannot_be_drawn_are_named_and_the_run_goes_on(tmp_path, monkeypatch, caplog):
    def draw(task, state, step):
        assert (tmp_path / "checkpoints").exists()
        raise RuntimeError("no canvas")

    monkeypatch.setattr(tokenizer_task.TokenizerTask, "draw", draw)
    assert train(small_config(steps=2, eval_every=2, image_every=1), tmp_path).step == 2
    assert "No pictures of step 1: RuntimeError: no canvas" in caplog.text
    assert (tmp_path / "checkpoints" / "2").exists()
