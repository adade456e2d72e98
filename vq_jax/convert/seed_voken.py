"""Tokenizers of SEED-Voken: Open-MAGVIT2 and IBQ.

Their checkpoints also hold running averages of the weights, which their evaluation takes: where there are
averages, they are what is converted, and they come back under the plain names.

References:
  Luo et al. 2024, Open-MAGVIT2, arXiv:2409.04410. Shi et al. 2024, IBQ, arXiv:2412.02692.
"""

import dataclasses
from collections.abc import Collection

from vq_jax.configs.grid_quantizers import LFQConfig
from vq_jax.configs.model_base import Architecture
from vq_jax.configs.models import OpenMAGVIT2
from vq_jax.configs.quantizers import IBQConfig
from vq_jax.convert.base import shape_of
from vq_jax.convert.places import Place, PlaceOf, Rules, Shape, numbers_after, of_torch, plain, renamed
from vq_jax.convert.taming import NAMES as IBQ_NAMES
from vq_jax.convert.taming import RULES as IBQ_RULES
from vq_jax.convert.tokenizers import TokenizerFormat
from vq_jax.convert.vqgan import check_vqgan, level_widths, vqgan, vqgan_fields
from vq_jax.convert.weights_file import WeightsFile

_AVERAGES = "model_ema."
_TABLE = "quantize.embedding.weight"
_RULES: Rules = (
    (r"down_(\d+)_downsample/", r"down/\1/downsample/"),
    (r"up_(\d+)_upsample/", r"up/\1/upsample/conv1/"),
    (r"up_(\d+)_norm/", r"adaptive/\1/"),
    (r"(down|up)_(\d+)/block_(\d+)/", r"\1/\2/block/\3/"),
    (r"mid/block_(\d+)/", r"mid_block/\1/"),
    (r"/shortcut/", "/nin_shortcut/"),
    (r"/(kernel|scale)$", "/weight"),
)


class _SeedVoken(TokenizerFormat):
    """What both have in common."""

    def prepared(self, file: WeightsFile) -> WeightsFile:
        averages = {
            name: file.tensors.get(_AVERAGES + name.replace(".", ""), tensor)
            for name, tensor in file.tensors.items()
            if not name.startswith(_AVERAGES)
        }
        return dataclasses.replace(file, tensors=averages)

    def is_left_out(self, name: str) -> bool:
        return name.startswith("loss.")


class OpenMagvit2Format(_SeedVoken):
    """Tokenizers of Open-MAGVIT2."""

    name = "open-magvit2"
    title = "Open-MAGVIT2: its tokenizer of pictures"

    def recognises(self, names: Collection[str]) -> bool:
        return "encoder.mid_block.0.conv1.weight" in names and "decoder.adaptive.0.gamma.weight" in names

    def model(self, file: WeightsFile) -> Architecture:
        channels, image_channels = shape_of(file, "encoder.conv_in.weight", 4)[:2]
        return OpenMAGVIT2(
            image_channels=image_channels,
            quantizer=LFQConfig(bits=shape_of(file, "encoder.conv_out.weight", 4)[0]),
            channels=channels,
            channel_multipliers=level_widths(file, IBQ_NAMES, channels),
            num_res_blocks=len(numbers_after(file.tensors, "encoder.down.0.block.")),
        )

    def place_of(self, model: Architecture) -> PlaceOf:
        if not isinstance(model, OpenMAGVIT2) or type(model.quantizer) is not LFQConfig:
            raise ValueError(f"it has the model open-magvit2 with lfq, and this is {model.architecture}")
        if model.quantizer.spherical:
            raise ValueError(
                "its codes are -1 and 1, and these are of unit length (model.quantizer.spherical)"
            )
        return lambda path, shape: of_torch(renamed(path, _RULES), shape)


class IBQFormat(_SeedVoken):
    """Tokenizers of IBQ."""

    name = "ibq"
    title = "IBQ: its tokenizer of pictures"

    def recognises(self, names: Collection[str]) -> bool:
        return "encoder.down.0.block.0.conv1.weight" in names and _TABLE in names

    def model(self, file: WeightsFile) -> Architecture:
        size, width = shape_of(file, _TABLE, 2)
        return vqgan(IBQConfig(codebook_size=size, code_dim=width), vqgan_fields(file, IBQ_NAMES))

    def place_of(self, model: Architecture) -> PlaceOf:
        check_vqgan(model, (IBQConfig,))

        def place(path: str, shape: Shape) -> Place:
            if path == "quantizer/embedding":
                return plain(_TABLE, shape)
            return of_torch(renamed(path, IBQ_RULES), shape)

        return place
