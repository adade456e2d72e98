"""Structural similarity of reconstructions, on the device."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vq_jax import ops
from vq_jax.types import Array, Float, UInt8

_WINDOW = 7  # px
_LIGHT, _CONTRAST = 0.01**2, 0.03**2  # of values in [0, 1]


def picture_ssim(a: UInt8[Array, "B *S C"], b: UInt8[Array, "B *S C"]) -> Float[Array, " B"]:
    """Returns the structural similarity of pictures, float32; of clips [B, T, H, W, C] the mean over frames.

    As scikit-image has it by default, and `evaluate.ssim`: uniform windows of 7x7 px inside the picture,
    variances of N - 1 degrees of freedom, mean over channels. Sides below 7 px are extended by their last
    pixel.

    References:
      Wang et al. 2004, Image quality assessment, equation 13.
    """
    batch = a.shape[0]
    x, y = (picture.reshape(-1, *picture.shape[-3:]).astype(jnp.float32) / 255.0 - 0.5 for picture in (a, b))
    missing = [(0, max(0, _WINDOW - side)) for side in x.shape[1:3]]
    x, y = (jnp.pad(picture, [(0, 0), *missing, (0, 0)], mode="edge") for picture in (x, y))
    count = _WINDOW**2
    mean_x, mean_y = _mean(x), _mean(y)
    # Values are around zero, where float32 takes the difference of mean square and squared mean well.
    unbiased = count / (count - 1)
    variance_x = unbiased * (_mean(x * x) - mean_x * mean_x)
    variance_y = unbiased * (_mean(y * y) - mean_y * mean_y)
    covariance = unbiased * (_mean(x * y) - mean_x * mean_y)
    light_x, light_y = mean_x + 0.5, mean_y + 0.5
    light = (2 * light_x * light_y + _LIGHT) / (light_x**2 + light_y**2 + _LIGHT)
    contrast = (2 * covariance + _CONTRAST) / (variance_x + variance_y + _CONTRAST)
    return jnp.mean((light * contrast).reshape(batch, -1), axis=1)


def _mean(x: Float[Array, "N H W C"]) -> Float[Array, "N h w C"]:
    total = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, _WINDOW, _WINDOW, 1), (1, 1, 1, 1), "VALID")
    return total / _WINDOW**2


class StructuralSimilarity:
    """SSIM of reconstructions rounded to uint8, see `evaluators.Evaluator` and `picture_ssim`.

    `ssim`: mean over pictures.
    """

    def init(self) -> dict[str, Array]:
        """Sums of zero."""
        return {"pictures": jnp.zeros((), jnp.float32), "ssim": jnp.zeros((), jnp.float32)}

    def update(self, state: dict[str, Array], batch: Mapping[str, Array], output: Any) -> dict[str, Array]:
        """Adds the reconstructions of a batch, `nn.VQOutput`."""
        valid = batch["valid"].astype(jnp.float32)
        similarity = picture_ssim(ops.to_uint8(output.reconstruction), ops.to_uint8(batch["target"]))
        return {
            "pictures": state["pictures"] + jnp.sum(valid),
            "ssim": state["ssim"] + jnp.sum(similarity * valid),
        }

    def compute(self, state: dict[str, Any]) -> dict[str, float]:
        """The mean over the pictures."""
        return {"ssim": float(state["ssim"]) / float(state["pictures"])}
