"""`vq-jax evaluate` on sets of pictures: folders, arrays and files of statistics."""

import importlib
import json

import jax.numpy as jnp
import numpy as np
import pytest
from cli_runs import call, trained_run
from converted_models import saved
from PIL import Image
from prior_runs import prior_run
from safetensors.numpy import save_file

from vq_jax import evaluate
from vq_jax.convert import feature_networks
from vq_jax.errors import UserError
from vq_jax.nn.features import i3d, inception, vgg16
from vq_jax.nn.features.feature_network import FeatureNetwork, Features


def _compute(weights, pictures):
    pixels = weights * pictures.astype(jnp.float32)
    return Features(
        jnp.concatenate([jnp.mean(pixels, axis=(1, 2)), jnp.std(pixels, axis=(1, 2))], axis=1), None
    )


@pytest.fixture(autouse=True)
def small_vgg(monkeypatch):
    """Means and deviations of colours in the place of VGG16, whose weights are not installed everywhere."""
    network = FeatureNetwork("vgg", 6, 0, 1, "means of colours", jnp.float32(1 / 255), _compute)
    monkeypatch.setattr(vgg16, "vgg16_network", lambda: network)


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for name, bright in (("made", 180), ("real", 256)):
        (tmp_path / name).mkdir()
        for number in range(8):
            pixels = rng.integers(0, bright, (9, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return tmp_path / "made", tmp_path / "real"


def read(folder):
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])


def report(path):
    return json.loads(path.read_text())


def test_two_folders_are_compared_one_by_one_and_as_sets(folders, tmp_path, capsys):
    made, real = folders
    out = tmp_path / "figures.json"
    metrics = ("reconstruction", "ssim", "fd-vgg", "kd-vgg", "prdc-vgg")
    assert call("evaluate", made, "--against", real, "--metrics", *metrics, "-o", out) == 0
    text = capsys.readouterr().out
    found = report(out)["figures"]
    ours, theirs = read(made), read(real)
    pairs = list(zip(ours, theirs, strict=True))
    assert found["psnr"] == pytest.approx(np.mean([evaluate.psnr(a, b) for a, b in pairs]), rel=1e-5)
    assert found["ssim"] == pytest.approx(np.mean([evaluate.ssim(a, b) for a, b in pairs]), abs=1e-5)
    sides = []
    for pixels in (ours / 255, theirs / 255):
        features = np.concatenate([pixels.mean((1, 2)), pixels.std((1, 2))], axis=1)
        sides += [features.mean(axis=0), np.cov(features.T)]
    assert found["fd-vgg"] == pytest.approx(evaluate.frechet_distance(*sides), rel=1e-3)
    assert {"kd-vgg", "precision-vgg", "recall-vgg", "density-vgg", "coverage-vgg"} <= found.keys()
    (line,) = report(out)["computed"]
    assert line in text and f"means of colours; 8 pictures of {made} against 8 those in {real}" in line


def test_statistics_are_saved_read_again_and_are_pytorch_fids(folders, tmp_path, capsys):
    made, real = folders
    saved, first, second = (tmp_path / name for name in ("real.npz", "first.json", "second.json"))
    assert call("evaluate", made, "--against", real, "--save-statistics", saved, "-o", first) == 0
    assert call("evaluate", made, "--against", saved, "-o", second) == 0
    assert report(first)["figures"] == pytest.approx(report(second)["figures"])
    with np.load(saved) as arrays:
        theirs = {name: arrays[name] for name in ("mu", "sigma")}
        assert int(arrays["count"]) == 8 and str(arrays["computed"]) == "means of colours"
    np.savez(tmp_path / "theirs.npz", **theirs)
    assert (
        call("evaluate", made, "--against", tmp_path / "theirs.npz", "--metrics", "fd-vgg", "-o", second) == 0
    )
    assert report(second)["figures"]["fd-vgg"] == pytest.approx(report(first)["figures"]["fd-vgg"])
    capsys.readouterr()
    assert call("evaluate", made, "--against", tmp_path / "theirs.npz") == 2
    assert "kd-vgg needs the features of the reference" in capsys.readouterr().err
    alone = tmp_path / "alone.npz"
    assert call("evaluate", real, "--metrics", "fd-vgg", "--save-statistics", alone) == 0
    np.testing.assert_allclose(np.load(alone)["mu"], theirs["mu"])


def test_arrays_of_clips_have_flicker_and_motion(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("made", "real"):
        np.savez(tmp_path / f"{name}.npz", arr_0=rng.integers(0, 256, (4, 3, 8, 8, 1), np.uint8))
    out = tmp_path / "figures.json"
    places = (tmp_path / "made.npz", "--against", tmp_path / "real.npz")
    assert call("evaluate", *places, "--metrics", "flicker", "fd-vgg", "fd-motion-vgg", "-o", out) == 0
    found = report(out)
    assert set(found["figures"]) == {"flicker", "fd-vgg", "fd_motion-vgg"}
    assert [line.count("12 pictures") + line.count("8 pictures") for line in found["computed"]] == [1, 1]


@pytest.mark.ci
def test_a_tokenizers_reconstructions_and_a_priors_pictures_are_compared_with_held_out_ones(
    tmp_path, folders
):
    out = tmp_path / "figures.json"
    saved = tmp_path / "real.npz"
    metrics = ("--metrics", "rate", "fd-vgg", "--save-statistics", saved)
    assert call("evaluate", trained_run(), *metrics, "--num", 4, "-o", out) == 0
    found = report(out)
    assert found["figures"].keys() > {"fd-vgg", "bits_per_pixel"} and found["pictures"] == 4
    assert "4 reconstructions against 4 held-out pictures of" in found["computed"][0]
    for against in ((), ("--against", saved), ("--against", folders[1])):
        assert call("evaluate", prior_run(), "--metrics", "fd-vgg", "--num", 3, *against, "-o", out) == 0
        assert report(out)["figures"]["fd-vgg"] > 0.0
        assert "; 3 drawn pictures" in report(out)["computed"][0]


@pytest.mark.parametrize(
    "at", ["vq_jax.data.read_picture", "vq_jax.evaluate.set_figures", "vq_jax.host.files._sync"]
)
def test_interrupted_in_reading_computing_or_writing_it_leaves_what_was_there(
    folders, tmp_path, monkeypatch, at
):
    made, real = folders
    calls, stopping = [], {"vq_jax.data.read_picture": 5, "vq_jax.host.files._sync": 2}.get(at, 1)
    module, _, name = at.rpartition(".")
    plain = getattr(importlib.import_module(module), name)

    def interrupted(*arguments):
        calls.append(at)
        if len(calls) >= stopping:
            raise KeyboardInterrupt
        return plain(*arguments)

    out, saved = tmp_path / "figures.json", tmp_path / "real.npz"
    out.write_text("before")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(at, interrupted)
    command = (
        "evaluate",
        made,
        "--against",
        real,
        "--metrics",
        "fd-vgg",
        "--save-statistics",
        saved,
        "-o",
        out,
    )
    assert call(*command) == 130
    assert sorted(tmp_path.rglob("*")) == before and out.read_text() == "before" and len(calls) >= stopping


@pytest.mark.ci
def test_figures_of_a_tokenizer_are_the_same_on_one_device_and_on_four(tmp_path, monkeypatch):
    from vq_jax.cli import comparison, model_figures

    assert comparison.batch_spread().num_devices == 4
    metrics = ("reconstruction", "codes", "rate", "ssim", "fd-vgg", "kd-vgg")
    figures = []
    for number in range(2):
        out = tmp_path / f"{number}.json"
        assert call("evaluate", trained_run(), "--metrics", *metrics, "-o", out) == 0
        figures.append(report(out)["figures"])
        for module in (comparison, model_figures):
            monkeypatch.setattr(module, "batch_spread", lambda: None)
    assert figures[0] == pytest.approx(figures[1], rel=1e-5) and len(figures[0]) > 12


@pytest.mark.ci
def test_perturbed_codes_have_a_figure_of_their_own(tmp_path):
    saved("taming", tmp_path / "model")
    out = tmp_path / "figures.json"
    arguments = ("--metrics", "fd-vgg", "pfd-vgg", "--num", 4, "-o", out)
    assert call("evaluate", tmp_path / "model", *arguments) == 0
    figures, computed = report(out)["figures"], report(out)["computed"]
    assert figures["pfd-vgg"] > 0 and figures["pfd-vgg"] != figures["fd-vgg"]
    said = "50% of the codes, drawn at random, replaced by the nearest other one of 8; means of colours; 4 "
    assert [line.count(said) for line in computed] == [0, 1]


def test_mistakes_are_one_line_and_write_nothing(folders, tmp_path, capsys):
    made, real = folders
    (real / "0.png").unlink()
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "floats.npz", arr_0=np.zeros((3, 8, 8, 3)))
    save_file({"conv.weight": np.zeros((3, 3), np.float32)}, tmp_path / "other.safetensors")
    weights = ("--inception", tmp_path / "other.safetensors")
    out = tmp_path / "figures.json"
    for arguments, words in (
        ((made, "--against", real, "--metrics", "ssim"), "has 8 pictures and"),
        ((made, "--against", tmp_path / "empty"), "the folder is empty"),
        ((made,), "give them with --against"),
        ((made, "--against", real, "--metrics", "codes"), "unknown metric 'codes'"),
        ((made, "--against", tmp_path / "floats.npz"), "float64 [3, 8, 8, 3]"),
        ((made, "--against", real, "--metrics", "fd-inception"), "pt_inception-2015-12-05-6726825d.pth"),
        (
            (made, "--against", real, "--metrics", "fd-inception", *weights),
            "does not hold the weights of Inc",
        ),
        (
            (made, "--against", real, "--metrics", "pfd-vgg"),
            "is of a tokenizer whose codes are perturbed, not",
        ),
        ((made, "--against", real, "--metrics", "is-vgg"), "expected a network with classes for is-vgg"),
        ((made, "--against", made / "0.png"), "expected a folder of pictures or an .npz file of pictures"),
    ):
        assert call("evaluate", *arguments, "-o", out) == 2, words
        output, message = capsys.readouterr()
        assert words in message and message.count("\n") == 1 and output == "", message
        assert not out.exists()


def test_i3d_is_published_where_its_file_is_and_needs_a_file(tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    assert feature_networks._git_hash(empty) == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    path = tmp_path / "weights.safetensors"
    shapes = {"logits.conv3d.weight": (400, 2, 1, 1, 1), "logits.conv3d.bias": (400,)}
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, path)
    monkeypatch.setattr(i3d, "i3d_shapes", lambda: shapes)
    assert not feature_networks.i3d_from(path).is_reference
    monkeypatch.setattr(feature_networks, "_PUBLISHED_I3D", feature_networks._git_hash(path))
    assert feature_networks.i3d_from(path).is_reference
    with pytest.raises(UserError, match="with --i3d FILE"):
        feature_networks.i3d_from(None)


def test_inception_is_published_where_its_file_is(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    rng = np.random.default_rng(0)
    shapes = {"fc.weight": (4, 2), "fc.bias": (4,)}
    save_file({name: rng.random(shape, np.float32) for name, shape in shapes.items()}, path)
    monkeypatch.setattr(inception, "inception_shapes", lambda: shapes)
    assert not feature_networks.inception_from(path, False).is_reference
    monkeypatch.setattr(feature_networks, "_PUBLISHED", feature_networks._sha256(path)[:8])
    network = feature_networks.inception_from(path, True)
    assert network.is_reference and "half pixels" in network.description and str(path) in network.description
