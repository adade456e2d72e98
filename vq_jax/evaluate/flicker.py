"""How differently the frames of a reconstructed clip change from those of the clip itself."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from vq_jax.types import Array, Float


def temporal_flicker(a: Float[Array, "B T *S C"], b: Float[Array, "B T *S C"]) -> Float[Array, " B"]:
    """Mean absolute difference of the frame differences of two batches of clips, float32.

    |(a[t + 1] - a[t]) - (b[t + 1] - b[t])|, mean over pixels and over the T - 1 steps from frame to frame: an
    error that stays costs nothing, one that comes and goes does.

    Args:
      a: clips in [-1, 1].
      b: clips of the same shape.

    Returns:
      The flicker of each clip in units of 255 grey levels, from 0 to 510.

    Raises:
      ValueError: the shapes differ, or are not those of clips of two frames or more.
    """
    if a.shape != b.shape or a.ndim != 5 or a.shape[1] < 2:
        raise ValueError(
            "expected two batches of clips [B, T, H, W, C] of the same shape, of 2 frames or more, got "
            f"{a.shape} and {b.shape}: the flicker of pictures is not defined"
        )
    error = a.astype(jnp.float32) - b.astype(jnp.float32)
    return 127.5 * jnp.mean(jnp.abs(jnp.diff(error, axis=1)), axis=(1, 2, 3, 4))


class Flicker:
    """Temporal flicker of reconstructed clips, see `evaluators.Evaluator` and `temporal_flicker`.

    `flicker`: mean over the clips, in 255 grey levels.
    """

    def init(self) -> dict[str, Array]:
        """Sums of zero."""
        return {"clips": jnp.zeros((), jnp.float32), "flicker": jnp.zeros((), jnp.float32)}

    def update(self, state: dict[str, Array], batch: Mapping[str, Array], output: Any) -> dict[str, Array]:
        """Adds the reconstructions of a batch of clips, `nn.VQOutput`.

        Raises:
          ValueError: the batch is not one of clips.
        """
        valid = batch["valid"].astype(jnp.float32)
        flicker = temporal_flicker(output.reconstruction, batch["target"])
        return {
            "clips": state["clips"] + jnp.sum(valid),
            "flicker": state["flicker"] + jnp.sum(flicker * valid),
        }

    def compute(self, state: dict[str, Any]) -> dict[str, float]:
        """The mean over the clips."""
        return {"flicker": float(state["flicker"]) / float(state["clips"])}
