"""The free word among the arguments: the one that is no option's value and names an experiment or a run."""

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any

from vq_jax.configs.models import ARCHITECTURES
from vq_jax.configs.presets import presets
from vq_jax.configs.priors import PRIORS
from vq_jax.configs.quantizers import QUANTIZERS
from vq_jax.configs.registry import RUN_KINDS

_HELP = ("h", "help", "help-all")
_OPTION = re.compile(r"-(?![\d.])")  # a negative number is a value


def split_free_word(arguments: list[str], command: type) -> tuple[str | None, list[str]]:
    """Splits arguments into the first free word, wherever it stands, and the others.

    Args:
      arguments: from the command line.
      command: dataclass of the options besides those of configurations.

    Returns:
      The free word, None where there is none, and the other arguments in their order.
    """
    index = 0
    while index < len(arguments):
        if not _OPTION.match(arguments[index]):
            return arguments[index], arguments[:index] + arguments[index + 1 :]
        index += 1 + _count_values(arguments[index], arguments[index + 1 :], command)
    return None, arguments


def _count_values(option: str, after: list[str], command: type) -> int:
    """Number of the words after an option that are its values: of one that is not known, one."""
    name, equals, _ = option.lstrip("-").replace("_", "-").rpartition(".")[2].partition("=")
    flags, several = _kinds_of_options(command)
    if equals or "=" in option or name in flags:
        return 0
    if name not in several:
        return 1
    known = presets()
    ends = (i for i, word in enumerate(after) if _OPTION.match(word) or word in known or word.endswith(".py"))
    return next(ends, len(after))


@functools.cache
def _kinds_of_options(command: type) -> tuple[set[str], set[str]]:
    """Names of the options that take no value, and of those that take several, without the paths before."""
    flags, several = set(_HELP), set()
    for name, hint in _fields([command, *RUN_KINDS.values(), *_named()], set()):
        name = name.replace("_", "-")
        if hint is bool:
            flags |= {name, f"no-{name}"}
        elif typing.get_origin(hint) is tuple:
            several.add(name)
    return flags, several


def _named() -> Iterator[type]:
    """The classes that a configuration may have in the place of their base."""
    for architecture in PRIORS.values():
        yield from (architecture, architecture.options)
    yield from (*ARCHITECTURES.values(), *QUANTIZERS.values())


def _fields(classes: list[type], seen: set[type]) -> Iterator[tuple[str, Any]]:
    """Names and types of the fields of configurations, and of those inside them."""
    for cls in classes:
        if cls in seen:
            continue
        seen.add(cls)
        hints = typing.get_type_hints(cls, include_extras=True)
        for field in dataclasses.fields(cls):
            hint = _bare(hints[field.name])
            yield field.name, hint
            kinds: list[Any] = [hint, *typing.get_args(hint)]
            yield from _fields([kind for kind in kinds if _is_configuration(kind)], seen)


def _is_configuration(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _bare(hint: Any) -> Any:
    """A type without annotations and without None."""
    while typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        first = next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
        return _bare(first)
    return hint
