"""Linear resizing of grids by fixed matrices, one an axis: area averages, PyTorch's bicubic, two bilinear.

`jax.image.resize` is another bicubic (a = -0.5, and with antialiasing where it shrinks) and has no area
averages over uneven windows.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.types import Array, Float

_A = -0.75  # of PyTorch's kernel (Keys 1981, with a = -0.75)


def area_matrix(size: int, new_size: int) -> np.ndarray:
    """Returns the matrix [new_size, size] of adaptive average pooling, float32.

    Value i is the mean of the values from floor(i size / new_size) up to, not with, ceil((i + 1) size /
    new_size), as PyTorch's `area` interpolation has it: windows may differ by one and overlap.
    """
    matrix = np.zeros((new_size, size), np.float32)
    for row in range(new_size):
        start, stop = row * size // new_size, -(-(row + 1) * size // new_size)
        matrix[row, start:stop] = np.float32(1) / np.float32(stop - start)
    return matrix


def bicubic_matrix(size: int, new_size: int) -> np.ndarray:
    """Returns the matrix [new_size, size] of PyTorch's bicubic interpolation, float32.

    Without `align_corners` and antialiasing; places beyond the ends have the values at the ends.
    """
    matrix = np.zeros((new_size, size), np.float64)
    for row in range(new_size):
        place = (row + 0.5) * size / new_size - 0.5
        first = int(np.floor(place))
        for column in range(first - 1, first + 3):
            matrix[row, min(max(column, 0), size - 1)] += _cubic(abs(place - column))
    return matrix.astype(np.float32)


def bilinear_matrix(size: int, new_size: int) -> np.ndarray:
    """Returns the matrix [new_size, size] of PyTorch's bilinear interpolation, as `bicubic_matrix`."""
    return _linear((np.arange(new_size) + 0.5) * (size / new_size) - 0.5, size)


def corner_bilinear_matrix(size: int, new_size: int) -> np.ndarray:
    """Returns the matrix [new_size, size] of TensorFlow 1's bilinear interpolation, float32.

    Value i is taken at i size / new_size, as if pixels were points at their upper left corners: the picture
    moves by up to half a pixel. Without `align_corners` and antialiasing.
    """
    return _linear(np.arange(new_size) * (size / new_size), size)


def _linear(places: np.ndarray, size: int) -> np.ndarray:
    """Weights of the two values around each place; those beyond the ends have the values at the ends."""
    places = np.clip(places, 0, size - 1)
    first = np.minimum(np.floor(places).astype(int), max(size - 2, 0))
    matrix = np.zeros((len(places), size), np.float64)
    rows = np.arange(len(places))
    np.add.at(matrix, (rows, first), 1.0 - (places - first))
    np.add.at(matrix, (rows, np.minimum(first + 1, size - 1)), places - first)
    return matrix.astype(np.float32)


def _cubic(x: float) -> float:
    if x <= 1:
        return ((_A + 2) * x - (_A + 3)) * x * x + 1
    return ((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A if x < 2 else 0.0


def resize(
    x: Float[Array, "B *S D"], shape: Sequence[int], matrix: Callable[[int, int], np.ndarray]
) -> Float[Array, "B *S2 D"]:
    """Resizes the spatial axes to `shape`, one after the other.

    Args:
      x: float32.
      shape: new lengths of the axes between the first and the last.
      matrix: `area_matrix`, `bicubic_matrix` or another of these.
    """
    for axis, new_size in enumerate(shape, 1):
        if x.shape[axis] != new_size:
            weights = jnp.asarray(matrix(x.shape[axis], new_size))
            product = jnp.tensordot(weights, x, axes=(1, axis), precision=jax.lax.Precision.HIGHEST)
            x = jnp.moveaxis(product, 0, axis)
    return x
