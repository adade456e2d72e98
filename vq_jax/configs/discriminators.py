"""Discriminators by name."""

import dataclasses
from typing import Any, Literal

from vq_jax.configs.optimizers import OptimizerConfig
from vq_jax.ranges import check_ranges


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminator and its optimizer; there is one where losses.adversarial_weight is above zero."""

    kind: Literal["patch", "stylegan", "mlp"] = "patch"
    """patch judges overlapping patches, stylegan whole square pictures, mlp small flat ones."""
    channels: int = 64
    """Width of the first layer (patch)."""
    num_layers: int = 3
    """Layers of stride 2 (patch)."""
    norm: Literal["batch", "group", "none"] = "batch"
    """Normalisation (patch)."""
    spectral_norm: bool = False
    """Divide every kernel by its largest singular value (patch)."""
    channel_multiplier: int = 1
    """Of the widths from 64 px up (stylegan)."""
    hidden_features: tuple[int, ...] = (256, 128)
    """Widths of the hidden layers (mlp)."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-4, b1=0.5)

    def __post_init__(self) -> None:
        check_ranges(self, "discriminator")

    def build(self, dtype: Any = None, num_classes: int | None = None) -> Any:
        """Makes the discriminator, a linen module.

        Args:
          dtype: compute dtype; float32 when absent.
          num_classes: classes that pictures are judged as ones of; None for none.
        """
        import jax.numpy as jnp

        from vq_jax import nn

        dtype = jnp.float32 if dtype is None else dtype
        if self.kind == "patch":
            return nn.PatchDiscriminator(
                self.channels, self.num_layers, self.norm, self.spectral_norm, num_classes, dtype
            )
        if self.kind == "stylegan":
            return nn.StyleGANDiscriminator(self.channel_multiplier, num_classes=num_classes, dtype=dtype)
        return nn.MLPDiscriminator(self.hidden_features, num_classes, dtype)
