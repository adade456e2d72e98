"""Two processes of one run that are stopped and killed: both save, neither hangs, nothing is lost."""

import signal
import time

import numpy as np
import pytest
from pair_runs import STEPS, pair_run, rows, start
from processes import finish

from vq_jax.pretrained.build import build_model
from vq_jax.runs.checkpoint import Checkpointer
from vq_jax.runs.digest import leaf_names
from vq_jax.runs.rundir import read_config
from vq_jax.train.tasks.tokenizer import abstract_state

SLOW = 0.6  # seconds a step: longer than it takes to look at the rows


def saved(workdir):
    """Steps of the whole checkpoints, oldest first."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())


def arrays(workdir):
    """Step and arrays of the newest checkpoint."""
    config = read_config(workdir)
    with Checkpointer(workdir / "checkpoints", read_only=True) as checkpointer:
        restored = checkpointer.restore_latest(abstract_state(config, build_model(config)))
    return restored.step, {name: np.asarray(leaf) for name, leaf in leaf_names(restored.state).items()}


def start_until(workdir, step, limit=600):
    """Starts the slow run and returns its processes once they have written the row of a step."""
    before = rows(workdir)  # of processes that were killed: cut down to the checkpoint that is gone on from
    processes = start(workdir, "--steps", STEPS, slow=SLOW)
    end = time.monotonic() + limit
    while (now := rows(workdir)) == before or not any(row["step"] >= step for row in now):
        if time.monotonic() > end or any(process.poll() is not None for process in processes):
            for process in processes:
                process.kill()
            pytest.fail(f"step {step} was not reached: {finish(processes)}")
        time.sleep(0.05)
    return processes


@pytest.mark.ci
def test_processes_that_are_stopped_and_killed_lose_nothing_and_end_with_the_same_bits(tmp_path):
    workdir = tmp_path / "run"

    # SIGTERM to the one that is not the coordinator: both save the same step.
    processes = start_until(workdir, 2)
    processes[1].send_signal(signal.SIGTERM)
    ends = finish(processes)
    assert [status for status, *_ in ends] == [143, 143], ends
    stopped = saved(workdir)[-1]
    assert stopped == rows(workdir)[-1]["step"] < STEPS
    assert f"stopped at step {stopped} by SIGTERM and saved" in ends[0][2]

    # SIGKILL to either: the other ends too, with an error, and goes on from the newest whole checkpoint.
    for victim in (1, 0):
        newest = saved(workdir)[-1]
        processes = start_until(workdir, newest + 1)
        processes[victim].kill()
        began = time.monotonic()
        ends = finish(processes, timeout=60)
        assert time.monotonic() - began < 60
        assert ends[victim][0] == -signal.SIGKILL and ends[1 - victim][0] not in (0, 143), ends
        assert f"Resuming from the checkpoint of step {newest}." in ends[0][2]
        assert saved(workdir)[-1] >= newest

    ends = finish(start(workdir, "--steps", STEPS))
    assert [status for status, *_ in ends] == [0, 0], ends
    reference, _ = pair_run()
    assert rows(workdir) == rows(reference)
    (step, state), (other_step, other) = arrays(workdir), arrays(reference)
    assert step == other_step == STEPS and state.keys() == other.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], other[name], err_msg=name)
    assert not [path for path in (workdir / "checkpoints").iterdir() if not path.name.isdigit()]


@pytest.mark.ci
def test_a_disk_that_fills_in_a_save_ends_both_and_leaves_the_last_whole_checkpoint(tmp_path):
    ends = finish(start(tmp_path, "--steps", STEPS, full_disk=(0, "during-save")), timeout=120)
    assert all(status not in (0, 143) for status, *_ in ends), ends
    told = ends[0][2]
    assert "checkpoint of step 8: not saved" in told and "no space left on device" in told, ends
    assert "The checkpoint of step 4 is whole" in told
    assert saved(tmp_path) == [4]
