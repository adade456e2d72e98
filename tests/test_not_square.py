"""Pictures that are not square: from a folder through training to what each command makes of the run."""

import json

import numpy as np
import pytest
from cli_runs import SMALL, call, pictures
from PIL import Image
from prior_runs import prior_config
from shared import made_once

import vq_jax
from vq_jax.configs import DataConfig, PriorDataConfig
from vq_jax.configs.presets import load_preset
from vq_jax.configs.serialize import from_dict, to_dict
from vq_jax.data import read_picture
from vq_jax.data.in_memory import MemorySource
from vq_jax.data.variants import Variants
from vq_jax.pretrained.record import make_record, read_record
from vq_jax.runs.grids import picture_grid
from vq_jax.train import train
from vq_jax.train.tasks.planned_codes import planned_codes

HEIGHT, WIDTH = 16, 24


@pytest.fixture(scope="module")
def folder():
    def make(directory):
        for number, pixels in enumerate(pictures(12, 20, 40)):
            Image.fromarray(pixels).save(directory / f"{number}.png")

    return made_once("wide-pictures", make)


@pytest.fixture(scope="module")
def run(folder):
    def make(directory):
        size = ("--data.image-size", HEIGHT, WIDTH)
        given = ("--data", f"folder:{folder}", "--steps", 2, "--workdir", directory)
        assert call("train", "vqvae-photos", *SMALL, *size, *given) == 0

    return made_once("wide-run", make)


@pytest.mark.parametrize(
    "given, stored",
    [(64, 64), ((64, 64), 64), ([64, 96], (64, 96)), (np.int64(8), 8), ((np.int32(8), 12), (8, 12))],
)
def test_a_size_is_one_number_or_two_and_survives_json(given, stored):
    for config in (DataConfig(image_size=given), PriorDataConfig(image_size=given)):
        assert config.image_size == stored and type(config.image_size) is type(stored)
    preset = load_preset("vqgan-photos")
    values = json.loads(json.dumps(to_dict(preset)))
    values["data"]["image_size"] = json.loads(json.dumps(np.array(given).tolist()))
    assert from_dict(values).data.image_size == stored
    assert to_dict(preset)["data"]["image_size"] == 64


@pytest.mark.parametrize("wrong", [(64,), (64, 64, 64), (), (64, 2), (64, 1.5), "64x96"])
def test_another_size_is_refused(wrong):
    with pytest.raises(ValueError, match=r"data\.image_size must be .*, got"):
        DataConfig(image_size=wrong)


@pytest.mark.parametrize("size", ["16x24", "16 a", "16 24 32"])
def test_another_size_on_the_command_line_is_one_short_message(tmp_path, capsys, size):
    arguments = ("--data.image-size", *size.split(), "--workdir", tmp_path / "run")
    assert call("train", "vqvae-photos", *arguments) == 2
    message = capsys.readouterr().err
    assert "--data.image-size: expected INT or INT INT, got" in message and message.count("\n") <= 3
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "preset, words",
    [
        ("vqvae-photos", "data.image_size = 16 x 22 must be a multiple of 4"),
        ("vqvae-fashion-mlp", "give --model.image-size 16 22"),
    ],
)
def test_a_model_that_cannot_take_the_size_refuses_it_first(tmp_path, capsys, preset, words):
    size = ("--data.image-size", 16, 22)
    assert call("train", preset, *size, "--workdir", tmp_path / "run") == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") <= 3 and not (tmp_path / "run").exists()


def test_the_fingerprint_of_crops_is_that_of_their_size():
    source = MemorySource(np.zeros((2, 8, 8, 3), np.uint8))
    square, same, wide = (Variants(source, DataConfig(image_size=s), 1) for s in (8, (8, 8), (8, 12)))
    assert (
        square.fingerprint == same.fingerprint == "6b5a4ee2f3c71c8b201538706fe53b48"
    )  # as it has always been
    assert wide.fingerprint != square.fingerprint and wide[0]["image"].shape == (8, 12, 3)


def test_a_run_over_a_folder_makes_and_takes_pictures_of_its_size(tmp_path, folder, run):
    assert json.loads((run / "config.json").read_text())["data"]["image_size"] == [HEIGHT, WIDTH]
    tokenizer = vq_jax.load(run)
    assert tokenizer.code_specs((HEIGHT, WIDTH)).shape == (4, 6)
    assert call("encode", run, folder / "0.png", "-o", tmp_path / "codes.npz") == 0
    assert call("decode", run, tmp_path / "codes.npz", "-o", tmp_path / "decoded") == 0
    assert read_picture(tmp_path / "decoded" / "0.png", 3).shape == (20, 40, 3)
    assert call("evaluate", run, "-o", tmp_path / "figures.json") == 0
    # The same command says that the run has ended: its configuration is the one that was stored.
    given = ("--data", f"folder:{folder}", "--steps", 2, "--workdir", run)
    assert call("train", "vqvae-photos", *SMALL, "--data.image-size", HEIGHT, WIDTH, *given) == 0


def test_what_a_prior_knows_of_its_pictures_survives_its_record(tmp_path, run):
    tokenizer = vq_jax.load(run)
    record = make_record(tmp_path, str(run), tokenizer, None, DataConfig(image_size=(HEIGHT, WIDTH)))
    record.write(tmp_path)
    assert read_record(tmp_path) == record and record.specs.shape == (4, 6)
    assert picture_grid(np.zeros((8, HEIGHT, WIDTH, 3), np.uint8), 4).shape == (2 * 68 - 4, 4 * 100 - 4, 3)


def test_a_plan_knows_the_codes_of_pictures_that_are_not_square(tmp_path):
    (tmp_path / "tokenizer.py").write_text(
        "import dataclasses\n"
        "from vq_jax.configs.presets import load_preset\n"
        "base = load_preset('vqvae-photos')\n"
        "config = dataclasses.replace(base, data=dataclasses.replace(base.data, image_size=(16, 24)))\n"
    )
    codes = planned_codes(prior_config(tokenizer="unused"), str(tmp_path / "tokenizer.py"), 0)
    assert codes.image_shape == (16, 24, 3) and codes.specs.shape == (4, 6)


@pytest.mark.ci
@pytest.mark.parametrize("kind", ["maskgit", "noise"])
def test_a_prior_draws_and_fills_pictures_that_are_not_square(tmp_path, folder, run, kind):
    config = prior_config(kind=kind, tokenizer=run, conditional=False, steps=2, image_every=2)
    assert train(config, tmp_path / "prior").step == 2
    assert call("sample", tmp_path / "prior", "--num", 2, "-o", tmp_path / "drawn.png") == 0
    vq_jax.load(tmp_path / "prior").save(tmp_path / "model")
    prior = vq_jax.load(tmp_path / "model")
    assert prior.image_size == (HEIGHT, WIDTH) and prior.sample(2).shape == (2, HEIGHT, WIDTH, 3)
    if kind == "maskgit":
        box = ("--box", "2,2,6,6", "-o", tmp_path / "filled.png")
        assert call("inpaint", tmp_path / "model", folder / "0.png", *box) == 0
        assert read_picture(tmp_path / "filled.png", 3).shape == (20, 40, 3)


@pytest.mark.ci
def test_a_discriminator_judges_pictures_that_are_not_square(tmp_path, folder):
    size = ("--data.image-size", HEIGHT, WIDTH, "--losses.perceptual-weight", 0, "--losses.disc-start", 0)
    small = ("--discriminator.num-layers", 1, "--discriminator.channels", 4, "--losses.adversarial-start", 0)
    given = ("--data", f"folder:{folder}", "--steps", 2, "--workdir", tmp_path / "run")
    assert call("train", "vqgan-photos", *SMALL, *size, *small, *given) == 0
