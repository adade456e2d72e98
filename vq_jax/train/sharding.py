"""The devices: the mesh, and where arrays live on it."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vq_jax.errors import UserError
from vq_jax.train.state import TrainState, init_state
from vq_jax.types import Array, Key

AXES = ("data", "fsdp")
SMALLEST_SHARDED = 2**16
"""Elements of the smallest array that is cut over `fsdp`: a smaller one costs more to gather than to keep."""
State = TypeVar("State")
Tree = TypeVar("Tree")


def make_mesh(data: int = -1, fsdp: int = 1, described: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with axes data and fsdp; -1 takes the remaining devices.

    Args:
      data: devices along the data axis.
      fsdp: devices along the fsdp axis.
      described: the devices, perhaps only described (`vq_jax.plan`); all devices of the run when absent.

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
            f"a mesh of data = {data} and fsdp = {fsdp} does not match the {devices} devices available; "
            f"make training.mesh_data times training.mesh_fsdp {devices}, or one of them a divisor of "
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
    """The leading axis spread over all devices.

    Raises:
      ValueError: the mesh has other axes than `make_mesh` gives it.
    """
    if set(mesh.axis_names) != set(AXES):
        raise ValueError(
            f"expected a mesh with the axes {' and '.join(AXES)}, got "
            f"{', '.join(map(str, mesh.axis_names))}: make it with train.sharding.make_mesh(), or "
            "jax.make_mesh((N, 1), ('data', 'fsdp'))"
        )
    return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(state: Any, mesh: Mesh) -> Any:
    """Where every array of a state lives: a pytree of NamedSharding like `state`.

    The same rule holds for parameters, moments and running averages: an array of at least `SMALLEST_SHARDED`
    elements is cut over `fsdp` along its largest axis that `fsdp` divides, the last of equals; every other
    array is whole on every device, and so are all of them where `fsdp` is 1.

    Args:
      state: pytree of arrays or of `jax.ShapeDtypeStruct`.
      mesh: the devices.
    """
    parts = mesh.shape["fsdp"]

    def sharding_of(leaf: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(leaf.shape) if size % parts == 0]
        if parts == 1 or not axes or math.prod(leaf.shape) < SMALLEST_SHARDED:
            return replicated(mesh)
        largest = max(axes, key=lambda axis: (leaf.shape[axis], axis))
        return NamedSharding(mesh, PartitionSpec(*[None] * largest, "fsdp"))

    return jax.tree.map(sharding_of, state)


def with_sharding(state: Any, mesh: Mesh) -> Any:
    """Shapes, dtypes and `state_sharding` of a state, for restoring it or compiling its step."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        state_sharding(state, mesh),
    )


def abstract(tree: Any, sharding: NamedSharding) -> Any:
    """Shapes and dtypes of arrays that all have one sharding, for compiling a step."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def abstract_key(mesh: Mesh) -> Any:
    """Shape and sharding of a run's key, for compiling a step."""
    return abstract(jax.eval_shape(lambda: jax.random.key(0)), replicated(mesh))


def unshard(tree: Tree, mesh: Mesh) -> Tree:
    """The same arrays, whole on every device, for use outside the step; every process must call it."""
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


def shard_local_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Makes global arrays, spread over the mesh, from this process's share of a batch, a pytree by name."""
    make = functools.partial(jax.make_array_from_process_local_data, batch_sharding(mesh))
    return jax.tree.map(make, dict(batch))


def shard_global_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Makes global arrays, spread over the mesh, from a whole batch that every process holds."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(
        lambda value: jax.make_array_from_callback(value.shape, sharding, value.__getitem__), dict(batch)
    )


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Copies arrays that every process holds, such as frozen weights, whole to every device."""

    def copy(leaf: Any) -> Array:
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, replicated(mesh), lambda index: host[index])

    return jax.tree.map(copy, tree)


def make_key(seed: int, mesh: Mesh) -> Key[Array, ""]:
    """A run's key, on every device."""
    return jax.jit(lambda: jax.random.key(seed), out_shardings=replicated(mesh))()


def shard_state(state: State, mesh: Mesh) -> State:
    """Moves the arrays of a state to their `state_sharding`; every process must call it."""
    return jax.jit(lambda state: state, out_shardings=state_sharding(state, mesh))(state)


def init_state_sharded(
    rng: Key[Array, ""], image_shape: tuple[int, ...], mesh: Mesh, **networks: Any
) -> TrainState:
    """`init_state` with its keywords, jitted: every array is made where `state_sharding` has it."""
    return init_on_mesh(lambda rng: init_state(rng, image_shape, **networks), rng, mesh)


def init_on_mesh(init: Callable[[Array], State], rng: Key[Array, ""], mesh: Mesh) -> State:
    """Calls a function of a key, jitted, its results where `state_sharding` has them."""
    shardings = state_sharding(jax.eval_shape(init, rng), mesh)
    # On CPU the compiler spends most of its time on the random numbers, which run only once.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 0} if on_cpu else None
    return jax.jit(init, out_shardings=shardings, compiler_options=options)(rng)
