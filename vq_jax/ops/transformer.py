"""Arithmetic of transformers over code grids: normalisation, rotary positions, attention.

Letters: T tokens, E width of a token, A heads, F width of a head.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.types import Array, Float


def rms_norm(x: Float[Array, "... E"], scale: Float[Array, " E"], epsilon: float = 1e-6) -> Array:
    """Divides each token by the root of its mean square, then scales it; computed in float32.

    Args:
      x: tokens, any float dtype.
      scale: of each channel, float32.
      epsilon: added to the mean square.

    Returns:
      Array of the shape and dtype of x.

    References:
      Zhang, Sennrich 2019, Root Mean Square Layer Normalization, arXiv:1910.07467, eq. 4.
    """
    wide = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + epsilon)
    return (wide * inverse * jnp.broadcast_to(scale, wide.shape)).astype(x.dtype)


def grid_coordinates(grid: tuple[int, ...]) -> np.ndarray:
    """Coordinates of a grid's positions in raster order (the last axis runs fastest), int32 [N, axes]."""
    return np.indices(grid).reshape(len(grid), -1).T.astype(np.int32)


def rotary_angles(coordinates: np.ndarray, head_width: int, base: float = 10000.0) -> np.ndarray:
    """Angles by which the pairs of channels of a head turn at each position.

    The pairs are dealt out to the axes, the first ones getting what is left over; pair i of an axis's n
    turns by coordinate * base^(-i / n).

    Args:
      coordinates: of the tokens on every axis, [T, axes].
      head_width: F, even, at least two channels an axis.
      base: of the wavelengths.

    Returns:
      float32 [T, F / 2].

    Raises:
      ValueError: the head is odd or too narrow for the axes.

    References:
      Su et al. 2021, RoFormer, arXiv:2104.09864, section 3.2.2, on each axis by itself.
    """
    axes, pairs = coordinates.shape[1], head_width // 2
    if head_width % 2 or pairs < axes:
        raise ValueError(
            f"expected heads of an even width, at least {2 * axes} for {axes} spatial axes, got {head_width}"
        )
    counts = [pairs // axes + (axis < pairs % axes) for axis in range(axes)]
    angles = [
        coordinates[:, axis, None] * base ** (-np.arange(count) / count) for axis, count in enumerate(counts)
    ]
    return np.concatenate(angles, axis=1).astype(np.float32)


def rotate(x: Float[Array, "B T A F"], angles: Float[Array, "T P"]) -> Float[Array, "B T A F"]:
    """Turns channel pairs (i, i + F / 2) of every head by the token's angles; computed in float32.

    Products of a query and a key turned so depend on the difference of their coordinates alone.

    Args:
      x: queries or keys, any float dtype.
      angles: P = F / 2 of each token, see `rotary_angles`.
    """
    cos, sin = jnp.cos(angles)[None, :, None], jnp.sin(angles)[None, :, None]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = jnp.broadcast_to(cos, first.shape), jnp.broadcast_to(sin, first.shape)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def attention(
    query: Float[Array, "B T A F"],
    key: Float[Array, "B T A F"],
    value: Float[Array, "B T A F"],
    *,
    causal: bool,
) -> Float[Array, "B T A F"]:
    """Scaled dot-product attention, softmax in float32; flash attention where the device has it.

    cuDNN's flash attention serves half-precision heads of up to 128 channels, a multiple of 8, and even
    numbers of tokens, on GPU; everything else is XLA's.

    Args:
      query: of each token, any float dtype.
      key: of the same shape and dtype.
      value: of the same shape and dtype.
      causal: a token sees itself and those before it, else all.

    References:
      Vaswani et al. 2017, arXiv:1706.03762, eq. 1. Dao et al. 2022, FlashAttention, arXiv:2205.14135.
    """
    length, width = query.shape[1], query.shape[3]
    flash = (
        jax.default_backend() == "gpu"
        and query.dtype in (jnp.bfloat16, jnp.float16)
        and length % 2 == 0
        and width % 8 == 0
        and width <= 128
    )
    with jax.numpy_dtype_promotion("standard"):  # jax's own code widens half precision
        return jax.nn.dot_product_attention(
            query, key, value, is_causal=causal, implementation="cudnn" if flash else "xla"
        )


def cached_attention(
    query: Float[Array, "R F"],
    keys: Float[Array, "R T F"],
    values: Float[Array, "R T F"],
    position: Array,
) -> Float[Array, "R F"]:
    """Attention of one new token over a preallocated cache, of which `position` + 1 entries are filled.

    Args:
      query: of the new token, for R heads of any number of grids; any float dtype.
      keys: of all tokens.
      values: of all tokens.
      position: int32 (), where the new token stands.
    """
    scores = jnp.einsum("rf,rtf->rt", query, keys, preferred_element_type=jnp.float32)
    seen = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1) <= position
    scores = jnp.where(seen, scores / np.sqrt(query.shape[-1]).astype(np.float32), -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    return jnp.einsum("rt,rtf->rf", weights, values)
