"""The jitted steps: each pure step of `train.steps` over a mesh."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import optax
from flax import linen
from jax.sharding import Mesh, NamedSharding

from vq_jax.configs.losses import Losses
from vq_jax.configs.restorers import RestorationLosses
from vq_jax.configs.training import PhaseKind
from vq_jax.nn import Condition, NoiseGenerator, RegressorModel, RestorerModel, VQModel
from vq_jax.runs.telemetry import count_flops
from vq_jax.train.sharding import batch_sharding, replicated, state_sharding
from vq_jax.train.state import TrainState
from vq_jax.train.steps.discriminator import discriminator_step
from vq_jax.train.steps.noise import noise_step
from vq_jax.train.steps.prior import PriorState, prior_step
from vq_jax.train.steps.restorer import restorer_step
from vq_jax.train.steps.tokenizer import TRAINABLE, generator_step
from vq_jax.types import Array, Key, Metrics, Params

State = TypeVar("State")


def jit_update(
    mesh: Mesh, update: Callable[..., tuple[State, Metrics]], *others: NamedSharding, rounds: int = 1
) -> Any:
    """Jits a step over the mesh; it donates its first argument, the state, and the new state lives there too.

    Args:
      mesh: the devices.
      update: function of a state and other inputs to a state and metrics.
      others: shardings of the other inputs.
      rounds: parts that the update cuts the batch into.

    Returns:
      The jitted function; its metrics are on every device and include its operations, see `count_flops`.
    """
    whole = replicated(mesh)
    shardings: dict[str, Any]
    if mesh.shape["fsdp"] == 1:
        shardings = {"in_shardings": (whole, *others), "out_shardings": (whole, whole)}
        return count_flops(jax.jit(update, donate_argnums=0, **shardings), rounds)

    def step(state: State, *inputs: Any) -> tuple[State, Metrics]:
        # Where an array lives depends on its shape, which is only known here: no in_shardings for the state.
        state, metrics = update(_constrain(state, mesh), *inputs)
        return _constrain(state, mesh), metrics

    shardings = {"in_shardings": (None, *others), "out_shardings": (None, whole)}
    return count_flops(jax.jit(step, donate_argnums=0, **shardings), rounds)


def _constrain(state: State, mesh: Mesh) -> State:
    return jax.lax.with_sharding_constraint(state, state_sharding(state, mesh))


def unshard_network(network: State, mesh: Mesh) -> State:
    """Inside a step: the state of a network, with all that its forward pass uses whole on every device.

    Each device then works on its own part of the batch with the whole network. Left to itself, the compiler
    may cut activations by channels rather than by pictures.
    """
    if mesh.shape["fsdp"] == 1 or network is None:
        return network
    used = {
        name: jax.lax.with_sharding_constraint(getattr(network, name), replicated(mesh))
        for name in ("params", "codebook", "batch_stats")
        if hasattr(network, name)
    }
    return dataclasses.replace(network, **used)  # type: ignore[type-var]


def sharded_optimizer(optimizer: optax.GradientTransformation, mesh: Mesh) -> optax.GradientTransformation:
    """Inside a step: the optimizer, with gradients and parameters cut the way its moments are."""
    if mesh.shape["fsdp"] == 1:
        return optimizer

    chain = optax.with_extra_args_support(optimizer)

    def update(grads: Params, state: optax.OptState, params: Params | None = None, **extra: Any) -> Any:
        params = None if params is None else _constrain(params, mesh)
        return chain.update(_constrain(grads, mesh), state, params, **extra)

    return optax.GradientTransformationExtraArgs(chain.init, update)


def jit_train_step(
    mesh: Mesh,
    *,
    model: VQModel,
    optimizer: optax.GradientTransformation,
    losses: Losses,
    discriminator_model: linen.Module | None = None,
    discriminator_optimizer: optax.GradientTransformation | None = None,
    phase: PhaseKind = "joint",
    trained: tuple[str, ...] = TRAINABLE["joint"],
    ema_decay: float = 0.0,
    accumulate: int = 1,
) -> Callable[[TrainState, dict[str, Array], Key[Array, ""], Params | None], tuple[TrainState, Metrics]]:
    """Composes the two steps and jits them over the mesh; the step donates the state.

    Returns:
      A function of state, batch, key and variables of LPIPS (None without a perceptual loss) to the new
      state and the metrics of both networks. The key is the run's: the step folds the
      state's step into it, so that a resumed run draws what an uninterrupted one would have.
    """

    def step(
        state: TrainState, batch: dict[str, Array], rng: Key[Array, ""], perceptual: Params | None
    ) -> tuple[TrainState, Metrics]:
        rng = jax.random.fold_in(rng, state.generator.step)
        discriminator = unshard_network(state.discriminator, mesh)
        generator, reconstruction, metrics = generator_step(
            unshard_network(state.generator, mesh),
            discriminator,
            batch,
            rng,
            model=model,
            optimizer=sharded_optimizer(optimizer, mesh),
            losses=losses,
            discriminator_model=discriminator_model,
            perceptual=perceptual,
            phase=phase,
            trained=trained,
            ema_decay=ema_decay,
            accumulate=accumulate,
        )
        if discriminator is not None and discriminator_model is not None:
            assert discriminator_optimizer is not None  # given together, see init_state
            discriminator, judged = discriminator_step(
                discriminator,
                batch,
                reconstruction,
                rng,
                discriminator_model=discriminator_model,
                optimizer=sharded_optimizer(discriminator_optimizer, mesh),
                losses=losses,
                accumulate=accumulate,
            )
            metrics |= judged
        return TrainState(generator, discriminator), metrics

    whole = replicated(mesh)
    return jit_update(mesh, step, batch_sharding(mesh), whole, whole, rounds=accumulate)


def jit_prior_step(
    mesh: Mesh,
    *,
    prior_model: linen.Module,
    optimizer: optax.GradientTransformation,
    ema_decay: float = 0.0,
    accumulate: int = 1,
) -> Callable[[PriorState, dict[str, Array], Key[Array, ""]], tuple[PriorState, Metrics]]:
    """Jits `prior_step` over the mesh; the step donates the state.

    Returns:
      A function of state, batch (`codes`, int32 arrays laid out like the prior's `code_specs`, batch first;
      `label` int32 [B] for a class-conditional prior; `past` and `views` for one that sees frames, see
      `steps.own_frames`) and key to the new state and metrics. The key is the run's, as in
      `jit_train_step`.
    """

    def step(state: PriorState, batch: dict[str, Array], rng: Key[Array, ""]) -> tuple[PriorState, Metrics]:
        return prior_step(
            unshard_network(state, mesh),
            batch["codes"],
            Condition(batch.get("label"), codes=batch.get("past"), features=batch.get("views")),
            jax.random.fold_in(rng, state.step),
            prior_model=prior_model,
            optimizer=sharded_optimizer(optimizer, mesh),
            ema_decay=ema_decay,
            accumulate=accumulate,
        )

    return jit_update(mesh, step, batch_sharding(mesh), replicated(mesh), rounds=accumulate)


def jit_noise_step(
    mesh: Mesh,
    *,
    model: NoiseGenerator,
    tokenizer_model: VQModel,
    optimizer: optax.GradientTransformation,
    discriminator_model: linen.Module,
    discriminator_optimizer: optax.GradientTransformation,
    losses: Losses,
    ema_decay: float = 0.0,
) -> Callable[[TrainState, dict[str, Array], Key[Array, ""], Params], tuple[TrainState, Metrics]]:
    """Jits `noise_step` over the mesh; the step donates the state.

    Returns:
      A function of state, batch and key, as in `jit_prior_step`, and of the tokenizer's variables, whole on
      every device.
    """

    def step(
        state: TrainState, batch: dict[str, Array], rng: Key[Array, ""], tokenizer_variables: Params
    ) -> tuple[TrainState, Metrics]:
        gathered = TrainState(
            unshard_network(state.generator, mesh), unshard_network(state.discriminator, mesh)
        )
        return noise_step(
            gathered,
            batch["codes"],
            Condition(labels=batch.get("label")),
            jax.random.fold_in(rng, state.generator.step),
            model=model,
            tokenizer_model=tokenizer_model,
            tokenizer_variables=tokenizer_variables,
            optimizer=sharded_optimizer(optimizer, mesh),
            discriminator_model=discriminator_model,
            discriminator_optimizer=sharded_optimizer(discriminator_optimizer, mesh),
            losses=losses,
            ema_decay=ema_decay,
        )

    whole = replicated(mesh)
    return jit_update(mesh, step, batch_sharding(mesh), whole, whole)


def jit_restorer_step(
    mesh: Mesh,
    *,
    model: RestorerModel | RegressorModel,
    optimizer: optax.GradientTransformation,
    losses: RestorationLosses,
    discriminator_model: linen.Module | None = None,
    discriminator_optimizer: optax.GradientTransformation | None = None,
    ema_decay: float = 0.0,
    accumulate: int = 1,
) -> Callable[
    [TrainState, dict[str, Array], Key[Array, ""], Params, Params | None], tuple[TrainState, Metrics]
]:
    """Jits `restorer_step` over the mesh; the step donates the state.

    Returns:
      A function of state, batch (`image` and `target`), key, as in `jit_train_step`, the tokenizer's
      variables, whole on every device, and the variables of LPIPS, to the new state and metrics.
    """

    def step(
        state: TrainState,
        batch: dict[str, Array],
        rng: Key[Array, ""],
        tokenizer_variables: Params,
        perceptual: Params | None,
    ) -> tuple[TrainState, Metrics]:
        gathered = TrainState(
            unshard_network(state.generator, mesh), unshard_network(state.discriminator, mesh)
        )
        judge = discriminator_optimizer
        return restorer_step(
            gathered,
            batch,
            jax.random.fold_in(rng, state.generator.step),
            model=model,
            tokenizer_variables=tokenizer_variables,
            optimizer=sharded_optimizer(optimizer, mesh),
            losses=losses,
            discriminator_model=discriminator_model,
            discriminator_optimizer=None if judge is None else sharded_optimizer(judge, mesh),
            perceptual=perceptual,
            ema_decay=ema_decay,
            accumulate=accumulate,
        )

    whole = replicated(mesh)
    return jit_update(mesh, step, batch_sharding(mesh), whole, whole, whole, rounds=accumulate)
