"""Conversion of configurations to JSON and back, and differences between configurations."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from vq_jax.configs.degradations import DegradationConfig, degradation_class
from vq_jax.configs.earlier import upgrade
from vq_jax.configs.fields import Across
from vq_jax.configs.model_base import Architecture
from vq_jax.configs.models import architecture_class
from vq_jax.configs.priors import PriorArchitecture, prior_class
from vq_jax.configs.quantizer_base import QuantizerConfig
from vq_jax.configs.quantizers import quantizer_class
from vq_jax.configs.registry import RUN_KINDS
from vq_jax.configs.runs import RunConfig
from vq_jax.configs.sampling import Options
from vq_jax.errors import nearest_names, require

if TYPE_CHECKING:
    from vq_jax.types import CodeSpecs

VERSION = 1
"""Version in every JSON that the library writes; files written before it existed have none."""

# Parts whose class is named in the JSON, with the key of that name.
_BY_NAME: dict[Any, tuple[str, Callable[[str], Any]]] = {
    Architecture: ("architecture", architecture_class),
    PriorArchitecture: ("architecture", prior_class),
    QuantizerConfig: ("name", quantizer_class),
    DegradationConfig: ("name", degradation_class),
}


def header(kind: str) -> dict[str, Any]:
    """Returns the first entries of every JSON that the library writes."""
    return {"kind": kind, "version": VERSION}


def check_header(values: Mapping[str, Any], kinds: tuple[str, ...], where: str) -> None:
    """Checks the header of a JSON.

    Args:
      values: contents of the JSON.
      kinds: kinds that the reader accepts.
      where: name of the file, for the message.

    Raises:
      ValueError: another kind, or a version that this library cannot read.
    """
    kind, version = values.get("kind"), values.get("version")
    require(kind in kinds, f"{where} has kind {kind!r}, expected {' or '.join(kinds)}")
    require(
        version == VERSION,
        f"{where} has version {version!r}, but this vq_jax reads version {VERSION}: install a newer vq_jax",
    )


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Returns the configuration of a run as plain dictionaries and lists, for JSON, with its kind."""
    return {**header(config.kind), **part_to_dict(config)}


def part_to_dict(config: Any) -> dict[str, Any]:
    """Returns a part of a configuration, any of its dataclasses, as plain dictionaries and lists."""
    named = next((key for base, (key, _) in _BY_NAME.items() if isinstance(config, base)), None)
    return {
        **({named: getattr(config, named)} if named else {}),
        **{field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)},
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return part_to_dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """Rebuilds the configuration that `to_dict` wrote, also in the form without a `version`.

    Raises:
      ValueError: an unknown kind, version or field (the message has the nearest names), or a value that
        its class refuses.
    """
    require(isinstance(values, Mapping), f"expected named fields for the configuration, got {values!r}")
    if "version" not in values:
        values = {"version": VERSION, **upgrade(values)}
    check_header(values, tuple(RUN_KINDS), "the configuration")
    fields = {name: value for name, value in values.items() if name not in ("kind", "version")}
    config: RunConfig = _build(RUN_KINDS[values["kind"]], fields, "")
    return config


def _build(cls: Any, values: Mapping[str, Any], path: str) -> Any:
    require(isinstance(values, Mapping), f"expected named fields for {path.rstrip('.')}, got {values!r}")
    base = next((base for base in _BY_NAME if issubclass(cls, base)), None)
    if base is not None:
        key, class_of = _BY_NAME[base]
        require(key in values, f"{path}{key} is missing")
        cls = class_of(values[key])
        values = {name: value for name, value in values.items() if name != key}
    hints = typing.get_type_hints(cls)
    if hints.get("sampling") is Options and "sampling" in values:
        hints["sampling"] = prior_options(values)
    known = [field.name for field in dataclasses.fields(cls)]
    for name in values:
        require(name in known, f"unknown field {path}{name}{nearest_names(name, known)}")
    return cls(**{name: _convert(hints[name], value, path + name) for name, value in values.items()})


def prior_options(values: Mapping[str, Any]) -> type[Options]:
    """Returns the class of the sampling options in the configuration of a prior, which its prior decides.

    Raises:
      ValueError: the prior has no name, or an unknown one.
    """
    prior = values.get("prior")
    require(isinstance(prior, Mapping) and "architecture" in prior, "prior.architecture is missing")
    return prior_class(values["prior"]["architecture"]).options


def _convert(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, f"{path}.")
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is None:
        return value
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_convert(typing.get_args(hint)[0], item, path) for item in value)
    return value


def differences(old: RunConfig, new: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Returns the dotted names of the fields that differ, each with both values."""
    before, after = _flatten(to_dict(old)), _flatten(to_dict(new))
    return {
        name: (before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    }


def fixed_differences(old: RunConfig, new: RunConfig, across: Across) -> dict[str, tuple[Any, Any]]:
    """Returns the `differences` in fields whose metadata does not allow them.

    Args:
      old: one configuration.
      new: the other.
      across: how the two are related: a run and its continuation, or two processes of one run.
    """
    return {
        name: values
        for name, values in differences(old, new).items()
        if not _may_differ(old, name.split("."), across)
    }


def _may_differ(config: Any, path: list[str], across: Across) -> bool:
    """Whether the field at `path`, or a field that contains it, may differ."""
    if not path or not dataclasses.is_dataclass(config):
        return False
    field = next((field for field in dataclasses.fields(config) if field.name == path[0]), None)
    if field is None:
        return False
    allowed = across in field.metadata.get("may_differ", ())
    return allowed or _may_differ(getattr(config, field.name), path[1:], across)


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = {str(index): item for index, item in enumerate(value)}.items()
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, item in items:
        flat |= _flatten(item, f"{prefix}.{name}" if prefix else name)
    return flat


def specs_to_json(specs: "CodeSpecs") -> Any:
    """Returns a pytree of CodeSpec as dictionaries and lists, for JSON."""
    if isinstance(specs, tuple | list):
        return [specs_to_json(spec) for spec in specs]
    return dataclasses.asdict(specs)


def specs_from_json(values: Any) -> "CodeSpecs":
    """Rebuilds what `specs_to_json` wrote; lists become tuples."""
    from vq_jax.types import CodeSpec

    if isinstance(values, list):
        return tuple(specs_from_json(value) for value in values)
    return CodeSpec(**{**values, "shape": tuple(values["shape"])})
