"""Options as the compiled samplers take them, and how codes are drawn with them."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import struct

from vq_jax import ops
from vq_jax.configs.sampling import TRACED, Options
from vq_jax.generate.common import of_rows
from vq_jax.types import Array, Float, Int, Key

Number = float | Array


@struct.dataclass
class TracedOptions:
    """Options in two parts: what a sampler is compiled for, and numbers that it takes at run time.

    A pytree whose leaves are the numbers: a jitted function that takes it is compiled once for all options
    that differ in the numbers alone. Numbers without effect, such as a guidance of 1, are not among them.

    Attributes:
      structure: the options, hashable; fields that are among the numbers have their default.
      numbers: by field.
    """

    structure: Any = struct.field(pytree_node=False)
    numbers: dict[str, Number]

    def value(self, name: str) -> Any:
        """The value of a field, traced where it is a number of a compiled sampler."""
        return self.numbers[name] if name in self.numbers else getattr(self.structure, name)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest code is taken."""
        return bool(self.structure.greedy)

    @property
    def guided(self) -> bool:
        """Whether unconditional logits are needed."""
        return "guidance" in self.numbers

    def filter(self, logits: Float[Array, "... K"]) -> Float[Array, "... K"]:
        """The logits that codes are drawn from: after temperature, top-k and top-p."""
        temperature = 1.0 if self.greedy else self.value("temperature")
        return ops.filter_logits(
            logits, temperature=temperature, top_k=self.structure.top_k, top_p=self.value("top_p")
        )

    def draw(self, rng: Key[Array, "*R"], logits: Float[Array, "... K"]) -> Int[Array, "..."]:
        """Codes int32 drawn from the filtered logits, with a key or one for each row; or the likeliest."""
        if self.greedy:
            return ops.greedy_codes(logits)
        codes: Array = of_rows(ops.sample_codes, rng, self.filter(logits))
        return codes

    def guide(self, logits: Float[Array, "R ... K"], progress: Number) -> Float[Array, "B ... K"]:
        """Joins the two halves of a doubled batch's logits, conditional ones first; R = 2 B.

        Without guidance the batch is not doubled, and the logits are returned unchanged.
        """
        if not self.guided:
            return logits
        conditional, unconditional = jnp.split(logits, 2)
        schedule, power = self.structure.guidance_schedule, self.value("guidance_power")
        scale = ops.guidance_scale(schedule, self.value("guidance"), progress, power)
        return ops.guide(conditional, unconditional, scale)


AnyOptions = Options | TracedOptions


def trace_options(options: AnyOptions, expected: type[Options] = Options) -> TracedOptions:
    """Takes the numbers out of options, as the metadata of their fields says.

    Args:
      options: of a sampler; those that are traced already are returned unchanged.
      expected: their class.

    Raises:
      TypeError: they are of another class.
    """
    structure = options.structure if isinstance(options, TracedOptions) else options
    if not isinstance(structure, expected):
        raise TypeError(f"expected {expected.__name__} for this sampler, got {type(structure).__name__}")
    if isinstance(options, TracedOptions):
        return options
    numbers: dict[str, Number] = {}
    defaults: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        used = field.metadata.get(TRACED)
        if used is not None and used(options):
            numbers[field.name] = float(getattr(options, field.name))
            defaults[field.name] = field.default
    return TracedOptions(dataclasses.replace(options, **defaults), numbers)
