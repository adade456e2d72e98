"""Inception of 2015, the network of FID, inception score and KID.

It is the network of TensorFlow's archive `inception-2015-12-05`, not torchvision's Inception v3: there are
1008 classes, averages leave out the padding, and the last block takes a maximum where the others average.

References:
  Szegedy et al. 2016, Rethinking the Inception Architecture, arXiv:1512.00567. Heusel et al. 2017,
  arXiv:1706.08500, made its features a figure.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.features.feature_network import FeatureNetwork, Features
from vq_jax.nn.features.state_dicts import checked_tensors, folded, norm_shapes
from vq_jax.types import Array, Float, UInt8

SIDE, WIDTH, CLASSES = 299, 2048, 1008
_EPSILON = 0.001  # of the batch norms
_WeightOf = Callable[[str, tuple[int, ...]], tuple[Array, Array]]


class _Conv(NamedTuple):
    """A convolution, a batch norm and a ReLU."""

    name: str
    channels: int
    window: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "SAME"


class _Pool(NamedTuple):
    """A mean or a maximum over 3x3."""

    mean: bool = False
    stride: int = 1


_Step = Any  # a _Conv, a _Pool, or a list of branches, each a list of steps, that are put side by side
_MEAN, _MAX, _HALVE = _Pool(mean=True), _Pool(), _Pool(stride=2)


def _a(pooled: int) -> _Step:
    tower = [_Conv("branch3x3dbl_1", 64), *(_Conv(f"branch3x3dbl_{n}", 96, (3, 3)) for n in (2, 3))]
    wide = [_Conv("branch5x5_1", 48), _Conv("branch5x5_2", 64, (5, 5))]
    return [[_Conv("branch1x1", 64)], wide, tower, [_MEAN, _Conv("branch_pool", pooled)]]


def _b() -> _Step:
    tower = [_Conv("branch3x3dbl_1", 64), _Conv("branch3x3dbl_2", 96, (3, 3))]
    tower += [_Conv("branch3x3dbl_3", 96, (3, 3), 2, "VALID")]
    return [[_Conv("branch3x3", 384, (3, 3), 2, "VALID")], tower, [_HALVE]]


def _c(inner: int) -> _Step:
    row, column = (1, 7), (7, 1)
    seven = [_Conv("branch7x7_1", inner), _Conv("branch7x7_2", inner, row), _Conv("branch7x7_3", 192, column)]
    tower = [_Conv("branch7x7dbl_1", inner), _Conv("branch7x7dbl_2", inner, column)]
    tower += [_Conv("branch7x7dbl_3", inner, row), _Conv("branch7x7dbl_4", inner, column)]
    tower += [_Conv("branch7x7dbl_5", 192, row)]
    return [[_Conv("branch1x1", 192)], seven, tower, [_MEAN, _Conv("branch_pool", 192)]]


def _d() -> _Step:
    three = [_Conv("branch3x3_1", 192), _Conv("branch3x3_2", 320, (3, 3), 2, "VALID")]
    tower = [_Conv("branch7x7x3_1", 192), _Conv("branch7x7x3_2", 192, (1, 7))]
    tower += [_Conv("branch7x7x3_3", 192, (7, 1)), _Conv("branch7x7x3_4", 192, (3, 3), 2, "VALID")]
    return [three, tower, [_HALVE]]


def _e(pool: _Pool) -> _Step:
    def cross(name: str) -> _Step:
        return [[_Conv(f"{name}a", 384, (1, 3))], [_Conv(f"{name}b", 384, (3, 1))]]

    three = [_Conv("branch3x3_1", 384), cross("branch3x3_2")]
    tower = [_Conv("branch3x3dbl_1", 448), _Conv("branch3x3dbl_2", 384, (3, 3)), cross("branch3x3dbl_3")]
    return [[_Conv("branch1x1", 320)], three, tower, [pool, _Conv("branch_pool", 192)]]


_STEM = [
    *(_Conv("Conv2d_1a_3x3", 32, (3, 3), 2, "VALID"), _Conv("Conv2d_2a_3x3", 32, (3, 3), padding="VALID")),
    *(_Conv("Conv2d_2b_3x3", 64, (3, 3)), _HALVE),
    *(_Conv("Conv2d_3b_1x1", 80), _Conv("Conv2d_4a_3x3", 192, (3, 3), padding="VALID"), _HALVE),
]
_BLOCKS = {
    **{"Mixed_5b": _a(32), "Mixed_5c": _a(64), "Mixed_5d": _a(64), "Mixed_6a": _b(), "Mixed_6b": _c(128)},
    **{"Mixed_6c": _c(160), "Mixed_6d": _c(160), "Mixed_6e": _c(192), "Mixed_7a": _d()},
    **{"Mixed_7b": _e(_MEAN), "Mixed_7c": _e(_MAX)},
}


def _network(x: Float[Array, "B H W 3"], weight_of: _WeightOf) -> Float[Array, "B 2048"]:
    for step in _STEM:
        x = _applied(step, x, "", weight_of)
    for name, block in _BLOCKS.items():
        x = _applied(block, x, f"{name}.", weight_of)
    return jnp.mean(x, axis=(1, 2))


def _applied(step: _Step, x: Array, prefix: str, weight_of: _WeightOf) -> Array:
    if isinstance(step, _Conv):
        kernel, bias = weight_of(f"{prefix}{step.name}", (*step.window, x.shape[-1], step.channels))
        strides = (step.stride, step.stride)
        layout = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, kernel, strides, step.padding, dimension_numbers=layout)
        return nn.relu(x + jnp.broadcast_to(bias, x.shape))
    if isinstance(step, _Pool):
        if step.stride > 1:
            return nn.max_pool(x, (3, 3), (step.stride, step.stride), "VALID")
        return (
            nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)
            if step.mean
            else nn.max_pool(x, (3, 3), padding="SAME")
        )
    branches = []
    for branch in step:
        y = x
        for inner in branch:
            y = _applied(inner, y, prefix, weight_of)
        branches.append(y)
    return jnp.concatenate(branches, axis=-1)


def inception_shapes() -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors of a file of weights, by their names in PyTorch."""
    shapes: dict[str, tuple[int, ...]] = {"fc.weight": (CLASSES, WIDTH), "fc.bias": (CLASSES,)}

    def record(name: str, kernel: tuple[int, ...]) -> tuple[Array, Array]:
        height, width, inside, outside = kernel
        shapes[f"{name}.conv.weight"] = (outside, inside, height, width)
        shapes.update(norm_shapes(f"{name}.bn", outside))
        return jnp.zeros(kernel, jnp.float32), jnp.zeros((outside,), jnp.float32)

    picture = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    jax.eval_shape(lambda x: _network(x, record), picture)
    return shapes


def inception_network(
    tensors: Mapping[str, np.ndarray], *, source: str, is_reference: bool = False, half_pixels: bool = False
) -> FeatureNetwork:
    """Returns the network of 2015: 2048 features, the mean over the last 8x8 positions, and logits.

    A picture is resized to 299 px by bilinear interpolation without antialiasing, as TensorFlow 1 does, and
    scaled by (x - 128) / 128. The logits are without the bias of the last layer, as inception scores have it.

    Args:
      tensors: by the names of the file `pt_inception-2015-12-05-6726825d.pth`; the counts of batches
        (`num_batches_tracked`) may be there.
      source: where the tensors come from, for the description.
      is_reference: they are the published ones.
      half_pixels: resize and scale as pytorch-fid does: pixels are areas, and values go from -1 to 1.

    Raises:
      UserError: tensors are missing, have other shapes or are not finite, or there are others; ten are named.
    """
    weights = _weights(tensors, source)
    how = (
        "bilinear with half pixels, x / 127.5 - 1" if half_pixels else "TensorFlow 1's bilinear, x / 128 - 1"
    )

    def compute(weights: Mapping[str, Any], pictures: UInt8[Array, "B H W 3"]) -> Features:
        matrix = ops.bilinear_matrix if half_pixels else ops.corner_bilinear_matrix
        pixels = ops.resize(pictures.astype(jnp.float32), (SIDE, SIDE), matrix)
        pixels = pixels / 127.5 - 1.0 if half_pixels else (pixels - 128.0) / 128.0
        pooled = _network(pixels, lambda name, _: weights[name])
        return Features(pooled, jnp.matmul(pooled, weights["fc"], precision=jax.lax.Precision.HIGHEST))

    return FeatureNetwork(
        name="inception",
        width=WIDTH,
        classes=CLASSES,
        smallest=1,
        description=(
            f"Inception of 2015, pool_3 ({WIDTH} features), pictures uint8 resized to {SIDE} px ({how}), "
            f"weights of {source}"
        ),
        weights=weights,
        compute=compute,
        is_reference=is_reference,
    )


def _weights(tensors: Mapping[str, np.ndarray], source: str) -> dict[str, Any]:
    """Kernels and biases with the batch norms folded in, and the matrix of the logits, float32."""
    shapes = inception_shapes()
    expected = "Inception of 2015 (pt_inception-2015-12-05-6726825d.pth, or its tensors as .safetensors)"
    arrays = checked_tensors(tensors, shapes, source, expected)
    weights: dict[str, Any] = {"fc": arrays["fc.weight"].T}
    for name in (name.removesuffix(".conv.weight") for name in shapes if name.endswith(".conv.weight")):
        weights[name] = folded(arrays, f"{name}.conv", f"{name}.bn", _EPSILON)
    return weights
