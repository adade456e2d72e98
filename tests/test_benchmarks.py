"""What the benchmarks of priors compute: distances and shares of known value; programs on a tiny prior."""

import dataclasses
import json

import fashion_generation
import inpainting
import jax
import jax.numpy as jnp
import judging
import numpy as np
import pytest
import scipy.linalg
from PIL import Image

import vq_jax
from vq_jax import nn
from vq_jax.configs.presets import load_preset
from vq_jax.errors import UserError
from vq_jax.pretrained.build import build_model
from vq_jax.pretrained.prior import Prior
from vq_jax.pretrained.tokenizer import Tokenizer

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module")
def held_out():
    """Held-out pictures, and their labels."""
    images, labels = judging.fashion("test")
    return images[:128], labels[:128]


def trained(held_out, epochs):
    with jax.numpy_dtype_promotion("standard"):  # optax mixes int32 counts with floats
        return judging.train_classifier(*held_out, epochs=epochs)


@pytest.fixture(scope="module")
def params(held_out):
    return trained(held_out, epochs=4)


@pytest.fixture(scope="module")
def prior():
    """An untrained prior over an untrained tokenizer, the presets' in small."""
    config = load_preset("vqgan-fashion")
    small = {"channels": 8, "residual_channels": 4, "num_res_blocks": 1, "codebook_size": 16, "code_dim": 4}
    config = dataclasses.replace(config, model=config.model.override(**small))
    model = build_model(config)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    tokenizer = Tokenizer(model, variables, config, 0)
    config = load_preset("prior-fashion")
    network = dataclasses.replace(config.prior, width=8, num_layers=1, num_heads=2).build(
        nn.CodeSpec((7, 7), 16), 10
    )
    condition = nn.Condition(labels=jnp.zeros((1,), jnp.int32))
    variables = jax.jit(network.init)(jax.random.key(1), jnp.zeros((1, 7, 7), jnp.int32), condition)
    return Prior(network, variables, tokenizer, config, 0, 28)


@pytest.fixture
def program(prior, params, tmp_path, monkeypatch):
    """Calls a benchmark's main; PRIOR, PHOTOS and TOKENIZER stand for runs."""
    photos = dataclasses.replace(prior.config, data=dataclasses.replace(prior.config.data, source="photos"))
    runs = {"PRIOR": prior, "TOKENIZER": prior.tokenizer}
    runs["PHOTOS"] = Prior(prior.model, prior.variables, prior.tokenizer, photos, 0, 28)
    load = vq_jax.load
    monkeypatch.setattr(vq_jax, "load", lambda run: runs.get(run.name) or load(run))
    monkeypatch.setattr(fashion_generation, "seconds_a_picture", lambda prior, batch: 1.0 / batch)
    monkeypatch.chdir(tmp_path)
    judging.save_classifier(tmp_path / "judge.npz", params)

    def program(module, *arguments):
        monkeypatch.setattr("sys.argv", ["program", *arguments])
        module.main()

    return program


def features(seed, count=400, width=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)


def test_frechet_distance_matches_the_closed_form_of_diagonal_gaussians():
    rng = np.random.default_rng(0)
    white = rng.normal(size=(500, 5))
    white = (white - white.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T
    (a, b), (m, n) = rng.uniform(0.5, 3.0, (2, 5)), rng.normal(size=(2, 5))
    expected = np.sum((m - n) ** 2) + np.sum((a - b) ** 2)
    assert judging.frechet_distance(m + a * white, n + b * white) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_matches_scipys_square_root():
    a, b = features(0), features(1, 300)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a + cov_b - 2 * root)
    assert judging.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert judging.frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_a_set_to_itself_is_zero():
    a = features(0)
    assert judging.frechet_distance(a, a[::-1]) == pytest.approx(0.0, abs=1e-9)
    few = features(1, count=4)  # fewer than they are wide: covariances without full rank
    assert judging.frechet_distance(few, few) == pytest.approx(0.0, abs=1e-5)
    assert judging.frechet_distance(a, a + 1.0) == pytest.approx(6.0)


@pytest.mark.parametrize("shapes", [((9, 3), (9, 4)), ((1, 3), (9, 3)), ((9, 3), (9,))])
def test_frechet_distance_refuses_other_shapes(shapes):
    with pytest.raises(ValueError, match="expected features"):
        judging.frechet_distance(*(np.zeros(shape) for shape in shapes))


def test_a_row_counts_the_classes_asked_for(params, held_out):
    images, labels = held_out
    judge = fashion_generation.Judge(params, images, labels)
    seen, _ = judging.classify(params, images)
    assert seen.shape == (128,)
    row = judge.row("same", images, seen)
    assert row["accuracy"] == 1.0 and row["f_fid"] == pytest.approx(0.0, abs=1e-5) and row["number"] == 128
    wrong = np.where(np.arange(128) < 32, (seen + 1) % 10, seen)
    other = judge.row("other", 255 - images, wrong)
    assert judge.row("a quarter wrong", images, wrong)["accuracy"] == 0.75
    assert other["f_fid"] > 1e-3 and "accuracy" not in judge.row("no labels", images, None)


def test_the_classifier_learns_and_the_same_again(params, held_out):
    assert judging.fingerprint(trained(held_out, epochs=4)) == judging.fingerprint(params)
    images, labels = held_out
    learnt = trained(held_out, epochs=12)
    assert np.mean(judging.classify(learnt, images)[0] == labels) > 0.4


def test_the_classifier_is_kept_in_a_file(params, tmp_path):
    judging.save_classifier(tmp_path / "judge.npz", params)
    kept = judging.classifier(tmp_path / "judge.npz")
    assert judging.fingerprint(kept) == judging.fingerprint(params)
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(UserError, match="another network"):
        judging.load_classifier(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(UserError, match="cannot be read"):
        judging.load_classifier(tmp_path / "text.npz")


def test_training_seconds_weigh_each_row_by_its_steps(tmp_path):
    rows = [{"step": 4, "time/step_seconds": 0.5}, {"step": 4, "validation": 1.0}]
    rows += [{"step": 10, "time/step_seconds": 0.1}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert fashion_generation.training_seconds(tmp_path) == pytest.approx(2.6)


def test_a_table_has_a_cell_for_every_figure():
    lines = fashion_generation.table([{"pictures": "held out", "accuracy": 0.90551}]).splitlines()
    assert lines[2] == "| held out |  | 0.9055 |  |  |  |" and lines[0].count("|") == lines[1].count("|") == 7


def test_psnr_in_the_hole_pools_squared_errors_of_its_pixels_alone():
    hole = inpainting.centred_hole(6, 2)
    assert hole.sum() == 4 and hole[2:4, 2:4].all()
    originals = np.full((2, 6, 6, 1), 100, np.uint8)
    filled = originals.copy()
    filled[0, hole] = 110
    filled[:, 0] = 0  # outside
    expected = 10 * np.log10(255**2 / 50)  # 100 in one picture, 0 in the other
    assert inpainting.psnr_in_hole(originals, filled, hole) == pytest.approx(expected)


def test_the_mean_colour_is_of_the_known_pixels_of_each_picture():
    hole = inpainting.centred_hole(4, 2)
    originals = np.zeros((2, 4, 4, 3), np.uint8)
    originals[:, hole] = 255
    originals[1, ~hole] = [10, 20, 30]
    filled = inpainting.mean_colour(originals, hole)
    assert (filled[0] == 0).all() and (filled[1] == [10, 20, 30]).all()


def test_a_pixel_changed_outside_the_codes_drawn_anew_is_counted():
    hole = inpainting.centred_hole(24, 4)  # rows 10 to 13: codes 2 and 3, with the ring 1 to 4
    originals = np.zeros((1, 24, 24, 3), np.uint8)
    filled = originals.copy()
    filled[:, 4:20, 4:20] = 9
    assert inpainting.changed_outside(originals, filled, hole, (4, 4)) == 0
    filled[0, 3, 4] = filled[0, 20, 20, 1] = 9
    assert inpainting.changed_outside(originals, filled, hole, (4, 4)) == 2


def test_a_sheet_is_rows_of_pictures_with_gaps(tmp_path):
    rows = [np.full((3, 2, 2, 1), value, np.uint8) for value in (10, 20)]
    judging.write_sheet(tmp_path / "sheet.png", rows, zoom=2, gap=1)
    with Image.open(tmp_path / "sheet.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (9, 14) and pixels[0, 0] == 10 and pixels[8, 13] == 20
    assert (pixels[4] == 255).all() and (pixels[:, [4, 9]] == 255).all()


def test_a_prior_and_its_tokenizer_are_judged(program, prior, params, tmp_path, capsys):
    arguments = ("PRIOR", "TOKENIZER", "--num", "10", "--classifier", "judge.npz")
    program(fashion_generation, *arguments, "--output", "a.json", "--pictures", ".")
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["classifier"] == judging.fingerprint(params)
    real, training, through, samples = report["rows"]
    assert [row["number"] for row in report["rows"]] == [2000, 10, 2000, 10]
    assert real["f_fid"] == pytest.approx(0.0, abs=1e-5)
    assert 0 < training["f_fid"] < samples["f_fid"] and through["f_fid"] > 0
    assert through["run"] == "TOKENIZER" and samples["seconds_a_picture_64"] == 1 / 64
    assert samples["sampling"] == dataclasses.asdict(prior.config.sampling)
    drawn = prior.sample(10, labels=np.arange(10))
    assert samples["accuracy"] == np.mean(judging.classify(params, drawn)[0] == np.arange(10))
    output = capsys.readouterr().out
    assert (tmp_path / "a.md").read_text() == output and "| samples of PRIOR |" in output
    with Image.open(tmp_path / "fashion_generation_PRIOR.png") as picture:
        assert picture.size == (28, 10 * 30 - 2)  # one of each class


def test_holes_are_measured(program, prior, tmp_path, capsys):
    program(
        inpainting,
        "PRIOR",
        "--box",
        "8",
        "--num",
        "3",
        "--seeds",
        "2",
        *"--output a.json --picture a.png".split(),
    )
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["sampling"] == dataclasses.asdict(prior.config.sampling)
    assert report["pictures"] == 3 and report["pixels_changed_outside"] == 0
    assert [row["fill"] for row in report["rows"]] == [
        "mean colour",
        "prior, with labels, temperature 1",
        "prior, with labels, temperature 0",
        "prior, without, temperature 1",
        "prior, without, temperature 0",
        "through the tokenizer",
    ]
    assert all(row["lowest"] <= row["psnr"] <= row["highest"] for row in report["rows"])
    assert report["rows"][1]["lowest"] < report["rows"][1]["highest"]
    assert capsys.readouterr().out.count(" dB (") == 6
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (3 * (3 * 28 + 2) - 2,) * 2


def test_held_out_pictures_are_the_first_of_many_or_crops_of_a_few(prior):
    images, labels = inpainting.held_out(prior, 7)
    expected = judging.fashion("test")
    np.testing.assert_array_equal(images, expected[0][:7])
    np.testing.assert_array_equal(labels, expected[1][:7])
    config = dataclasses.replace(prior.config, data=dataclasses.replace(prior.config.data, source="photos"))
    plain = Prior(prior.config.prior.build(nn.CodeSpec((7, 7), 16), None), {}, prior.tokenizer, config, 0, 28)
    crops, labels = inpainting.held_out(plain, 6)
    assert crops.shape == (6, 28, 28, 1) and labels is None and len(np.unique(crops, axis=0)) == 6


@pytest.mark.parametrize(
    "module, arguments, message",
    [
        (inpainting, ["PRIOR", "--box", "28"], "expected --box from 1 to 27"),
        (inpainting, ["PRIOR", "--num", "0"], "of at least 1"),
        (inpainting, ["TOKENIZER"], "holds a tokenizer"),
        (inpainting, ["nowhere"], "is not a run directory"),
        (fashion_generation, ["PHOTOS"], "expected a run on the Fashion-MNIST pictures of the package"),
        (fashion_generation, ["nowhere"], "is not a run directory"),
        (fashion_generation, ["PRIOR", "--num", "25"], "a multiple of ten from 10 to 8000, got 25"),
        (fashion_generation, ["PRIOR", "PRIOR"], "different names"),
    ],
)
def test_a_mistake_is_one_message(module, arguments, message, program, capsys):
    with pytest.raises(SystemExit) as exit:
        program(module, *arguments)
    assert exit.value.code == 2 and message in capsys.readouterr().err
