"""Phases, length, numerics and intervals of a run."""

import dataclasses
from typing import Annotated, Literal

import tyro

from vq_jax.configs.fields import RESUME
from vq_jax.errors import require

PhaseKind = Literal["autoencoder", "codebook", "joint"]


@dataclasses.dataclass(frozen=True)
class Phase:
    """A range of a run's steps that trains a fixed part of the model.

    `autoencoder`: trains encoder and decoder; the quantizer is bypassed. `codebook`: freezes encoder and
    decoder and fits the codebook: k-means on the encoder's outputs, then its own update rule (EMA or
    gradient). `joint`: trains everything.
    """

    kind: PhaseKind = "joint"
    """autoencoder, codebook or joint: what the phase trains."""
    steps: int | None = None
    """Steps of the phase; None, in the last phase only: all remaining steps."""
    kmeans_batches: int = 0
    """Batches of encoder outputs from which k-means sets the codebook when the phase starts; 0: off."""

    def __post_init__(self) -> None:
        require(
            self.steps is None or self.steps >= 1,
            f"a phase's steps must be at least 1 or None, got {self.steps}",
        )
        require(
            self.kmeans_batches >= 0,
            f"a phase's kmeans_batches must not be negative, got {self.kmeans_batches}",
        )
        require(
            self.kmeans_batches == 0 or self.kind != "autoencoder",
            "kmeans_batches has no effect in an autoencoder phase, which does not train the codebook",
        )


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Length, seed and numerics of a run, and the intervals, in steps, at which it reports and saves."""

    steps: Annotated[int, tyro.conf.arg(aliases=["--steps"])] = dataclasses.field(
        default=1000, metadata=RESUME
    )
    """Total number of updates, including those before the run resumed."""
    seed: Annotated[int, tyro.conf.arg(aliases=["--seed"])] = 0
    """Seed of the weights, of the order of the pictures and of their crops."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto: bfloat16 on TPUs and on GPUs of compute capability 8 and above, else float32."""
    ema_decay: float = 0.0
    """Decay of a running average of the weights, used for evaluation and by load; 0: no average."""
    accumulate: int = 1
    """Parts into which a batch is split for one update, computed one after another to save memory."""
    mesh_data: int = dataclasses.field(default=-1, metadata=RESUME)
    """Devices along the data axis of the mesh; -1: all remaining devices."""
    mesh_fsdp: int = dataclasses.field(default=1, metadata=RESUME)
    """Devices along the fsdp axis of the mesh; -1: all remaining devices."""
    log_every: int = dataclasses.field(default=10, metadata=RESUME)
    """Number of steps between rows of logged metrics."""
    eval_every: int = dataclasses.field(default=100, metadata=RESUME)
    """Number of steps between evaluations on the test set."""
    image_every: int = dataclasses.field(default=100, metadata=RESUME)
    """Number of steps between pictures of reconstructions or samples."""
    save_every: int = dataclasses.field(default=100, metadata=RESUME)
    """Number of steps between checkpoints; each is also evaluated."""
    keep_checkpoints: int = dataclasses.field(default=2, metadata=RESUME)
    """Number of newest checkpoints to keep, besides the best by validation loss."""
    watchdog_minutes: float = dataclasses.field(default=0.0, metadata=RESUME)
    """Print all stacks and end the run with status 124 if a step takes longer than this, including
    evaluation and saving and, for the first step, compilation; 0: no limit."""

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
