"""Codes that fall out of use: when to say so, and what to try."""

from collections.abc import Iterable, Mapping
from typing import Any

from vq_jax.configs.runs import ExperimentConfig, RunConfig

WINDOW = 1000
"""Steps that the usage of a window is of."""
WINDOW_USAGE = "window/usage"
"""How the names of these figures begin."""
_LEAST = 0.1


class Collapse:
    """Finds the codebooks of which less than a tenth is in use in a whole window of steps.

    Fed with all rows of a run's figures, those from before it resumed included.
    """

    def __init__(self) -> None:
        self._first: dict[str, int] = {}

    def see(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Takes the next row; returns the figures of it that are too low, by name."""
        low = {}
        for name, value in row.items():
            if name.startswith(WINDOW_USAGE):
                first = self._first.setdefault(name, row["step"])
                if row["step"] - first >= WINDOW and value < _LEAST:
                    low[name] = value
        return low


def warning(config: RunConfig, name: str, usage: float) -> str:
    """Says that a codebook is hardly used, and what to try."""
    codes = codes_of(config, name.removeprefix(WINDOW_USAGE))
    text = f"Only {usage:.1%} of the {codes} were used in the last {WINDOW} steps."
    if isinstance(config, ExperimentConfig):
        text += f" To try: {config.model.quantizer.against_collapse}."
    return text


def codes_of(config: RunConfig, ending: str) -> str:
    """Says which codes figures are of whose names end with `ending`, see `evaluate.code_suffixes`."""
    number = ending.lstrip("/")
    if isinstance(config, ExperimentConfig):
        return config.model.quantizer.codes_of(number)
    return f"codes {number}".rstrip()


def warnings(config: RunConfig, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the last of a run's rows of figures gives reason to say, see `warning`."""
    found, low = Collapse(), dict[str, float]()
    for row in rows:
        low = found.see(row)
    return [warning(config, name, usage) for name, usage in low.items()]
