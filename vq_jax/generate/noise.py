"""Sampling from a noise generator: one pass and the nearest codes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from vq_jax.configs.sampling import NoiseOptions
from vq_jax.generate.common import check_labels, of_rows, shard
from vq_jax.generate.options import TracedOptions, trace_options
from vq_jax.nn import Condition, NoiseGenerator, VQModel
from vq_jax.ops.meshes import auto_axes
from vq_jax.types import Array, Int, Key, Params

DEFAULTS = NoiseOptions()


def sample_noise(
    model: NoiseGenerator,
    variables: Params,
    rng: Key[Array, "*R"],
    condition: Condition | None = None,
    *,
    tokenizer_model: VQModel,
    tokenizer_variables: Params,
    num: int | None = None,
    options: NoiseOptions | TracedOptions = DEFAULTS,
    sharding: NamedSharding | None = None,
) -> Int[Array, "B *s"]:
    """Draws grids of codes from a noise generator.

    Args:
      model: the generator.
      variables: its parameters.
      rng: key, or one for each grid [B]; the same key and arguments give the same codes.
      condition: labels int32 [B]; None for an unconditional generator.
      tokenizer_model: quantizes the latents.
      tokenizer_variables: variables of the tokenizer.
      num: grids to draw, B; that of the condition when absent.
      options: the scale of the noise.
      sharding: of the batch over a mesh.

    Returns:
      int32 [B, *model.grid].

    Raises:
      ValueError: the number or a label does not fit the model.
    """
    batch = check_labels(model, condition, num, None, guided=False)
    both, traced = (variables, tokenizer_variables), trace_options(options, NoiseOptions)
    return _sample_noise(model, tokenizer_model, batch, sharding, both, rng, condition, traced)


@auto_axes(lambda *_: PartitionSpec())
@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _sample_noise(
    model: NoiseGenerator,
    tokenizer_model: VQModel,
    batch: int,
    sharding: NamedSharding | None,
    both: tuple[Params, Params],
    rng: Array,
    condition: Condition | None,
    options: TracedOptions,
) -> Array:
    variables, tokenizer_variables = both
    temperature = options.value("temperature")
    like = jnp.zeros((batch, model.noise_dim), jnp.float32)
    drawn = of_rows(lambda rng, like: jax.random.normal(rng, like.shape, like.dtype), rng, like)
    noise = shard(temperature * drawn, sharding)
    latents: Any = model.apply(variables, noise, condition)
    quantized: Any = tokenizer_model.apply(tokenizer_variables, latents, method="quantize")
    indices: Array = quantized.indices
    return indices
