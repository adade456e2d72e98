"""Tokenizers of LlamaGen, VQ-8 and VQ-16: VQGAN's network, and codes of unit length.

References:
  Sun et al. 2024, LlamaGen, arXiv:2406.06525.
"""

import re
from collections.abc import Collection

from vq_jax.configs.model_base import Architecture
from vq_jax.configs.models import LlamaGenVQ16
from vq_jax.configs.quantizers import VectorQuantizerConfig
from vq_jax.convert.base import shape_of
from vq_jax.convert.places import Place, PlaceOf, Rules, Shape, of_torch, plain, renamed
from vq_jax.convert.tokenizers import TokenizerFormat
from vq_jax.convert.vqgan import Names, check_vqgan, vqgan, vqgan_fields
from vq_jax.convert.weights_file import WeightsFile

_NAMES = Names("encoder.conv_blocks.", ".res.", ".attn.", "encoder.mid.1.")
_TABLE = "quantize.embedding.weight"


class LlamaGen(TokenizerFormat):
    """Tokenizers of LlamaGen."""

    name = "llamagen"
    title = "LlamaGen: its tokenizer VQ-8 or VQ-16"
    within = ("ema", "model", "state_dict")

    def recognises(self, names: Collection[str]) -> bool:
        return "encoder.conv_blocks.0.res.0.conv1.weight" in names and _TABLE in names

    def model(self, file: WeightsFile) -> Architecture:
        size, width = shape_of(file, _TABLE, 2)
        fields = vqgan_fields(file, _NAMES)
        quantizer = VectorQuantizerConfig(codebook_size=size, code_dim=width, normalize=True)
        if len(fields["channel_multipliers"]) == 5:
            return LlamaGenVQ16(quantizer=quantizer, **fields)
        return vqgan(quantizer, fields)

    def place_of(self, model: Architecture) -> PlaceOf:
        network = check_vqgan(model, (VectorQuantizerConfig,))
        last = len(network.channel_multipliers) - 1
        if not getattr(network.quantizer, "normalize", False):
            raise ValueError(
                "its codes are vectors of length one (model.quantizer.normalize), and these are not"
            )
        if network.attention_levels != (last,) or not network.middle_attention:
            raise ValueError(
                f"it has attention at its last level, {last}, and in the middle, and this model at "
                f"{network.attention_levels}{' and in the middle' * network.middle_attention}"
            )
        rules = _rules(last)

        def place(path: str, shape: Shape) -> Place:
            if path == "quantizer/embedding":
                return plain(_TABLE, shape)
            return of_torch(renamed(path, rules), shape)

        return place

    def is_carried(self, name: str) -> bool:
        return name == "quantize.codebook_used"  # codes of the last batches of their training


def _rules(last: int) -> Rules:
    def up(match: re.Match[str]) -> str:  # their decoder counts its levels as they follow each other
        return f"conv_blocks/{last - int(match[1])}/"

    return (
        (r"^encoder/quant_conv", "quant_conv"),
        (r"^decoder/post_quant_conv", "post_quant_conv"),
        (r"up_(\d+)_upsample/", lambda match: f"{up(match)}upsample/"),
        (r"down_(\d+)_downsample/", r"conv_blocks/\1/downsample/"),
        (r"up_(\d+)/", up),
        (r"down_(\d+)/", r"conv_blocks/\1/"),
        (r"mid/block_1/", "mid/0/"),
        (r"mid/attention_1/", "mid/1/"),
        (r"mid/block_2/", "mid/2/"),
        (r"/block_(\d+)/", r"/res/\1/"),
        (r"/attention_(\d+)/", r"/attn/\1/"),
        (r"/shortcut/", "/nin_shortcut/"),
        (r"/(kernel|scale)$", "/weight"),
    )
