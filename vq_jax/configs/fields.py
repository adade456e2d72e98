"""What a configuration's fields are checked for, and which of them may differ within a run.

Every configuration derives from `Checked`: its fields are checked against their annotations wherever it is
made, in Python, in an experiment's file, from JSON or from the command line. A number's range is that of
`vq_jax.ranges` for its name, or stands in its annotation: `steps: Annotated[int, COUNT]`.

A field without the metadata below defines the run, which does not resume with another value. It is given as
`dataclasses.field(default=..., metadata=RESUME)`; on a field that is itself a configuration, it holds for all
fields inside.
"""

import dataclasses
import functools
import os
import re
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from vq_jax.errors import nearest_names
from vq_jax.host.storage import checked_path
from vq_jax.ranges import INT32, RANGES, Range, check_range, shown

Across = Literal["resume", "processes"]
"""Where a field may differ: between a run and its continuation, or between the processes of a run."""

RESUME: dict[str, tuple[Across, ...]] = {"may_differ": ("resume",)}
"""For fields that may change when a run resumes."""
LOCAL: dict[str, tuple[Across, ...]] = {"may_differ": ("resume", "processes")}
"""For fields that may also differ between processes: where a host keeps its files, how it reads them."""

_NAME = re.compile(r"(?![\s.-])[^/\\\s]+( [^/\\\s]+)*")
_LONGEST_NAME = 100
_MOST_VALUES = 64
_ANY_NUMBER = Range(-INT32, INT32)


@dataclasses.dataclass(frozen=True)
class Rule:
    """In an annotation: a function of a value that is not None and of its name, to the value to use.

    Attributes:
      check: the function; it raises ValueError.
    """

    check: Callable[[Any, str], Any]


def _path(value: Any, name: str) -> Any:
    return type(value)(checked_path(value, name))


def _model(value: str, name: str) -> str:
    return value if value.startswith("hf://") else checked_path(value, name)


def _source(value: str, name: str) -> str:
    scheme, colon, place = value.partition(":")
    if not colon or scheme not in ("folder", "arrays", "frames", "video"):
        return checked_path(value, name)
    return f"{scheme}:{checked_path(place, name)}"


def _sides(value: int | tuple[int, ...], name: str) -> int | tuple[int, int]:
    if isinstance(value, int):
        return value
    if len(value) != 2:
        raise ValueError(f"{name} must be one number, or two for height and width, got {shown(value)}")
    height, width = value
    return height if height == width else (height, width)


def _run_name(value: str, name: str) -> str:
    is_name = _NAME.fullmatch(value) and value.isprintable() and any(map(str.isalpha, value))
    if not is_name or len(value.encode(errors="replace")) > _LONGEST_NAME:
        raise ValueError(
            f"{name} must be a name of up to {_LONGEST_NAME} characters with a letter, for directories: no "
            f"slashes, no . or - in front, got {shown(value)}"
        )
    return value


def _start(value: float, name: str) -> float:
    if isinstance(value, float) and not 0 < value < 1:
        raise ValueError(
            f"{name} must be a whole number of steps, or a share of the run's steps between 0 and 1, got "
            f"{shown(value)}"
        )
    return value


PATH = Rule(_path)
"""For paths: checked and without `~`, see `host.storage.checked_path`."""
MODEL = Rule(_model)
"""For runs and models: a path, or hf://OWNER/NAME, of the Hugging Face hub."""
SOURCE = Rule(_source)
"""For data sets: what stands after folder:, arrays:, frames: or video: is a path."""
START = Rule(_start)
"""For the step at which something starts: a whole number is a step, a fraction a share of the run's steps."""
SIDES = Rule(_sides)
"""For the size of pictures: a number where height and width are equal, else a tuple of both."""
RUN_NAME = Rule(_run_name)
"""For the names of experiments, after which run directories are called."""


class Checked:
    """Base of the configurations: their fields have the types, choices and ranges of their annotations.

    Where a float is expected, a whole number becomes one; NumPy's scalars become Python's, lists tuples.

    Raises:
      ValueError: a field has another type, is none of its choices, or is out of its range.
    """

    path: ClassVar[str] = ""
    """Path of the fields in messages, such as `data`."""

    def __post_init__(self) -> None:
        for name, hint in field_hints(type(self)).items():
            value = getattr(self, name)
            checked = check_value(hint, value, f"{self.path}.{name}".lstrip("."))
            if checked is not value:
                object.__setattr__(self, name, checked)


def field_hints(cls: type) -> dict[str, Any]:
    """Returns the annotations of a dataclass's fields, each with the range of its name if it has none."""
    return dict(_hints(cls))


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: _with_range(hints[field.name], field.name) for field in dataclasses.fields(cls)}


def _with_range(hint: Any, name: str) -> Any:
    return Annotated[hint, RANGES[name]] if name in RANGES and range_of(hint) is None else hint


def range_of(hint: Any) -> Range | None:
    """Returns the range in an annotation, None where there is none."""
    found = (extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Range))
    return next(found, None)


def check_value(hint: Any, value: Any, path: str, allowed: Range | None = None) -> Any:
    """Checks a value against an annotation.

    Args:
      hint: bool, int, float, str, a Literal, a class; `X | None`, `tuple[X, ...]`, `int | float`, or
        `X | tuple[X, ...]`, of one value or several; Annotated with a `Range` or a `Rule`.
      value: the value.
      path: its name, for the message.
      allowed: range of its numbers if the annotation has none; a wide one when absent.

    Returns:
      The value, of the type that the annotation names.

    Raises:
      ValueError: another type, none of the choices, or out of range.
    """
    allowed = range_of(hint) or allowed
    if typing.get_origin(hint) is Annotated:
        hint, *extras = typing.get_args(hint)
        value = check_value(hint, value, path, allowed)
        rules = [extra for extra in extras if isinstance(extra, Rule)]
        return (
            value
            if value is None
            else functools.reduce(lambda kept, rule: rule.check(kept, path), rules, value)
        )
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return _choice(arguments, value, path)
    if origin is tuple:
        if not isinstance(value, tuple | list):
            raise _wrong(path, "several values, in a tuple", value)
        if len(value) > _MOST_VALUES and arguments[0] is not str:  # data sets may have more classes
            raise ValueError(f"{path} must have at most {_MOST_VALUES} values, got {len(value)}")
        return tuple(check_value(arguments[0], item, path, allowed) for item in value)
    if origin in (types.UnionType, typing.Union):
        if value is None and types.NoneType in arguments:
            return None
        inner = [argument for argument in arguments if argument is not types.NoneType]
        if set(inner) == {int, float}:
            return _number(None, value, path, allowed)
        several = isinstance(value, tuple | list)
        fitting = [kind for kind in inner if (typing.get_origin(kind) is tuple) == several]
        return check_value((fitting or inner)[0], value, path, allowed)
    return _number(hint, value, path, allowed) if hint in (int, float) else _other(hint, value, path)


def _choice(choices: tuple[Any, ...], value: Any, path: str) -> Any:
    if isinstance(value, str) and value in choices:
        return value
    nearest = nearest_names(value, choices) if isinstance(value, str) else ""
    raise ValueError(f"{path} must be one of {', '.join(choices)}, got {shown(value)}{nearest}")


def _number(kind: Any, value: Any, path: str, allowed: Range | None) -> Any:
    """A number of the kind, int or float, or of its own where both are allowed (None)."""
    number = _scalar(value)
    if isinstance(number, bool) or not isinstance(number, int if kind is int else int | float):
        raise _wrong(path, "a whole number" if kind is int else "a number", value)
    check_range(path, number, allowed or _ANY_NUMBER)
    return number if kind is None else kind(number)


def _other(kind: Any, value: Any, path: str) -> Any:
    if kind is bool:
        value = _scalar(value)
    elif kind is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, kind):
        words = {bool: "True or False", str: "a text"}
        raise _wrong(path, words.get(kind, f"of the class {kind.__name__}"), value)
    return value


def _scalar(value: Any) -> Any:
    """A NumPy or JAX scalar as Python's, anything else as it is."""
    return value.item() if getattr(value, "shape", None) == () else value


def _wrong(path: str, expected: str, value: Any) -> ValueError:
    return ValueError(f"{path} must be {expected}, got {shown(value)} ({type(value).__name__})")
