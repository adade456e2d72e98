"""Configurations of whole runs: a tokenizer, a prior, a noise generator, a restorer, a regressor."""

import dataclasses
from typing import Annotated, Any, ClassVar, Self

import tyro

from vq_jax.configs.data import CodesConfig, DataConfig, PriorDataConfig, RestorerDataConfig
from vq_jax.configs.discriminators import DiscriminatorConfig
from vq_jax.configs.fields import LOCAL, MODEL, PATH, RESUME, RUN_NAME, Checked
from vq_jax.configs.losses import Losses
from vq_jax.configs.models import ARCHITECTURES, Architecture
from vq_jax.configs.optimizers import OptimizerConfig
from vq_jax.configs.priors import PRIORS, NoiseArchitecture, PriorArchitecture
from vq_jax.configs.restorers import RestorationLosses, RestorerNetwork
from vq_jax.configs.sampling import NoiseOptions, Options, SamplingOptions
from vq_jax.configs.training import Phase, TrainingConfig
from vq_jax.errors import require


@dataclasses.dataclass(frozen=True)
class ExperimentConfig(Checked):
    """Everything that defines the run of a tokenizer."""

    kind: ClassVar[str] = "tokenizer"
    called: ClassVar[str] = "tokenizer"  # in messages

    name: Annotated[tyro.conf.Fixed[str], RUN_NAME]
    model: Architecture
    data: DataConfig = DataConfig()
    losses: Losses = Losses()
    optimizer: OptimizerConfig = OptimizerConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    phases: tuple[Phase, ...] = (Phase(),)
    training: TrainingConfig = TrainingConfig()
    metrics: tuple[str, ...] = dataclasses.field(default=(), metadata=RESUME)
    """Metrics of the held-out pictures at every evaluation (`training.eval_every`), beside those that every
    run has: any that `vq-jax evaluate --metrics` takes, such as ssim, lpips or fd-vgg."""
    inception: Annotated[str, PATH, tyro.conf.arg(metavar="FILE")] = dataclasses.field(
        default="", metadata=LOCAL
    )
    """Weights of the network of 2015, for metrics such as fd-inception."""
    i3d: Annotated[str, PATH, tyro.conf.arg(metavar="FILE")] = dataclasses.field(default="", metadata=LOCAL)
    """Weights of I3D, for metrics of clips such as fd-i3d."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = ARCHITECTURES.get(self.model.architecture)
        require(
            type(self.model) is known,
            f"model must be of a named architecture, so that its run can be loaded; "
            f"{type(self.model).__name__} has the name {self.model.architecture!r}: "
            "add it to vq_jax.configs.models.ARCHITECTURES",
        )
        require(
            self.model.image_channels in (1, 3),
            "model.image_channels must be 1 (grey) or 3 (colour) for a run, which writes pictures, "
            f"got {self.model.image_channels}",
        )
        self.model.check_image_size(self.data.image_size)
        self.model.check_frames(self.data.frames)
        self.data.check_channels(self.model.image_channels)
        _check_frames(self, self.data.frames)
        degradation = self.data.degradation
        require(
            degradation.scale == 1,
            f"data.degradation {degradation.name} makes pictures {degradation.scale} times smaller, and a "
            "tokenizer's input and output have one size: use a restorer",
        )
        _check_length(self)
        require(len(self.phases) >= 1, "phases must have at least one phase")
        fitted = any(phase.kind == "codebook" or phase.kmeans_batches for phase in self.phases)
        require(
            self.model.quantizer.has_codebook or not fitted,
            f"the quantizer {self.model.quantizer.name} has no codebook to fit: omit codebook phases "
            "and kmeans_batches",
        )
        require(
            all(phase.steps is not None for phase in self.phases[:-1]),
            "only the last phase may have steps = None",
        )
        fixed = sum(phase.steps or 0 for phase in self.phases)
        steps = self.training.steps
        if self.phases[-1].steps is None:
            require(
                fixed < steps,
                f"the phases before the last take {fixed} steps and training.steps is {steps}: "
                "raise --steps or shorten the phases",
            )
        else:
            require(
                fixed == steps,
                f"the phases take {fixed} steps and training.steps is {steps}: make them equal, "
                "or set the last phase's steps to None",
            )

        _check_parts(self)

    def in_steps(self) -> "ExperimentConfig":
        """Returns the configuration with starts of losses that are shares of the run's steps as steps."""
        losses = self.losses.in_steps(self.training.steps)
        return self if losses is self.losses else dataclasses.replace(self, losses=losses)

    def phase_starts(self) -> tuple[int, ...]:
        """Returns the first step of each phase."""
        starts, start = [], 0
        for phase in self.phases:
            starts.append(start)
            start += phase.steps or 0
        return tuple(starts)


@dataclasses.dataclass(frozen=True)
class PriorConfig(Checked):
    """Everything that defines the run of a prior."""

    kind: ClassVar[str] = "prior"
    called: ClassVar[str] = "prior"  # in messages
    of_clips: ClassVar[bool] = True
    """Whether it may be of clips, by a tokenizer of clips."""

    name: Annotated[tyro.conf.Fixed[str], RUN_NAME]
    prior: PriorArchitecture
    tokenizer: Annotated[str, MODEL, tyro.conf.arg(metavar="RUN")] = dataclasses.field(
        default="", metadata=LOCAL
    )
    """Run or model directory of the tokenizer whose codes the prior learns."""
    conditional: bool = True
    """Condition the prior on the class, if the pictures have labels."""
    data: PriorDataConfig = PriorDataConfig()
    codes: CodesConfig = CodesConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    sampling: Options = dataclasses.field(default=SamplingOptions(), metadata=RESUME)
    """How pictures are drawn during the run, and by `sample` unless it is given other values. Of the class
    that the prior's sampler takes; `SamplingOptions()` becomes the default of that class."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            type(self.prior) is PRIORS.get(self.prior.architecture),
            f"prior must be a named one, so that its run can be loaded; {type(self.prior).__name__} has the "
            f"name {self.prior.architecture!r}: add it to vq_jax.configs.priors.PRIORS",
        )
        require(
            isinstance(self, NoiseConfig) == isinstance(self.prior, NoiseArchitecture),
            f"a {type(self).__name__} cannot train a {type(self.prior).__name__}: use a NoiseConfig for a "
            "noise generator and a PriorConfig for the other priors",
        )
        options = self.prior.options
        if self.sampling == SamplingOptions():
            object.__setattr__(self, "sampling", options())
        require(
            type(self.sampling) is options,
            f"sampling must be {options.__name__} for the prior {self.prior.architecture}, got "
            f"{type(self.sampling).__name__}",
        )
        _check_length(self)
        require(
            self.codes.mode == "fly" or not self.prior.sees_frames,
            f"the prior {self.prior.architecture} learns from frames, and a cache holds codes alone: give "
            "--codes.mode fly",
        )
        require(
            not self.training.init_parts,
            "training.init_parts names parts of a tokenizer, and a prior has none: omit it",
        )
        _check_not_inflated(self)

    def in_steps(self) -> "PriorConfig":
        """Returns the configuration: a prior has no losses that start within the run."""
        return self


@dataclasses.dataclass(frozen=True)
class NoiseConfig(PriorConfig):
    """Everything that defines the run of a noise generator, with its discriminator."""

    kind: ClassVar[str] = "noise"
    called: ClassVar[str] = "noise generator"  # in messages
    of_clips: ClassVar[bool] = False

    prior: NoiseArchitecture = NoiseArchitecture()
    sampling: NoiseOptions = dataclasses.field(default=NoiseOptions(), metadata=RESUME)
    """How pictures are drawn during the run, and by `sample` unless it is given other values."""
    losses: Losses = Losses(adversarial_weight=1.0, adaptive=False)
    discriminator: DiscriminatorConfig = DiscriminatorConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.losses.has_discriminator,
            "losses.adversarial_weight must be positive for a noise generator, which learns only from its "
            "discriminator",
        )
        _check_frames(self, None)
        plain = Losses()
        for name in (
            "reconstruction",
            "reconstruction_weight",
            "variance_weight",
            "perceptual_weight",
            "disc_start",
            "adversarial_start",
            "adversarial_ramp",
        ):
            require(
                getattr(self.losses, name) == getattr(plain, name),
                f"losses.{name} has no effect on a noise generator, which reconstructs nothing: omit it",
            )
        require(
            not self.losses.adaptive,
            "losses.adaptive balances a reconstruction loss, and a noise generator has none: set it to False",
        )
        require(
            self.training.accumulate == 1,
            "training.accumulate must be 1 for a noise generator, got "
            f"{self.training.accumulate}: lower data.batch_size for less memory",
        )


@dataclasses.dataclass(frozen=True)
class RestorerConfig(Checked):
    """Everything that defines the run of a restorer: by a tokenizer's codes, it learns what clean pictures
    degraded ones come from."""

    kind: ClassVar[str] = "restorer"
    called: ClassVar[str] = "restorer"  # in messages
    of_clips: ClassVar[bool] = False
    """Whether it may be of clips, by a tokenizer of clips."""

    name: Annotated[tyro.conf.Fixed[str], RUN_NAME]
    restorer: RestorerNetwork = RestorerNetwork()
    tokenizer: Annotated[str, MODEL, tyro.conf.arg(metavar="RUN")] = dataclasses.field(
        default="", metadata=LOCAL
    )
    """Run or model directory of the tokenizer whose codes the restorer predicts."""
    data: RestorerDataConfig = RestorerDataConfig()
    losses: RestorationLosses = RestorationLosses()
    optimizer: OptimizerConfig = OptimizerConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_length(self)
        require(
            not self.training.init_parts,
            f"training.init_parts names parts of a tokenizer, and a {self.called} has others: omit it",
        )
        _check_not_inflated(self)
        _check_frames(self, None)
        picture = self.losses.perceptual_weight > 0 or self.losses.has_discriminator
        require(
            self.restorer.fusion or self.kind != "restorer" or not picture,
            "losses of the picture teach only restorer.fusion, which is off: set losses.perceptual_weight "
            "and losses.adversarial_weight to 0, or restorer.fusion to True",
        )

    def in_steps(self) -> Self:
        """Returns the configuration with starts of losses that are shares of the run's steps as steps."""
        losses: Any = self.losses.in_steps(self.training.steps)
        return self if losses is self.losses else dataclasses.replace(self, losses=losses)


@dataclasses.dataclass(frozen=True)
class RegressorConfig(RestorerConfig):
    """A restorer's network without codes, to compare it with: everything learns, from the picture alone."""

    kind: ClassVar[str] = "regressor"
    called: ClassVar[str] = "regressor"  # in messages


def _check_frames(config: "ExperimentConfig | NoiseConfig | RestorerConfig", frames: int | None) -> None:
    """Checks what losses ask for of the frames of clips; of pictures, `frames` is None."""
    asked = {
        "losses.perceptual_frames": config.losses.perceptual_frames,
        "discriminator.frames": config.discriminator.frames,
        "discriminator.by_frame": int(config.discriminator.by_frame),
    }
    for name, number in asked.items():
        require(
            not number or frames is not None,
            f"{name} is about frames of clips, and these data are pictures: omit it, or give --data.frames",
        )
        require(
            number <= (frames or 0),
            f"{name} = {number} must be at most the frames of a clip, data.frames = {frames}",
        )


def _check_not_inflated(config: "PriorConfig | RestorerConfig") -> None:
    require(
        not config.training.inflate,
        f"training.inflate names a tokenizer that another one starts from, and {config.name} trains a "
        f"{config.called}: omit it",
    )


def _check_length(config: "RunConfig") -> None:
    """Checks what depends on the number of steps, and that the batch divides into its parts."""
    optimizers = {"optimizer": config.optimizer}
    if isinstance(config, ExperimentConfig | NoiseConfig | RestorerConfig):
        optimizers["discriminator.optimizer"] = config.discriminator.optimizer
    steps = config.training.steps
    for name, optimizer in optimizers.items():
        require(
            optimizer.warmup_steps < steps,
            f"{name}.warmup_steps = {optimizer.warmup_steps} must be less than training.steps = {steps}",
        )
    require(
        config.data.batch_size % config.training.accumulate == 0,
        f"data.batch_size = {config.data.batch_size} must be a multiple of training.accumulate = "
        f"{config.training.accumulate}",
    )


def _check_parts(config: ExperimentConfig) -> None:
    """Checks that each phase trains some of the parts of `training.init_parts`."""
    parts = config.training.init_parts
    if not parts:
        return
    joint = {"encoder", "decoder", *(("codebook",) if config.model.quantizer.has_codebook else ())}
    learns = {"autoencoder": {"encoder", "decoder"}, "codebook": {"codebook"}, "joint": joint}
    for phase in config.phases:
        require(
            bool(learns[phase.kind] & set(parts)),
            f"the phase {phase.kind} trains {' and '.join(sorted(learns[phase.kind]))}, and "
            f"training.init_parts has only {', '.join(parts)}: nothing would learn",
        )
        require(
            not phase.kmeans_batches or "codebook" in parts,
            f"kmeans_batches fits the codebook, and training.init_parts has only {', '.join(parts)}",
        )
    losses = config.losses
    require(
        "decoder" in parts or not (losses.has_discriminator and losses.adaptive),
        "losses.adaptive compares gradients at the decoder's last kernel: train the decoder too "
        "(training.init_parts), or set losses.adaptive to False",
    )


RunConfig = ExperimentConfig | PriorConfig | RestorerConfig
