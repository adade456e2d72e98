"""Arithmetic of transformers over grids of codes: normalisation, rotary positions, attention.

Letters: T tokens, E width of a token, A heads, F width of a head.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.ops.meshes import auto_axes, places_of
from vq_jax.types import Array, Float


@auto_axes(lambda x, *_: places_of(x))
def rms_norm(x: Float[Array, "... E"], scale: Float[Array, " E"], epsilon: float = 1e-6) -> Array:
    """Divides each token by its root mean square, then scales it; computed in float32.

    Args:
      x: tokens, any float dtype.
      scale: one per channel, float32.
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
    """Returns the coordinates of a grid's positions in raster order (last axis fastest), int32 [N, axes]."""
    return np.indices(grid).reshape(len(grid), -1).T.astype(np.int32)


def rotary_angles(coordinates: np.ndarray, head_width: int, base: float = 10000.0) -> np.ndarray:
    """Returns the angles by which the channel pairs of a head are rotated at each position.

    The pairs are divided evenly among the axes, the remainder going to the first axes; pair i of the n pairs
    of an axis is rotated by coordinate * base^(-i / n).

    Args:
      coordinates: coordinates of the tokens on every axis, [T, axes].
      head_width: F, even, with at least two channels per axis.
      base: base of the wavelengths.

    Returns:
      float32 [T, F / 2].

    Raises:
      ValueError: the width of the head is odd or too small for the axes.

    References:
      Su et al. 2021, RoFormer, arXiv:2104.09864, section 3.2.2, applied to each axis separately.
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
    """Rotates channel pairs (i, i + F / 2) of every head by the token's angles; computed in float32.

    The product of a rotated query and a rotated key depends on their coordinates only by the difference.

    Args:
      x: queries or keys, any float dtype.
      angles: P = F / 2 per token, see `rotary_angles`.
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
    """Scaled dot-product attention with a float32 softmax; flash attention where the device supports it.

    On GPU, cuDNN's flash attention computes half-precision heads of up to 128 channels, a multiple of 8, with
    an even number of tokens; XLA computes everything else.

    Args:
      query: queries of the tokens, any float dtype.
      key: keys, of the same shape and dtype.
      value: values, of the same shape and dtype.
      causal: whether a token attends to itself and earlier tokens only, else to all tokens.

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
    """Attention of one new token over a preallocated cache whose first `position` + 1 entries are filled.

    Args:
      query: query of the new token for R heads, those of all grids; any float dtype.
      keys: keys of all T tokens.
      values: values of all T tokens.
      position: int32 (), position of the new token.
    """
    scores = jnp.einsum("rf,rtf->rt", query, keys, preferred_element_type=jnp.float32)
    seen = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1) <= position
    scores = jnp.where(seen, scores / np.sqrt(query.shape[-1]).astype(np.float32), -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    return jnp.einsum("rt,rtf->rf", weights, values)
