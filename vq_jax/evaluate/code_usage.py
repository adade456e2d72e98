"""How evenly the codes of a codebook are used on a held-out set."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax import ops
from vq_jax.types import Array, CodeSpec, CodeSpecs

_log = logging.getLogger("vq_jax")
_MOST_CODES = 2**24  # in a grid, all codes of a position together: 64 MB of counts


def are_countable(specs: CodeSpecs) -> bool:
    """Whether the use of each code is kept: not where a grid has more than 2^24 codes, for gigabytes."""
    grids: list[CodeSpec] = jax.tree.leaves(specs)
    return all(spec.codes_per_position * spec.codebook_size <= _MOST_CODES for spec in grids)


def code_suffixes(specs: CodeSpecs) -> list[list[str]]:
    """What the names of figures of codes end with: of each grid, a list with one for each code of a position.

    Nothing for a single grid with one code a position. `/0`, `/1` ... for the codes of a position of a
    single grid, and for several grids in the order of their specs. `/1.0`: the first code of a position of
    the second grid, where that has several.
    """
    grids: list[CodeSpec] = jax.tree.leaves(specs)
    suffixes = []
    for number, spec in enumerate(grids):
        grid = "" if len(grids) == 1 else f"/{number}"
        separator = "." if grid else "/"
        depth = spec.codes_per_position
        suffixes.append([grid] if depth == 1 else [f"{grid}{separator}{code}" for code in range(depth)])
    return suffixes


@dataclasses.dataclass(frozen=True)
class CodeUsage:
    """Figures of the use of codes, see `evaluators.Evaluator`.

    Of all codes of the set together: `perplexity`; `usage`, the share of the codes that occur; `used_codes`,
    their number. With several grids, or several codes a position, these are given for each, under names that
    end as `code_suffixes` says. None where the quantizer was bypassed, or where a grid has more than 2^24
    codes, which the log then says once.

    Attributes:
      specs: the codes, a pytree of CodeSpec.
    """

    specs: CodeSpecs

    def __post_init__(self) -> None:
        if not are_countable(self.specs):
            most = max(spec.codebook_size for spec in jax.tree.leaves(self.specs))
            _log.info(
                "The use of %s codes is not counted on the held-out set: only that of up to 2^24 is.",
                f"{most:,}",
            )

    def init(self) -> Any:
        """Counts of zero, float32 [Q, K] for each grid; () where they are not kept."""
        if not are_countable(self.specs):
            return ()
        return jax.tree.map(
            lambda spec: jnp.zeros((spec.codes_per_position, spec.codebook_size), jnp.float32), self.specs
        )

    def update(self, state: Any, batch: Mapping[str, Array], output: Any) -> Any:
        """Counts the codes of a batch, `nn.VQOutput`."""
        if output.indices is None or not are_countable(self.specs):
            return state
        valid = batch["valid"].astype(jnp.float32)

        def count(spec: CodeSpec, counts: Array, codes: Array) -> Array:
            columns = codes.reshape(codes.shape[0], -1, spec.codes_per_position)
            weight = jnp.broadcast_to(valid[:, None, None], columns.shape)
            depth = jnp.broadcast_to(
                jnp.arange(spec.codes_per_position, dtype=jnp.int32)[None, None], columns.shape
            )
            return counts.at[depth, columns].add(weight)

        return jax.tree.map(count, self.specs, state, output.indices)

    def counts(self, state: Any) -> dict[str, np.ndarray]:
        """How often each code occurred, float32 [K], by the ending of the names; empty without counts."""
        if not are_countable(self.specs):
            return {}
        rows = {
            suffix: row
            for grid, counts in zip(code_suffixes(self.specs), jax.tree.leaves(state), strict=True)
            for suffix, row in zip(grid, np.asarray(counts), strict=True)
        }
        return rows if any(row.any() for row in rows.values()) else {}

    def compute(self, state: Any) -> dict[str, float]:
        """Figures of each kind of codes."""
        figures: dict[str, float] = {}
        for suffix, counts in self.counts(state).items():
            figures[f"perplexity{suffix}"] = float(ops.perplexity(jnp.asarray(counts)))
            figures[f"usage{suffix}"] = float(np.mean(counts > 0))
            figures[f"used_codes{suffix}"] = float(np.sum(counts > 0))
        return figures
