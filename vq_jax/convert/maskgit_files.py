"""The tokenizer of MaskGIT's authors: flax parameters in msgpack, numbered as flax numbers layers.

Their pictures are in [0, 1]: the converted model has `unit_range`.

References:
  Chang et al. 2022, MaskGIT, arXiv:2202.04200.
"""

import dataclasses
import re
from collections.abc import Collection

from vq_jax.configs.model_base import Architecture
from vq_jax.configs.models import MaskGITVQGAN
from vq_jax.configs.quantizers import VectorQuantizerConfig
from vq_jax.convert.base import shape_of
from vq_jax.convert.places import Place, PlaceOf, Shape, plain
from vq_jax.convert.tokenizers import TokenizerFormat
from vq_jax.convert.weights_file import WeightsFile
from vq_jax.errors import UserError

_TOP = "params/"
_IN_BLOCK = {
    "norm1": "GroupNorm_0",
    "norm2": "GroupNorm_1",
    "conv1": "Conv_0",
    "conv2": "Conv_1",
    "shortcut": "Conv_2",
}


class MaskGITTokenizer(TokenizerFormat):
    """Tokenizers of MaskGIT's authors."""

    name = "maskgit"
    title = "MaskGIT: the authors' tokenizer, of flax"
    writes = None

    def recognises(self, names: Collection[str]) -> bool:
        plain_names = {name.removeprefix(_TOP) for name in names}
        return {"quantizer/codebook", "encoder/ResBlock_0/Conv_0/kernel"} <= plain_names

    def prepared(self, file: WeightsFile) -> WeightsFile:
        tensors = {name.removeprefix(_TOP): tensor for name, tensor in file.tensors.items()}
        return dataclasses.replace(file, tensors=tensors)

    def model(self, file: WeightsFile) -> Architecture:
        size, width = shape_of(file, "quantizer/codebook", 2)
        *_, image_channels, channels = shape_of(file, "encoder/Conv_0/kernel", 4)
        levels = _count(file, "decoder/Conv_") - 1
        blocks = _count(file, "encoder/ResBlock_")
        if levels < 1 or blocks % (levels + 1):
            raise UserError(
                f"{file.path}: expected as many residual blocks in each of {levels} levels and after them, "
                f"got {blocks}"
            )
        each = blocks // (levels + 1)
        widths = [
            shape_of(file, f"encoder/ResBlock_{level * each}/Conv_0/kernel", 4)[-1] for level in range(levels)
        ]
        if any(length % channels for length in widths):
            raise UserError(f"{file.path}: expected widths that are multiples of {channels}, got {widths}")
        return MaskGITVQGAN(
            image_channels=image_channels,
            quantizer=VectorQuantizerConfig(codebook_size=size, code_dim=width),
            channels=channels,
            channel_multipliers=tuple(length // channels for length in widths),
            num_res_blocks=each,
            unit_range=True,
        )

    def place_of(self, model: Architecture) -> PlaceOf:
        if not isinstance(model, MaskGITVQGAN):
            raise ValueError(f"it has the model maskgit-vqgan, and this is {model.architecture}")
        last, each = len(model.channel_multipliers) - 1, model.num_res_blocks

        def place(path: str, shape: Shape) -> Place:
            part, _, rest = path.partition("/")
            if part == "quantizer":
                return plain("quantizer/codebook", shape)
            number = _encoder_layer if part == "encoder" else _decoder_layer
            layer, _, leaf = rest.rpartition("/")
            return plain(f"{part}/{number(layer, last, each)}/{leaf}", shape)

        return place


def _encoder_layer(layer: str, last: int, each: int) -> str:
    if match := re.fullmatch(r"(down_(\d+)|mid)/block_(\d+)/(\w+)", layer):
        level = last + 1 if match[1] == "mid" else int(match[2])
        return f"ResBlock_{level * each + int(match[3])}/{_IN_BLOCK[match[4]]}"
    return {"conv_in": "Conv_0", "norm_out": "GroupNorm_0", "conv_out": "Conv_1"}[layer]


def _decoder_layer(layer: str, last: int, each: int) -> str:
    if match := re.fullmatch(r"(up_(\d+)|mid)/block_(\d+)/(\w+)", layer):
        level = 0 if match[1] == "mid" else last + 1 - int(match[2])
        return f"ResBlock_{level * each + int(match[3])}/{_IN_BLOCK[match[4]]}"
    if match := re.fullmatch(r"up_(\d+)_upsample/conv", layer):
        return f"Conv_{last + 1 - int(match[1])}"
    return {"conv_in": "Conv_0", "norm_out": "GroupNorm_0", "conv_out": f"Conv_{last + 1}"}[layer]


def _count(file: WeightsFile, prefix: str) -> int:
    found = {re.match(rf"{prefix}(\d+)/", name) for name in file.tensors}
    return len({match[1] for match in found if match})
