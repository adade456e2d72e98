"""The only place that knows of devices: the mesh, where arrays live, and the jitted step."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vq_jax.config import Losses, PhaseKind
from vq_jax.errors import UserError
from vq_jax.nn import Condition, NoiseGenerator, VQModel
from vq_jax.train.noise import noise_step
from vq_jax.train.priors import PriorState, prior_step
from vq_jax.train.state import TrainState, init_state
from vq_jax.train.steps import discriminator_step, generator_step
from vq_jax.types import Array, Key, Metrics, Params

AXES = ("data", "fsdp")
State = TypeVar("State")


def make_mesh(data: int = -1, fsdp: int = 1) -> Mesh:
    """A mesh with axes data and fsdp; -1 takes the devices that are left.

    Raises:
      UserError: the axes do not multiply to the number of devices.
    """
    devices = jax.device_count()
    sizes = [data, fsdp]
    if sizes.count(-1) == 2:
        raise UserError("only one of training.mesh_data and training.mesh_fsdp may be -1")
    if -1 in sizes:
        sizes[sizes.index(-1)] = devices // -(sizes[0] * sizes[1])
    if sizes[0] * sizes[1] != devices:
        raise UserError(
            f"a mesh of data = {data} and fsdp = {fsdp} does not make up the {devices} devices there "
            "are; set one of training.mesh_data and training.mesh_fsdp to -1"
        )
    # Auto: explicit axes, the default, ask for an output sharding at every gather.
    return jax.make_mesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * 2)


def compute_dtype(name: str) -> Any:
    """The dtype of `training.dtype`: auto is bfloat16 where the hardware multiplies it fast."""
    if name != "auto":
        return jnp.dtype(name)
    device = jax.devices()[0]
    fast = device.platform == "tpu" or (
        device.platform == "gpu" and float(getattr(device, "compute_capability", 0.0)) >= 8.0
    )
    return jnp.dtype("bfloat16" if fast else "float32")


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Pictures are spread over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises UserError unless the batch divides over the mesh's devices."""
    if batch_size % mesh.size:
        raise UserError(
            f"data.batch_size = {batch_size} does not divide over {mesh.size} devices; "
            f"make it a multiple of {mesh.size}"
        )


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, Array]:
    """Makes global arrays, spread over the mesh, of this process's part of a batch."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, value) for name, value in batch.items()}


def init_state_sharded(
    rng: Key[Array, ""], image_shape: tuple[int, ...], mesh: Mesh, **networks: Any
) -> TrainState:
    """`init_state` with its keywords, jitted: the state is born where it lives."""
    return init_on_mesh(lambda rng: init_state(rng, image_shape, **networks), rng, mesh)


def init_on_mesh(init: Callable[[Array], State], rng: Key[Array, ""], mesh: Mesh) -> State:
    """Calls a function of a key, jitted, with its results on every device."""
    # On CPU the compiler spends most of its time on the random numbers, to no gain for one use.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 0} if on_cpu else None
    return jax.jit(init, out_shardings=replicated(mesh), compiler_options=options)(rng)


def jit_train_step(
    mesh: Mesh,
    *,
    model: VQModel,
    optimizer: optax.GradientTransformation,
    losses: Losses,
    discriminator_model: linen.Module | None = None,
    discriminator_optimizer: optax.GradientTransformation | None = None,
    phase: PhaseKind = "joint",
    ema_decay: float = 0.0,
    accumulate: int = 1,
) -> Callable[[TrainState, dict[str, Array], Key[Array, ""], Params | None], tuple[TrainState, Metrics]]:
    """Composes the two steps and jits them over the mesh; the state given to it is donated.

    Returns:
      A function of state, batch, key and variables of LPIPS (None without a perceptual loss) to the new
      state and the metrics of both networks. The key is the run's: the step's own is folded in from the
      state's step, so that a resumed run draws what an uninterrupted one would have.
    """

    def step(
        state: TrainState, batch: dict[str, Array], rng: Key[Array, ""], perceptual: Params | None
    ) -> tuple[TrainState, Metrics]:
        rng = jax.random.fold_in(rng, state.generator.step)
        generator, reconstruction, metrics = generator_step(
            state.generator,
            state.discriminator,
            batch,
            rng,
            model=model,
            optimizer=optimizer,
            losses=losses,
            discriminator_model=discriminator_model,
            perceptual=perceptual,
            phase=phase,
            ema_decay=ema_decay,
            accumulate=accumulate,
        )
        discriminator = state.discriminator
        if discriminator is not None and discriminator_model is not None:
            assert discriminator_optimizer is not None  # given together, see init_state
            discriminator, judged = discriminator_step(
                discriminator,
                batch,
                reconstruction,
                rng,
                discriminator_model=discriminator_model,
                optimizer=discriminator_optimizer,
                losses=losses,
                accumulate=accumulate,
            )
            metrics |= judged
        return TrainState(generator, discriminator), metrics

    whole, parts = replicated(mesh), batch_sharding(mesh)
    return jax.jit(
        step,
        in_shardings=(whole, parts, whole, whole),
        out_shardings=(whole, whole),
        donate_argnums=0,
    )


def jit_prior_step(
    mesh: Mesh,
    *,
    prior_model: linen.Module,
    optimizer: optax.GradientTransformation,
    ema_decay: float = 0.0,
    accumulate: int = 1,
) -> Callable[[PriorState, dict[str, Array], Key[Array, ""]], tuple[PriorState, Metrics]]:
    """Jits `prior_step` over the mesh; the state given to it is donated.

    Returns:
      A function of state, batch (`codes` int32 [B, ...]; `label` int32 [B] for a class-conditional prior)
      and key to the new state and metrics. The key is the run's, as in `jit_train_step`.
    """

    def step(state: PriorState, batch: dict[str, Array], rng: Key[Array, ""]) -> tuple[PriorState, Metrics]:
        return prior_step(
            state,
            batch["codes"],
            Condition(labels=batch.get("label")),
            jax.random.fold_in(rng, state.step),
            prior_model=prior_model,
            optimizer=optimizer,
            ema_decay=ema_decay,
            accumulate=accumulate,
        )

    whole, parts = replicated(mesh), batch_sharding(mesh)
    return jax.jit(step, in_shardings=(whole, parts, whole), out_shardings=(whole, whole), donate_argnums=0)


def jit_noise_step(
    mesh: Mesh,
    *,
    model: NoiseGenerator,
    tokenizer_model: VQModel,
    tokenizer_variables: Params,
    optimizer: optax.GradientTransformation,
    discriminator_model: linen.Module,
    discriminator_optimizer: optax.GradientTransformation,
    losses: Losses,
    ema_decay: float = 0.0,
) -> Callable[[TrainState, dict[str, Array], Key[Array, ""]], tuple[TrainState, Metrics]]:
    """Jits `noise_step` over the mesh; the state given to it is donated.

    Returns:
      A function of state, batch and key, as in `jit_prior_step`.
    """
    whole, parts = replicated(mesh), batch_sharding(mesh)
    frozen = jax.device_put(tokenizer_variables, whole)

    def step(
        state: TrainState, batch: dict[str, Array], rng: Key[Array, ""], frozen: Params
    ) -> tuple[TrainState, Metrics]:
        return noise_step(
            state,
            batch["codes"],
            Condition(labels=batch.get("label")),
            jax.random.fold_in(rng, state.generator.step),
            model=model,
            tokenizer_model=tokenizer_model,
            tokenizer_variables=frozen,
            optimizer=optimizer,
            discriminator_model=discriminator_model,
            discriminator_optimizer=discriminator_optimizer,
            losses=losses,
            ema_decay=ema_decay,
        )

    jitted = jax.jit(
        step, in_shardings=(whole, parts, whole, whole), out_shardings=(whole, whole), donate_argnums=0
    )
    return lambda state, batch, rng: jitted(state, batch, rng, frozen)
