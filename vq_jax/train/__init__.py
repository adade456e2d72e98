"""Training: states, optimizers, pure steps, and the run that calls them.

Names are imported when they are first used: the steps need neither orbax nor a data pipeline.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vq_jax.configs.losses import Losses
    from vq_jax.configs.optimizers import OptimizerConfig
    from vq_jax.runs.checkpoint import Checkpointer
    from vq_jax.runs.weights_and_biases import WeightsAndBiases
    from vq_jax.train.finite import NonFiniteError
    from vq_jax.train.jit import jit_noise_step, jit_prior_step, jit_train_step
    from vq_jax.train.loop import Callback, RunResult, train
    from vq_jax.train.optimizers import apply_revival, make_optimizer, make_schedule
    from vq_jax.train.sharding import make_mesh, shard_local_batch
    from vq_jax.train.state import (
        DiscriminatorState,
        GeneratorState,
        TrainState,
        init_discriminator,
        init_generator,
        init_state,
    )
    from vq_jax.train.steps.discriminator import discriminator_step
    from vq_jax.train.steps.noise import init_noise, noise_step
    from vq_jax.train.steps.own_frames import own_frames
    from vq_jax.train.steps.prior import PriorState, init_prior, prior_step
    from vq_jax.train.steps.tokenizer import generator_loss, generator_step

_NAMES = {
    "Callback": "vq_jax.train.loop",
    "Checkpointer": "vq_jax.runs.checkpoint",
    "DiscriminatorState": "vq_jax.train.state",
    "GeneratorState": "vq_jax.train.state",
    "Losses": "vq_jax.configs.losses",
    "NonFiniteError": "vq_jax.train.finite",
    "OptimizerConfig": "vq_jax.configs.optimizers",
    "PriorState": "vq_jax.train.steps.prior",
    "RunResult": "vq_jax.train.loop",
    "TrainState": "vq_jax.train.state",
    "WeightsAndBiases": "vq_jax.runs.weights_and_biases",
    "apply_revival": "vq_jax.train.optimizers",
    "discriminator_step": "vq_jax.train.steps.discriminator",
    "generator_loss": "vq_jax.train.steps.tokenizer",
    "generator_step": "vq_jax.train.steps.tokenizer",
    "init_discriminator": "vq_jax.train.state",
    "init_generator": "vq_jax.train.state",
    "init_noise": "vq_jax.train.steps.noise",
    "init_prior": "vq_jax.train.steps.prior",
    "init_state": "vq_jax.train.state",
    "jit_noise_step": "vq_jax.train.jit",
    "jit_prior_step": "vq_jax.train.jit",
    "jit_train_step": "vq_jax.train.jit",
    "make_mesh": "vq_jax.train.sharding",
    "make_optimizer": "vq_jax.train.optimizers",
    "make_schedule": "vq_jax.train.optimizers",
    "noise_step": "vq_jax.train.steps.noise",
    "own_frames": "vq_jax.train.steps.own_frames",
    "prior_step": "vq_jax.train.steps.prior",
    "shard_local_batch": "vq_jax.train.sharding",
    "train": "vq_jax.train.loop",
}

__all__ = [
    "Callback",
    "Checkpointer",
    "DiscriminatorState",
    "GeneratorState",
    "Losses",
    "NonFiniteError",
    "OptimizerConfig",
    "PriorState",
    "RunResult",
    "TrainState",
    "WeightsAndBiases",
    "apply_revival",
    "discriminator_step",
    "generator_loss",
    "generator_step",
    "init_discriminator",
    "init_generator",
    "init_noise",
    "init_prior",
    "init_state",
    "jit_noise_step",
    "jit_prior_step",
    "jit_train_step",
    "make_mesh",
    "make_optimizer",
    "make_schedule",
    "noise_step",
    "own_frames",
    "prior_step",
    "shard_local_batch",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'vq_jax.train' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
