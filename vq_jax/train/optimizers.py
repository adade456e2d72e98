"""Optax chains from the configuration, and the changes to parameters and moments that training needs."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict

from vq_jax.configs.optimizers import OptimizerConfig
from vq_jax.errors import UserError
from vq_jax.types import Array, Params


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up from zero, then constant or a cosine over `steps`.

    Raises:
      UserError: the warm-up is not shorter than the run.
    """
    if config.warmup_steps >= steps:
        raise UserError(
            f"optimizer.warmup_steps = {config.warmup_steps} must be less than the run's {steps} steps"
        )
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            init_value=0.0 if config.warmup_steps else config.learning_rate,
            peak_value=config.learning_rate,
            warmup_steps=config.warmup_steps,
            decay_steps=steps,
            end_value=config.final_ratio * config.learning_rate,
        )
    constant = optax.constant_schedule(config.learning_rate)
    if not config.warmup_steps:
        return constant
    warmup = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    return optax.join_schedules([warmup, constant], [config.warmup_steps])


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The chain of a configuration for a run of `steps` steps.

    Raises:
      UserError: the warm-up is not shorter than the run.
    """
    rate = make_schedule(config, steps)
    match config.name:
        case "adam":
            optimizer = optax.adam(rate, config.b1, config.b2)
        case "adamw":
            optimizer = optax.adamw(rate, config.b1, config.b2, weight_decay=config.weight_decay)
        case "lion":
            optimizer = optax.lion(rate, config.b1, config.b2, weight_decay=config.weight_decay)
        case "adafactor":
            optimizer = optax.adafactor(rate, weight_decay_rate=config.weight_decay or None)
        case "sgd":
            optimizer = optax.sgd(rate, momentum=config.b1)
    if config.clip_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)


def apply_gradients(
    optimizer: optax.GradientTransformation, grads: Params, params: Params, opt_state: optax.OptState
) -> tuple[Params, optax.OptState]:
    """One update of an Optax chain: the new parameters and the chain's new state."""
    # Optax mixes int32 counts with floats, which strict promotion, if the caller sets it, would refuse.
    with jax.numpy_dtype_promotion("standard"):
        deltas, opt_state = optimizer.update(grads, opt_state, params)
    updated: Params = optax.apply_updates(params, deltas)
    return updated, opt_state


def keep_frozen(
    optimizer: optax.GradientTransformation,
    trainable: tuple[str, ...],
    before: tuple[Params, optax.OptState],
    after: tuple[Params, optax.OptState],
) -> tuple[Params, optax.OptState]:
    """Undoes an update for the top-level groups of the parameters that are not `trainable`.

    Parameters and moments of these groups are exactly as before; step counts advance.
    """

    trained = {
        name: jax.tree.map(lambda _, on=name in trainable: on, group) for name, group in after[0].items()
    }
    moves = (
        trained,
        optax.tree.map_params(
            optimizer,
            lambda _, on: on,
            after[1],
            trained,
            transform_non_params=lambda _: True,
        ),
    )
    return jax.tree.map(lambda on, new, old: new if on else old, moves, after, before)


def apply_revival(
    optimizer: optax.GradientTransformation,
    params: Params,
    opt_state: optax.OptState,
    codebook: Params,
    revival: Mapping[str, Any],
) -> tuple[Params, optax.OptState, Params]:
    """Revives codes whose codebook is a parameter; to be called after the optimizer's update.

    Replaces the rows of the codebook, zeroes these rows' moments, and books the codes as revived: their
    average use becomes the one that a revived code starts from.

    Args:
      optimizer: the chain that made `opt_state`.
      params: the model's, with the quantizer's under "quantizer".
      opt_state: the chain's state.
      codebook: the model's collection "codebook", as the forward pass left it, with the quantizer's variables
        under "quantizer", among them the average use of a codebook's codes, `cluster_size` (K,), at the same
        path as the codebook but for its last name.
      revival: `nn.Revival` leaves laid out like the quantizer's parameters, `QuantizerOutput.revival`; may
        leave parameters out.

    Returns:
      The new parameters, state of the chain and collection.
    """
    if not revival:
        return params, opt_state, codebook
    revivals = flatten_dict({"quantizer": revival})
    books = {(*path[:-1], "cluster_size"): revived for path, revived in revivals.items()}

    def rows(path: tuple[Any, ...], param: Array) -> Any:
        revived = revivals.get(_names(path))
        return False if revived is None else revived.mask[:, None]

    def revive(path: tuple[Any, ...], param: Array) -> Array:
        revived = revivals.get(_names(path))
        return param if revived is None else jnp.where(revived.mask[:, None], revived.vectors, param)

    def book(path: tuple[Any, ...], variable: Array) -> Array:
        revived = books.get(_names(path))
        return variable if revived is None else jnp.where(revived.mask, revived.cluster_size, variable)

    def zero(moment: Array, dead: Any) -> Array:
        # Factored second moments (adafactor) have no rows of their own.
        if dead is False or moment.ndim != 2 or moment.shape[0] != dead.shape[0]:
            return moment
        return jnp.where(dead, jnp.zeros_like(moment), moment)

    dead = jax.tree_util.tree_map_with_path(rows, params)
    opt_state = optax.tree.map_params(optimizer, zero, opt_state, dead)
    params = jax.tree_util.tree_map_with_path(revive, params)
    return params, opt_state, jax.tree_util.tree_map_with_path(book, codebook)


def _names(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(key.key for key in path)
