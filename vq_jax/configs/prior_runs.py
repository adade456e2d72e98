"""The configuration of a run that trains a prior over the codes of another run's tokenizer."""

import dataclasses
from typing import Annotated, Literal

import tyro

from vq_jax.configs.priors import PRIORS, NoiseArchitecture, PriorArchitecture
from vq_jax.configs.runs import (
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    Losses,
    OptimizerConfig,
    TrainingConfig,
)
from vq_jax.errors import require


@dataclasses.dataclass(frozen=True)
class PriorDataConfig:
    """The pictures whose codes are learnt; what is absent is as the tokenizer's run had it."""

    source: Annotated[str | None, tyro.conf.arg(aliases=["--data"])] = None
    """photos, fashion, folder:PATH, arrays:FILE.npz, or tfds:NAME[:SPLIT]."""
    data_dir: str | None = None
    """Directory of the prepared tensorflow-datasets sets."""
    batch_size: Annotated[int, tyro.conf.arg(aliases=["--batch-size"])] = 64
    """Grids of codes a step, over all devices and processes."""
    image_size: int | None = None
    """Height and width of a training picture, in pixels."""
    resize: Literal["none", "short-side", "random"] | None = None
    """Before the crop, see the tokenizer's."""
    crop: Literal["random", "center"] | None = None
    """Where in the picture the square of image_size is cut out."""
    flip: bool | None = None
    """Mirror every other training picture, left to right."""
    crops_per_picture: int | None = None
    """Training crops of one picture in an epoch."""
    test_fraction: float | None = None
    """Share of the pictures held out, for sources that come without a test set."""
    test_limit: int | None = None
    """Test pictures that an evaluation takes at most."""
    num_workers: int = 0
    """Processes that read pictures where codes are made on the fly; 0 reads in threads."""

    def __post_init__(self) -> None:
        self.resolve(DataConfig())  # knows the ranges

    def resolve(self, tokenizer: DataConfig) -> DataConfig:
        """These settings with what is absent taken from the tokenizer's."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return dataclasses.replace(
            tokenizer, **{name: value for name, value in given.items() if value is not None}
        )


@dataclasses.dataclass(frozen=True)
class CodesConfig:
    """How the codes of the training pictures are made."""

    mode: Literal["cache", "fly"] = "cache"
    """cache: once, into files; fly: in every step, from the pictures. Codes and their order are the same."""
    variants: int = 1
    """Crops of a picture (times data.crops_per_picture) that there are codes of; where pictures are
    mirrored, every other one is the mirror image of the one before."""
    directory: str | None = None
    """Where the files are kept; in the run directory when absent."""

    def __post_init__(self) -> None:
        require(self.variants >= 1, f"codes.variants must be at least 1, got {self.variants}")


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


@dataclasses.dataclass(frozen=True)
class PriorConfig:
    """Everything that defines a run of a prior."""

    name: tyro.conf.Fixed[str]
    prior: PriorArchitecture
    tokenizer: Annotated[str, tyro.conf.arg(metavar="RUN")] = ""
    """Run directory of the tokenizer whose codes are learnt."""
    conditional: bool = True
    """Learn the codes of each class, where the pictures have labels."""
    data: PriorDataConfig = PriorDataConfig()
    codes: CodesConfig = CodesConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    sampling: SamplingConfig = SamplingConfig()

    def __post_init__(self) -> None:
        require(
            type(self.prior) is PRIORS.get(self.prior.architecture),
            f"prior must be a named one, for its run to be read again; {type(self.prior).__name__} has the "
            f"name {self.prior.architecture!r}: add it to vq_jax.configs.priors.PRIORS",
        )
        require(
            isinstance(self, NoiseConfig) == isinstance(self.prior, NoiseArchitecture),
            f"a {type(self).__name__} trains no {type(self.prior).__name__}: a noise generator is configured "
            "by a NoiseConfig, the other priors by a PriorConfig",
        )
        require(
            self.optimizer.warmup_steps < self.training.steps,
            f"optimizer.warmup_steps = {self.optimizer.warmup_steps} must be less than "
            f"training.steps = {self.training.steps}",
        )
        require(
            self.data.batch_size % self.training.accumulate == 0,
            f"data.batch_size = {self.data.batch_size} must be a multiple of training.accumulate = "
            f"{self.training.accumulate}",
        )


@dataclasses.dataclass(frozen=True)
class NoiseConfig(PriorConfig):
    """Everything that defines a run of a noise generator, with its discriminator."""

    prior: NoiseArchitecture = NoiseArchitecture()
    losses: Losses = Losses(adversarial_weight=1.0, adaptive=False)
    discriminator: DiscriminatorConfig = DiscriminatorConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.losses.has_discriminator,
            "losses.adversarial_weight must be positive for a noise generator, which learns from its "
            "discriminator alone",
        )
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
                f"losses.{name} has no effect on a noise generator, which reconstructs nothing: leave it out",
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
        warmup = self.discriminator.optimizer.warmup_steps
        require(
            warmup < self.training.steps,
            f"discriminator.optimizer.warmup_steps = {warmup} must be less than training.steps = "
            f"{self.training.steps}",
        )


RunConfig = ExperimentConfig | PriorConfig
