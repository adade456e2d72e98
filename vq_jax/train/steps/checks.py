"""What the training step of a tokenizer checks of its networks."""

from collections.abc import Mapping
from typing import Any

from flax import linen

from vq_jax.configs.losses import Losses
from vq_jax.configs.training import PhaseKind
from vq_jax.nn import VQModel
from vq_jax.train.state import DiscriminatorState
from vq_jax.types import Array, Params


def check_networks(
    params: Params,
    model: VQModel,
    losses: Losses,
    discriminator: DiscriminatorState | None,
    discriminator_model: linen.Module | None,
    trainable: Mapping[PhaseKind, tuple[str, ...]],
) -> None:
    """Checks that networks and losses fit together; arguments as in `generator_step`.

    Args:
      params: of the generator.
      model: the generator.
      losses: their weights.
      discriminator: its state, if there is one.
      discriminator_model: the discriminator, if there is one.
      trainable: groups of the parameters that learn in each phase.

    Raises:
      ValueError: they do not.
    """
    losses.starts()
    if model.head != losses.head:
        raise ValueError(
            f"losses.reconstruction = {losses.reconstruction!r} needs a model with head = "
            f"{losses.head!r}, got {model.head!r}"
        )
    if losses.has_discriminator and losses.adaptive:
        last_kernel(params, model)
    if losses.has_discriminator and (discriminator is None or discriminator_model is None):
        raise ValueError(
            f"expected a discriminator's state and model for losses.adversarial_weight = "
            f"{losses.adversarial_weight}, got none: give both, or set the weight to 0"
        )
    known = {group for groups in trainable.values() for group in groups}
    unknown = sorted(params.keys() - known)
    if unknown:
        raise ValueError(
            f"expected the groups {', '.join(sorted(known))} in the model's parameters, got "
            f"{', '.join(unknown)}, which no phase would train: make them part of one of these modules, or "
            "add them to the phases that train them in vq_jax.train.steps.tokenizer.TRAINABLE"
        )


def last_kernel(params: Params, model: VQModel) -> Array:
    """The kernel of the decoder's last layer, where the adaptive weight of the adversarial loss is measured.

    Raises:
      ValueError: the decoder does not say which layer that is, or has none of that name.
    """
    name = getattr(model.decoder, "last_layer", None)
    layers: Any = params.get("decoder", {})
    layer = layers
    for part in () if name is None else name.split("/"):
        layer = layer.get(part, {}) if isinstance(layer, Mapping) else {}
    if name is None or "kernel" not in layer:
        raise ValueError(
            f"losses.adaptive = True needs {type(model.decoder).__name__}.last_layer, the name of the last "
            f"of the decoder's layers ({', '.join(layers)}) with a kernel, got {name!r}: define "
            "it, or set losses.adaptive to False"
        )
    kernel: Array = layer["kernel"]
    return kernel
