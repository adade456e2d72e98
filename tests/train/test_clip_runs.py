"""A run on clips: from the source to batches, figures, pictures and report."""

import numpy as np
import pytest
from PIL import Image

from vq_jax import load
from vq_jax.configs import (
    DataConfig,
    ExperimentConfig,
    OptimizerConfig,
    PatchVQVAE,
    TrainingConfig,
    VectorQuantizerEMAConfig,
)
from vq_jax.data import open_source
from vq_jax.train import train

FRAMES, SIDE = 4, 32


def config():
    return ExperimentConfig(
        name="clips",
        model=PatchVQVAE(
            image_channels=1,
            channels=8,
            residual_channels=4,
            num_res_blocks=1,
            quantizer=VectorQuantizerEMAConfig(codebook_size=16, code_dim=4),
        ),
        data=DataConfig(source="moving-fashion", frames=FRAMES, image_size=SIDE, batch_size=4, test_limit=16),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        training=TrainingConfig(steps=2, log_every=1, eval_every=2, image_every=2, save_every=2),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "clips"
    train(config(), workdir)
    return workdir


@pytest.mark.ci
def test_a_run_on_clips_is_measured_drawn_and_reported(run):
    report = (run / "report.md").read_text()
    assert "](images/final.gif)" in report and (run / "images" / "final.gif").exists()
    assert "1048576 clips to train on, 1000 held out" in report and "Test clips, the original above" in report
    with Image.open(run / "images" / "2.png") as image:
        # Four clips of four frames: two strips each.
        scale = 2
        height = 8 * scale * SIDE + 4 * 4 + 3 * 12
        assert image.size == (FRAMES * (scale * SIDE + 4) - 4, height)


@pytest.mark.ci
def test_a_tokenizer_of_clips_encodes_and_decodes_them(run):
    tokenizer = load(run)
    clip = open_source("moving-fashion", "test", config().data, 1)[0]["image"]
    codes = tokenizer.encode(clip[None])
    assert codes.shape == (1, 1, 16, 16) and tokenizer.strides == (4, 4, 4)
    decoded = tokenizer.decode(codes, size=clip.shape[:-1])
    assert decoded.shape == (1, *clip.shape) and decoded.dtype == np.uint8
    np.testing.assert_array_equal(tokenizer.reconstruct(clip), decoded[0])
