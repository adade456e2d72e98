"""`vq-jax restore`: what comes out of files of every kind, and what is refused before anything is written."""

import json
import shutil

import numpy as np
import pytest
from cli_runs import call, pictures
from PIL import Image
from prior_runs import tokenizer_run
from restorer_runs import restorer_run

import vq_jax


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "in" / "holiday.png"
    path.parent.mkdir()
    Image.fromarray(pictures(1, 9, 12)[0]).save(path)
    return path


def restored(*arguments, output):
    assert call("restore", restorer_run(), *arguments, "-o", output) == 0
    return {path.name: opened(path) for path in sorted(output.iterdir())}


def opened(path):
    with Image.open(path) as image:
        return image.copy()


def test_a_picture_comes_back_twice_as_large_and_beside_itself_on_request(picture, tmp_path):
    found = restored(picture, output=tmp_path / "out")["holiday.png"]
    assert (found.size, found.mode) == ((24, 18), "RGB")
    expected = vq_jax.load(restorer_run()).restore(np.asarray(opened(picture)))
    np.testing.assert_array_equal(np.asarray(found), expected)
    pair = np.asarray(restored(picture, "--compare", output=tmp_path / "pair")["holiday.png"])
    np.testing.assert_array_equal(pair[:, 24:], expected)
    np.testing.assert_array_equal(pair[::2, :24:2], np.asarray(opened(picture)))


def test_grey_stays_grey_and_transparency_and_orientation_are_kept(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    colours = Image.fromarray(pictures(1, 8, 12)[0])
    alpha = Image.fromarray(np.tile(np.repeat(np.uint8([0, 255]), 6), (8, 1)))
    colours.convert("L").save(folder / "grey.png")
    clear = colours.copy()
    clear.putalpha(alpha)
    clear.save(folder / "clear.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter to the right
    colours.save(folder / "turned.jpg", exif=turned)
    colours.convert("CMYK").save(folder / "print.jpg")
    Image.fromarray((np.arange(96, dtype=np.uint16) * 600).reshape(8, 12)).save(folder / "deep.png")
    found = restored(folder, output=tmp_path / "out")
    assert {name: (image.mode, image.size) for name, image in found.items()} == {
        "clear.png": ("RGBA", (24, 16)),
        "deep.png": ("L", (24, 16)),
        "grey.png": ("L", (24, 16)),
        "print.png": ("RGB", (24, 16)),
        "turned.png": ("RGB", (16, 24)),
    }
    opacity = np.asarray(found["clear.png"])[..., 3]
    assert (opacity[:, :7] == 0).all() and (opacity[:, -7:] == 255).all()


def test_an_unreadable_picture_is_left_out_of_a_folder_and_refused_by_name(picture, tmp_path, capfd):
    bad = picture.with_name("bad.png")
    bad.write_bytes(b"no picture")
    assert list(restored(picture.parent, output=tmp_path / "out")) == ["holiday.png"]
    assert "1 picture (1 left out)" in capfd.readouterr().out
    assert call("restore", restorer_run(), picture, bad, "-o", tmp_path / "none") == 2
    assert "bad.png cannot be read as a picture" in capfd.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_tokenizer_that_is_damaged_or_gone_is_named_and_one_that_is_given_serves(picture, tmp_path, capfd):
    run = shutil.copytree(restorer_run(), tmp_path / "run")
    for name, gone in (
        ("config.json", {"tokenizer": "runs/gone"}),
        ("tokenizer.json", {"path": "/gone", "relative": None}),
    ):
        (run / name).write_text(json.dumps(json.loads((run / name).read_text()) | gone))
    weights = run / "tokenizer" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert call("restore", run, picture, "-o", tmp_path / "out") == 2
    assert f"{weights} is damaged" in capfd.readouterr().err
    shutil.rmtree(run / "tokenizer")
    assert call("restore", run, picture, "-o", tmp_path / "out") == 2
    message = capfd.readouterr().err
    assert f"the tokenizer of the restorer in {run} is missing: there is no directory runs/gone" in message
    assert "say where it is with --tokenizer" in message and not (tmp_path / "out").exists()
    assert call("restore", run, picture, "-o", tmp_path / "out", "--tokenizer", tokenizer_run()) == 0


def test_another_kind_of_run_and_a_fidelity_out_of_range_are_refused(picture, tmp_path, capfd):
    for run, more, expected in (
        (tokenizer_run(), (), "expected a restorer, "),
        (restorer_run(), ("--fidelity", "2"), "expected a fidelity of 0 to 1, got 2"),
    ):
        assert call("restore", run, picture, "-o", tmp_path / "none", *more) == 2
        message = capfd.readouterr().err
        assert expected in message and message.count("\n") <= 3
    assert not (tmp_path / "none").exists()
