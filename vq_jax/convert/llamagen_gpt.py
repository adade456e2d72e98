"""LlamaGen's class-conditional GPT, as a prior over the codes of its tokenizer.

Rotations turn neighbouring channels there and channels half a head apart here: queries and keys are in
another order. The number of heads is not in the file: heads are 64 wide, those of the 3B model 100.

References:
  Sun et al. 2024, LlamaGen, arXiv:2406.06525.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from vq_jax.configs.priors import GPTArchitecture, PriorArchitecture
from vq_jax.convert.base import shape_of
from vq_jax.convert.places import Place, PlaceOf, Shape, constant, numbers_after, plain
from vq_jax.convert.prior_format import PriorFormat, check_codes
from vq_jax.convert.weights_file import WeightsFile
from vq_jax.errors import UserError

_CLASSES = "cls_embedding.embedding_table.weight"
_IN_LAYER = {
    "attention_norm/scale": ("attention_norm",),
    "mlp_norm/scale": ("ffn_norm",),
    "qkv/kernel": ("attention.wqkv",),
    "attention_out/kernel": ("attention.wo",),
    "gate_up/kernel": ("feed_forward.w1", "feed_forward.w3"),
    "down/kernel": ("feed_forward.w2",),
}
_TOP = {"prefix": _CLASSES, "norm/scale": "norm.weight"}


class LlamaGenGPT(PriorFormat):
    """LlamaGen's GPT from classes to codes."""

    name = "llamagen-gpt"
    title = "LlamaGen: its GPT from classes to codes; give --tokenizer, the model directory of its tokenizer"
    within = ("model", "module", "state_dict")

    def recognises(self, names: Collection[str]) -> bool:
        return _CLASSES in names and "layers.0.attention.wqkv.weight" in names

    def prior(self, file: WeightsFile, codebook_size: int) -> tuple[PriorArchitecture, int]:
        check_codes(file, shape_of(file, "tok_embeddings.weight", 2)[0], codebook_size)
        classes, width = shape_of(file, _CLASSES, 2)
        prior = GPTArchitecture(
            width=width,
            num_layers=len(numbers_after(file.tensors, "layers.")),
            num_heads=_heads(file, width),
            mlp_features=shape_of(file, "layers.0.feed_forward.w1.weight", 2)[0],
            norm_epsilon=1e-5,
            silent_prefix=True,
        )
        return prior, classes - 1

    def place_of(self, prior: Any) -> PlaceOf:
        if not isinstance(prior, GPTArchitecture):
            raise ValueError(f"it is a gpt, and this is {prior.architecture}")
        if not prior.silent_prefix or prior.norm_epsilon != 1e-5 or prior.class_dropout == 0:
            raise ValueError("it has prior.silent_prefix, prior.norm_epsilon 1e-5 and prior.class_dropout")
        return _place_of(prior)


def _heads(file: WeightsFile, width: int) -> int:
    head = 100 if width == 3200 else 64
    if width % head:
        raise UserError(f"{file.path}: expected a width that is a multiple of {head}, a head's, got {width}")
    return width // head


def _place_of(prior: GPTArchitecture) -> PlaceOf:
    def place(path: str, shape: Shape) -> Place:
        if path.startswith("position_"):
            return constant(0.0, shape, f"the table {path} of learned positions")
        if path in _TOP:
            return plain(_TOP[path], shape)
        if path == "embedding":  # [1, K, E]
            return Place(("tok_embeddings.weight",), (shape[1:],), lambda t: t[0][None], lambda a: (a[0],))
        if path == "head":  # [1, E, K]
            there = (shape[2], shape[1])
            return Place(("output.weight",), (there,), lambda t: t[0].T[None], lambda a: (a[0].T,))
        parts = _IN_LAYER[path.removeprefix("layers/blocks/")]
        return _stacked(parts, shape, prior.num_heads if "qkv" in path else 0)

    return place


def _stacked(parts: tuple[str, ...], shape: Shape, heads: int) -> Place:
    """The place of an array of all layers, of which each has one or two tensors; `heads` of their queries."""
    layers, *inner = shape
    names = tuple(f"layers.{layer}.{part}.weight" for layer in range(layers) for part in parts)
    if len(inner) == 1:
        there: Shape = (inner[0],)
    else:
        there = (inner[1] // len(parts), inner[0])

    def join(tensors: Sequence[np.ndarray]) -> np.ndarray:
        rows = [
            np.concatenate(tensors[first : first + len(parts)]) for first in range(0, len(names), len(parts))
        ]
        whole = np.stack([_turned(row, heads, back=False) if heads else row for row in rows])
        return whole if len(inner) == 1 else whole.transpose(0, 2, 1)

    def split(array: np.ndarray) -> Sequence[np.ndarray]:
        whole = array if len(inner) == 1 else array.transpose(0, 2, 1)
        rows = [_turned(row, heads, back=True) if heads else row for row in whole]
        return [tensor for row in rows for tensor in np.split(row, len(parts))]

    return Place(names, (there,) * len(names), join, split)


def _turned(rows: np.ndarray, heads: int, *, back: bool) -> np.ndarray:
    """Rows [3E, E] of queries, keys and values with the channels of the first two in the other order."""
    split = rows.reshape(3, heads, -1, rows.shape[1])
    order = np.concatenate([np.arange(0, split.shape[2], 2), np.arange(1, split.shape[2], 2)])
    order = np.argsort(order) if back else order
    return np.concatenate([split[:2, :, order], split[2:]]).reshape(rows.shape)
