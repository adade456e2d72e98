"""Named degradations: frozen dataclasses that say how a picture is made worse for a model to restore it.

A new degradation is a dataclass here, listed in `DEGRADATIONS`, and a function in `data/degrade.py`. What is
random in one lies between two numbers, low and high, and is drawn for each picture.
"""

import dataclasses
import math
from typing import Annotated, Any, ClassVar, Literal

from vq_jax.configs.fields import Checked, Rule
from vq_jax.errors import lookup, require
from vq_jax.ranges import Range, between, shown


def _span(value: tuple[float, ...], name: str) -> tuple[float, ...]:
    require(
        len(value) == 2 and value[0] <= value[1],
        f"{name} must be two numbers, low and high, the first not above the second, got {shown(value)}",
    )
    return value


_SPAN = Rule(_span)


@dataclasses.dataclass(frozen=True)
class DegradationConfig(Checked):
    """Base of the named degradations."""

    name: ClassVar[str] = ""
    path: ClassVar[str] = "data.degradation"
    changes: ClassVar[bool] = True
    """Whether pictures are degraded at all."""

    @property
    def scale(self) -> int:
        """How many times smaller a degraded picture is in height and width."""
        return 1

    @property
    def removes_colour(self) -> bool:
        """Whether degraded pictures may be grey, so that what restores them gives colours."""
        return False

    def check_channels(self, channels: int) -> None:
        """Checks that pictures of so many channels can be degraded.

        Raises:
          ValueError: they cannot.
        """


@dataclasses.dataclass(frozen=True)
class NoDegradationConfig(DegradationConfig):
    """Leaves pictures as they are."""

    name: ClassVar[str] = "none"
    changes: ClassVar[bool] = False


@dataclasses.dataclass(frozen=True)
class DownscaleConfig(DegradationConfig):
    """Makes pictures smaller."""

    name: ClassVar[str] = "downscale"

    factor: Annotated[int, between(2, 8)] = 4
    """How many times smaller, in height and width."""
    filter: Literal["area", "bicubic", "lanczos"] = "bicubic"
    """Means over squares of pixels, or an antialiased filter: bicubic, or Lanczos with three lobes."""

    @property
    def scale(self) -> int:
        """The factor."""
        return self.factor


@dataclasses.dataclass(frozen=True)
class GaussianNoiseConfig(DegradationConfig):
    """Adds normal noise, of its own to each pixel and channel, as an amplifier does."""

    name: ClassVar[str] = "gaussian_noise"

    sigma: Annotated[tuple[float, float], between(0, 255), _SPAN] = (5.0, 50.0)
    """Standard deviation, where white is 255: low and high."""


@dataclasses.dataclass(frozen=True)
class PoissonNoiseConfig(DegradationConfig):
    """Counts photons in place of light: the noise of little light or a short exposure."""

    name: ClassVar[str] = "poisson_noise"

    peak: Annotated[tuple[float, float], between(1, 1e6), _SPAN] = (30.0, 300.0)
    """Photons that white stands for, low and high, drawn evenly on a logarithmic scale: the fewer, the
    noisier."""


@dataclasses.dataclass(frozen=True)
class GaussianBlurConfig(DegradationConfig):
    """Blurs with a Gaussian."""

    name: ClassVar[str] = "gaussian_blur"

    sigma: Annotated[tuple[float, float], between(0, 64), _SPAN] = (0.5, 3.0)
    """Standard deviation in pixels: low and high."""


@dataclasses.dataclass(frozen=True)
class MotionBlurConfig(DegradationConfig):
    """Blurs along a straight line at a random angle, as a camera that moves does."""

    name: ClassVar[str] = "motion_blur"

    length: Annotated[tuple[float, float], between(1, 255), _SPAN] = (3.0, 15.0)
    """Length of the line in pixels: low and high."""


@dataclasses.dataclass(frozen=True)
class DiskBlurConfig(DegradationConfig):
    """Blurs with an even disk, as a lens out of focus does."""

    name: ClassVar[str] = "disk_blur"

    radius: Annotated[tuple[float, float], between(0, 64), _SPAN] = (1.0, 4.0)
    """Radius of the disk in pixels: low and high."""


@dataclasses.dataclass(frozen=True)
class JpegConfig(DegradationConfig):
    """Stores pictures as JPEG files, with colours at half the resolution, and reads them again."""

    name: ClassVar[str] = "jpeg"

    quality: Annotated[tuple[int, int], between(1, 100), _SPAN] = (20, 80)
    """Quality, low and high; both occur."""


@dataclasses.dataclass(frozen=True)
class GreyConfig(DegradationConfig):
    """Takes the colours away: all channels become luma."""

    name: ClassVar[str] = "grey"

    @property
    def removes_colour(self) -> bool:
        """True."""
        return True

    def check_channels(self, channels: int) -> None:
        """Checks that the pictures have colours.

        Raises:
          ValueError: they have none.
        """
        require(
            channels == 3,
            f"data.degradation grey takes colours away, and these pictures have {channels} channel"
            f"{'s' * (channels != 1)}: choose another degradation",
        )


_CHAIN = (
    GaussianBlurConfig((0.2, 2.0)),
    GaussianNoiseConfig((1.0, 25.0)),
    PoissonNoiseConfig(),
    JpegConfig(),
)


@dataclasses.dataclass(frozen=True)
class MixConfig(DegradationConfig):
    """Several degradations one after another, some of them, in an order that is drawn for each picture.

    Zhang et al., "Designing a Practical Degradation Model for Deep Blind Image Super-Resolution", 2021
    (arXiv 2103.14006), shuffle blur, downscaling, noise and JPEG in this way. A step that makes pictures
    smaller is never left out, so that all have one size. A step may be a mix itself.
    """

    name: ClassVar[str] = "mix"

    steps: tuple[DegradationConfig, ...] = _CHAIN
    """The degradations."""
    probability: Annotated[float, Range(0, 1, above=True)] = 0.75
    """Of each step to be made."""
    shuffle: bool = True
    """Make the steps in a random order; False: in the order in which they are given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.steps) > 0, "data.degradation.steps must have at least one degradation, got ()")

    @property
    def scale(self) -> int:
        """The product of the steps' scales."""
        return math.prod(step.scale for step in self.steps)

    @property
    def removes_colour(self) -> bool:
        """Whether one of the steps does."""
        return any(step.removes_colour for step in self.steps)


DEGRADATIONS: dict[str, type[DegradationConfig]] = {
    cls.name: cls
    for cls in (
        NoDegradationConfig,
        DownscaleConfig,
        GaussianNoiseConfig,
        PoissonNoiseConfig,
        GaussianBlurConfig,
        MotionBlurConfig,
        DiskBlurConfig,
        JpegConfig,
        GreyConfig,
        MixConfig,
    )
}


def degradation_class(name: str) -> type[DegradationConfig]:
    """Returns the dataclass of a named degradation.

    Raises:
      ValueError: no degradation has that name; the message has the nearest ones.
    """
    return lookup(DEGRADATIONS, name, "degradation")


def check_named(degradation: Any) -> None:
    """Checks that a run with a degradation can be loaded.

    Raises:
      ValueError: it is not a registered one.
    """
    require(
        type(degradation) is DEGRADATIONS.get(degradation.name),
        f"data.degradation must be a named one, so that its run can be loaded; {type(degradation).__name__} "
        f"has the name {degradation.name!r}: add it to vq_jax.configs.degradations.DEGRADATIONS",
    )
