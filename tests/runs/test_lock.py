"""One process writes in a run directory: a second one is told of the first, what was left is taken over."""

import errno
import json
import os
import signal
import socket
import time

import pytest
from processes import Forked, finish

from vq_jax.errors import UserError
from vq_jax.runs import lock


def hold(directory, seconds):
    with lock.locked(directory):
        time.sleep(seconds)


def until_held(directory):
    process = Forked(hold, str(directory), 60)
    while process.pid not in [
        lock._owner(str(directory / ".lock")).get("process"),
        process.poll() and process.pid,
    ]:
        time.sleep(0.02)
    return process


def test_a_second_process_is_refused_and_told_of_the_first_until_that_has_ended(tmp_path):
    first = until_held(tmp_path)
    with pytest.raises(UserError, match=f"in use: process {first.pid} on {socket.gethostname()} has written"):
        lock.locked(tmp_path).__enter__()
    first.send_signal(signal.SIGKILL)  # leaves its file
    finish([first])
    assert os.listdir(tmp_path) == [".lock"]
    with lock.locked(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["process"] == os.getpid()
        with pytest.raises(UserError, match="in use"), lock.locked(tmp_path):
            pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("left", ["", "{", "[1]", '{"host": "elsewhere", "process": 1}'])
def test_a_file_that_was_left_over_is_taken_over_whatever_it_says(left, tmp_path):
    (tmp_path / ".lock").write_text(left)
    with lock.locked(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_without_locks_of_the_file_system_the_process_is_looked_for(tmp_path, monkeypatch):
    def none(number, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", none)
    for host, process, refused in (
        (socket.gethostname(), os.getppid(), True),
        (socket.gethostname(), 2**22 + 1, False),
        ("elsewhere", os.getppid(), False),
    ):
        (tmp_path / ".lock").write_text(json.dumps({"host": host, "process": process, "since": "today"}))
        if refused:
            with pytest.raises(UserError, match=f"process {process} on {host}"), lock.locked(tmp_path):
                pass
        else:
            with lock.locked(tmp_path):
                pass


def test_no_link_is_followed(tmp_path):
    (tmp_path / "other").write_text("mine")
    (tmp_path / ".lock").symlink_to(tmp_path / "other")
    with pytest.raises(OSError), lock.locked(tmp_path):
        pass
    assert (tmp_path / "other").read_text() == "mine"


def test_a_remote_directory_has_none():
    with lock.locked("gs://bucket/run"):
        pass
