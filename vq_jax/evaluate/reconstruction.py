"""How close reconstructions are to their pictures, over a held-out set."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vq_jax import ops
from vq_jax.evaluate.distances import mean_squared_error, picture_psnr
from vq_jax.types import Array, Float


@struct.dataclass
class ReconstructionSums:
    """Sums over pictures, float32."""

    pictures: Float[Array, ""]
    loss: Float[Array, ""]
    squared_error: Float[Array, ""]  # of [0, 1] pictures, mean over a picture's pixels
    psnr: Float[Array, ""]
    value: Float[Array, ""]  # of [0, 1] pictures
    squared_value: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """Figures of reconstructions, see `evaluators.Evaluator`.

    `loss`: the reconstruction loss; `psnr`: decibel, mean over pictures, or over the
    frames of clips; `nmse`: mean squared error over the
    variance of the pixels of the set.

    Attributes:
      kind: of the reconstruction loss, see `ops.reconstruction_loss`.
    """

    kind: str

    def init(self) -> ReconstructionSums:
        """Zeros."""
        return ReconstructionSums(*(jnp.zeros((), jnp.float32) for _ in range(6)))

    def update(
        self, state: ReconstructionSums, batch: Mapping[str, Array], output: Any
    ) -> ReconstructionSums:
        """Adds the reconstructions of a batch, `nn.VQOutput`."""
        target, valid = batch["target"], batch["valid"].astype(jnp.float32)

        def one_loss(outputs: Array, picture: Array) -> Array:
            return ops.reconstruction_loss(outputs, picture, self.kind)

        error = mean_squared_error(output.reconstruction, target)
        unit = 0.5 * (target.astype(jnp.float32) + 1.0)
        axes = tuple(range(1, target.ndim))
        added = ReconstructionSums(
            pictures=jnp.sum(valid),
            loss=jnp.sum(jax.vmap(one_loss)(output.outputs, target) * valid),
            squared_error=jnp.sum(0.25 * error * valid),
            psnr=jnp.sum(picture_psnr(output.reconstruction, target) * valid),
            value=jnp.sum(jnp.mean(unit, axis=axes) * valid),
            squared_value=jnp.sum(jnp.mean(jnp.square(unit), axis=axes) * valid),
        )
        total: ReconstructionSums = jax.tree.map(jnp.add, state, added)
        return total

    def compute(self, state: ReconstructionSums) -> dict[str, float]:
        """Means over the pictures."""
        pictures = float(state.pictures)
        mean = float(state.value) / pictures
        variance = float(state.squared_value) / pictures - mean**2
        return {
            "loss": float(state.loss) / pictures,
            "psnr": float(state.psnr) / pictures,
            "nmse": float(state.squared_error) / pictures / max(variance, 1e-12),
        }
