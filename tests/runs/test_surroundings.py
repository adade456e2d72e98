"""Runs under what surrounds them: streams that are closed or break, signals, other locales, no home."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_runs import STEPS, call, train_arguments
from processes import Forked

from vq_jax.cli.main import main
from vq_jax.host import interruption, streams

PROGRAM = [sys.executable, "-c", "import sys; from vq_jax.cli import program; sys.exit(program())"]


@pytest.fixture(autouse=True)
def heard():
    """A hangup is not ignored, as it is where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def steps_of(run):
    path = Path(run) / "metrics.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


def assert_whole(run):
    """The run has all its steps, a checkpoint of the last and its report."""
    assert steps_of(run)[-1] == STEPS and (run / "checkpoints" / str(STEPS)).is_dir()
    assert (run / "report.md").stat().st_size > 0


def with_streams(arguments, end, names):
    """Runs `vq-jax` in this process with some of its standard streams ended."""
    for name in names:
        number = {"stdout": 1, "stderr": 2}[name]
        if end == "closed":
            os.close(number)
            setattr(sys, name, None)
        elif end == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), number)
        else:  # a pipe that nobody reads any more
            reading, writing = os.pipe()
            os.close(reading)
            os.dup2(writing, number)
    streams.fill_closed_streams()
    return main(arguments)


@pytest.mark.ci
@pytest.mark.parametrize("end", ["closed", "full", "left"])
@pytest.mark.parametrize("names", [["stdout"], ["stderr"], ["stdout", "stderr"]], ids="+".join)
def test_a_run_that_cannot_speak_goes_on(end, names, tmp_path):
    run = tmp_path / "run"
    process = Forked(with_streams, [str(part) for part in train_arguments(run)], end, names)
    _, message = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in message, message
    assert_whole(run)


@pytest.mark.ci
def test_a_hangup_saves_the_run_as_sigterm_does(tmp_path):
    run = tmp_path / "run"
    process = Forked(main, [str(part) for part in train_arguments(run, "--steps", 10**6)])
    try:
        while not (run / "checkpoints").is_dir() or not steps_of(run):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGHUP)
        _, message = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 129, message
    assert "by SIGHUP and saved; the same command resumes from there" in message
    assert (run / "checkpoints" / str(steps_of(run)[-1])).is_dir() or os.listdir(run / "checkpoints")


def programs(*arguments, **options):
    environment = {**os.environ, **options.pop("environment", {})}
    for name in options.pop("without", ()):
        environment.pop(name, None)
    return subprocess.run(
        [*options.pop("program", PROGRAM), *map(str, arguments)],
        env=environment,
        capture_output=True,
        timeout=240,
        **options,
    )


ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.ci
@pytest.mark.parametrize(
    "options",
    [
        {"environment": ASCII},
        {"program": [sys.executable, "-O", *PROGRAM[1:]]},
        {"program": [sys.executable, "-OO", *PROGRAM[1:]]},
        {"without": ("HOME", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR")},
        {"environment": {"TERM": "dumb"}, "stdin": subprocess.DEVNULL, "start_new_session": True},
    ],
    ids=["LANG=C", "python -O", "python -OO", "no HOME", "no terminal"],
)
def test_a_run_is_made_and_resumed_wherever_it_starts(options, tmp_path):
    run = tmp_path / "lauf ä"
    for steps in (STEPS - 2, STEPS):
        done = programs(*train_arguments(run, "--steps", steps), **dict(options))
        assert done.returncode == 0, done.stderr.decode()
        assert b"Traceback" not in done.stderr
    assert f"Resuming from the checkpoint of step {STEPS - 2}".encode() in done.stderr
    assert_whole(run)


@pytest.mark.ci
@pytest.mark.parametrize("option", ["-O", "-OO"])
def test_help_is_the_same_without_assertions_and_docstrings(option):
    for arguments in (["--help"], ["train", "--help"], ["encode", "--help"]):
        done = programs(*arguments, program=[sys.executable, option, *PROGRAM[1:]])
        assert done.returncode == 0 and len(done.stdout) > 200, done.stderr.decode()


@pytest.mark.ci
def test_a_backend_that_is_absent_is_one_line(tmp_path):
    environment = {"JAX_PLATFORMS": "cuda"}
    done = programs(*train_arguments(tmp_path / "run"), environment=environment)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 2 and "JAX_PLATFORMS=cuda" in lines[-1] and len(lines) <= 3, lines


SLOW_IMPORT = """
import builtins, time
original = builtins.__import__
def slow(name, *arguments, **keywords):
    if name == "vq_jax.cli.main":
        print("here", flush=True)
        time.sleep(30)
    return original(name, *arguments, **keywords)
builtins.__import__ = slow
from vq_jax.cli import program
program()
"""
STATUSES = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.ci
@pytest.mark.parametrize("number, status", STATUSES)
def test_a_signal_in_the_imports_ends_the_program_and_says_so(number, status):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_IMPORT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "here\n"
    process.send_signal(number)
    _, message = process.communicate(timeout=20)
    assert process.returncode == status
    assert message == f"vq-jax: ended at once by {signal.Signals(number).name}\n"


def test_a_stream_that_fails_is_forgiven_and_then_silent(tmp_path):
    with open("/dev/full", "w") as full:
        out = streams.Forgiving(full)
        print("a word", file=out, flush=True)
        print("another", file=out, flush=True)
        assert not out.isatty()
    for none in (streams.Forgiving(None), streams.Forgiving(full)):
        print("nothing", file=none, flush=True)
        assert not none.isatty()
    main_side, own = pty.openpty()
    with open(own, "w") as terminal:
        assert streams.Forgiving(terminal).isatty()
        os.close(main_side)  # it hangs up
        print("a word", file=streams.Forgiving(terminal), flush=True)


@pytest.mark.parametrize("number, status", STATUSES)
def test_a_signal_outside_the_steps_ends_a_command_with_one_line(number, status, monkeypatch, capsys):
    monkeypatch.setattr("vq_jax.cli.train.train", lambda arguments: signal.raise_signal(number))
    before = [signal.getsignal(other) for other in interruption.SIGNALS]
    assert main(["train"]) == status
    assert capsys.readouterr().err == f"vq-jax: interrupted by {signal.Signals(number).name}\n"
    assert [signal.getsignal(other) for other in interruption.SIGNALS] == before


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruption.stopping():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def interrupted_thrice():
    with interruption.stopping(), contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with interruption.stopping():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)


def test_a_signal_while_another_is_answered_ends_at_once_and_says_so():
    process = Forked(interrupted_thrice)
    _, message = process.communicate(timeout=60)
    assert (process.returncode, message) == (130, "vq-jax: ended at once by SIGINT\n")


def test_the_last_words_of_a_command_that_cannot_be_said_are_one_line(monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert call("--version") == 1
    assert "cannot write to standard output: No space left on device" in capsys.readouterr().err
