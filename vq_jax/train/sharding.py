"""The only place that knows of devices: the mesh, where arrays live, and the jitted step."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
import optax
from flax import linen
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vq_jax.configs.losses import Losses
from vq_jax.configs.training import PhaseKind
from vq_jax.errors import UserError
from vq_jax.nn import Condition, NoiseGenerator, VQModel
from vq_jax.runs.telemetry import count_flops
from vq_jax.train.state import TrainState, init_state
from vq_jax.train.steps.noise import noise_step
from vq_jax.train.steps.prior import PriorState, prior_step
from vq_jax.train.steps.tokenizer import discriminator_step, generator_step
from vq_jax.types import Array, Key, Metrics, Params

AXES = ("data", "fsdp")
SMALLEST_SHARDED = 2**16
"""Elements from which on an array is cut over `fsdp`: a smaller one costs more to gather than to keep."""
State = TypeVar("State")
Tree = TypeVar("Tree")


def make_mesh(data: int = -1, fsdp: int = 1, described: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with axes data and fsdp; -1 takes the devices that are left.

    Args:
      data: devices along the data axis.
      fsdp: devices along the fsdp axis.
      described: the devices, of a slice that need not be there (`vq_jax.plan`); all there are when absent.

    Raises:
      UserError: the axes do not multiply to the number of devices.
    """
    devices = jax.device_count() if described is None else len(described)
    sizes = [data, fsdp]
    if sizes.count(-1) == 2:
        raise UserError("only one of training.mesh_data and training.mesh_fsdp may be -1")
    if -1 in sizes:
        sizes[sizes.index(-1)] = devices // -(sizes[0] * sizes[1])
    if sizes[0] * sizes[1] != devices:
        raise UserError(
            f"a mesh of data = {data} and fsdp = {fsdp} does not make up the {devices} devices there "
            f"are; make training.mesh_data times training.mesh_fsdp {devices}, or one of them a divisor of "
            f"{devices} and the other -1"
        )
    # jax.make_mesh splits an axis of the chips' network on v5e only: it refuses fsdp = 2 on v6e:4x4.
    placed = mesh_utils.create_device_mesh(sizes, described, allow_split_physical_axes=True)
    # Auto: explicit axes, the default, ask for an output sharding at every gather.
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * 2)


def local_mesh() -> Mesh:
    """A mesh of this process's own devices, all along data."""
    return Mesh(np.array(jax.local_devices())[:, None], AXES, axis_types=(AxisType.Auto,) * 2)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Pictures are spread over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(state: Any, mesh: Mesh) -> Any:
    """Where every array of a state lives: a pytree of NamedSharding like `state`.

    Parameters, moments and running averages alike: an array of at least `SMALLEST_SHARDED` elements is cut
    over `fsdp` along its largest axis that divides by it, the last of equals; every other one is whole on
    every device, and so are all of them where `fsdp` is 1.

    Args:
      state: pytree of arrays or of `jax.ShapeDtypeStruct`.
      mesh: the devices.
    """
    parts = mesh.shape["fsdp"]

    def place(leaf: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(leaf.shape) if size % parts == 0]
        if parts == 1 or not axes or math.prod(leaf.shape) < SMALLEST_SHARDED:
            return replicated(mesh)
        largest = max(axes, key=lambda axis: (leaf.shape[axis], axis))
        return NamedSharding(mesh, PartitionSpec(*[None] * largest, "fsdp"))

    return jax.tree.map(place, state)


def with_sharding(state: Any, mesh: Mesh) -> Any:
    """Shapes, dtypes and `state_sharding` of a state, for restoring it or compiling a step for it."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        state_sharding(state, mesh),
    )


def gather(tree: Tree, mesh: Mesh) -> Tree:
    """The same arrays, whole on every device, to be used outside the step; every process calls it."""
    if mesh.shape["fsdp"] == 1:
        return tree
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)


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


def put_rows(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, Array]:
    """Makes global arrays, spread over the mesh, of a whole batch that every process has alike."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_callback(value.shape, sharding, value.__getitem__)
        for name, value in batch.items()
    }


def put_whole(tree: Tree, mesh: Mesh) -> Tree:
    """Puts arrays that every process has alike, such as fixed weights, whole on every device."""

    def put(leaf: Any) -> Array:
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, replicated(mesh), lambda index: host[index])

    return jax.tree.map(put, tree)


def make_key(seed: int, mesh: Mesh) -> Key[Array, ""]:
    """A run's key, on every device."""
    return jax.jit(lambda: jax.random.key(seed), out_shardings=replicated(mesh))()


def place(state: State, mesh: Mesh) -> State:
    """Brings the arrays of a state to where `state_sharding` has them; every process calls it."""
    return jax.jit(lambda state: state, out_shardings=state_sharding(state, mesh))(state)


def init_state_sharded(
    rng: Key[Array, ""], image_shape: tuple[int, ...], mesh: Mesh, **networks: Any
) -> TrainState:
    """`init_state` with its keywords, jitted: the state is born where it lives."""
    return init_on_mesh(lambda rng: init_state(rng, image_shape, **networks), rng, mesh)


def init_on_mesh(init: Callable[[Array], State], rng: Key[Array, ""], mesh: Mesh) -> State:
    """Calls a function of a key, jitted, with its results where `state_sharding` has them."""
    shardings = state_sharding(jax.eval_shape(init, rng), mesh)
    # On CPU the compiler spends most of its time on the random numbers, to no gain for one use.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 0} if on_cpu else None
    return jax.jit(init, out_shardings=shardings, compiler_options=options)(rng)


def jit_update(
    mesh: Mesh, update: Callable[..., tuple[State, Metrics]], *others: NamedSharding, rounds: int = 1
) -> Any:
    """Jits a step over the mesh: its first argument, the state, is donated and comes back where it was.

    Args:
      mesh: the devices.
      update: function of a state and other inputs to a state and metrics.
      others: shardings of the other inputs.
      rounds: into which the update parts the batch.

    Returns:
      The jitted function; its metrics are on every device, and tell its operations, see `count_flops`.
    """
    whole = replicated(mesh)
    shardings: dict[str, Any]
    if mesh.shape["fsdp"] == 1:
        shardings = {"in_shardings": (whole, *others), "out_shardings": (whole, whole)}
        return count_flops(jax.jit(update, donate_argnums=0, **shardings), rounds)

    def step(state: State, *inputs: Any) -> tuple[State, Metrics]:
        # Which array lives where depends on its shape, known here: the arguments' own shardings count.
        state, metrics = update(_place(state, mesh), *inputs)
        return _place(state, mesh), metrics

    shardings = {"in_shardings": (None, *others), "out_shardings": (None, whole)}
    return count_flops(jax.jit(step, donate_argnums=0, **shardings), rounds)


def _place(state: State, mesh: Mesh) -> State:
    return jax.lax.with_sharding_constraint(state, state_sharding(state, mesh))


def gather_inside(network: State, mesh: Mesh) -> State:
    """Inside a step: the state of a network with what its forward pass uses gathered.

    Each device then works on its own part of the batch with all of the network. Left to itself, the compiler
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
    """Inside a step: the optimizer on gradients and parameters cut as its moments are."""
    if mesh.shape["fsdp"] == 1:
        return optimizer

    def update(grads: Params, state: optax.OptState, params: Params | None = None) -> Any:
        return optimizer.update(_place(grads, mesh), state, None if params is None else _place(params, mesh))

    return optax.GradientTransformation(optimizer.init, update)


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
        discriminator = gather_inside(state.discriminator, mesh)
        generator, reconstruction, metrics = generator_step(
            gather_inside(state.generator, mesh),
            discriminator,
            batch,
            rng,
            model=model,
            optimizer=sharded_optimizer(optimizer, mesh),
            losses=losses,
            discriminator_model=discriminator_model,
            perceptual=perceptual,
            phase=phase,
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
    """Jits `prior_step` over the mesh; the state given to it is donated.

    Returns:
      A function of state, batch (`codes` int32 [B, ...]; `label` int32 [B] for a class-conditional prior)
      and key to the new state and metrics. The key is the run's, as in `jit_train_step`.
    """

    def step(state: PriorState, batch: dict[str, Array], rng: Key[Array, ""]) -> tuple[PriorState, Metrics]:
        return prior_step(
            gather_inside(state, mesh),
            batch["codes"],
            Condition(labels=batch.get("label")),
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
    frozen = put_whole(tokenizer_variables, mesh)

    def step(
        state: TrainState, batch: dict[str, Array], rng: Key[Array, ""], frozen: Params
    ) -> tuple[TrainState, Metrics]:
        gathered = TrainState(gather_inside(state.generator, mesh), gather_inside(state.discriminator, mesh))
        return noise_step(
            gathered,
            batch["codes"],
            Condition(labels=batch.get("label")),
            jax.random.fold_in(rng, state.generator.step),
            model=model,
            tokenizer_model=tokenizer_model,
            tokenizer_variables=frozen,
            optimizer=sharded_optimizer(optimizer, mesh),
            discriminator_model=discriminator_model,
            discriminator_optimizer=sharded_optimizer(discriminator_optimizer, mesh),
            losses=losses,
            ema_decay=ema_decay,
        )

    whole = replicated(mesh)
    jitted = jit_update(mesh, step, batch_sharding(mesh), whole, whole)
    return lambda state, batch, rng: jitted(state, batch, rng, frozen)
