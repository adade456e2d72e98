"""What commands write is checked before they begin: no input, no output of their own, nothing but files."""

import os
from pathlib import Path

import pytest

from vq_jax.cli import generate
from vq_jax.cli.free_words import split_free_word
from vq_jax.cli.targets import check_targets, numbered
from vq_jax.cli.train import TrainArguments
from vq_jax.errors import UserError


@pytest.mark.parametrize(
    "target, words",
    [
        ("in.png", "in.png would overwrite a file that the command reads"),
        ("link.png", "link.png would overwrite a file that the command reads"),
        ("folder/../in.png", "would overwrite a file that the command reads"),
        ("run/config.json", "would overwrite a file that the command reads"),
        ("folder", "cannot write .*folder: expected a file, .* is a directory"),
        ("pipe", "cannot write .*pipe: expected a file, .* is a pipe"),
        ("in.png/out.png", "cannot write .*: .*in.png is not a directory"),
        ("in.png/deep/er/out.png", "cannot write .*: .*in.png is not a directory"),
    ],
)
def test_a_target_that_cannot_be_is_refused(target, words, tmp_path):
    (tmp_path / "in.png").write_bytes(b"1")
    (tmp_path / "link.png").symlink_to("in.png")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=words):
        check_targets([tmp_path / target], [tmp_path / "in.png"], run=str(tmp_path / "run"))


def test_two_targets_of_one_name_are_refused(tmp_path):
    with pytest.raises(UserError, match="a.png would be written twice"):
        check_targets([tmp_path / "a.png", tmp_path / "x" / ".." / "a.png"])


def test_targets_that_can_be_are_left_as_they_are(tmp_path):
    (tmp_path / "old.png").write_bytes(b"1")
    check_targets([tmp_path / "old.png", tmp_path / "new" / "er.png", Path("out.png")], [tmp_path / "in.png"])
    assert os.listdir(tmp_path) == ["old.png"]


def test_names_that_have_been_before_are_numbered():
    assert numbered(["a", "b", "a", "a-1", "a"]) == ["a", "b", "a-1", "a-1-1", "a-2"]
    assert numbered(["x", "x-1", "x", "x"]) == ["x", "x-1", "x-2", "x-3"]
    assert len(set(numbered(["x"] * 20_000))) == 20_000


def test_pictures_of_a_longer_drawing_are_removed_and_others_left(tmp_path):
    for index in range(12):
        (tmp_path / generate._numbered(index, ".png")).write_bytes(b"")
    (tmp_path / "mine.png").write_bytes(b"")
    (tmp_path / "100000.png").write_bytes(b"")
    generate._remove_from(tmp_path, ".png", 4)
    assert sorted(os.listdir(tmp_path)) == [f"0000{index}.png" for index in range(4)] + ["mine.png"]


@pytest.mark.parametrize(
    "arguments, name",
    [
        (["x.py", "--steps", "3"], "x.py"),
        (["--steps", "3", "x.py"], "x.py"),
        (["--steps=3", "vqvae-photos"], "vqvae-photos"),
        (["--distributed", "x.py"], "x.py"),
        (["--data.no-flip", "vqgan-fashion"], "vqgan-fashion"),
        (["--data.no_flip", "vqgan-fashion", "--steps", "3"], "vqgan-fashion"),
        (["--model.quantizer.normalize", "--seed", "1", "vqgan-fashion"], "vqgan-fashion"),
        (["--no-conditional", "prior-fashion"], "prior-fashion"),
        (["--help", "vqgan-fashion"], "vqgan-fashion"),
        (["--training.mesh-data", "-1", "vqgan-fashion"], "vqgan-fashion"),
        (["--init-parts", "encoder", "decoder", "vqgan-fashion"], "vqgan-fashion"),
        (["--model.channel-multipliers", "1", "2", "--seed", "1", "x.py"], "x.py"),
        (["--losses.diff-augment", "vqgan-fashon"], "vqgan-fashon"),
        (["--data", "x.py"], None),
        (["--workdir", "x.py"], None),
        (["--data.source", "vqvae-photos", "--steps", "3"], None),
        (["--model.channel-multipliers", "1", "2"], None),
        (["--data=x.py"], None),
        ([], None),
    ],
)
def test_only_a_free_word_names_an_experiment(arguments, name):
    found, rest = split_free_word(arguments, TrainArguments)
    assert found == name and rest == [word for word in arguments if word != name]
