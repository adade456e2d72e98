import subprocess
import sys

import pytest

from vq_jax.host import memory

# Takes and frees 64 MB twice in a thread, as a step does, and prints the pages that the second time cost.
PROGRAM = """
import resource, sys, threading
from vq_jax.host.memory import keep_freed_memory
if len(sys.argv) > 1 and not keep_freed_memory():
    sys.exit(3)
def use():
    piece = b"x" * (64 << 20)
for turn in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=use)
    thread.start(); thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(*arguments):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("there is an accelerator, or no glibc")
    return int(done.stdout)


def test_freed_memory_is_used_again_without_asking_the_system():
    kept, given_back = pages("keep"), pages()
    assert given_back > 8 << 10  # 64 MB are 16,384 pages of 4 kB
    assert kept < 1 << 10


@pytest.mark.parametrize("platform, device", [("darwin", ""), ("linux", "/dev/nvidia0")])
def test_nothing_is_changed_elsewhere_or_beside_an_accelerator(monkeypatch, platform, device):
    monkeypatch.setattr(memory.sys, "platform", platform)
    monkeypatch.setattr(memory.glob, "glob", lambda _: [device] if device else [])
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: pytest.fail("malloc was changed"))
    assert not memory.keep_freed_memory()
