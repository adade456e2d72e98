"""Named quantizers: frozen dataclasses that build a module of `vq_jax.nn`.

A new quantizer is a module in `nn/quantizers/` and a dataclass here, listed in `QUANTIZERS`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from vq_jax.configs.grid_quantizers import BSQConfig, FSQConfig, LFQConfig, ResidualFSQConfig
from vq_jax.configs.quantizer_base import (
    CodebookQuantizerConfig,
    CodebookSize,
    CodeDim,
    Gradient,
    QuantizerConfig,
    shared_fields,
)
from vq_jax.errors import lookup


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
class WrapperConfig(QuantizerConfig):
    """Base of the quantizers that are made of others, of one kind.

    The module takes the other quantizer as its field `quantizer`. On the command line, `--quantizer
    NAME:INNER` chooses both, and `--model.quantizer.inner.FIELD` sets the fields of the inner one.
    """

    inner: QuantizerConfig = VectorQuantizerEMAConfig()

    @property
    def has_codebook(self) -> bool:
        """Whether the inner quantizers have codebooks to fit."""
        return self.inner.has_codebook

    @property
    def against_collapse(self) -> str:
        """What to try for the inner quantizers."""
        return self.inner.against_collapse.replace("model.quantizer.", "model.quantizer.inner.")

    @property
    def innermost(self) -> QuantizerConfig:
        """The quantizer inside all wrappers."""
        return self.inner.innermost

    def _fields(self) -> dict[str, Any]:
        fields = super()._fields()
        del fields["inner"]
        return {"quantizer": self.inner.build(), **fields}

    def codes_of(self, number: str) -> str:
        """Returns words for codes; the inner quantizer's parts and these together have no name."""
        return f"codes {number}" if number and self.inner.part else super().codes_of(number)

    def names(self) -> set[str]:
        """Returns the names of the fields that `override` takes, those of the inner quantizer included."""
        return super().names() | self.inner.names()

    def override(self, fields: Mapping[str, Any]) -> Self:
        """Returns the quantizer with fields overridden, its own or else those of the inner one."""
        names = super().names()
        own = {name: value for name, value in fields.items() if name in names}
        inner: QuantizerConfig = own.pop("inner", self.inner)
        inner = inner.override({name: value for name, value in fields.items() if name not in names})
        return dataclasses.replace(self, inner=inner, **own)

    @classmethod
    def converted(cls, old: QuantizerConfig, inner: str | None) -> QuantizerConfig:
        """Returns a quantizer of this class around `inner`, or around the old one."""
        fields = {name: value for name, value in shared_fields(cls, old).items() if name != "inner"}
        wrapped = old.inner if isinstance(old, cls) else old
        return cls(**fields, inner=wrapped if inner is None else convert_quantizer(wrapped, inner))


@dataclasses.dataclass(frozen=True)
class GroupedQuantizerConfig(WrapperConfig):
    """Latents split into groups of channels, each with a quantizer of its own, see `nn.GroupedQuantizer`."""

    name: ClassVar[str] = "grouped"
    module: ClassVar[str] = "GroupedQuantizer"
    part: ClassVar[str] = "group"

    num_groups: int = 2
    """Number of groups, which is that of the codes per position."""

    @property
    def latent_channels(self) -> int:
        """Width of the latents: that of all groups together."""
        return self.num_groups * self.inner.latent_channels

    def describe(self) -> str:
        """Number of groups, and the quantizer of each."""
        return f"{self.num_groups} groups of {self.inner.describe()}"


@dataclasses.dataclass(frozen=True)
class ResidualQuantizerConfig(WrapperConfig):
    """Stages, each of which quantizes what the stages before it left over, see `nn.ResidualQuantizer`."""

    name: ClassVar[str] = "residual"
    module: ClassVar[str] = "ResidualQuantizer"
    part: ClassVar[str] = "stage"

    num_stages: int = 4
    """Number of stages, which is that of the codes per position."""
    shared: bool = False
    """One codebook for all stages."""
    min_stages: int | None = None
    """In training, use only the first stages, a number drawn from this one to all of them for each step, so
    that the codes of the first stages alone decode well; None: all stages."""
    output_gradient: Literal["stages", "whole"] = "stages"
    """What passes from the output to the latents: the sum of the stages' gradients, or the identity."""

    @property
    def latent_channels(self) -> int:
        """Width of the latents, which is that of each stage."""
        return self.inner.latent_channels

    def describe(self) -> str:
        """Number of stages, and the quantizer of each."""
        return f"{self.num_stages} {'shared ' if self.shared else ''}stages of {self.inner.describe()}"


@dataclasses.dataclass(frozen=True)
class MultiScaleQuantizerConfig(QuantizerConfig):
    """A grid of codes at each of several scales, from coarse to fine, see `nn.MultiScaleQuantizer`."""

    name: ClassVar[str] = "multi_scale"
    module: ClassVar[str] = "MultiScaleQuantizer"
    part: ClassVar[str] = "scale"

    codebook_size: CodebookSize = 512
    """Number K of vectors in the codebook, which serves all scales."""
    code_dim: CodeDim = 32
    """Width D of a codebook vector."""
    scales: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Lengths of the grids, relative to the last, which is that of the latents; VAR's are 1 2 3 4 5 6 8 10
    13 16."""
    num_convolutions: int = 4
    """Number of convolutions that enlarged vectors pass, shared by neighbouring scales."""
    convolution_weight: float = 0.5
    """Share of a convolution's output in the result; the rest is its input."""
    commitment_weight: float = 0.25
    """Weight of the loss that keeps the encoder's outputs near the codebook."""
    codebook_weight: float = 1.0
    """Weight of the loss that moves codebook vectors towards the latents."""
    normalize: bool = False
    """Choose the codebook vector of the largest cosine, not the nearest one."""
    decay: float = 0.99
    """Decay of the running averages of code usage."""
    revive_threshold: float = 0.0
    """Replace the vector of a code that is used fewer times per step than this, on average, by a latent of
    the batch; 0: off."""
    gradient: Gradient = "straight_through"
    """How the gradient passes, as for the other quantizers with a codebook."""
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

    def describe(self) -> str:
        """Number of scales, and the size of the codebook."""
        return f"{len(self.scales)} scales of {self.codebook_size} codes, {self.code_dim} wide, {self.name}"


@dataclasses.dataclass(frozen=True)
class SimVQConfig(QuantizerConfig):
    """A codebook that is a trained linear map of fixed random vectors, see `nn.SimVQ`."""

    name: ClassVar[str] = "simvq"
    module: ClassVar[str] = "SimVQ"

    codebook_size: CodebookSize = 512
    """Number K of vectors in the codebook."""
    code_dim: CodeDim = 64
    """Width D of a codebook vector."""
    commitment_weight: float = 0.25
    """Weight of the loss that keeps the encoder's outputs near the codebook."""
    codebook_weight: float = 1.0
    """Weight of the loss that trains the linear map."""
    normalize: bool = False
    """Scale latents and codebook vectors to unit length."""
    entropy_weight: float = 0.0
    """Weight of the entropy loss, which rewards confident assignments and even use of all codes; 0: off."""
    entropy_temperature: float = 0.01
    """Temperature of the assignments in the entropy loss."""
    gradient: Gradient = "straight_through"
    """How the gradient passes, as for the other quantizers with a codebook."""
    diveq_noise: float = 1e-3
    """Standard deviation of the noise on the direction in diveq."""
    frozen_dim: int | None = None
    """Width of the fixed vectors; code_dim when None."""
    use_bias: bool = False
    """Add a bias to the linear map."""

    def folded(self) -> QuantizerConfig:
        """Returns the quantizer whose codebook is the map's result."""
        return VectorQuantizerConfig(**shared_fields(VectorQuantizerConfig, self))

    @property
    def latent_channels(self) -> int:
        """Width D of the latents, which is that of the codebook vectors."""
        return self.code_dim

    def describe(self) -> str:
        """Describes the size of the codebook."""
        return f"{self.codebook_size} codes, {self.code_dim} wide, {self.name}"


@dataclasses.dataclass(frozen=True)
class IBQConfig(QuantizerConfig):
    """A codebook that learns from the assignments of all latents to all codes, see `nn.IBQ`."""

    name: ClassVar[str] = "ibq"
    module: ClassVar[str] = "IBQ"

    codebook_size: CodebookSize = 512
    """Number K of vectors in the codebook."""
    code_dim: CodeDim = 64
    """Width D of a codebook vector."""
    commitment_weight: float = 1.0
    """Weight of the loss that keeps the encoder's outputs near the codebook."""
    codebook_weight: float = 0.25
    """Weight of the loss that moves the chosen vectors towards the latents."""
    propagation_weight: float = 1.0
    """Weight of the loss whose gradient passes through the assignments to all codes."""
    normalize: bool = False
    """Scale latents and codebook vectors to unit length."""
    entropy_weight: float = 0.05
    """Weight of the entropy loss, which rewards confident assignments and even use of all codes; 0: off."""
    entropy_temperature: float = 0.01
    """Temperature of the assignments in the entropy loss."""

    @property
    def latent_channels(self) -> int:
        """Width D of the latents, which is that of the codebook vectors."""
        return self.code_dim

    @property
    def has_codebook(self) -> bool:
        """Whether there is a codebook to fit: yes."""
        return True

    def describe(self) -> str:
        """Describes the size of the codebook."""
        return f"{self.codebook_size} codes, {self.code_dim} wide, {self.name}"


@dataclasses.dataclass(frozen=True)
class GumbelQuantizerConfig(QuantizerConfig):
    """Codes drawn by Gumbel-softmax, see `nn.GumbelQuantizer`."""

    name: ClassVar[str] = "gumbel"
    module: ClassVar[str] = "GumbelQuantizer"

    codebook_size: CodebookSize = 512
    """Number K of vectors in the codebook."""
    code_dim: CodeDim = 64
    """Width D of a codebook vector."""
    initial_temperature: float = 1.0
    """Temperature of the first training step."""
    final_temperature: float = 1 / 16
    """Temperature from step anneal_steps on."""
    anneal_steps: int = 150_000
    """Training steps over which the temperature falls, by half a cosine."""
    kl_weight: float = 5e-4
    """Weight of the divergence of the codes' probabilities from even use."""
    hard: bool = True
    """Train with one vector for each latent; False: with the weighted sum of all vectors."""

    @property
    def latent_channels(self) -> int:
        """Width D of the latents, which is that of the codebook vectors."""
        return self.code_dim

    @property
    def against_collapse(self) -> str:
        """What to try where most codes fall out of use, as the end of a sentence."""
        return f"a larger model.quantizer.kl_weight; {super().against_collapse}"

    def describe(self) -> str:
        """Describes the size of the codebook."""
        return f"{self.codebook_size} codes, {self.code_dim} wide, {self.name}"


@dataclasses.dataclass(frozen=True)
class RandomProjectionQuantizerConfig(QuantizerConfig):
    """Random vectors that nothing learns, for codes as labels, see `nn.RandomProjectionQuantizer`."""

    name: ClassVar[str] = "random_projection"
    module: ClassVar[str] = "RandomProjectionQuantizer"

    codebook_size: CodebookSize = 512
    """Number K of vectors in the codebook."""
    code_dim: CodeDim = 64
    """Width D of the latents."""
    projection_dim: int = 16
    """Width in which latents are compared with the vectors."""
    epsilon: float = 1e-5
    """Added to the variance that latents are normalised by."""

    @property
    def latent_channels(self) -> int:
        """Width D of the latents."""
        return self.code_dim

    def describe(self) -> str:
        """Describes the size of the codebook."""
        return f"{self.codebook_size} codes, {self.projection_dim} wide, {self.name}"


QUANTIZERS: dict[str, type[QuantizerConfig]] = {
    cls.name: cls
    for cls in (
        VectorQuantizerEMAConfig,
        VectorQuantizerConfig,
        FSQConfig,
        GroupedQuantizerConfig,
        ResidualQuantizerConfig,
        ResidualFSQConfig,
        MultiScaleQuantizerConfig,
        SimVQConfig,
        LFQConfig,
        BSQConfig,
        IBQConfig,
        GumbelQuantizerConfig,
        RandomProjectionQuantizerConfig,
    )
}


def quantizer_class(name: str) -> type[QuantizerConfig]:
    """Returns the dataclass of a named quantizer.

    Raises:
      ValueError: no quantizer has that name; the message has the nearest ones.
    """
    return lookup(QUANTIZERS, name, "quantizer")


def convert_quantizer(old: QuantizerConfig, name: str) -> QuantizerConfig:
    """Returns the quantizer of another name; fields that both have keep values that are not the old default.

    Args:
      old: the quantizer to replace.
      name: the new one's. `NAME:INNER` is the wrapper NAME around the quantizer INNER, which may be a
        wrapper too; a wrapper's name alone wraps the old quantizer as it is.

    Raises:
      ValueError: no quantizer has that name; the message has the nearest ones.
    """
    outer, wraps, inner = name.partition(":")
    return quantizer_class(outer).converted(old, inner if wraps else None)
