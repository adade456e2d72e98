"""What the machine refuses is told by what it is: only what wants room is told to make some."""

import errno
import os

import pytest

from vq_jax.cli.failures import explain


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EIO, "the disk fails"),
        (errno.EACCES, "allow access"),
        (errno.ENOENT, "check the path"),
        (errno.EMFILE, "ulimit -n"),
    ],
)
def test_what_the_machine_refuses_is_one_line(number, words):
    message, status = explain(OSError(number, os.strerror(number), "runs/a/metrics.jsonl"))
    assert status == 2 and "runs/a/metrics.jsonl" in message and len(message.splitlines()) == 1
    assert words in message and ("make room" in message) == (words == "make room")


def test_memory_that_is_not_there_is_one_line():
    exhausted = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 28675584880 bytes.\nmore")
    for error, words in ((exhausted, "allocating 28675584880 bytes"), (MemoryError(), "no more is given")):
        message, status = explain(error)
        assert status == 1 and words in message and "\n" not in message


def test_what_is_nobodys_fault_keeps_its_traceback():
    assert explain(BrokenPipeError(errno.EPIPE, "Broken pipe")) is None
    assert explain(RuntimeError("a fault of the program")) is None
    assert explain(KeyboardInterrupt()) == ("interrupted by SIGINT", 130)
