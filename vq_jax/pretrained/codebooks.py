"""Other codebooks for a trained tokenizer: the codes in use alone, or a computed table as a plain one."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from vq_jax.configs.quantizers import QuantizerConfig
from vq_jax.configs.runs import ExperimentConfig
from vq_jax.errors import UserError
from vq_jax.types import Array, Params


def renumber(codes: Any, used: np.ndarray) -> np.ndarray:
    """Returns what codes are called in a codebook that `Tokenizer.keep_used` reduced.

    Args:
      codes: integers of the whole codebook, of any shape.
      used: the codes that were kept, in ascending order, as `keep_used` returns them.

    Returns:
      int32 codes of the same shape: positions in `used`.

    Raises:
      UserError: the codes are not integers, or one of them was not kept.
    """
    codes, used = np.asarray(codes), np.asarray(used)
    if not np.issubdtype(codes.dtype, np.integer):
        raise UserError(f"expected integer codes, got {codes.dtype}")
    positions = np.minimum(np.searchsorted(used, codes), len(used) - 1)
    lost = np.unique(codes[used[positions] != codes])
    if lost.size:
        listed = ", ".join(map(str, lost[:5])) + (", ..." if lost.size > 5 else "")
        raise UserError(
            f"{lost.size} of the codes are not among the {len(used)} that were kept: {listed}. Encode the "
            "pictures with the reduced tokenizer, or count these codes as used too"
        )
    return positions.astype(np.int32)


def kept_codes(
    config: ExperimentConfig, quantizer: Any, variables: Mapping[str, Params], counts: Any
) -> tuple[ExperimentConfig, dict[str, Params], np.ndarray]:
    """Returns configuration and variables with the codes in use alone, and these codes; see
    `Tokenizer.keep_used`."""
    if not hasattr(quantizer, "keep"):
        raise UserError(
            f"expected a quantizer with one codebook of vectors, got {config.model.quantizer.name}: none of "
            "its codes can be left out"
        )
    counts = np.asarray(counts)
    if counts.shape != (quantizer.codebook_size,):
        raise UserError(
            f"expected how often each of the {quantizer.codebook_size} codes is used, got shape "
            f"{counts.shape}: np.bincount(codes.ravel(), minlength={quantizer.codebook_size}) counts them"
        )
    used = np.flatnonzero(counts > 0).astype(np.int32)
    if not used.size:
        raise UserError("expected counts of codes with one above zero, got none: count the codes of pictures")
    params, codebook = quantizer.keep(*_of_quantizer(variables), used)
    reduced = dataclasses.replace(config.model.quantizer, **{"codebook_size": len(used)})
    return _with_quantizer(config, reduced), _with_variables(variables, params, codebook), used


def folded_codebook(
    config: ExperimentConfig, quantizer: Any, variables: Mapping[str, Params]
) -> tuple[ExperimentConfig, dict[str, Params]]:
    """Returns configuration and variables with the codebook as a plain table; see `Tokenizer.folded`."""
    plain = config.model.quantizer.folded()
    if plain == config.model.quantizer or not hasattr(quantizer, "codebook"):  # or it is inside another
        return config, dict(variables)
    own = {name: tree["quantizer"] for name, tree in variables.items() if "quantizer" in tree}
    table: Any = jax.jit(lambda own: quantizer.apply(own, method="codebook"))(own)
    module: Any = plain.build()
    return _with_quantizer(config, plain), _with_variables(variables, *module.of_table(table))


def _of_quantizer(variables: Mapping[str, Params]) -> tuple[Any, Any]:
    return tuple(variables.get(name, {}).get("quantizer", {}) for name in ("params", "codebook"))


def _with_quantizer(config: ExperimentConfig, quantizer: QuantizerConfig) -> ExperimentConfig:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, quantizer=quantizer))


def _with_variables(
    variables: Mapping[str, Params], params: Mapping[str, Array], codebook: Mapping[str, Array]
) -> dict[str, Params]:
    changed: dict[str, Params] = {}
    for name, of_quantizer in (("params", params), ("codebook", codebook)):
        others = {part: tree for part, tree in variables.get(name, {}).items() if part != "quantizer"}
        changed[name] = {**others, **({"quantizer": dict(of_quantizer)} if of_quantizer else {})}
    return changed
