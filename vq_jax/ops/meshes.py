"""Meshes with explicit axes, the default of `jax.make_mesh`: functions that run as if the axes were Auto.

Under an explicit axis every gather, scatter and product must say how its result is spread. The functions of
this package leave that to the compiler; at their doors, the arrays are handed over to it and back.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

Function = TypeVar("Function", bound=Callable[..., Any])


def explicit_mesh(tree: Any = ()) -> AbstractMesh | None:
    """Returns the mesh with explicit axes that is set, or that arrays are spread over; None without one."""
    meshes = [jax.sharding.get_abstract_mesh()]
    meshes += [jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(tree) if _is_array(leaf)]
    return next((mesh for mesh in meshes if AxisType.Explicit in mesh.axis_types), None)


def rows_of(tree: Any) -> PartitionSpec:
    """Returns how the leading axis of an array is spread, or that of the first array of a tree."""
    return PartitionSpec(*jax.typeof(jax.tree.leaves(tree)[0]).sharding.spec[:1])


def places_of(tree: Any) -> Any:
    """Returns how each array of a tree is spread."""
    return jax.tree.map(lambda leaf: jax.typeof(leaf).sharding.spec, tree)


def auto_axes(places: Callable[..., Any]) -> Callable[[Function], Function]:
    """Makes a function of arrays run under meshes with explicit axes; without one, it is called as it is.

    Args:
      places: from the arguments to how the results are spread: a PartitionSpec, or a tree of them that is a
        prefix of the results.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            leaves, structure = jax.tree.flatten((args, kwargs))
            mesh = explicit_mesh(leaves)
            if mesh is None:
                return function(*args, **kwargs)
            given = [number for number, leaf in enumerate(leaves) if _is_array(leaf)]

            def auto(*arrays: Any) -> Any:
                filled = list(leaves)
                for number, leaf in zip(given, arrays, strict=True):
                    filled[number] = leaf
                args, kwargs = jax.tree.unflatten(structure, filled)
                return function(*args, **kwargs)

            shardings = jax.tree.map(
                lambda spec: NamedSharding(mesh, spec),
                places(*args, **kwargs),
                is_leaf=lambda leaf: isinstance(leaf, PartitionSpec),
            )
            run = jax.sharding.auto_axes(auto, out_sharding=shardings)
            return jax.jit(run)(*(leaves[number] for number in given))

        return cast(Function, call)

    return decorate


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)
