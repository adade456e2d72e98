"""How the codes that a prior draws are distributed, against held-out ones."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.evaluate.code_usage import code_suffixes
from vq_jax.types import Array, CodeSpec, CodeSpecs


@dataclasses.dataclass(frozen=True)
class CodeDistance:
    """How differently drawn codes and held-out codes are distributed, see `evaluators.Evaluator`.

    `loss` and `code_distance`: the total variation distance between the two distributions of codes at a
    position, from 0 to 1, mean over the positions. `used_codes`: how many codes were drawn at least once;
    with several grids, or several codes a position, for each, under names that end as `code_suffixes` says.

    Attributes:
      specs: the codes, a pytree of CodeSpec.
    """

    specs: CodeSpecs

    def init(self) -> dict[str, Any]:
        """Counts of zero, int32 [N, K] for each grid, where N counts the codes of a picture."""
        counts = jax.tree.map(
            lambda spec: jnp.zeros((math.prod(spec.array_shape), spec.codebook_size), jnp.int32), self.specs
        )
        return {"pictures": jnp.zeros((), jnp.int32), "drawn": counts, "held_out": counts}

    def update(self, state: dict[str, Any], batch: Mapping[str, Any], output: Any) -> dict[str, Any]:
        """Counts the codes of a batch.

        Args:
          state: sums so far.
          batch: `codes` int32, held out, and `valid` bool [B].
          output: as many codes, drawn; laid out like the specs.
        """
        valid = jnp.asarray(batch["valid"]).astype(jnp.int32)

        def count(counts: Array, codes: Array) -> Array:
            flat = jnp.asarray(codes).reshape(len(valid), -1)
            position = jnp.broadcast_to(jnp.arange(flat.shape[1], dtype=jnp.int32)[None], flat.shape)
            return counts.at[position, flat].add(jnp.broadcast_to(valid[:, None], flat.shape))

        return {
            "pictures": state["pictures"] + jnp.sum(valid, dtype=jnp.int32),
            "drawn": jax.tree.map(count, state["drawn"], output),
            "held_out": jax.tree.map(count, state["held_out"], batch["codes"]),
        }

    def compute(self, state: dict[str, Any]) -> dict[str, float]:
        """The distance over all positions, and the codes drawn."""
        pictures = int(state["pictures"])
        drawn, held_out = (
            [np.asarray(counts) / pictures for counts in jax.tree.leaves(state[name])]
            for name in ("drawn", "held_out")
        )
        apart = [np.abs(ours - theirs).sum(axis=-1) for ours, theirs in zip(drawn, held_out, strict=True)]
        distance = float(0.5 * np.concatenate(apart).mean())
        figures = {"loss": distance, "code_distance": distance}
        specs: list[CodeSpec] = jax.tree.leaves(self.specs)
        for spec, suffixes, shares in zip(specs, code_suffixes(self.specs), drawn, strict=True):
            depths = shares.reshape(-1, spec.codes_per_position, spec.codebook_size)
            for depth, suffix in enumerate(suffixes):
                figures[f"used_codes{suffix}"] = float((depths[:, depth].sum(axis=0) > 0).sum())
        return figures
