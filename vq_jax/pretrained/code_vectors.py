"""The vectors that a tokenizer's codes stand for, one by one, for priors that start from them."""

from typing import Any

import jax
import jax.numpy as jnp

from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.types import Array, CodeSpec, Float


def code_vectors(tokenizer: Tokenizer) -> Float[Array, "Q K D"]:
    """What each code adds to the latent of its position, but for what is the same for all codes.

    It is the latent with this code and code 0 at the other Q - 1 of the position. Where a position has
    several codes, as of a residual or a grouped quantizer, a latent is the sum of what they add. Pure: it may
    be traced.

    Raises:
      ValueError: the codes are several grids.
    """
    specs = tokenizer.model.code_specs((*tokenizer.config.data.lengths, tokenizer.channels))
    if not isinstance(specs, CodeSpec):
        raise ValueError("expected a tokenizer with one grid of codes, got one with several")
    depth, size = specs.codes_per_position, specs.codebook_size
    variables = jax.tree.map(jnp.asarray, jax.device_get(tokenizer.variables))  # on no mesh
    place = (1,) * len(specs.shape)

    def of(number: int) -> Float[Array, "K D"]:
        codes = jnp.zeros((size, *place, depth), jnp.int32)
        codes = codes.at[..., number].set(jnp.arange(size, dtype=jnp.int32).reshape(size, *place))
        codes = codes if depth > 1 else codes[..., 0]
        latents: Any = tokenizer.model.apply(variables, codes, method="lookup")
        vectors: Array = latents.reshape(size, -1)
        return vectors

    return jnp.stack([of(number) for number in range(depth)])
