"""Where each array of ours is in a file of another project, and how it is laid out there."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from flax import traverse_util

from vq_jax.convert.weights_file import WeightsFile, named
from vq_jax.errors import UserError

Shape = tuple[int, ...]
Rules = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]


@dataclasses.dataclass(frozen=True)
class Place:
    """The tensors of a file that make an array of ours.

    Attributes:
      names: of the tensors; none for an array that has one value in all models of the file's kind.
      shapes: of the tensors.
      join: function from the tensors to the array.
      split: function from the array to the tensors; raises ValueError where the file cannot hold it.
    """

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    join: Callable[[Sequence[np.ndarray]], np.ndarray]
    split: Callable[[np.ndarray], Sequence[np.ndarray]]


PlaceOf = Callable[[str, Shape], Place]
"""Function from the slash-joined path and the shape of an array of ours to its place."""


def one(
    name: str,
    shape: Shape,
    join: Callable[[np.ndarray], np.ndarray],
    split: Callable[[np.ndarray], np.ndarray],
) -> Place:
    """Returns the place of an array that is one tensor."""
    return Place((name,), (shape,), lambda tensors: join(tensors[0]), lambda array: (split(array),))


def plain(name: str, shape: Shape) -> Place:
    """Returns the place of an array that is the tensor itself."""
    return one(name, shape, np.asarray, np.asarray)


def of_torch(name: str, shape: Shape) -> Place:
    """Returns the place in a file of PyTorch: of a kernel [*T, I, O] as [O, I, *T], of others as they are."""
    spatial = len(shape) - 2
    if not name.endswith("weight") or len(shape) < 2:
        return plain(name, shape)
    there = (shape[-1], shape[-2], *shape[:spatial])
    to_ours, to_theirs = (*range(2, spatial + 2), 1, 0), (spatial + 1, spatial, *range(spatial))
    return one(
        name, there, lambda tensor: tensor.transpose(to_ours), lambda array: array.transpose(to_theirs)
    )


def linear(name: str, shape: Shape) -> Place:
    """Returns the place of a kernel [1, 1, I, O] that is a linear layer's [O, I] in a file of PyTorch."""
    inner = shape[-2:]
    return one(
        name, inner[::-1], lambda tensor: tensor.T.reshape(shape), lambda array: array.reshape(inner).T
    )


def constant(value: float, shape: Shape, what: str) -> Place:
    """Returns the place of an array that files do not hold, because all its elements have one value there.

    Args:
      value: of the elements.
      shape: of the array.
      what: the array in words, for the message where it has other values.
    """

    def split(array: np.ndarray) -> Sequence[np.ndarray]:
        if not np.all(array == np.float32(value)):
            raise ValueError(f"{what}, which is {value} in all models of that kind, has other values here")
        return ()

    return Place((), (), lambda _: np.full(shape, value, np.float32), split)


def renamed(path: str, rules: Rules) -> str:
    """Returns a path with all rules applied, one after the other: patterns and what takes their place."""
    for pattern, replacement in rules:
        path = re.sub(pattern, replacement, path)
    return path.replace("/", ".")


def taken(file: WeightsFile, abstract: Mapping[str, Any], place_of: PlaceOf, what: str) -> dict[str, Any]:
    """Reads the arrays of a model from a file.

    Args:
      file: of weights.
      abstract: the arrays' shapes, nested dictionaries.
      place_of: function to their places.
      what: kind of the model, for messages.

    Returns:
      The arrays, float32, nested like `abstract`.

    Raises:
      UserError: tensors are missing, or have other shapes than the rest of the file implies.
    """
    leaves = traverse_util.flatten_dict(dict(abstract), sep="/")
    places = {path: place_of(path, tuple(leaf.shape)) for path, leaf in leaves.items()}
    missing = [name for place in places.values() for name in place.names if name not in file.tensors]
    if missing:
        raise UserError(
            f"{file.path} is not a whole {what}: it lacks {named(missing)} ({len(missing)} of "
            f"{sum(len(place.names) for place in places.values())} tensors)"
        )
    wrong = [
        f"{name} {list(file.tensors[name].shape)}, expected {list(shape)}"
        for place in places.values()
        for name, shape in zip(place.names, place.shapes, strict=True)
        if file.tensors[name].shape != shape
    ]
    if wrong:
        raise UserError(f"{file.path} is not a {what} as its other tensors describe it: {named(wrong)}")
    arrays = {}
    for path, place in places.items():
        tensors = [file.array(name).astype(np.float32) for name in place.names]
        arrays[path] = np.ascontiguousarray(place.join(tensors), np.float32).reshape(leaves[path].shape)
    nested: dict[str, Any] = traverse_util.unflatten_dict(arrays, sep="/")
    return nested


def given_back(variables: Mapping[str, Any], place_of: PlaceOf) -> dict[str, np.ndarray]:
    """Returns the tensors of a file by their names, from the arrays of a model.

    Raises:
      ValueError: the file's kind cannot hold one of them.
    """
    tensors: dict[str, np.ndarray] = {}
    for path, array in traverse_util.flatten_dict(dict(variables), sep="/").items():
        place = place_of(path, tuple(array.shape))
        parts = zip(place.names, place.shapes, place.split(np.asarray(array)), strict=True)
        tensors |= {name: np.ascontiguousarray(tensor).reshape(shape) for name, shape, tensor in parts}
    return tensors


def names_used(abstract: Mapping[str, Any], place_of: PlaceOf) -> set[str]:
    """Returns the names of the tensors that make a model's arrays."""
    leaves = traverse_util.flatten_dict(dict(abstract), sep="/")
    places = (place_of(path, tuple(leaf.shape)) for path, leaf in leaves.items())
    return {name for place in places for name in place.names}


def numbers_after(names: Iterable[str], prefix: str) -> list[int]:
    """Returns the numbers that follow a prefix in names, as 0, 1, 2 of `encoder.down.2.block`, sorted."""
    found = {re.match(rf"{re.escape(prefix)}(\d+)\.", name) for name in names}
    return sorted({int(match[1]) for match in found if match})
