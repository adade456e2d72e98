"""What the files of VQGAN's network have in common, whatever the names in them."""

import dataclasses
from typing import Any

from vq_jax.configs.discriminators import DiscriminatorConfig
from vq_jax.configs.models import VQGAN, VQGANf4, VQGANf8, VQGANf16
from vq_jax.configs.quantizer_base import QuantizerConfig
from vq_jax.convert.base import shape_of
from vq_jax.convert.places import Place, Shape, numbers_after, of_torch, one
from vq_jax.convert.weights_file import WeightsFile
from vq_jax.errors import UserError

_BY_LEVELS: dict[int, type[VQGAN]] = {3: VQGANf4, 4: VQGANf8, 5: VQGANf16}


@dataclasses.dataclass(frozen=True)
class Names:
    """How a project calls the parts of the encoder.

    Attributes:
      level: what comes before the number of a level.
      block: what comes between that number and the number of a residual block.
      attention: what comes after the number of a level with attention.
      middle_attention: the attention between the last two blocks.
    """

    level: str
    block: str
    attention: str
    middle_attention: str


def level_widths(file: WeightsFile, names: Names, channels: int) -> tuple[int, ...]:
    """Returns the widths of the levels as multiples of the first convolution's channels.

    Raises:
      UserError: they are no multiples, or levels are missing.
    """
    levels = numbers_after(file.tensors, names.level)
    if not levels or levels != list(range(len(levels))):
        raise UserError(f"{file.path}: expected levels {names.level}0, {names.level}1, ..., got {levels}")
    widths = [shape_of(file, f"{names.level}{level}{names.block}0.conv1.weight", 4)[0] for level in levels]
    if any(width % channels for width in widths):
        raise UserError(
            f"{file.path}: expected widths of levels that are multiples of the first convolution's, "
            f"{channels}, got {widths}"
        )
    if channels % 32:
        raise UserError(f"{file.path}: expected a width that is a multiple of 32 groups, got {channels}")
    return tuple(width // channels for width in widths)


def vqgan_fields(file: WeightsFile, names: Names) -> dict[str, Any]:
    """Returns the fields of a `VQGAN` that a file's tensors imply, but for the quantizer.

    Raises:
      UserError: they imply a network that is not among ours.
    """
    channels, image_channels = shape_of(file, "encoder.conv_in.weight", 4)[:2]
    multipliers = level_widths(file, names, channels)
    return {
        "image_channels": image_channels,
        "channels": channels,
        "channel_multipliers": multipliers,
        "num_res_blocks": len(numbers_after(file.tensors, f"{names.level}0{names.block}")),
        "attention_levels": tuple(
            level
            for level in range(len(multipliers))
            if any(name.startswith(f"{names.level}{level}{names.attention}") for name in file.tensors)
        ),
        "middle_attention": any(name.startswith(names.middle_attention) for name in file.tensors),
        "z_channels": shape_of(file, "encoder.conv_out.weight", 4)[0],
    }


def vqgan(quantizer: QuantizerConfig, fields: dict[str, Any]) -> VQGAN:
    """Returns the named model with these fields, by its number of levels."""
    kind = _BY_LEVELS.get(len(fields["channel_multipliers"]), VQGANf16)
    return kind(quantizer=quantizer, **fields)


def check_vqgan(model: Any, quantizers: tuple[type, ...]) -> VQGAN:
    """Checks that a model is VQGAN's network with one of some quantizers.

    Raises:
      ValueError: it is another one.
    """
    if not isinstance(model, VQGAN) or model.quant_width != 1:
        raise ValueError(f"it has VQGAN's network, and this is {model.architecture}")
    if type(model.quantizer) not in quantizers:
        known = " or ".join(kind.name for kind in quantizers)  # type: ignore[attr-defined]
        raise ValueError(f"it has the quantizer {known}, and this model has {model.quantizer.name}")
    return model


def as_convolution(name: str, shape: Shape) -> Place:
    """Returns the place of a kernel [I, O] that is a convolution [O, I, 1, 1] in a file of PyTorch."""
    if len(shape) != 2:
        return of_torch(name, shape)
    inputs, outputs = shape
    there = (outputs, inputs, 1, 1)
    return one(name, there, lambda tensor: tensor[:, :, 0, 0].T, lambda array: array.T.reshape(there))


def patch_discriminator(file: WeightsFile, prefix: str) -> DiscriminatorConfig | None:
    """Returns the discriminator of patches whose tensors have names that begin with a prefix.

    Raises:
      UserError: they are of another discriminator.
    """
    if f"{prefix}main.0.weight" not in file.tensors:
        return None
    channels = shape_of(file, f"{prefix}main.0.weight", 4)[0]
    convolutions = [
        number
        for number in numbers_after(file.tensors, f"{prefix}main.")
        if len(file.tensors[f"{prefix}main.{number}.weight"].shape) == 4
    ]
    layers = len(convolutions) - 2
    if layers < 1 or convolutions != [0, *(3 * layer - 1 for layer in range(1, layers + 2))]:
        raise UserError(f"{file.path}: its discriminator has convolutions {convolutions}, which is not known")
    return DiscriminatorConfig(channels=channels, num_layers=layers, norm="batch")


def discriminator_place(prefix: str, path: str, shape: Shape) -> Place:
    """Returns the place of an array of the discriminator, by its path after `params` or `batch_stats`."""
    _, layer, leaf = path.split("/")
    ends = {
        "kernel": "weight",
        "scale": "weight",
        "bias": "bias",
        "mean": "running_mean",
        "var": "running_var",
    }
    return of_torch(f"{prefix}main.{layer.removeprefix('main_')}.{ends[leaf]}", shape)
