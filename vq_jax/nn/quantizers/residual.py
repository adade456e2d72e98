"""Residual quantization: each stage quantizes what the stages before it left over."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.nn.quantizers.base import CodebookQuantizer, QuantizerOutput, check_float
from vq_jax.nn.quantizers.parts import (
    add_stages,
    check_gradient,
    check_stages,
    draw_stages,
    first_stages,
    join_codes,
    join_metrics,
    join_revivals,
    spec_of_parts,
    split_stages,
)
from vq_jax.ranges import check_ranges
from vq_jax.types import Array, CodeSpec, Float, Int, Key, Num


class ResidualQuantizer(nn.Module):
    """Quantizes latents, then what is left over, and so on: Q stages.

    After Zeghidour et al. 2021, arXiv:2107.03312, algorithm 1. With r_0 = z, stage i gives q_i for r_i and
    leaves r_{i+1} = r_i - sg(q_i); the output is the sum of the q_i, and a position has the codes of all Q
    stages, in order. Each stage has its own copy of the quantizer, under the name `stages_0`, `stages_1` ...;
    with `shared`, one copy serves all, `stages_0` (Lee et al. 2022, arXiv:2203.01941, section 3.1). The codes
    of the first n stages alone decode too: `lookup(codes[..., :n])`.

    The loss is the sum over the stages (Lee et al., eq. 8, where it is a sum too). `perplexity`, `usage` and
    the quantizer's other metrics are means over the stages, and `revived` is a sum; `usage/0` and so on are
    those of each stage.

    Attributes:
      quantizer: the quantizer of one stage; each stage gets a copy.
      num_stages: Q.
      shared: one codebook for all stages, for a quantizer with a codebook of vectors. Its statistics are
        those of the latents of all stages together, updated once per step; so is revival. (This differs from
        vector-quantize-pytorch, whose averages decay once per stage.)
      min_stages: quantizer dropout (Zeghidour et al., section III.C). In training, only the first n stages
        count in the output and in the loss, n drawn uniformly from `min_stages` to Q from the key of the rng
        stream `quantizer`: one draw per step, the same for all pictures, devices and residual quantizers of
        a model. The codes and statistics of the other stages are still those of their residuals. None: all
        stages count.
      output_gradient: gradient of the output with respect to the latents. `stages`: the sum of the stages'
        gradients, as in vector-quantize-pytorch; of straight-through stages that is Q times the identity.
        `whole`: the identity, whatever the stages' are, which is what a decoder's error asks for; not for
        quantizers that learn from the gradient of their output (such as Gumbel-softmax).
    """

    quantizer: nn.Module
    num_stages: int
    shared: bool = False
    min_stages: int | None = None
    output_gradient: str = "stages"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "ResidualQuantizer")
        check_stages(self, self.num_stages, self.min_stages)
        check_gradient(self, self.output_gradient)
        if self.shared and not isinstance(self.quantizer, CodebookQuantizer):
            raise ValueError(
                "ResidualQuantizer.shared needs a quantizer with a codebook of vectors, got "
                f"{type(self.quantizer).__name__}: set shared to False"
            )

    def setup(self) -> None:
        self.stages = [self.quantizer.clone(name=None) for _ in range(1 if self.shared else self.num_stages)]

    @nn.nowrap
    def code_spec(self, latent_shape: tuple[int, ...]) -> CodeSpec:
        """Returns the spec of one picture's codes, given the shape (*s, D) of its latents."""
        return spec_of_parts(self.quantizer, latent_shape, self.num_stages, "ResidualQuantizer")

    def __call__(self, z: Num[Array, "B *S D"], *, train: bool = False) -> QuantizerOutput:
        """Quantizes latents; the residuals are float32.

        Args:
          z: latents, any float dtype.
          train: as for the quantizer of a stage, and whether to leave out stages, see `min_stages`.

        Returns:
          Output with codes [B, *S, Q], or [B, *S, Q q] of a quantizer with q codes per position, stage by
          stage.

        Raises:
          ValueError: the latents are not float, or not as wide as the quantizer expects.
        """
        check_float(z, "ResidualQuantizer")
        residual, residuals, outputs = z.astype(jnp.float32), [], []
        for number in range(self.num_stages):
            residuals.append(residual)
            outputs.append(self._stage(number)(residual, train=train and not self.shared))
            residual = residual - jax.lax.stop_gradient(outputs[-1].quantized)
        depth = self._depth()
        metrics = join_metrics([output.metrics for output in outputs], depth)
        revival = join_revivals(outputs, "stages")
        if self.shared and train:
            together = self._stage(0)(jax.lax.stop_gradient(jnp.stack(residuals, axis=-2)), train=True)
            revival = join_revivals([together], "stages")
            metrics |= {name: value for name, value in together.metrics.items() if name == "revived"}
        kept = draw_stages(self, self.num_stages, self.min_stages) if train else None
        quantized, loss = add_stages(residuals[0], outputs, kept, self.output_gradient)
        return QuantizerOutput(
            quantized=quantized.astype(z.dtype),
            indices=join_codes([output.indices for output in outputs], depth),
            loss=loss,
            metrics=metrics,
            revival=revival,
        )

    def lookup(self, indices: Int[Array, "B *S"]) -> Float[Array, "B *S2 D"]:
        """Looks up the vectors of codes, of all stages or of the first n, float32.

        Args:
          indices: codes as `__call__` gives them; `[..., :n]` of them for the first n stages.

        Raises:
          ValueError: there are codes of more stages than the quantizer has.
        """
        codes = split_stages(indices, self.num_stages, self._depth(), "ResidualQuantizer")
        vectors = [self._stage(number).lookup(part) for number, part in enumerate(codes)]
        return sum(vectors[1:], vectors[0])

    def lookup_stages(self, indices: Int[Array, "B *S"], stages: int) -> Float[Array, "B *S2 D"]:
        """Looks up the vectors that the codes of the first stages stand for, given those of all, float32."""
        return self.lookup(first_stages(indices, stages, self.num_stages, self._depth()))

    @nn.nowrap
    def fit(
        self,
        rng: Key[Array, ""],
        params: Mapping[str, Any],
        codebook: Mapping[str, Any],
        latents: Float[Array, "T N D"],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Fits each stage to what those before it leave over, see `CodebookQuantizer.fit`.

        A shared codebook is fitted to the latents, and then to the latents and all residuals together.
        """
        residual, residuals = latents.astype(jnp.float32), []
        params, codebook = dict(params), dict(codebook)
        for number in range(self.num_stages):
            name = "stages_0" if self.shared else f"stages_{number}"
            residuals.append(residual)
            if number == 0 or not self.shared:
                self._fit_stage(jax.random.fold_in(rng, number), name, params, codebook, residual)
            residual = residual - self._quantize(name, params, codebook, residual)
        if self.shared:
            together = jnp.concatenate(residuals, axis=1)
            self._fit_stage(jax.random.fold_in(rng, self.num_stages), "stages_0", params, codebook, together)
        return params, codebook

    @nn.nowrap
    def _fit_stage(
        self,
        rng: Key[Array, ""],
        name: str,
        params: dict[str, Any],
        codebook: dict[str, Any],
        latents: Float[Array, "T N D"],
    ) -> None:
        quantizer: Any = self.quantizer
        fitted = quantizer.fit(rng, params.get(name, {}), codebook.get(name, {}), latents)
        for collection, variables in zip((params, codebook), fitted, strict=True):
            if variables:
                collection[name] = variables

    @nn.nowrap
    def _quantize(
        self, name: str, params: Mapping[str, Any], codebook: Mapping[str, Any], z: Float[Array, "T N D"]
    ) -> Float[Array, "T N D"]:
        collections = {"params": params, "codebook": codebook}
        variables = {key: tree[name] for key, tree in collections.items() if name in tree}
        quantizer: Any = self.quantizer
        quantized: Float[Array, "T N D"] = jax.jit(lambda *inputs: quantizer.apply(*inputs).quantized)(
            variables, z
        )
        return quantized

    def _stage(self, number: int) -> Any:
        return self.stages[0 if self.shared else number]

    @nn.nowrap
    def _depth(self) -> int:
        """Codes per position of one stage."""
        return self.code_spec((1,)).codes_per_position // self.num_stages
