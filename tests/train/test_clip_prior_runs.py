"""The run of a prior over codes of clips: trained, drawn, reported, resumed to the bit and used."""

import json

import jax
import numpy as np
import pytest
from clip_runs import FRAMES, SIDE, clip_prior_config, clips
from PIL import Image

from vq_jax import load
from vq_jax.train import train

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "clip-prior"
    train(clip_prior_config(), workdir)
    return workdir


def test_a_run_over_clips_is_drawn_and_reported(run):
    report = (run / "report.md").read_text()
    assert "a new clip, a held-out one, and its first 5 frames, continued:" in report
    assert "](images/final.gif)" in report and (run / "images" / "final.gif").exists()
    with Image.open(run / "images" / "2.png") as image:  # four times three strips of nine frames
        assert image.size == (FRAMES * (2 * SIDE + 4) - 4, 12 * 2 * SIDE + 8 * 4 + 3 * 12)
    assert json.loads((run / "tokenizer.json").read_text())["frames"] == FRAMES


def test_its_model_directory_draws_the_same_clips_and_continues_the_same(run, tmp_path):
    prior = load(run)
    prior.save(tmp_path / "model")
    saved, given = load(tmp_path / "model"), clips(2, 5)
    assert prior.frames == saved.frames == FRAMES
    np.testing.assert_array_equal(prior.sample(2), saved.sample(2))
    np.testing.assert_array_equal(prior.predict(given), saved.predict(given))


def test_an_interrupted_run_over_clips_ends_with_the_same_weights(run, tmp_path):
    def stop(step, row):
        if step == 2:
            raise KeyboardInterrupt

    config = clip_prior_config(save_every=1)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "again", callbacks=[stop])
    assert train(config, tmp_path / "again").step == 2
    jax.tree.map(np.testing.assert_array_equal, load(run).variables, load(tmp_path / "again").variables)
