"""A converted directory is a model directory: the commands take it as they take a run."""

import json

import cli_runs
import jax
import numpy as np
import pytest
from cli_runs import call
from converted_models import TRANSFORMER, saved, transformer
from flax import serialization
from PIL import Image

import vq_jax
from vq_jax.configs import GPTArchitecture, PriorConfig
from vq_jax.pretrained.build import abstract_prior, build_prior

pytestmark = pytest.mark.ci
CLASSES, SIDE = TRANSFORMER["classes"], 16  # px


def converted(name, folder):
    """The model directory of a file of a format that a random model was exported to."""
    saved(name, folder / f"{name}-first")
    file, place = folder / f"{name}.file", folder / name
    assert call("export", folder / f"{name}-first", "--to", name, "-o", file) == 0
    assert call("convert", name, file, "-o", place, "--image-size", SIDE) == 0
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("converted")
    converted("taming", place)
    converted("llamagen", place)
    for number, picture in enumerate(cli_runs.pictures(3, 20, 24)):
        Image.fromarray(picture).save(place / f"{number}.png")
    return place


def gpt_file(folder):
    """A file of LlamaGen's GPT with random weights over the codes of the converted tokenizer."""
    tokenizer = vq_jax.load_tokenizer(folder / "llamagen")
    network = GPTArchitecture(
        width=128, num_layers=1, num_heads=2, mlp_features=96, norm_epsilon=1e-5, silent_prefix=True
    )
    config = PriorConfig("small-gpt", network, tokenizer=str(folder / "llamagen"))
    model = build_prior(config, tokenizer.code_specs(SIDE), CLASSES, tokenizer.config)
    rng = np.random.default_rng(0)
    shapes = abstract_prior(model)["params"]
    params = jax.tree.map(lambda leaf: (0.2 * rng.normal(size=leaf.shape)).astype(leaf.dtype), shapes)
    params = dict(params)
    tables = [name for name in params if name.startswith("position_")]  # of which such files have none
    params |= {name: np.zeros_like(params[name]) for name in tables}
    vq_jax.Prior(model, {"params": params}, tokenizer, config, 0, SIDE).save(folder / "gpt-first")
    assert call("export", folder / "gpt-first", "--to", "llamagen-gpt", "-o", folder / "gpt.pt") == 0
    return folder / "gpt.pt"


@pytest.fixture(scope="module", params=["llamagen-gpt", "maskgit-transformer"])
def prior(request, folder):
    """The model directory of a converted prior, with its tokenizer in it."""
    if request.param == "llamagen-gpt":
        file, tokenizer = gpt_file(folder), "llamagen"
    else:
        file, tokenizer = folder / "maskgit_checkpoint", "taming"
        file.write_bytes(serialization.msgpack_serialize({"params": transformer()[1]}))
    place = folder / request.param
    arguments = ("--image-size", SIDE, "--tokenizer", folder / tokenizer)
    assert call("convert", request.param, file, "-o", place, *arguments) == 0
    return place


def test_pictures_are_encoded_and_decoded_as_they_are_reconstructed(folder, tmp_path, capsys):
    model, pictures = folder / "taming", [folder / f"{number}.png" for number in range(3)]
    assert call("reconstruct", model, *pictures, "-o", tmp_path / "pairs") == 0
    assert "PSNR" in capsys.readouterr().out
    assert call("encode", model, *pictures, "-o", tmp_path / "codes.npz") == 0
    assert call("decode", model, tmp_path / "codes.npz", "-o", tmp_path / "decoded") == 0
    tokenizer = vq_jax.load_tokenizer(model)
    for number, path in enumerate(sorted((tmp_path / "decoded").iterdir())):
        picture = np.asarray(Image.open(pictures[number]))
        expected = tokenizer.reconstruct(picture[None])[0]
        # of a batch of three, and alone
        np.testing.assert_allclose(np.asarray(Image.open(path), int), expected.astype(int), atol=1)
    other = folder / "llamagen"
    assert call("decode", other, tmp_path / "codes.npz", "-o", tmp_path / "wrong") == 2


def test_it_is_inspected_and_measured_on_pictures_of_the_users_own(folder, tmp_path, capsys):
    model = folder / "taming"
    assert call("inspect", model) == 0
    assert "8 codes, 3 wide, gradient" in capsys.readouterr().out
    out = tmp_path / "figures.json"
    names = ("--metrics", "reconstruction", "codes", "rate")
    assert call("evaluate", model, *names, "--num", 4, "-o", out) == 0
    figures = json.loads(out.read_text())["figures"]
    assert figures["bits_per_pixel"] == pytest.approx(3 / 4) and np.isfinite(figures["psnr"])


def test_a_converted_prior_draws_by_class(prior, tmp_path, capsys):
    grid = tmp_path / "grid.png"
    assert call("sample", prior, "--num", 3, "--label", 2, "-o", grid, "--seed", 1) == 0
    with Image.open(grid) as drawn:
        assert drawn.mode == "RGB" and drawn.size[0] >= 3 * SIDE
    assert call("inspect", prior) == 0 and f"{CLASSES} classes" in capsys.readouterr().out
    assert call("sample", prior, "--num", 1, "--label", CLASSES, "-o", grid) == 2


def test_a_prior_is_trained_over_a_converted_tokenizer(folder, tmp_path):
    labels = np.arange(40) % 3
    np.savez(tmp_path / "set.npz", images=cli_runs.pictures(40, SIDE, SIDE), labels=labels)
    data = ("--data.source", f"arrays:{tmp_path / 'set.npz'}")
    arguments = ("--tokenizer", folder / "taming", "--workdir", tmp_path / "run", *data)
    small = ("--prior.width", 16, "--prior.num-layers", 1, "--prior.num-heads", 2, "--steps", 1)
    small += ("--optimizer.warmup-steps", 0)
    assert call("train", "prior-fashion", *arguments, *small, "--batch-size", 4) == 0
    assert vq_jax.load_prior(tmp_path / "run").num_classes == 3
