"""Which codes the last steps used: what a batch alone, smaller than many codebooks, cannot say."""

import dataclasses

import jax
import jax.numpy as jnp

from vq_jax import ops
from vq_jax.evaluate import code_suffixes
from vq_jax.runs.collapse import WINDOW, WINDOW_USAGE
from vq_jax.train.state import GeneratorState
from vq_jax.types import Array, Codes, CodeSpec, Int, Metrics


def track_use(state: GeneratorState, indices: Codes | None) -> tuple[GeneratorState, Metrics]:
    """Marks the codes of a step as used.

    Args:
      state: after the step's update.
      indices: the codes of its batch; None where the quantizer was bypassed.

    Returns:
      The state, and the metric `window/usage`: the share of the codes that any of the last 1,000 steps used,
      of all steps so far where they are fewer. With several grids, or several codes a position, there is one
      for each, under names that end as `code_suffixes` says. No metric where nothing is marked.
    """
    if state.last_used is None or indices is None:
        return state, {}

    def mark(last: Int[Array, "Q K"], codes: Int[Array, "..."]) -> Int[Array, "Q K"]:
        # Counted, and not written where they lie: devices then sum counts, and never gather codes.
        columns = codes.reshape(-1, last.shape[0]).T
        used = jnp.stack([ops.code_counts(column, last.shape[1]) > 0 for column in columns])
        return jnp.where(used, state.step, last)

    last_used = jax.tree.map(mark, state.last_used, indices)
    specs = jax.tree.map(lambda last: CodeSpec((), last.shape[1], last.shape[0]), last_used)
    begin = jnp.maximum(state.step - WINDOW, 0)
    metrics: Metrics = {}
    for suffixes, last in zip(code_suffixes(specs), jax.tree.leaves(last_used), strict=True):
        usages = jnp.mean((last > begin).astype(jnp.float32), axis=1)
        metrics |= {f"{WINDOW_USAGE}{suffix}": usages[number] for number, suffix in enumerate(suffixes)}
    return dataclasses.replace(state, last_used=last_used), metrics
