"""Configurations from before there was a `version`: what they are now, and what a model was then."""

from collections.abc import Mapping
from typing import Any

# Of the quantizers of then: the fields that both had, and the one of each alone, with its default.
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

    The kind followed from the parts: a prior's had `prior`, and a noise generator's `losses` too.
    """
    if "prior" in values:
        return {"kind": "noise" if "losses" in values else "prior", **values}
    model = values.get("model")
    upgraded = {"model": upgrade_model(model)} if isinstance(model, Mapping) else {}
    return {"kind": "tokenizer", **values, **upgraded}


def upgrade_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a model with its quantizer's, which stood among them, in a part of their own."""
    kind = model.get("quantizer")
    if kind not in _OWN:
        return dict(model)
    moved = {*_SHARED, *(name for name, _ in _OWN.values())}
    kept = (*_SHARED, _OWN[kind][0])
    quantizer = {"name": kind, **{name: model[name] for name in kept if name in model}}
    return {**{name: value for name, value in model.items() if name not in moved}, "quantizer": quantizer}


def downgrade_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """Undoes `upgrade_model`.

    Raises:
      ValueError: the model has a quantizer that did not exist then.
    """
    quantizer = dict(model["quantizer"])
    kind = quantizer.pop("name")
    if kind not in _OWN:
        raise ValueError(f"the quantizer {kind} did not exist before there was a version")
    return {**model, **dict(_OWN.values()), **quantizer, "quantizer": kind}
