"""The base of the named models. Their registry is in `models`."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vq_jax.configs.data import ImageSize, height_and_width, written
from vq_jax.configs.fields import Checked
from vq_jax.configs.quantizer_base import QuantizerConfig
from vq_jax.configs.quantizers import VectorQuantizerEMAConfig, convert_quantizer
from vq_jax.errors import nearest_names, require

if TYPE_CHECKING:
    from flax import linen

    from vq_jax import nn


@dataclasses.dataclass(frozen=True)
class Architecture(Checked):
    """Base of the named models, with the fields that all have: picture channels and quantizer."""

    architecture: ClassVar[str] = ""
    path: ClassVar[str] = "model"

    image_channels: int = 3
    """Channels of a picture: 3 for colour, 1 for grey."""
    quantizer: QuantizerConfig = VectorQuantizerEMAConfig()

    def override(self, **fields: Any) -> Self:
        """Returns the architecture with fields overridden, its own or those of its quantizer.

        Args:
          **fields: fields by name, also those of a quantizer inside the quantizer; `quantizer` may be a
            name, such as "gradient" or "grouped:fsq", see `convert_quantizer`.

        Raises:
          ValueError: neither has such a field; the message has the nearest ones.
        """
        quantizer = fields.pop("quantizer", self.quantizer)
        if isinstance(quantizer, str):
            quantizer = convert_quantizer(self.quantizer, quantizer)
        own = {field.name for field in dataclasses.fields(self)}
        inner = quantizer.names()
        for name in fields:
            if name not in own | inner:
                raise ValueError(
                    f"{self.architecture} with the quantizer {quantizer.name} has no field {name!r}"
                    f"{nearest_names(name, own | inner)}"
                )
        of_quantizer = {name: fields.pop(name) for name in list(fields) if name not in own}
        quantizer = quantizer.override(of_quantizer)
        return dataclasses.replace(self, quantizer=quantizer, **fields)

    @property
    def latent_channels(self) -> int:
        """Width D of the latents that the quantizer of the model is given."""
        return self.quantizer.latent_channels

    def check_image_size(self, size: ImageSize) -> None:
        """Checks that the model can be trained on pictures of a size, in pixels.

        Raises:
          ValueError: it cannot; the message says which sizes it accepts.
        """

    def check_frames(self, frames: int | None) -> None:
        """Checks that the model can be trained on clips of so many frames, or on pictures (None).

        Raises:
          ValueError: it cannot; the message says what it accepts.
        """

    def build(self, head: str = "picture", dtype: Any = None) -> "nn.VQModel":
        """Makes the model.

        Args:
          head: what the decoder outputs, see `nn.VQModel`.
          dtype: compute dtype of encoder and decoder; None for float32.
        """
        from vq_jax import nn

        encoder, decoder = self._networks(head, dtype)
        return nn.VQModel(encoder, self.quantizer.build(), decoder, head=head)

    def _networks(self, head: str, dtype: Any) -> tuple["linen.Module", "linen.Module"]:
        """The encoder and the decoder, with the output channels of a head."""
        import jax.numpy as jnp

        from vq_jax.ops import head_channels

        return self.networks(
            head_channels(head, self.image_channels), jnp.float32 if dtype is None else dtype
        )

    def networks(self, out_channels: int, dtype: Any) -> tuple["linen.Module", "linen.Module"]:
        """Makes the encoder and the decoder, which has `out_channels` output channels."""
        raise TypeError(f"{type(self).__name__} has no encoder and decoder: use a named architecture")


def check_no_frames(frames: int | None, architecture: str) -> None:
    """Checks that a model that takes pictures only is not given clips.

    Raises:
      ValueError: it is.
    """
    require(
        frames is None,
        f"{architecture} takes pictures, and data.frames = {frames} asks for clips: omit data.frames, or "
        "train a convolutional model",
    )


def check_fixed(size: ImageSize, fixed: tuple[int, ...]) -> None:
    """Checks that pictures have the one size that a model takes, `model.image_size`.

    Raises:
      ValueError: they do not.
    """
    height, width = height_and_width(size)
    if fixed != (height, width):
        raise ValueError(
            f"model.image_size = {fixed} must be the pictures' size, data.image_size = {written(size)}: give "
            f"--model.image-size {height} {width}, or another --data.image-size"
        )


def check_multiple(size: ImageSize, stride: int, model: str) -> None:
    """Checks that both sides of a picture are multiples of a model's stride.

    Raises:
      ValueError: one is not; the message names the nearest size.
    """
    sides = height_and_width(size)
    if any(side % stride for side in sides):
        height, width = (max(1, round(side / stride)) * stride for side in sides)
        raise ValueError(
            f"data.image_size = {written(size)} must be a multiple of {stride} for {model}; the nearest is "
            f"{written(height if height == width else (height, width))}"
        )
