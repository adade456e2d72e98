"""How gradients pass a nearest-code quantizer: straight through, by the rotation trick, or by DiVeQ."""

import jax
import jax.numpy as jnp

from vq_jax.ops.codebook import AxisName
from vq_jax.ops.meshes import auto_axes, rows_of
from vq_jax.types import Array, Float, Key

GRADIENTS = ("straight_through", "rotation", "diveq")
_SHORTEST = 1e-6  # a vector below has no direction
_OPPOSITE = 1e-4  # of two unit vectors whose sum is shorter, rounding decides the plane of rotation
_LARGEST_SCALE = 100.0


def straight_through(z: Float[Array, "*S"], quantized: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Returns `quantized`, with the gradient of the identity to `z` (Bengio et al. 2013)."""
    return z + jax.lax.stop_gradient(quantized - z)


def rotation_trick(z: Float[Array, "N D"], quantized: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """Returns `quantized`, with the gradient of the rotation and scaling that take `z` there (Fifty et al.
    2024, arXiv:2410.06424, section 4.2).

    With u = z / |z|, v = q / |q|, w = (u + v) / |u + v| and the scale s = |q| / |z|, all held constant, the
    output is s (z - 2 w <w, z> + 2 v <u, z>): the gradient to `z` is s times the gradient turned back from q
    to z. None flows to `quantized`, whose values come out to the bit.

    Differs from the paper where it leaves the map undefined: z and q of opposite directions are reflected
    into each other, a vector shorter than 1e-6 on either side passes the gradient straight through, and s
    is at most 100.

    Args:
      z: latents, D of at least 2: one channel can be scaled and not rotated.
      quantized: the vectors of their codes.
    """
    source, quantized = jax.lax.stop_gradient((z, quantized))
    length, quantized_length = _length(source), _length(quantized)
    u = source / jnp.maximum(length, _SHORTEST)
    v = quantized / jnp.maximum(quantized_length, _SHORTEST)
    between = _length(u + v)
    w = jnp.where(between > _OPPOSITE, (u + v) / jnp.maximum(between, _OPPOSITE), 0.0)
    scale = jnp.minimum(quantized_length / jnp.maximum(length, _SHORTEST), _LARGEST_SCALE)
    turned = scale * (z - 2.0 * w * _inner(w, z) + 2.0 * v * _inner(u, z))
    turned = jnp.where((length > _SHORTEST) & (quantized_length > _SHORTEST), turned, z)
    return quantized + (turned - jax.lax.stop_gradient(turned))


def diveq(
    z: Float[Array, "N D"], quantized: Float[Array, "N D"], noise: Float[Array, "N D"]
) -> Float[Array, "N D"]:
    """Moves latents by the length of their quantization error, about in its direction (DiVeQ, Vali et al.
    2025, arXiv:2509.26469).

    The output is z + |q - z| d with the unit vector d along q - z + noise held constant. Gradients reach
    latents and codebook through the length; without noise the output is q, but for rounding.

    Args:
      z: latents.
      quantized: the vectors of their codes.
      noise: as `directional_noise` draws it, or zero.
    """
    error = quantized - z
    square = jnp.sum(error * error, axis=-1, keepdims=True)
    away = square > 0.0  # the length's gradient at zero is taken to be zero
    length = jnp.where(away, jnp.sqrt(jnp.where(away, square, 1.0)), 0.0)
    direction = jax.lax.stop_gradient(error + noise)
    return z + length * direction / jnp.maximum(_length(direction), 1e-12)


@auto_axes(lambda _, z, *__: rows_of(z))
def directional_noise(
    rng: Key[Array, ""], z: Float[Array, "N D"], deviation: float, axis_name: AxisName | None = None
) -> Float[Array, "N D"]:
    """Draws normal noise for `diveq`.

    Args:
      rng: key.
      z: latents, for their shape.
      deviation: standard deviation of the noise in each channel.
      axis_name: axes of `jax.shard_map` or `jax.pmap` over whose devices the rows are spread; each device
        has draws of its own.
    """
    if axis_name:
        rng = jax.random.fold_in(rng, jax.lax.axis_index(axis_name))
    return deviation * jax.random.normal(rng, z.shape, jnp.float32)


def _inner(a: Float[Array, "N D"], b: Float[Array, "N D"]) -> Float[Array, "N 1"]:
    return jnp.sum(a * b, axis=-1, keepdims=True)


def _length(x: Float[Array, "N D"]) -> Float[Array, "N 1"]:
    return jnp.sqrt(_inner(x, x))
