"""The run of a prior over codes of clips: trained, drawn, reported, resumed to the bit and used."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from cli_runs import call
from clip_runs import FRAMES, SIDE, clip_prior_config, clip_tokenizer_run, clips, next_frame_config
from PIL import Image

from vq_jax import load
from vq_jax.errors import UserError
from vq_jax.runs.rundir import read_metrics
from vq_jax.train import train

pytestmark = pytest.mark.ci


@dataclasses.dataclass(frozen=True)
class Kind:
    """How a prior of clips is trained, the frames of its clips, and those that its report is given."""

    config: Callable[..., Any]
    frames: int
    given: int
    workdir: Path = Path()


KINDS = {"masked-cnn": Kind(clip_prior_config, FRAMES, 5), "next-frame": Kind(next_frame_config, 6, 3)}


@pytest.fixture(scope="module", params=sorted(KINDS))
def kind(request, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / request.param
    train(KINDS[request.param].config(), workdir)
    return dataclasses.replace(KINDS[request.param], workdir=workdir)


def test_a_run_over_clips_is_drawn_and_reported(kind):
    run, frames = kind.workdir, kind.frames
    report = (run / "report.md").read_text()
    assert f"a new clip, a held-out one, and its first {kind.given} frames, continued:" in report
    assert "](images/final.gif)" in report and (run / "images" / "final.gif").exists()
    with Image.open(run / "images" / "2.png") as image:  # four times three strips of frames
        assert image.size == (frames * (2 * SIDE + 4) - 4, 12 * 2 * SIDE + 8 * 4 + 3 * 12)
    assert json.loads((run / "tokenizer.json").read_text())["frames"] == frames


def test_its_model_directory_draws_the_same_clips_and_continues_the_same(kind, tmp_path):
    prior = load(kind.workdir)
    prior.save(tmp_path / "model")
    saved, given = load(tmp_path / "model"), clips(2, 5)
    assert prior.frames == saved.frames == kind.frames
    np.testing.assert_array_equal(prior.sample(2), saved.sample(2))
    np.testing.assert_array_equal(prior.predict(given), saved.predict(given))


def test_an_interrupted_run_over_clips_ends_with_the_same_weights(kind, tmp_path):
    def stop(step, row):
        if step == 2:
            raise KeyboardInterrupt

    config = kind.config(save_every=1)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "again", callbacks=[stop])
    assert train(config, tmp_path / "again").step == 2
    jax.tree.map(
        np.testing.assert_array_equal, load(kind.workdir).variables, load(tmp_path / "again").variables
    )


def test_losses_are_the_same_where_two_devices_share_the_weights(kind, tmp_path):
    train(kind.config(mesh_fsdp=2), tmp_path / "sharded")
    losses = [
        [row["loss"] for row in read_metrics(run) if "loss" in row]
        for run in (kind.workdir, tmp_path / "sharded")
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)  # sums in another order


def test_a_prior_of_frames_is_refused_another_tokenizer_before_the_first_step(tmp_path):
    other = dataclasses.replace(next_frame_config(), tokenizer=str(clip_tokenizer_run()))
    with pytest.raises(UserError, match="expected a tokenizer such as vqvae-motion, got one of vqvae-video"):
        train(other, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_run_is_evaluated_as_it_was_when_it_ended(kind, tmp_path):
    rows = [json.loads(line) for line in (kind.workdir / "metrics.jsonl").read_text().splitlines()]
    ended = [row["validation/bits_per_code"] for row in rows if "validation/bits_per_code" in row][-1]
    assert call("evaluate", kind.workdir, "-o", tmp_path / "figures.json") == 0
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert figures["bits_per_code"] == pytest.approx(ended, rel=1e-5)  # compiled apart
