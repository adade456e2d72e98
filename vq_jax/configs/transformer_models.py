"""Named models that are transformers; their registry is in `models`."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from vq_jax.configs.data import ImageSize
from vq_jax.configs.grid_quantizers import BSQConfig
from vq_jax.configs.model_base import Architecture, check_fixed, check_no_frames
from vq_jax.configs.quantizer_base import QuantizerConfig
from vq_jax.errors import require
from vq_jax.ranges import between

if TYPE_CHECKING:
    from flax import linen


@dataclasses.dataclass(frozen=True)
class ViTVQ(Architecture):
    """Vision transformers for pictures of one size: those of BSQ-ViT (Zhao et al. 2024, arXiv:2406.07548)."""

    architecture: ClassVar[str] = "vit"

    quantizer: QuantizerConfig = BSQConfig(bits=18)
    image_size: tuple[int, ...] = (256, 256)
    """Height and width of every picture, in pixels."""
    patch_size: Annotated[int, between(1, 256)] = 8
    """Pixels per code along each axis."""
    width: int = 768
    """Width of a token."""
    num_layers: int = 12
    """Transformer layers of the encoder, and of the decoder."""
    num_heads: int = 12
    """Attention heads per layer."""
    mlp_features: int = 3072
    """Hidden width of the feed-forward layers."""
    head_features: int = 3072
    """Width of the decoder's hidden layer in front of the pixels."""
    remat: bool = False
    """Recompute layers in the backward pass: less memory, more time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.width % self.num_heads == 0,
            f"model.width = {self.width} must be a multiple of model.num_heads = {self.num_heads}",
        )
        require(
            len(self.image_size) == 2 and not any(side % self.patch_size for side in self.image_size),
            f"model.image_size = {self.image_size} must be height and width in multiples of model.patch_size "
            f"= {self.patch_size}",
        )

    def check_image_size(self, size: ImageSize) -> None:
        check_fixed(size, self.image_size)

    def check_frames(self, frames: int | None) -> None:
        check_no_frames(frames, self.architecture)

    def networks(self, out_channels: int, dtype: Any) -> tuple["linen.Module", "linen.Module"]:
        from vq_jax import nn

        shared: dict[str, Any] = {
            "patch_size": self.patch_size,
            "width": self.width,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "mlp_features": self.mlp_features,
            "remat": self.remat,
            "dtype": dtype,
        }
        return (
            nn.ViTEncoder(latent_channels=self.quantizer.latent_channels, **shared),
            nn.ViTDecoder(
                image_shape=(*self.image_size, out_channels), head_features=self.head_features, **shared
            ),
        )
