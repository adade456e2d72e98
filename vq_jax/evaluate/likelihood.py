"""The likelihood that a prior gives to held-out codes."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from vq_jax.types import Array, Metrics


class Likelihood:
    """Means over held-out pictures of the metrics that a prior's loss returns, see `evaluators.Evaluator`.

    `loss` and the others under their own names; where `cross_entropy`, in nats a code, is among them, also
    `bits_per_code`.
    """

    def init(self) -> dict[str, Array]:
        """No sums: which metrics there are shows with the first batch."""
        return {}

    def update(
        self, state: Mapping[str, Array], batch: Mapping[str, Array], output: Metrics
    ) -> dict[str, Array]:
        """Adds a batch.

        Args:
          state: sums so far.
          batch: `valid` bool [B].
          output: metrics of each picture by itself, float32 [B].
        """
        valid = batch["valid"]
        added = {"pictures": jnp.sum(valid.astype(jnp.float32))}
        added |= {name: jnp.sum(jnp.where(valid, value, 0.0)) for name, value in output.items()}
        return {name: state[name] + value for name, value in added.items()} if state else added

    def compute(self, state: Mapping[str, Any]) -> dict[str, float]:
        """Means over the pictures."""
        pictures = float(state["pictures"])
        figures = {name: float(value) / pictures for name, value in state.items() if name != "pictures"}
        if "cross_entropy" in figures:
            figures["bits_per_code"] = figures["cross_entropy"] / math.log(2.0)
        return figures
