"""Pictures from an .npz file, and every way in which the file can be wrong."""

import zipfile

import numpy as np
import pytest

from vq_jax import data
from vq_jax.cli.files import read_codes
from vq_jax.configs import DataConfig
from vq_jax.data import npz
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
        ({"images": np.zeros((4, 4), np.uint8)}, r"\[N, T, H, W, C\], got \[4, 4\]"),
        ({"images": np.zeros((0, 4, 4, 3), np.uint8)}, r"got shape \[0, 4, 4, 3\]"),
        (
            {"images": numbered(3, (4, 4))},
            r"3 channels .*set.npz has 1; set --model.image-channels 1",
        ),
        (
            {"images": numbered(3), "labels": np.zeros(2, int)},
            r"integers or words, shape \[3\], got int64 \[2\]",
        ),
        ({"images": numbered(3), "labels": np.zeros(3)}, r"integers or words, shape \[3\], got float64"),
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
        with pytest.raises(UserError, match=f"expected an .npz file of pictures, .*{name} is not an"):
            data.open_source(f"arrays:{tmp_path / name}", "train", CONFIG, 3)


def test_a_damaged_file_is_an_error(tmp_path):
    file = tmp_path / "damaged.npz"
    np.savez(file, images=numbered(50))
    content = bytearray(file.read_bytes())
    content[400] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="damaged.npz cannot be read"):
        data.open_source(f"arrays:{file}", "train", CONFIG, 3)


@pytest.mark.parametrize(
    ("labels", "expected", "names"),
    [
        ([0, 1, 0, 2], [0, 1, 0, 2], None),
        ([0, 1, 0, 4], [0, 1, 0, 4], None),
        ([1, 2, 3, 1], [0, 1, 2, 0], ("1", "2", "3")),
        ([5, 900, 7, 5], [0, 2, 1, 0], ("5", "7", "900")),
        ([0, 10**9, 0, 0], [0, 1, 0, 0], ("0", "1000000000")),
        ([-1, 1, 1, -1], [0, 1, 1, 0], ("-1", "1")),
        (["owl", "cat", "owl", "dog"], [2, 0, 2, 1], ("cat", "dog", "owl")),
    ],
)
def test_labels_that_do_not_start_at_0_are_numbered_and_the_mapping_kept(tmp_path, labels, expected, names):
    arrays = {"images": numbered(4), "labels": np.array(labels), "test_images": numbered(1, first=9)}
    arrays["test_labels"] = np.array(labels[:1])
    source, test = open_npz(tmp_path, **arrays), open_npz(tmp_path, "test", **arrays)
    assert [int(record["label"]) for record in source] == expected and source.class_names == names
    assert test[0]["label"] == expected[0] and test.class_names == names
    assert source.num_classes == test.num_classes == (max(expected) + 1 if names is None else len(names))


@pytest.mark.parametrize(
    ("shape", "channels", "advice"),
    [((5, 3, 32, 32), 3, r"images\.transpose\(0, 2, 3, 1\)"), ((5, 1, 28, 28), 1, "images.transpose"),
     ((3, 32, 32, 50), 3, r"numpy\.moveaxis\(images, -1, 0\)"),
     ((5, 32, 32, 4), 3, r"images\[\.\.\., :3\]"), ((5, 32, 32, 2), 1, r"images\[\.\.\., :1\]"),
     ((5, 32, 32, 12), 3, "1 or 3 channels")],
)  # fmt: skip
def test_arrays_in_another_order_are_told_what_to_save(tmp_path, shape, channels, advice):
    with pytest.raises(UserError, match=advice):
        open_npz(tmp_path, channels=channels, images=np.zeros(shape, np.uint8))


def npy(shape, descr="|u1", content=b"", order=False):
    """An array in NumPy's format whose header says what is asked for."""
    header = repr({"descr": descr, "fortran_order": order, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


BAD_MEMBERS = {
    "petabytes": npy((10**6, 10**6, 10**6)),
    "more than 2^63": npy((10**9, 10**9, 10**9, 10**9)),
    "a little more": npy((2, 4, 4, 3), content=bytes(95)),
    "a little less": npy((2, 4, 4, 3), content=bytes(97)),
    "a negative length": npy((-2, 4, 4, 3), content=bytes(96)),
    "objects": npy((2,), "|O", b"\x80\x04]\x94."),
    "pickled bytes": b"\x80\x04]\x94.",
    "a header of text": b"\x93NUMPY\x01\x00\x10\x00" + b"(((((((((((((((\n",
    "a long header": b"\x93NUMPY\x02\x00\xff\xff\xff\x0f" + bytes(100),
    "an unknown version": b"\x93NUMPY\x09\x09" + bytes(100),
    "a type that is none": npy((2,), "|x9", bytes(18)),
    "a type of nothing": npy((10**12,), "|V0"),
    "nothing": b"",
}


@pytest.mark.parametrize("name", BAD_MEMBERS)
@pytest.mark.parametrize("codes", [False, True])
def test_a_member_that_claims_what_it_does_not_hold_is_one_message(tmp_path, name, codes):
    file = tmp_path / "bad.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("names.npy" if codes else "images.npy", BAD_MEMBERS[name])
    with pytest.raises(UserError, match=r"bad\.npz") as caught:
        read_codes(file) if codes else data.open_source(f"arrays:{file}", "train", CONFIG, 3)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_one_message_however_it_is_compressed(tmp_path, method):
    file = tmp_path / "damaged.npz"
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("images.npy", npy((9, 50, 50, 3), content=noise(22500)))
    content = file.read_bytes()
    for place in range(50, 3000, 200):
        file.write_bytes(content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1 :])
        with pytest.raises(UserError, match=r"damaged\.npz cannot be read"):
            data.open_source(f"arrays:{file}", "train", CONFIG, 3)


def noise(count):
    return np.random.default_rng(0).integers(0, 256, count, dtype=np.uint8).tobytes()


def test_what_memory_has_no_room_for_is_said_before_it_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "total_memory", lambda: 1000)
    with pytest.raises(UserError, match="memory"):
        open_npz(tmp_path, images=numbered(50))
