"""NoiseGenerator: maps noise to a grid of latents in one pass."""

import math
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.blocks import Conv
from vq_jax.nn.priors.base import Condition, LabelledPrior
from vq_jax.nn.priors.layers import RMSNorm
from vq_jax.types import Array, Float


class _Block(nn.Module):
    """Residual block of two convolutions, each after a norm that noise and class scale and shift."""

    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *s C"], conditioning: Float[Array, "B E"]
    ) -> Float[Array, "B *s C"]:
        channels, h = x.shape[-1], x
        for index in range(2):
            style = nn.Dense(2 * channels, dtype=self.dtype, name=f"style_{index}")(conditioning)
            style = style.reshape(style.shape[0], *(1,) * (x.ndim - 2), 2 * channels)
            scale, shift = jnp.split(jnp.broadcast_to(style, (*x.shape[:-1], 2 * channels)), 2, axis=-1)
            h = RMSNorm(name=f"norm_{index}")(h) * (1.0 + scale) + shift
            h = Conv(channels, dtype=self.dtype, name=f"conv_{index}")(nn.relu(h))
        return x + h


class NoiseGenerator(LabelledPrior, nn.Module):
    """Generator of the latents of a new picture from noise and a class, in one pass.

    A dense layer maps the noise to the whole grid; residual blocks follow, modulated by noise and class. A
    tokenizer quantizes and decodes the latents, and the generator learns from a discriminator, see
    `train.noise_step`. The generator has no likelihood, and a class is its only condition.

    Attributes:
      codebook_size: number of codes K.
      grid: lengths *s of the grid's axes, any number.
      code_dim: width D of a latent.
      noise_dim: width of the noise.
      width: channels of the residual blocks.
      num_blocks: number of residual blocks.
      num_classes: number of classes of the condition; None for an unconditional generator.
      dtype: compute dtype; parameters and latents are float32.

    References:
      Goodfellow et al. 2014, Generative Adversarial Networks, arXiv:1406.2661; the latents are quantized
      as in van den Oord et al. 2017, arXiv:1711.00937, eq. 1 and 3.
    """

    codebook_size: int
    grid: tuple[int, ...]
    code_dim: int
    noise_dim: int = 100
    width: int = 128
    num_blocks: int = 3
    num_classes: int | None = None
    dtype: Any = jnp.float32

    class_dropout = 0.0  # there is no guidance

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_fields()

    @nn.compact
    def __call__(
        self, noise: Float[Array, "B Z"], condition: Condition | None = None, *, train: bool = False
    ) -> Float[Array, "B *s D"]:
        """Generates latents, float32, still to be quantized.

        Args:
          noise: standard normal, [B, noise_dim].
          condition: labels int32 [B] in [0, num_classes); None for an unconditional generator.
          train: has no effect.

        Raises:
          ValueError: the noise has another width, or the generator does not accept the condition.
        """
        if noise.shape[1:] != (self.noise_dim,):
            raise ValueError(f"expected noise of shape [B, {self.noise_dim}], got {noise.shape}")
        batch = noise.shape[0]
        conditioning = noise
        if self.num_classes is not None:
            rows = self._rows(condition, batch, train)
            table = self.param(
                "class", nn.initializers.normal(1.0), (self.num_classes, self.width), jnp.float32
            )
            conditioning = jnp.concatenate([noise, ops.look_up(table, rows)], axis=-1)
        else:
            self.check_condition(condition, batch)
        conditioning = conditioning.astype(self.dtype)
        x = nn.Dense(math.prod(self.grid) * self.width, dtype=self.dtype, name="dense")(conditioning)
        x = x.reshape(batch, *self.grid, self.width)
        for index in range(self.num_blocks):
            x = _Block(self.dtype, name=f"block_{index}")(x, conditioning)
        x = nn.relu(RMSNorm(name="norm")(x))
        return nn.Dense(self.code_dim, dtype=self.dtype, name="head")(x).astype(jnp.float32)
