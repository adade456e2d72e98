"""Autoregressive sampling: codes one after the other in raster order, in one compiled loop."""

import functools
import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from vq_jax.configs.sampling import SamplingOptions
from vq_jax.generate.common import check_known, check_labels, doubled, fold_in, of_rows, shard, with_null
from vq_jax.generate.options import TracedOptions, trace_options
from vq_jax.nn.priors import GPT, Condition, PixelCNN
from vq_jax.ops.meshes import auto_axes
from vq_jax.types import Array, Bool, Float, Int, Key, Params


@runtime_checkable
class Step(Protocol):
    """Logits of the next code.

    Called with its state (caches, or any other pytree of arrays), the codes int32 [R] before `position`,
    which are without meaning at position 0, and the position, int32 (). Returns logits [R, K] and the new
    state, of the same shapes. R is the batch B, or 2 B with guidance: the second half must be computed
    without the condition.
    """

    def __call__(self, state: Any, previous: Array, position: Array) -> tuple[Array, Any]: ...


DEFAULTS = SamplingOptions()
# logits [R, K] and depth to codes [R], the same in both halves of a doubled batch
_Pick = Callable[[Array, int], Array]


def sample_autoregressive(
    step: Step,
    state: Any,
    rng: Key[Array, "*R"],
    shape: tuple[int, ...],
    *,
    options: SamplingOptions | TracedOptions = DEFAULTS,
    codes: Int[Array, "B *s"] | None = None,
    known: Bool[Array, "B *s"] | None = None,
    sharding: NamedSharding | None = None,
) -> Int[Array, "B *s"]:
    """Draws grids of codes from any function that gives the logits of the next code.

    One `jax.lax.scan` over the positions, whose carry is the state: caches in it are updated in place.
    Pure; call it under `jit`.

    Args:
      step: see `Step`.
      state: its first state, for R grids.
      rng: key, or one for each grid [B]; position i draws with `fold_in(rng, i)`.
      shape: of the codes, batch first.
      options: temperature, filters and guidance; those of `trace_options` may hold traced numbers.
      codes: int32, given codes where `known` is true.
      known: positions that keep their given codes, which later ones then depend on.
      sharding: of the codes, over a mesh; the state should be spread in the same way.

    Returns:
      int32 codes.

    Raises:
      ValueError: codes and known are not both given or not of `shape`.
    """

    def positions_step(state: Any, previous: Array, position: Array, pick: _Pick) -> tuple[Array, Any]:
        logits, state = step(state, previous[:, 0], position)
        return pick(logits, 0)[:, None], state

    check_known(shape, codes, known)
    return _scan(positions_step, state, rng, shape, 1, trace_options(options), codes, known, sharding)


def uncached_step(logits_of: Callable[[Array], Array], grid: tuple[int, ...], rows: int) -> tuple[Step, Any]:
    """Makes a step and its first state from a function of whole grids, called again for every position.

    Args:
      logits_of: codes int32 [R, *s] to logits [R, *s, K]; those of a position must not depend on codes
        at or after it in raster order.
      grid: lengths *s.
      rows: R, see `Step`.
    """
    total = math.prod(grid)

    def step(state: Array, previous: Array, position: Array) -> tuple[Array, Array]:
        written = jax.lax.dynamic_update_slice_in_dim(state, previous[:, None], position - 1, axis=1)
        state = jnp.where(position > 0, written, state)
        logits = logits_of(state.reshape(rows, *grid)).reshape(rows, total, -1)
        return jax.lax.dynamic_index_in_dim(logits, position, axis=1, keepdims=False), state

    return step, jnp.zeros((rows, total), jnp.int32)


def _scan(
    step: Callable[[Any, Array, Array, _Pick], tuple[Array, Any]],
    state: Any,
    rng: Array,
    shape: tuple[int, ...],
    depth: int,
    options: TracedOptions,
    codes: Array | None,
    known: Array | None,
    sharding: NamedSharding | None,
) -> Array:
    """The loop over positions; `depth` codes are picked at each, in turn."""
    batch, total = shape[0], math.prod(shape[1:]) // depth
    xs: tuple[Array, ...] = (jnp.arange(total, dtype=jnp.int32),)
    if codes is not None and known is not None:
        # positions first, to be read one by one
        xs += tuple(
            given.reshape(batch, total, depth).transpose(1, 2, 0)
            for given in (codes.astype(jnp.int32), known)
        )

    def body(carry: tuple[Any, Array], x: tuple[Array, ...]) -> tuple[tuple[Any, Array], Array]:
        position = x[0]
        step_rng = fold_in(rng, position)
        progress = position.astype(jnp.float32) / max(total - 1, 1)

        def pick(logits: Float[Array, "R K"], q: int) -> Int[Array, " R"]:
            drawn = options.draw(fold_in(step_rng, q), options.guide(logits, progress))
            if len(x) == 3:
                drawn = jnp.where(x[2][q], x[1][q], drawn)
            return doubled(drawn, options.guided)

        picked, state = step(*carry, position, pick)
        return (state, picked), picked[:batch]

    rows = batch * (2 if options.guided else 1)
    previous = shard(jnp.zeros((rows, depth), jnp.int32), sharding)
    _, drawn = jax.lax.scan(body, (state, previous), xs)
    return shard(drawn.swapaxes(0, 1).reshape(shape), sharding)


def sample_gpt(
    model: GPT,
    variables: Params,
    rng: Key[Array, "*R"],
    condition: Condition | None = None,
    *,
    num: int | None = None,
    options: SamplingOptions | TracedOptions = DEFAULTS,
    codes: Int[Array, "B ..."] | None = None,
    known: Bool[Array, "B ..."] | None = None,
    sharding: NamedSharding | None = None,
) -> Int[Array, "B ..."]:
    """Draws grids of codes from a GPT, compiled once for each batch size and kind of options.

    Layers are unrolled, each with a preallocated cache of keys and values; guidance computes conditional
    and unconditional logits in one batch.

    Args:
      model: the prior.
      variables: its parameters.
      rng: key, or one for each grid [B]; the same key and arguments give the same codes.
      condition: labels int32 [B]; None for an unconditional prior.
      num: grids to draw, B; that of the condition or the codes when absent.
      options: temperature, filters and guidance.
      codes: int32 [B, *model.code_shape], given codes where `known` is true.
      known: bool of the same shape; positions that keep their given codes.
      sharding: of the batch over a mesh.

    Returns:
      int32 codes [B, *s], or [B, *s, Q] with several codes a position.

    Raises:
      ValueError: a shape, a label or an option does not fit the model: guidance needs a prior trained
        with class dropout.
    """
    traced = trace_options(options, SamplingOptions)
    batch = check_labels(model, condition, num, codes, guided=traced.guided)
    check_known((batch, *model.code_shape), codes, known)
    return _sample_gpt(model, batch, sharding, variables, rng, condition, traced, codes, known)


@auto_axes(lambda *_: PartitionSpec())
@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _sample_gpt(
    model: GPT,
    batch: int,
    sharding: NamedSharding | None,
    variables: Params,
    rng: Array,
    condition: Condition | None,
    options: TracedOptions,
    codes: Array | None,
    known: Array | None,
) -> Array:
    condition = with_null(model, condition, options.guided)
    rows = batch * (2 if options.guided else 1)
    weights = model.sampling_weights(variables)

    def step(caches: Any, previous: Array, position: Array, pick: _Pick) -> tuple[Array, Any]:
        out: Any = model.apply(variables, weights, previous, position, condition, caches, method="step")
        hidden, caches = out
        depth_caches = model.init_depth_caches(rows)
        chosen: list[Array] = []
        for q in range(model.codes_per_position):
            before = chosen[-1] if chosen else None
            out = model.apply(variables, weights, hidden, q, before, depth_caches, method="step_logits")
            logits, depth_caches = out
            chosen.append(pick(logits, q))
        return jnp.stack(chosen, axis=1), caches

    caches = jax.tree.map(lambda cache: shard(cache, sharding), model.init_caches(rows))
    shape, depth = (batch, *model.code_shape), model.codes_per_position
    return _scan(step, caches, rng, shape, depth, options, codes, known, sharding)


def sample_pixelcnn(
    model: PixelCNN,
    variables: Params,
    rng: Key[Array, "*R"],
    condition: Condition | None = None,
    *,
    num: int | None = None,
    options: SamplingOptions | TracedOptions = DEFAULTS,
    codes: Int[Array, "B *s"] | None = None,
    known: Bool[Array, "B *s"] | None = None,
    sharding: NamedSharding | None = None,
) -> Int[Array, "B *s"]:
    """Draws grids of codes from a PixelCNN, which computes the whole grid again for every code.

    Arguments, result and errors are those of `sample_gpt`; codes are int32 [B, *model.grid].
    """
    traced = trace_options(options, SamplingOptions)
    batch = check_labels(model, condition, num, codes, guided=traced.guided)
    check_known((batch, *model.grid), codes, known)
    return _sample_pixelcnn(model, batch, sharding, variables, rng, condition, traced, codes, known)


@auto_axes(lambda *_: PartitionSpec())
@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _sample_pixelcnn(
    model: PixelCNN,
    batch: int,
    sharding: NamedSharding | None,
    variables: Params,
    rng: Array,
    condition: Condition | None,
    options: TracedOptions,
    codes: Array | None,
    known: Array | None,
) -> Array:
    condition = with_null(model, condition, options.guided)

    def logits_of(codes: Array) -> Array:
        logits: Any = model.apply(variables, codes, condition)
        return logits

    step, state = uncached_step(logits_of, model.grid, batch * (2 if options.guided else 1))
    return sample_autoregressive(
        step,
        shard(state, sharding),
        rng,
        (batch, *model.grid),
        options=options,
        codes=codes,
        known=known,
        sharding=sharding,
    )


def fill_autoregressive(
    sample: Callable[..., Array],
    model: Any,
    variables: Params,
    rng: Key[Array, "*R"],
    condition: Condition | None,
    codes: Int[Array, "B ..."],
    known: Bool[Array, "B ..."],
    *,
    options: SamplingOptions | TracedOptions,
    candidates: int,
) -> Int[Array, "B ..."]:
    """Draws the codes that are not known from a prior that sees only the codes before a position.

    Several candidates are drawn for each grid. One of them is then drawn with a weight: the probability of
    the known codes given all codes before them (sampling importance resampling).

    Args:
      sample: the prior's sampler, such as `sample_gpt`.
      model: the prior.
      variables: its parameters.
      rng: key, or one for each grid [B].
      condition: labels int32 [B]; None for an unconditional prior.
      codes: int32 [B, *model.code_shape]; without meaning where not known.
      known: bool of the same shape.
      options: temperature, filters and guidance.
      candidates: for each grid, at least 1.

    Returns:
      int32 of the shape of the codes.

    References:
      Rubin 1988, Using the SIR algorithm to simulate posterior distributions, Bayesian Statistics 3.
    """
    sample_rng, choice_rng = jnp.moveaxis(of_rows(jax.random.split, rng), -1, 0)

    def repeat(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.repeat(x, candidates, axis=0), tree)

    many, many_known, many_condition = repeat((codes, known, condition))
    if rng.ndim and candidates > 1:
        sample_rng = jax.vmap(lambda key: jax.random.split(key, candidates))(sample_rng).reshape(-1)
    drawn = sample(
        model, variables, sample_rng, many_condition, options=options, codes=many, known=many_known
    )
    if candidates == 1:
        return drawn
    logits: Any = jax.jit(model.apply)(variables, drawn, many_condition)
    log_p = jax.nn.log_softmax(logits, axis=-1)
    of_codes = jnp.take_along_axis(log_p, drawn[..., None], axis=-1)[..., 0]
    weights = jnp.where(many_known, of_codes, 0.0).reshape(codes.shape[0], candidates, -1).sum(-1)
    choice = of_rows(jax.random.categorical, choice_rng, weights)
    return drawn.reshape(codes.shape[0], candidates, *codes.shape[1:])[jnp.arange(codes.shape[0]), choice]
