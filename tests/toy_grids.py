"""A model of two grids of codes and a prior over both, built from nothing but the library's seams.

`register` adds them as any extension does: an architecture, a quantizer, a prior and its sampler.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen

from vq_jax import nn
from vq_jax.configs import Architecture, PriorArchitecture, QuantizerConfig, SamplingOptions
from vq_jax.configs.models import ARCHITECTURES
from vq_jax.configs.priors import PRIORS
from vq_jax.configs.quantizers import QUANTIZERS
from vq_jax.generate import SAMPLERS, Sampler, sample_gpt
from vq_jax.generate.common import fold_in

STRIDES = (8, 4)


class Encoders(linen.Module):
    """Two encoders side by side: latents coarse and fine."""

    widths: tuple[int, int]

    @linen.nowrap
    def strides(self, axes):
        """Pixels per code of the coarsest grid."""
        return (STRIDES[0],) * axes

    @linen.compact
    def __call__(self, images, *, train=False):
        """Pictures [B, H, W, C] to a tuple of latents."""
        return tuple(
            linen.Conv(width, (stride, stride), strides=(stride, stride))(images)
            for stride, width in zip(STRIDES, self.widths, strict=True)
        )


class Decoders(linen.Module):
    """Adds up what each grid draws."""

    out_channels: int
    last_layer: ClassVar[str] = "Conv_0"

    @linen.compact
    def __call__(self, latents, *, train=False):
        """A tuple of latents to pictures."""
        parts = []
        for stride, z in zip(STRIDES, latents, strict=True):
            z = linen.Dense(8)(z.astype(jnp.float32))
            parts.append(jnp.repeat(jnp.repeat(z, stride, axis=1), stride, axis=2))
        return linen.Conv(self.out_channels, (3, 3))(linen.relu(sum(parts)))


class Quantizers(linen.Module):
    """One code a position in the coarse grid; two in the fine one, half of the channels each."""

    sizes: tuple[int, int] = (8, 16)
    widths: tuple[int, int] = (4, 6)

    def setup(self):
        self.coarse = nn.VectorQuantizerEMA(self.sizes[0], self.widths[0], revive_threshold=0.1)
        self.fine = [nn.VectorQuantizer(self.sizes[1], self.widths[1] // 2) for _ in range(2)]

    @linen.nowrap
    def code_spec(self, latent_shapes):
        """A tuple of specs."""
        coarse, fine = (shape[:-1] for shape in latent_shapes)
        return nn.CodeSpec(coarse, self.sizes[0]), nn.CodeSpec(fine, self.sizes[1], 2)

    def __call__(self, z, *, train=False):
        """A tuple of latents to tuples of vectors and codes."""
        coarse = self.coarse(z[0], train=train)
        fine = [
            quantizer(half, train=train)
            for quantizer, half in zip(self.fine, jnp.split(z[1], 2, axis=-1), strict=True)
        ]
        return nn.QuantizerOutput(
            quantized=(coarse.quantized, jnp.concatenate([out.quantized for out in fine], axis=-1)),
            indices=(coarse.indices, jnp.stack([out.indices for out in fine], axis=-1)),
            loss=sum((out.loss for out in fine), coarse.loss),
            metrics={"perplexity": coarse.metrics["perplexity"]},
        )

    def lookup(self, indices):
        """A tuple of codes to a tuple of vectors."""
        fine = [quantizer.lookup(indices[1][..., q]) for q, quantizer in enumerate(self.fine)]
        return self.coarse.lookup(indices[0]), jnp.concatenate(fine, axis=-1)


class TwoGridPrior(linen.Module):
    """A transformer for each grid, side by side: not a good prior, but one of two grids."""

    code_specs: tuple[nn.CodeSpec, ...]
    num_classes: int | None = None

    @property
    def code_shape(self):
        """For people."""
        return tuple(spec.array_shape for spec in self.code_specs)

    def setup(self):
        self.grids = [grid_prior(spec, self.num_classes) for spec in self.code_specs]

    def __call__(self, codes, condition=None, *, train=False):
        """Logits of both grids."""
        return tuple(
            prior(grid, condition, train=train) for prior, grid in zip(self.grids, codes, strict=True)
        )

    def loss(self, codes, condition=None, *, train=False):
        """The sum over grids of the mean cross-entropy."""
        losses, metrics = zip(
            *(
                prior.loss(grid, condition, train=train)
                for prior, grid in zip(self.grids, codes, strict=True)
            ),
            strict=True,
        )
        return sum(losses), jax.tree.map(lambda *parts: sum(parts) / len(parts), *metrics)


def grid_prior(spec, num_classes):
    """The transformer of one grid."""
    return nn.GPT(
        codebook_size=spec.codebook_size,
        grid=spec.shape,
        codes_per_position=spec.codes_per_position,
        width=16,
        num_layers=1,
        num_heads=2,
        depth_layers=1,
        num_classes=num_classes,
    )


def sample_two_grids(model, variables, rng, condition=None, *, num=None, options, sharding=None):
    """Draws each grid by itself."""
    return tuple(
        sample_gpt(
            grid_prior(spec, model.num_classes),
            {"params": variables["params"][f"grids_{number}"]},
            fold_in(rng, number),
            condition,
            num=num,
            options=options,
            sharding=sharding,
        )
        for number, spec in enumerate(model.code_specs)
    )


@dataclasses.dataclass(frozen=True)
class ToyQuantizer(QuantizerConfig):
    """Of both grids."""

    name: ClassVar[str] = "toy-grids"
    latent_channels: ClassVar[tuple[int, int]] = (4, 6)

    def build(self):
        """The module, which is not one of `vq_jax.nn`."""
        return Quantizers(widths=self.latent_channels)

    def describe(self):
        """In words."""
        return "two grids"


@dataclasses.dataclass(frozen=True)
class ToyModel(Architecture):
    """Two encoders, two grids."""

    architecture: ClassVar[str] = "toy-grids"

    quantizer: QuantizerConfig = ToyQuantizer()

    def networks(self, out_channels, dtype):
        """Encoder and decoder."""
        return Encoders(self.quantizer.latent_channels), Decoders(out_channels)


@dataclasses.dataclass(frozen=True)
class ToyPrior(PriorArchitecture):
    """Over both grids."""

    architecture: ClassVar[str] = "toy-grids"
    options: ClassVar[type] = SamplingOptions

    def build(self, specs, num_classes, dtype=None, **fields):
        """The module, which is not one of `vq_jax.nn`."""
        return TwoGridPrior(specs, num_classes)


def register(monkeypatch):
    """Adds the toys to the registries until the test is over."""
    monkeypatch.setitem(ARCHITECTURES, "toy-grids", ToyModel)
    monkeypatch.setitem(QUANTIZERS, "toy-grids", ToyQuantizer)
    monkeypatch.setitem(PRIORS, "toy-grids", ToyPrior)
    monkeypatch.setitem(SAMPLERS, TwoGridPrior, Sampler(sample_two_grids, SamplingOptions))
