"""Clips of pictures that move and bounce."""

import numpy as np
import pytest

from vq_jax import data
from vq_jax.configs import DataConfig
from vq_jax.data.moving_fashion import SIDE
from vq_jax.errors import UserError

CONFIG = DataConfig(frames=12, batch_size=4)


def opened(split="test", spec="moving-fashion", config=CONFIG):
    return data.open_source(spec, split, config, 1)


def test_a_clip_is_its_pictures_where_the_source_says_they_are():
    source, fashion = opened(), data.open_source("fashion", "test", DataConfig(), 1)
    for index in (0, 7, 999):
        numbers, corners = source.movement(index)
        expected = np.zeros((12, SIDE, SIDE, 1), np.uint8)
        for frame in range(12):
            for number, (top, left) in zip(numbers, corners[frame], strict=True):
                part = expected[frame, top : top + 28, left : left + 28]
                part[:] = np.maximum(part, fashion[int(number)]["image"])
        np.testing.assert_array_equal(source[index]["image"], expected)
    np.testing.assert_array_equal(source[-1]["image"], source[999]["image"])


def test_pictures_move_evenly_and_turn_round_at_the_borders():
    source = opened(config=DataConfig(frames=60))
    corners = np.stack([source.movement(index).corners for index in range(20)])
    assert corners.min() == 0 and corners.max() == SIDE - 28
    steps = np.diff(corners, axis=1)
    # The longest way of a frame is 5 px, and rounding adds one at most.
    assert np.abs(steps).max() == 5 or np.abs(steps).max() == 6
    # Along an axis, steps have one length, up to rounding, but where a border is met.
    inside = (corners[:, 1:] > 5) & (corners[:, 1:] < SIDE - 28 - 5)
    for clip, kept in zip(np.abs(steps), inside, strict=True):
        for picture in range(2):
            for axis in range(2):
                lengths = clip[:, picture, axis][kept[:, picture, axis]]
                assert np.ptp(lengths) <= 1


def test_a_stride_takes_frames_of_the_same_movement():
    whole, every_third = opened(), opened(config=DataConfig(frames=4, frame_stride=3))
    np.testing.assert_array_equal(every_third[3]["image"], whole[3]["image"][::3])
    single = opened(config=DataConfig())
    np.testing.assert_array_equal(single[3]["image"], whole[3]["image"][0])
    assert len({source.fingerprint for source in (whole, every_third, single)}) == 3


def test_the_number_of_clips_may_be_given():
    assert len(opened("train")) == 2**20 and len(opened()) == 1000
    few, all_clips = opened("train", "moving-fashion:50"), opened("train")
    assert len(few) == 50 and len(opened("test", "moving-fashion:50")) == 1000
    np.testing.assert_array_equal(few[49]["image"], all_clips[49]["image"])
    assert few.fingerprint != all_clips.fingerprint
    for wrong in ("0", "many", "-3", str(2**21)):
        with pytest.raises(UserError, match=f"1 to 1048576 clips to train on, got moving-fashion:{wrong}"):
            opened("train", f"moving-fashion:{wrong}")


def test_a_batch_of_clips_depends_on_its_position_alone():
    source = opened("train")
    with data.train_batches(source, CONFIG, seed=3) as batches:
        first, second = (next(batches)["image"] for _ in range(2))
    assert first.shape == (4, 12, 64, 64, 1) and first.dtype == np.uint8
    with data.train_batches(source, CONFIG, seed=3, start_batch=1) as batches:
        np.testing.assert_array_equal(next(batches)["image"], second)
    rows = []
    for process in range(2):
        with data.train_batches(source, CONFIG, seed=3, process_index=process, process_count=2) as batches:
            rows.append(next(batches)["image"])
    np.testing.assert_array_equal(np.concatenate(rows), first)
