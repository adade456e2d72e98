"""Distances between pictures, pixel by pixel and by their structure."""

import jax.numpy as jnp
import numpy as np

from vq_jax.types import Array, Float


def mean_squared_error(a: Float[Array, "B *S C"], b: Float[Array, "B *S C"]) -> Float[Array, " B"]:
    """Mean squared difference of each picture, float32."""
    difference = a.astype(jnp.float32) - b.astype(jnp.float32)
    return jnp.mean(jnp.square(difference), axis=tuple(range(1, a.ndim)))


def picture_psnr(a: Float[Array, "B *S C"], b: Float[Array, "B *S C"]) -> Float[Array, " B"]:
    """Peak signal-to-noise ratio in decibel, of pictures in [-1, 1]; the mean over frames of clips."""
    frames = a.shape[:2] if a.ndim == 5 else (a.shape[0], 1)
    error = jnp.square(a.astype(jnp.float32) - b.astype(jnp.float32))
    return jnp.mean(psnr_from_mse(jnp.mean(error.reshape(*frames, -1), axis=2)), axis=1)


def psnr_from_mse(mse: Float[Array, "*S"], peak: float = 2.0) -> Float[Array, "*S"]:
    """Peak signal-to-noise ratio in decibel; `peak` is the width of the value range, 2 for [-1, 1]."""
    return 10.0 * jnp.log10(peak**2 / jnp.maximum(mse, 1e-12))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures [H, W, C], in decibel."""
    mse = np.mean(np.square(a.astype(np.float64) - b.astype(np.float64)))
    return float(10.0 * np.log10(255.0**2 / max(float(mse), 1e-8)))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004) of two uint8 pictures [H, W, C], by scikit-image.

    Sides shorter than its window of 7 px are extended by their last pixel.
    """
    from skimage.metrics import structural_similarity

    missing = [(0, max(0, 7 - side)) for side in a.shape[:2]]
    a, b = (np.pad(picture, [*missing, (0, 0)], mode="edge") for picture in (a, b))
    return float(structural_similarity(a, b, channel_axis=-1, data_range=255))
