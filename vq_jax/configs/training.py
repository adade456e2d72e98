"""Phases, length, numerics and intervals of a run."""

import dataclasses
from typing import Annotated, ClassVar, Literal, get_args

import tyro

from vq_jax.configs.fields import LOCAL, MODEL, RESUME, Checked
from vq_jax.errors import require
from vq_jax.ranges import COUNT, SHARE, Range, between

_Count = Annotated[int, COUNT]
_Mesh = Annotated[int, Range(1, 2**20, also=(-1,))]

PhaseKind = Literal["autoencoder", "codebook", "joint"]
Part = Literal["encoder", "codebook", "decoder"]
GROUPS: dict[Part, str] = {"encoder": "encoder", "codebook": "quantizer", "decoder": "decoder"}
"""The group of a tokenizer's parameters that holds each part."""


@dataclasses.dataclass(frozen=True)
class Phase(Checked):
    """A range of a run's steps that trains a fixed part of the model.

    `autoencoder`: trains encoder and decoder; the quantizer is bypassed. `codebook`: freezes encoder and
    decoder and fits the codebook: k-means on the encoder's outputs, then its own update rule (EMA or
    gradient). `joint`: trains everything.
    """

    path: ClassVar[str] = "phases"

    kind: PhaseKind = "joint"
    """autoencoder, codebook or joint: what the phase trains."""
    steps: _Count | None = None
    """Steps of the phase; None, in the last phase only: all remaining steps."""
    kmeans_batches: Annotated[int, between(0, 2**20)] = 0
    """Batches of encoder outputs from which k-means sets the codebook when the phase starts; 0: off."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.kmeans_batches == 0 or self.kind != "autoencoder",
            "kmeans_batches has no effect in an autoencoder phase, which does not train the codebook",
        )


@dataclasses.dataclass(frozen=True)
class TrainingConfig(Checked):
    """Length, seed and numerics of a run, and the intervals, in steps, at which it reports and saves."""

    path: ClassVar[str] = "training"

    steps: Annotated[_Count, tyro.conf.arg(aliases=["--steps"])] = dataclasses.field(
        default=1000, metadata=RESUME
    )
    """Total number of updates, including those before the run resumed."""
    seed: Annotated[int, between(0, 2**32 - 1), tyro.conf.arg(aliases=["--seed"])] = 0
    """Seed of the weights, of the order of the pictures and of their crops."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto: bfloat16 on TPUs and on GPUs of compute capability 8 and above, else float32."""
    ema_decay: Annotated[float, SHARE] = 0.0
    """Decay of a running average of the weights, used for evaluation and by load; 0: no average."""
    accumulate: _Count = 1
    """Parts into which a batch is split for one update, computed one after another to save memory."""
    mesh_data: _Mesh = dataclasses.field(default=-1, metadata=RESUME)
    """Devices along the data axis of the mesh; -1: all remaining devices."""
    mesh_fsdp: _Mesh = dataclasses.field(default=1, metadata=RESUME)
    """Devices along the fsdp axis of the mesh; -1: all remaining devices."""
    log_every: _Count = dataclasses.field(default=10, metadata=RESUME)
    """Number of steps between rows of logged metrics."""
    eval_every: _Count = dataclasses.field(default=100, metadata=RESUME)
    """Number of steps between evaluations on the test set."""
    image_every: _Count = dataclasses.field(default=100, metadata=RESUME)
    """Number of steps between pictures of reconstructions or samples."""
    save_every: _Count = dataclasses.field(default=100, metadata=RESUME)
    """Number of steps between checkpoints; each is also evaluated."""
    keep_checkpoints: _Count = dataclasses.field(default=2, metadata=RESUME)
    """Number of newest checkpoints to keep, besides the best by validation loss."""
    watchdog_minutes: Annotated[float, between(0, 1e6)] = dataclasses.field(default=0.0, metadata=RESUME)
    """Print all stacks and end the run with status 124 if a step takes longer than this, including
    evaluation and saving and, for the first step, compilation; 0: no limit."""
    init: Annotated[str, MODEL, tyro.conf.arg(aliases=["--init"], metavar="RUN")] = dataclasses.field(
        default="", metadata=LOCAL
    )
    """Run or model directory whose weights the run starts from; its model has to be the same. Once the run
    has a checkpoint, it resumes from that."""
    inflate: Annotated[str, MODEL, tyro.conf.arg(aliases=["--inflate"], metavar="RUN")] = dataclasses.field(
        default="", metadata=LOCAL
    )
    """Run or model directory of a tokenizer of pictures whose weights a tokenizer of video starts from; its
    network has to be the same but for the frames, as vqvae-patches for vqvae-video."""
    init_parts: Annotated[tuple[Part, ...], tyro.conf.arg(aliases=["--init-parts"])] = ()
    """Parts of a tokenizer to train, of encoder, codebook and decoder; all parts start from init, and those
    not named stay exactly as they are there. All are trained when absent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not (self.init and self.inflate),
            "training.init and training.inflate both name what the run starts from: give --init or --inflate",
        )
        require(
            bool(self.init) or not self.init_parts,
            "training.init_parts needs training.init, the run or model directory to start from: give --init",
        )

    @property
    def trained_groups(self) -> tuple[str, ...]:
        """The groups of a tokenizer's parameters that are trained."""
        parts: tuple[Part, ...] = self.init_parts or get_args(Part)
        return tuple(group for part, group in GROUPS.items() if part in parts)
