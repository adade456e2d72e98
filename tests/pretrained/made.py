"""Small models with random weights, made without a run, and runs made without training."""

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jitted import init

from vq_jax.configs import (
    MLPVQVAE,
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    Losses,
    PixelCNNArchitecture,
    PriorConfig,
    TrainingConfig,
)
from vq_jax.configs.quantizers import VectorQuantizerEMAConfig
from vq_jax.pretrained.build import abstract_prior, build_model, build_prior, image_shape
from vq_jax.pretrained.prior import Prior
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.runs import rundir
from vq_jax.runs.checkpoint import Checkpointer
from vq_jax.train.state import init_state
from vq_jax.train.tasks.tokenizer import networks


def tokenizer_config(**training):
    """A fully connected tokenizer of grey pictures of 8 x 8, trained beside a discriminator."""
    return ExperimentConfig(
        name="small",
        model=MLPVQVAE(
            image_size=(8, 8),
            hidden_features=(16,),
            num_latents=4,
            quantizer=VectorQuantizerEMAConfig(codebook_size=8, code_dim=4),
        ),
        data=DataConfig(source="fashion", image_size=8, batch_size=8),
        losses=Losses(adversarial_weight=0.1),
        discriminator=DiscriminatorConfig(kind="mlp", hidden_features=(8,)),
        training=TrainingConfig(**{"ema_decay": 0.9, **training}),
    )


def make_tokenizer(seed=0):
    """A tokenizer with random weights."""
    config = tokenizer_config()
    model = build_model(config)
    variables = init(model, jax.random.key(seed), np.zeros((1, *image_shape(config)), np.float32))
    return Tokenizer(model, variables, config, 3)


def make_prior():
    """A prior with random weights over `make_tokenizer`."""
    config = PriorConfig(
        name="small-prior", prior=PixelCNNArchitecture(width=8, num_layers=1), tokenizer="somewhere/else"
    )
    tokenizer = make_tokenizer()
    model = build_prior(config, tokenizer.code_specs(8), 3, tokenizer.config)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), abstract_prior(model)["params"]
    )
    return Prior(model, {"params": params}, tokenizer, config, 5, 8)


def write_run(directory, steps=(1, 2), **training):
    """The run directory of `tokenizer_config` with checkpoints of random states; returns those states."""
    config = tokenizer_config(**training)
    parts, ema = networks(config, build_model(config)), config.training.ema_decay > 0
    make = jax.jit(lambda rng: init_state(rng, image_shape(config), ema=ema, **parts))
    with rundir.claim(epath.Path(directory), config):
        pass
    states = {}
    with Checkpointer(directory / "checkpoints", keep=len(steps)) as checkpointer:
        for step in steps:
            state = make(jax.random.key(step))
            rng = np.random.default_rng(step)  # moments of many bits too, so that they take their room
            noise = jax.tree.map(
                lambda leaf, rng=rng: (
                    jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype) if leaf.ndim else leaf
                ),
                state,
            )
            states[step] = noise
            checkpointer.save(step, noise, {"data": "", "broken": 0}, 1.0 / step)
    return states
