"""Convolutions written so that each backend computes them fast; the result is the plain one's."""

import jax
import jax.numpy as jnp

from vq_jax.types import Array, Float


def double_conv_transpose(
    x: Float[Array, "B *S I"], kernel: Float[Array, "*T I O"]
) -> Float[Array, "B *S2 O"]:
    """Transposed convolution with a kernel of width 4 and stride 2: doubles every spatial axis.

    Equals `jax.lax.conv_transpose(x, kernel, strides=2, padding="SAME")`. On CPU, where the weight
    gradient of a transposed convolution is over ten times slower than a plain one's, it is computed as
    one convolution of width 2 at the low resolution, with an output channel for each of the 2^n pixels
    that a position becomes (Shi et al. 2016, arXiv:1609.05158).

    Args:
      x: pictures or features.
      kernel: width 4 along each of the n spatial axes.

    Returns:
      Array with every spatial axis twice as long, dtype of x.
    """
    return jax.lax.platform_dependent(x, kernel, cpu=_sub_pixel, default=_transposed)


def _dimension_numbers(spatial: int) -> jax.lax.ConvDimensionNumbers:
    axes = tuple(range(1, spatial + 1))
    kernel_axes = (spatial + 1, spatial, *range(spatial))
    return jax.lax.ConvDimensionNumbers((0, spatial + 1, *axes), kernel_axes, (0, spatial + 1, *axes))


def _transposed(x: Float[Array, "B *S I"], kernel: Float[Array, "*T I O"]) -> Float[Array, "B *S2 O"]:
    spatial = x.ndim - 2
    return jax.lax.conv_transpose(
        x, kernel, (2,) * spatial, "SAME", dimension_numbers=_dimension_numbers(spatial)
    )


def _sub_pixel(x: Float[Array, "B *S I"], kernel: Float[Array, "*T I O"]) -> Float[Array, "B *S2 O"]:
    spatial = x.ndim - 2
    inputs, features = kernel.shape[-2:]
    # Along each axis, pixel 2y + a is the sum over j of x[y + a + j - 1] kernel[2j + a].
    taps = kernel.reshape((2, 2) * spatial + (inputs, features))
    tap_axes, pixel_axes = range(0, 2 * spatial, 2), range(1, 2 * spatial, 2)
    taps = taps.transpose(*tap_axes, 2 * spatial, *pixel_axes, 2 * spatial + 1)
    taps = taps.reshape((2,) * spatial + (inputs, 2**spatial * features))
    # Products rather than convolutions: XLA's CPU convolution takes a slow path for width 2. Shifted
    # is the side with fewer channels.
    shift_and_multiply = _multiply_shift if taps.shape[-1] < inputs else _shift_multiply
    low = shift_and_multiply(x, taps)
    low = low.reshape(low.shape[:-1] + (2,) * spatial + (features,))
    for axis in range(1, spatial + 1):
        size, pixel_axis = x.shape[axis], spatial + 1
        pixels = [
            jax.lax.slice_in_dim(
                jax.lax.index_in_dim(low, a, pixel_axis, keepdims=False), a, a + size, axis=axis
            )
            for a in (0, 1)
        ]
        low = jnp.stack(pixels, axis=axis + 1)
        low = low.reshape(low.shape[:axis] + (2 * size,) + low.shape[axis + 2 :])
    return low


def _shift_multiply(x: Float[Array, "B *S I"], taps: Float[Array, "*T I O"]) -> Float[Array, "B *S1 O"]:
    """Convolution of width 2, padded by one on both sides: gathers 2^n neighbours, then one product."""
    spatial = x.ndim - 2
    patches = jnp.pad(x, [(0, 0), *[(1, 1)] * spatial, (0, 0)])
    for axis in range(spatial, 0, -1):
        size = x.shape[axis] + 1
        patches = jnp.concatenate(
            [jax.lax.slice_in_dim(patches, j, j + size, axis=axis) for j in (0, 1)], axis=-1
        )
    return jnp.matmul(patches, taps.reshape(-1, taps.shape[-1]))


def _multiply_shift(x: Float[Array, "B *S I"], taps: Float[Array, "*T I O"]) -> Float[Array, "B *S1 O"]:
    """The same convolution: one product for all 2^n taps, then adds their shifted results."""
    spatial = x.ndim - 2
    by_tap = jnp.moveaxis(taps, -2, 0).reshape(taps.shape[-2], -1)
    y = jnp.matmul(x, by_tap).reshape(x.shape[:-1] + (2,) * spatial + taps.shape[-1:])
    for axis in range(1, spatial + 1):
        first, second = (jax.lax.index_in_dim(y, j, spatial + 1, keepdims=False) for j in (0, 1))
        before: list[tuple[int, int]] = [(0, 0)] * first.ndim
        after = before.copy()
        before[axis], after[axis] = (1, 0), (0, 1)
        y = jnp.pad(first, before) + jnp.pad(second, after)
    return y
