"""Configuration of the discriminator."""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

from vq_jax.configs.fields import Checked
from vq_jax.configs.optimizers import OptimizerConfig
from vq_jax.ranges import between


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig(Checked):
    """The discriminator and its optimizer, used if losses.adversarial_weight is above zero."""

    path: ClassVar[str] = "discriminator"

    kind: Literal["patch", "stylegan", "mlp"] = "patch"
    """patch judges overlapping patches; stylegan, whole square pictures; mlp, small pictures, flattened."""
    channels: int = 64
    """Width of the first layer (patch only)."""
    num_layers: Annotated[int, between(1, 16)] = 3
    """Number of layers of stride 2 (patch only)."""
    norm: Literal["batch", "group", "none"] = "batch"
    """Kind of normalisation (patch only)."""
    spectral_norm: bool = False
    """Divide every kernel by its largest singular value (patch only)."""
    channel_multiplier: int = 1
    """Multiplier of the widths at 64 px and above (stylegan only)."""
    hidden_features: tuple[int, ...] = (256, 128)
    """Widths of the hidden layers (mlp only)."""
    frames: Annotated[int, between(0, 2**16)] = 0
    """Frames of each clip that are judged, in a row and drawn anew at every step; 0: all."""
    by_frame: bool = False
    """Judge each frame of a clip as a picture of its own; the frames drawn then need not lie in a row."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-4, b1=0.5)

    def build(self, dtype: Any = None, num_classes: int | None = None) -> Any:
        """Makes the discriminator, a linen module.

        Args:
          dtype: compute dtype; None for float32.
          num_classes: number of classes of a class-conditional discriminator; None for an unconditional one.
        """
        import jax.numpy as jnp

        from vq_jax import nn

        network = self._network(jnp.float32 if dtype is None else dtype, num_classes)
        if self.frames or self.by_frame:
            return nn.ClipDiscriminator(network, self.frames, self.by_frame)
        return network

    def _network(self, dtype: Any, num_classes: int | None) -> Any:
        from vq_jax import nn

        if self.kind == "patch":
            return nn.PatchDiscriminator(
                self.channels, self.num_layers, self.norm, self.spectral_norm, num_classes, dtype
            )
        if self.kind == "stylegan":
            return nn.StyleGANDiscriminator(self.channel_multiplier, num_classes=num_classes, dtype=dtype)
        return nn.MLPDiscriminator(self.hidden_features, num_classes, dtype)
