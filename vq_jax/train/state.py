"""What a training run carries from step to step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from vq_jax.types import Array, Int, Key, Params


@struct.dataclass
class GeneratorState:
    """State of encoder, quantizer and decoder."""

    step: Int[Array, ""]  # int32: updates made
    params: Params  # float32
    codebook: Params  # the collection "codebook", float32; empty where the quantizer has none
    opt_state: optax.OptState
    ema_params: Params | None  # running average of params; None: not kept

    @property
    def eval_params(self) -> Params:
        """The parameters to evaluate with: their running average where there is one."""
        return self.params if self.ema_params is None else self.ema_params


def init_generator(
    rng: Key[Array, ""],
    image_shape: tuple[int, ...],
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    ema: bool = False,
) -> GeneratorState:
    """Makes the state before the first step; pure, to be jitted with output shardings.

    Args:
      rng: key of the initial parameters.
      image_shape: shape of one picture (*S, C).
      model: an `nn.VQModel`.
      optimizer: Optax chain.
      ema: keep a running average of the parameters.
    """
    variables: Any = model.init(rng, jnp.zeros((1, *image_shape), jnp.float32))
    params = variables["params"]
    return GeneratorState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        codebook=variables.get("codebook", {}),
        opt_state=optimizer.init(params),
        # A copy: the step donates both, and one buffer cannot be given away twice.
        ema_params=jax.tree.map(jnp.copy, params) if ema else None,
    )
