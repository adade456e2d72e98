"""Options of the samplers: one frozen dataclass for each, named once.

`Prior.sample`, the flags of `vq-jax sample`, the field `sampling` of a prior's run and the samplers of
`vq_jax.generate` all take them from here. Nothing here imports jax.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal

from vq_jax.configs.fields import Checked
from vq_jax.ranges import INT32, POSITIVE, Range, between

TRACED = "traced"
"""Key in a field's metadata: the field is a number that a compiled sampler takes at run time. Its value is a
function of the options that says whether the number has an effect; one without effect is compiled in. A field
without this key is static: another value is another compilation."""


def _number(default: float, used: Callable[[Any], bool]) -> Any:
    return dataclasses.field(default=default, metadata={TRACED: used})


@dataclasses.dataclass(frozen=True)
class Options(Checked):
    """Base of the samplers' options."""


@dataclasses.dataclass(frozen=True)
class SamplingOptions(Options):
    """How codes are drawn from the logits of a prior.

    Raises:
      ValueError: a value is out of range.
    """

    temperature: Annotated[float, between(0, 1e6, "0 is greedy")] = _number(
        1.0, lambda options: options.temperature not in (0.0, 1.0)
    )
    """Divides the logits; 0 takes the likeliest code."""
    top_k: Annotated[int, between(0, INT32, "0 keeps all")] = 0
    """Draw among this many likeliest codes; 0: among all."""
    top_p: Annotated[float, Range(0, 1, above=True)] = _number(
        1.0, lambda options: options.top_p != 1.0 and not options.greedy
    )
    """Draw among the likeliest codes that together have this probability."""
    guidance: Annotated[float, between(0, 1e6, "1 is none")] = _number(1.0, lambda options: options.guided)
    """Scale of classifier-free guidance; 1: none."""
    guidance_schedule: Literal["constant", "linear", "power_cosine"] = "constant"
    """How guidance grows to its scale."""
    guidance_power: Annotated[float, POSITIVE] = _number(
        1.0, lambda options: options.guided and options.guidance_schedule == "power_cosine"
    )
    """Power of the schedule power_cosine."""

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

    steps: Annotated[int, between(1, 2**16)] = 12
    """Steps of masked sampling, each of which evaluates the prior once."""
    order: Literal["confidence", "halton"] = "confidence"
    """Which codes a step decides: those whose drawn value is likeliest, or evenly spread ones."""
    noise: Annotated[float, between(0, 1e6, "0 is none")] = _number(
        4.5, lambda options: options.order == "confidence"
    )
    """Scale of the Gumbel noise on log-probabilities in the first step of the order confidence; it falls
    linearly to 0 in the last."""
    mask_schedule: Literal["cosine", "arccos", "linear", "square"] = "cosine"
    """How many codes are left masked after each step."""


@dataclasses.dataclass(frozen=True)
class NoiseOptions(Options):
    """How a noise generator draws.

    Raises:
      ValueError: a value is out of range.
    """

    temperature: Annotated[float, between(0, 1e6, "the scale of the noise")] = _number(
        1.0, lambda options: True
    )
    """Scales the noise; below 1 the pictures are less varied."""
