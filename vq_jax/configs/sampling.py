"""Options of the samplers: one frozen dataclass for each, named once.

`Prior.sample`, the flags of `vq-jax sample`, the field `sampling` of a prior's run and the samplers of
`vq_jax.generate` all take them from here. Nothing here imports jax.
"""

import dataclasses
import math
import typing
from collections.abc import Callable
from typing import Any, Literal

from vq_jax.errors import require

TRACED = "traced"
"""Key in a field's metadata: the field is a number that a compiled sampler takes at run time. Its value is a
function of the options that says whether the number has an effect; one without effect is compiled in. A field
without this key is static: another value is another compilation."""


def _number(default: float, used: Callable[[Any], bool]) -> Any:
    return dataclasses.field(default=default, metadata={TRACED: used})


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of the samplers' options; checks the fields that are a choice."""

    def __post_init__(self) -> None:
        for name, hint in typing.get_type_hints(type(self)).items():
            if typing.get_origin(hint) is Literal:
                value, choices = getattr(self, name), typing.get_args(hint)
                require(value in choices, f"expected {name} of {', '.join(choices)}, got {value!r}")


@dataclasses.dataclass(frozen=True)
class SamplingOptions(Options):
    """How codes are drawn from the logits of a prior.

    Raises:
      ValueError: a value is out of range.
    """

    temperature: float = _number(1.0, lambda options: options.temperature not in (0.0, 1.0))
    """Divides the logits; 0 takes the likeliest code."""
    top_k: int = 0
    """Draw among this many likeliest codes; 0: among all."""
    top_p: float = _number(1.0, lambda options: options.top_p != 1.0 and not options.greedy)
    """Draw among the likeliest codes that together have this probability."""
    guidance: float = _number(1.0, lambda options: options.guided)
    """Scale of classifier-free guidance; 1: none."""
    guidance_schedule: Literal["constant", "linear", "power_cosine"] = "constant"
    """How guidance grows to its scale."""
    guidance_power: float = _number(
        1.0, lambda options: options.guided and options.guidance_schedule == "power_cosine"
    )
    """Power of the schedule power_cosine."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_not_negative(self, "temperature", "0 is greedy")
        _check_not_negative(self, "top_k", "0 keeps all")
        require(0.0 < self.top_p <= 1.0, f"expected top_p in (0, 1], got {self.top_p}")
        _check_not_negative(self, "guidance", "1 is none")
        power = self.guidance_power
        require(0.0 < power < math.inf, f"expected guidance_power above 0, got {power}")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest code is taken."""
        return self.temperature == 0.0

    @property
    def guided(self) -> bool:
        """Whether unconditional logits are needed."""
        return self.guidance != 1.0


@dataclasses.dataclass(frozen=True)
class MaskedOptions(SamplingOptions):
    """How a masked prior decides codes, a few in each step.

    Raises:
      ValueError: a value is out of range.
    """

    steps: int = 12
    """Steps of masked sampling, each of which evaluates the prior once."""
    order: Literal["confidence", "halton"] = "confidence"
    """Which codes a step decides: those whose drawn value is likeliest, or evenly spread ones."""
    noise: float = _number(4.5, lambda options: options.order == "confidence")
    """Scale of the Gumbel noise on log-probabilities in the first step of the order confidence; it falls
    linearly to 0 in the last."""
    mask_schedule: Literal["cosine", "arccos", "linear", "square"] = "cosine"
    """How many codes are left masked after each step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.steps >= 1, f"expected at least one step, got {self.steps}")
        _check_not_negative(self, "noise", "0 is none")


@dataclasses.dataclass(frozen=True)
class NoiseOptions(Options):
    """How a noise generator draws.

    Raises:
      ValueError: a value is out of range.
    """

    temperature: float = _number(1.0, lambda options: True)
    """Scales the noise; below 1 the pictures are less varied."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_not_negative(self, "temperature", "the scale of the noise")


def _check_not_negative(options: Options, name: str, meaning: str) -> None:
    value = getattr(options, name)
    require(0.0 <= value < math.inf, f"expected {name} of at least 0 ({meaning}), got {value}")
