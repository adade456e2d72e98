"""Pictures from an .npz file, and every way in which the file can be wrong."""

import numpy as np
import pytest

from vq_jax import data
from vq_jax.configs import DataConfig
from vq_jax.errors import UserError

CONFIG = DataConfig()


def numbered(count, shape=(6, 5, 3), first=0):
    return np.arange(first, first + count, dtype=np.uint8).reshape(-1, *[1] * len(shape)) * np.ones(
        shape, np.uint8
    )


def open_npz(tmp_path, split="train", channels=3, config=CONFIG, **arrays):
    np.savez(tmp_path / "set.npz", **arrays)
    return data.open_source(f"arrays:{tmp_path / 'set.npz'}", split, config, channels)


def values(source):
    return [int(record["image"].flat[0]) for record in source]


def test_the_file_s_own_test_pictures_are_held_out(tmp_path):
    arrays = {
        "images": numbered(4),
        "labels": np.array([0, 1, 0, 2]),
        "test_images": numbered(2, first=50),
        "test_labels": np.array([4, 1], np.uint8),
    }
    train = open_npz(tmp_path, **arrays)
    test = open_npz(tmp_path, split="test", **arrays)
    assert values(train) == [0, 1, 2, 3] and values(test) == [50, 51]
    assert [int(record["label"]) for record in test] == [4, 1]
    assert test[0]["label"].dtype == np.int32
    assert train.num_classes == test.num_classes == 5


def test_without_test_pictures_a_fixed_share_is_held_out(tmp_path):
    config = DataConfig(test_fraction=0.25)
    arrays = {"images": numbered(40), "labels": np.arange(40) % 3}
    train = open_npz(tmp_path, config=config, **arrays)
    test = open_npz(tmp_path, split="test", config=config, **arrays)
    assert sorted(values(train) + values(test)) == list(range(40)) and 8 <= len(test) <= 12
    assert all(record["label"] == value % 3 for record, value in zip(test, values(test), strict=True))
    again = open_npz(tmp_path, split="test", config=config, **arrays)
    assert values(again) == values(test) and again.fingerprint == test.fingerprint


def test_pictures_without_a_channel_axis_get_one(tmp_path):
    source = open_npz(tmp_path, channels=1, images=numbered(4, (6, 5)))
    assert source[0]["image"].shape == (6, 5, 1)
    assert source.num_classes is None and "label" not in source[0]


def test_other_pictures_have_another_fingerprint(tmp_path):
    images = numbered(8)
    before = open_npz(tmp_path, images=images).fingerprint
    images[1, 0, 0, 0] += 1
    assert open_npz(tmp_path, images=images).fingerprint != before


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": numbered(2), "y": np.zeros(2)}, "named images .* the file holds pictures, y"),
        ({}, "the file holds nothing"),
        (
            {"images": np.zeros((2, 4, 4, 3))},
            r"uint8, got float64; scale floats in \[0, 1\] by 255",
        ),
        ({"images": np.zeros((2, 4, 4, 3), np.int32)}, r"uint8, got int32; bring them into 0\.\.255"),
        ({"images": np.zeros((4, 4), np.uint8)}, r"\[N, H, W, C\], got \[4, 4\]"),
        ({"images": np.zeros((0, 4, 4, 3), np.uint8)}, r"got shape \[0, 4, 4, 3\]"),
        (
            {"images": numbered(3, (4, 4))},
            r"3 channels .*set.npz has 1; set --model.image-channels 1",
        ),
        (
            {"images": numbered(3), "labels": np.zeros(2, int)},
            r"integers, shape \[3\], got int64 \[2\]",
        ),
        ({"images": numbered(3), "labels": np.zeros(3)}, r"integers, shape \[3\], got float64"),
        ({"images": numbered(3), "labels": np.array([0, -1, 1])}, "0 and up, got -1"),
        (
            {"images": numbered(3), "labels": np.zeros(3, int), "test_images": numbered(2)},
            "labels and test_labels, or neither",
        ),
        ({"images": np.array([{}, {}], object)}, "cannot be read"),
    ],
)
def test_an_error_about_wrong_arrays_says_what_to_do(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message):
        open_npz(tmp_path, **arrays)


def test_a_single_picture_trains_and_cannot_be_held_out(tmp_path):
    assert len(open_npz(tmp_path, images=numbered(1))) == 1
    with pytest.raises(UserError, match="at least two images"):
        open_npz(tmp_path, split="test", images=numbered(1))


def test_a_missing_file_and_a_file_of_another_kind_have_different_messages(tmp_path):
    with pytest.raises(UserError, match="missing.npz does not exist"):
        data.open_source(f"arrays:{tmp_path / 'missing.npz'}", "train", CONFIG, 3)
    np.save(tmp_path / "single.npy", numbered(2))
    (tmp_path / "text.npz").write_text("hello")
    for name in ("single.npy", "text.npz"):
        with pytest.raises(UserError, match=f"expected an .npz file, .*{name} is not one"):
            data.open_source(f"arrays:{tmp_path / name}", "train", CONFIG, 3)


def test_a_damaged_file_is_an_error(tmp_path):
    file = tmp_path / "damaged.npz"
    np.savez(file, images=numbered(50))
    content = bytearray(file.read_bytes())
    content[400] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="damaged.npz cannot be read"):
        data.open_source(f"arrays:{file}", "train", CONFIG, 3)
