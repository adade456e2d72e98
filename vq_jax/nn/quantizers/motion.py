"""Motion vectors as codes, beside the codes of another quantizer."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.quantizers.base import QuantizerOutput, check_float
from vq_jax.nn.quantizers.parts import check_codes, spec_of_parts
from vq_jax.types import Array, CodeSpec, Float, Int, Key, Num


class MotionQuantizer(nn.Module):
    """Rounds the first two channels, a motion in pixels, and gives the others to another quantizer.

    A position has the code of its motion, (2 radius + 1) (row + radius) + column + radius, and then those of
    the other quantizer, with the loss and metrics of that one. All codes have the larger of the two numbers
    of codes as their codebook size; what is above the codes of motion stands for the last of them.

    Attributes:
      quantizer: of the channels after the first two; its codes are one grid.
      radius: the longest motion along rows and along columns, in pixels.
    """

    quantizer: nn.Module
    radius: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.radius < 0:
            raise ValueError(f"MotionQuantizer.radius must be at least 0 pixels, got {self.radius}")

    @nn.nowrap
    def code_spec(self, latent_shape: tuple[int, ...]) -> CodeSpec:
        """Returns the spec of one picture's codes, given the shape (*s, 2 + D) of its latents."""
        others = (*latent_shape[:-1], latent_shape[-1] - 2)
        spec = spec_of_parts(self.quantizer, others, 1, "MotionQuantizer")
        return CodeSpec(spec.shape, max(spec.codebook_size, self._places**2), 1 + spec.codes_per_position)

    def __call__(self, z: Num[Array, "B *S D2"], *, train: bool = False) -> QuantizerOutput:
        """Quantizes latents of motion and of what is coded beside it.

        Args:
          z: latents, any float dtype; motion beyond the radius is cut to it.
          train: as for the other quantizer.

        Returns:
          Output with codes [B, *S, 1 + Q].

        Raises:
          ValueError: the latents are not float, or not as wide as 2 and the other quantizer's latents.
        """
        check_float(z, "MotionQuantizer")
        motion = jnp.clip(jnp.round(z[..., :2].astype(jnp.float32)), -self.radius, self.radius)
        steps = motion.astype(jnp.int32) + self.radius
        code = self._places * steps[..., 0] + steps[..., 1]
        quantizer: Any = self.quantizer
        output: QuantizerOutput = quantizer(z[..., 2:], train=train)
        others = output.indices if output.indices.ndim == z.ndim else output.indices[..., None]
        passed = ops.straight_through(z[..., :2].astype(jnp.float32), motion).astype(z.dtype)
        return output.replace(  # type: ignore[attr-defined]
            quantized=jnp.concatenate([passed, output.quantized], axis=-1),
            indices=jnp.concatenate([code[..., None], others], axis=-1),
            revival={"quantizer": output.revival} if output.revival else {},
        )

    @property
    def num_stages(self) -> int | None:
        """Number of stages of the other quantizer; None if it has none."""
        stages: int | None = getattr(self.quantizer, "num_stages", None)
        return stages

    def lookup(self, indices: Int[Array, "B *S Q1"]) -> Float[Array, "B *S D2"]:
        """Looks up the motion and the vectors of codes, laid out as `__call__` gives them, float32.

        Raises:
          ValueError: there are more or fewer codes per position.
        """
        motion, others = self._split(indices)
        quantizer: Any = self.quantizer
        return jnp.concatenate([motion, quantizer.lookup(others)], axis=-1)

    def lookup_stages(self, indices: Int[Array, "B *S Q1"], stages: int) -> Float[Array, "B *S D2"]:
        """Looks up the motion and what the codes of the other quantizer's first stages stand for, float32."""
        motion, others = self._split(indices)
        quantizer: Any = self.quantizer
        return jnp.concatenate([motion, quantizer.lookup_stages(others, stages)], axis=-1)

    @nn.nowrap
    def fit(
        self,
        rng: Key[Array, ""],
        params: Mapping[str, Any],
        codebook: Mapping[str, Any],
        latents: Float[Array, "T N D2"],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Fits the other quantizer to its channels, see `CodebookQuantizer.fit`."""
        quantizer: Any = self.quantizer
        name = "quantizer"
        fitted = quantizer.fit(rng, params.get(name, {}), codebook.get(name, {}), latents[..., 2:])
        new_params, new_codebook = ({name: variables} if variables else {} for variables in fitted)
        return new_params, new_codebook

    @property
    def _places(self) -> int:
        """Steps along rows, and along columns."""
        return 2 * self.radius + 1

    def _split(self, indices: Int[Array, "B *S Q1"]) -> tuple[Float[Array, "B *S 2"], Int[Array, "B *S2"]]:
        """The motion, and the other quantizer's codes as it lays them out."""
        depth = self.code_spec((1, 3)).codes_per_position
        check_codes(indices, depth, "MotionQuantizer")
        code = jnp.minimum(indices[..., 0], self._places**2 - 1)
        motion = jnp.stack([code // self._places, code % self._places], axis=-1) - self.radius
        others = indices[..., 1:] if depth > 2 else indices[..., 1]
        return motion.astype(jnp.float32), others
