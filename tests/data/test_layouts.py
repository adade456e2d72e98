"""What is understood of folders as people have them: splits, classes, and what is left out."""

import io
import json
import logging
import os

import numpy as np
import pytest
from PIL import Image

from vq_jax.configs import DataConfig
from vq_jax.data import open as opening
from vq_jax.errors import UserError


def png():
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    return file.getvalue()


PNG = png()
RUN = json.dumps({"kind": "tokenizer", "version": 1, "name": "vqvae-photos"}).encode()


def many(folder, count, suffix=".png", first=0):
    return [f"{folder}{'/' if folder else ''}{number}{suffix}" for number in range(first, first + count)]


def make(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        is_run = path.name == "config.json"
        path.write_bytes(RUN if is_run else PNG)


class Expected:
    """What should be understood: how many pictures, which classes, and words about what is left out."""

    def __init__(self, train, test, classes=None, left_out=()):
        self.train, self.test, self.classes, self.left_out = train, test, classes, left_out


CATS = ("cats", "dogs")
# Of each layout: its files, and what is understood. A test count of None: a share is held out of the rest.
LAYOUTS = {
    "flat": (many("", 9), Expected(9, None)),
    "classes": (many("cats", 4) + many("dogs", 4), Expected(8, None, CATS)),
    "lower": (many("train", 4) + many("test", 3), Expected(4, 3)),
    "Kaggle": (many("Training/cats", 4) + many("Training/dogs", 4) + many("Testing/dogs", 2),
               Expected(8, 2, CATS)),
    "valid": (many("train/cats", 4) + many("train/dogs", 4) + many("valid/cats", 2), Expected(8, 2, CATS)),
    "upper": (many("TRAIN", 4) + many("VAL", 3), Expected(4, 3)),
    "sets": (many("training_set/cats", 4) + many("training_set/dogs", 4) + many("test_set/dogs", 2),
             Expected(8, 2, CATS)),
    "COCO": (many("train2017", 4) + many("val2017", 3), Expected(4, 3)),
    "Intel": (many("seg_train/seg_train/sea", 4) + many("seg_train/seg_train/ice", 3)
              + many("seg_test/seg_test/sea", 2) + many("seg_pred/seg_pred", 5),
              Expected(7, 2, ("ice", "sea"), ["5 pictures in seg_pred/"])),
    "DIV2K": (many("DIV2K_train_HR", 4) + many("DIV2K_valid_HR", 3), Expected(4, 3)),
    "ImageNet": (many("train/n01", 4) + many("train/n02", 4) + many("val/n02", 3) + many("test", 5),
                 Expected(8, 3, ("n01", "n02"), ["5 pictures in test/"])),
    "flat test": (many("train/cats", 9) + many("train/dogs", 9) + many("test", 5),
                  Expected(18, None, CATS, ["5 pictures in test/"])),
    "unknown": (many("train/cats", 9) + many("train/dogs", 9) + many("test/unknown", 5),
                Expected(18, None, CATS, ["5 pictures in test/"])),
    "both": (many("train", 4) + many("test", 3) + many("val", 2), Expected(4, 3, None,
             ["2 pictures in val/"])),
    "STL10": (many("train/cats", 4) + many("train/dogs", 4) + many("test/cats", 2) + many("unlabeled", 6),
              Expected(8, 2, CATS, ["6 pictures in unlabeled/"])),
    "train only": (many("train/cats", 5) + many("train/dogs", 5), Expected(10, None, CATS)),
    "one folder around": (many("archive/train/cats", 4) + many("archive/train/dogs", 4)
                          + many("archive/test/cats", 2), Expected(8, 2, CATS)),
    "images": (many("images", 9), Expected(9, None)),
    "images of classes": (many("images/cats", 4) + many("images/dogs", 4), Expected(8, None, CATS)),
    "YOLO": (many("train/images", 4) + many("train/labels", 4, ".txt") + many("valid/images", 2),
             Expected(4, 2, None, ["4 .txt"])),
    "splits in classes": (many("cats/train", 4) + many("cats/test", 2) + many("dogs/train", 3)
                          + many("dogs/test", 1), Expected(7, 3, CATS)),
    "one loose": (many("cats", 4) + many("dogs", 4) + ["cover.png"],
                  Expected(8, None, CATS, ["1 picture beside the folders"])),
    "many loose": (many("cats", 4) + many("dogs", 4) + many("", 5), Expected(13, None)),
    "numbers": (many("0", 3) + many("1", 3) + many("10", 3) + many("2", 3),
                Expected(12, None, ("0", "1", "2", "10"))),
    "trains": (many("bus", 4) + many("train", 4) + many("tram", 4),
               Expected(12, None, ("bus", "train", "tram"))),
    "stations": (many("test tube", 4) + many("train station", 4) + many("tram", 4),
                 Expected(12, None, ("test tube", "train station", "tram"))),
    "phones": (many("", 50, ".heic") + many("", 9), Expected(9, None, None, ["50 .heic"])),
    "hidden": (many(".cache", 2) + many("__MACOSX/x", 2) + many("", 9) + [".x.png", "notes", "a.txt"],
               Expected(9, None, None,
                        ["2 hidden folders", "1 hidden file", "1 without extension", "1 .txt"])),
    "its own run": (many("", 9) + ["runs/vqvae-photos/config.json", "runs/vqvae-photos/images/1.png"],
                    Expected(9, None, None, ["the run or model runs/vqvae-photos"])),
    "a run beside classes": (many("cats", 4) + many("dogs", 4)
                             + ["runs/a/config.json", "runs/a/images/1.png", "runs/b/config.json"],
                             Expected(8, None, CATS, ["the run or model runs/a", "the run or model runs/b"])),
    "a class of the test only": (many("train/cats", 4) + many("train/dogs", 4) + many("test/cats", 3)
                                 + many("test/owls", 1), Expected(8, 4, ("cats", "dogs", "owls"))),
    "deep": (many("cats/a/b", 4) + many("dogs/c", 4), Expected(8, None, CATS)),
}  # fmt: skip


def open_both(root, **fields):
    return opening.open_splits(DataConfig(source=f"folder:{root}", test_fraction=0.3, **fields), 3)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_is_understood_and_said_in_one_line(tmp_path, caplog, name):
    names, expected = LAYOUTS[name]
    make(tmp_path, names)
    caplog.set_level(logging.INFO, "vq_jax")
    train, test = open_both(tmp_path)
    assert len(train) + (len(test) if expected.test is None else 0) == expected.train
    assert expected.test is None or len(test) == expected.test
    assert train.class_names == test.class_names == expected.classes
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"Data: {len(train)} pictures to train on, {len(test)} held out, ")
    words = "no classes" if expected.classes is None else f"{len(expected.classes)} classes ("
    assert words in line and all(part in line for part in (expected.classes or ()))
    for part in expected.left_out:
        assert part in line.partition("left out: ")[2]
    assert ("left out" in line) == bool(expected.left_out)
    for source in (train, test):
        if expected.classes is not None:
            folders = [source._names[index].split("/") for index in range(len(source))]
            for folder, record in zip(folders, source, strict=True):
                assert expected.classes[record["label"]] in folder
        else:
            assert "label" not in source[0]


def test_a_folder_that_cannot_be_entered_is_said(tmp_path, caplog, monkeypatch):
    make(tmp_path, many("", 9) + many("secret", 3))
    caplog.set_level(logging.INFO, "vq_jax")
    original = os.scandir

    def scandir(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    open_both(tmp_path)
    assert "left out: the folder secret (Permission denied)" in caplog.text


def test_what_is_no_regular_file_is_left_out(tmp_path, caplog):
    make(tmp_path, many("", 9))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "missing")
    caplog.set_level(logging.INFO, "vq_jax")
    train, test = open_both(tmp_path)
    assert len(train) + len(test) == 9 and "left out: 2 special files" in caplog.text


def test_a_folder_with_a_configuration_of_something_else_is_data(tmp_path):
    make(tmp_path, many("cats", 9))
    for text in ("{}", "[]", "no json", '{"kind": "tokenizer-record", "version": 1}', '{"name": 1}'):
        (tmp_path / "cats" / "config.json").write_text(text)
        assert sum(map(len, open_both(tmp_path))) == 9


def test_many_classes_are_counted_and_the_first_named(tmp_path, caplog):
    make(tmp_path, [f"{number:03}/a.png" for number in range(60)])
    caplog.set_level(logging.INFO, "vq_jax")
    open_both(tmp_path)
    assert "60 classes (000, 001, " in caplog.text and " and 40 more)" in caplog.text


def test_a_replaced_picture_of_the_same_name_and_size_is_other_data(tmp_path):
    """A prior that was trained on the codes of the old ones would go on with those."""
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.bmp")
    (tmp_path / "train").mkdir()
    before = open_both(tmp_path)[0]
    place = tmp_path / before._names[0]
    status, content = place.stat(), bytearray(place.read_bytes())
    for offset in (60, 30_000, len(content) - 1):
        changed = content.copy()
        changed[offset : offset + 40_000] = bytes(len(changed[offset : offset + 40_000]))
        place.write_bytes(changed)
        os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns + offset))
        assert open_both(tmp_path)[0].fingerprint != before.fingerprint
    place.write_bytes(content)
    assert open_both(tmp_path)[0].fingerprint == before.fingerprint


def test_a_moved_folder_holds_the_same_data(tmp_path):
    make(tmp_path / "a", many("cats", 9))
    before = open_both(tmp_path / "a")[0].fingerprint
    (tmp_path / "a").rename(tmp_path / "b")
    assert open_both(tmp_path / "b")[0].fingerprint == before


def test_a_folder_of_other_files_says_which_kinds(tmp_path):
    make(tmp_path, many("", 3, ".heic") + ["a.txt"])
    with pytest.raises(UserError, match=r"none of its 4 files .*left out: 3 \.heic, 1 \.txt"):
        open_both(tmp_path)
