"""Configurations derived from another one, without repeating its fields."""

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

_Class = TypeVar("_Class")


@typing.dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def with_optional_fields_of(base: Any) -> Callable[[type[_Class]], type[_Class]]:
    """Turns a class into a frozen dataclass with all fields of `base`, each None unless given.

    Fields that the class itself defines keep their definition. All others have the base's type or None, the
    base's aliases and metadata, and, as help on the command line, the text below the base's field. The order
    of the fields is the base's.

    Args:
      base: a dataclass.

    Returns:
      A class decorator.
    """
    hints = typing.get_type_hints(base, include_extras=True)
    texts = _texts_below_fields(base)

    def decorate(cls: type[_Class]) -> type[_Class]:
        own, annotations = inspect.get_annotations(cls), {}
        for field in dataclasses.fields(base):
            if field.name in own:
                annotations[field.name] = own[field.name]
                continue
            annotations[field.name] = _or_none(hints[field.name])
            metadata = {**field.metadata, "help": texts.get(field.name)}  # tyro reads `help`
            setattr(cls, field.name, dataclasses.field(default=None, metadata=metadata))
        cls.__annotations__ = annotations
        return dataclasses.dataclass(frozen=True)(cls)

    return decorate


def _or_none(hint: Any) -> Any:
    if typing.get_origin(hint) is not Annotated:
        return hint | None
    inner, *extras = typing.get_args(hint)
    return Annotated[(inner | None, *extras)]


def _texts_below_fields(cls: type) -> dict[str, str]:
    """Returns the text below each field of a class, or nothing if the source is not available."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except OSError:
        return {}
    definition: Any = ast.parse(source).body[0]
    return {
        field.target.id: " ".join(str(text.value.value).split())
        for field, text in zip(definition.body, definition.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }
