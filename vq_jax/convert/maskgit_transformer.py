"""The transformer of MaskGIT's authors, as a prior over the codes of their tokenizer.

References:
  Chang et al. 2022, MaskGIT, arXiv:2202.04200.
"""

import dataclasses
import re
from collections.abc import Collection
from typing import Any

from vq_jax.configs.priors import PostNormMaskGITArchitecture, PriorArchitecture
from vq_jax.convert.base import shape_of
from vq_jax.convert.places import Place, PlaceOf, Shape, plain
from vq_jax.convert.prior_format import PriorFormat
from vq_jax.convert.weights_file import WeightsFile
from vq_jax.errors import UserError

_TOP = "params/"
_TABLE = "Embed_0/word_embeddings/embedding"
_LAYER = "TransformerLayer_"
_PLACES = {
    "embedding": _TABLE,
    "position": "Embed_0/position_embeddings/embedding",
    "embedding_norm": "Embed_0/embeddings_ln",
    "out": "MlmLayer_0/mlm_dense",
    "out_norm": "MlmLayer_0/mlm_ln",
    "bias": "MlmLayer_0/mlm_bias/bias",
}
_IN_LAYER = {
    "attention": "Attention_0/self_attention",
    "attention_norm": "Attention_0/attention_output_ln",
    "mlp_in": "Mlp_0/intermediate_output",
    "mlp_out": "Mlp_0/layer_output",
    "mlp_norm": "Mlp_0/layer_output_ln",
}


class MaskGITTransformer(PriorFormat):
    """Transformers of MaskGIT's authors."""

    name = "maskgit-transformer"
    title = (
        "MaskGIT: the authors' transformer, of flax; give --tokenizer, the model directory of its tokenizer"
    )
    writes = None

    def recognises(self, names: Collection[str]) -> bool:
        return _TABLE in {name.removeprefix(_TOP) for name in names}

    def prepared(self, file: WeightsFile) -> WeightsFile:
        tensors = {name.removeprefix(_TOP): tensor for name, tensor in file.tensors.items()}
        return dataclasses.replace(file, tensors=tensors)

    def prior(self, file: WeightsFile, codebook_size: int) -> tuple[PriorArchitecture, int]:
        rows, width = shape_of(file, _TABLE, 2)
        if rows < codebook_size + 2:
            raise UserError(
                f"the prior in {file.path} has {rows} rows for codes, classes and the mask, and the "
                f"tokenizer has {codebook_size} codes: give the one that it was trained on"
            )
        layers = {name.split("/")[0] for name in file.tensors if name.startswith(_LAYER)}
        prior = PostNormMaskGITArchitecture(
            width=width,
            num_layers=len(layers),
            num_heads=shape_of(file, f"{_LAYER}0/Attention_0/self_attention/query/kernel", 3)[1],
            mlp_features=shape_of(file, f"{_LAYER}0/Mlp_0/intermediate_output/kernel", 2)[1],
            class_dropout=0.0,
        )
        return prior, rows - codebook_size - 1

    def place_of(self, prior: Any) -> PlaceOf:
        def place(path: str, shape: Shape) -> Place:
            if match := re.fullmatch(r"layer_(\d+)/(\w+)/(.*)", path):
                return plain(f"{_LAYER}{match[1]}/{_IN_LAYER[match[2]]}/{match[3]}", shape)
            part, slash, leaf = path.partition("/")
            return plain(_PLACES[part] + slash + leaf, shape)

        return place
