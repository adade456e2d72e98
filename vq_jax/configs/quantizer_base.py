"""Bases of the named quantizers: frozen dataclasses that build a module of `vq_jax.nn`."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import tyro

from vq_jax.configs.fields import Checked
from vq_jax.errors import require

if TYPE_CHECKING:
    from flax import linen

CodebookSize = Annotated[int, tyro.conf.arg(aliases=["--model.codebook-size"])]
CodeDim = Annotated[int, tyro.conf.arg(aliases=["--model.code-dim"])]
Gradient = Literal["straight_through", "rotation", "diveq"]


@dataclasses.dataclass(frozen=True)
class QuantizerConfig(Checked):
    """Base of the named quantizers."""

    name: ClassVar[str] = ""
    path: ClassVar[str] = "model.quantizer"
    module: ClassVar[str] = ""
    """Name of the quantizer's module in `vq_jax.nn`, which has the fields of the configuration."""
    part: ClassVar[str] = ""
    """What has codes of its own where there are several kinds, such as `stage`."""

    @property
    def has_codebook(self) -> bool:
        """Whether there is a codebook that a phase can fit on its own, also by k-means."""
        return False

    @property
    def latent_channels(self) -> int:
        """Width D of the latents that the quantizer accepts."""
        raise TypeError(f"{type(self).__name__} is not a quantizer: use a named one")

    def build(self) -> "linen.Module":
        """Makes the quantizer."""
        from vq_jax import nn

        quantizer: linen.Module = getattr(nn, self.module)(**self._fields())
        return quantizer

    def _fields(self) -> dict[str, Any]:
        """The fields of the module."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def folded(self) -> "QuantizerConfig":
        """Returns the quantizer with a plain table in place of a codebook that is computed, or itself."""
        return self

    def describe(self) -> str:
        """Describes the quantizer in a few words, for reports."""
        raise TypeError(f"{type(self).__name__} is not a quantizer: use a named one")

    @property
    def against_collapse(self) -> str:
        """What to try where most codes fall out of use, as the end of a sentence."""
        return "fewer codes, a lower optimizer.learning_rate, or another quantizer, such as fsq"

    def codes_of(self, number: str) -> str:
        """Returns words for the codes whose figures' names end with a number, such as `codes of stage 1`."""
        return f"codes of {self.part} {number}" if number and self.part else f"codes {number}".rstrip()

    @property
    def innermost(self) -> "QuantizerConfig":
        """The quantizer itself, or the one inside all wrappers."""
        return self

    def names(self) -> set[str]:
        """Returns the names of the fields that `override` takes."""
        return {field.name for field in dataclasses.fields(self)}

    def override(self, fields: Mapping[str, Any]) -> Self:
        """Returns the quantizer with fields overridden, all of them among `names`."""
        return dataclasses.replace(self, **fields)

    @classmethod
    def converted(cls, old: "QuantizerConfig", inner: str | None) -> "QuantizerConfig":
        """Returns a quantizer of this class; see `convert_quantizer`.

        Args:
          old: the quantizer that it replaces.
          inner: name of the quantizer to wrap; None if none is given.

        Raises:
          ValueError: this quantizer wraps no other.
        """
        require(inner is None, f"the quantizer {cls.name} wraps no other: give {cls.name!r} alone")
        old = old.innermost
        return old if type(old) is cls else cls(**shared_fields(cls, old))


@dataclasses.dataclass(frozen=True)
class CodebookQuantizerConfig(QuantizerConfig):
    """Base of the quantizers that choose the nearest of K vectors, see `nn.CodebookQuantizer`."""

    codebook_size: CodebookSize = 512
    """Number K of vectors in the codebook."""
    code_dim: CodeDim = 64
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
    gradient: Gradient = "straight_through"
    """How the gradient passes: unchanged; turned and scaled (rotation trick); or to latents and codebook
    through the length of the error (diveq: set the weights of the other losses to 0)."""
    diveq_noise: float = 1e-3
    """Standard deviation of the noise on the direction in diveq."""

    @property
    def latent_channels(self) -> int:
        """Width D of the latents, which is that of the codebook vectors."""
        return self.code_dim

    @property
    def has_codebook(self) -> bool:
        """Whether there is a codebook to fit: yes."""
        return True

    @property
    def against_collapse(self) -> str:
        """What to try where most codes fall out of use, as the end of a sentence."""
        return (
            "model.quantizer.revive_threshold above 0, which replaces unused codes; a start by k-means, with "
            f"kmeans_batches in a phase; model.quantizer.normalize; {super().against_collapse}"
        )

    def describe(self) -> str:
        """Describes the size of the codebook."""
        return f"{self.codebook_size} codes, {self.code_dim} wide, {self.name}"


def shared_fields(cls: type[QuantizerConfig], old: QuantizerConfig) -> dict[str, Any]:
    """The fields of a quantizer that another class has too, but for those at their defaults."""
    names = {field.name for field in dataclasses.fields(cls)}
    return {
        field.name: getattr(old, field.name)
        for field in dataclasses.fields(old)
        if field.name in names and getattr(old, field.name) != field.default
    }
