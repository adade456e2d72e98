"""Configurations of the quantizers without a codebook to learn, whose codes are points of a grid."""

import dataclasses
import math
from typing import ClassVar, Literal

from vq_jax.configs.quantizer_base import QuantizerConfig


@dataclasses.dataclass(frozen=True)
class FSQConfig(QuantizerConfig):
    """Finite scalar quantization: each channel of a latent rounded to a few levels, see `nn.FSQ`."""

    name: ClassVar[str] = "fsq"
    module: ClassVar[str] = "FSQ"

    levels: tuple[int, ...] = (8, 8, 8)
    """Levels of each channel; their product is the number of codes."""
    symmetric: bool = False
    """Spread the levels evenly from -1 to 1, even numbers of levels too."""
    bound: Literal["tanh", "sigmoid", "clip"] = "tanh"
    """Function that bounds the latents; sigmoid (iFSQ) turns unit Gaussian ones into nearly uniform ones, and
    clip passes no gradient beyond [-1, 1]."""

    @property
    def latent_channels(self) -> int:
        """Width of the latents: one channel for each of the levels."""
        return len(self.levels)

    def describe(self) -> str:
        """Number of codes, and the levels."""
        return f"{math.prod(self.levels)} codes, {' x '.join(map(str, self.levels))} levels, {self.name}"


@dataclasses.dataclass(frozen=True)
class LFQConfig(QuantizerConfig):
    """Lookup-free quantization: each channel of a latent is one bit, see `nn.LFQ`."""

    name: ClassVar[str] = "lfq"
    module: ClassVar[str] = "LFQ"

    bits: int = 9
    """Bits of a code, one for each channel; 2^bits is the number of codes."""
    spherical: bool = False
    """Scale latents and codes to unit length: binary spherical quantization."""
    sample_entropy_weight: float = 0.1
    """Weight of the entropy of each latent's assignment to the codes, which becomes low."""
    batch_entropy_weight: float = 0.1
    """Weight of the entropy of the batch's mean assignment, which becomes high: even use of all codes."""
    batch_entropy: Literal["full", "sum", "mean"] = "sum"
    """That entropy: of all codes, up to 20 bits; or the sum or mean of those of groups of bits."""
    group_size: int = 9
    """Bits of such a group."""
    entropy_temperature: float = 0.01
    """Temperature of the assignments. The published one is the default; in short runs of small networks, 0.1
    gave better pictures and used more codes."""
    commitment_weight: float = 0.25
    """Weight of the loss that keeps the encoder's outputs near their codes."""

    @property
    def latent_channels(self) -> int:
        """Width of the latents: one channel for each bit."""
        return self.bits

    @property
    def against_collapse(self) -> str:
        """What to try where most codes fall out of use, as the end of a sentence."""
        return f"a larger model.quantizer.batch_entropy_weight; {super().against_collapse}"

    def describe(self) -> str:
        """Number of codes and bits."""
        return f"{2**self.bits} codes, {self.bits} bits, {self.name}"


@dataclasses.dataclass(frozen=True)
class BSQConfig(LFQConfig):
    """Binary spherical quantization: `lfq` with the values of its published recipe."""

    name: ClassVar[str] = "bsq"

    spherical: bool = True
    """Scale latents and codes to unit length; False is `lfq`."""
    entropy_temperature: float = 1.0
    """Temperature of the assignments."""
    commitment_weight: float = 0.0
    """Weight of the loss that keeps the encoder's outputs near their codes."""


@dataclasses.dataclass(frozen=True)
class ResidualFSQConfig(QuantizerConfig):
    """Stages of finite scalar quantization, of finer and finer levels, see `nn.ResidualFSQ`."""

    name: ClassVar[str] = "residual_fsq"
    module: ClassVar[str] = "ResidualFSQ"
    part: ClassVar[str] = "stage"

    levels: tuple[int, ...] = (8, 5, 5, 5)
    """Levels of each channel; their product is the number of codes of a stage."""
    num_stages: int = 4
    """Number of stages, which is that of the codes per position."""
    min_stages: int | None = None
    """In training, use only the first stages, a number drawn from this one to all of them for each step, so
    that the codes of the first stages alone decode well; None: all stages."""
    output_gradient: Literal["stages", "whole"] = "stages"
    """What passes from the output to the bounded latents: the sum of the stages' gradients, or the
    identity."""

    @property
    def latent_channels(self) -> int:
        """Width of the latents: one channel for each of the levels."""
        return len(self.levels)

    def describe(self) -> str:
        """Number of stages, and of the codes of each."""
        levels = " x ".join(map(str, self.levels))
        return f"{self.num_stages} stages of {math.prod(self.levels)} codes, {levels} levels, {self.name}"
