"""Whole processes: SIGTERM while they encode, extract codes or write reports; and runs that cannot meet."""

import importlib
import signal
import time
from pathlib import Path

import pytest
from cli_runs import STEPS, arrays_file, call, pictures, train_arguments, trained_run
from pair_runs import free_port
from PIL import Image
from processes import Forked, finish

from vq_jax.cli.main import main
from vq_jax.runs.rundir import read_metrics

pytestmark = pytest.mark.ci
PRIOR = (
    *("--prior.width", 16, "--prior.num-layers", 1, "--prior.num-heads", 2, "--batch-size", 8),
    *("--steps", 2, "--optimizer.warmup-steps", 0, "--data.image-size", 16),
)


def held_up(arguments, place, reached):
    """Runs `vq-jax` in this process, which waits at a function of the package once it is called."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)

    def wait(*args, **kwargs):
        Path(reached).touch()
        time.sleep(300)

    setattr(owner, name, wait)
    return main(arguments)


def terminated_at(place, tmp_path, *arguments):
    """The message of a command that SIGTERM ends while it is at a function of the package."""
    reached = tmp_path / "reached"
    process = Forked(held_up, [str(part) for part in arguments], place, str(reached))
    try:
        while not reached.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, message = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 143 and "Traceback" not in message, message
    (told,) = [line for line in message.splitlines() if "SIGTERM" in line]
    return told


def test_sigterm_while_encode_works_leaves_no_file(tmp_path):
    (tmp_path / "in").mkdir()
    for number, picture in enumerate(pictures(3, 16, 16)):
        Image.fromarray(picture).save(tmp_path / "in" / f"{number}.png")
    arguments = ("encode", trained_run(), tmp_path / "in", "-o", tmp_path / "codes.npz")
    place = "vq_jax.pretrained.tokenizer:Tokenizer.encode"
    assert terminated_at(place, tmp_path, *arguments) == "vq-jax: interrupted by SIGTERM"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "reached"}
    assert call(*arguments) == 0


def test_sigterm_while_codes_are_extracted_leaves_a_run_that_starts_again(tmp_path):
    run = tmp_path / "prior"
    data = f"arrays:{arrays_file()}"
    arguments = ("train", "prior-fashion", "--tokenizer", trained_run(), "--data", data, *PRIOR)
    told = terminated_at("vq_jax.runs.code_cache:_save", tmp_path, *arguments, "--workdir", run)
    assert told == "vq-jax: interrupted by SIGTERM" and not read_metrics(run)
    assert call(*arguments, "--workdir", run) == 0
    assert (run / "report.md").stat().st_size > 0


def test_sigterm_while_the_report_is_written_leaves_it_to_the_next_start(tmp_path):
    run = tmp_path / "run"
    told = terminated_at("vq_jax.runs.report:write_png", tmp_path, *train_arguments(run))
    assert f"stopped at step {STEPS} by SIGTERM and saved; the same command resumes" in told
    assert not (run / "report.md").exists()
    assert call(*train_arguments(run)) == 0
    assert (run / "report.md").stat().st_size > 0 and len(read_metrics(run)) == STEPS // 2


def joining(run, port, *numbers, of):
    """What processes of these numbers, of a run of so many, are told: exit status and standard error each."""
    processes = [
        Forked(
            main,
            [str(part) for part in train_arguments(run, "--distributed")]
            + ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(of), "--process-id", str(number)],
        )
        for number in numbers
    ]
    return [(status, message) for status, _, message in finish(processes, timeout=100)]


@pytest.mark.parametrize(
    "port, numbers, words",
    [
        (0, (0, 1), "expected a port from 1 to 65535 in --coordinator HOST:PORT, got 0"),
        (None, (0, 1, 1), "two processes have --process-id 1: give each one of its own, from 0"),
    ],
)
def test_processes_that_cannot_meet_are_told_once_each_and_end(port, numbers, words, tmp_path):
    port = free_port() if port is None else port
    for status, message in joining(tmp_path / "run", port, *numbers, of=3):
        assert status == 2 and "Traceback" not in message
        assert message.count("vq-jax: ") == 1 and words in message, message
    assert not (tmp_path / "run").exists()
