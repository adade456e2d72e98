"""Convolutions in a form that each backend computes fast; results equal those of `jax.lax`."""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vq_jax.ops.meshes import auto_axes, rows_of
from vq_jax.types import Array, Float

Padding = Sequence[tuple[int, int]]
_FEW = 8  # channels; with at most this many, the CPU's weight gradient gathers that side's neighbours
_SMALL_MAP = 1024  # positions in a batch; up to this many, rearranging the kernel costs more than the product
_MANY = 48 * 48  # inputs x outputs; from here on, a product per tap is faster than XLA's convolution


@auto_axes(lambda x, *_: rows_of(x))
def conv(
    x: Float[Array, "B *S I"], kernel: Float[Array, "*T I O"], strides: tuple[int, ...], padding: Padding
) -> Float[Array, "B *S2 O"]:
    """Convolution over any number of spatial axes.

    Equals `jax.lax.conv_general_dilated`. On CPU, where XLA computes the weight gradient at a fraction of the
    forward pass's speed, the weight gradient is a sum of matrix products, or, with few input or output
    channels, one product with gathered neighbours.

    Args:
      x: pictures or features.
      kernel: of any width along each of the n spatial axes.
      strides: n strides.
      padding: n pairs, the number of zeros before and after.

    Returns:
      Array of the dtype of x.
    """
    return _conv(x, kernel, tuple(strides), tuple(tuple(pair) for pair in padding))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x: Array, kernel: Array, strides: tuple[int, ...], padding: Padding) -> Array:
    return _plain_conv(x, kernel, strides, padding)


def _plain_conv(x: Array, kernel: Array, strides: tuple[int, ...], padding: Padding) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=_dimension_numbers(x.ndim - 2)
    )


def _conv_forward(
    x: Array, kernel: Array, strides: tuple[int, ...], padding: Padding
) -> tuple[Array, tuple[Array, Array]]:
    return _plain_conv(x, kernel, strides, padding), (x, kernel)


def _conv_backward(
    strides: tuple[int, ...], padding: Padding, saved: tuple[Array, Array], grad: Array
) -> tuple[Array, Array]:
    x, kernel = saved

    def plain_input(kernel: Array, grad: Array) -> Array:
        (x_grad,) = jax.linear_transpose(lambda x: _plain_conv(x, kernel, strides, padding), x)(grad)
        return x_grad

    def plain(x: Array, grad: Array) -> Array:
        (kernel_grad,) = jax.linear_transpose(lambda k: _plain_conv(x, k, strides, padding), kernel)(grad)
        return kernel_grad

    if x.size // x.shape[-1] <= _SMALL_MAP and all(stride == 1 for stride in strides):
        product = functools.partial(_input_gradient, x.shape, padding)
        x_grad = jax.lax.platform_dependent(kernel, grad, cpu=product, default=plain_input)
    else:
        x_grad = plain_input(kernel, grad)

    if kernel.shape[-2] * kernel.shape[-1] < _MANY and min(kernel.shape[-2:]) > _FEW:
        return x_grad, plain(x, grad)
    products = functools.partial(_weight_gradient, kernel.shape, strides, padding)
    return x_grad, jax.lax.platform_dependent(x, grad, cpu=products, default=plain)


_conv.defvjp(_conv_forward, _conv_backward)


def _weight_gradient(
    shape: tuple[int, ...], strides: tuple[int, ...], padding: Padding, x: Array, grad: Array
) -> Array:
    """Gradient of a convolution's kernel, which has shape `shape`, by matrix products."""
    *taps, inputs, outputs = shape
    if inputs > _FEW >= outputs and all(stride == 1 for stride in strides):
        # The gradient is shifted, because it has fewer channels.
        pads = [(tap - 1 - low, tap - 1 - high) for tap, (low, high) in zip(taps, padding, strict=True)]
        columns = _neighbours(grad, [range(tap)[::-1] for tap in taps], x.shape[1:-1], strides, pads)
        product = x.reshape(-1, inputs).T @ jnp.concatenate(columns, -1).reshape(-1, len(columns) * outputs)
        return jnp.moveaxis(product.reshape(inputs, *taps, outputs), 0, -2)
    if inputs > _FEW and all(stride == 1 for stride in strides):
        return _weight_gradient_of_stride_one(shape, padding, x, grad)
    columns = _neighbours(x, [range(tap) for tap in taps], grad.shape[1:-1], strides, padding)
    flat = grad.reshape(-1, outputs)
    if inputs <= _FEW:
        product = jnp.concatenate(columns, -1).reshape(-1, len(columns) * inputs).T @ flat
    else:
        product = jnp.stack([column.reshape(-1, inputs).T @ flat for column in columns])
    return product.reshape(shape)


def _weight_gradient_of_stride_one(shape: tuple[int, ...], padding: Padding, x: Array, grad: Array) -> Array:
    """The same with fewer copies: x is shifted along the last axis, the gradient along the others."""
    *taps, inputs, outputs = shape
    first = len(taps) - 1
    offsets = [range(-low, tap - low) for tap, (low, _) in zip(taps, padding, strict=True)]
    shifted = [_shift(grad, shifts, x.shape[1 : 1 + first]) for shifts in itertools.product(*offsets[:first])]
    side_by_side = jnp.concatenate(shifted, -1).reshape(-1, len(shifted) * outputs)
    products = [
        _shift(x, [-offset], grad.shape[-2:-1], first).reshape(-1, inputs).T @ side_by_side
        for offset in offsets[first]
    ]
    product = jnp.stack(products).reshape(taps[first], inputs, len(shifted), outputs)
    return jnp.moveaxis(product, 2, 0).reshape(shape)


def _shift(x: Array, shifts: Sequence[int], sizes: Sequence[int], first: int = 0) -> Array:
    """Shifts x along the spatial axes from `first` on, and pads or crops it to `sizes`."""
    pads = [(0, 0, 0)] * x.ndim
    for axis, (shift, size) in enumerate(zip(shifts, sizes, strict=True), 1 + first):
        pads[axis] = (shift, size - x.shape[axis] - shift, 0)
    return jax.lax.pad(x, jnp.zeros((), x.dtype), pads)


def _input_gradient(shape: tuple[int, ...], padding: Padding, kernel: Array, grad: Array) -> Array:
    """Gradient of a stride-1 convolution's input of shape `shape`, by one product with the stored kernel."""
    *taps, inputs, outputs = kernel.shape
    offsets = [range(-low, tap - low) for tap, (low, _) in zip(taps, padding, strict=True)]
    product = grad.reshape(-1, outputs) @ kernel.reshape(-1, outputs).T
    parts = product.reshape(*grad.shape[:-1], -1, inputs)
    total = jnp.zeros(shape, grad.dtype)
    for index, shifts in enumerate(itertools.product(*offsets)):
        part = jax.lax.index_in_dim(parts, index, grad.ndim - 1, keepdims=False)
        total = total + _shift(part, shifts, shape[1:-1])
    return total


def _neighbours(
    x: Array, starts: Sequence[Sequence[int]], size: Sequence[int], strides: Sequence[int], padding: Padding
) -> list[Array]:
    """Slices of the padded x of `size` along the spatial axes, one per combination of starts."""
    zero = jnp.zeros((), x.dtype)
    padded = jax.lax.pad(x, zero, [(0, 0, 0), *[(low, high, 0) for low, high in padding], (0, 0, 0)])
    slices = []
    for start in itertools.product(*starts):
        limits = [
            first + (length - 1) * stride + 1
            for first, length, stride in zip(start, size, strides, strict=True)
        ]
        slices.append(
            jax.lax.slice(padded, (0, *start, 0), (x.shape[0], *limits, x.shape[-1]), (1, *strides, 1))
        )
    return slices


@auto_axes(lambda x, kernel: rows_of(x))
def upsample_conv(x: Float[Array, "B *S I"], kernel: Float[Array, "*T I O"]) -> Float[Array, "B *S2 O"]:
    """Doubles every spatial axis by repetition, then convolves with a kernel of width 3.

    On CPU both steps are one transposed convolution: a kernel of width 3 over repeated pixels equals one of
    width 4 and stride 2 over the pixels themselves, whose inner taps are sums of two. On two axes this takes
    16 products instead of 36, and the result is the only array at the high resolution (Shi et al. 2016,
    arXiv:1609.05158).

    Args:
      x: pictures or features.
      kernel: of width 3 along each of the n spatial axes.

    Returns:
      Array with every spatial axis twice as long, dtype of x.
    """
    return jax.lax.platform_dependent(x, kernel, cpu=_upsample_conv_at_once, default=_upsample_then_conv)


def _upsample_then_conv(x: Array, kernel: Array) -> Array:
    spatial = x.ndim - 2
    for axis in range(1, spatial + 1):
        x = jnp.repeat(x, 2, axis)
    return _plain_conv(x, kernel, (1,) * spatial, ((1, 1),) * spatial)


def _upsample_conv_at_once(x: Array, kernel: Array) -> Array:
    for axis in range(x.ndim - 2):
        first, middle, last = (jax.lax.index_in_dim(kernel, tap, axis, keepdims=False) for tap in range(3))
        kernel = jnp.stack([first, first + middle, middle + last, last], axis)
    return _sub_pixel(x, kernel)


@auto_axes(lambda x, kernel: rows_of(x))
def double_conv_transpose(
    x: Float[Array, "B *S I"], kernel: Float[Array, "*T I O"]
) -> Float[Array, "B *S2 O"]:
    """Transposed convolution with a kernel of width 4 and stride 2: doubles every spatial axis.

    Equals `jax.lax.conv_transpose(x, kernel, strides=2, padding="SAME")`. On CPU, where the weight
    gradient of a transposed convolution is over ten times slower than that of a convolution, it is
    computed as one convolution of width 2 at the low resolution, whose output channels hold the 2^n pixels
    of each position (Shi et al. 2016, arXiv:1609.05158).

    Args:
      x: pictures or features.
      kernel: of width 4 along each of the n spatial axes.

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
    # Products rather than convolutions: XLA's CPU convolution takes a slow path for width 2. The side with
    # fewer channels is shifted.
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
    """Convolution of width 2, padded by 1 on both sides, by one product with 2^n gathered neighbours."""
    spatial = x.ndim - 2
    patches = jnp.pad(x, [(0, 0), *[(1, 1)] * spatial, (0, 0)])
    for axis in range(spatial, 0, -1):
        size = x.shape[axis] + 1
        patches = jnp.concatenate(
            [jax.lax.slice_in_dim(patches, j, j + size, axis=axis) for j in (0, 1)], axis=-1
        )
    return jnp.matmul(patches, taps.reshape(-1, taps.shape[-1]))


def _multiply_shift(x: Float[Array, "B *S I"], taps: Float[Array, "*T I O"]) -> Float[Array, "B *S1 O"]:
    """The same convolution by one product for all 2^n taps, whose results are shifted and added."""
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
