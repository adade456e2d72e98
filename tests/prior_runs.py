"""A small tokenizer over labelled pictures and small priors over it, which several test files share."""

import functools
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from cli_runs import SMALL, call, pictures
from jitted import drawn
from shared import made_once

import vq_jax
from vq_jax.configs import (
    CodesConfig,
    DiscriminatorConfig,
    GPTArchitecture,
    MaskGITArchitecture,
    NoiseArchitecture,
    NoiseConfig,
    PixelCNNArchitecture,
    PriorConfig,
    PriorDataConfig,
    TrainingConfig,
)
from vq_jax.nn import Condition
from vq_jax.pretrained.build import build_prior
from vq_jax.pretrained.prior import Prior
from vq_jax.train import train

CLASSES = 4
STEPS = 6


def labelled_file() -> Path:
    """An .npz file of 40 pictures of 16 x 16 in four classes."""

    def make(directory: Path) -> None:
        np.savez(directory / "labelled.npz", images=pictures(40, 16, 16), labels=np.arange(40) % CLASSES)

    return made_once("labelled", make) / "labelled.npz"


def tokenizer_run() -> Path:
    """The run of a tokenizer with grids of 4 x 4; tests that change it work on a copy."""

    def make(run: Path) -> None:
        data = ("--data", f"arrays:{labelled_file()}")
        assert call("train", "vqvae-photos", *SMALL, *data, "--steps", 4, "--workdir", run) == 0

    return made_once("tokenizer", make)


def prior_config(*, kind="maskgit", tokenizer=None, codes=None, prior=None, conditional=True, **training):
    """A run of seconds; `prior` are fields of the architecture, `training` those of the training."""
    transformer = {"width": 8, "num_layers": 1, "num_heads": 2}
    pixelcnn = {"width": 8, "num_layers": 2, "kernel": 3, "head_features": 8}
    make, small = {
        "maskgit": (MaskGITArchitecture, transformer),
        "gpt": (GPTArchitecture, transformer),
        "pixelcnn": (PixelCNNArchitecture, pixelcnn),
        "noise": (NoiseArchitecture, {"width": 8, "num_blocks": 1}),
    }[kind]
    discriminator = DiscriminatorConfig(kind="mlp", hidden_features=(8,))
    run = functools.partial(NoiseConfig, discriminator=discriminator) if kind == "noise" else PriorConfig
    return run(
        name="small-prior",
        tokenizer=str(tokenizer or tokenizer_run()),
        prior=make(**{**small, **(prior or {})}),
        conditional=conditional,
        data=PriorDataConfig(batch_size=8, flip=True, crops_per_picture=1),
        codes=codes or CodesConfig(variants=2),
        training=TrainingConfig(
            **{
                "steps": STEPS,
                "log_every": 1,
                "eval_every": 3,
                "image_every": 100,
                "save_every": 3,
                "ema_decay": 0.9,
                **training,
            }
        ),
    )


def prior_run(kind: str = "maskgit", conditional: bool = True) -> Path:
    """The run of a prior; tests that change it work on a copy."""

    def make(run: Path) -> None:
        assert train(prior_config(kind=kind, conditional=conditional), run).step == STEPS

    return made_once(f"prior-{kind}-{conditional}", make)


def untrained_prior(
    directory: Path, kind: str, *, conditional: bool = True, prior: Any = None, tokenizer: Any = None
) -> Path:
    """The model directory of a prior with random parameters over a tokenizer, made without a run."""
    config = prior_config(kind=kind, conditional=conditional, prior=prior)
    tokenizer = tokenizer or vq_jax.load(tokenizer_run())
    size = tokenizer.config.data.image_size
    specs = tokenizer.code_specs(size)
    model = build_prior(config, specs, CLASSES if conditional else None, tokenizer.config)
    condition = Condition(jnp.asarray(np.zeros(1, np.int32))) if conditional else None
    variables = drawn(model, np.zeros((1, *specs.array_shape), np.int32), condition)
    Prior(model, variables, tokenizer, config, STEPS, size).save(directory)
    return directory
