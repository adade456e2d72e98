"""A frozen network whose features say how alike two sets of pictures are."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from vq_jax.errors import UserError
from vq_jax.types import Array, Float, UInt8


class Features(NamedTuple):
    """What a network makes of pictures, float32.

    Attributes:
      pooled: a row of D features a picture.
      logits: of classes, a row a picture; None for a network without classes.
    """

    pooled: Float[Array, "B D"]
    logits: Float[Array, "B K"] | None


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A feature network with its weights.

    Attributes:
      name: in the names of metrics, such as `vgg`.
      width: D, how many features a picture has.
      classes: K, how many classes it knows; 0 for none.
      smallest: least height and width of the pictures that it takes, in pixels.
      description: network, layer, and what happens to a picture before it; for the reader of a figure.
      weights: pytree of arrays.
      compute: pure function of the weights and pictures uint8 [B, H, W, 3].
      is_reference: the network is the one that the field's figures are of: Inception of 2015, whose Frechet
        distance is FID.
    """

    name: str
    width: int
    classes: int
    smallest: int
    description: str
    weights: Any
    compute: Callable[[Any, UInt8[Array, "B H W 3"]], Features]
    is_reference: bool = False

    def __call__(self, weights: Any, pictures: UInt8[Array, "B *S C"]) -> Features:
        """Computes the features of pictures, grey or in colour; of clips, those of each frame as a row.

        Args:
          weights: those of the network, an argument so that they are not part of what is compiled.
          pictures: [B, H, W, C] or [B, T, H, W, C].

        Raises:
          UserError: pictures of another shape, or smaller than the network takes.
        """
        shape = pictures.shape
        if len(shape) not in (4, 5) or shape[-1] not in (1, 3) or min(shape[-3:-1]) < self.smallest:
            raise UserError(
                f"expected pictures or clips with 1 or 3 channels of at least {self.smallest} px for the "
                f"features of {self.name}, got {shape}"
            )
        frames = pictures.reshape(-1, *shape[-3:])
        return self.compute(weights, jnp.broadcast_to(frames, (*frames.shape[:-1], 3)))
