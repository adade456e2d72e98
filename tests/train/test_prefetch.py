"""Batches put on the devices ahead of the step: which, when, how many, and how it ends."""

import threading
import time

import jax
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.train import make_mesh
from vq_jax.train.prefetch import DeviceBatches
from vq_jax.train.sharding import batch_sharding


class Numbered:
    """Batches of pictures whose every pixel is the batch's number; notes what is done to it."""

    def __init__(self, count=10**9, error=None, gate=None):
        self.count, self.error, self.gate = count, error, gate
        self.taken, self.closed = 0, 0

    def __next__(self):
        assert not self.closed
        if self.gate is not None:
            self.gate.wait()
        if self.taken == self.count:
            raise self.error or StopIteration
        self.taken += 1
        return {
            "image": np.full((4, 2, 2, 3), self.taken - 1, np.uint8),
            "broken": np.full(4, self.taken, np.int32),
        }

    def close(self):
        self.closed += 1


@pytest.fixture(scope="module")
def mesh():
    return make_mesh()


def number(batch):
    (value,) = np.unique(jax.device_get(batch["image"]))
    return int(value)


def settled(source):
    """How many batches were taken, once no more are."""
    deadline, before = time.monotonic() + 0.2, -1
    while time.monotonic() < deadline or before != source.taken:
        before = source.taken
        time.sleep(0.02)
    return source.taken


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_batches_come_in_order_none_lost_or_repeated(mesh):
    with DeviceBatches(Numbered(), mesh) as batches:
        assert [number(next(batches)) for _ in range(50)] == list(range(50))


def test_pictures_are_on_the_devices_as_uint8_and_counts_of_broken_ones_are_not(mesh):
    with DeviceBatches(Numbered(), mesh) as batches:
        batch = next(batches)
    assert batch["image"].dtype == np.uint8 and batch["image"].sharding == batch_sharding(mesh)
    assert type(batch["broken"]) is np.ndarray and batch["broken"].tolist() == [1] * 4


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_batches_are_taken_than_may_wait(mesh, ahead):
    source = Numbered()
    with DeviceBatches(source, mesh, ahead) as batches:
        assert settled(source) == ahead
        next(batches)
        assert settled(source) == ahead + 1


def test_fewer_than_one_batch_ahead_is_an_error(mesh):
    with pytest.raises(ValueError, match="at least 1 batch ahead, got 0"):
        DeviceBatches(Numbered(), mesh, 0)


def test_an_error_of_the_source_comes_in_the_place_of_its_batch_and_stays(mesh):
    source = Numbered(3, UserError("no more pictures"))
    with DeviceBatches(source, mesh, ahead=5) as batches:
        assert settled(source) == 3
        assert [number(next(batches)) for _ in range(3)] == [0, 1, 2]
        for _ in range(2):
            with pytest.raises(UserError, match="no more pictures"):
                next(batches)
    assert source.closed == 1


def test_a_batch_that_cannot_be_spread_is_an_error_of_its_step(mesh):
    class Odd(Numbered):
        def __next__(self):
            return {name: value[:3] for name, value in super().__next__().items()}

    with DeviceBatches(Odd(), mesh) as batches, pytest.raises(ValueError, match="divisible|evenly|divid"):
        next(batches)


def test_the_end_of_the_source_is_the_end(mesh):
    with DeviceBatches(Numbered(2), mesh) as batches:
        assert [number(batch) for batch in batches] == [0, 1]
        with pytest.raises(StopIteration):
            next(batches)


def test_closing_ends_the_thread_and_the_source_twice_is_harmless(mesh):
    source = Numbered()
    batches = DeviceBatches(source, mesh)
    next(batches)
    assert len(threads()) == 1
    batches.close()
    batches.close()
    assert not threads() and source.closed and source.taken <= 3
    with pytest.raises(ValueError, match="closed"):
        next(batches)


def test_closing_waits_for_the_batch_in_progress(mesh):
    gate = threading.Event()
    source = Numbered(gate=gate)
    batches = DeviceBatches(source, mesh)
    closing = threading.Thread(target=batches.close)
    closing.start()
    time.sleep(0.05)
    assert closing.is_alive() and not source.closed
    gate.set()
    closing.join(5)
    assert not closing.is_alive() and source.closed == 1 and source.taken == 1


def test_an_error_in_the_body_closes_too(mesh):
    source = Numbered()
    with pytest.raises(KeyboardInterrupt), DeviceBatches(source, mesh):
        raise KeyboardInterrupt
    assert source.closed and not threads()
