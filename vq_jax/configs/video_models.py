"""Named models of video, which take pictures too; their registry is in `models`."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from vq_jax.configs.data import ImageSize
from vq_jax.configs.model_base import Architecture, check_multiple
from vq_jax.configs.quantizer_base import QuantizerConfig
from vq_jax.configs.quantizers import LFQConfig, ResidualQuantizerConfig, VectorQuantizerEMAConfig
from vq_jax.errors import require
from vq_jax.ranges import between, check_frames

if TYPE_CHECKING:
    from flax import linen

    from vq_jax import nn

_Width = Annotated[int, between(1, 16)]


@dataclasses.dataclass(frozen=True)
class VideoVQVAE(Architecture):
    """A causal VQ-VAE on patches of space and time: fast and good on a CPU.

    With frame_stride 1 and time_width 1 each frame is encoded as a picture of its own, by the network of
    vqvae-patches.
    """

    architecture: ClassVar[str] = "vqvae-video"

    quantizer: QuantizerConfig = VectorQuantizerEMAConfig(codebook_size=1024, code_dim=32)
    patch_size: Annotated[int, between(1, 256)] = 4
    """Pixels per code along height and width."""
    frame_stride: Annotated[int, between(1, 64)] = 4
    """Frames per code from the second code on; the first stands for the first frame alone."""
    time_width: _Width = 3
    """Codes in time that a residual block sees, its own and those before; 1: its own frames only."""
    channels: int = 128
    """Width of the network."""
    residual_channels: int = 64
    """Width inside the residual blocks."""
    num_res_blocks: Annotated[int, between(0, 512)] = 4
    """Number of residual blocks, in the encoder and in the decoder."""
    waves: Literal["clip", "frame"] = "clip"
    """What latents keep of a patch at first: its slowest waves over all its frames, or those of each frame in
    channels of its own, for a quantizer of frame_stride groups: a code for each frame. The latter is better
    where things move fast, the former where little moves."""

    def check_image_size(self, size: ImageSize) -> None:
        check_multiple(size, self.patch_size, f"a model with model.patch_size = {self.patch_size}")

    def check_frames(self, frames: int | None) -> None:
        check_frames("data.frames", frames or 1, self.frame_stride)

    def networks(self, out_channels: int, dtype: Any) -> tuple["linen.Module", "linen.Module"]:
        from vq_jax import nn

        shared: dict[str, Any] = {
            "patch_size": self.patch_size,
            "frame_stride": self.frame_stride,
            "time_width": self.time_width,
            "channels": self.channels,
            "residual_channels": self.residual_channels,
            "num_res_blocks": self.num_res_blocks,
            "waves": self.waves,
            "dtype": dtype,
        }
        return (
            nn.VideoPatchEncoder(latent_channels=self.quantizer.latent_channels, **shared),
            nn.VideoPatchDecoder(out_channels=out_channels, **shared),
        )


@dataclasses.dataclass(frozen=True)
class MotionVQVAE(Architecture):
    """A VQ-VAE that moves patches of the last decoded frame and codes what is left, as video codecs do.

    Each position of each frame has a code for its motion, and then those of the quantizer for the rest.
    """

    architecture: ClassVar[str] = "vqvae-motion"

    quantizer: QuantizerConfig = ResidualQuantizerConfig(
        num_stages=3, inner=VectorQuantizerEMAConfig(codebook_size=128, code_dim=32)
    )
    patch_size: Annotated[int, between(1, 256)] = 8
    """Pixels per code along height and width."""
    radius: Annotated[int, between(0, 64)] = 5
    """The longest motion from frame to frame along height and width, in pixels: (2 radius + 1)^2 codes."""
    channels: int = 96
    """Width of the network."""
    residual_channels: int = 64
    """Width inside the residual blocks."""
    num_res_blocks: Annotated[int, between(0, 512)] = 3
    """Number of residual blocks, in the encoder and in the decoder."""

    @property
    def latent_channels(self) -> int:
        return 2 + self.quantizer.latent_channels

    def check_image_size(self, size: ImageSize) -> None:
        check_multiple(size, self.patch_size, f"a model with model.patch_size = {self.patch_size}")

    def build(self, head: str = "picture", dtype: Any = None) -> "nn.VQModel":
        from vq_jax import nn

        encoder, decoder = self._networks(head, dtype)
        quantizer = nn.MotionQuantizer(self.quantizer.build(), self.radius)
        return nn.ClosedLoopVQModel(encoder, quantizer, decoder, head=head)

    def networks(self, out_channels: int, dtype: Any) -> tuple["linen.Module", "linen.Module"]:
        from vq_jax import nn

        shared: dict[str, Any] = {
            "patch_size": self.patch_size,
            "channels": self.channels,
            "residual_channels": self.residual_channels,
            "num_res_blocks": self.num_res_blocks,
            "latent_channels": self.quantizer.latent_channels,
            "dtype": dtype,
        }
        return (
            nn.MotionEncoder(radius=self.radius, **shared),
            nn.MotionDecoder(out_channels=out_channels, **shared),
        )


@dataclasses.dataclass(frozen=True)
class MAGVIT2Video(Architecture):
    """MAGVIT-v2's causal tokenizer (Yu et al. 2023, arXiv:2310.05737): 18 bits for 4 x 8 x 8 pixels.

    With time_width 1 and no time_levels each frame is encoded as a picture of its own.
    """

    architecture: ClassVar[str] = "magvit2-video"

    quantizer: QuantizerConfig = LFQConfig(bits=18)
    channels: int = 128
    """Width of the network."""
    channel_multipliers: tuple[int, ...] = (1, 2, 2, 4)
    """Multipliers of channels, one per level; height and width are halved between levels."""
    time_levels: Annotated[tuple[int, ...], between(0, 512)] = (1, 2)
    """Levels at whose end the number of frames is halved too."""
    time_width: _Width = 3
    """Frames that a convolution sees, its own and those before."""
    num_res_blocks: int = 4
    """Residual blocks per level, and at the lowest resolution."""
    remat: bool = False
    """Recompute residual blocks in the backward pass: less memory, more time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        ends = len(self.channel_multipliers) - 1
        require(ends >= 0, "model.channel_multipliers must have at least one level, got ()")
        different = len(set(self.time_levels)) == len(self.time_levels)
        require(
            different and all(level < ends for level in self.time_levels),
            f"model.time_levels = {self.time_levels} must be different levels below {ends}, the last one of "
            f"model.channel_multipliers = {self.channel_multipliers}",
        )

    def check_image_size(self, size: ImageSize) -> None:
        halvings = len(self.channel_multipliers) - 1
        check_multiple(size, 2**halvings, f"a model that halves it {halvings} times")

    def check_frames(self, frames: int | None) -> None:
        check_frames("data.frames", frames or 1, 2 ** len(self.time_levels))

    def networks(self, out_channels: int, dtype: Any) -> tuple["linen.Module", "linen.Module"]:
        from vq_jax import nn

        shared: dict[str, Any] = {
            "channels": self.channels,
            "channel_multipliers": self.channel_multipliers,
            "time_levels": self.time_levels,
            "time_width": self.time_width,
            "num_res_blocks": self.num_res_blocks,
            "remat": self.remat,
            "dtype": dtype,
        }
        return (
            nn.MAGVIT2VideoEncoder(latent_channels=self.quantizer.latent_channels, **shared),
            nn.MAGVIT2VideoDecoder(out_channels=out_channels, **shared),
        )
