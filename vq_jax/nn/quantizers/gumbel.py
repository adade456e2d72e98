"""Gumbel-softmax: each latent draws its code from logits, at a temperature that falls."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.quantizers.base import QuantizerOutput, check_float, is_filled, is_updating
from vq_jax.ranges import check_ranges
from vq_jax.types import Array, CodeSpec, Float, Int, Num

# float32 products on TPU and GPU are otherwise made of shorter numbers, which flips codes.
_PRECISION = jax.lax.Precision.HIGHEST

AxisName = str | tuple[str, ...]


class GumbelQuantizer(nn.Module):
    """Draws codes by Gumbel-softmax (Jang et al. 2016, arXiv:1611.01144, eq. 2; Ramesh et al. 2021, A.1).

    A linear map of a latent gives the logits l of K codes, y = softmax((l + g) / temperature) with Gumbel
    noise g, and the output is the sum of the codebook's vectors with the weights y. With `hard`, training
    outputs the vector of the largest weight, and the gradient to the latents is that of the sum. There is no
    noise in evaluation: the code is the argmax of l, and the output its vector. (VQGAN's code draws noise
    there too.)

    The parameters are the map, `logits`, and the codebook `embedding` (K, D). The temperature falls by half a
    cosine over `anneal_steps` training steps, which `step` () int32 in the collection `codebook` counts: it
    changes only in a call with `train=True` and `mutable=["codebook"]`. Training draws from the rng stream
    `quantizer`.

    The loss is kl_weight * mean over positions of sum_k p_k log(K p_k + 1e-10), p = softmax(l): the
    divergence from even use, without noise and temperature.

    Recipes: VQGAN (Esser et al. 2021, code release) has the weight 5e-4 and the temperature 1, unless it is
    scheduled. DALL-E (Ramesh et al. 2021, arXiv:2102.12092, A.2) anneals from 1 to 1/16 over 150,000 steps,
    the defaults here; its weight, which grows from 0 to 6.6, is normalised in another way and left out.

    Attributes:
      codebook_size: number of codes K.
      code_dim: width D of the latents and of the codebook's vectors.
      initial_temperature: at the first step.
      final_temperature: from step `anneal_steps` on; a constant temperature is given as both.
      anneal_steps: training steps from the one to the other.
      kl_weight: weight of the divergence from even use.
      hard: training outputs one vector of the codebook; without it, the weighted sum, and `indices` are the
        codes of the largest weights.
      axis_name: under `jax.shard_map` or `jax.pmap`, the axes that the batch is spread over: each device
        draws noise of its own, and usage is of the global batch. Under `jax.jit` both are so without it.
    """

    codebook_size: int
    code_dim: int
    initial_temperature: float = 1.0
    final_temperature: float = 1 / 16
    anneal_steps: int = 150_000
    kl_weight: float = 5e-4
    hard: bool = True
    axis_name: AxisName | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "GumbelQuantizer")

    def setup(self) -> None:
        self.logits = nn.Dense(self.codebook_size, precision=_PRECISION)
        self.embedding = self.param(
            "embedding", nn.initializers.normal(1.0), (self.codebook_size, self.code_dim), jnp.float32
        )
        self.step = self.variable("codebook", "step", jnp.zeros, (), jnp.int32)

    @nn.nowrap
    def code_spec(self, latent_shape: tuple[int, ...]) -> CodeSpec:
        """Returns the spec of one picture's codes, given the shape (*s, D) of its latents."""
        return CodeSpec(latent_shape[:-1], self.codebook_size)

    def codebook(self) -> Float[Array, "K D"]:
        """Returns the codebook, float32."""
        return self.embedding.astype(jnp.float32)

    def lookup(self, indices: Int[Array, "B *S"]) -> Float[Array, "B *S D"]:
        """Looks up the vectors of codes in [0, K), float32."""
        return ops.look_up(self.codebook(), indices)

    @nn.nowrap
    def keep(
        self, params: Mapping[str, Any], codebook: Mapping[str, Any], codes: np.ndarray
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Leaves out all codes but some, see `CodebookQuantizer.keep`."""
        logits = {name: leaf[..., codes] for name, leaf in params["logits"].items()}
        return {"logits": logits, "embedding": params["embedding"][codes]}, dict(codebook)

    def __call__(self, z: Num[Array, "B *S D"], *, train: bool = False) -> QuantizerOutput:
        """Quantizes latents, in float32; training draws codes and counts a step.

        Args:
          z: latents, any float dtype.
          train: draw noise, and count the step if the collection is mutable.

        Returns:
          Output with the loss of the class, and the metrics `kl`, `temperature`, `perplexity` and `usage`.

        Raises:
          ValueError: the latents are not float, the last axis of z is not code_dim wide, or training has no
            key to draw from.
        """
        check_float(z, "GumbelQuantizer")
        if z.shape[-1] != self.code_dim:
            raise ValueError(
                f"GumbelQuantizer expected latents of width code_dim = {self.code_dim}, got shape {z.shape}: "
                f"give the encoder latent_channels = {self.code_dim}"
            )
        temperature = self._temperature()
        logits = self.logits(z.astype(jnp.float32).reshape(-1, self.code_dim))
        noisy = logits + self._noise(logits) if train else logits
        indices = jnp.argmax(noisy, axis=1).astype(jnp.int32)
        weights = jax.nn.softmax(noisy / temperature, axis=1)
        if train and not self.hard:
            quantized = jnp.matmul(weights, self.codebook(), precision=_PRECISION)
        else:
            soft = jnp.matmul(weights, jax.lax.stop_gradient(self.codebook()), precision=_PRECISION)
            # The very values of `lookup`, with the gradient of `soft` to the latents.
            quantized = self.lookup(indices) + (soft - jax.lax.stop_gradient(soft))
        if is_updating(self, train, "temperature") and is_filled(z):
            self.step.value = self.step.value + 1
        perplexity, usage = ops.code_use(
            indices, self.codebook_size, self.axis_name if train and not self.is_initializing() else None
        )
        kl = self._divergence(logits)
        return QuantizerOutput(
            quantized=quantized.reshape(z.shape).astype(z.dtype),
            indices=indices.reshape(z.shape[:-1]),
            loss=self.kl_weight * kl,
            metrics={"kl": kl, "temperature": temperature, "perplexity": perplexity, "usage": usage},
        )

    def _temperature(self) -> Float[Array, ""]:
        passed = jnp.minimum(self.step.value.astype(jnp.float32) / self.anneal_steps, 1.0)
        share = 0.5 * (1.0 + jnp.cos(math.pi * passed))
        return self.final_temperature + (self.initial_temperature - self.final_temperature) * share

    def _noise(self, logits: Float[Array, "N K"]) -> Float[Array, "N K"]:
        if not self.has_rng("quantizer") and not self.has_rng("params"):
            raise ValueError(
                "GumbelQuantizer draws codes in training and needs a key for it: give "
                'rngs={"quantizer": key} to apply'
            )
        rng = self.make_rng("quantizer")
        if self.axis_name and not self.is_initializing():
            rng = jax.random.fold_in(rng, jax.lax.axis_index(self.axis_name))
        return jax.random.gumbel(rng, logits.shape, jnp.float32)

    def _divergence(self, logits: Float[Array, "N K"]) -> Float[Array, ""]:
        if not is_filled(logits):
            return jnp.zeros((), jnp.float32)
        p = jax.nn.softmax(logits, axis=1)
        return jnp.mean(jnp.sum(p * jnp.log(self.codebook_size * p + 1e-10), axis=1))
