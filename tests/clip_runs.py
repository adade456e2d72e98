"""Small tokenizers of clips and small priors over them, which several test files share."""

import functools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jitted import drawn
from shared import made_once

from vq_jax import load
from vq_jax.configs import (
    Architecture,
    CodesConfig,
    DataConfig,
    ExperimentConfig,
    MaskedCNNArchitecture,
    MotionVQVAE,
    NextFrameArchitecture,
    PriorConfig,
    PriorDataConfig,
    TrainingConfig,
    VectorQuantizerEMAConfig,
    VideoVQVAE,
)
from vq_jax.pretrained.build import build_prior
from vq_jax.pretrained.prior import Prior
from vq_jax.train import train

FRAMES, SIDE = 9, 32
GRID = (3, 4, 4)
TASKS = ("generation", "prediction", "next", "interpolation", "inpainting", "outpainting")


SMALL = {"image_channels": 1, "channels": 8, "residual_channels": 4, "num_res_blocks": 1, "patch_size": 8}


def clip_tokenizer_run() -> Path:
    """The run of a tokenizer of clips [9, 32, 32, 1] with codes [3, 4, 4]."""
    return tokenizer_run("clips", VideoVQVAE, FRAMES)


def motion_tokenizer_run() -> Path:
    """The run of a tokenizer of clips [6, 32, 32, 1] with codes [6, 4, 4, 2], for each frame by itself."""
    return tokenizer_run("motion", MotionVQVAE, 6)


def tokenizer_run(name: str, architecture: type[Architecture], frames: int) -> Path:
    """The run, of one step, of a small tokenizer of clips of 32 px."""

    def make(run: Path) -> None:
        quantizer = VectorQuantizerEMAConfig(codebook_size=16, code_dim=4)
        config = ExperimentConfig(
            name=name,
            model=architecture(**SMALL, quantizer=quantizer),
            data=DataConfig(
                source="moving-fashion", frames=frames, image_size=SIDE, batch_size=4, test_limit=8
            ),
            training=TrainingConfig(steps=1, log_every=1, eval_every=1, image_every=1, save_every=1),
        )
        train(config, run)

    return made_once(f"{name}-tokenizer", make)


def clip_prior_config(prior=None, **training) -> PriorConfig:
    """A run of seconds."""
    given = {"width": 8, "num_layers": 1, "tasks": TASKS, **(prior or {})}
    return PriorConfig(
        name="clip-prior",
        tokenizer=str(clip_tokenizer_run()),
        prior=MaskedCNNArchitecture(**given),
        data=PriorDataConfig(batch_size=4, source="moving-fashion:8"),
        training=TrainingConfig(
            **{"steps": 2, "log_every": 1, "eval_every": 2, "image_every": 2, "save_every": 2, **training}
        ),
    )


def next_frame_config(prior=None, **training) -> PriorConfig:
    """A run of seconds of a prior that sees frames."""
    return PriorConfig(
        name="next-frame",
        tokenizer=str(motion_tokenizer_run()),
        prior=NextFrameArchitecture(**{"width": 8, "num_layers": 1, "context": 3, **(prior or {})}),
        data=PriorDataConfig(batch_size=4, source="moving-fashion:8"),
        codes=CodesConfig(mode="fly"),
        training=TrainingConfig(
            **{"steps": 2, "log_every": 1, "eval_every": 2, "image_every": 2, "save_every": 2, **training}
        ),
    )


@functools.cache
def next_frame_prior() -> Prior:
    """A prior of frames whose variables are drawn at random."""
    config, tokenizer = next_frame_config(), load(motion_tokenizer_run())
    model = build_prior(config, tokenizer.code_specs((6, SIDE, SIDE)), None, tokenizer.config)
    variables = drawn(model, jnp.zeros((1, 6, 4, 4, 2), jnp.int32), std=0.3)
    return Prior(model, variables, tokenizer, config, 0, SIDE, 6)


@functools.cache
def clip_prior() -> Prior:
    """A prior whose variables are drawn at random, over the small tokenizer."""
    config, tokenizer = clip_prior_config(), load(clip_tokenizer_run())
    model = build_prior(config, tokenizer.code_specs((FRAMES, SIDE, SIDE)), None, tokenizer.config)
    variables = drawn(model, jnp.zeros((1, *GRID), jnp.int32), std=0.3)
    return Prior(model, variables, tokenizer, config, 0, SIDE, FRAMES)


def clips(count: int, frames: int = FRAMES) -> np.ndarray:
    """Clips uint8 [count, frames, 32, 32, 1]."""
    rng = np.random.default_rng(frames)
    return rng.integers(0, 256, (count, frames, SIDE, SIDE, 1)).astype(np.uint8)
