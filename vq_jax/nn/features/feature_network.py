"""A frozen network whose features say how alike two sets of pictures are."""

import dataclasses
from collections.abc import Callable, Mapping
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
      compute: pure function of the weights and pictures uint8 [B, H, W, 3], or clips [B, T, H, W, 3].
      is_reference: the network is the one that the field's figures are of, with the published weights:
        Inception of 2015, whose Frechet distance is FID, or I3D.
      reference_names: what figures are called then, where that is not what they are called with Inception.
      fewest_frames: of a network of clips, the shortest one that it takes; 0: it is one of pictures.
    """

    name: str
    width: int
    classes: int
    smallest: int
    description: str
    weights: Any
    compute: Callable[[Any, UInt8[Array, "B *S 3"]], Features]
    is_reference: bool = False
    reference_names: Mapping[str, str] | None = None
    fewest_frames: int = 0

    def __call__(self, weights: Any, pictures: UInt8[Array, "B *S C"]) -> Features:
        """Computes the features of pictures, grey or in colour; of clips, those of each frame as a row.

        Args:
          weights: those of the network, an argument so that they are not part of what is compiled.
          pictures: [B, H, W, C] or [B, T, H, W, C].

        Raises:
          UserError: pictures of another shape, or smaller than the network takes.
        """
        self.check(pictures.shape)
        rows = pictures.reshape(-1, *pictures.shape[-self.axes :])
        return self.compute(weights, jnp.broadcast_to(rows, (*rows.shape[:-1], 3)))

    @property
    def axes(self) -> int:
        """The axes of what has one row of features: a picture [H, W, C], or a clip [T, H, W, C]."""
        return 4 if self.fewest_frames else 3

    def check(self, shape: tuple[int, ...]) -> None:
        """Checks that the network takes pictures, or clips, of a shape.

        Raises:
          UserError: it does not.
        """
        if len(shape) not in (4, 5) or shape[-1] not in (1, 3) or min(shape[-3:-1]) < self.smallest:
            raise UserError(
                f"expected pictures or clips with 1 or 3 channels of at least {self.smallest} px for the "
                f"features of {self.name}, got {shape}"
            )
        if self.fewest_frames and (len(shape) != 5 or shape[1] < self.fewest_frames):
            raise UserError(
                f"expected clips of at least {self.fewest_frames} frames for the features of {self.name}, "
                f"got {shape}"
            )
