"""Configuration of an Optax optimizer."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from vq_jax.configs.fields import Checked
from vq_jax.errors import require
from vq_jax.ranges import NUMBER, SHARE, WEIGHT, Range, between


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Checked):
    """An Optax chain: clipping by global norm, the optimizer, a schedule with linear warm-up."""

    path: ClassVar[str] = "optimizer"

    name: Literal["adam", "adamw", "lion", "adafactor", "sgd"] = "adam"
    """Name of the optimizer."""
    learning_rate: Annotated[float, Range(0, 1e6, above=True)] = 3e-4
    """Learning rate; its peak, if a schedule changes it."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Schedule of the learning rate; cosine falls to final_ratio times learning_rate over the run's steps."""
    warmup_steps: Annotated[int, NUMBER] = 0
    """Steps over which the learning rate rises from zero."""
    final_ratio: Annotated[float, between(0, 1)] = 0.0
    """Final learning rate of the cosine schedule, as a fraction of learning_rate."""
    b1: Annotated[float, SHARE] = 0.9
    """Decay of the first moment; of the momentum for sgd."""
    b2: Annotated[float, SHARE] = 0.999
    """Decay of the second moment."""
    weight_decay: Annotated[float, WEIGHT] = 0.0
    """Weight decay, for adamw, lion and adafactor only."""
    clip_norm: Annotated[float | None, Range(0, 1e12, above=True)] = None
    """Largest global norm of the gradient; None: no clipping."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.weight_decay == 0.0 or self.name not in ("adam", "sgd"),
            f"optimizer.weight_decay = {self.weight_decay} has no effect with {self.name}; "
            "use adamw, lion or adafactor",
        )
