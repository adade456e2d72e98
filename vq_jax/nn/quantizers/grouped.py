"""Product quantization: groups of channels, each with a quantizer of its own."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.nn.quantizers.base import QuantizerOutput, check_float
from vq_jax.nn.quantizers.parts import (
    check_codes,
    join_codes,
    join_metrics,
    join_revivals,
    spec_of_parts,
    split_codes,
)
from vq_jax.ranges import check_ranges
from vq_jax.types import Array, CodeSpec, Float, Int, Key, Num


class GroupedQuantizer(nn.Module):
    """Splits the D channels into G groups and quantizes each on its own (Jegou et al. 2011, section II.B).

    The first D / G channels are group 0. Each group has its own copy of the quantizer, with its own codebook,
    under the name `groups_0`, `groups_1` ...: G codes per position, which together stand for K^G vectors.

    The loss is the mean of the groups', as in UniTok (Ma et al. 2025, arXiv:2502.20321); with equal weights,
    the commitment loss is then that of the whole latent. `perplexity`, `usage` and the quantizer's other
    metrics are means over the groups, and `revived` is a sum; `usage/0` and so on are those of each group.
    The use of the K^G combinations means nothing and is not measured.

    Attributes:
      quantizer: the quantizer of one group, of latents D / G wide; each group gets a copy.
      num_groups: G.
    """

    quantizer: nn.Module
    num_groups: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "GroupedQuantizer")

    def setup(self) -> None:
        self.groups = [self.quantizer.clone(name=None) for _ in range(self.num_groups)]

    @nn.nowrap
    def code_spec(self, latent_shape: tuple[int, ...]) -> CodeSpec:
        """Returns the spec of one picture's codes, given the shape (*s, D) of its latents."""
        of_group = (*latent_shape[:-1], latent_shape[-1] // self.num_groups)
        return spec_of_parts(self.quantizer, of_group, self.num_groups, "GroupedQuantizer")

    def __call__(self, z: Num[Array, "B *S D"], *, train: bool = False) -> QuantizerOutput:
        """Quantizes latents.

        Args:
          z: latents, any float dtype.
          train: as for the quantizer of a group.

        Returns:
          Output with codes [B, *S, G], or [B, *S, G Q] of a quantizer with Q codes per position, group by
          group.

        Raises:
          ValueError: the latents are not float, their width does not divide into the groups, or it is not
            the one that the quantizer of a group accepts.
        """
        check_float(z, "GroupedQuantizer")
        if z.shape[-1] % self.num_groups:
            raise ValueError(
                f"GroupedQuantizer expected a number of channels that divides into num_groups = "
                f"{self.num_groups}, got latents of shape {z.shape}: give the encoder latent_channels = "
                f"{self.num_groups} times the width of a group"
            )
        outputs = []
        for group, part in zip(self.groups, jnp.split(z, self.num_groups, axis=-1), strict=True):
            quantizer: Any = group
            try:
                outputs.append(quantizer(part, train=train))
            except ValueError as error:
                raise ValueError(
                    f"GroupedQuantizer splits latents of shape {z.shape} into {self.num_groups} groups. For "
                    f"each group: {error}"
                ) from error
        depth = self._depth()
        return QuantizerOutput(
            quantized=jnp.concatenate([output.quantized for output in outputs], axis=-1),
            indices=join_codes([output.indices for output in outputs], depth),
            loss=sum((output.loss for output in outputs[1:]), outputs[0].loss) / self.num_groups,
            metrics=join_metrics([output.metrics for output in outputs], depth),
            revival=join_revivals(outputs, "groups"),
        )

    @property
    def num_stages(self) -> int | None:
        """Number of stages of the quantizer of a group; None if it has none."""
        stages: int | None = getattr(self.quantizer, "num_stages", None)
        return stages

    def lookup(self, indices: Int[Array, "B *S"]) -> Float[Array, "B *S2 D"]:
        """Looks up the vectors of codes, laid out as `__call__` gives them, float32.

        Raises:
          ValueError: there are more or fewer codes per position.
        """
        return jnp.concatenate([group.lookup(part) for group, part in self._split(indices)], axis=-1)

    def lookup_stages(self, indices: Int[Array, "B *S"], stages: int) -> Float[Array, "B *S2 D"]:
        """Looks up what the codes of each group's first stages stand for, given those of all, float32."""
        vectors = [group.lookup_stages(part, stages) for group, part in self._split(indices)]
        return jnp.concatenate(vectors, axis=-1)

    def _split(self, indices: Int[Array, "B *S"]) -> list[tuple[Any, Int[Array, "B *S2"]]]:
        """The groups, each with its codes."""
        depth = self._depth()
        check_codes(indices, self.num_groups * depth, "GroupedQuantizer")
        return list(zip(self.groups, split_codes(indices, self.num_groups, depth), strict=True))

    @nn.nowrap
    def fit(
        self,
        rng: Key[Array, ""],
        params: Mapping[str, Any],
        codebook: Mapping[str, Any],
        latents: Float[Array, "T N D"],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Fits the quantizer of each group to its channels, see `CodebookQuantizer.fit`."""
        quantizer: Any = self.quantizer
        fitted: tuple[dict[str, Any], dict[str, Any]] = {}, {}
        for number, part in enumerate(jnp.split(latents, self.num_groups, axis=-1)):
            name = f"groups_{number}"
            of_group = quantizer.fit(
                jax.random.fold_in(rng, number), params.get(name, {}), codebook.get(name, {}), part
            )
            for collection, variables in zip(fitted, of_group, strict=True):
                if variables:
                    collection[name] = variables
        return fitted

    @nn.nowrap
    def _depth(self) -> int:
        """Codes per position of one group."""
        return self.code_spec((self.num_groups,)).codes_per_position // self.num_groups
