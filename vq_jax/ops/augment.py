"""Differentiable augmentation of a discriminator's inputs.

References:
  Zhao et al. 2020, Differentiable Augmentation for Data-Efficient GAN Training, arXiv:2006.10738;
  ranges as in the authors' code.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vq_jax.ops.meshes import auto_axes, places_of
from vq_jax.types import Array, Float, Key

AUGMENTATIONS = ("color", "translation", "cutout")

_SHIFT = 0.125  # largest translation, as a fraction of a picture's side
_CUTOUT = 0.5  # side of the box cut out, as a fraction of a picture's side


@auto_axes(lambda rng, pictures, *_, **__: places_of(pictures))
def diff_augment(
    rng: Key[Array, ""],
    pictures: Float[Array, "B *S C"],
    policy: Sequence[str] = AUGMENTATIONS,
) -> Float[Array, "B *S C"]:
    """Augments each picture at random, differentiably.

    `color`: adds up to 0.5 in either direction to the brightness, then scales saturation by 0 to 2 and
    contrast by 0.5 to 1.5. `translation`: moves the picture by up to an eighth of each side and fills with
    zeros, which are grey. `cutout`: zeroes a box of half of each side. Video has one draw per clip:
    translation and cutout act on the last two spatial axes, the same in all frames, and contrast is scaled
    about the clip's mean.

    Each augmentation has its own part of the key, independent of the rest of the policy: with the same key,
    two batches of one shape get the same draws. Use two keys for independent draws, as the paper does for
    real and generated pictures.

    Args:
      rng: random key.
      pictures: in [-1, 1], any float dtype, with at least one spatial axis.
      policy: names out of `AUGMENTATIONS`, applied in the given order; an empty policy changes nothing.

    Returns:
      Pictures of the same shape and dtype; `color` can exceed [-1, 1].

    Raises:
      ValueError: unknown name, or pictures without a spatial axis.
    """
    if pictures.ndim < 3:
        raise ValueError(
            f"expected pictures [B, *S, C] with a spatial axis, got shape {pictures.shape}; "
            "add the missing axes"
        )
    keys = dict(zip(AUGMENTATIONS, jax.random.split(rng, len(AUGMENTATIONS)), strict=True))
    x = pictures.astype(jnp.float32)
    for name in policy:
        if name not in AUGMENTATIONS:
            raise ValueError(f"expected augmentations out of {', '.join(AUGMENTATIONS)}, got {name!r}")
        x = _FUNCTIONS[name](keys[name], x)
    return x.astype(pictures.dtype)


def _color(rng: Key[Array, ""], x: Float[Array, "B *S C"]) -> Float[Array, "B *S C"]:
    shape = (3, x.shape[0]) + (1,) * (x.ndim - 1)
    brightness, saturation, contrast = jax.random.uniform(rng, shape, jnp.float32)
    x = x + (brightness - 0.5)
    grey = jnp.mean(x, axis=-1, keepdims=True)
    x = grey + (x - grey) * (2.0 * saturation)
    mean = jnp.mean(x, axis=tuple(range(1, x.ndim)), keepdims=True)
    return mean + (x - mean) * (contrast + 0.5)


def _plane(x: Float[Array, "B *S C"]) -> tuple[int, ...]:
    """The last two spatial axes, or the only one."""
    return tuple(range(max(1, x.ndim - 3), x.ndim - 1))


def _translation(rng: Key[Array, ""], x: Float[Array, "B *S C"]) -> Float[Array, "B *S C"]:
    padding = [(0, 0)] * x.ndim
    starts = [jnp.zeros(x.shape[0], jnp.int32)] * (x.ndim - 1)
    for key, axis in zip(jax.random.split(rng), _plane(x), strict=False):
        reach = int(x.shape[axis] * _SHIFT + 0.5)
        padding[axis] = (reach, reach)
        starts[axis - 1] = jax.random.randint(key, (x.shape[0],), 0, 2 * reach + 1, jnp.int32)
    # Copies whole windows: a loop over pictures on CPU, instead of an index per pixel.
    window = jax.vmap(lambda picture, *start: jax.lax.dynamic_slice(picture, start, x.shape[1:]))
    return window(jnp.pad(x, padding), *starts)


def _cutout(rng: Key[Array, ""], x: Float[Array, "B *S C"]) -> Float[Array, "B *S C"]:
    of_picture = (x.shape[0],) + (1,) * (x.ndim - 1)
    inside = jnp.ones(of_picture, bool)
    for key, axis in zip(jax.random.split(rng), _plane(x), strict=False):
        side = x.shape[axis]
        width = int(side * _CUTOUT + 0.5)
        # The middle of the box may lie anywhere, also at the border, which crops the box.
        middle = jax.random.randint(key, of_picture, 0, side + 1 - width % 2, jnp.int32)
        position = jax.lax.broadcasted_iota(jnp.int32, _along(axis, side, x.ndim), axis)
        distance = position - (middle - width // 2)
        inside = inside & (distance >= 0) & (distance < width)
    return jnp.where(inside, 0.0, x)


def _along(axis: int, size: int, ndim: int) -> tuple[int, ...]:
    return (1,) * axis + (size,) + (1,) * (ndim - axis - 1)


_FUNCTIONS = {"color": _color, "translation": _translation, "cutout": _cutout}
