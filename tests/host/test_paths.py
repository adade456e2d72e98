"""Paths as they come in: one check and one expansion, whichever door they take."""

import dataclasses
import os
from pathlib import Path

import pytest

from vq_jax.configs import CodesConfig, DataConfig, ExperimentConfig, Losses, NoiseConfig, ResidualVQVAE
from vq_jax.configs.presets import load_preset
from vq_jax.errors import UserError
from vq_jax.host.storage import checked_directory, checked_path
from vq_jax.pretrained.load import load
from vq_jax.runs.rundir import read_config
from vq_jax.train import train

WRONG = {
    "a\0b": "has a null byte",
    "s3://bucket/run": r"must be a local path or gs://BUCKET/..., got 's3://bucket/run'",
    "http://host/run": "local path",
    "file:///run": "local path",
    "a1://b": "local path",
    "a://b": "local path",
    "1://b": "local path",
    "~nobody-here/run": "home directory is not known",
    "n" * 300: "must be a shorter path, .* with a name of 300 bytes",
    "/".join(["name"] * 1000): "must be a shorter path",
}


@pytest.mark.parametrize("path", WRONG)
def test_a_path_that_cannot_be_is_refused_at_every_door(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = ExperimentConfig("small", ResidualVQVAE())
    doors = (
        lambda: checked_path(path),
        lambda: train(config, path),
        lambda: load(path),
        lambda: read_config(path),
        lambda: load_preset(path),
        lambda: DataConfig(source=f"folder:{path}"),
        lambda: DataConfig(data_dir=path),
        lambda: Losses(perceptual_file=path),
        lambda: NoiseConfig("n", tokenizer=path),
        lambda: CodesConfig(directory=path),
    )
    for door in doors:
        with pytest.raises(UserError, match=WRONG[path]) as caught:
            door()
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert not list(tmp_path.iterdir())


def test_the_home_directory_is_written_out_at_every_door(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checked_path("~/run") == str(tmp_path / "run") == checked_path(Path("~/run"))
    assert checked_path("a~/b") == "a~/b" and checked_path("") == ""
    assert DataConfig(source="folder:~/p").source == f"folder:{tmp_path}/p"
    assert DataConfig(source="tfds:a/b:train").source == "tfds:a/b:train"
    assert DataConfig(data_dir=Path("~")).data_dir == str(tmp_path)
    with pytest.raises(UserError, match=f"in {tmp_path}/run|{tmp_path}/run|~/run"):
        read_config("~/run")


def test_a_local_path_with_a_url_inside_is_no_url():
    assert checked_path("runs/a://b") == "runs/a:/b" and checked_path("gs://b/c") == "gs://b/c"


def test_the_directory_of_a_run_has_a_name_in_utf8(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="got an empty name"):
        checked_directory("", "workdir")
    with pytest.raises(UserError, match=r"in UTF-8, got b'run\\xff'"):
        checked_directory(os.fsdecode(b"run\xff"), "workdir")
    (tmp_path / os.fsdecode(b"\xff")).mkdir()
    monkeypatch.chdir(tmp_path / os.fsdecode(b"\xff"))
    with pytest.raises(UserError, match="checkpoints cannot be kept there"):
        checked_directory("run", "workdir")


@pytest.mark.parametrize(
    "name", ["", " ", "a\0b", "n" * 300, "a/b", "..", ".hidden", "-o", "a\nb", "123", 5, None]
)
def test_the_name_of_an_experiment_is_that_of_a_directory(name):
    for make in (lambda: ExperimentConfig(name, ResidualVQVAE()), lambda: NoiseConfig(name)):
        with pytest.raises(ValueError, match="name must be a "):
            make()
    config = ExperimentConfig("größe 2.5_run-1", ResidualVQVAE())
    assert dataclasses.replace(config) == config
