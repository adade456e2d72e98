"""Vector quantizer whose codebook is a trained linear map of fixed random vectors."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.quantizers.base import CodebookQuantizer, QuantizerOutput, mean_square
from vq_jax.types import Array, Float, Num


class SimVQ(CodebookQuantizer):
    """Nearest-code quantizer with the codebook C W (Zhu et al. 2024, arXiv:2411.02038, section 4).

    C (K, D0) is drawn once from the normal distribution of variance 1 / D0 and stays as it is: the variable
    `frozen` of the collection `codebook`, which no optimizer sees. W (D0, D) is the parameter `kernel`; with
    `use_bias` a parameter `bias` (D,) is added to every code. Every update of W moves all codes, used or
    not, so that none dies; weight decay on W shrinks them all. Narrow vectors are learnt faster: of 1,024
    codes of photographs (`vqvae-photos`), 49 % of 8-wide ones were in use after 300 steps and 11 % of
    64-wide ones.

    The losses are codebook_weight * mean((sg(z) - q)^2) + commitment_weight * mean((z - sg(q))^2), with the
    weights 1 and 0.25 of the paper and of vector-quantize-pytorch: the small one is on the encoder's side.
    The authors' class swaps them unless told `legacy=False`; their configurations tell it so. Their W has a
    bias and D0 = D; that of vector-quantize-pytorch, as here, has none.

    `codebook` and `lookup` give the folded table, which is all that a trained model needs: as `embedding` of
    a `VectorQuantizer` with the same `normalize` it gives the same codes. `Tokenizer.folded` does that.

    Attributes:
      codebook_weight: weight of the codebook loss, which trains W.
      frozen_dim: width D0 of the fixed vectors; D when None.
      use_bias: add a bias to the linear map.
      decay: no effect.
      revive_threshold: must be 0.
    """

    codebook_weight: float = 1.0
    frozen_dim: int | None = None
    use_bias: bool = False

    _by_code: ClassVar[tuple[str, ...]] = ("frozen",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.revive_threshold:
            raise ValueError(
                f"SimVQ.revive_threshold must be 0, got {self.revive_threshold}: its codes move together, "
                "and none can be replaced"
            )

    def setup(self) -> None:
        width = self.frozen_dim or self.code_dim
        self.frozen = self.variable(
            "codebook",
            "frozen",
            lambda: (
                jax.random.normal(self.make_rng("params"), (self.codebook_size, width), jnp.float32)
                * width**-0.5
            ),
        )
        uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # of PyTorch's linear layers
        self.kernel = self.param("kernel", uniform, (width, self.code_dim), jnp.float32)
        if self.use_bias:
            self.bias = self.param("bias", nn.initializers.zeros, (self.code_dim,), jnp.float32)

    def _updating(self, train: bool) -> bool:
        return False  # training changes no variable

    def codebook(self) -> Float[Array, "K D"]:
        """Returns the folded codebook, float32; vectors of length one if `normalize`."""
        kernel = self.kernel.astype(jnp.float32)
        codebook = jnp.matmul(self.frozen.value, kernel, precision=jax.lax.Precision.HIGHEST)
        if self.use_bias:
            codebook = codebook + self.bias.astype(jnp.float32)[None]
        return ops.normalize_vectors(codebook) if self.normalize else codebook

    def __call__(self, z: Num[Array, "B *S D"], *, train: bool = False) -> QuantizerOutput:
        """Quantizes latents.

        Args:
          z: latents, any float dtype.
          train: draw the noise of the gradient `diveq`.

        Returns:
          Output with the codebook and commitment losses.

        Raises:
          ValueError: the latents are not float, or the last axis of z is not code_dim wide.
        """
        flat, codebook = self._flatten(z), self.codebook()
        indices = ops.nearest_code(flat, codebook)
        counts, _ = ops.code_statistics(flat, indices, self.codebook_size, self._axis(train))
        quantized = ops.look_up(codebook, indices)
        output = self._output(z, flat, quantized, indices, counts, train=train)
        codebook_loss = mean_square(jax.lax.stop_gradient(flat) - quantized)
        output.metrics["codebook_loss"] = codebook_loss
        return dataclasses.replace(output, loss=output.loss + self.codebook_weight * codebook_loss)
