"""What all steps share: gradients of a batch cut into parts, and the update of a state by its gradients."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax

from vq_jax.train.optimizers import apply_gradients
from vq_jax.types import Array, Metrics, Params

State = TypeVar("State")
Gradients = Callable[[Any, Any, Array | None], tuple[Params, Any, Metrics, Any]]


def apply_update(
    optimizer: optax.GradientTransformation,
    state: State,
    grads: Params,
    *,
    loss: Array | None = None,
    ema_decay: float = 0.0,
    amend: Callable[[State], State] | None = None,
) -> tuple[State, Metrics]:
    """One update of a network's state.

    Args:
      optimizer: the chain that made the state.
      state: with `step`, `params`, `opt_state`, and `ema_params` where a running average may be kept.
      grads: laid out like the parameters.
      loss: for chains that read it.
      ema_decay: decay of the running average of the parameters, where the state keeps one. The t-th update
        uses t / (t + 9) while that is smaller, so that the average soon forgets the first parameters.
      amend: corrects the new state, before the running average follows it.

    Returns:
      The new state, and the metrics `grad_norm` and `param_norm`, float32 scalars.
    """
    old: Any = state
    params, opt_state = apply_gradients(optimizer, grads, old.params, old.opt_state, loss)
    new: Any = dataclasses.replace(
        old, step=old.step + jnp.ones((), jnp.int32), params=params, opt_state=opt_state
    )
    if amend is not None:
        new = amend(new)
    if getattr(old, "ema_params", None) is not None:
        updates = new.step.astype(jnp.float32)
        decay = jnp.minimum(ema_decay, updates / (updates + 9.0))
        average = optax.incremental_update(new.params, old.ema_params, 1.0 - decay)
        new = dataclasses.replace(new, ema_params=average)
    return new, {"grad_norm": optax.tree.norm(grads), "param_norm": optax.tree.norm(new.params)}


def accumulate_gradients(
    gradients: Gradients, params: Params, batch: Any, parts: int, carry: Any = None
) -> tuple[Params, Any, Metrics, Any]:
    """Averages the gradients of the parts of a batch, computed one after the other, for less memory.

    Args:
      gradients: function of a carry, a part of the batch and the part's number, int32 (), to gradients, the
        next carry, metrics and outputs to keep. With a single part the number is None.
      params: parameters, whose layout the gradients have.
      batch: pytree of arrays [B, ...].
      parts: how many; 1 takes the batch whole.
      carry: handed from part to part, such as batch statistics.

    Returns:
      Mean gradients, the last carry, mean metrics, and the outputs stacked: [parts, ...], to be joined by
      `join_batch`. A single part's outputs are not stacked.
    """
    if parts == 1:
        return gradients(carry, batch, None)

    def add_part(sums: tuple[Params, Any], inputs: tuple[Any, Array]) -> tuple[tuple[Params, Any], Any]:
        total, carry = sums
        grads, carry, metrics, kept = gradients(carry, *inputs)
        return (jax.tree.map(jnp.add, total, grads), carry), (metrics, kept)

    zeros = jax.tree.map(jnp.zeros_like, params)
    inputs = (split_batch(batch, parts), jnp.arange(parts, dtype=jnp.int32))
    (total, carry), (metrics, kept) = jax.lax.scan(add_part, (zeros, carry), inputs)
    grads = jax.tree.map(lambda grad: grad / parts, total)
    return grads, carry, jax.tree.map(jnp.mean, metrics), kept


def split_batch(tree: Any, parts: int) -> Any:
    """[B, ...] to [parts, B / parts, ...]; the rows of each device stay on it."""
    return jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1), tree
    )


def join_batch(tree: Any) -> Any:
    """Undoes `split_batch`."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), tree)
