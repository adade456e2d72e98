"""Configuration of an Optax optimizer."""

import dataclasses
from typing import Literal

from vq_jax.errors import require


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """An Optax chain: clipping by global norm, the optimizer, a schedule with linear warm-up."""

    name: Literal["adam", "adamw", "lion", "adafactor", "sgd"] = "adam"
    """Name of the optimizer."""
    learning_rate: float = 3e-4
    """Learning rate; its peak, if a schedule changes it."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Schedule of the learning rate; cosine falls to final_ratio times learning_rate over the run's steps."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from zero."""
    final_ratio: float = 0.0
    """Final learning rate of the cosine schedule, as a fraction of learning_rate."""
    b1: float = 0.9
    """Decay of the first moment; of the momentum for sgd."""
    b2: float = 0.999
    """Decay of the second moment."""
    weight_decay: float = 0.0
    """Weight decay, for adamw, lion and adafactor only."""
    clip_norm: float | None = None
    """Largest global norm of the gradient; None: no clipping."""

    def __post_init__(self) -> None:
        require(
            self.learning_rate > 0.0,
            f"optimizer.learning_rate must be positive, got {self.learning_rate}",
        )
        require(
            self.warmup_steps >= 0,
            f"optimizer.warmup_steps must not be negative, got {self.warmup_steps}",
        )
        for name in ("b1", "b2"):
            value = getattr(self, name)
            require(0.0 <= value < 1.0, f"optimizer.{name} must lie in [0, 1), got {value}")
        require(
            0.0 <= self.final_ratio <= 1.0,
            f"optimizer.final_ratio must lie in [0, 1], got {self.final_ratio}",
        )
        require(
            self.weight_decay >= 0.0,
            f"optimizer.weight_decay must not be negative, got {self.weight_decay}",
        )
        require(
            self.weight_decay == 0.0 or self.name not in ("adam", "sgd"),
            f"optimizer.weight_decay = {self.weight_decay} has no effect with {self.name}; "
            "use adamw, lion or adafactor",
        )
        require(
            self.clip_norm is None or self.clip_norm > 0.0,
            f"optimizer.clip_norm must be positive or None, got {self.clip_norm}",
        )
