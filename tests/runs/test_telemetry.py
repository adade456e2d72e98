"""What a run tells of its speed, the trace of its steps, the watchdog, and no hidden transfers."""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from processes import Forked, finish
from runs import small_config

from vq_jax.errors import UserError
from vq_jax.runs import telemetry, watchdog
from vq_jax.runs.rundir import read_metrics
from vq_jax.train import jit, sharding, train
from vq_jax.train.tasks import tokenizer as tokenizer_task


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """A short run with a trace, whose every step may move nothing between host and device unasked."""
    workdir = tmp_path_factory.mktemp("profiled")
    original = tokenizer_task.TokenizerTask.take_step

    def take_step(self, *inputs):
        with jax.transfer_guard("disallow"):
            return original(self, *inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer_task.TokenizerTask, "take_step", take_step)
        train(small_config(steps=4), workdir, profile=(2, 3))
    return workdir


def test_rows_tell_rates_a_device_and_compilation_and_on_cpu_no_use_of_a_chip(profiled):
    for row in read_metrics(profiled):
        rate = row["time/images_per_second"] / jax.device_count()
        assert row["time/images_per_second_per_device"] == pytest.approx(rate)
        assert row["time/compile_seconds"] > 0
        assert "time/model_flops_utilisation" not in row and telemetry.FLOPS not in row


def test_a_trace_of_the_steps_asked_for_is_in_the_run_directory(profiled):
    assert list((profiled / "profile").rglob("*.xplane.pb"))


def test_the_guard_would_see_a_hidden_transfer():
    add = jax.jit(lambda x: x + jnp.ones(3))
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match="Disallowed host-to-device"):
        add(np.zeros(3, np.float32))


@pytest.mark.parametrize("text", ["5", "5:", ":5", "0:3", "5:4", "a:b", "1:2:3"])
def test_a_profile_that_is_no_pair_of_steps_is_refused(text):
    with pytest.raises(UserError, match="expected --profile START:STOP"):
        telemetry.parse_profile(text)


def test_a_trace_that_the_run_ends_in_is_still_written(tmp_path):
    assert telemetry.parse_profile("10:15") == (10, 15)
    with telemetry.Trace(epath.Path(tmp_path), (1, 9)) as trace:
        trace.before(1)
        trace.after(1, jnp.zeros(()))
    assert list(tmp_path.rglob("*.xplane.pb"))


@pytest.mark.parametrize(
    "kind, peak",
    [("TPU v5 lite", 197e12), ("TPU v5p", 459e12), ("TPU v5", 459e12), ("TPU v6e", 918e12), ("cpu", None)]
    + [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-40GB", 312e12)],
)
def test_peaks_are_found_by_the_longest_name(kind, peak):
    assert telemetry.peak_flops(kind) == peak


def test_use_of_a_chip_is_counted_operations_over_time_and_peak(monkeypatch):
    monkeypatch.setattr(telemetry, "peak_flops", lambda kind: 1e9)
    matrix = jnp.ones((64, 64))
    step = telemetry.count_flops(jax.jit(lambda state: (state @ matrix, {"loss": jnp.zeros(())})))
    _, metrics = step(matrix)
    assert metrics[telemetry.FLOPS] == pytest.approx(2 * 64**3, rel=0.1)

    def parted(state):
        return jax.lax.scan(lambda s, _: (s @ matrix, None), state, length=5)[0], {"loss": jnp.zeros(())}

    _, metrics = telemetry.count_flops(jax.jit(parted), rounds=5)(matrix)
    assert metrics[telemetry.FLOPS] == pytest.approx(5 * 2 * 64**3, rel=0.1)
    now = iter([100.0, 102.0])
    monkeypatch.setattr(telemetry.time, "monotonic", lambda: next(now))
    clock = telemetry.Clock(8, 0)
    figures = clock.lap(4, 5e8)
    assert figures["time/model_flops_utilisation"] == pytest.approx(4 * 5e8 / 2.0 / 1e9)
    assert figures["time/images_per_second"] == 16.0


@pytest.mark.parametrize("fsdp", [1, 2])
def test_the_steps_of_runs_are_counted(fsdp, monkeypatch):
    monkeypatch.setattr(telemetry, "peak_flops", lambda kind: 1e9)
    mesh = sharding.make_mesh(-1, fsdp)
    whole = sharding.replicated(mesh)
    step = jit.jit_update(mesh, lambda state: (state @ state, {"loss": jnp.zeros(())}))
    _, metrics = step(jax.device_put(jnp.ones((64, 64)), whole))
    assert metrics[telemetry.FLOPS] == pytest.approx(2 * 64**3, rel=0.1)


def test_memory_is_that_of_the_fullest_device_in_gib(monkeypatch):
    class Device:
        def __init__(self, used):
            self.used = used

        def memory_stats(self):
            return {"bytes_in_use": self.used, "peak_bytes_in_use": 2 * self.used}

    monkeypatch.setattr(jax, "local_devices", lambda: [Device(2**30), Device(2**31)])
    assert telemetry._memory() == {"time/hbm_gib": 2.0, "time/hbm_peak_gib": 4.0}


def train_until_it_hangs(workdir):
    """Trains; no batch ever comes to the devices."""

    def shard_local_batch(batch, mesh):
        time.sleep(600)

    sharding.shard_local_batch = shard_local_batch
    train(small_config(watchdog_minutes=0.02), workdir)


def test_a_step_that_hangs_ends_the_run_with_its_stacks_and_a_status_of_its_own(tmp_path):
    ((status, _, words),) = finish([Forked(train_until_it_hangs, str(tmp_path / "run"))], timeout=300)
    assert status == watchdog.STATUS == 124, words
    assert "step 1 took longer than training.watchdog_minutes = 0.02" in words
    assert "in shard_local_batch" in words and "in __next__" in words


def test_the_watchdog_leaves_a_run_alone_that_goes_on(tmp_path):
    with watchdog.Watchdog(0.02) as dog:
        dog._closed.wait(0.5)
        dog.step(1)
        dog._closed.wait(0.9)  # longer than the limit only together


def test_a_negative_limit_is_refused():
    with pytest.raises(ValueError, match="training.watchdog_minutes must be at least 0"):
        dataclasses.replace(small_config().training, watchdog_minutes=-1.0)
