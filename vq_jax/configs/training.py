"""Length, numerics, intervals and phases of a run."""

import dataclasses
from typing import Annotated, Literal

import tyro

from vq_jax.configs.fields import RESUME
from vq_jax.errors import require

PhaseKind = Literal["autoencoder", "codebook", "joint"]


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stretch of a run in which a fixed part of the model learns.

    `autoencoder`: encoder and decoder alone, the quantizer passed by. `codebook`: encoder and decoder
    frozen, the codebook fitted: k-means on the encoder's outputs, then its own rule (EMA or
    gradient). `joint`: everything.
    """

    kind: PhaseKind = "joint"
    steps: int | None = None
    """None, in the last phase only: all steps that are left."""
    kmeans_batches: int = 0
    """Batches of encoder outputs that k-means sets the codebook from when the phase begins; 0: none."""

    def __post_init__(self) -> None:
        require(
            self.steps is None or self.steps >= 1,
            f"a phase's steps must be at least 1 or absent, got {self.steps}",
        )
        require(
            self.kmeans_batches >= 0,
            f"a phase's kmeans_batches must not be negative, got {self.kmeans_batches}",
        )
        require(
            self.kmeans_batches == 0 or self.kind != "autoencoder",
            "kmeans_batches has no effect in an autoencoder phase: it trains no codebook",
        )


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Length, seed, numerics and the intervals at which a run reports and saves, in steps."""

    steps: Annotated[int, tyro.conf.arg(aliases=["--steps"])] = dataclasses.field(
        default=1000, metadata=RESUME
    )
    """Updates in all, counting those before a run was resumed."""
    seed: Annotated[int, tyro.conf.arg(aliases=["--seed"])] = 0
    """Of the weights, of the order of the pictures and of their crops."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype. auto: bfloat16 on TPU and on GPUs of compute capability 8 and up, else float32."""
    ema_decay: float = 0.0
    """Decay of a running average of the weights, used for evaluation and by `load`; 0: none."""
    accumulate: int = 1
    """Parts that a batch is cut into, one after the other, for one update: less memory."""
    mesh_data: int = dataclasses.field(default=-1, metadata=RESUME)
    """Devices along the mesh's data axis; -1: all that are left."""
    mesh_fsdp: int = dataclasses.field(default=1, metadata=RESUME)
    """Devices along the mesh's fsdp axis."""
    log_every: int = dataclasses.field(default=10, metadata=RESUME)
    """Steps from one row of metrics to the next."""
    eval_every: int = dataclasses.field(default=100, metadata=RESUME)
    """Steps from one evaluation on the test set to the next."""
    image_every: int = dataclasses.field(default=100, metadata=RESUME)
    """Steps from one picture of reconstructions to the next."""
    save_every: int = dataclasses.field(default=100, metadata=RESUME)
    """Steps from one checkpoint to the next; each is evaluated too."""
    keep_checkpoints: int = dataclasses.field(default=2, metadata=RESUME)
    """Newest checkpoints kept, beside the best by validation loss."""
    watchdog_minutes: float = dataclasses.field(default=0.0, metadata=RESUME)
    """A step, with its evaluation and saving, that takes longer ends the run with all stacks printed and
    status 124; 0: none does. Compilation counts as the first step's."""

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "log_every",
            "eval_every",
            "image_every",
            "save_every",
            "keep_checkpoints",
            "accumulate",
        ):
            value = getattr(self, name)
            require(value >= 1, f"training.{name} must be at least 1, got {value}")
        require(self.seed >= 0, f"training.seed must not be negative, got {self.seed}")
        require(
            0.0 <= self.ema_decay < 1.0,
            f"training.ema_decay must lie in [0, 1), got {self.ema_decay}",
        )
        require(
            self.watchdog_minutes >= 0.0,
            f"training.watchdog_minutes must not be negative, got {self.watchdog_minutes}",
        )
        for name in ("mesh_data", "mesh_fsdp"):
            value = getattr(self, name)
            require(value == -1 or value >= 1, f"training.{name} must be -1 or at least 1, got {value}")
