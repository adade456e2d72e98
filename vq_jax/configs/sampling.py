"""How new codes are drawn from a prior."""

import dataclasses
from typing import Literal

from vq_jax.errors import require


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How the run's pictures are drawn, and those of `sample` where nothing else is asked for."""

    temperature: float = 1.0
    """Divides the logits; 0 takes the likeliest code."""
    top_k: int = 0
    """Draw among so many likeliest codes; 0: among all."""
    top_p: float = 1.0
    """Draw among the likeliest codes that have this probability together."""
    guidance: float = 1.0
    """Scale of classifier-free guidance; 1: none."""
    guidance_schedule: Literal["constant", "linear", "power_cosine"] = "constant"
    """How guidance grows to that scale."""
    guidance_power: float = 1.0
    """Of the schedule power_cosine."""
    steps: int = 12
    """Steps of masked sampling; of a smaller grid, as many as it has codes."""
    noise: float = 4.5
    """Of the order in which masked sampling decides the codes."""
    order: Literal["confidence", "halton"] = "confidence"
    """Which codes masked sampling decides first: the likeliest, or evenly spread ones."""

    def __post_init__(self) -> None:
        for name in ("temperature", "top_k", "guidance", "noise"):
            value = getattr(self, name)
            require(value >= 0, f"sampling.{name} must not be negative, got {value}")
        require(0.0 < self.top_p <= 1.0, f"sampling.top_p must lie in (0, 1], got {self.top_p}")
        require(self.guidance_power > 0.0, f"sampling.guidance_power must be positive: {self.guidance_power}")
        require(self.steps >= 1, f"sampling.steps must be at least 1, got {self.steps}")
