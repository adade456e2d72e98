"""Group normalisation, in a form that each backend computes fast."""

import functools

import jax
import jax.numpy as jnp

from vq_jax.ops.meshes import auto_axes, places_of
from vq_jax.types import Array, Float


@auto_axes(lambda x, *_, **__: places_of(x))
def group_norm(
    x: Float[Array, "B *S C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    *,
    groups: int,
    epsilon: float,
) -> Float[Array, "B *S C"]:
    """Normalises each picture's groups of channels to mean zero and variance one, then scales and shifts.

    Statistics are float32 for any dtype of x. On CPU, one pass over x computes sums per channel, and a second
    pass applies one scale and one shift per channel.

    Args:
      x: features.
      scale: one per channel, float32.
      bias: one per channel, float32.
      groups: number of groups G; C must be a multiple of G.
      epsilon: added to the variance.

    Returns:
      Array of the shape and dtype of x.

    References:
      Wu, He 2018, Group Normalization, arXiv:1803.08494, eq. 1-3.
    """
    return jax.lax.platform_dependent(
        x,
        scale,
        bias,
        cpu=functools.partial(_by_channel, groups=groups, epsilon=epsilon),
        default=functools.partial(_by_group, groups=groups, epsilon=epsilon),
    )


def _by_group(x: Array, scale: Array, bias: Array, *, groups: int, epsilon: float) -> Array:
    flat = x.astype(jnp.float32).reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean = jnp.mean(flat, axis=(1, 3), keepdims=True)
    variance = jnp.mean(jnp.square(flat - mean), axis=(1, 3), keepdims=True)
    normal = ((flat - mean) * jax.lax.rsqrt(variance + epsilon)).reshape(x.shape)
    return (normal * jnp.broadcast_to(scale, x.shape) + jnp.broadcast_to(bias, x.shape)).astype(x.dtype)


def _by_channel(x: Array, scale: Array, bias: Array, *, groups: int, epsilon: float) -> Array:
    batch, channels = x.shape[0], x.shape[-1]
    flat = x.astype(jnp.float32).reshape(batch, -1, channels)
    count = flat.shape[1] * channels // groups

    def of_group(sums: Array) -> Array:
        mean = jnp.sum(sums.reshape(batch, groups, -1), axis=2, keepdims=True) / count
        return jnp.broadcast_to(mean, (batch, groups, channels // groups)).reshape(batch, channels)

    mean = of_group(jnp.sum(flat, axis=1))
    # Rounding may make the variance of a constant group slightly negative.
    variance = jnp.maximum(of_group(jnp.sum(jnp.square(flat), axis=1)) - jnp.square(mean), 0.0)
    factor = jax.lax.rsqrt(variance + epsilon) * jnp.broadcast_to(scale, mean.shape)
    shift = jnp.broadcast_to(bias, mean.shape) - mean * factor
    shape = (batch, flat.shape[1], channels)
    out = flat * jnp.broadcast_to(factor[:, None], shape) + jnp.broadcast_to(shift[:, None], shape)
    return out.reshape(x.shape).astype(x.dtype)
