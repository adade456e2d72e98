"""What a training run carries from step to step."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from vq_jax import ops
from vq_jax.evaluate.code_usage import are_countable
from vq_jax.train.optimizers import init_optimizer
from vq_jax.types import Array, CodeSpecs, Int, Key, Params


@struct.dataclass
class GeneratorState:
    """State of encoder, quantizer and decoder."""

    step: Int[Array, ""]  # int32: updates made
    params: Params  # float32
    codebook: Params  # the collection "codebook", float32; empty where the quantizer has none
    opt_state: optax.OptState
    ema_params: Params | None  # running average of params; None: not kept
    last_used: Any = None  # int32 [Q, K] for each grid of codes: the last step that used each; None: not kept

    @property
    def eval_params(self) -> Params:
        """The parameters to evaluate with: their running average where there is one."""
        return self.params if self.ema_params is None else self.ema_params


@struct.dataclass
class DiscriminatorState:
    """State of the discriminator."""

    step: Int[Array, ""]  # int32: steps taken, including those before disc_start
    params: Params  # float32
    batch_stats: Params  # running statistics and singular vectors, float32; empty where there are none
    opt_state: optax.OptState
    lecam: ops.LecamAverages  # running averages of the logits


@struct.dataclass
class TrainState:
    """State of a run: that of both networks, or of the generator alone for a VQ-VAE."""

    generator: GeneratorState
    discriminator: DiscriminatorState | None


def init_generator(
    rng: Key[Array, ""],
    image_shape: tuple[int, ...],
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    ema: bool = False,
    track_use: bool = False,
) -> GeneratorState:
    """Makes the state before the first step; pure, to be jitted with output shardings.

    Args:
      rng: key of the initial parameters.
      image_shape: shape of one picture (*S, C).
      model: an `nn.VQModel`.
      optimizer: Optax chain.
      ema: keep a running average of the parameters.
      track_use: keep the last step that used each code, for `window/usage`.
    """
    variables: Any = model.init(rng, jnp.zeros((1, *image_shape), jnp.float32))
    state = new_generator(variables, optimizer, ema=ema)
    return (
        dataclasses.replace(state, last_used=never_used(model.code_specs(image_shape)))
        if track_use
        else state
    )


def new_generator(
    variables: Mapping[str, Any], optimizer: optax.GradientTransformation, *, ema: bool = False
) -> GeneratorState:
    """Makes the state before the first step out of a model's variables, see `init_generator`."""
    params = variables["params"]
    return GeneratorState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        codebook=variables.get("codebook", {}),
        opt_state=init_optimizer(optimizer, params),
        # A copy: the step donates both, and a buffer cannot be donated twice.
        ema_params=jax.tree.map(jnp.copy, params) if ema else None,
    )


def init_discriminator(
    rng: Key[Array, ""],
    image_shape: tuple[int, ...],
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
) -> DiscriminatorState:
    """Makes the discriminator's state before the first step; pure, to be jitted with output shardings.

    Args:
      rng: key of the initial parameters.
      image_shape: shape of one picture (*S, C).
      model: the discriminator.
      optimizer: Optax chain.
    """
    # Two pictures: a batch of one has no statistics.
    labels = () if getattr(model, "num_classes", None) is None else (jnp.zeros((2,), jnp.int32),)
    variables: Any = model.init(rng, jnp.zeros((2, *image_shape), jnp.float32), *labels)
    return DiscriminatorState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=init_optimizer(optimizer, variables["params"]),
        lecam=ops.init_lecam(),
    )


def init_state(
    rng: Key[Array, ""],
    image_shape: tuple[int, ...],
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    ema: bool = False,
    track_use: bool = False,
    discriminator_model: nn.Module | None = None,
    discriminator_optimizer: optax.GradientTransformation | None = None,
) -> TrainState:
    """Makes the state of a run before the first step; see `init_generator` and `init_discriminator`.

    Without a discriminator's model and optimizer, `discriminator` is None.
    """
    generator = init_generator(
        rng, image_shape, model=model, optimizer=optimizer, ema=ema, track_use=track_use
    )
    if discriminator_model is None or discriminator_optimizer is None:
        return TrainState(generator, None)
    discriminator = init_discriminator(
        jax.random.fold_in(rng, 1), image_shape, model=discriminator_model, optimizer=discriminator_optimizer
    )
    return TrainState(generator, discriminator)


def never_used(specs: CodeSpecs) -> Any:
    """The last step that used each code, before the first step: 0.

    Returns:
      int32 [Q, K] for each grid; None where there are too many codes, see `are_countable`.
    """
    if not are_countable(specs):
        return None
    return jax.tree.map(
        lambda spec: jnp.zeros((spec.codes_per_position, spec.codebook_size), jnp.int32), specs
    )
