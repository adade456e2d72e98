"""How many bits the codes of a picture take."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.evaluate.code_usage import CodeUsage, code_suffixes
from vq_jax.types import Array, CodeSpec, CodeSpecs


@dataclasses.dataclass(frozen=True)
class Rate:
    """Bits of the codes, see `evaluators.Evaluator`.

    `bits_per_pixel`: log2 K for each code, over the pixels of a picture, or of all frames of a clip; channels
    do not count. `entropy_bits_per_pixel`: as many bits a code as the entropy of the codes of the set says,
    position by position alike, which is what a coder without context needs; `entropy`: that entropy in bits,
    for each kind of codes under names that end as `code_suffixes` says. The last two are absent where the use
    of codes is not counted, see `CodeUsage`.

    Attributes:
      specs: the codes, a pytree of CodeSpec; the sizes of the grids do not matter.
    """

    specs: CodeSpecs

    def init(self) -> dict[str, Any]:
        """Sums of zero."""
        grids = [jnp.zeros((), jnp.float32) for _ in jax.tree.leaves(self.specs)]
        return {"pixels": jnp.zeros((), jnp.float32), "codes": grids, "use": CodeUsage(self.specs).init()}

    def update(self, state: dict[str, Any], batch: Mapping[str, Array], output: Any) -> dict[str, Any]:
        """Counts the codes and the pixels of a batch, `nn.VQOutput`.

        Raises:
          ValueError: the quantizer was bypassed.
        """
        if output.indices is None:
            raise ValueError("expected codes to count the bits of, the quantizer was bypassed")
        pictures = jnp.sum(batch["valid"].astype(jnp.float32))
        pixels = math.prod(batch["target"].shape[1:-1])
        grids: list[Array] = jax.tree.leaves(output.indices)
        codes = [
            count + pictures * math.prod(grid.shape[1:])
            for count, grid in zip(state["codes"], grids, strict=True)
        ]
        use = CodeUsage(self.specs).update(state["use"], batch, output)
        return {"pixels": state["pixels"] + pictures * pixels, "codes": codes, "use": use}

    def compute(self, state: dict[str, Any]) -> dict[str, float]:
        """Bits over all pictures."""
        specs: list[CodeSpec] = jax.tree.leaves(self.specs)
        pixels = float(state["pixels"])
        bits = sum(
            float(count) * math.log2(spec.codebook_size)
            for count, spec in zip(state["codes"], specs, strict=True)
        )
        figures = {"bits_per_pixel": bits / pixels}
        counts = CodeUsage(self.specs).counts(state["use"])
        if not counts:
            return figures
        entropies = {suffix: _entropy(row) for suffix, row in counts.items()}
        bits = sum(
            float(count) / spec.codes_per_position * sum(entropies[suffix] for suffix in suffixes)
            for count, spec, suffixes in zip(state["codes"], specs, code_suffixes(self.specs), strict=True)
        )
        figures["entropy_bits_per_pixel"] = bits / pixels
        return figures | {f"entropy{suffix}": entropy for suffix, entropy in entropies.items()}


def _entropy(counts: np.ndarray) -> float:
    """Entropy in bits of how often each code occurs."""
    shares = counts[counts > 0] / counts.sum(dtype=np.float64)
    return float(-np.sum(shares * np.log2(shares)))
