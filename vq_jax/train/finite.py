"""Metrics that are not finite end a run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vq_jax.types import Metrics


class NonFiniteError(RuntimeError):
    """A metric is not finite: the run was stopped, and its last checkpoint is from before that step."""


def fetch_finite(pending: Sequence[tuple[int, Metrics]], groups: Mapping[str, str]) -> dict[str, float]:
    """Brings metrics to the host and returns the last step's.

    Args:
      pending: steps with their metrics, which may be on the devices.
      groups: see `Task.metric_groups`.

    Raises:
      NonFiniteError: one is not finite; the message names it and its step.
    """
    figures: dict[str, float] = {}
    for step, metrics in jax.device_get(pending):
        figures = {name: float(np.asarray(value)) for name, value in metrics.items()}
        require_finite(step, figures, groups)
    return figures


def require_finite(step: int, figures: Mapping[str, Any], groups: Mapping[str, str]) -> None:
    """Checks that all figures that are numbers are finite, see `fetch_finite`.

    Raises:
      NonFiniteError: one is not.
    """
    bad = [name for name, value in figures.items() if isinstance(value, float) and not math.isfinite(value)]
    if not bad:
        return
    group = {name: max(filter(name.startswith, groups), key=len) for name in bad}
    name = min(bad, key=lambda name: list(groups).index(group[name]))
    optimizer = groups[group[name]]
    raise NonFiniteError(
        f"{name} is {figures[name]} at step {step}: the run was stopped and its last checkpoint "
        f"is from before. Lower {optimizer}.learning_rate, set {optimizer}.clip_norm, or train in float32"
    )
