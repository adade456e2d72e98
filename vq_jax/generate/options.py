"""How codes are drawn from a prior's logits: one struct for all samplers, checked when it is made."""

import dataclasses
import numbers
from typing import Any

import jax.numpy as jnp

from vq_jax import ops
from vq_jax.types import Array, Float, Int, Key

Number = float | Array


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
    """How codes are drawn from logits.

    Attributes:
      temperature: divides the logits; 0 takes the likeliest code.
      top_k: draw among so many likeliest codes; 0 among all.
      top_p: draw among the likeliest codes that have this probability together, in (0, 1].
      guidance: scale of classifier-free guidance; 1 is none, and the conditional logits alone are computed.
      guidance_schedule: how guidance grows to that scale, one of `ops.GUIDANCE_SCHEDULES`.
      guidance_power: of the schedule `power_cosine`.

    Raises:
      ValueError: a value is out of range.
    """

    temperature: Number = 1.0
    top_k: int = 0
    top_p: Number = 1.0
    guidance: Number = 1.0
    guidance_schedule: str = "constant"
    guidance_power: Number = 1.0

    def __post_init__(self) -> None:
        # values given to a compiled sampler are traced; they were checked before
        if _known(self.temperature) and not 0.0 <= self.temperature < float("inf"):
            raise ValueError(f"expected temperature of at least 0 (0 is greedy), got {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"expected top_k of at least 0 (0 keeps all), got {self.top_k}")
        if _known(self.top_p) and not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"expected top_p in (0, 1], got {self.top_p}")
        if _known(self.guidance) and not 0.0 <= self.guidance < float("inf"):
            raise ValueError(f"expected guidance of at least 0 (1 is none), got {self.guidance}")
        if _known(self.guidance_power) and not 0.0 < self.guidance_power < float("inf"):
            raise ValueError(f"expected guidance_power above 0, got {self.guidance_power}")
        ops.guidance_scale(self.guidance_schedule, 1.0, 0.0)  # knows the names

    @property
    def greedy(self) -> bool:
        """Whether the likeliest code is taken."""
        return bool(_known(self.temperature) and self.temperature == 0.0)

    @property
    def guided(self) -> bool:
        """Whether unconditional logits are needed."""
        return not (_known(self.guidance) and self.guidance == 1.0)

    def filter(self, logits: Float[Array, "... K"]) -> Float[Array, "... K"]:
        """The logits that codes are drawn from: after temperature, top-k and top-p."""
        temperature = 1.0 if self.greedy else self.temperature
        return ops.filter_logits(logits, temperature=temperature, top_k=self.top_k, top_p=self.top_p)

    def draw(self, rng: Key[Array, ""], logits: Float[Array, "... K"]) -> Int[Array, "..."]:
        """Codes int32 drawn from the filtered logits, or the likeliest ones."""
        return ops.greedy_codes(logits) if self.greedy else ops.sample_codes(rng, self.filter(logits))

    def guide(self, logits: Float[Array, "R ... K"], progress: Number) -> Float[Array, "B ... K"]:
        """Joins the two halves of a doubled batch's logits, conditional ones first; R = 2 B.

        Without guidance the batch is not doubled and the logits are returned as they are.
        """
        if not self.guided:
            return logits
        conditional, unconditional = jnp.split(logits, 2)
        scale = ops.guidance_scale(self.guidance_schedule, self.guidance, progress, self.guidance_power)
        return ops.guide(conditional, unconditional, scale)

    def split(self) -> tuple["SamplingOptions", dict[str, float]]:
        """What a sampler must be compiled for, and the numbers that it can be given at run time.

        The two give the options back by `join`. Options that differ
        in the numbers alone share a structure, and so one compilation.
        """
        changing: dict[str, Any] = {}
        if not self.greedy and self.temperature != 1.0:
            changing["temperature"] = 2.0
        if self.top_p != 1.0 and not self.greedy:
            changing["top_p"] = 0.5
        if self.guided:
            changing["guidance"] = 2.0
            if self.guidance_schedule == "power_cosine":
                changing["guidance_power"] = 2.0
        return dataclasses.replace(self, **changing), {name: float(getattr(self, name)) for name in changing}

    def join(self, values: dict[str, Any]) -> "SamplingOptions":
        """These options with the numbers given, traced or not, see `split`."""
        return dataclasses.replace(self, **values)


def _known(value: Number) -> bool:
    return isinstance(value, numbers.Real)  # NumPy's too


DEFAULT_OPTIONS = SamplingOptions()
