"""Conversion of configurations written before they had a `version`, and of models back to that form."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vq_jax.configs.priors import PRIORS, prior_class

# Fields that both quantizers had then, and the one field that only one of them had, with its default.
_SHARED = (
    "codebook_size",
    "code_dim",
    "commitment_weight",
    "normalize",
    "decay",
    "revive_threshold",
    "entropy_weight",
    "entropy_temperature",
)
_OWN = {"ema": ("epsilon", 1e-5), "gradient": ("codebook_weight", 1.0)}


def upgrade(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the configuration of a run as `serialize.to_dict` writes it now, with its kind.

    The parts determine the kind: a prior's configuration has `prior`, a noise generator's also `losses`.
    `sampling` held the options of all samplers; those that the prior's own sampler does not take are dropped.
    """
    if "prior" in values:
        kept = {"sampling": _own_options(values)} if "sampling" in values else {}
        return {"kind": "noise" if "losses" in values else "prior", **values, **kept}
    model = values.get("model")
    upgraded = {"model": upgrade_model(model)} if isinstance(model, Mapping) else {}
    return {"kind": "tokenizer", **values, **upgraded}


def _own_options(values: Mapping[str, Any]) -> dict[str, Any]:
    own = {field.name for field in dataclasses.fields(prior_class(values["prior"]["architecture"]).options)}
    known = own.union(
        *({field.name for field in dataclasses.fields(prior.options)} for prior in PRIORS.values())
    )
    return {name: value for name, value in values["sampling"].items() if name in own or name not in known}


def upgrade_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """Moves the fields of the quantizer, which were among the model's, into a part of their own."""
    kind = model.get("quantizer")
    if kind not in _OWN:
        return dict(model)
    moved = {*_SHARED, *(name for name, _ in _OWN.values())}
    kept = (*_SHARED, _OWN[kind][0])
    quantizer = {"name": kind, **{name: model[name] for name in kept if name in model}}
    return {**{name: value for name, value in model.items() if name not in moved}, "quantizer": quantizer}


def downgrade_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """Undoes `upgrade_model`; leaves out the fields of the quantizer that came later.

    Raises:
      ValueError: the model's quantizer did not exist then.
    """
    quantizer = dict(model["quantizer"])
    kind = quantizer.pop("name")
    if kind not in _OWN:
        raise ValueError(f"the quantizer {kind} did not exist before configurations had a version")
    kept = {name: quantizer[name] for name in (*_SHARED, _OWN[kind][0])}
    return {**model, **dict(_OWN.values()), **kept, "quantizer": kind}
