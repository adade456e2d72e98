"""Vector quantizer whose codebook is learnt by gradient."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.quantizers.base import (
    CodebookQuantizer,
    QuantizerOutput,
    Revival,
    init_codebook,
    is_filled,
    mean_square,
)
from vq_jax.types import Array, Float, Key, Num


class VectorQuantizer(CodebookQuantizer):
    """Nearest-code quantizer with a codebook parameter (van den Oord et al. 2017, eq. 3).

    The codebook is the parameter `embedding` (K, D). The collection `codebook` holds each code's average
    use per step, `cluster_size` (K,) float32; it changes only in a call with `train=True` and
    `mutable=["codebook"]`. A module cannot rewrite its parameters: with `revive_threshold` the output's
    `revival` holds the dead codes and their replacements, and the metric `revived` counts them. They stay
    dead, in the parameter and in the collection, until `train.apply_revival` replaces them;
    `train.generator_step` calls it.

    Attributes:
      codebook_weight: weight of the codebook loss mean((sg(z) - q)^2).
    """

    codebook_weight: float = 1.0

    def setup(self) -> None:
        self.embedding = self.param(
            "embedding",
            lambda rng: init_codebook(rng, self.codebook_size, self.code_dim, self.normalize),
        )
        self.cluster_size = self.variable(
            "codebook", "cluster_size", jnp.zeros, (self.codebook_size,), jnp.float32
        )
        self.zero_weight = self.variable("codebook", "zero_weight", jnp.ones, (), jnp.float32)

    def codebook(self) -> Float[Array, "K D"]:
        """Returns the codebook, float32; vectors of length one if `normalize`."""
        embedding = self.embedding.astype(jnp.float32)
        return ops.normalize_vectors(embedding) if self.normalize else embedding

    def __call__(self, z: Num[Array, "B *S D"], *, train: bool = False) -> QuantizerOutput:
        """Quantizes latents and, in training, counts how often each code is used.

        Args:
          z: latents, any float dtype.
          train: update the average use, if the collection is mutable.

        Returns:
          Output with the loss codebook_weight * mean((sg(z) - q)^2) + commitment_weight *
          mean((z - sg(q))^2): the commitment weight is on the commitment term.

        Raises:
          ValueError: the latents are not float, or the last axis of z is not code_dim wide.
        """
        flat = self._flatten(z)
        codebook = self.codebook()
        indices = ops.nearest_code(flat, codebook)
        counts, _ = ops.code_statistics(flat, indices, self.codebook_size, self._axis(train))
        quantized = ops.look_up(codebook, indices)
        output = self._output(z, flat, quantized, indices, counts, train=train)
        codebook_loss = mean_square(jax.lax.stop_gradient(flat) - quantized)
        output.metrics["codebook_loss"] = codebook_loss
        loss = output.loss + self.codebook_weight * codebook_loss
        output = dataclasses.replace(output, loss=loss)
        if self._updating(train):
            revival = self._update(flat, counts) if is_filled(flat) else {}
            output = dataclasses.replace(output, revival=revival)
            output.metrics["revived"] = sum(
                (jnp.sum(revival.mask.astype(jnp.float32)) for revival in output.revival.values()),
                jnp.zeros((), jnp.float32),
            )
        return output

    def _update(self, flat: Float[Array, "N D"], counts: Float[Array, " K"]) -> dict[str, Revival]:
        averages = ops.update_averages(
            ops.CodeAverages(
                self.cluster_size.value,
                jnp.zeros((self.codebook_size, 0), jnp.float32),
                self.zero_weight.value,
            ),
            counts,
            jnp.zeros((self.codebook_size, 0), jnp.float32),
            self.decay,
        )
        self.cluster_size.value = averages.cluster_size
        self.zero_weight.value = averages.zero_weight
        if self.revive_threshold == 0:
            return {}
        dead = ops.dead_codes(averages.cluster_size, self.revive_threshold)
        threshold = jnp.float32(self.revive_threshold)
        return {"embedding": Revival(dead, self._draw(flat), threshold)}

    @nn.nowrap
    def of_table(self, table: Float[Array, "K D"]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the parameters and variables of a quantizer with this codebook, no code used yet."""
        return {"embedding": table}, {
            "cluster_size": jnp.zeros(table.shape[:1], jnp.float32),
            "zero_weight": jnp.ones((), jnp.float32),
        }

    @nn.nowrap
    def fit(
        self,
        rng: Key[Array, ""],
        params: Mapping[str, Any],
        codebook: Mapping[str, Any],
        latents: Float[Array, "T N D"],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Sets the codebook parameter and its average use by k-means, see `CodebookQuantizer.fit`."""
        centres, counts = self._kmeans(rng, latents)
        return {"embedding": centres}, {"cluster_size": counts, "zero_weight": jnp.zeros((), jnp.float32)}
