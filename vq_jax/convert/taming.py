"""Checkpoints of taming-transformers: VQModel and GumbelVQ, with their discriminator.

The loss of the released VQModels has beta on the codebook's side: the converted model has a commitment weight
of 1 and a codebook weight of 0.25, as it was trained.

References:
  Esser, Rombach, Ommer 2021, Taming Transformers for High-Resolution Image Synthesis, arXiv:2012.09841.
"""

from collections.abc import Collection

from vq_jax.configs.discriminators import DiscriminatorConfig
from vq_jax.configs.model_base import Architecture
from vq_jax.configs.quantizer_base import QuantizerConfig
from vq_jax.configs.quantizers import GumbelQuantizerConfig, VectorQuantizerConfig
from vq_jax.convert.base import shape_of
from vq_jax.convert.places import Place, PlaceOf, Rules, Shape, of_torch, plain, renamed
from vq_jax.convert.tokenizers import TokenizerFormat
from vq_jax.convert.vqgan import Names, as_convolution, check_vqgan, patch_discriminator, vqgan, vqgan_fields
from vq_jax.convert.weights_file import WeightsFile

NAMES = Names("encoder.down.", ".block.", ".attn.", "encoder.mid.attn_1.")
RULES: Rules = (
    (r"^encoder/quant_conv", "quant_conv"),
    (r"^decoder/post_quant_conv", "post_quant_conv"),
    (r"(down|up)_(\d+)/block_(\d+)/", r"\1/\2/block/\3/"),
    (r"(down|up)_(\d+)/attention_(\d+)/", r"\1/\2/attn/\3/"),
    (r"(down|up)_(\d+)_(downsample|upsample)/", r"\1/\2/\3/"),
    (r"/attention_1/", "/attn_1/"),
    (r"/shortcut/", "/nin_shortcut/"),
    (r"/(kernel|scale)$", "/weight"),
)
_PLAIN, _GUMBEL = "quantize.embedding.weight", "quantize.embed.weight"


class Taming(TokenizerFormat):
    """Checkpoints of taming-transformers."""

    name = "taming"
    title = "taming-transformers: VQModel or GumbelVQ, with its discriminator"
    discriminator_prefix = "loss.discriminator."
    lacks = (
        "the tensors of its perceptual loss (loss.perceptual_loss.*), which are those of LPIPS and not the "
        "model's: load it with strict=False"
    )

    def recognises(self, names: Collection[str]) -> bool:
        return "encoder.down.0.block.0.conv1.weight" in names and bool({_PLAIN, _GUMBEL} & set(names))

    def model(self, file: WeightsFile) -> Architecture:
        quantizer: QuantizerConfig
        if _GUMBEL in file.tensors:
            size, width = shape_of(file, _GUMBEL, 2)
            quantizer = GumbelQuantizerConfig(
                codebook_size=size, code_dim=width, initial_temperature=1.0, final_temperature=1.0
            )
        else:
            size, width = shape_of(file, _PLAIN, 2)
            quantizer = VectorQuantizerConfig(
                codebook_size=size, code_dim=width, commitment_weight=1.0, codebook_weight=0.25
            )
        return vqgan(quantizer, vqgan_fields(file, NAMES))

    def place_of(self, model: Architecture) -> PlaceOf:
        quantizer = check_vqgan(model, (VectorQuantizerConfig, GumbelQuantizerConfig)).quantizer
        if getattr(quantizer, "normalize", False):
            raise ValueError("its codebook is compared as it is, and this one by vectors of length one")
        table = _GUMBEL if isinstance(quantizer, GumbelQuantizerConfig) else _PLAIN

        def place(path: str, shape: Shape) -> Place:
            if path == "quantizer/embedding":
                return plain(table, shape)
            if path.startswith("quantizer/logits/"):
                end = "weight" if path.endswith("kernel") else "bias"
                return as_convolution(f"quantize.proj.{end}", shape)
            return of_torch(renamed(path, RULES), shape)

        return place

    def is_carried(self, name: str) -> bool:
        return name in ("quantize.used", "colorize") or name.endswith("num_batches_tracked")

    def is_left_out(self, name: str) -> bool:
        return name.startswith("loss.") and not name.startswith(self.discriminator_prefix)

    def discriminator(self, file: WeightsFile) -> DiscriminatorConfig | None:
        return patch_discriminator(file, self.discriminator_prefix)
