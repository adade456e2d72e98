"""VQModel of diffusers: VQGAN's network under other names, in safetensors or PyTorch files.

Attention has linear layers instead of convolutions of width 1. Files from before these were called `to_q`
have `query` and so on; they come back under today's names.
"""

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from vq_jax.configs.model_base import Architecture
from vq_jax.configs.models import VQGAN
from vq_jax.configs.quantizers import VectorQuantizerConfig
from vq_jax.convert.base import Written, shape_of
from vq_jax.convert.places import Place, PlaceOf, Rules, Shape, linear, of_torch, plain, renamed
from vq_jax.convert.tokenizers import TokenizerFormat
from vq_jax.convert.vqgan import Names, check_vqgan, vqgan, vqgan_fields
from vq_jax.convert.weights_file import WeightsFile
from vq_jax.errors import UserError

_NAMES = Names("encoder.down_blocks.", ".resnets.", ".attentions.", "encoder.mid_block.attentions.")
_EARLIER = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
_TABLE = "quantize.embedding.weight"


class Diffusers(TokenizerFormat):
    """Folders and files of diffusers' VQModel."""

    name = "diffusers"
    title = "diffusers: VQModel, a folder with config.json or a file"
    within = ()
    writes = "safetensors"

    def recognises(self, names: Collection[str]) -> bool:
        return "encoder.down_blocks.0.resnets.0.conv1.weight" in names and _TABLE in names

    def prepared(self, file: WeightsFile) -> WeightsFile:
        def today(name: str) -> str:
            for earlier, now in _EARLIER.items():
                name = name.replace(earlier, now) if ".attentions." in name else name
            return name

        return dataclasses.replace(
            file, tensors={today(name): tensor for name, tensor in file.tensors.items()}
        )

    def model(self, file: WeightsFile) -> Architecture:
        for name, expected in (("norm_type", "group"), ("norm_num_groups", 32), ("act_fn", "silu")):
            if file.config.get(name, expected) != expected:
                raise UserError(
                    f"the config.json beside {file.path} has {name} = {file.config[name]!r}, "
                    f"expected {expected!r}"
                )
        size, width = shape_of(file, _TABLE, 2)
        quantizer = VectorQuantizerConfig(
            codebook_size=size, code_dim=width, commitment_weight=1.0, codebook_weight=0.25
        )
        return vqgan(quantizer, vqgan_fields(file, _NAMES))

    def place_of(self, model: Architecture) -> PlaceOf:
        network = check_vqgan(model, (VectorQuantizerConfig,))
        rules = _rules(len(network.channel_multipliers) - 1)

        def place(path: str, shape: Shape) -> Place:
            if path == "quantizer/embedding":
                return plain(_TABLE, shape)
            name = renamed(path, rules)
            return linear(name, shape) if ".to_" in name and len(shape) == 4 else of_torch(name, shape)

        return place

    def settings(self, file: WeightsFile) -> dict[str, Any]:
        return dict(file.config)

    def written(
        self, model: Architecture, tensors: dict[str, np.ndarray], settings: Mapping[str, Any]
    ) -> Written:
        return Written(tensors, None, {**_config(model), **settings})


def _rules(last: int) -> Rules:
    def up(match: re.Match[str]) -> str:  # their decoder counts its levels as they follow each other
        return f"up_blocks/{last - int(match[1])}/"

    return (
        (r"^encoder/quant_conv", "quant_conv"),
        (r"^decoder/post_quant_conv", "post_quant_conv"),
        (r"up_(\d+)_upsample/", lambda match: f"{up(match)}upsamplers/0/"),
        (r"down_(\d+)_downsample/", r"down_blocks/\1/downsamplers/0/"),
        (r"up_(\d+)/", up),
        (r"down_(\d+)/", r"down_blocks/\1/"),
        (r"mid/attention_1/", "mid_block/attentions/0/"),
        (r"mid/block_(\d)/", lambda match: f"mid_block/resnets/{int(match[1]) - 1}/"),
        (r"/block_(\d+)/", r"/resnets/\1/"),
        (r"/attention_(\d+)/", r"/attentions/\1/"),
        (r"(attentions/\d+)/norm/", r"\1/group_norm/"),
        (r"(attentions/\d+)/(q|k|v)/", r"\1/to_\2/"),
        (r"(attentions/\d+)/proj_out/", r"\1/to_out/0/"),
        (r"/shortcut/", "/conv_shortcut/"),
        (r"/norm_out/", "/conv_norm_out/"),
        (r"/(kernel|scale)$", "/weight"),
    )


def _config(model: Any) -> dict[str, Any]:
    network: VQGAN = model
    levels = range(len(network.channel_multipliers))
    attention = [level in network.attention_levels for level in levels]
    return {
        "_class_name": "VQModel",
        "act_fn": "silu",
        "block_out_channels": [network.channels * multiplier for multiplier in network.channel_multipliers],
        "down_block_types": [f"{'Attn' * here}DownEncoderBlock2D" for here in attention],
        "in_channels": network.image_channels,
        "latent_channels": network.z_channels,
        "layers_per_block": network.num_res_blocks,
        "mid_block_add_attention": network.middle_attention,
        "norm_num_groups": 32,
        "norm_type": "group",
        "num_vq_embeddings": model.quantizer.codebook_size,
        "out_channels": network.image_channels,
        "up_block_types": [f"{'Attn' * here}UpDecoderBlock2D" for here in reversed(attention)],
        "vq_embed_dim": model.quantizer.code_dim,
    }
