"""Sampling from a noise generator: one pass and the nearest codes."""

import functools
from typing import Any

import jax
from jax.sharding import NamedSharding

from vq_jax.generate.common import check_labels, shard
from vq_jax.generate.options import DEFAULT_OPTIONS
from vq_jax.nn import Condition, NoiseGenerator, VQModel
from vq_jax.types import Array, Int, Key, Params


def sample_noise(
    model: NoiseGenerator,
    variables: Params,
    rng: Key[Array, ""],
    condition: Condition | None = None,
    *,
    tokenizer_model: VQModel,
    tokenizer_variables: Params,
    num: int | None = None,
    temperature: float = 1.0,
    sharding: NamedSharding | None = None,
) -> Int[Array, "B *s"]:
    """Draws grids of codes from a noise generator.

    Args:
      model: the generator.
      variables: its parameters.
      rng: key; the same key and arguments give the same codes.
      condition: labels int32 [B]; None for an unconditional generator.
      tokenizer_model: whose codes the latents become.
      tokenizer_variables: of it.
      num: grids to draw, B; that of the condition when absent.
      temperature: scales the noise; below 1 pictures are more alike.
      sharding: of the batch over a mesh.

    Returns:
      int32 [B, *model.grid].

    Raises:
      ValueError: the number or a label does not fit the model.
    """
    batch = check_labels(model, condition, num, None, DEFAULT_OPTIONS)
    both = (variables, tokenizer_variables)
    return _sample_noise(model, tokenizer_model, batch, sharding, both, rng, condition, temperature)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _sample_noise(
    model: NoiseGenerator,
    tokenizer_model: VQModel,
    batch: int,
    sharding: NamedSharding | None,
    both: tuple[Params, Params],
    rng: Array,
    condition: Condition | None,
    temperature: Array,
) -> Array:
    variables, tokenizer_variables = both
    noise = shard(temperature * jax.random.normal(rng, (batch, model.noise_dim)), sharding)
    latents: Any = model.apply(variables, noise, condition)
    quantized: Any = tokenizer_model.apply(tokenizer_variables, latents, method="quantize")
    indices: Array = quantized.indices
    return indices
