"""The training step of a prior over codes: a pure function. Jitted in `sharding`."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen, struct

from vq_jax.nn import Condition
from vq_jax.train.optimizers import apply_gradients
from vq_jax.train.steps.tokenizer import split_batch
from vq_jax.types import Array, Bool, Int, Key, Metrics, Params


@struct.dataclass
class PriorState:
    """State of a prior."""

    step: Int[Array, ""]  # int32: updates made
    params: Params  # float32
    opt_state: optax.OptState
    ema_params: Params | None  # running average of params; None: not kept

    @property
    def eval_params(self) -> Params:
        """The parameters to evaluate with: their running average where there is one."""
        return self.params if self.ema_params is None else self.ema_params


def init_prior(
    rng: Key[Array, ""],
    *,
    prior_model: linen.Module,
    optimizer: optax.GradientTransformation,
    ema: bool = False,
) -> PriorState:
    """Makes the state before the first step; pure, to be jitted with output shardings.

    Args:
      rng: key of the initial parameters.
      prior_model: a prior over codes, with `code_shape` and `num_classes`.
      optimizer: Optax chain.
      ema: keep a running average of the parameters.
    """
    model: Any = prior_model
    labels = None if model.num_classes is None else jnp.zeros((1,), jnp.int32)
    variables: Any = model.init(rng, jnp.zeros((1, *model.code_shape), jnp.int32), Condition(labels))
    params = variables["params"]
    return PriorState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        # A copy: the step donates both, and one buffer cannot be given away twice.
        ema_params=jax.tree.map(jnp.copy, params) if ema else None,
    )


def prior_step(
    prior: PriorState,
    codes: Int[Array, "B ..."],
    condition: Condition | None,
    rng: Key[Array, ""],
    *,
    prior_model: linen.Module,
    optimizer: optax.GradientTransformation,
    ema_decay: float = 0.0,
    accumulate: int = 1,
) -> tuple[PriorState, Metrics]:
    """One update of a prior.

    Args:
      prior: state; its buffers may be donated.
      codes: of a batch of pictures, int32 [B, *prior_model.code_shape].
      condition: what the prior is told beside them, batch first; None for nothing.
      rng: key of this step; dropout and masks are drawn from it.
      prior_model: the network, with `loss(codes, condition, train=True) -> (loss, metrics)`.
      optimizer: the chain that made the state.
      ema_decay: of the running average of the parameters, if the state keeps one.
      accumulate: parts that the batch is cut into, whose gradients are averaged, for less memory.

    Returns:
      The new state and metrics: float32 scalars.
    """
    gradients = jax.value_and_grad(
        lambda params, codes, condition, rng: _loss(prior_model, params, codes, condition, rng, train=True),
        has_aux=True,
    )
    if accumulate == 1:
        (_, metrics), grads = gradients(prior.params, codes, condition, rng)
    else:

        def part(total: Params, inputs: tuple[Any, Array]) -> tuple[Params, Metrics]:
            (codes, told), number = inputs
            part_rng = jax.random.fold_in(rng, number)
            (_, metrics), grads = gradients(prior.params, codes, Condition(**told), part_rng)
            return jax.tree.map(jnp.add, total, grads), metrics

        zeros = jax.tree.map(jnp.zeros_like, prior.params)
        parts = split_batch((codes, _parts(condition)), accumulate)
        total, metrics = jax.lax.scan(part, zeros, (parts, jnp.arange(accumulate)))
        grads = jax.tree.map(lambda grad: grad / accumulate, total)
        metrics = jax.tree.map(jnp.mean, metrics)

    params, opt_state = apply_gradients(optimizer, grads, prior.params, prior.opt_state)
    ema_params = prior.ema_params
    if ema_params is not None:
        ema_params = optax.incremental_update(params, ema_params, 1.0 - ema_decay)
    metrics["grad_norm"] = optax.tree.norm(grads)
    metrics["param_norm"] = optax.tree.norm(params)
    return PriorState(prior.step + jnp.ones((), jnp.int32), params, opt_state, ema_params), metrics


def prior_evaluation(
    params: Params,
    codes: Int[Array, "B ..."],
    condition: Condition | None,
    valid: Bool[Array, " B"],
    rng: Key[Array, ""],
    *,
    prior_model: linen.Module,
) -> Metrics:
    """Sums of loss and metrics over the valid grids of a batch, each grid by itself; changes nothing.

    Where the loss draws masks, grid i draws them with `fold_in(rng, i)`.
    """

    def one(codes: Array, told: dict[str, Any], number: Array) -> Metrics:
        codes, told = jax.tree.map(lambda x: x[None], (codes, told))
        own_rng = jax.random.fold_in(rng, number)
        return _loss(prior_model, params, codes, Condition(**told), own_rng, train=False)[1]

    metrics = jax.vmap(one)(codes, _parts(condition), jnp.arange(codes.shape[0]))
    return {name: jnp.sum(jnp.where(valid, value, 0.0)) for name, value in metrics.items()}


def _parts(condition: Condition | None) -> dict[str, Any]:
    """A condition's fields, whose axes may differ on the way."""
    condition = Condition() if condition is None else condition
    return {field.name: getattr(condition, field.name) for field in dataclasses.fields(condition)}


def _loss(
    model: linen.Module,
    params: Params,
    codes: Array,
    condition: Condition | None,
    rng: Array,
    *,
    train: bool,
) -> tuple[Array, Metrics]:
    mask_rng, dropout_rng = jax.random.split(rng)
    result: Any = model.apply(
        {"params": params},
        codes,
        condition,
        train=train,
        method="loss",
        rngs={"mask": mask_rng, "dropout": dropout_rng},
    )
    loss, metrics = result
    return loss, {"loss": loss, **metrics}
