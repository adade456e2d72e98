"""Named models: frozen dataclasses whose fields can be overridden and that build an `nn.VQModel`.

Nothing here imports jax until a model is built, so that the command line responds quickly.
"""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from vq_jax.configs.data import ImageSize
from vq_jax.configs.model_base import Architecture, check_fixed, check_multiple, check_no_frames
from vq_jax.configs.quantizer_base import QuantizerConfig
from vq_jax.configs.quantizers import (
    LFQConfig,
    MultiScaleQuantizerConfig,
    ResidualQuantizerConfig,
    VectorQuantizerConfig,
    VectorQuantizerEMAConfig,
)
from vq_jax.configs.transformer_models import ViTVQ
from vq_jax.configs.video_models import MAGVIT2Video, MotionVQVAE, VideoVQVAE
from vq_jax.errors import lookup, require
from vq_jax.ranges import between

if TYPE_CHECKING:
    from flax import linen


@dataclasses.dataclass(frozen=True)
class ResidualVQVAE(Architecture):
    """The convolutional VQ-VAE of van den Oord et al. 2017: two convolutions of stride 2, residual blocks."""

    architecture: ClassVar[str] = "vqvae-residual"

    channels: int = 128
    """Width of the network."""
    residual_channels: int = 32
    """Width inside the residual blocks."""
    num_res_blocks: Annotated[int, between(0, 512)] = 2
    """Number of residual blocks, in the encoder and in the decoder."""
    num_downsamples: int = 2
    """Number of times that height and width are halved."""
    upsampling: Literal["transposed", "nearest"] = "transposed"
    """How the decoder doubles height and width: by transposed convolutions, as published, or by repeated
    pixels and a convolution, which leaves no pattern of dots under adversarial and perceptual losses."""

    def __post_init__(self) -> None:
        super().__post_init__()
        least = 2 if self.upsampling == "transposed" else 4
        require(self.channels >= least, f"model.channels must be at least {least}, got {self.channels}")

    def check_image_size(self, size: ImageSize) -> None:
        what = f"a model with model.num_downsamples = {self.num_downsamples}"
        check_multiple(size, 2**self.num_downsamples, what)

    def networks(self, out_channels: int, dtype: Any) -> tuple["linen.Module", "linen.Module"]:
        from vq_jax import nn

        shared: dict[str, Any] = {
            "channels": self.channels,
            "residual_channels": self.residual_channels,
            "num_res_blocks": self.num_res_blocks,
            "num_downsamples": self.num_downsamples,
            "dtype": dtype,
        }
        return (
            nn.ResidualEncoder(latent_channels=self.quantizer.latent_channels, **shared),
            nn.ResidualDecoder(out_channels=out_channels, upsampling=self.upsampling, **shared),
        )


@dataclasses.dataclass(frozen=True)
class PatchVQVAE(Architecture):
    """A convolutional VQ-VAE on patches, with a linear path beside its blocks: fast and good on a CPU."""

    architecture: ClassVar[str] = "vqvae-patches"

    quantizer: QuantizerConfig = VectorQuantizerEMAConfig(codebook_size=512, code_dim=16)
    patch_size: Annotated[int, between(1, 256)] = 4
    """Pixels per code along each axis."""
    channels: int = 128
    """Width of the network."""
    residual_channels: int = 64
    """Width inside the residual blocks."""
    num_res_blocks: Annotated[int, between(0, 512)] = 4
    """Number of residual blocks, in the encoder and in the decoder."""

    def check_image_size(self, size: ImageSize) -> None:
        what = f"a model with model.patch_size = {self.patch_size}"
        check_multiple(size, self.patch_size, what)

    def networks(self, out_channels: int, dtype: Any) -> tuple["linen.Module", "linen.Module"]:
        from vq_jax import nn

        shared: dict[str, Any] = {
            "patch_size": self.patch_size,
            "channels": self.channels,
            "residual_channels": self.residual_channels,
            "num_res_blocks": self.num_res_blocks,
            "dtype": dtype,
        }
        return (
            nn.PatchEncoder(latent_channels=self.quantizer.latent_channels, **shared),
            nn.PatchDecoder(out_channels=out_channels, **shared),
        )


@dataclasses.dataclass(frozen=True)
class MLPVQVAE(Architecture):
    """Fully connected VQ-VAE for small pictures of one size: 784-256-128-64 and back by default."""

    architecture: ClassVar[str] = "vqvae-mlp"

    image_channels: int = 1
    quantizer: QuantizerConfig = VectorQuantizerEMAConfig(code_dim=4)
    image_size: tuple[int, ...] = (28, 28)
    """Height and width of every picture, in pixels."""
    hidden_features: tuple[int, ...] = (256, 128)
    """Widths of the encoder's hidden layers; the decoder mirrors them."""
    num_latents: int = 16
    """Codes per picture; the encoder's last layer is num_latents times code_dim wide."""

    def check_image_size(self, size: ImageSize) -> None:
        check_fixed(size, self.image_size)

    def check_frames(self, frames: int | None) -> None:
        check_no_frames(frames, self.architecture)

    def networks(self, out_channels: int, dtype: Any) -> tuple["linen.Module", "linen.Module"]:
        from vq_jax import nn

        return (
            nn.MLPEncoder(
                self.hidden_features,
                num_latents=self.num_latents,
                latent_channels=self.quantizer.latent_channels,
                dtype=dtype,
            ),
            nn.MLPDecoder(
                image_shape=(*self.image_size, out_channels),
                hidden_features=self.hidden_features[::-1],
                dtype=dtype,
            ),
        )


@dataclasses.dataclass(frozen=True)
class VQGAN(Architecture):
    """The convolutional network of VQGAN; each downsampling factor has a named subclass."""

    quant_width: ClassVar[int] = 1
    """Width of the kernels of the convolutions around the quantizer."""

    quantizer: QuantizerConfig = VectorQuantizerConfig(code_dim=256)
    channels: int = 128
    """Width of the network."""
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    """Multipliers of channels, one per level; height and width are halved between levels."""
    num_res_blocks: int = 2
    """Residual blocks per level in the encoder; the decoder has one more."""
    attention_levels: tuple[int, ...] = (4,)
    """Levels with attention; level 0 has the full resolution."""
    middle_attention: bool = True
    """Use attention between the two residual blocks at the lowest resolution."""
    z_channels: int = 256
    """Channels between the networks and the convolutions around the quantizer."""
    remat: bool = False
    """Recompute residual blocks in the backward pass: less memory, more time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        levels = len(self.channel_multipliers)
        if levels == 0 or any(level >= levels for level in self.attention_levels):
            raise ValueError(
                f"model.attention_levels = {self.attention_levels} must be below the {levels} levels of "
                f"model.channel_multipliers = {self.channel_multipliers}"
            )

    def check_image_size(self, size: ImageSize) -> None:
        halvings = len(self.channel_multipliers) - 1
        check_multiple(size, 2**halvings, f"a model that halves it {halvings} times")

    def networks(self, out_channels: int, dtype: Any) -> tuple["linen.Module", "linen.Module"]:
        from vq_jax import nn

        shared: dict[str, Any] = {
            "channels": self.channels,
            "channel_multipliers": self.channel_multipliers,
            "num_res_blocks": self.num_res_blocks,
            "attention_levels": self.attention_levels,
            "middle_attention": self.middle_attention,
            "z_channels": self.z_channels,
            "quant_width": self.quant_width,
            "remat": self.remat,
            "dtype": dtype,
        }
        return (
            nn.CNNEncoder(latent_channels=self.quantizer.latent_channels, **shared),
            nn.CNNDecoder(out_channels=out_channels, **shared),
        )


@dataclasses.dataclass(frozen=True)
class VQGANf16(VQGAN):
    """A code for every 16x16 pixels: the network of the ImageNet models of Esser et al. 2021."""

    architecture: ClassVar[str] = "vqgan-f16"

    quantizer: QuantizerConfig = VectorQuantizerConfig(codebook_size=1024, code_dim=256)


@dataclasses.dataclass(frozen=True)
class VQGANf8(VQGAN):
    """A code for every 8x8 pixels."""

    architecture: ClassVar[str] = "vqgan-f8"

    quantizer: QuantizerConfig = VectorQuantizerConfig(codebook_size=16384, code_dim=256)
    channel_multipliers: tuple[int, ...] = (1, 2, 2, 4)
    attention_levels: tuple[int, ...] = (3,)


@dataclasses.dataclass(frozen=True)
class VQGANf4(VQGAN):
    """A code for every 4x4 pixels."""

    architecture: ClassVar[str] = "vqgan-f4"

    quantizer: QuantizerConfig = VectorQuantizerConfig(codebook_size=8192, code_dim=256)
    channel_multipliers: tuple[int, ...] = (1, 2, 4)
    attention_levels: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class LlamaGenVQ16(VQGAN):
    """LlamaGen's tokenizer (Sun et al. 2024, arXiv:2406.06525): 8-wide codebook vectors of unit length."""

    architecture: ClassVar[str] = "llamagen-vq16"

    quantizer: QuantizerConfig = VectorQuantizerConfig(codebook_size=16384, code_dim=8, normalize=True)


@dataclasses.dataclass(frozen=True)
class RQVAE(VQGAN):
    """RQ-VAE (Lee et al. 2022, arXiv:2203.01941): four codes, of one codebook, for every 32x32 pixels."""

    architecture: ClassVar[str] = "rq-vae"

    quantizer: QuantizerConfig = ResidualQuantizerConfig(
        inner=VectorQuantizerEMAConfig(codebook_size=16384, code_dim=256),
        num_stages=4,
        shared=True,
        output_gradient="whole",
    )
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    attention_levels: tuple[int, ...] = (5,)


@dataclasses.dataclass(frozen=True)
class VARTokenizer(VQGAN):
    """VAR's tokenizer (Tian et al. 2024, arXiv:2404.02905): ten grids of codes, 1x1 to 16x16 at 256 px."""

    architecture: ClassVar[str] = "var-tokenizer"
    quant_width: ClassVar[int] = 3

    quantizer: QuantizerConfig = MultiScaleQuantizerConfig(
        codebook_size=4096, code_dim=32, scales=(1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    )
    channels: int = 160
    z_channels: int = 32


@dataclasses.dataclass(frozen=True)
class PlainCNN(Architecture):
    """Base of the models of residual blocks without attention, and without biases in them."""

    channels: int = 128
    """Width of the network."""
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    """Multipliers of channels, one per level; height and width are halved between levels."""
    num_res_blocks: int = 2
    """Residual blocks per level."""
    remat: bool = False
    """Recompute residual blocks in the backward pass: less memory, more time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channel_multipliers:
            raise ValueError("model.channel_multipliers must have at least one level, got ()")

    def check_image_size(self, size: ImageSize) -> None:
        halvings = len(self.channel_multipliers) - 1
        check_multiple(size, 2**halvings, f"a model that halves it {halvings} times")

    def _shared(self, dtype: Any) -> dict[str, Any]:
        """The fields that encoder and decoder have."""
        return {
            "channels": self.channels,
            "channel_multipliers": self.channel_multipliers,
            "num_res_blocks": self.num_res_blocks,
            "remat": self.remat,
            "dtype": dtype,
        }


@dataclasses.dataclass(frozen=True)
class MaskGITVQGAN(PlainCNN):
    """MaskGIT's tokenizer (Chang et al. 2022, arXiv:2202.04200): no attention, average pooling."""

    architecture: ClassVar[str] = "maskgit-vqgan"

    quantizer: QuantizerConfig = VectorQuantizerConfig(codebook_size=1024, code_dim=256)
    unit_range: bool = False
    """Let the network read and write pixels in [0, 1], as the released weights do, not in [-1, 1]."""

    def networks(self, out_channels: int, dtype: Any) -> tuple["linen.Module", "linen.Module"]:
        from vq_jax import nn

        shared = {**self._shared(dtype), "unit_range": self.unit_range}
        return (
            nn.MaskGITEncoder(latent_channels=self.quantizer.latent_channels, **shared),
            nn.MaskGITDecoder(out_channels=out_channels, **shared),
        )


@dataclasses.dataclass(frozen=True)
class OpenMAGVIT2(PlainCNN):
    """Open-MAGVIT2's tokenizer (Luo et al. 2024, arXiv:2409.04410): 18 bits a code, no attention."""

    architecture: ClassVar[str] = "open-magvit2"

    quantizer: QuantizerConfig = LFQConfig(bits=18)
    num_res_blocks: int = 4
    """Residual blocks per level."""

    def networks(self, out_channels: int, dtype: Any) -> tuple["linen.Module", "linen.Module"]:
        from vq_jax import nn

        shared = self._shared(dtype)
        return (
            nn.MAGVIT2Encoder(latent_channels=self.quantizer.latent_channels, **shared),
            nn.MAGVIT2Decoder(out_channels=out_channels, **shared),
        )


ARCHITECTURES: dict[str, type[Architecture]] = {
    cls.architecture: cls
    for cls in (
        *(ResidualVQVAE, PatchVQVAE, MLPVQVAE, ViTVQ),
        *(VQGANf4, VQGANf8, VQGANf16, LlamaGenVQ16, RQVAE, VARTokenizer, MaskGITVQGAN, OpenMAGVIT2),
        *(VideoVQVAE, MotionVQVAE, MAGVIT2Video),
    )
}


def architecture_class(name: str) -> type[Architecture]:
    """Returns the dataclass of an architecture.

    Raises:
      ValueError: no architecture has that name; the message has the nearest ones.
    """
    return lookup(ARCHITECTURES, name, "architecture")


def make_architecture(name: str, **fields: Any) -> Architecture:
    """Returns an architecture by name with fields overridden, see `Architecture.override`.

    Raises:
      ValueError: unknown name or field; the message has the nearest ones.
    """
    return architecture_class(name)().override(**fields)
