"""Named quantizers: frozen dataclasses that build a module of `vq_jax.nn`.

A new quantizer is a module in `nn/quantizers/` and a dataclass here, listed in `QUANTIZERS`.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from vq_jax.configs.fields import Checked
from vq_jax.errors import lookup

if TYPE_CHECKING:
    from flax import linen

_CodebookSize = Annotated[int, tyro.conf.arg(aliases=["--model.codebook-size"])]
_CodeDim = Annotated[int, tyro.conf.arg(aliases=["--model.code-dim"])]


@dataclasses.dataclass(frozen=True)
class QuantizerConfig(Checked):
    """Base of the named quantizers."""

    name: ClassVar[str] = ""
    path: ClassVar[str] = "model.quantizer"
    module: ClassVar[str] = ""
    """Name of the quantizer's module in `vq_jax.nn`, which has the fields of the configuration."""
    has_codebook: ClassVar[bool] = False
    """Whether there is a codebook that a phase can fit on its own, also by k-means."""

    @property
    def latent_channels(self) -> int:
        """Width D of the latents that the quantizer accepts."""
        raise TypeError(f"{type(self).__name__} is not a quantizer: use a named one")

    def build(self) -> "linen.Module":
        """Makes the quantizer."""
        from vq_jax import nn

        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        quantizer: linen.Module = getattr(nn, self.module)(**fields)
        return quantizer

    def describe(self) -> str:
        """Describes the quantizer in a few words, for reports."""
        raise TypeError(f"{type(self).__name__} is not a quantizer: use a named one")


@dataclasses.dataclass(frozen=True)
class CodebookQuantizerConfig(QuantizerConfig):
    """Base of the quantizers that choose the nearest of K vectors, see `nn.CodebookQuantizer`."""

    has_codebook: ClassVar[bool] = True

    codebook_size: _CodebookSize = 512
    """Number K of vectors in the codebook."""
    code_dim: _CodeDim = 64
    """Width D of a codebook vector."""
    commitment_weight: float = 0.25
    """Weight of the loss that keeps the encoder's outputs near the codebook."""
    normalize: bool = False
    """Scale latents and codebook vectors to unit length."""
    decay: float = 0.99
    """Decay of the running averages of code usage and, for ema, of the codebook."""
    revive_threshold: float = 0.0
    """Replace the vector of a code that is used fewer times per step than this, on average, by a latent of
    the batch; 0: off."""
    entropy_weight: float = 0.0
    """Weight of the entropy loss, which rewards confident assignments and even use of all codes; 0: off."""
    entropy_temperature: float = 0.01
    """Temperature of the assignments in the entropy loss."""

    @property
    def latent_channels(self) -> int:
        """Width D of the latents, which is that of the codebook vectors."""
        return self.code_dim

    def describe(self) -> str:
        """Describes the size of the codebook."""
        return f"{self.codebook_size} codes, {self.code_dim} wide, {self.name}"


@dataclasses.dataclass(frozen=True)
class VectorQuantizerEMAConfig(CodebookQuantizerConfig):
    """A codebook that follows running averages of the latents (EMA)."""

    name: ClassVar[str] = "ema"
    module: ClassVar[str] = "VectorQuantizerEMA"

    epsilon: float = 1e-5
    """Laplace smoothing of the code counts."""


@dataclasses.dataclass(frozen=True)
class VectorQuantizerConfig(CodebookQuantizerConfig):
    """A codebook trained by gradient descent."""

    name: ClassVar[str] = "gradient"
    module: ClassVar[str] = "VectorQuantizer"

    codebook_weight: float = 1.0
    """Weight of the loss that moves codebook vectors towards the latents."""


@dataclasses.dataclass(frozen=True)
class FSQConfig(QuantizerConfig):
    """Finite scalar quantization: each channel of a latent rounded to a few levels, see `nn.FSQ`."""

    name: ClassVar[str] = "fsq"
    module: ClassVar[str] = "FSQ"

    levels: tuple[int, ...] = (8, 8, 8)
    """Levels of each channel; their product is the number of codes."""
    symmetric: bool = False
    """Spread the levels evenly from -1 to 1, even numbers of levels too."""
    bound: Literal["tanh", "sigmoid"] = "tanh"
    """Function that bounds the latents; sigmoid (iFSQ) turns unit Gaussian ones into nearly uniform ones."""

    @property
    def latent_channels(self) -> int:
        """Width of the latents: one channel for each of the levels."""
        return len(self.levels)

    def describe(self) -> str:
        """Number of codes, and the levels."""
        return f"{math.prod(self.levels)} codes, {' x '.join(map(str, self.levels))} levels, {self.name}"


QUANTIZERS: dict[str, type[QuantizerConfig]] = {
    cls.name: cls for cls in (VectorQuantizerEMAConfig, VectorQuantizerConfig, FSQConfig)
}


def quantizer_class(name: str) -> type[QuantizerConfig]:
    """Returns the dataclass of a named quantizer.

    Raises:
      ValueError: no quantizer has that name; the message has the nearest ones.
    """
    return lookup(QUANTIZERS, name, "quantizer")


def convert_quantizer(old: QuantizerConfig, name: str) -> QuantizerConfig:
    """Returns the quantizer of another name; the fields that both have keep their values.

    Raises:
      ValueError: no quantizer has that name; the message has the nearest ones.
    """
    cls = quantizer_class(name)
    if cls is type(old):
        return old
    shared = {field.name for field in dataclasses.fields(cls)} & {f.name for f in dataclasses.fields(old)}
    kept: dict[str, Any] = {field: getattr(old, field) for field in shared}
    return cls(**kept)
