"""Vector quantizer whose codebook follows running averages of the latents."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.quantizers.base import CodebookQuantizer, QuantizerOutput, init_codebook, is_filled
from vq_jax.types import Array, Float, Key, Num


class VectorQuantizerEMA(CodebookQuantizer):
    """Nearest-code quantizer with an EMA codebook (van den Oord et al. 2017, arXiv:1711.00937, A.1).

    State in the collection `codebook`, all float32: `embedding` (K, D), `cluster_size` (K,),
    `embedding_sum` (K, D) and `zero_weight` (). It changes only in a call with `train=True` and
    `mutable=["codebook"]`, never in `init`. Statistics are sums over the global
    batch; see `axis_name` for shard_map and pmap.

    Differs from the paper as its authors' code does: the averages start at zero and are debiased,
    counts are Laplace-smoothed, and the output uses the codebook from before the update. A code that
    no latent ever chose therefore becomes the zero vector at the first update; with `revive_threshold`
    it is replaced by a latent instead, together with its statistics.

    Attributes:
      epsilon: of the Laplace smoothing.
    """

    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gradient == "diveq":
            raise ValueError(
                "VectorQuantizerEMA.gradient = 'diveq' would train a codebook that follows running averages: "
                "use VectorQuantizer (--quantizer gradient)"
            )

    def setup(self) -> None:
        self.embedding = self.variable(
            "codebook",
            "embedding",
            lambda: init_codebook(self.make_rng("params"), self.codebook_size, self.code_dim, self.normalize),
        )
        self.cluster_size = self.variable(
            "codebook", "cluster_size", jnp.zeros, (self.codebook_size,), jnp.float32
        )
        self.embedding_sum = self.variable(
            "codebook", "embedding_sum", jnp.zeros, (self.codebook_size, self.code_dim), jnp.float32
        )
        self.zero_weight = self.variable("codebook", "zero_weight", jnp.ones, (), jnp.float32)

    def codebook(self) -> Float[Array, "K D"]:
        """Returns the codebook, float32."""
        return self.embedding.value

    def __call__(self, z: Num[Array, "B *S D"], *, train: bool = False) -> QuantizerOutput:
        """Quantizes latents and, in training, updates the codebook.

        Args:
          z: latents, any float dtype.
          train: update the codebook, if the collection is mutable.

        Returns:
          Output with the loss commitment_weight * mean((z - sg(q))^2).

        Raises:
          ValueError: the latents are not float, or the last axis of z is not code_dim wide.
        """
        flat = self._flatten(z)
        indices = ops.nearest_code(flat, self.codebook())
        counts, sums = ops.code_statistics(flat, indices, self.codebook_size, self._axis(train))
        quantized = ops.look_up(self.codebook(), indices)
        output = self._output(z, flat, quantized, indices, counts, train=train)
        if self._updating(train):
            revived = self._update(flat, counts, sums) if is_filled(flat) else jnp.zeros((), jnp.float32)
            output.metrics["revived"] = revived
        return output

    def _update(
        self, flat: Float[Array, "N D"], counts: Float[Array, " K"], sums: Float[Array, "K D"]
    ) -> Float[Array, ""]:
        """Updates averages and codebook and revives dead codes; returns how many were revived."""
        averages = ops.update_averages(
            ops.CodeAverages(self.cluster_size.value, self.embedding_sum.value, self.zero_weight.value),
            counts,
            sums,
            self.decay,
        )
        codebook = ops.codebook_from_averages(averages, self.epsilon)
        if self.normalize:
            codebook = ops.normalize_vectors(codebook)
        size, total, dead = averages.cluster_size, averages.embedding_sum, jnp.zeros(0, jnp.float32)
        if self.revive_threshold > 0:
            dead = ops.dead_codes(size, self.revive_threshold)
            drawn = self._draw(flat)
            codebook = jnp.where(dead[:, None], drawn, codebook)
            size = jnp.where(dead, self.revive_threshold, size)
            total = jnp.where(dead[:, None], drawn * self.revive_threshold, total)
        self.embedding.value = codebook
        self.cluster_size.value = size
        self.embedding_sum.value = total
        self.zero_weight.value = averages.zero_weight
        return jnp.sum(dead.astype(jnp.float32))

    @nn.nowrap
    def fit(
        self,
        rng: Key[Array, ""],
        params: Mapping[str, Any],
        codebook: Mapping[str, Any],
        latents: Float[Array, "T N D"],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Sets codebook and averages by k-means, see `CodebookQuantizer.fit`."""
        centres, counts = self._kmeans(rng, latents)
        return dict(params), {
            "embedding": centres,
            "cluster_size": counts,
            "embedding_sum": centres * counts[:, None],
            "zero_weight": jnp.zeros((), jnp.float32),
        }
