"""Compiled programs are kept on disk by the command line, where and only where they may be."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vq_jax.host.compilation import VARIABLE, keep_compiled_programs

ROOT = Path(__file__).parents[2]
RUN = (
    *("-m", "vq_jax.cli.main", "train", "vqvae-fashion-mlp"),
    *("--model.hidden-features", "8", "--model.num-latents", "2", "--model.codebook-size", "8"),
    *("--batch-size", "4", "--data.test-limit", "4", "--steps", "2", "--training.mesh-data", "1"),
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's cache directory, and no setting of jax's."""
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def train(workdir):
    """The program's output on its second stream, of a run as a user starts it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu"}
    # All programs are kept: else small ones are where they took a second, which under load comes and goes.
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    command = [sys.executable, *RUN, "--workdir", str(workdir)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.ci
def test_the_second_run_reads_the_programs_of_the_first_and_says_nothing_of_it(home, tmp_path):
    def kept():
        return {path: path.stat().st_mtime_ns for path in (home / "vq_jax" / "xla").glob("*-cache")}

    messages = [train(tmp_path / "first")]
    programs = kept()
    assert any("step" in path.name for path in programs)
    messages.append(train(tmp_path / "second"))
    assert programs == kept()
    for message in messages:
        assert all(line.startswith(("vq-jax: ", "step ")) for line in message.splitlines()), message


def test_jaxs_own_switch_turns_it_off(home, monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "False")
    assert keep_compiled_programs() is None and VARIABLE not in os.environ


def test_a_cache_directory_that_cannot_be_made_is_left_out(home):
    home.write_text("a file")
    assert keep_compiled_programs() is None and VARIABLE not in os.environ


def test_a_cache_directory_that_cannot_be_written_is_left_out(home, monkeypatch):
    home.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != home)
    assert keep_compiled_programs() is None and VARIABLE not in os.environ


def test_another_directory_named_by_jaxs_variable_is_kept(home, monkeypatch):
    monkeypatch.setenv(VARIABLE, "/elsewhere")
    assert keep_compiled_programs() is None and os.environ[VARIABLE] == "/elsewhere"


@pytest.mark.parametrize("named", ["", "relative"])
def test_without_an_absolute_cache_home_it_is_below_the_users(home, tmp_path, monkeypatch, named):
    monkeypatch.setenv("XDG_CACHE_HOME", named)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keep_compiled_programs() == tmp_path / ".cache" / "vq_jax" / "xla"
    monkeypatch.delenv(VARIABLE)  # what the call had set


def test_programs_older_than_a_month_are_removed(home, monkeypatch):
    directory = home / "vq_jax" / "xla"
    directory.mkdir(parents=True)
    for name, days in (("jit_old-cache", 31), ("jit_new-cache", 29), ("notes.txt", 100)):
        (directory / name).write_text(name)
        os.utime(directory / name, (time.time() - days * 24 * 3600,) * 2)
    assert keep_compiled_programs() == directory
    assert {path.name for path in directory.iterdir()} == {"jit_new-cache", "notes.txt"}
    monkeypatch.delenv(VARIABLE)
