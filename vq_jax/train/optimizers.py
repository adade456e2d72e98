"""Optax chains from the configuration, and the changes to parameters and moments that training needs."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict

from vq_jax.configs.optimizers import OptimizerConfig
from vq_jax.errors import UserError
from vq_jax.types import Array, Params

Path = tuple[Any, ...]


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


def init_optimizer(optimizer: optax.GradientTransformation, params: Params) -> optax.OptState:
    """The state of an Optax chain before the first update."""
    with _standard_promotion():
        return optimizer.init(params)


def apply_gradients(
    optimizer: optax.GradientTransformation,
    grads: Params,
    params: Params,
    opt_state: optax.OptState,
    loss: Array | None = None,
) -> tuple[Params, optax.OptState]:
    """One update of an Optax chain: the new parameters and the chain's new state.

    The chain also gets the loss, as the argument `value`, for those that read it, such as
    `optax.contrib.reduce_on_plateau`.
    """
    with _standard_promotion():
        chain = optax.with_extra_args_support(optimizer)
        deltas, opt_state = chain.update(grads, opt_state, params, value=loss)
        updated: Params = optax.apply_updates(params, deltas)
    return updated, opt_state


@contextlib.contextmanager
def _standard_promotion() -> Iterator[None]:
    # Optax mixes int32 counts with floats, and scalars with arrays, which a caller may have forbidden.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def keep_frozen(
    trainable: tuple[str, ...],
    before: tuple[Params, optax.OptState],
    after: tuple[Params, optax.OptState],
) -> tuple[Params, optax.OptState]:
    """Undoes an update for the top-level groups of the parameters that are not `trainable`.

    Parameters of these groups, and what the chain keeps for them, are exactly as before; step counts advance.
    """
    owners = _owners(after[0])

    def choose(path: Path, new: Any, old: Any) -> Any:
        owner = owners(path)
        return old if owner is not None and owner[0] not in trainable else new

    return jax.tree_util.tree_map_with_path(choose, after, before)


def apply_revival(
    optimizer: optax.GradientTransformation,
    params: Params,
    opt_state: optax.OptState,
    codebook: Params,
    revival: Mapping[str, Any],
) -> tuple[Params, optax.OptState, Params]:
    """Revives codes whose codebook is a parameter; to be called after the optimizer's update.

    Replaces the rows of the codebook, makes these rows of what the optimizer keeps, such as its moments, what
    they were before the first update, and books the codes as revived: their average use becomes the one that
    a revived code starts from.

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

    def revive(path: Path, param: Array) -> Array:
        revived = revivals.get(_names(path))
        return param if revived is None else jnp.where(revived.mask[:, None], revived.vectors, param)

    def book(path: Path, variable: Array) -> Array:
        revived = books.get(_names(path))
        return variable if revived is None else jnp.where(revived.mask, revived.cluster_size, variable)

    params = jax.tree_util.tree_map_with_path(revive, params)
    owners = _owners(params)

    def restart(path: Path, kept: Any, first: Any) -> Any:
        revived = revivals.get(owners(path) or ())
        # Factored second moments (adafactor) have no rows of their own.
        if revived is None or jnp.shape(kept) != revived.vectors.shape:
            return kept
        return jnp.where(revived.mask[:, None], first, kept)

    first = init_optimizer(optimizer, params)
    opt_state = jax.tree_util.tree_map_with_path(restart, opt_state, first)
    return params, opt_state, jax.tree_util.tree_map_with_path(book, codebook)


def _owners(params: Params) -> Callable[[Path], tuple[str, ...] | None]:
    """Returns a function from the path of an array that a chain keeps to the path of its parameter.

    Chains keep trees laid out like the parameters, or parts of such trees where they are masked: the path of
    such an array ends with the path of its parameter, whatever the chain has around it.
    """
    known = {_names(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}

    def owner(path: Path) -> tuple[str, ...] | None:
        names = _names(path)
        return next((names[start:] for start in range(len(names)) if names[start:] in known), None)

    return owner


def _names(path: Path) -> tuple[str, ...]:
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)
