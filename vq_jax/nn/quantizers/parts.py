"""What the quantizers that are made of others share: their codes, metrics and revivals in one."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.quantizers.base import QuantizerOutput
from vq_jax.types import Array, CodeSpec, Float, Int, Metrics

OUTPUT_GRADIENTS = ("stages", "whole")
_COUNTS = ("revived",)  # metrics that add up over the parts
_STAGES = 0x57A6E5  # tells the draw of stages from what else a key is used for


def spec_of_parts(quantizer: nn.Module, latent_shape: tuple[int, ...], num_parts: int, name: str) -> CodeSpec:
    """Returns the spec of the codes of `num_parts` quantizers of one kind at the same positions.

    Args:
      quantizer: one of them.
      latent_shape: shape (*s, D) of the latents of one.
      num_parts: how many they are.
      name: the wrapper's, for the message.

    Raises:
      ValueError: the quantizer gives several grids.
    """
    inner: Any = quantizer
    spec = inner.code_spec(latent_shape)
    if not isinstance(spec, CodeSpec):
        raise ValueError(
            f"{name} expected a quantizer with one grid of codes, got {type(quantizer).__name__}, which has "
            f"{len(spec)}: use it without {name}"
        )
    return CodeSpec(spec.shape, spec.codebook_size, num_parts * spec.codes_per_position)


def join_codes(codes: Sequence[Int[Array, "..."]], depth: int) -> Int[Array, "..."]:
    """Joins the codes of the parts along the last axis, those of the first part first.

    Args:
      codes: of each part, [B, *S], or [B, *S, depth] if a part has several codes per position.
      depth: codes per position of a part.

    Returns:
      [B, *S, len(codes) * depth]; [B, *S] where that is one code per position.
    """
    if depth > 1:
        return jnp.concatenate(list(codes), axis=-1)
    return jnp.stack(list(codes), axis=-1) if len(codes) > 1 else codes[0]


def check_codes(codes: Int[Array, "..."], expected: int, name: str) -> None:
    """Raises ValueError where codes do not have the `expected` number per position, if it is above one."""
    if expected > 1 and (codes.ndim == 0 or codes.shape[-1] != expected):
        raise ValueError(
            f"{name} expected {expected} codes per position, along the last axis, got codes of shape "
            f"{codes.shape}: were they made by another quantizer?"
        )


def split_codes(codes: Int[Array, "..."], num_parts: int, depth: int) -> list[Int[Array, "..."]]:
    """Undoes `join_codes`."""
    if num_parts == 1:
        return [codes]
    if depth == 1:
        return [codes[..., part] for part in range(num_parts)]
    return [codes[..., part * depth : (part + 1) * depth] for part in range(num_parts)]


def join_metrics(parts: Sequence[Metrics], depth: int) -> Metrics:
    """Joins the metrics of the parts.

    Each stands under its own name as the mean over the parts, the counts of revived codes as their sum; and
    with the number of the code in its position, such as `usage/0`, for each code of a position that has
    several.

    Args:
      parts: metrics of each part, by the same names.
      depth: codes per position of a part.
    """
    joined: Metrics = {}
    for name in (name for name in parts[0] if "/" not in name):
        total = sum((part[name] for part in parts[1:]), parts[0][name])
        joined[name] = total if name in _COUNTS else total / len(parts)
        if depth == 1:
            each = [part[name] for part in parts]
        else:
            each = [part[f"{name}/{q}"] for part in parts for q in range(depth)]
        if len(each) > 1:
            joined |= {f"{name}/{number}": value for number, value in enumerate(each)}
    return joined


def join_revivals(parts: Sequence[QuantizerOutput], prefix: str) -> dict[str, Any]:
    """Returns the revivals of the parts, by the names `prefix`_0, `prefix`_1 ... of their variables."""
    return {f"{prefix}_{number}": part.revival for number, part in enumerate(parts) if part.revival}


def check_stages(module: nn.Module, num_stages: int, min_stages: int | None) -> None:
    """Raises ValueError where a residual quantizer shall keep more stages than it has."""
    if min_stages is not None and min_stages > num_stages:
        raise ValueError(
            f"{type(module).__name__}.min_stages must be at most num_stages = {num_stages}, got {min_stages}"
        )


def check_gradient(module: nn.Module, gradient: str) -> None:
    """Raises ValueError where the gradient of a residual quantizer's output is none of those there are."""
    if gradient not in OUTPUT_GRADIENTS:
        raise ValueError(
            f"{type(module).__name__}.output_gradient must be one of {', '.join(OUTPUT_GRADIENTS)}, got "
            f"{gradient!r}"
        )


def draw_stages(module: nn.Module, num_stages: int, min_stages: int | None) -> Int[Array, ""] | None:
    """Draws how many stages count in this training step; None for all.

    The draw depends on nothing but the key of the rng stream `quantizer` that `apply` was given, so that all
    residual quantizers of a model draw the same number, as the groups of a `GroupedQuantizer` need.

    Raises:
      ValueError: there is no such key.
    """
    if min_stages is None or min_stages == num_stages or module.is_initializing():
        return None
    streams = module.scope.rngs if module.scope is not None else {}
    stream = streams.get("quantizer", streams.get("params"))
    if stream is None:
        raise ValueError(
            f"{type(module).__name__} draws how many stages count (min_stages = {min_stages}) and needs a "
            'key for it: give rngs={"quantizer": key} to apply'
        )
    rng = jax.random.fold_in(stream.clear_suffix().as_jax_rng(), _STAGES)
    return jax.random.randint(rng, (), min_stages, num_stages + 1, jnp.int32)


def split_stages(codes: Int[Array, "..."], num_stages: int, depth: int, name: str) -> list[Int[Array, "..."]]:
    """Splits the codes of a residual quantizer, or of its first stages only, by stages.

    Args:
      codes: [B, *S, n * depth] of the first n stages; [B, *S] where there is one code per position.
      num_stages: how many stages the quantizer has.
      depth: codes per position of a stage.
      name: the quantizer's, for the message.

    Raises:
      ValueError: there are codes of more stages, or of none, or of a part of one.
    """
    if num_stages * depth == 1:
        return [codes]
    count = codes.shape[-1] if codes.ndim else 0
    if not 0 < count <= num_stages * depth or count % depth:
        raise ValueError(
            f"{name} has {num_stages} stages and expected codes [B, ..., {num_stages * depth}], or of fewer "
            f"stages, got codes of shape {codes.shape}: leave out the last ones, codes[..., :n]"
        )
    return [codes[..., n : n + depth] if depth > 1 else codes[..., n] for n in range(0, count, depth)]


def first_stages(codes: Int[Array, "..."], stages: int, num_stages: int, depth: int) -> Int[Array, "..."]:
    """Returns the codes of the first stages, given those of all, in the form that `split_stages` takes."""
    return codes if num_stages * depth == 1 else codes[..., : stages * depth]


def add_stages(
    z: Float[Array, "B *S D"],
    stages: Sequence[QuantizerOutput],
    kept: Int[Array, ""] | None,
    gradient: str,
) -> tuple[Float[Array, "B *S D"], Float[Array, ""]]:
    """Returns the sums of the stages' vectors and losses.

    Args:
      z: latents.
      stages: the output of each stage.
      kept: how many stages count; None for all.
      gradient: `stages` or `whole`, see `ResidualQuantizer`.
    """
    total, loss = jnp.zeros_like(z), jnp.zeros((), jnp.float32)
    for number, stage in enumerate(stages):
        vectors, part = stage.quantized, stage.loss
        if kept is not None:
            vectors, part = (jnp.where(number < kept, x, jnp.zeros_like(x)) for x in (vectors, part))
        total, loss = total + vectors, loss + part
    return ops.straight_through(z, total) if gradient == "whole" else total, loss
