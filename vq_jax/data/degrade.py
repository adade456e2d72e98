"""Makes pictures worse, so that a model learns to restore them: noise, blur, JPEG, fewer pixels, no colours.

One function for each dataclass of `configs/degradations.py`, registered by it. A function changes nothing but
what it returns, and takes its random numbers from the generator that it is given.
"""

import functools
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

from vq_jax.configs.degradations import (
    DegradationConfig,
    DiskBlurConfig,
    DownscaleConfig,
    GaussianBlurConfig,
    GaussianNoiseConfig,
    GreyConfig,
    JpegConfig,
    MixConfig,
    MotionBlurConfig,
    NoDegradationConfig,
    PoissonNoiseConfig,
)

if TYPE_CHECKING:
    from PIL import Image

_PARTS = 9  # of a pixel, in each direction; odd, so that one lies in its middle
_PARTS_ALONG = 64  # of a pixel's length, on a line


def degrade(
    picture: UInt8[np.ndarray, "H W C"], config: DegradationConfig, generator: np.random.Generator
) -> UInt8[np.ndarray, "h w C"]:
    """Degrades a picture.

    Args:
      picture: uint8; it is not changed.
      config: what is done to it.
      generator: of the picture; the same one gives the same result.

    Returns:
      uint8 [H / scale, W / scale, C] with `config.scale`; the picture itself where nothing is done to it.

    Raises:
      ValueError: height or width is not a multiple of the scale.
    """
    height, width, _ = picture.shape
    if height % config.scale or width % config.scale:
        raise ValueError(
            f"expected height and width that are multiples of {config.scale}, by which {config.name} makes "
            f"pictures smaller, got {height} x {width}: crop the picture"
        )
    return _degraded(config, picture, generator)


@functools.singledispatch
def _degraded(config: Any, picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    raise TypeError(f"expected a degradation that is registered in data/degrade.py, got {config!r}")


@_degraded.register(NoDegradationConfig)
def _unchanged(
    config: NoDegradationConfig, picture: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    return picture


@_degraded.register(DownscaleConfig)
def _smaller(config: DownscaleConfig, picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    from PIL import Image

    filters = {
        "area": Image.Resampling.BOX,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
    }
    size = picture.shape[1] // config.factor, picture.shape[0] // config.factor
    return _through_images(picture, lambda image: image.resize(size, filters[config.filter]))


@_degraded.register(GaussianNoiseConfig)
def _gaussian_noise(
    config: GaussianNoiseConfig, picture: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    sigma = np.float32(generator.uniform(*config.sigma))
    return _rounded(picture + sigma * generator.standard_normal(picture.shape, np.float32))


@_degraded.register(PoissonNoiseConfig)
def _poisson_noise(
    config: PoissonNoiseConfig, picture: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    scale = np.exp(generator.uniform(*np.log(config.peak))) / 255
    return _rounded(generator.poisson(picture * scale) / scale)


@_degraded.register(GaussianBlurConfig)
def _gaussian_blur(
    config: GaussianBlurConfig, picture: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    from scipy import ndimage

    sigma = generator.uniform(*config.sigma)
    return _rounded(ndimage.gaussian_filter(picture.astype(np.float32), (sigma, sigma, 0), mode="reflect"))


@_degraded.register(MotionBlurConfig)
def _motion_blur(config: MotionBlurConfig, picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    length = generator.uniform(*config.length)
    return _blurred(picture, line_kernel(length, generator.uniform(0, np.pi)))


@_degraded.register(DiskBlurConfig)
def _disk_blur(config: DiskBlurConfig, picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return _blurred(picture, disk_kernel(generator.uniform(*config.radius)))


@_degraded.register(JpegConfig)
def _jpeg(config: JpegConfig, picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    from PIL import Image

    low, high = config.quality
    quality = int(generator.integers(low, high, endpoint=True))

    def coded(image: "Image.Image") -> "Image.Image":
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)  # colours at half the resolution (4:2:0): Pillow's default
        return Image.open(file)

    return _through_images(picture, coded)


@_degraded.register(GreyConfig)
def _grey(config: GreyConfig, picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    from PIL import Image

    if picture.shape[-1] != 3:
        return picture
    luma = np.asarray(Image.fromarray(picture).convert("L"))  # of ITU-R 601
    return np.repeat(luma[..., None], 3, axis=-1)


@_degraded.register(MixConfig)
def _mixed(config: MixConfig, picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    count = len(config.steps)
    made, order = generator.random(count) < config.probability, generator.permutation(count)
    for number in order if config.shuffle else range(count):
        step = config.steps[number]
        if made[number] or step.scale > 1:
            picture = _degraded(step, picture, generator)
    return picture


def line_kernel(length: float, angle: float) -> Float32[np.ndarray, "k k"]:
    """Weights of a blur along a straight line through the middle.

    Args:
      length: of the line in pixels.
      angle: to the horizontal, in radians.

    Returns:
      The length of the line within each pixel, over the whole; k is odd.
    """
    count = int(np.ceil(length * _PARTS_ALONG))
    along = length * ((np.arange(count) + 0.5) / count - 0.5)
    radius = int(np.ceil(length / 2))
    places = [np.rint(along * part).astype(int) + radius for part in (np.sin(angle), np.cos(angle))]
    counts = np.zeros((2 * radius + 1, 2 * radius + 1))
    np.add.at(counts, tuple(places), 1)
    return (counts / count).astype(np.float32)


def disk_kernel(radius: float) -> Float32[np.ndarray, "k k"]:
    """Weights of an even blur over a disk.

    Args:
      radius: of the disk in pixels.

    Returns:
      The share of the disk that lies within each pixel; k is odd.
    """
    whole = int(np.ceil(radius))
    size = 2 * whole + 1
    places = (np.arange(size * _PARTS) + 0.5) / _PARTS - size / 2
    inside = np.square(places)[:, None] + np.square(places) <= max(radius, 0.5 / _PARTS) ** 2
    areas = inside.reshape(size, _PARTS, size, _PARTS).sum((1, 3))
    return (areas / areas.sum()).astype(np.float32)


def _blurred(
    picture: UInt8[np.ndarray, "H W C"], kernel: Float32[np.ndarray, "k k"]
) -> UInt8[np.ndarray, "H W C"]:
    """The picture convolved with a kernel, mirrored beyond its edges."""
    from scipy import signal

    radius = kernel.shape[0] // 2
    edges = [(radius, radius), (radius, radius), (0, 0)]
    padded = np.pad(picture.astype(np.float32), edges, mode="symmetric")
    return _rounded(signal.fftconvolve(padded, kernel[..., None], mode="valid", axes=(0, 1)))


def _rounded(picture: Float[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W C"]:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _through_images(
    picture: UInt8[np.ndarray, "H W C"], change: "Callable[[Image.Image], Image.Image]"
) -> UInt8[np.ndarray, "h w C"]:
    """The picture changed as an image of Pillow's: in colour, or else channel by channel."""
    from PIL import Image

    if picture.shape[-1] == 3:
        return np.asarray(change(Image.fromarray(np.ascontiguousarray(picture))))
    planes = np.moveaxis(picture, -1, 0)
    changed = [np.asarray(change(Image.fromarray(np.ascontiguousarray(plane)))) for plane in planes]
    return np.stack(changed, axis=-1)
