"""Residual finite scalar quantization: each stage rounds what is left over, to finer and finer levels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax.nn.quantizers.base import QuantizerOutput, check_float
from vq_jax.nn.quantizers.fsq import FSQ
from vq_jax.nn.quantizers.parts import (
    add_stages,
    check_gradient,
    check_stages,
    draw_stages,
    first_stages,
    join_codes,
    join_metrics,
    spec_of_parts,
    split_stages,
)
from vq_jax.ranges import check_ranges
from vq_jax.types import Array, CodeSpec, Float, Int, Num


class ResidualFSQ(nn.Module):
    """Q stages of `FSQ`: stage i rounds to levels that are L^i times finer, channel by channel.

    A channel with L levels is bounded softly, to c tanh(z / c) with c = 1 + 1 / (L - 1). With r_0 the result,
    stage i rounds r_i L^i, clipped to [-1, 1], to the L values that are spread evenly over it; that is q_i
    when divided by L^i, and r_{i+1} = r_i - sg(q_i) is left over. A position has one code for each stage, and
    the codes of the first n stages alone decode too: `lookup(codes[..., :n])`. There are no parameters, no
    state and no loss.

    The method is that of vector-quantize-pytorch's ResidualFSQ, with its default `bound_hard_clamp`; there is
    no paper. With an even L, zero is no value of a channel.

    Attributes:
      levels: L_1 to L_D of every stage, 2 and up; their product is below 2^31.
      num_stages: Q.
      min_stages: quantizer dropout, see `ResidualQuantizer`.
      output_gradient: gradient of the output with respect to the bounded latents, see `ResidualQuantizer`.
    """

    levels: tuple[int, ...]
    num_stages: int
    min_stages: int | None = None
    output_gradient: str = "stages"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "ResidualFSQ")
        check_stages(self, self.num_stages, self.min_stages)
        check_gradient(self, self.output_gradient)
        self._stage()  # checks the levels

    def setup(self) -> None:
        self.stage = self._stage()

    @nn.nowrap
    def code_spec(self, latent_shape: tuple[int, ...]) -> CodeSpec:
        """Returns the spec of one picture's codes, given the shape (*s, D) of its latents."""
        return spec_of_parts(self._stage(), latent_shape, self.num_stages, "ResidualFSQ")

    def __call__(self, z: Num[Array, "B *S D"], *, train: bool = False) -> QuantizerOutput:
        """Quantizes latents, in float32.

        Args:
          z: latents, any float dtype.
          train: whether to leave out stages, see `min_stages`; no effect without it.

        Returns:
          Output with codes [B, *S, Q] and loss zero.

        Raises:
          ValueError: the latents are not float, or z does not have one channel for each of the levels.
        """
        check_float(z, "ResidualFSQ")
        self.stage.check_width(z)
        reach = 1 + 1 / (np.array(self.levels, np.float32) - 1)
        bounded = jnp.tanh(z.astype(jnp.float32) / _row(reach, z)) * _row(reach, z)
        residual, outputs = bounded, []
        for number in range(self.num_stages):
            scale = _row(self._scale(number), z)
            output = self.stage(residual / scale)
            outputs.append(dataclasses.replace(output, quantized=output.quantized * scale))
            residual = residual - jax.lax.stop_gradient(outputs[-1].quantized)
        kept = draw_stages(self, self.num_stages, self.min_stages) if train else None
        quantized, loss = add_stages(bounded, outputs, kept, self.output_gradient)
        return QuantizerOutput(
            quantized=quantized.astype(z.dtype),
            indices=join_codes([output.indices for output in outputs], 1),
            loss=loss,
            metrics=join_metrics([output.metrics for output in outputs], 1),
        )

    def lookup(self, indices: Int[Array, "B *S"]) -> Float[Array, "B *S2 D"]:
        """Looks up the points of codes, of all stages or of the first n, float32.

        Raises:
          ValueError: there are codes of more stages than the quantizer has.
        """
        points = []
        for number, codes in enumerate(split_stages(indices, self.num_stages, 1, "ResidualFSQ")):
            found = self.stage.lookup(codes)
            points.append(found * _row(self._scale(number), found))
        return sum(points[1:], points[0])

    def lookup_stages(self, indices: Int[Array, "B *S"], stages: int) -> Float[Array, "B *S2 D"]:
        """Looks up the points that the codes of the first stages stand for, given those of all, float32."""
        return self.lookup(first_stages(indices, stages, self.num_stages, 1))

    @nn.nowrap
    def _stage(self) -> FSQ:
        return FSQ(self.levels, symmetric=True, bound="clip", parent=None)

    @nn.nowrap
    def _scale(self, number: int) -> np.ndarray:
        """What a step between levels counts in a stage, of each channel, relative to the first stage."""
        return np.array(self.levels, np.float32) ** np.float32(-number)


def _row(values: np.ndarray, z: Array) -> np.ndarray:
    """One value for each channel, with the axes of z."""
    return values.reshape((1,) * (z.ndim - 1) + values.shape)
