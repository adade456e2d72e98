"""Held-out batches: the same each time, all of one shape, no picture left out."""

import dataclasses

import numpy as np
import pytest

from vq_jax import data
from vq_jax.configs import DataConfig
from vq_jax.data.in_memory import MemorySource
from vq_jax.data.splits import evenly_over_classes
from vq_jax.errors import UserError
from vq_jax.host import memory

WHOLE = DataConfig(image_size=8)


def numbered(count):
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    return MemorySource(images, np.arange(count) % 3, 3)


def test_every_picture_comes_once_in_order_and_the_last_batch_is_filled_up():
    batches = list(data.test_batches(numbered(10), WHOLE, batch_size=4))
    assert len(batches) == 3
    for batch in batches:
        assert batch["image"].shape == (4, 8, 8, 1) and batch["image"].dtype == np.uint8
        assert batch["label"].dtype == batch["broken"].dtype == np.int32
        assert batch["valid"].shape == (4,) and batch["valid"].dtype == bool
    assert [b["valid"].tolist() for b in batches] == [[True] * 4] * 2 + [[True, True, False, False]]
    seen = np.concatenate([b["image"][b["valid"], 0, 0, 0] for b in batches])
    assert seen.tolist() == list(range(10))
    assert np.concatenate([b["label"][b["valid"]] for b in batches]).tolist() == [
        number % 3 for number in range(10)
    ]
    assert np.all(batches[-1]["image"][2:] == batches[-1]["image"][1])


def test_two_photographs_give_a_set_of_crops_that_do_not_overlap():
    config = DataConfig(image_size=64)
    source = data.open_source("photos", "test", config, 3)
    batches = list(data.test_batches(source, config, batch_size=32))
    crops = np.concatenate([b["image"][b["valid"]] for b in batches])
    assert len(crops) == 4 * 7 + 6 * 9
    chelsea = source[0]["image"]
    top, left = (300 - 4 * 64) // 2, (451 - 7 * 64) // 2
    tiles = chelsea[top : top + 256, left : left + 448].reshape(4, 64, 7, 64, 3).swapaxes(1, 2)
    assert np.array_equal(crops[:28], tiles.reshape(28, 64, 64, 3))
    again = list(data.test_batches(source, config, batch_size=32))
    assert all(np.array_equal(a[k], b[k]) for a, b in zip(batches, again, strict=True) for k in a)


@pytest.mark.parametrize("limit", [1, 2, 5, 20])
def test_the_limit_bounds_the_crops_and_spreads_them(limit):
    config = DataConfig(image_size=64)
    source = data.open_source("photos", "test", config, 3)
    batches = list(data.test_batches(source, config, batch_size=4, limit=limit))
    count = sum(int(b["valid"].sum()) for b in batches)
    assert count == (limit if limit != 5 else 4)
    labels = [
        int(b["image"][k, 0, 0, 0])
        for b in data.test_batches(numbered(100), WHOLE, batch_size=4, limit=4)
        for k in range(4)
    ]
    assert labels == [12, 37, 62, 87]


def test_with_resizing_each_picture_gives_one_crop_from_its_middle():
    picture = np.zeros((20, 60, 3), np.uint8)
    picture[:, 20:40] = 200
    for resize in ("short-side", "random"):
        config = DataConfig(image_size=10, resize=resize)
        (batch,) = data.test_batches(MemorySource([picture]), config, batch_size=1)
        assert np.all(batch["image"] == 200) and batch["valid"].all()


def test_many_pictures_give_one_crop_each():
    rng = np.random.default_rng(0)
    source = MemorySource(list(rng.integers(0, 256, (300, 20, 20, 1), dtype=np.uint8)))
    batches = list(data.test_batches(source, WHOLE, batch_size=100))
    assert len(batches) == 3
    assert np.array_equal(batches[0]["image"][0], source[0]["image"][6:14, 6:14])


def test_whole_pictures_are_evenly_spaced_and_keep_their_size():
    source = numbered(9)
    source.labels = None
    assert [picture[0, 0, 0] for picture in data.test_pictures(source, 3)] == [1, 4, 7]
    source = data.open_source("photos", "test", DataConfig(), 3)
    assert [p.shape for p in data.test_pictures(source, 5)] == [(300, 451, 3), (400, 600, 3)]


def test_held_out_pictures_larger_than_the_memory_are_refused_before_they_are_read(monkeypatch):
    monkeypatch.setattr(memory, "total_memory", lambda: 8 * 8 * 1 * 9)
    config = dataclasses.replace(WHOLE, test_limit=9)
    assert len(data.all_test_batches(numbered(20), config, batch_size=3)) == 3
    with pytest.raises(UserError, match="10 held-out pictures of 8 x 8 pixels needs at least .* lower"):
        data.all_test_batches(numbered(20), dataclasses.replace(WHOLE, test_limit=10), batch_size=3)


def test_whole_pictures_are_evenly_spread_over_the_classes():
    source = numbered(9)  # of the classes 0, 1, 2, 0 and so on
    assert [picture[0, 0, 0] for picture in data.test_pictures(source, 6)] == [0, 6, 1, 7, 2, 8]
    labels = np.array([0] * 90 + [1] * 2 + [2] * 8)
    found = [int(labels[index]) for index in evenly_over_classes(labels, 16)]
    assert found == [0] * 7 + [1] * 2 + [2] * 7
    assert evenly_over_classes(np.arange(100), 4) == [12, 37, 62, 87]
    assert evenly_over_classes(labels[:3], 16) == [0, 1, 2]
