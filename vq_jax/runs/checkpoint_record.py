"""What is saved beside the arrays of a checkpoint: their types and digests, and the digest of all that."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from vq_jax.errors import UserError
from vq_jax.runs.digest import leaf_types, tree_digest

PyTree = Any


def make_record(
    step: int, state: PyTree, meta: dict[str, Any], validation_loss: float | None
) -> dict[str, Any]:
    """Describes a state for its checkpoint.

    Args:
        step: it is saved under.
        state: pytree of arrays.
        meta: anything that JSON can hold.
        validation_loss: of the checkpoint.

    Returns:
        A dict that JSON can hold.
    """
    body = {
        "step": step,
        "meta": meta,
        "validation_loss": validation_loss,
        "leaves": leaf_types(state),
        "digests": state_digests(state),
    }
    body = json.loads(json.dumps(body))
    return {"body": body, "sha256": body_digest(body)}


def read_record(step: int, record: Any) -> dict[str, Any] | None:
    """Returns the body of what `make_record` made; None where it is not what was saved.

    A record from before steps were noted counts as that of `step`.
    """
    if not isinstance(record, dict) or body_digest(record.get("body")) != record.get("sha256"):
        return None
    body = {"step": step, **record["body"]} if isinstance(record["body"], dict) else {}
    return body if {"meta", "validation_loss", "leaves", "digests"} <= body.keys() else None


def body_digest(body: Any) -> str:
    """Returns the SHA-256 of a record's body."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def state_digests(state: PyTree) -> dict[str, list[int]]:
    """Returns the two checksums of every leaf by its path, see `digest.tree_digest`."""
    return {name: np.asarray(digest).tolist() for name, digest in jax.device_get(tree_digest(state)).items()}


def of_parts(leaves: dict[str, Any], parts: Sequence[str] | None) -> dict[str, Any]:
    """Selects the entries of some parts of a state.

    Args:
        leaves: by the paths of the whole state, such as `.generator.params['encoder']`.
        parts: places in the state, such as `generator/params`; None for the whole.

    Returns:
        Those of the parts, by their paths in nested dictionaries, `['generator']['params']['encoder']`;
        the leaves themselves where `parts` is None.
    """
    if parts is None:
        return leaves
    places = tuple("".join(f"['{key}']" for key in part.split("/")) for part in parts)
    named = {
        re.sub(r"(\[[^]]*\])|\.(\w+)", lambda found: found[1] or f"['{found[2]}']", path): leaf
        for path, leaf in leaves.items()
    }
    return {path: leaf for path, leaf in named.items() if path.startswith(places)}


def check_same_model(step: int, *, saved: dict[str, str], wanted: dict[str, str]) -> None:
    """Raises UserError where the checkpoint is sound but of a state of another structure.

    Args:
        step: of the checkpoint.
        saved: types of its leaves by their paths.
        wanted: types of the leaves to restore.
    """
    lines = [
        f"{name}: {saved.get(name, 'nothing')} in the checkpoint, {wanted.get(name, 'nothing')} in the model"
        for name in {**saved, **wanted}
        if saved.get(name) != wanted.get(name)
    ]
    if lines:
        raise UserError(
            f"the checkpoint of step {step} is of another model or optimizer: "
            f"{some(lines, '; ')}. "
            "Use the configuration that it was trained with, or another working directory."
        )


def some(names: Sequence[str], separator: str = ", ") -> str:
    """Joins the first three names and says how many more there are."""
    more = f"{separator}and {len(names) - 3} more" if len(names) > 3 else ""
    return separator.join(names[:3]) + more
