"""Named priors: each a frozen dataclass whose fields can be overridden, and which builds a prior over codes.

Grid, number of codes and classes are not fields: they come from the tokenizer and the data of a run.
Nothing here imports jax until a prior is built, so that the command line answers at once.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vq_jax.errors import lookup
from vq_jax.ranges import check_ranges

if TYPE_CHECKING:
    from flax import linen

    from vq_jax.types import CodeSpecs


@dataclasses.dataclass(frozen=True)
class PriorArchitecture:
    """Base of the named priors."""

    architecture: ClassVar[str] = ""
    module: ClassVar[str] = ""
    """Name in `vq_jax.nn` of the prior that is built."""
    several_codes: ClassVar[bool] = False
    """Whether it models several codes a position."""

    def __post_init__(self) -> None:
        check_ranges(self, "prior")

    def build(
        self, specs: "CodeSpecs", num_classes: int | None, dtype: Any = None, **fields: Any
    ) -> "linen.Module":
        """Makes the prior, a linen module with `loss(codes, condition, train=...)`.

        Args:
          specs: of the codes that it models.
          num_classes: classes of the condition; None for an unconditional prior.
          dtype: compute dtype; float32 when absent.
          **fields: of the module, beside those of this configuration.

        Raises:
          ValueError: the prior cannot model such codes; the message says which can.
        """
        import jax.numpy as jnp

        from vq_jax import nn
        from vq_jax.types import CodeSpec

        if not isinstance(specs, CodeSpec):
            raise ValueError(
                f"the prior {self.architecture} models one grid of codes, and the tokenizer gives several: "
                f"{specs}"
            )
        if specs.codes_per_position > 1:
            if not self.several_codes:
                able = ", ".join(name for name, prior in PRIORS.items() if prior.several_codes)
                raise ValueError(
                    f"the prior {self.architecture} models one code a position, and the tokenizer gives "
                    f"{specs.codes_per_position}: use {able}"
                )
            fields["codes_per_position"] = specs.codes_per_position
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        module: linen.Module = getattr(nn, self.module)(
            codebook_size=specs.codebook_size,
            grid=specs.shape,
            num_classes=num_classes,
            dtype=jnp.float32 if dtype is None else dtype,
            **own,
            **fields,
        )
        return module


@dataclasses.dataclass(frozen=True)
class TransformerArchitecture(PriorArchitecture):
    """The fields of the transformers over codes."""

    width: int = 768
    """Of a token."""
    num_layers: int = 12
    """Transformer layers."""
    num_heads: int = 12
    """Attention heads a layer."""
    mlp_features: int | None = None
    """Hidden width of the feed-forward layers; 8/3 of the width when absent."""
    class_dropout: float = 0.1
    """Share of the labels left out in training, which guidance needs; 0: no guidance."""
    dropout: float = 0.1
    """After attention and feed-forward layers, in training."""
    token_dropout: float = 0.1
    """Of the embedded tokens, in training."""
    label_smoothing: float = 0.0
    """Of the loss, in training."""
    remat: bool = False
    """Recompute layers in the backward pass: less memory, more time."""


@dataclasses.dataclass(frozen=True)
class GPTArchitecture(TransformerArchitecture):
    """Predicts the codes one after the other."""

    architecture: ClassVar[str] = "gpt"
    module: ClassVar[str] = "GPT"
    several_codes: ClassVar[bool] = True

    depth_layers: int = 2
    """Layers of the small transformer over the codes of a position, where there are several."""


@dataclasses.dataclass(frozen=True)
class MaskGITArchitecture(TransformerArchitecture):
    """Predicts masked codes from the others, all at once."""

    architecture: ClassVar[str] = "maskgit"
    module: ClassVar[str] = "MaskGIT"

    mask_schedule: Literal["cosine", "arccos", "linear", "square"] = "cosine"
    """Of the training masks."""
    unmasked_weight: float = 0.0
    """Weight in the loss of the codes that are not masked."""


@dataclasses.dataclass(frozen=True)
class PixelCNNArchitecture(PriorArchitecture):
    """Predicts the codes one after the other, by gated convolutions."""

    architecture: ClassVar[str] = "pixelcnn"
    module: ClassVar[str] = "PixelCNN"

    width: int = 128
    """Channels of every stack."""
    num_layers: int = 12
    """Gated layers."""
    kernel: int = 5
    """Width of the convolutions, odd."""
    head_features: int = 512
    """Hidden width of the two layers that make the logits."""
    class_dropout: float = 0.1
    """Share of the labels left out in training, which guidance needs; 0: no guidance."""
    dropout: float = 0.1
    """Of gated features, in training."""
    label_smoothing: float = 0.0
    """Of the loss, in training."""


@dataclasses.dataclass(frozen=True)
class NoiseArchitecture(PriorArchitecture):
    """Maps noise to all codes at once; a discriminator teaches it."""

    architecture: ClassVar[str] = "noise"
    module: ClassVar[str] = "NoiseGenerator"

    noise_dim: int = 100
    """Width of the noise."""
    width: int = 128
    """Channels."""
    num_blocks: int = 3
    """Residual blocks."""


PRIORS: dict[str, type[PriorArchitecture]] = {
    cls.architecture: cls
    for cls in (GPTArchitecture, MaskGITArchitecture, PixelCNNArchitecture, NoiseArchitecture)
}


def prior_class(name: str) -> type[PriorArchitecture]:
    """Returns the dataclass of a named prior.

    Raises:
      ValueError: no prior has that name; the message has the nearest ones.
    """
    return lookup(PRIORS, name, "prior")
