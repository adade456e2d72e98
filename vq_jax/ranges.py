"""Ranges of numeric fields: one table by name, for modules and for the configurations that build them.

Every range has two ends. The upper one is far above anything useful; it stops numbers that would overflow, or
keep the machine busy for ever, where they come in.
"""

import dataclasses
import math
from typing import Any

from vq_jax.errors import require


@dataclasses.dataclass(frozen=True)
class Range:
    """Finite numbers from `minimum` to `maximum`, both included unless they are open ends.

    Attributes:
      minimum: lower end.
      maximum: upper end.
      above: the lower end itself is outside.
      below: the upper end itself is outside.
      odd: odd numbers only.
      also: numbers outside the ends that are allowed too, with a meaning of their own.
      note: what a message adds about an end, such as "0 is greedy".
    """

    minimum: float
    maximum: float
    above: bool = False
    below: bool = False
    odd: bool = False
    also: tuple[float, ...] = ()
    note: str = ""

    def holds(self, number: Any) -> bool:
        """Whether a number is in the range; NaN and infinity never are."""
        if number in self.also:
            return True
        from_below = number > self.minimum if self.above else number >= self.minimum
        from_above = number < self.maximum if self.below else number <= self.maximum
        return bool(from_below and from_above) and not (self.odd and number % 2 == 0)

    def words(self, number: Any) -> str:
        """States the end that a number violates, after "must"."""
        if isinstance(number, float) and not math.isfinite(number):
            return "be a finite number"
        if self.odd:
            return f"be odd, from {self.minimum:g} to {self.maximum:g}"
        if self.maximum <= 1:
            ends = "(" if self.above else "[", ")" if self.below else "]"
            return f"lie in {ends[0]}{self.minimum:g}, {self.maximum:g}{ends[1]}"
        if number > self.minimum:
            return f"be {'below' if self.below else 'at most'} {_written(self.maximum)}"
        others = "".join(f"{other:g} or " for other in self.also)
        least = "positive" if self.above and self.minimum == 0 else f"at least {self.minimum:g}"
        return f"be {others}{least}{f' ({self.note})' if self.note else ''}"


def _written(number: float) -> str:
    return str(int(number)) if number == int(number) and number < 1e10 else f"{number:g}"


def between(minimum: float, maximum: float, note: str = "") -> Range:
    """Numbers from `minimum` to `maximum`, both included."""
    return Range(minimum, maximum, note=note)


INT32 = 2**31 - 1
COUNT = between(1, INT32)
"""How many, at least one."""
NUMBER = between(0, INT32)
"""How many, perhaps none."""
WIDTH = between(1, 2**20)
"""Channels of a layer."""
DEPTH = between(1, 512)
"""Layers or blocks: compilation takes time for each."""
WEIGHT = between(0, 1e6)
"""Weight of a loss."""
POSITIVE = Range(0, 1e6, above=True)
SHARE = Range(0, 1, below=True)
ODD_KERNEL = Range(3, 1023, odd=True)

_RANGES = {
    WIDTH: """channels code_dim head_features hidden_features image_channels mlp_features noise_dim num_heads
        frozen_dim num_latents projection_dim residual_channels width z_channels""",
    DEPTH: """codes_per_position depth_layers min_stages num_blocks num_convolutions num_groups num_layers
        num_res_blocks num_stages""",
    COUNT: "anneal_steps num_classes",
    between(1, 2**24): "codebook_size",
    WEIGHT: """batch_entropy_weight codebook_weight commitment_weight diveq_noise entropy_weight
        kl_weight propagation_weight regression_weight revive_threshold sample_entropy_weight
        unmasked_weight""",
    POSITIVE: "entropy_temperature epsilon final_temperature initial_temperature",
    SHARE: "class_dropout decay dropout label_smoothing token_dropout",
    ODD_KERNEL: "kernel",
    between(1, 1024): "channel_multiplier channel_multipliers",
    between(1, 2**16): "grid image_size scales",
    between(0, 512): "attention_levels",
    between(0, 16): "num_downsamples",
    NUMBER: "minibatch_group",
    between(2, 2**16): "levels",
    between(0, 1): "convolution_weight own_frames",
    between(1, 64): "context",
    between(1, 30): "bits",
    between(1, 20): "group_size",
}
RANGES: dict[str, Range] = {name: found for found, names in _RANGES.items() for name in names.split()}


def check_range(path: str, value: Any, allowed: Range) -> None:
    """Checks a number, or each number of a tuple; None is always in range.

    Args:
      path: of the field, for the message.
      value: the number, the numbers, or None.
      allowed: the range.

    Raises:
      ValueError: a number is out of its range.
    """
    for number in value if isinstance(value, tuple) else () if value is None else (value,):
        if not allowed.holds(number):
            require(False, f"{path} must {allowed.words(number)}, got {shown(value)}")


def check_ranges(instance: Any, prefix: str) -> None:
    """Checks the fields of a dataclass whose names have a range in `RANGES`.

    Args:
      instance: a linen module.
      prefix: path of the fields in messages, such as the module's name.

    Raises:
      ValueError: a field is out of its range.
    """
    for field in dataclasses.fields(instance):
        if field.name in RANGES:
            check_range(f"{prefix}.{field.name}", getattr(instance, field.name), RANGES[field.name])


def padded_frames(frames: int, stride: int) -> int:
    """Returns the least number of frames, not below the given one, that is 1 + a multiple of `stride`."""
    return 1 + -(-(frames - 1) // stride) * stride


def check_frames(path: str, frames: int, stride: int) -> None:
    """Checks the frames of a clip for a causal model, whose first code stands for the first frame alone.

    Args:
      path: of the number, for the message.
      frames: how many.
      stride: frames a code from the second code on.

    Raises:
      ValueError: they are not 1 + a multiple of the stride; the message has the nearest numbers that are.
    """
    above = padded_frames(frames, stride)
    nearest = f"{above - stride} or {above}" if above > stride else str(above)
    require(
        frames == above,
        f"{path} must be 1 + a multiple of {stride}, the first frame and groups of {stride}, got {frames}; "
        f"the nearest are {nearest}",
    )


def shown(value: Any) -> str:
    """Writes a value for a message, shortened if it is long."""
    if isinstance(value, int) and abs(value) >= 10**30:  # Python refuses to write very long ones
        return f"{'-' if value < 0 else ''}about 10^{int(math.log10(abs(value)))}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
