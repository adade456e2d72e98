"""Configurations as JSON and back, and what differs between two of them."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from vq_jax.configs.models import Architecture, architecture_class
from vq_jax.configs.priors import PriorArchitecture, prior_class
from vq_jax.configs.runs import ExperimentConfig, NoiseConfig, PriorConfig, RunConfig
from vq_jax.errors import nearest_names
from vq_jax.errors import require as _require

if TYPE_CHECKING:
    from vq_jax.types import CodeSpecs

# Parts whose class the JSON names by its architecture.
_BY_NAME: dict[Any, Callable[[str], Any]] = {Architecture: architecture_class, PriorArchitecture: prior_class}


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a configuration as plain dictionaries and lists, for JSON."""
    return {
        **(
            {"architecture": config.architecture}
            if isinstance(config, Architecture | PriorArchitecture)
            else {}
        ),
        **{field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)},
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """Rebuilds the configuration that `to_dict` wrote: a prior's where it has one, else a tokenizer's.

    A prior with losses is a noise generator.

    Raises:
      ValueError: an unknown field, with the nearest names, or a value that its class refuses.
    """
    kind: type[RunConfig] = ExperimentConfig
    if isinstance(values, Mapping) and "prior" in values:
        kind = NoiseConfig if "losses" in values else PriorConfig
    config: RunConfig = _build(kind, values, "")
    return config


def _build(cls: Any, values: Mapping[str, Any], path: str) -> Any:
    _require(
        isinstance(values, Mapping),
        f"expected named fields for {path.rstrip('.') or 'the configuration'}, got {values!r}",
    )
    base = next((base for base in _BY_NAME if issubclass(cls, base)), None)
    if base is not None:
        _require("architecture" in values, f"{path}architecture is missing")
        cls = _BY_NAME[base](values["architecture"])
        values = {name: value for name, value in values.items() if name != "architecture"}
    hints = typing.get_type_hints(cls)
    for name in values:
        _require(name in hints, f"unknown field {path}{name}{nearest_names(name, hints)}")
    return cls(**{name: _convert(hints[name], value, path + name) for name, value in values.items()})


def _convert(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, f"{path}.")
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is None:
        return value
    if typing.get_origin(hint) is tuple:
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
