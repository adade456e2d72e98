"""Named priors: frozen dataclasses whose fields can be overridden and that build a prior over codes.

Grid, codebook size and classes are not fields: they come from the tokenizer and the data of a run.
Nothing here imports jax until a prior is built, so that the command line responds quickly.
"""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from vq_jax.configs.fields import Checked
from vq_jax.configs.sampling import MaskedOptions, NoiseOptions, Options, SamplingOptions
from vq_jax.errors import lookup
from vq_jax.ranges import between

if TYPE_CHECKING:
    from flax import linen

    from vq_jax.types import CodeSpecs


_Task = Literal["generation", "prediction", "next", "interpolation", "inpainting", "outpainting"]
"""What is given: nothing, the first frames, all but the last code in time, the first and the last frames, all
but a box, or a box."""


@dataclasses.dataclass(frozen=True)
class PriorArchitecture(Checked):
    """Base of the named priors."""

    architecture: ClassVar[str] = ""
    path: ClassVar[str] = "prior"
    module: ClassVar[str] = ""
    """Name of the prior's module in `vq_jax.nn`."""
    several_codes: ClassVar[bool] = False
    """Whether the prior models several codes per position."""
    needs_code_dim: ClassVar[bool] = False
    """Whether its module has a field `code_dim`, the width of the tokenizer's latents."""
    sees_frames: ClassVar[bool] = False
    """Whether it sees decoded frames: its module has fields for the widths of the tokenizer's views."""
    options: ClassVar[type[Options]] = SamplingOptions
    """Class of its sampler's options."""

    def build(
        self, specs: "CodeSpecs", num_classes: int | None, dtype: Any = None, **fields: Any
    ) -> "linen.Module":
        """Makes the prior, a linen module with `loss(codes, condition, train=...)`.

        Args:
          specs: specs of the codes that it models.
          num_classes: number of classes of the condition; None for an unconditional prior.
          dtype: compute dtype; None for float32.
          **fields: fields of the module besides those of this configuration.

        Raises:
          ValueError: the prior cannot model such codes; the message says which can.
        """
        import jax
        import jax.numpy as jnp

        from vq_jax import nn
        from vq_jax.types import CodeSpec

        if not isinstance(specs, CodeSpec):
            raise ValueError(
                f"the prior {self.architecture} models one grid of codes, but the tokenizer has several, "
                f"{len(jax.tree.leaves(specs))}: use one with another quantizer, such as residual"
            )
        if specs.codes_per_position > 1:
            if not self.several_codes:
                able = ", ".join(name for name, prior in PRIORS.items() if prior.several_codes)
                raise ValueError(
                    f"the prior {self.architecture} models one code per position, but the tokenizer has "
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
    """Base of the priors that are transformers over codes."""

    width: int = 768
    """Width of a token."""
    num_layers: int = 12
    """Number of transformer layers."""
    num_heads: int = 12
    """Attention heads per layer."""
    mlp_features: int | None = None
    """Hidden width of the feed-forward layers; None: 8/3 of width."""
    class_dropout: float = 0.1
    """Share of labels that training drops, to make guidance possible; 0: no guidance."""
    dropout: float = 0.1
    """Dropout rate after attention and feed-forward layers."""
    token_dropout: float = 0.1
    """Dropout rate of the embedded tokens."""
    label_smoothing: float = 0.0
    """Label smoothing of the training loss."""
    remat: bool = False
    """Recompute layers in the backward pass: less memory, more time."""


@dataclasses.dataclass(frozen=True)
class GPTArchitecture(TransformerArchitecture):
    """Predicts codes one after another, each from those before it."""

    architecture: ClassVar[str] = "gpt"
    module: ClassVar[str] = "GPT"
    several_codes: ClassVar[bool] = True

    depth_layers: int = 2
    """Layers of the transformer over the codes of one position, if there are several."""
    norm_epsilon: Annotated[float, between(0, 1)] = 1e-6
    """Added to the mean square in norms; released weights of LlamaGen take 1e-5."""
    silent_prefix: bool = False
    """Let no code attend to the prefix by its content, as released weights of LlamaGen take it."""


@dataclasses.dataclass(frozen=True)
class MaskGITArchitecture(TransformerArchitecture):
    """Predicts all masked codes at once from the others."""

    architecture: ClassVar[str] = "maskgit"
    module: ClassVar[str] = "MaskGIT"
    several_codes: ClassVar[bool] = True
    options: ClassVar[type[Options]] = MaskedOptions

    tokens: Literal["codes", "positions"] = "codes"
    """A token for each code, or one for all codes of a position, if there are several."""
    tasks: tuple[_Task, ...] = ("generation",)
    """What training draws from, see `_Task`."""
    mask_schedule: Literal["cosine", "arccos", "linear", "square"] = "cosine"
    """Schedule of the training masks."""
    unmasked_weight: float = 0.0
    """Weight in the loss of the codes that are not masked."""


@dataclasses.dataclass(frozen=True)
class PostNormMaskGITArchitecture(TransformerArchitecture):
    """MaskGIT as its authors released it: post-normalised layers, and an output tied to the embedding."""

    architecture: ClassVar[str] = "maskgit-post-norm"
    module: ClassVar[str] = "PostNormMaskGIT"
    options: ClassVar[type[Options]] = MaskedOptions

    mask_schedule: Literal["cosine", "arccos", "linear", "square"] = "cosine"
    """Schedule of the training masks."""
    unmasked_weight: float = 0.0
    """Weight in the loss of the codes that are not masked."""


@dataclasses.dataclass(frozen=True)
class MaskedCNNArchitecture(PriorArchitecture):
    """Predicts all masked codes at once from the others, by convolutions; a clip's codes in time are its
    channels."""

    architecture: ClassVar[str] = "masked-cnn"
    module: ClassVar[str] = "MaskedCNN"
    several_codes: ClassVar[bool] = True
    needs_code_dim: ClassVar[bool] = True
    options: ClassVar[type[Options]] = MaskedOptions

    width: int = 128
    """Channels of the convolutions."""
    num_layers: int = 8
    """Number of residual blocks."""
    class_dropout: float = 0.1
    """Share of labels that training drops, to make guidance possible; 0: no guidance."""
    dropout: float = 0.0
    """Dropout rate inside the blocks."""
    label_smoothing: float = 0.0
    """Label smoothing of the training loss."""
    tasks: tuple[_Task, ...] = ("generation",)
    """What training draws from, see `_Task`."""
    mask_schedule: Literal["cosine", "arccos", "linear", "square"] = "cosine"
    """Schedule of the training masks."""
    unmasked_weight: float = 0.0
    """Weight in the loss of the codes that are not masked."""
    regression_weight: float = 10.0
    """Weight in the loss of the mean squared error of the predicted vectors."""


@dataclasses.dataclass(frozen=True)
class NextFrameArchitecture(PriorArchitecture):
    """Predicts the masked codes of a frame from its others and from the last decoded frames, by convolutions:
    draws clips frame by frame."""

    architecture: ClassVar[str] = "next-frame"
    module: ClassVar[str] = "NextFrameCNN"
    several_codes: ClassVar[bool] = True
    needs_code_dim: ClassVar[bool] = True
    sees_frames: ClassVar[bool] = True
    options: ClassVar[type[Options]] = MaskedOptions

    context: int = 5
    """Frames that it sees before the one that it predicts."""
    width: int = 96
    """Channels of the convolutions."""
    num_layers: int = 6
    """Number of residual blocks."""
    class_dropout: float = 0.1
    """Share of labels that training drops, to make guidance possible; 0: no guidance."""
    dropout: float = 0.0
    """Dropout rate inside the blocks."""
    label_smoothing: float = 0.0
    """Label smoothing of the training loss."""
    mask_schedule: Literal["cosine", "arccos", "linear", "square"] = "cosine"
    """Schedule of the training masks."""
    unmasked_weight: float = 0.0
    """Weight in the loss of the codes that are not masked."""
    regression_weight: float = 10.0
    """Weight in the loss of the mean squared error of the predicted vectors."""
    own_frames: float = 0.8
    """Share of the training clips that go on, from some frame, with the prior's own guesses, but for
    the first steps."""


@dataclasses.dataclass(frozen=True)
class PixelCNNArchitecture(PriorArchitecture):
    """Predicts codes one after another by gated convolutions."""

    architecture: ClassVar[str] = "pixelcnn"
    module: ClassVar[str] = "PixelCNN"

    width: int = 128
    """Channels of every stack."""
    num_layers: int = 12
    """Number of gated layers."""
    kernel: int = 5
    """Width of the convolutions, odd."""
    head_features: int = 512
    """Hidden width of the two layers that compute the logits."""
    class_dropout: float = 0.1
    """Share of labels that training drops, to make guidance possible; 0: no guidance."""
    dropout: float = 0.1
    """Dropout rate of the gated features."""
    label_smoothing: float = 0.0
    """Label smoothing of the training loss."""


@dataclasses.dataclass(frozen=True)
class NoiseArchitecture(PriorArchitecture):
    """Generates all codes at once from noise, trained against a discriminator."""

    architecture: ClassVar[str] = "noise"
    module: ClassVar[str] = "NoiseGenerator"
    needs_code_dim: ClassVar[bool] = True
    options: ClassVar[type[Options]] = NoiseOptions

    noise_dim: int = 100
    """Width of the noise."""
    width: int = 128
    """Channels of the residual blocks."""
    num_blocks: int = 3
    """Number of residual blocks."""


PRIORS: dict[str, type[PriorArchitecture]] = {
    cls.architecture: cls
    for cls in (
        *(GPTArchitecture, MaskGITArchitecture, PostNormMaskGITArchitecture),
        *(MaskedCNNArchitecture, NextFrameArchitecture, PixelCNNArchitecture, NoiseArchitecture),
    )
}


def prior_class(name: str) -> type[PriorArchitecture]:
    """Returns the dataclass of a named prior.

    Raises:
      ValueError: no prior has that name; the message has the nearest ones.
    """
    return lookup(PRIORS, name, "prior")
