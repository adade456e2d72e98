"""Ranges of numeric fields by name: one table for modules and for the configurations that build them."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from vq_jax.errors import require


class Range(NamedTuple):
    """A condition on a number and how a message states it, after "must"."""

    holds: Callable[[Any], bool]
    words: str


def at_least(minimum: float) -> Range:
    """Numbers from `minimum` up."""
    return Range(lambda value: value >= minimum, f"be at least {minimum}")


POSITIVE = Range(lambda value: value > 0, "be positive")
SHARE = Range(lambda value: 0 <= value < 1, "lie in [0, 1)")
ODD_KERNEL = Range(lambda value: value >= 3 and value % 2 == 1, "be odd and at least 3")

_COUNTS = """
channels channel_multiplier channel_multipliers code_dim codebook_size codes_per_position depth_layers grid
head_features hidden_features image_channels image_size mlp_features noise_dim num_blocks num_classes
num_heads num_latents num_layers num_res_blocks residual_channels width z_channels
"""
_WEIGHTS = """
attention_levels codebook_weight commitment_weight entropy_weight minibatch_group num_downsamples
revive_threshold unmasked_weight
"""
RANGES: dict[str, Range] = {
    **dict.fromkeys(_COUNTS.split(), at_least(1)),
    **dict.fromkeys(_WEIGHTS.split(), at_least(0)),
    **dict.fromkeys(("entropy_temperature", "epsilon"), POSITIVE),
    **dict.fromkeys(("class_dropout", "decay", "dropout", "label_smoothing", "token_dropout"), SHARE),
    "kernel": ODD_KERNEL,
    "levels": at_least(2),
}


def check_ranges(instance: Any, prefix: str, **own: Range) -> None:
    """Checks the fields of a dataclass that have a range; of a tuple, each number; None is always in range.

    Args:
      instance: a configuration or a linen module.
      prefix: path of the fields in messages, such as `model` or the module's name.
      **own: ranges of this class that differ from `RANGES`.

    Raises:
      ValueError: a field is out of its range.
    """
    ranges = {**RANGES, **own}
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if field.name not in ranges or value is None:
            continue
        holds, words = ranges[field.name]
        numbers = value if isinstance(value, tuple) else (value,)
        require(all(map(holds, numbers)), f"{prefix}.{field.name} must {words}, got {value}")
