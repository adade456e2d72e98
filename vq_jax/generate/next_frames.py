"""Sampling of clips frame by frame: each frame's codes are drawn, decoded, and seen by the next."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from vq_jax.configs.sampling import MaskedOptions
from vq_jax.generate.common import check_labels, doubled, fold_in, shard, with_null
from vq_jax.generate.masked import sample_masked
from vq_jax.generate.options import TracedOptions, trace_options
from vq_jax.nn import ClosedLoopVQModel, Condition, NextFrameCNN, Past
from vq_jax.ops.meshes import auto_axes
from vq_jax.types import Array, Int, Key, Params

DEFAULTS = MaskedOptions()


def sample_frames(
    model: NextFrameCNN,
    variables: Params,
    rng: Key[Array, "*R"],
    condition: Condition | None = None,
    *,
    tokenizer_model: ClosedLoopVQModel,
    tokenizer_variables: Params,
    num: int | None = None,
    options: MaskedOptions | TracedOptions = DEFAULTS,
    sharding: NamedSharding | None = None,
) -> Int[Array, "B T *s"]:
    """Draws the codes of new clips, as long as the prior's grid.

    Args:
      model: the prior.
      variables: its parameters.
      rng: key, or one for each clip [B]; the same key and arguments give the same codes.
      condition: labels int32 [B]; None for an unconditional prior.
      tokenizer_model: decodes the frames.
      tokenizer_variables: variables of the tokenizer.
      num: clips to draw, B; that of the condition when absent.
      options: of masked sampling, for each frame by itself.
      sharding: of the batch over a mesh.

    Returns:
      int32 codes [B, *model.code_shape].

    Raises:
      ValueError: a label or an option does not fit the model.
    """
    traced = trace_options(options, MaskedOptions)
    batch = check_labels(model, condition, num, None, guided=traced.guided)
    both = (variables, tokenizer_variables)
    networks = (model, tokenizer_model)
    return _draw_frames(networks, batch, model.grid[0], sharding, both, rng, condition, traced, None)


def continue_frames(
    model: NextFrameCNN,
    variables: Params,
    rng: Key[Array, "*R"],
    condition: Condition | None,
    codes: Int[Array, "B T *s"],
    frames: int,
    *,
    tokenizer_model: ClosedLoopVQModel,
    tokenizer_variables: Params,
    options: MaskedOptions | TracedOptions = DEFAULTS,
    sharding: NamedSharding | None = None,
) -> Int[Array, "B T2 *s"]:
    """Draws the codes of the frames that follow those of given codes; the other arguments as `sample_frames`.

    Args:
      model: the prior.
      variables: its parameters.
      rng: key, or one for each clip [B].
      condition: labels int32 [B]; None for an unconditional prior.
      codes: int32, of the first frames, [B, T, h, w] or [B, T, h, w, Q] of any T.
      frames: to draw, at least 1.
      tokenizer_model: decodes the frames.
      tokenizer_variables: variables of the tokenizer.
      options: of masked sampling, for each frame by itself.
      sharding: of the batch over a mesh.

    Returns:
      int32 codes [B, frames, ...]: the new ones alone.

    Raises:
      ValueError: a shape, a label or an option does not fit the model.
    """
    if codes.shape[2:] != model.code_shape[1:] or not jnp.issubdtype(codes.dtype, jnp.integer):
        raise ValueError(
            f"expected integer codes of frames [B, T, {', '.join(map(str, model.code_shape[1:]))}], got "
            f"{codes.dtype} {list(codes.shape)}"
        )
    if frames < 1:
        raise ValueError(f"expected at least 1 frame to draw, got {frames}")
    traced = trace_options(options, MaskedOptions)
    batch = check_labels(model, condition, None, codes, guided=traced.guided)
    both = (variables, tokenizer_variables)
    networks = (model, tokenizer_model)
    return _draw_frames(networks, batch, frames, sharding, both, rng, condition, traced, codes)


@auto_axes(lambda *_: PartitionSpec())
@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _draw_frames(
    networks: tuple[NextFrameCNN, ClosedLoopVQModel],
    batch: int,
    count: int,
    sharding: NamedSharding | None,
    both: tuple[Params, Params],
    rng: Array,
    condition: Condition | None,
    options: TracedOptions,
    given: Array | None,
) -> Array:
    (model, tokenizer_model), (variables, tokenizer_variables) = networks, both
    condition = with_null(model, condition, options.guided)
    shape = (batch, *model.frame_specs.array_shape)

    def after(state: tuple[Past, Array], codes: Array) -> tuple[tuple[Past, Array], Array]:
        past, previous = state
        frame: Any = tokenizer_model.apply(tokenizer_variables, codes, previous, method="decode_next")
        view: Any = tokenizer_model.apply(tokenizer_variables, codes, frame, method="view_next")
        return (past.followed_by(codes, view), frame), codes

    def draw(state: tuple[Past, Array], number: Array) -> tuple[tuple[Past, Array], Array]:
        past = Past(*(doubled(x, options.guided) for x in state[0]))

        def logits_of(codes: Array, mask: Array) -> Array:
            logits: Any = model.apply(variables, codes, past, condition, mask=mask, method="of_frame")
            return logits

        rngs = fold_in(rng, number)
        codes: Any = sample_masked(logits_of, rngs, shape, options=options, sharding=sharding)
        return after(state, codes)

    start = (model.no_past(batch), tokenizer_model.no_frames(batch, model.grid[1:]))
    state = jax.tree.map(lambda x: shard(x, sharding), start)
    if given is not None:
        state, _ = jax.lax.scan(after, state, given.astype(jnp.int32).swapaxes(0, 1))
    first = 0 if given is None else given.shape[1]
    _, codes = jax.lax.scan(draw, state, jnp.arange(first, first + count, dtype=jnp.int32))
    return shard(codes.swapaxes(0, 1), sharding)


def adapt_frame_steps(options: MaskedOptions, model: NextFrameCNN) -> MaskedOptions:
    """Lowers the steps to the number of codes of a frame: a step decides at least one."""
    return dataclasses.replace(options, steps=min(options.steps, math.prod(model.frame_specs.array_shape)))
