"""Index backpropagation quantization: every code learns from every latent."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.quantizers.base import (
    CodebookQuantizer,
    QuantizerOutput,
    init_codebook,
    is_filled,
    mean_square,
)
from vq_jax.types import Array, Float, Key, Num


class IBQ(CodebookQuantizer):
    """Quantizer with a gradient to all codes (IBQ, Shi et al. 2024, arXiv:2412.02692).

    The codebook is the parameter `embedding` (K, D). The code of a latent is the one whose vector has the
    largest inner product with it, in training as in use; `ops.propagate_indices` has the gradient. All
    assignments are computed in blocks of the codebook, so that 2^18 codes train without N x K arrays.

    With q the output, q_h the same vectors as constants of the assignments, the loss is
    propagation_weight * mean((q - z)^2) + commitment_weight * mean((z - sg(q_h))^2) + codebook_weight *
    mean((q_h - sg(z))^2) + entropy_weight * `ops.product_entropy`. The defaults are those of the authors'
    code, whose 0.25 is on the codebook's side.

    Attributes:
      codebook_weight: weight of the loss that moves the chosen vectors towards the latents.
      propagation_weight: weight of the loss whose gradient passes through the assignments to all codes.
      decay: no effect.
      revive_threshold: must be 0: codes that are not used learn too.
      gradient: must be left as it is.
    """

    commitment_weight: float = 1.0
    entropy_weight: float = 0.05
    codebook_weight: float = 0.25
    propagation_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.revive_threshold or self.gradient != "straight_through":
            raise ValueError(
                "IBQ has a gradient of its own, which reaches all codes: leave out gradient and "
                f"revive_threshold, got {self.gradient!r} and {self.revive_threshold}"
            )

    def setup(self) -> None:
        self.embedding = self.param(
            "embedding",
            lambda rng: init_codebook(rng, self.codebook_size, self.code_dim, self.normalize),
        )

    def _updating(self, train: bool) -> bool:
        return False  # there are no variables

    def codebook(self) -> Float[Array, "K D"]:
        """Returns the codebook, float32; vectors of length one if `normalize`."""
        embedding = self.embedding.astype(jnp.float32)
        return ops.normalize_vectors(embedding) if self.normalize else embedding

    def __call__(self, z: Num[Array, "B *S D"], *, train: bool = False) -> QuantizerOutput:
        """Quantizes latents, in training as in evaluation.

        Args:
          z: latents, any float dtype.
          train: sum the use of codes over `axis_name`.

        Returns:
          Output with the four losses.

        Raises:
          ValueError: the latents are not float, or the last axis of z is not code_dim wide.
        """
        flat, codebook = self._flatten(z), self.codebook()
        quantized, indices = ops.propagate_indices(flat, codebook)
        hard = ops.look_up(codebook, indices)
        axis = self._axis(train)
        counts = ops.code_counts(indices, self.codebook_size)
        counts = jax.lax.psum(counts, axis) if axis else counts
        metrics = {
            "propagation_loss": mean_square(quantized - flat),
            "commitment_loss": mean_square(flat - jax.lax.stop_gradient(hard)),
            "codebook_loss": mean_square(hard - jax.lax.stop_gradient(flat)),
            "perplexity": ops.perplexity(counts),
            "usage": ops.usage(counts),
        }
        loss = (
            self.propagation_weight * metrics["propagation_loss"]
            + self.commitment_weight * metrics["commitment_loss"]
            + self.codebook_weight * metrics["codebook_loss"]
        )
        if self.entropy_weight > 0 and is_filled(flat):
            metrics["entropy_loss"] = ops.product_entropy(flat, codebook, self.entropy_temperature)
            loss = loss + self.entropy_weight * metrics["entropy_loss"]
        return QuantizerOutput(
            quantized=quantized.reshape(z.shape).astype(z.dtype),
            indices=indices.reshape(z.shape[:-1]),
            loss=loss,
            metrics=metrics,
        )

    @nn.nowrap
    def fit(
        self,
        rng: Key[Array, ""],
        params: Mapping[str, Any],
        codebook: Mapping[str, Any],
        latents: Float[Array, "T N D"],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Sets the codebook parameter by k-means, see `CodebookQuantizer.fit`.

        Without `normalize`, the longest means are the codes of most latents.
        """
        return {"embedding": self._kmeans(rng, latents)[0]}, {}
