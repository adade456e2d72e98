"""The stream of training batches: its order, its crops, and what it leaves behind."""

import dataclasses
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import shared_memory

from vq_jax import data
from vq_jax.configs import DataConfig
from vq_jax.data import folder, workers
from vq_jax.data.in_memory import MemorySource
from vq_jax.errors import UserError


def numbered(count, height=8, width=8, labels=True):
    """Pictures whose every pixel is their number."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, height, width, 1), np.uint8)
    return MemorySource(images, np.arange(count) if labels else None, count if labels else None)


def gradients(count, height=40, width=50):
    """Pictures in which no two windows are the same."""
    rng = np.random.default_rng(0)
    return MemorySource(list(rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)))


def take(source, config, count, **options):
    options = {"seed": 0, **options}
    with data.train_batches(source, config, **options) as batches:
        return [next(batches) for _ in range(count)]


def assert_same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert np.array_equal(one[key], other[key]), key


CROPS = DataConfig(batch_size=4, image_size=16)
WHOLE = DataConfig(batch_size=4, image_size=8, flip=False)


def test_batches_have_the_documented_shapes_and_types():
    for batch in take(numbered(10), WHOLE, 3):
        assert batch.keys() == {"image", "label", "broken"}
        assert batch["image"].shape == (4, 8, 8, 1) and batch["image"].dtype == np.uint8
        assert batch["image"].flags.c_contiguous
        for key in ("label", "broken"):
            assert batch[key].shape == (4,) and batch[key].dtype == np.int32
        assert np.array_equal(batch["image"][:, 0, 0, 0], batch["label"])
    assert take(numbered(10, labels=False), WHOLE, 1)[0].keys() == {"image", "broken"}


@pytest.mark.parametrize("start", [1, 2, 7, 1000])
def test_a_stream_started_at_a_position_equals_one_that_came_there(start):
    source = gradients(7)
    if start < 1000:
        expected = take(source, CROPS, start + 3)[start:]
    else:
        expected = take(source, CROPS, 4, start_batch=start - 1)[1:]
    assert_same(take(source, CROPS, 3, start_batch=start), expected)


def test_the_position_counts_batches_consumed_not_prefetched():
    with data.train_batches(numbered(10), WHOLE, seed=0, start_batch=5) as batches:
        assert batches.position == 5
        next(batches)
        time.sleep(0.05)
        assert batches.position == 6


@pytest.mark.parametrize("crops", [1, 3])
def test_every_picture_appears_as_often_as_asked_in_each_epoch_and_each_is_shuffled_anew(crops):
    config = DataConfig(batch_size=5, image_size=8, crops_per_picture=crops)
    labels = np.concatenate([b["label"] for b in take(numbered(10), config, 6 * crops)])
    epochs = labels.reshape(3, 10 * crops)
    for epoch in epochs:
        assert np.bincount(epoch).tolist() == [crops] * 10
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert epochs[0].tolist() != sorted(epochs[0])


def test_batches_run_across_epochs_and_a_source_smaller_than_a_batch_fills_it():
    labels = np.concatenate([b["label"] for b in take(numbered(3), WHOLE, 6)])
    for epoch in labels.reshape(8, 3):
        assert sorted(epoch) == [0, 1, 2]


def test_the_seed_decides_order_and_crops():
    first, again, other = (take(gradients(5), CROPS, 2, seed=seed) for seed in (1, 1, 2))
    assert_same(first, again)
    assert not np.array_equal(first[0]["image"], other[0]["image"])


@pytest.mark.parametrize("start", [0, 3])
def test_the_batches_of_two_processes_together_are_those_of_one(start):
    source = gradients(9)
    whole = take(source, CROPS, 4, start_batch=start)
    parts = [
        take(source, CROPS, 4, start_batch=start, process_index=index, process_count=2) for index in range(2)
    ]
    for index, batch in enumerate(whole):
        assert parts[0][index]["image"].shape[0] == 2
        for key in batch:
            together = np.concatenate([parts[0][index][key], parts[1][index][key]])
            assert np.array_equal(together, batch[key])


def test_processes_that_cannot_share_a_batch_are_an_error():
    with pytest.raises(UserError, match="batch_size 4 does not divide by the 3 processes.*is 3"):
        data.train_batches(numbered(5), WHOLE, seed=0, process_count=3)


def test_an_empty_source_is_an_error():
    class Empty:
        channels, fingerprint, num_classes = 1, "", None

        def __len__(self):
            return 0

        def __getitem__(self, index):
            raise IndexError

    with pytest.raises(UserError, match="source is empty"):
        data.train_batches(Empty(), WHOLE, seed=0)
    with pytest.raises(UserError, match="source is empty"):
        next(data.test_batches(Empty(), WHOLE, batch_size=2))


def segments():
    """Names of all memory that processes share on this machine."""
    return {path.name for path in Path("/dev/shm").glob("psm_*")}


@pytest.mark.parametrize(
    "workers, copy", [(1, True), pytest.param(2, True, marks=pytest.mark.ci), (2, False)]
)
def test_workers_change_nothing_and_leave_nothing_behind(workers, copy):
    source, before = gradients(7), segments()
    expected = take(source, CROPS, 7, start_batch=2)
    config = DataConfig(batch_size=4, image_size=16, num_workers=workers)
    got = take(source, config, 7, start_batch=2, copy=copy)
    assert_same(got, expected)  # the stream is closed: what it gave stays as it was
    assert all(type(value) is np.ndarray for batch in got for value in batch.values())
    held = {batch["image"].base.shm.name for batch in got} if not copy else set()
    assert len(held) == (0 if copy else 7) and held <= shared_memory()
    del got
    assert not multiprocessing.active_children()
    deadline = time.monotonic() + 5
    while (shared_memory() or segments() - before) and time.monotonic() < deadline:
        time.sleep(0.05)  # of batches that were on their way
    assert not shared_memory() and not segments() - before


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """A folder of ten JPEG files in ten subfolders, so large that nothing of it stays in memory."""
    monkeypatch.setattr(folder, "_CACHE_BYTES", 0)
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 1)):
        for number in range(count):
            (tmp_path / split / f"{number}").mkdir(parents=True)
            small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
            small.resize((160, 120), Image.Resampling.BICUBIC).save(tmp_path / split / f"{number}" / "a.jpg")
    return f"folder:{tmp_path}"


@pytest.mark.parametrize("workers", [0, 1, pytest.param(2, marks=pytest.mark.ci)])
def test_a_stream_restored_in_the_middle_of_an_epoch_gives_its_remaining_records(photographs, workers):
    def config(workers):
        return DataConfig(photographs, batch_size=4, image_size=16, resize="random", num_workers=workers)

    source = data.open_source(photographs, "train", config(0), 3)
    uninterrupted = take(source, config(0), 5)  # two epochs of ten pictures
    with data.train_batches(source, config(workers), seed=0) as batches:
        first = [next(batches)]
        position = batches.position
    rest = take(source, config(workers), 4, start_batch=position)
    assert_same(first + rest, uninterrupted)
    labels = np.concatenate([batch["label"] for batch in first + rest])
    assert sorted(labels[:10]) == sorted(labels[10:]) == list(range(10))


def test_scaled_decoding_changes_a_little_and_only_where_pictures_are_shrunk(photographs):
    def batches(**options):
        config = DataConfig(photographs, batch_size=5, image_size=16, **options)
        return take(data.open_source(photographs, "train", config, 3), config, 2)

    for resize in ("random", "short-side"):
        scaled, whole = (batches(resize=resize, scaled_decoding=scaled) for scaled in (True, False))
        for one, other in zip(scaled, whole, strict=True):
            difference = np.abs(one["image"].astype(int) - other["image"])
            assert 0 < difference.mean() < 3 and np.array_equal(one["label"], other["label"])
    assert_same(batches(scaled_decoding=True), batches(scaled_decoding=False))


def test_fixed_crops_of_a_folder_know_how_they_were_decoded(photographs):
    def variants(source, **options):
        config = DataConfig(photographs, image_size=16, resize="random", **options)
        return data.Variants(source, config, 1)

    source = data.open_source(photographs, "train", DataConfig(), 3)
    scaled, whole = (variants(source, scaled_decoding=scaled) for scaled in (True, False))
    assert scaled.fingerprint != whole.fingerprint
    assert not np.array_equal(scaled[3]["image"], whole[3]["image"])
    in_memory = gradients(2)
    assert (
        variants(in_memory, scaled_decoding=True).fingerprint
        == variants(in_memory, scaled_decoding=False).fingerprint
    )


def test_closing_twice_is_harmless_and_a_closed_stream_gives_no_more():
    batches = data.train_batches(numbered(5), WHOLE, seed=0)
    next(batches)
    batches.close()
    batches.close()
    with pytest.raises(ValueError, match="closed"):
        next(batches)


def test_a_crop_is_a_part_of_its_picture_and_half_of_them_are_mirrored():
    rows, columns = np.mgrid[:40, :50].astype(np.uint8)
    picture = np.stack([rows, columns, 0 * rows], -1)
    config = DataConfig(batch_size=64, image_size=16)
    mirrored, corners = 0, set()
    for batch in take(MemorySource([picture]), config, 8):
        for crop in batch["image"]:
            if crop[0, 0, 1] > crop[0, -1, 1]:
                mirrored += 1
                crop = crop[:, ::-1]
            top, left = crop[0, 0, :2]
            assert np.array_equal(crop, picture[top : top + 16, left : left + 16])
            corners.add((int(top), int(left)))
    assert 200 < mirrored < 312 and len(corners) > 250
    unflipped = DataConfig(batch_size=64, image_size=16, flip=False, crop="center")
    (batch,) = take(MemorySource([picture]), unflipped, 1)
    assert np.array_equal(batch["image"], np.broadcast_to(picture[12:28, 17:33], (64, 16, 16, 3)))


@pytest.mark.parametrize("resize", ["short-side", "random"])
def test_resizing_policies_give_pictures_of_the_right_size(resize):
    config = DataConfig(batch_size=8, image_size=16, resize=resize)
    source = MemorySource([np.full((h, w, 3), 7, np.uint8) for h, w in ((30, 90), (10, 5), (64, 64))])
    (batch,) = take(source, config, 1)
    assert batch["image"].shape == (8, 16, 16, 3) and np.all(batch["image"] == 7)


def test_pictures_smaller_than_the_crop_are_enlarged_with_one_warning(caplog):
    config = DataConfig(batch_size=4, image_size=32)
    batches = take(numbered(6, 28, 20), config, 5)
    assert all(batch["image"].shape == (4, 32, 32, 1) for batch in batches)
    assert np.array_equal(batches[0]["image"][:, 5, 5, 0], batches[0]["label"])
    messages = [record.getMessage() for record in caplog.records if record.name == "vq_jax"]
    assert messages == ["pictures smaller than data.image_size 32 are enlarged to it (one has 28 x 20)"]
    caplog.clear()
    take(numbered(6, 28, 28), DataConfig(batch_size=4, image_size=28), 2)
    take(numbered(6, 28, 28), DataConfig(batch_size=4, image_size=32, resize="short-side"), 2)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_stand_ins_for_broken_pictures_are_counted_in_the_batch():
    class WithBroken(MemorySource):
        def __getitem__(self, index):
            record = super().__getitem__(index)
            return {**record, "broken": np.int32(3 if record["label"] == 1 else 0)}

    images = np.zeros((4, 8, 8, 1), np.uint8)
    for batch in take(WithBroken(images, np.arange(4), 4), WHOLE, 4):
        assert np.array_equal(batch["broken"], np.where(batch["label"] == 1, 3, 0))


def test_an_error_of_the_source_reaches_the_caller_with_and_without_workers(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "a.png")
    for number in (0, 1):
        config = DataConfig(batch_size=2, image_size=8, num_workers=number)
        source = data.open_source(f"folder:{tmp_path}", "train", config, 1)
        (tmp_path / "train" / "a.png").rename(tmp_path / "moved.png")
        with pytest.raises(UserError, match="none of 1 can be read any more"):
            take(source, config, 1)
        (tmp_path / "moved.png").rename(tmp_path / "train" / "a.png")


def test_workers_leave_signals_to_the_process_that_started_them():
    with data.train_batches(numbered(10), dataclasses.replace(WHOLE, num_workers=1), seed=0) as batches:
        next(batches)  # it has begun
        (worker,) = multiprocessing.active_children()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(worker.pid, number)
        for _ in range(8):  # more than are made ahead
            next(batches)
    assert not worker.is_alive()


UNGUARDED = """
import numpy as np
from vq_jax import data
from vq_jax.configs import DataConfig
from vq_jax.data.in_memory import MemorySource

source = MemorySource(np.zeros((8, 64, 64, 3), np.uint8), None, None)
with data.train_batches(source, DataConfig(batch_size=8, num_workers=2), seed=0) as batches:
    next(batches)
"""


@pytest.mark.ci
@pytest.mark.parametrize("from_file", [True, False])
def test_workers_that_cannot_start_are_noticed_within_seconds(tmp_path, from_file):
    script = tmp_path / "unguarded.py"
    script.write_text(UNGUARDED)
    arguments = [sys.executable, script if from_file else "-"]
    stdin = None if from_file else UNGUARDED
    ended = subprocess.run(arguments, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1 and ended.stderr.count("UserError: workers cannot start") == 1
    assert '`if __name__ == "__main__":`' in ended.stderr and "/spawn.py" not in ended.stderr


def test_workers_cannot_start_from_what_is_no_file(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(__file__="/nowhere/<stdin>"))
    with pytest.raises(UserError, match="workers cannot start from <stdin>: a script .* has to be a file"):
        data.train_batches(numbered(5), dataclasses.replace(WHOLE, num_workers=1), seed=0)


@pytest.mark.parametrize(
    ("status", "words"), [(-7, "--shm-size"), (-9, "want of memory"), (1, "the lines above")]
)
def test_a_worker_s_end_is_explained(status, words):
    error = RuntimeError(f"Worker process was terminated unexpectedly with exit code {status}. Search")
    explained = workers.explained(error)
    assert isinstance(explained, UserError) and words in str(explained)
    assert workers.explained(other := RuntimeError("something else")) is other


@pytest.mark.ci
def test_the_death_of_a_worker_is_noticed():
    with data.train_batches(numbered(10), dataclasses.replace(WHOLE, num_workers=1), seed=0) as batches:
        next(batches)
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(UserError, match="ended with status -9.*lower data.num_workers"):
            for _ in range(20):  # more than are made ahead
                next(batches)


KILLED = """
import multiprocessing, os, signal
import numpy as np
from vq_jax import data
from vq_jax.configs import DataConfig
from vq_jax.data.in_memory import MemorySource

if __name__ == "__main__":
    source = MemorySource(np.zeros((8, 64, 64, 3), np.uint8), None, None)
    batches = data.train_batches(source, DataConfig(batch_size=64, num_workers=2), seed=0)
    for _ in range(4):
        next(batches)
    print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def is_running(process):
    """Whether there is a process, other than one whose exit status has not been read."""
    try:
        return "Z (zombie)" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="/proc lists other processes")
def test_workers_end_with_a_process_that_is_killed(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    killed = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    workers = killed.stdout.split()
    assert len(workers) == 2
    end = time.monotonic() + 30
    while any(map(is_running, workers)):
        assert time.monotonic() < end, f"one of {workers} still runs"
        time.sleep(0.05)


_CROPS = """
import time
from vq_jax import data
from vq_jax.configs import DataConfig

config = DataConfig(batch_size=32, image_size=64, crops_per_picture=100)
source = data.open_source("photos", "train", config, 3)
with data.train_batches(source, config, seed=0) as batches:
    for _ in range(20):
        next(batches)
    before = time.process_time()
    for _ in range(60):
        next(batches)
    print((time.process_time() - before) / 60)
"""


def test_a_batch_of_photograph_crops_costs_far_less_than_a_training_step():
    # in a process of its own, as users run it: checks of every annotated shape, which tests add, cost more
    run = subprocess.run([sys.executable, "-c", _CROPS], capture_output=True, text=True, check=True)
    seconds = float(run.stdout)
    assert seconds < 0.01, f"{seconds * 1e3:.1f} ms of processor time a batch"
