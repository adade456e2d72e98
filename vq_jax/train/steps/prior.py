"""The training step of a prior over codes: a pure function. Jitted in `train.jit`."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen, struct
from jax.sharding import PartitionSpec

from vq_jax.evaluate import Likelihood
from vq_jax.nn import Condition
from vq_jax.ops.meshes import auto_axes, places_of
from vq_jax.train.optimizers import init_optimizer
from vq_jax.train.steps.update import accumulate_gradients, apply_update
from vq_jax.types import Array, Bool, Codes, Float, Int, Key, Metrics, Params


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
    vectors: Float[Array, "Q K D"] | None = None,
) -> PriorState:
    """Makes the state before the first step; pure, to be jitted with output shardings.

    Args:
      rng: key of the initial parameters.
      prior_model: a prior over codes, with `code_specs` and `num_classes`.
      optimizer: Optax chain.
      ema: keep a running average of the parameters.
      vectors: what each code adds to a latent of the tokenizer; for a prior that starts from these.
    """
    model: Any = prior_model
    labels = None if model.num_classes is None else jnp.zeros((1,), jnp.int32)
    codes = jax.tree.map(lambda spec: jnp.zeros((1, *spec.array_shape), jnp.int32), model.code_specs)
    variables: Any = model.init(rng, codes, Condition(labels))
    params = variables["params"]
    if vectors is not None:
        params = model.with_vectors(params, vectors)
    return PriorState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=init_optimizer(optimizer, params),
        # A copy: the step donates both, and a buffer cannot be donated twice.
        ema_params=jax.tree.map(jnp.copy, params) if ema else None,
    )


@auto_axes(lambda prior, *_, **__: (places_of(prior), PartitionSpec()))
def prior_step(
    prior: PriorState,
    codes: Codes,
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
      codes: of a batch of pictures: int32 arrays laid out like `prior_model.code_specs`, batch first.
      condition: what the prior is conditioned on, batch first; None for nothing.
      rng: key of this step; dropout and masks are drawn from it.
      prior_model: the network, with `loss(codes, condition, train=True) -> (loss, metrics)`.
      optimizer: the chain that made the state.
      ema_decay: decay of the running average of the parameters, if the state keeps one.
      accumulate: parts that the batch is cut into, whose gradients are averaged, for less memory.

    Returns:
      The new state and metrics: float32 scalars.
    """
    loss_function = functools.partial(_loss, prior_model, train=True)

    def gradients(carry: None, batch: Any, number: Array | None) -> Any:
        (codes, given), own_rng = batch, rng if number is None else jax.random.fold_in(rng, number)
        (_, metrics), grads = jax.value_and_grad(loss_function, has_aux=True)(
            prior.params, codes, Condition(**given), own_rng
        )
        return grads, carry, metrics, None

    batch = (codes, _fields(condition))
    grads, _, metrics, _ = accumulate_gradients(gradients, prior.params, batch, accumulate)
    new, norms = apply_update(optimizer, prior, grads, loss=metrics["loss"], ema_decay=ema_decay)
    return new, metrics | norms


@auto_axes(lambda *_, **__: PartitionSpec())
def prior_evaluation(
    params: Params,
    codes: Codes,
    condition: Condition | None,
    valid: Bool[Array, " B"],
    rng: Key[Array, ""],
    *,
    prior_model: linen.Module,
) -> Metrics:
    """Sums of loss and metrics over the valid pictures of a batch, each evaluated alone; changes nothing.

    Where the loss draws masks, picture i draws them with `fold_in(rng, i)`.

    Args:
      params: the prior's.
      codes: of a batch of pictures: int32 arrays laid out like `prior_model.code_specs`, batch first.
      condition: what the prior is conditioned on, batch first; None for nothing.
      valid: which pictures count.
      rng: key of this batch.
      prior_model: the network.

    Returns:
      The state of `evaluate.Likelihood` after this batch: sums by name, float32 scalars.
    """

    def one(codes: Codes, given: dict[str, Any], number: Array) -> Metrics:
        codes, given = jax.tree.map(lambda x: x[None], (codes, given))
        own_rng = jax.random.fold_in(rng, number)
        return _loss(prior_model, params, codes, Condition(**given), own_rng, train=False)[1]

    metrics = jax.vmap(one)(codes, _fields(condition), jnp.arange(valid.shape[0], dtype=jnp.int32))
    evaluator = Likelihood()
    return evaluator.update(evaluator.init(), {"valid": valid}, metrics)


def _fields(condition: Condition | None) -> dict[str, Any]:
    """A condition's fields, as a dictionary: their axes change where a batch is split."""
    condition = Condition() if condition is None else condition
    return {field.name: getattr(condition, field.name) for field in dataclasses.fields(condition)}


def _loss(
    model: linen.Module,
    params: Params,
    codes: Codes,
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
