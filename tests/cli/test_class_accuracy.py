"""`vq-jax evaluate PRIOR --classifier FILE`: the share of drawn pictures that are taken for their class."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli_runs import call, trained_run
from jax import export
from prior_runs import CLASSES, untrained_prior

import vq_jax

pytestmark = pytest.mark.ci  # needs flatbuffers, which the extra portable installs


def logits(pictures, classes=CLASSES):
    """A classifier by brightness: any that tells pictures apart."""
    mean = jnp.mean(pictures.astype(jnp.float32), axis=(1, 2, 3))
    return -jnp.abs(mean[:, None] - jnp.linspace(110, 140, classes)[None])


def written(path, shape, function=logits, batch="b", dtype=jnp.uint8):
    sizes = export.symbolic_shape(", ".join(map(str, (batch, *shape))))
    program = export.export(jax.jit(function), platforms=["cpu"])(jax.ShapeDtypeStruct(sizes, dtype))
    path.write_bytes(program.serialize())
    return path


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    return untrained_prior(tmp_path_factory.mktemp("prior") / "model", "maskgit")


def test_it_is_the_share_of_pictures_drawn_with_every_class_in_turn(prior, tmp_path, capsys):
    drawn = vq_jax.load_prior(prior).sample(5 * CLASSES)
    file = written(tmp_path / "mine.jax", drawn.shape[1:])
    out = tmp_path / "figures.json"
    assert call("evaluate", prior, "--classifier", file, "--num", 5 * CLASSES, "-o", out) == 0
    found = np.argmax(logits(jnp.asarray(drawn)), axis=-1)
    expected = np.mean(found == np.arange(5 * CLASSES) % CLASSES)
    assert 0 < expected < 1
    said = json.loads(out.read_text())
    assert said["figures"] == {"class_accuracy": pytest.approx(expected)}
    (line,) = said["computed"]
    assert f"{5 * CLASSES} drawn pictures, every class in turn, that mine.jax takes for their class" in line
    assert line in capsys.readouterr().out


def test_mistakes_are_one_line_and_write_nothing(prior, tmp_path, capsys):
    shape = vq_jax.load_prior(prior).sample(1).shape[1:]
    (tmp_path / "text.jax").write_text("no program")
    wrong = {
        "missing.jax": "expected a classifier that jax.export wrote, got .*missing.jax: No such file",
        "text.jax": "expected a classifier that jax.export wrote, got .*text.jax",
        "sizes.jax": rf"expected a classifier of uint8 \[b, {shape[0]}, .* to logits \[b, {CLASSES}\]",
        "fixed.jax": "b left open; .*fixed.jax is of",
        "classes.jax": rf"to logits \[b, {CLASSES}\], b left open; .* is of",
    }
    written(tmp_path / "sizes.jax", (5, 5, 3))
    written(tmp_path / "fixed.jax", shape, batch=4)
    written(tmp_path / "classes.jax", shape, lambda pictures: logits(pictures, CLASSES + 1))
    out = tmp_path / "figures.json"
    for name, message in wrong.items():
        assert call("evaluate", prior, "--classifier", tmp_path / name, "--num", 4, "-o", out) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert re.search(message, line), line
    file = written(tmp_path / "mine.jax", shape)
    assert call("evaluate", trained_run(), "--classifier", file, "-o", out) == 2
    assert "a classifier is for a prior with classes" in capsys.readouterr().err
    assert not out.exists()
