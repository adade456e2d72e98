"""Whether two tokenizers give the same codes: a hash of the weights and of what is not default."""

import dataclasses
import hashlib
import json
from typing import Any

import jax
import numpy as np

from vq_jax.configs.earlier import downgrade_model
from vq_jax.configs.model_base import Architecture
from vq_jax.configs.serialize import part_to_dict
from vq_jax.types import Params

# The fields that the configurations of models had when fingerprints hashed all of them.
_OLD_CNN = (
    *("channels", "channel_multipliers", "num_res_blocks", "attention_levels", "middle_attention"),
    *("z_channels", "remat"),
)
_OLD_FIELDS = {
    "vqvae-residual": ("channels", "residual_channels", "num_res_blocks", "num_downsamples", "upsampling"),
    "vqvae-mlp": ("image_size", "hidden_features", "num_latents"),
    "vqgan-f4": _OLD_CNN,
    "vqgan-f8": _OLD_CNN,
    "vqgan-f16": _OLD_CNN,
    "llamagen-vq16": _OLD_CNN,
    "maskgit-vqgan": ("channels", "channel_multipliers", "num_res_blocks", "remat"),
}
_OLD_QUANTIZER = (
    *("image_channels", "quantizer", "codebook_size", "code_dim", "commitment_weight", "codebook_weight"),
    *("decay", "epsilon", "normalize", "revive_threshold", "entropy_weight", "entropy_temperature"),
)


def fingerprint(model: Architecture, variables: Params) -> str:
    """Hashes a tokenizer: 32 hexadecimal digits.

    A field with its default value does not count, so that a new field with a default leaves the fingerprints
    of older tokenizers as they are.

    Args:
      model: the configuration of its model.
      variables: its parameters and codebook.
    """
    return _hash(not_default(model), variables)


def old_fingerprint(model: Architecture, variables: Params) -> str | None:
    """The fingerprint by the earlier formula, which hashed all fields: that of records without a version.

    Returns:
      The fingerprint; None for a model that did not exist then.
    """
    fields = _OLD_FIELDS.get(model.architecture)
    if fields is None:
        return None
    try:
        values = downgrade_model(part_to_dict(model))
    except ValueError:  # another quantizer
        return None
    return _hash({name: values[name] for name in ("architecture", *_OLD_QUANTIZER, *fields)}, variables)


def not_default(config: Any) -> dict[str, Any]:
    """The fields of a dataclass whose values are not their defaults, and its registered name.

    In a nested dataclass, likewise those that are not the defaults of its own class.
    """
    plain, fields = part_to_dict(config), dataclasses.fields(config)
    chosen = {name: value for name, value in plain.items() if name not in {field.name for field in fields}}
    for field in fields:
        value = getattr(config, field.name)
        if value != field.default:
            chosen[field.name] = not_default(value) if dataclasses.is_dataclass(value) else plain[field.name]
    return chosen


def _hash(values: dict[str, Any], variables: Params) -> str:
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()[:32]
