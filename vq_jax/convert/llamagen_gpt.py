"""LlamaGen's class-conditional GPT, as a prior over the codes of its tokenizer.

Rotations turn neighbouring channels there and channels half a head apart here: queries and keys are in
another order. The number of heads is not in the file: heads are 64 wide, those of the 3B model 100.

References:
  Sun et al. 2024, LlamaGen, arXiv:2406.06525.
"""

from collections.abc import Collection, Sequence
from typing import Any

import jax
import numpy as np

from vq_jax.configs.priors import GPTArchitecture
from vq_jax.configs.runs import PriorConfig
from vq_jax.convert.base import Asked, Converted, Format, Written, shape_of
from vq_jax.convert.places import Place, Shape, constant, given_back, names_used, numbers_after, plain, taken
from vq_jax.convert.tokenizers import model_name
from vq_jax.convert.torch_tensor import DTYPES, dtype_names
from vq_jax.convert.weights_file import WeightsFile, named
from vq_jax.errors import UserError
from vq_jax.pretrained.build import abstract_prior, build_prior
from vq_jax.pretrained.load_tokenizer import load_tokenizer
from vq_jax.pretrained.model_directory import Origin
from vq_jax.pretrained.prior import Prior
from vq_jax.types import CodeSpec

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


class LlamaGenGPT(Format):
    """LlamaGen's GPT from classes to codes."""

    name = "llamagen-gpt"
    title = "LlamaGen: its GPT from classes to codes; give --tokenizer, the model directory of its tokenizer"
    within = ("model", "module", "state_dict")

    def recognises(self, names: Collection[str]) -> bool:
        return _CLASSES in names and "layers.0.attention.wqkv.weight" in names

    def convert(self, file: WeightsFile, asked: Asked) -> Converted:
        """Converts a file, see `Format.convert`."""
        if asked.tokenizer is None:
            raise UserError(
                "expected the tokenizer whose codes the GPT models: convert it first, and give its model "
                "directory as --tokenizer DIR"
            )
        tokenizer = load_tokenizer(asked.tokenizer)
        specs = tokenizer.code_specs(asked.image_size)
        codes, _ = shape_of(file, "tok_embeddings.weight", 2)
        if not isinstance(specs, CodeSpec) or specs.codebook_size != codes:
            raise UserError(
                f"the GPT in {file.path} models {codes} codes, and the tokenizer in {asked.tokenizer} has "
                f"{tokenizer.config.model.quantizer.describe()}: give the tokenizer that it was trained on"
            )
        classes, width = shape_of(file, _CLASSES, 2)
        hidden, _ = shape_of(file, "layers.0.feed_forward.w1.weight", 2)
        prior = GPTArchitecture(
            width=width,
            num_layers=len(numbers_after(file.tensors, "layers.")),
            num_heads=_heads(file, width),
            mlp_features=hidden,
            norm_epsilon=1e-5,
            silent_prefix=True,
        )
        config = PriorConfig(model_name(file, self.name), prior)
        model = build_prior(config, specs, classes - 1, tokenizer.config)
        abstract = abstract_prior(model)["params"]
        params = taken(file, abstract, _place_of(prior), f"model of {self.name}")
        used = names_used(abstract, _place_of(prior))
        unknown = [name for name in file.tensors if name not in used]
        if unknown:
            raise UserError(
                f"{file.path} is not a model of {self.name} as its other tensors describe it: it has "
                f"{named(unknown)} too"
            )
        found = Prior(model, {"params": params}, tokenizer, config, 0, asked.image_size)
        origin = Origin(self.name, dtype_names(file.tensors), {}, {"under": file.under})
        summary = f"{config.name}: gpt, {prior.num_layers} layers {width} wide, {classes - 1} classes"
        return Converted(found.files(origin), summary)

    def export(self, model: Any, origin: Origin | None) -> Written:
        """Returns a prior as a file, see `Format.export`."""
        prior = model.config.prior if isinstance(model, Prior) else None
        if not isinstance(prior, GPTArchitecture) or model.num_classes is None:
            raise UserError(f"files of {self.name} hold a gpt with classes, and {model.config.name} is none")
        if not prior.silent_prefix or prior.norm_epsilon != 1e-5 or prior.class_dropout == 0:
            raise UserError(
                f"files of {self.name} hold a gpt with prior.silent_prefix, prior.norm_epsilon 1e-5 and "
                f"prior.class_dropout, and {model.config.name} has others"
            )
        try:
            tensors = given_back(jax.device_get(model.variables["params"]), _place_of(prior))
        except ValueError as error:
            raise UserError(
                f"{model.config.name} cannot be written as a file of {self.name}: {error}"
            ) from error
        if origin is None or origin.format != self.name:
            return Written(tensors, self.within[0])
        for name, dtype in origin.dtypes.items():
            tensors[name] = tensors[name].astype(DTYPES[dtype])
        return Written(tensors, origin.settings.get("under"))


def _heads(file: WeightsFile, width: int) -> int:
    head = 100 if width == 3200 else 64
    if width % head:
        raise UserError(f"{file.path}: expected a width that is a multiple of {head}, a head's, got {width}")
    return width // head


def _place_of(prior: GPTArchitecture) -> Any:
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
