"""A folder of pictures: its index, its splits and labels, and what is broken in it."""

import logging
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vq_jax import data
from vq_jax.configs import DataConfig
from vq_jax.data import folder, folder_index
from vq_jax.data.crops import Window, cut
from vq_jax.data.pictures import DEFAULT_READING
from vq_jax.data.splits import places_of
from vq_jax.errors import UserError

CONFIG = DataConfig(test_fraction=0.3)


def save(path, value=0, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def fill(root, count, first=0):
    for index in range(first, first + count):
        save(root / f"{index:03}.png", index)


def truncate(path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])


def open_folder(root, split="train", channels=3, config=CONFIG):
    return data.open_source(f"folder:{root}", split, config, channels)


def values(source):
    return [int(record["image"].flat[0]) for record in source]


def test_pictures_of_all_kinds_are_found_in_all_subfolders_and_other_files_left_out(tmp_path):
    for name in ("a.png", "b/c.JPG", "b/d/e.webp", "f.gif"):
        save(tmp_path / name)
    for name in ("notes.txt", ".hidden.png", "b/.thumbnails/x.png", "g.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no picture")
    found = folder_index.list_pictures(tmp_path)
    assert found.left_out == ("1 .pdf", "1 .txt", "1 hidden file", "1 hidden folder")
    assert [file.name for file in found.files] == ["a.png", "b/c.JPG", "b/d/e.webp", "f.gif"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such a name")
def test_a_name_in_another_encoding_is_a_name(tmp_path, caplog):
    fill(tmp_path, 4)
    os.rename(tmp_path / "002.png", os.fsencode(tmp_path) + b"/caf\xe9.png")
    (tmp_path / "003.png").rename(tmp_path / "caf\u00e9.png")
    splits = [values(open_folder(tmp_path, split)) for split in ("train", "test")]
    assert sorted(splits[0] + splits[1]) == [0, 1, 2, 3]
    truncate(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")))
    open_folder(tmp_path)
    (message,) = [record.getMessage() for record in caplog.records if "png" in record.getMessage()]
    assert r"caf\xe9.png" in message and message.isascii()  # so that every log can write it
    (tmp_path / "000.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"000.png.*caf\\xe9.png"):
        open_folder(tmp_path)


def test_a_link_to_a_parent_folder_ends(tmp_path):
    save(tmp_path / "a" / "b.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "linked").mkdir()
    (tmp_path / "c").symlink_to(tmp_path / "linked")
    save(tmp_path / "linked" / "d.png")
    assert len(folder_index.list_pictures(tmp_path).files) == 2


def test_every_picture_is_in_one_split_whatever_the_order_of_the_directory(tmp_path):
    fill(tmp_path, 30)
    train, test = open_folder(tmp_path), open_folder(tmp_path, "test")
    assert sorted(values(train) + values(test)) == list(range(30))
    assert 3 <= len(test) <= 15
    assert values(train) == sorted(values(train))
    held_out = set(values(test))
    fill(tmp_path, 10, first=30)
    assert held_out <= set(values(open_folder(tmp_path, "test")))


def test_two_pictures_are_one_to_train_on_and_one_to_test_on(tmp_path):
    fill(tmp_path, 2)
    for fraction in (0.01, 0.99):
        config = DataConfig(test_fraction=fraction)
        assert len(open_folder(tmp_path, "train", config=config)) == 1
        assert len(open_folder(tmp_path, "test", config=config)) == 1


def test_a_single_picture_trains_and_cannot_be_held_out(tmp_path):
    fill(tmp_path, 1)
    assert len(open_folder(tmp_path)) == 1
    with pytest.raises(UserError, match="at least two readable pictures"):
        open_folder(tmp_path, "test")


@pytest.mark.parametrize("name", ["test", "val"])
def test_subfolders_for_the_splits_are_used_where_both_are_there(tmp_path, name):
    fill(tmp_path / "train", 4)
    fill(tmp_path / name, 3, first=100)
    assert values(open_folder(tmp_path)) == [0, 1, 2, 3]
    assert values(open_folder(tmp_path, "test")) == [100, 101, 102]


def test_labels_are_the_first_level_subfolders_in_the_order_of_their_names(tmp_path):
    for kind, first in (("shoes", 0), ("bags", 50), ("coats", 90)):
        fill(tmp_path / kind / "deeper", 6, first=first)
    expected = {0: 2, 50: 0, 90: 1}
    for split in ("train", "test"):
        source = open_folder(tmp_path, split)
        assert source.num_classes == 3
        for record in source:
            value = int(record["image"].flat[0])
            assert record["label"] == expected[max(k for k in expected if k <= value)]
            assert record["label"].dtype == np.int32


def test_both_split_folders_number_their_classes_the_same_way(tmp_path):
    fill(tmp_path / "train" / "b", 2)
    fill(tmp_path / "train" / "c", 2)
    fill(tmp_path / "test" / "a", 1)
    fill(tmp_path / "test" / "c", 1)
    train, test = open_folder(tmp_path), open_folder(tmp_path, "test")
    assert train.num_classes == test.num_classes == 3
    assert [int(record["label"]) for record in train] == [1, 1, 2, 2]
    assert [int(record["label"]) for record in test] == [0, 2]


def test_pictures_outside_of_subfolders_leave_the_folder_without_labels(tmp_path):
    fill(tmp_path / "bags", 3)
    fill(tmp_path, 3)
    source = open_folder(tmp_path)
    assert source.num_classes is None and "label" not in source[0]


def test_pictures_are_converted_to_the_channels_asked_for(tmp_path):
    fill(tmp_path, 3)
    for channels in (1, 3):
        record = open_folder(tmp_path, channels=channels)[0]
        assert record["image"].shape == (6, 8, channels) and record["image"].dtype == np.uint8
        assert record["broken"] == 0 and record["broken"].dtype == np.int32


def test_the_fingerprint_follows_names_and_sizes(tmp_path):
    fill(tmp_path, 4)
    before = open_folder(tmp_path).fingerprint
    assert open_folder(tmp_path).fingerprint == before
    assert open_folder(tmp_path, "test").fingerprint != before
    save(tmp_path / "000.png", size=(80, 60))
    save(tmp_path / "001.png", size=(80, 60))
    after = open_folder(tmp_path).fingerprint
    assert after != before
    os.rename(tmp_path / "000.png", tmp_path / "00.png")
    os.rename(tmp_path / "001.png", tmp_path / "01.png")
    assert open_folder(tmp_path).fingerprint not in (before, after)


@pytest.mark.parametrize("cached", [True, False])
def test_a_small_folder_is_decoded_once(tmp_path, monkeypatch, cached):
    if not cached:
        monkeypatch.setattr(folder, "_CACHE_BYTES", 100)
    fill(tmp_path, 4)
    reads = []
    original = folder.read_picture
    monkeypatch.setattr(folder, "read_picture", lambda *a: reads.append(a) or original(*a))
    source = open_folder(tmp_path)
    first, second = source[0]["image"], source[0]["image"]
    assert np.array_equal(first, second) and len(reads) == (1 if cached else 2)


def middle(height, width):
    side = min(height, width)
    return Window((height - side) // 2, (width - side) // 2, side, side)


def test_crops_of_pictures_in_memory_are_cut_out_of_those(tmp_path, monkeypatch):
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 256, (64, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{index}.jpg")
    source = open_folder(tmp_path)
    crops = [source.crop(0, middle, (8, 8), scaled) for scaled in (True, False)]
    expected = cut(source[0]["image"], Window(0, 8, 64, 64), (8, 8))
    for record in crops:
        assert record.keys() == {"image", "broken"} and np.array_equal(record["image"], expected)
    monkeypatch.setattr(folder, "_CACHE_BYTES", 100)
    scaled, whole = (
        open_folder(tmp_path).crop(0, middle, (8, 8), scaled)["image"] for scaled in (True, False)
    )
    assert np.array_equal(whole, expected) and not np.array_equal(scaled, expected)


@pytest.mark.parametrize("scaled", [True, False])
def test_a_part_of_a_broken_picture_is_one_of_the_next(tmp_path, monkeypatch, caplog, scaled):
    monkeypatch.setattr(folder, "_CACHE_BYTES", 100)
    for index, size in enumerate([(80, 64), (96, 120), (64, 64)]):
        save(tmp_path / "train" / "a" / f"{index}.jpg", 100 + index, size)
    save(tmp_path / "test" / "a" / "0.jpg")
    source = open_folder(tmp_path)
    (tmp_path / "train" / "a" / "0.jpg").write_bytes(b"no picture")
    sizes = []
    record = source.crop(0, lambda *size: sizes.append(size) or middle(*size), (8, 8), scaled)
    assert sizes == [(120, 96)] and record["broken"] == 1 and record["label"] == 0
    assert np.abs(record["image"].astype(int) - 101).max() <= 2
    assert source.crop(-1, middle, (8, 8), scaled)["broken"] == 0
    with pytest.raises(IndexError):
        source.crop(3, middle, (8, 8), scaled)
    assert sum("0.jpg" in record.getMessage() for record in caplog.records) == 1


def test_one_truncated_picture_is_named_once_and_replaced_by_the_next(tmp_path, caplog):
    fill(tmp_path / "train", 5)
    fill(tmp_path / "test", 2)
    truncate(tmp_path / "train" / "002.png")
    truncate(tmp_path / "train" / "bad.png")
    (tmp_path / "train" / "bad.png").unlink()
    source = open_folder(tmp_path)
    assert len(source) == 5 and values(source) == [0, 1, 3, 3, 4]
    assert [int(record["broken"]) for record in source] == [0, 0, 1, 0, 0]
    open_folder(tmp_path)
    messages = [record.getMessage() for record in caplog.records if record.name == "vq_jax"]
    assert len(messages) == 1 and "002.png" in messages[0] and "truncated" in messages[0]
    assert caplog.records[0].levelno == logging.WARNING


def test_pictures_that_break_later_are_named_once_and_replaced_also_past_the_end(tmp_path, caplog):
    fill(tmp_path / "train", 5)
    fill(tmp_path / "test", 1)
    source = open_folder(tmp_path)
    (tmp_path / "train" / "003.png").unlink()
    (tmp_path / "train" / "004.png").write_text("no picture")
    assert values(source) == [0, 1, 2, 0, 0]
    assert [int(record["broken"]) for record in source] == [0, 0, 0, 2, 1]
    assert int(source[-1]["broken"]) == 1
    assert [("003.png" in r.getMessage(), "004.png" in r.getMessage()) for r in caplog.records] == [
        (True, False),
        (False, True),
    ]
    for index in range(3):
        (tmp_path / "train" / f"{index:03}.png").unlink()
    fresh = open_folder(tmp_path / "test", config=CONFIG)
    (tmp_path / "test" / "000.png").unlink()
    with pytest.raises(UserError, match="none of 1 can be read any more"):
        fresh[0]


def test_the_label_is_that_of_the_picture_that_stands_in(tmp_path):
    fill(tmp_path / "train" / "a", 1)
    fill(tmp_path / "train" / "b", 2)
    fill(tmp_path / "test", 1)
    (tmp_path / "train" / "a" / "000.png").write_text("no picture")
    fill(tmp_path / "test" / "a", 1)
    (tmp_path / "test" / "000.png").unlink()
    assert [int(record["label"]) for record in open_folder(tmp_path)] == [1, 1, 1]


def test_a_broken_picture_never_leaves_a_split_without_a_readable_one(tmp_path):
    fill(tmp_path, 6)
    names = [f"{index:03}.png" for index in range(6)]
    lowest = names[int(np.argmin(places_of(names)))]
    truncate(tmp_path / lowest)
    config = DataConfig(test_fraction=0.001)
    test = open_folder(tmp_path, "test", config=config)
    assert int(test[0]["broken"]) == 0 and len(open_folder(tmp_path, config=config)) == 5


def test_too_many_broken_pictures_are_an_error_before_training(tmp_path):
    fill(tmp_path, 20)
    truncate(tmp_path / "004.png")
    (tmp_path / "013.png").write_text("no picture")
    message = r"at most one .*or 1 %.*got 2 of 20.*004.png \(.*truncated.*013.png \(not a picture\)"
    with pytest.raises(UserError, match=message):
        open_folder(tmp_path)


def test_one_in_a_hundred_may_be_broken(tmp_path):
    fill(tmp_path, 250)
    for index in (10, 20):
        (tmp_path / f"{index:03}.png").write_text("no picture")
    assert len(open_folder(tmp_path)) + len(open_folder(tmp_path, "test")) == 250
    (tmp_path / "030.png").write_text("no picture")
    with pytest.raises(UserError, match="got 3 of 250"):
        open_folder(tmp_path)


def test_of_a_large_folder_an_even_sample_is_decoded_and_every_header_read(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_index, "_MAX_DECODED", 5)
    decoded = []
    original = folder_index.decode_check
    monkeypatch.setattr(folder_index, "decode_check", lambda p, r: decoded.append(p.name) or original(p, r))
    fill(tmp_path, 20)
    truncate(tmp_path / "003.png")  # its header is whole, and it is not in the sample
    (tmp_path / "013.png").write_text("no picture")
    source = open_folder(tmp_path)
    assert sorted(decoded) == ["002.png", "006.png", "010.png", "014.png", "018.png"]
    files = folder_index.list_pictures(tmp_path).files
    assert folder_index.examine(tmp_path, files, DEFAULT_READING).broken == {"013.png": "not a picture"}
    assert len(source) + len(open_folder(tmp_path, "test")) == 20


def test_each_folder_without_pictures_gets_its_own_message(tmp_path):
    with pytest.raises(UserError, match="missing does not exist"):
        open_folder(tmp_path / "missing")
    (tmp_path / "file").write_text("text")
    with pytest.raises(UserError, match="file is a file"):
        open_folder(tmp_path / "file")
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    with pytest.raises(UserError, match="the folder is empty"):
        open_folder(tmp_path / "empty")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("text")
    with pytest.raises(UserError, match="none of its 1 files has the extension"):
        open_folder(tmp_path / "texts")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_text("text")
    with pytest.raises(UserError, match=r"all 1 are broken: a.png \(not a picture\)"):
        open_folder(tmp_path / "broken")
