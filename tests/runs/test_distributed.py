"""Several processes as one run: the numbers of a single one, one set of logs, and mistakes that are told."""

import json
import shutil
import signal
import time

import numpy as np
import pytest
from cli_runs import call, train_arguments
from clip_runs import motion_tokenizer_run
from pair_runs import (
    FEW_STEPS,
    FRAME_PRIOR_FIELDS,
    PRIOR_FIELDS,
    SHARD_ROWS,
    STEPS,
    free_port,
    pair_run,
    rows,
    start,
)
from processes import finish

from vq_jax import data, load
from vq_jax.errors import UserError
from vq_jax.runs import distributed


@pytest.fixture(scope="module")
def pair():
    return pair_run()


@pytest.mark.ci
def test_two_processes_of_two_devices_equal_one_of_four(tmp_path):
    ((status, out, err),) = finish(start(tmp_path / "one", "--steps", FEW_STEPS, processes=1))
    assert status == 0, err
    expected, actual = rows(tmp_path / "one"), rows(pair_run(FEW_STEPS)[0])
    assert len(expected) == FEW_STEPS
    for one, two in zip(expected, actual, strict=True):
        assert one.keys() == two.keys() and one["discriminator/loss"] > 0
        for name, value in one.items():
            tolerance = 1e-4 if name.startswith("validation/") else 1e-5
            if not isinstance(value, str):
                np.testing.assert_allclose(two[name], value, rtol=tolerance, atol=1e-5, err_msg=name)
    assert [name for name in expected[-1] if name.startswith("validation/")]


@pytest.mark.ci
def test_one_process_writes_and_speaks():
    workdir, ((_, first_out, first_err), (_, second_out, second_err)) = pair_run(FEW_STEPS)
    assert [row["step"] for row in rows(workdir)] == list(range(1, FEW_STEPS + 1))
    assert len(list(workdir.glob("events.out.tfevents*"))) == 1
    assert {path.name for path in (workdir / "images").iterdir()} >= {"5.png", "final.png"}
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["4", "5"]
    assert f"{FEW_STEPS} steps, in" in first_err and "Report:" in first_out
    assert "vq-jax" not in second_err and "Report:" not in second_out


@pytest.mark.ci
def test_two_processes_extract_the_codes_of_a_prior_between_them(pair, tmp_path):
    run = tmp_path / "run"
    more = ("--tokenizer", pair[0], "--steps", 2, "--batch-size", 40)  # of pictures encoded together, too
    ends = finish(start(run, *more, fields=PRIOR_FIELDS))
    assert [status for status, *_ in ends] == [0, 0], ends
    assert [row["step"] for row in rows(run)] == [1, 2]
    made = [np.load(path) for path in sorted((run / "codes").glob("codes-*.npy"))]
    assert [len(shard) for shard in made] == [SHARD_ROWS] * 8
    tokenizer = load(pair[0])
    source = data.open_source("fashion", "train", tokenizer.config.data, 1)
    for shard in (0, 1, 7):  # of both processes
        pictures = np.stack([source[SHARD_ROWS * shard + number]["image"] for number in range(40)])
        np.testing.assert_array_equal(made[shard][:40], tokenizer.encode(pictures))


@pytest.mark.ci
def test_a_prior_of_frames_learns_from_the_clips_of_two_processes_as_from_those_of_one(tmp_path):
    more = ("--tokenizer", motion_tokenizer_run(), "--steps", 3)
    runs = {processes: tmp_path / str(processes) for processes in (1, 2)}
    for processes, run in runs.items():
        ends = finish(start(run, *more, fields=FRAME_PRIOR_FIELDS, processes=processes))
        assert [status for status, *_ in ends] == [0] * processes, ends
    expected, actual = (
        [(row["step"], row["loss"], row.get("validation/bits_per_code")) for row in rows(run)]
        for run in runs.values()
    )
    assert len(expected) == 3 and expected[-1][2] is not None
    # sums in another order
    np.testing.assert_allclose(np.array(actual, float), np.array(expected, float), rtol=1e-5)


@pytest.mark.ci
def test_what_one_process_cannot_read_all_leave_and_the_end_is_awaited(pair, tmp_path):
    shutil.copytree(pair[0], tmp_path / "run")
    faults = {"unreadable": (1, STEPS), "slow_report": 5.0}
    ends = finish(start(tmp_path / "run", "--steps", STEPS + 1, **faults))
    assert [status for status, *_ in ends] == [0, 0], ends
    first, second = (err for _, _, err in ends)
    assert f"checkpoint of step {STEPS}: in process 1: its state does not restore: ValueError" in first
    assert f"Resuming from the checkpoint of step {STEPS - 4}." in first and "vq-jax" not in second
    assert (tmp_path / "run" / "checkpoints" / f"{STEPS}.damaged").is_dir()
    assert [row["step"] for row in rows(tmp_path / "run")] == list(range(1, STEPS + 2))
    # from the same state on, so to the same numbers
    assert rows(tmp_path / "run")[: STEPS - 1] == rows(pair[0])[: STEPS - 1]


@pytest.mark.ci
def test_processes_that_do_not_share_their_directory_are_told_before_they_train(tmp_path):
    ends = finish(start(tmp_path / "0", "--workdir", lambda number: tmp_path / str(number), "--steps", 5))
    for status, _, err in ends:
        assert status == 2, err
        assert "expected a --workdir that all processes see" in err and "processes 1 do not find" in err
    assert {path.name for path in (tmp_path / "0").iterdir()} == {"config.json"}


def test_ctrl_c_is_noted_alone_and_stops_where_all_agree(monkeypatch):
    sent, agreed = [], []
    monkeypatch.setattr(distributed.os, "kill", lambda process, number: sent.append(number))
    monkeypatch.setattr(
        distributed.multihost_utils, "reached_preemption_sync_point", lambda step: step in agreed
    )
    with distributed.AgreedStop() as stop:
        assert not stop.reached(1)
        signal.raise_signal(signal.SIGINT)
        # Without a step that is left to agree on, the run ends as it would.
        assert sent == [signal.SIGTERM] and not stop.reached(2) and stop.signal is None
        agreed.append(3)
        assert stop.reached(3) and stop.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with distributed.AgreedStop() as stop:
        assert stop.reached(3) and stop.signal == signal.SIGTERM


@pytest.mark.ci
def test_processes_of_different_configurations_are_told_before_they_train(tmp_path):
    seeds = (lambda number: "--seed", lambda number: 3 + number)
    ends = finish(start(tmp_path / "run", "--steps", 5, *seeds))
    for status, _, err in ends:
        assert status == 2, err
        assert "training.seed: 3 in process 0, 4 in process 1" in err and "Traceback" not in err
    assert not (tmp_path / "run").exists()


@pytest.mark.ci
def test_a_mistake_on_one_process_ends_both_with_it(tmp_path):
    source = (
        lambda number: "--data",
        lambda number: f"arrays:{tmp_path / 'absent.npz'}" if number else "fashion",
    )
    ends = finish(start(tmp_path / "run", "--steps", 5, *source))
    assert [status for status, *_ in ends] == [2, 2], ends
    assert all("absent.npz" in err for _, _, err in ends)
    assert "process 1:" in ends[0][2] and not (tmp_path / "run").exists()


def test_an_unreachable_coordinator_is_told_within_the_timeout():
    began = time.monotonic()
    with pytest.raises(UserError, match=r"the coordinator 127.0.0.1:\d+ was not reached within 1 s"):
        distributed.start(f"127.0.0.1:{free_port()}", 2, 1, timeout=1)
    assert time.monotonic() - began < 10


def test_without_a_cluster_the_coordinator_is_asked_for(tmp_path):
    ((status, _, err),) = finish(start(tmp_path / "run", "--distributed", processes=1))
    assert status == 2 and "give --coordinator HOST:PORT, --num-processes N and --process-id I" in err


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            ("--distributed", "--coordinator", "localhost:1234"),
            "without --num-processes and --process-id the processes",
        ),
        (("--coordinator", "localhost:1234"), "are for --distributed: give it too"),
        (
            ("--distributed", "--coordinator", "here", "--num-processes", 2, "--process-id", 0),
            "expected --coordinator HOST:PORT, got 'here'",
        ),
        (
            ("--distributed", "--coordinator", "here:80", "--num-processes", 2, "--process-id", 2),
            "expected --process-id from 0 to 1",
        ),
    ],
)
def test_wrong_flags_are_told(flags, message, tmp_path, capsys):
    assert call(*train_arguments(tmp_path / "run", *flags)) == 2
    assert message in capsys.readouterr().err


def test_what_processes_exchange_of_one_is_its_own():
    assert distributed.exchange({"a": [1, None]}) == [json.loads('{"a": [1, null]}')]
    with pytest.raises(UserError, match="here"):
        distributed.together(lambda: (_ for _ in ()).throw(UserError("here")))
