"""The soak: the bounds that it judges by, and how it measures memory."""

import re
from pathlib import Path

import pytest
import soak

pytestmark = pytest.mark.ci

RUN = {"growth": 0.049, "programs_of_the_step": 1, "compilations_after": 0}
SLEEP = {"data_wait": 0.049}


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, None),
        ({"growth": -0.2}, None),
        ({"growth": 0.051}, "resident memory"),
        ({"programs_of_the_step": 2}, "one program"),
        ({"compilations_after": 1}, "no compilation"),
        ({"data_wait": 0.05}, "data wait"),
    ],
)
def test_each_bound_of_the_soak_can_be_missed(change, missed):
    run = RUN | {name: value for name, value in change.items() if name in RUN}
    held = soak.bounds(run, SLEEP | {name: value for name, value in change.items() if name in SLEEP})
    assert [name for name, true in held.items() if not true] == [
        name for name in held if missed is not None and name.startswith(missed)
    ]


def test_what_is_allocated_grows_by_what_is_asked_for():
    before = soak.allocated_mib()
    if before is None:
        pytest.skip("glibc tells it")
    held = [bytearray(2048) for _ in range(2**14)]
    assert soak.allocated_mib() - before == pytest.approx(len(held) * 2048 / 2**20, rel=0.3)


def test_memory_is_what_the_system_says_is_resident():
    status = Path("/proc/self/status").read_text()
    expected = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024
    # Other threads of the test's process may take or free memory between the two readings.
    assert soak.resident_mib() == pytest.approx(expected, rel=0.1)
