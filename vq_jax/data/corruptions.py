"""Corruptions of pictures at five severities, to measure how robust a model is.

They are those of ImageNet-C that need no other pictures, at its severities. Lengths in pixels are for 224 px
there and are scaled here by the shorter side of the picture, so that a small picture is not wiped out. A new
corruption is a function here and a name in `CORRUPTIONS`.

Some differ from the authors' code: defocus is a plain disk, which theirs smoothes; motion is an even line at
any angle, as spread out as the half of a Gaussian within 45 degrees of the horizontal that theirs is; blurs
mirror the picture beyond its edges; saturation leaves grey pixels grey; and pictures are not stored as JPEG
afterwards.

References:
  Hendrycks, Dietterich 2019, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
  arXiv:1903.12261; the severities are in the authors' code only.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8

from vq_jax.configs.degradations import (
    DegradationConfig,
    DiskBlurConfig,
    GaussianBlurConfig,
    GaussianNoiseConfig,
    JpegConfig,
    MotionBlurConfig,
    PoissonNoiseConfig,
)
from vq_jax.data.degrade import degrade
from vq_jax.errors import lookup

SEVERITIES = 5
_SIDE = 224  # px, of the pictures that lengths are meant for
_LINE = 12**0.5 * (1 - 2 / np.pi) ** 0.5  # length of the line that is as spread out as half of a Gaussian
Unit = Float[np.ndarray, "H W C"]
"""A picture with values in [0, 1]; a function may return others, which are clipped."""


def corrupt(
    picture: UInt8[np.ndarray, "H W C"], name: str, severity: int, generator: np.random.Generator
) -> UInt8[np.ndarray, "H W C"]:
    """Corrupts a picture.

    Args:
      picture: uint8, grey or in colour; it is not changed.
      name: of `CORRUPTIONS`.
      severity: 1, the mildest, to 5.
      generator: of the picture; the same one gives the same result.

    Raises:
      ValueError: an unknown name, or a severity that does not exist.
    """
    if not 1 <= severity <= SEVERITIES:
        raise ValueError(f"expected a severity from 1 to {SEVERITIES}, got {severity}")
    return lookup(CORRUPTIONS, name, "corruption")(picture, severity - 1, generator)


_Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def _by_degradation(at: Callable[[int, float], DegradationConfig]) -> _Corruption:
    """A corruption that is a degradation; `at` gets the severity and the scale of lengths."""

    def corrupted(picture: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
        return degrade(picture, at(severity, min(picture.shape[:2]) / _SIDE), generator)

    return corrupted


def _of_values(change: Callable[[Unit, int, np.random.Generator], Unit]) -> _Corruption:
    """A corruption of values in [0, 1]."""

    def corrupted(picture: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
        changed = change(picture.astype(np.float32) / 255, severity, generator)
        return np.rint(255 * np.clip(changed, 0, 1)).astype(np.uint8)

    return corrupted


def _impulses(picture: Unit, severity: int, generator: np.random.Generator) -> Unit:
    """Salt and pepper, of its own in each channel."""
    drawn = generator.random(picture.shape)
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity]
    return np.where(drawn < share / 2, 0.0, np.where(drawn < share, 1.0, picture))


def _speckle(picture: Unit, severity: int, generator: np.random.Generator) -> Unit:
    deviation = (0.15, 0.2, 0.35, 0.45, 0.6)[severity]
    return picture + picture * deviation * generator.standard_normal(picture.shape, np.float32)


def _zoom(picture: Unit, severity: int, generator: np.random.Generator) -> Unit:
    """The mean of the picture and of its middle enlarged, more and more."""
    from scipy import ndimage

    most, step = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))[severity]
    factors = np.arange(1.0, most, step)
    middle = (np.array(picture.shape[:2]) - 1) / 2
    total = picture.copy()
    for factor in factors:
        offset = (*(middle - middle / factor), 0)
        total += ndimage.affine_transform(
            picture, np.array([1 / factor, 1 / factor, 1.0]), offset, order=1, mode="nearest"
        )
    return total / (len(factors) + 1)


def _contrast(picture: Unit, severity: int, generator: np.random.Generator) -> Unit:
    mean = picture.mean(axis=(0, 1), keepdims=True, dtype=np.float64).astype(np.float32)
    return (picture - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[severity] + mean


def _brightness(picture: Unit, severity: int, generator: np.random.Generator) -> Unit:
    """Adds to the value of HSV, which is the largest channel, and keeps hue and saturation."""
    value = picture.max(axis=-1, keepdims=True)
    brighter = np.minimum(value + (0.1, 0.2, 0.3, 0.4, 0.5)[severity], 1)
    return np.where(value > 0, picture * (brighter / np.where(value > 0, value, 1)), brighter)


def _saturate(picture: Unit, severity: int, generator: np.random.Generator) -> Unit:
    """Multiplies the saturation of HSV, and adds to it; grey pictures stay as they are."""
    factor, added = ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))[severity]
    value = picture.max(axis=-1, keepdims=True)
    chroma = value - picture.min(axis=-1, keepdims=True)
    coloured = chroma > 0
    saturation = chroma / np.where(value > 0, value, 1)
    wanted = np.clip(saturation * factor + added, 0, 1)
    scale = np.where(coloured, wanted / np.where(coloured, saturation, 1), 1)
    return value - (value - picture) * scale


def _pixelate(picture: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Averages over squares of fewer and fewer pixels, shown as squares."""
    from PIL import Image

    share = (0.6, 0.5, 0.4, 0.3, 0.25)[severity]
    height, width, channels = picture.shape
    small = max(1, int(width * share)), max(1, int(height * share))
    planes = []
    for channel in range(channels):
        plane = Image.fromarray(np.ascontiguousarray(picture[..., channel]))
        plane = plane.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)
        planes.append(np.asarray(plane))
    return np.stack(planes, axis=-1)


def _twice(value: float) -> tuple[float, float]:
    return value, value


def _quality(severity: int) -> tuple[int, int]:
    quality = (25, 18, 15, 10, 7)[severity]
    return quality, quality


CORRUPTIONS: dict[str, _Corruption] = {
    "gaussian_noise": _by_degradation(
        lambda at, _: GaussianNoiseConfig(_twice(255 * (0.08, 0.12, 0.18, 0.26, 0.38)[at]))
    ),
    "shot_noise": _by_degradation(lambda at, _: PoissonNoiseConfig(_twice((60.0, 25.0, 12.0, 5.0, 3.0)[at]))),
    "impulse_noise": _of_values(_impulses),
    "speckle_noise": _of_values(_speckle),
    "gaussian_blur": _by_degradation(
        lambda at, scale: GaussianBlurConfig(_twice(scale * (1.0, 2.0, 3.0, 4.0, 6.0)[at]))
    ),
    "defocus_blur": _by_degradation(
        lambda at, scale: DiskBlurConfig(_twice(scale * (3.0, 4.0, 6.0, 8.0, 10.0)[at]))
    ),
    "motion_blur": _by_degradation(
        lambda at, scale: MotionBlurConfig(_twice(max(1.0, scale * _LINE * (3.0, 5.0, 8.0, 12.0, 15.0)[at])))
    ),
    "zoom_blur": _of_values(_zoom),
    "brightness": _of_values(_brightness),
    "contrast": _of_values(_contrast),
    "saturate": _of_values(_saturate),
    "pixelate": _pixelate,
    "jpeg_compression": _by_degradation(lambda at, _: JpegConfig(_quality(at))),
}
"""Corruptions by name."""
