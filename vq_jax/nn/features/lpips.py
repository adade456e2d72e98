"""LPIPS: the distance between two pictures in the features of an image classifier.

References:
  Zhang, Isola, Efros, Shechtman, Wang 2018, The Unreasonable Effectiveness of Deep Features as a
  Perceptual Metric, arXiv:1801.03924, eq. 1; version 0.1 of the authors' weights.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax.types import AnyArray, Array, Float, Num

Backbone = Literal["vgg", "alex"]
# From [-1, 1] to the range on which the backbones were trained; one value each for red, green and blue.
_SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
_SCALE = np.array([0.458, 0.448, 0.450], np.float32)
_EPSILON = 1e-10  # as in the authors' code
# Channels of the backbone features that are compared.
WIDTHS: dict[str, tuple[int, ...]] = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}
_SMALLEST = {"vgg": 16, "alex": 31}  # px: a smaller picture leaves nothing to a pooling


class VGG16(nn.Module):
    """Simonyan and Zisserman 2015, arXiv:1409.1556, configuration D, without its dense layers."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> list[Array]:
        features, index = [], 0
        for stage, convolutions in enumerate((2, 2, 3, 3, 3)):
            if stage > 0:
                x = _halve(x)
            for _ in range(convolutions):
                x = nn.relu(nn.Conv(WIDTHS["vgg"][stage], (3, 3), dtype=self.dtype, name=f"conv_{index}")(x))
                index += 1
            features.append(x)
        return features


class _AlexNet(nn.Module):
    """Krizhevsky 2014, arXiv:1404.5997, without its dense layers."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> list[Array]:
        features = []
        layers = ((11, 4, 2), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1))  # width, stride, padding
        for index, (width, stride, padding) in enumerate(layers):
            if index in (1, 2):
                x = nn.max_pool(x, (3, 3), strides=(2, 2))
            x = nn.relu(
                nn.Conv(
                    WIDTHS["alex"][index],
                    (width, width),
                    strides=(stride, stride),
                    padding=padding,
                    dtype=self.dtype,
                    name=f"conv_{index}",
                )(x)
            )
            features.append(x)
        return features


class LPIPS(nn.Module):
    """Learned perceptual distance between pictures in [-1, 1].

    Weights come from `nn.load_lpips`; `init` would make random ones, which measure nothing.

        distance = nn.LPIPS("vgg").apply(nn.load_lpips("vgg"), a, b)  # float32 [B]

    Attributes:
      backbone: `vgg` (VGG16, usual as a training loss) or `alex` (AlexNet, usual as a metric).
      dtype: compute dtype of the backbone; distances are float32.
    """

    backbone: Backbone = "vgg"
    dtype: Any = jnp.float32

    def setup(self) -> None:
        if self.backbone not in WIDTHS:
            raise ValueError(f"LPIPS.backbone must be vgg or alex, got {self.backbone!r}")
        self.network = (VGG16 if self.backbone == "vgg" else _AlexNet)(self.dtype, name="backbone")
        self.heads = [
            self.param(f"head_{index}", nn.initializers.ones, (width,), jnp.float32)
            for index, width in enumerate(WIDTHS[self.backbone])
        ]

    def __call__(self, a: Num[AnyArray, "B *S C"], b: Num[AnyArray, "B2 *S2 C2"]) -> Float[Array, " B"]:
        """Computes the distance of each pair, float32; for clips [B, T, H, W, C], the mean over frames.

        Args:
          a: pictures, grey (C = 1, repeated) or colour (C = 3).
          b: pictures of the same shape.

        Raises:
          ValueError: the shapes differ, are not those of pictures, or are too small for the backbone; or
            the pictures are not float.
        """
        if a.shape != b.shape:
            raise ValueError(f"expected two batches of the same shape, got {a.shape} and {b.shape}")
        return self.distance(self.features(a), self.features(b), batch=a.shape[0])

    def features(self, pictures: Num[AnyArray, "B *S C"]) -> list[Float[Array, "N _ _ _"]]:
        """Computes the features of five layers, unit length along the channels, float32, a row per frame.

        Raises:
          ValueError: the pictures are not [B, H, W, C] or [B, T, H, W, C] with 1 or 3 channels, are too
            small for the backbone, or are not float.
        """
        if not jnp.issubdtype(pictures.dtype, jnp.floating):
            raise ValueError(
                f"expected float pictures in [-1, 1], got {pictures.dtype}: use vq_jax.ops.normalize_pictures"
            )
        least = _SMALLEST[self.backbone]
        shape = pictures.shape
        if len(shape) not in (4, 5) or shape[-1] not in (1, 3) or min(shape[-3:-1]) < least:
            raise ValueError(
                "expected pictures [B, H, W, C] or [B, T, H, W, C] with 1 or 3 channels, of at least "
                f"{least} px for LPIPS with {self.backbone}, got {shape}: resize them, use the backbone vgg "
                f"(at least {_SMALLEST['vgg']} px), or set the perceptual weight to 0"
            )
        x = jnp.asarray(pictures, jnp.float32).reshape(-1, *shape[-3:])
        x = jnp.broadcast_to(x, (*x.shape[:-1], 3))
        x = scaled_for_backbones(x)
        return [_unit(layer.astype(jnp.float32)) for layer in self.network(x.astype(self.dtype))]

    def distance(
        self, a: list[Float[Array, "N _ _ _"]], b: list[Float[Array, "N _ _ _"]], *, batch: int
    ) -> Float[Array, " B"]:
        """Computes the distance from the features of both sides, of `batch` pictures or clips each."""
        total = jnp.zeros(a[0].shape[0], jnp.float32)
        for head, one, other in zip(self.heads, a, b, strict=True):
            square = jnp.mean(jnp.square(one - other), axis=(1, 2))
            # a sum: accelerators would round the factors of a matrix product to fewer bits
            total = total + jnp.sum(square * head[None], axis=-1)
        return jnp.mean(total.reshape(batch, -1), axis=1)


def scaled_for_backbones(x: Float[Array, "*B 3"]) -> Float[Array, "*B 3"]:
    """From [-1, 1] to the range on which the backbones were trained, a range for each colour."""
    return (x - jnp.broadcast_to(_SHIFT, x.shape)) / jnp.broadcast_to(_SCALE, x.shape)


def _unit(x: Array) -> Array:
    """Divides by the length along the channels; zeros stay zero, and their gradient is zero, not NaN."""
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    some = square > 0.0
    length = jnp.sqrt(jnp.where(some, square, 1.0))
    return jnp.where(some, x / (length + _EPSILON), 0.0)


def _halve(x: Array) -> Array:
    """Maximum of every 2x2 pixels; an odd last row or column is dropped.

    Equals `nn.max_pool`, whose gradient is slow on CPU; here equal pixels share the gradient.
    """
    height, width = (size // 2 for size in x.shape[1:3])
    x = x[:, : 2 * height, : 2 * width].reshape(x.shape[0], height, 2, width, 2, x.shape[-1])
    x = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(x[:, :, :, 0], x[:, :, :, 1])


def lpips_shapes(backbone: Backbone) -> dict[str, Any]:
    """Returns the shapes of the variables of `LPIPS` without computing them."""
    picture = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return jax.eval_shape(LPIPS(backbone).init, jax.random.key(0), picture, picture)
