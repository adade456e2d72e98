"""Pictures from priors: `vq_jax.load(run)` and the commands sample and inpaint, end to end on tiny runs."""

import json
import shutil

import numpy as np
import pytest
from cli_runs import call, pictures
from made import make_tokenizer
from PIL import Image
from prior_runs import prior_run, tokenizer_run, untrained_prior

import vq_jax
from vq_jax.errors import UserError
from vq_jax.generate.inpainting import hole_codes

LONG = "x" * 246 + ".png"  # 250 bytes


@pytest.fixture(scope="session")
def run():
    return prior_run()


@pytest.fixture(scope="session")
def prior(run):
    return vq_jax.load(run)


@pytest.fixture(scope="module")
def plain_directory(tmp_path_factory):
    """An autoregressive prior without classes."""
    return untrained_prior(tmp_path_factory.mktemp("plain") / "model", "gpt", conditional=False)


@pytest.fixture(scope="module")
def plain(plain_directory):
    return vq_jax.load(plain_directory)


@pytest.fixture
def refused(capsys):
    """Calls the program, which must refuse in one line; returns it."""

    def refused(*arguments):
        capsys.readouterr()
        assert call(*arguments) == 2
        output, message = capsys.readouterr()
        assert output == "" and message.startswith("vq-jax: ") and message.count("\n") == 1, message
        return message

    return refused


@pytest.fixture
def files(tmp_path):
    """A picture of 24 x 20 and masks for it."""
    Image.fromarray(pictures(1, 20, 24)[0]).save(tmp_path / "picture.png")
    for name, shape, value in (("empty", (20, 24), 0), ("full", (20, 24), 255), ("other", (20, 20), 0)):
        Image.fromarray(np.full(shape, value, np.uint8)).save(tmp_path / f"{name}.png")
    mask = np.zeros((20, 24), np.uint8)
    mask[9:11, 9:12] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


def test_a_prior_draws_pictures_by_seed_and_label(prior, plain):
    drawn = prior.sample(4, labels=[0, 1, 2, 2], seed=1)
    assert drawn.shape == (4, 16, 16, 3) and drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, prior.sample(labels=[0, 1, 2, 2], seed=1))
    whole = prior.sample(5, seed=1)
    np.testing.assert_array_equal(whole, prior.sample(5, seed=1, batch_size=2))
    np.testing.assert_array_equal(whole[:3], prior.sample(3, seed=1))
    assert (prior.sample_codes(4, seed=1) != prior.sample_codes(4, seed=2)).any()
    assert len(prior.sample(5, labels=3, batch_size=2, guidance=2.0, top_k=3, top_p=0.9, steps=4)) == 5
    assert prior.sample().shape[0] == 4  # one of each class
    assert plain.sample(2, temperature=0.5).shape == (2, 16, 16, 3)
    assert prior.tokenizer.config.name == "vqvae-photos"


@pytest.mark.parametrize("name", ["prior", "plain"])
@pytest.mark.parametrize("size", [(16, 16), (24, 27)])
def test_inpainting_leaves_pixels_outside_the_grown_mask_as_they_are(name, size, request):
    trained = request.getfixturevalue(name)
    given = pictures(2, *size)
    masks = np.zeros((2, *size), bool)
    masks[0, 6:9, 5:8] = masks[1, 1:3, -3:] = True
    filled = trained.inpaint(given, masks, seed=3)
    assert filled.shape == given.shape and filled.dtype == np.uint8
    for picture, mask, new in zip(given, masks, filled, strict=True):
        grown = np.repeat(np.repeat(hole_codes(mask, (4, 4)), 4, 0), 4, 1)[: size[0], : size[1]]
        np.testing.assert_array_equal(new[~grown], picture[~grown])
    others = np.where(masks[..., None], 255 - given, given)
    np.testing.assert_array_equal(trained.inpaint(others, masks, seed=3), filled)


def test_outpainting_adds_to_the_sides(prior):
    given = pictures(1, 16, 16)
    wider = prior.outpaint(given, left=5, bottom=8, seed=0)
    assert wider.shape == (1, 24, 21, 3)
    np.testing.assert_array_equal(wider[0, :10, 14:], given[0, :10, 9:])  # beyond the ring


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num": 0}, "at least one picture"),
        ({"labels": 4}, "labels from 0 to 3, the prior's 4 classes, got 4"),
        ({"labels": -1}, "got -1"),
        ({"labels": [0, 1], "num": 3}, "expected one label or 3"),
        ({"labels": 0.5}, "expected integer labels"),
        ({"top_p": 0.0}, r"top_p must lie in \(0, 1\], got 0"),
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"steps": 17}, "at most 16 steps"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_a_wrong_argument_of_sample_is_refused(arguments, message, prior):
    with pytest.raises(UserError, match=message):
        prior.sample(**arguments)


def test_a_prior_without_classes_takes_no_label_no_guidance_and_no_steps(plain):
    for arguments, message in (
        ({"labels": 0}, "has no classes"),
        ({"guidance": 2.0}, "guidance needs classes"),
        (
            {"steps": 3},
            "steps is an option of maskgit, maskgit-post-norm, masked-cnn, next-frame; this prior, gpt,",
        ),
        ({"temprature": 3}, "unknown option temprature; did you mean temperature"),
    ):
        with pytest.raises(UserError, match=message):
            plain.sample(1, **arguments)


@pytest.mark.parametrize(
    "size, hole, arguments, message",
    [
        ((16, 16), (0, 0, 0, 0), {}, "mask is empty"),
        ((16, 16), (0, 0, 16, 16), {}, "mask is full"),
        ((16, 16), (1, 1, 15, 15), {}, "touches every code"),
        ((8, 16), (1, 1, 2, 2), {}, "at least 16 x 16 px, .* got 16 x 8"),
        ((16, 16), (1, 1, 2, 2), {"ring": -1}, "ring of at least 0"),
    ],
)
def test_what_cannot_be_inpainted_is_said(size, hole, arguments, message, prior):
    mask = np.zeros(size, bool)
    mask[hole[0] : hole[2], hole[1] : hole[3]] = True
    with pytest.raises(UserError, match=message):
        prior.inpaint(pictures(1, *size), mask, **arguments)


def test_sample_writes_a_grid_and_the_single_pictures(run, tmp_path, capsys):
    capsys.readouterr()
    assert (
        call("sample", run, "--num", 5, "--label", 1, "--guidance", 2, "--seed", 4, "-o", tmp_path / "a.png")
        == 0
    )
    assert capsys.readouterr().out == f"5 pictures, {tmp_path / 'a.png'} and {tmp_path / 'a'}/\n"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [f"0000{i}.png" for i in range(5)]
    with Image.open(tmp_path / "a" / "00000.png") as picture:
        assert picture.size == (16, 16)
    assert (
        call("sample", run, "--num", 5, "--label", 1, "--guidance", 2, "--seed", 4, "-o", tmp_path / "b.png")
        == 0
    )
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    "what, size",
    [
        (("--mask", "mask.png"), (24, 20)),
        (("--box", "2,3,6,9"), (24, 20)),
        (("--outpaint", "0,0,7,0"), (31, 20)),
    ],
)
def test_inpaint_writes_a_picture(what, size, run, files, monkeypatch):
    monkeypatch.chdir(files)
    shutil.copy("picture.png", LONG)
    assert call("inpaint", run, LONG, *what, "-o", f"to-{LONG}") == 0
    with Image.open(f"to-{LONG}") as picture:
        assert picture.size == size


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["sample", "RUN", "--label", 9, "-o", "x.png"], "expected labels from 0 to 3"),
        (["sample", "PLAIN", "--label", 0, "-o", "x.png"], "has no classes"),
        (["sample", "RUN", "--top-p", 1.5, "-o", "x.png"], "top_p must lie in (0, 1], got 1.5"),
        (["sample", "RUN", "--num", 0, "-o", "x.png"], "--num from 1 to"),
        (["sample", "RUN", "--seed", -1, "-o", "x.png"], "--seed from 0"),
        (["sample", "RUN", "-o", "folder"], "expected a .png file"),
        (["sample", "TOKENIZER", "-o", "x.png"], "holds a tokenizer"),
        (["sample", "nowhere", "-o", "x.png"], "nowhere is not a run directory"),
        (["inpaint", "RUN", "picture.png", "--mask", "other.png", "-o", "x.png"], "24 x 20 px, got 20 x 20"),
        (["inpaint", "RUN", "picture.png", "--mask", "empty.png", "-o", "x.png"], "the mask is empty"),
        (["inpaint", "RUN", "picture.png", "--mask", "full.png", "-o", "x.png"], "the mask is full"),
        (["inpaint", "RUN", "picture.png", "--mask", "no.png", "-o", "x.png"], "no such mask: no.png"),
        (["inpaint", "RUN", "no.png", "--box", "0,0,1,1", "-o", "x.png"], "no such picture: no.png"),
        (["inpaint", "RUN", "picture.png", "--box", "0,0,25,1", "-o", "x.png"], "X0 < X1 up to 24"),
        (["inpaint", "RUN", "picture.png", "--box", "0,0,x", "-o", "x.png"], "four whole numbers for --box"),
        (["inpaint", "RUN", "picture.png", "--outpaint", "0,0,0,-1", "-o", "x.png"], "none of them negative"),
        (["inpaint", "RUN", "picture.png", "-o", "x.png"], "expected one of --mask MASK.png, --box"),
        (["reconstruct", "RUN", "picture.png", "-o", "x"], "expected a tokenizer"),
        (
            ["train", "prior-fashion", "--workdir", "w", "--tokenizer", "RUN"],
            "expected a tokenizer",
        ),
        (["train", "prior-fashion", "--workdir", "w", "--tokenizer", "none"], "none is not a run directory"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    arguments, words, run, files, refused, monkeypatch, request
):
    monkeypatch.chdir(files)
    before = sorted(files.rglob("*"))
    runs = {"RUN": run, "TOKENIZER": tokenizer_run()}
    if "PLAIN" in arguments:
        runs["PLAIN"] = request.getfixturevalue("plain_directory")
    assert words in refused(*(runs.get(argument, argument) for argument in arguments))
    assert sorted(files.rglob("*")) == before


def test_guidance_needs_class_dropout(tmp_path, refused):
    model = untrained_prior(tmp_path / "model", "maskgit", prior={"class_dropout": 0.0})
    message = refused("sample", model, "--guidance", 2, "-o", tmp_path / "x.png")
    assert "trained without class dropout" in message
    Image.fromarray(pictures(1, 16, 16)[0]).save(tmp_path / "p.png")
    arguments = ("inpaint", model, tmp_path / "p.png", "--box", "1,1,2,2", "-o", tmp_path / "x.png")
    assert "give a label" in refused(*arguments)
    assert call(*arguments, "--label", 1) == 0


def test_a_prior_without_its_tokenizer_or_with_another_one_draws_nothing(run, tmp_path, refused):
    copy = shutil.copytree(run, tmp_path / "run")
    record = json.loads((copy / "tokenizer.json").read_text())
    (copy / "tokenizer.json").write_text(json.dumps({**record, "fingerprint": "0" * 32}))
    assert "is not the one that the model" in refused("sample", copy, "-o", tmp_path / "x.png")
    shutil.rmtree(copy / "tokenizer")  # as in a run from before it kept a copy
    for file in ("tokenizer.json", "config.json"):
        text = (copy / file).read_text().replace(record["path"], str(tmp_path / "gone"))
        (copy / file).write_text(text.replace(json.dumps(record["relative"]), '"../gone"'))
    assert "say where it is with --tokenizer" in refused("sample", copy, "-o", tmp_path / "x.png")
    given = ("--tokenizer", tokenizer_run())
    assert "is not the one that the model" in refused("sample", copy, *given, "-o", tmp_path / "x.png")
    (copy / "tokenizer.json").write_text((run / "tokenizer.json").read_text())
    assert call("sample", copy, *given, "--num", 1, "-o", tmp_path / "given.png") == 0


@pytest.mark.ci
def test_a_noise_generator_draws_by_seed_label_and_scale_and_takes_nothing_else(tmp_path, refused):
    run = prior_run("noise")
    noise = vq_jax.load(run)
    drawn = noise.sample(3, labels=[0, 1, 2], seed=1)
    assert drawn.shape == (3, 16, 16, 3) and drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, noise.sample(labels=[0, 1, 2], seed=1))
    still = noise.sample_codes(4, labels=1, temperature=0.0)
    assert (still == still[:1]).all() and (noise.sample_codes(4, labels=1, seed=1) != still).any()
    for arguments, message in (
        (
            {"guidance": 2.0},
            "guidance is an option of gpt, maskgit, .*pixelcnn; this prior, noise, takes temper",
        ),
        (
            {"top_k": 2, "steps": 3},
            "steps is an option of maskgit, .*; top_k is an option of gpt, maskgit, .*pixel",
        ),
        ({"temperature": -1.0}, r"temperature must be at least 0 \(the scale of the noise\)"),
        ({"labels": 4}, "labels from 0 to 3"),
    ):
        with pytest.raises(UserError, match=message):
            noise.sample(1, **arguments)
    hole = np.zeros((16, 16), bool)
    hole[:2] = True
    with pytest.raises(UserError, match="cannot inpaint"):
        noise.inpaint(pictures(1, 16, 16), hole)
    assert call("sample", run, "--num", 4, "-o", tmp_path / "x.png") == 0
    assert (
        "top_p is an option of gpt, maskgit, maskgit-post-norm, masked-cnn, next-frame, pixelcnn; this prior,"
        in refused("sample", run, "--top-p", 0.5, "-o", tmp_path / "y.png")
    )


def test_a_pixelcnn_draws_pictures_and_fills_holes(tmp_path):
    prior = vq_jax.load(untrained_prior(tmp_path / "model", "pixelcnn"))
    assert prior.sample(2, guidance=2.0).shape == (2, 16, 16, 3)
    mask, given = np.zeros((16, 16), bool), pictures(1, 16, 16)
    mask[:3, :3] = True
    filled = prior.inpaint(given, mask)
    np.testing.assert_array_equal(filled[0, 8:], given[0, 8:])


def test_inspect_shows_what_a_prior_is(run, capsys):
    capsys.readouterr()
    assert call("inspect", run) == 0
    output = capsys.readouterr().out
    assert "small-prior: maskgit, step 6, over" in output and "codes: 4 x 4 of 16, 4 classes" in output


def test_a_fully_connected_tokenizer_is_sampled_and_not_inpainted(tmp_path):
    prior = vq_jax.load(untrained_prior(tmp_path / "model", "maskgit", tokenizer=make_tokenizer()))
    assert prior.sample(2).shape == (2, 8, 8, 1)
    with pytest.raises(UserError, match="codes have no place in the picture"):
        prior.inpaint(pictures(1, 8, 8, 1), np.eye(8, dtype=bool))
