"""Multi-scale residual quantization: a grid of codes at each of several scales, from coarse to fine."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.quantizers.base import QuantizerOutput, is_filled, mean_square
from vq_jax.nn.quantizers.parts import join_metrics
from vq_jax.nn.quantizers.vector import VectorQuantizer
from vq_jax.types import Array, Codes, CodeSpec, Float, Int, Key, Metrics, Num


class MultiScaleQuantizer(VectorQuantizer):
    """Quantizes what is left over at one scale after the other, as VAR's tokenizer does.

    After Tian et al. 2024, arXiv:2404.02905, algorithm 1. With r = z and a sum s = 0, scale k averages r over
    the areas of its grid, takes the nearest codes, one codebook for all scales, enlarges their vectors to the
    size of z (bicubic), passes them through a convolution phi_k(h) = (1 - t) h + t conv3x3(h), and moves the
    result from r to s. The output is the last s. The codes of a picture are a tuple of grids, from coarse to
    fine.

    Latents need not have the size of the last scale: scale k has round(n_axis scales[k] / scales[-1]) codes
    along an axis, at least one, and the last one as many as the latents. Any number of spatial axes will do.

    The loss is the mean over the scales of commitment_weight mean((z - sg(s))^2) + codebook_weight mean((s -
    sg(z))^2), each with the sum up to this scale. With `normalize`, the nearest code is that of the largest
    cosine, and the vectors keep their lengths. `perplexity`, `usage` and `usage/0` and so on are the mean and
    those of each scale. Revival draws from the averaged latents of all scales.

    Attributes:
      scales: lengths of the grids, from coarse to fine, relative to the last.
      num_convolutions: number of convolutions, shared by neighbouring scales.
      convolution_weight: t.
    """

    scales: tuple[int, ...] = (1, 2, 4, 8, 16)
    num_convolutions: int = 4
    convolution_weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scales or list(self.scales) != sorted(set(self.scales)):
            raise ValueError(f"MultiScaleQuantizer.scales must rise from coarse to fine, got {self.scales}")
        if self.entropy_weight > 0:
            raise ValueError("MultiScaleQuantizer has no entropy loss: set entropy_weight to 0")

    def setup(self) -> None:
        super().setup()
        self.convolutions = [_Convolution(self.convolution_weight) for _ in range(self.num_convolutions)]

    @nn.nowrap
    def code_spec(self, latent_shape: tuple[int, ...]) -> tuple[CodeSpec, ...]:  # type: ignore[override]
        """Returns the specs of one picture's grids, given the shape (*s, D) of its latents."""
        return tuple(CodeSpec(grid, self.codebook_size) for grid in self._grids(latent_shape[:-1]))

    def __call__(self, z: Num[Array, "B *S D"], *, train: bool = False) -> QuantizerOutput:
        """Quantizes latents and, in training, counts how often each code is used.

        Args:
          z: latents, any float dtype.
          train: update the average use, if the collection is mutable.

        Returns:
          Output with a tuple of codes, [B, *s_k] for each scale.

        Raises:
          ValueError: the latents are not float, or the last axis of z is not code_dim wide.
        """
        flat, full = self._flatten(z), z.shape[1:-1]
        latents, axis = z.astype(jnp.float32), self._axis(train)
        rest, total = jax.lax.stop_gradient(latents), jnp.zeros_like(latents)
        rows, codes, counts, losses, of_scales = [], [], [], [], []
        for number, grid in enumerate(self._grids(full)):
            rows.append(self._flatten(ops.resize(rest, grid, ops.area_matrix)))
            found = ops.nearest_code(rows[-1], self.codebook())
            counts.append(ops.code_statistics(rows[-1], found, self.codebook_size, axis)[0])
            codes.append(found.reshape(z.shape[0], *grid))
            h = self._enlarged(number, codes[-1], full)
            total, rest = total + h, rest - jax.lax.stop_gradient(h)
            commitment = mean_square(latents - jax.lax.stop_gradient(total))
            codebook_loss = mean_square(total - jax.lax.stop_gradient(latents))
            losses.append(self.commitment_weight * commitment + self.codebook_weight * codebook_loss)
            of_scales.append({"perplexity": ops.perplexity(counts[-1]), "usage": ops.usage(counts[-1])})
        metrics: Metrics = join_metrics(of_scales, 1)
        metrics |= {"commitment_loss": commitment, "codebook_loss": codebook_loss}
        revival = {}
        if self._updating(train):
            every = jnp.concatenate(rows)
            revival = self._update(every, sum(counts[1:], counts[0])) if is_filled(every) else {}
            dead = sum(
                (jnp.sum(found.mask.astype(jnp.float32)) for found in revival.values()),
                jnp.zeros((), jnp.float32),
            )
            metrics["revived"] = dead
        passed = self._pass(latents.reshape(flat.shape), total.reshape(flat.shape), train)
        return QuantizerOutput(
            quantized=passed.reshape(z.shape).astype(z.dtype),
            indices=tuple(codes),
            loss=sum(losses[1:], losses[0]) / len(losses),
            metrics=metrics,
            revival=revival,
        )

    def lookup(self, indices: Codes) -> Float[Array, "B *S D"]:
        """Looks up the latents that a tuple of grids stands for, float32."""
        return self.sums(indices)[-1]

    @property
    def num_stages(self) -> int:
        """Number of scales."""
        return len(self.scales)

    def lookup_stages(self, indices: Codes, stages: int) -> Float[Array, "B *S D"]:
        """Looks up the latents that the grids of the first scales stand for, given those of all, float32."""
        return self.sums(indices)[stages - 1]

    def sums(self, indices: Codes) -> tuple[Float[Array, "B *S D"], ...]:
        """Looks up the sums after each scale: what the codes of the first scales alone stand for.

        Raises:
          ValueError: there are not as many grids as scales.
        """
        count = len(indices) if isinstance(indices, tuple | list) else 1
        if count != len(self.scales):
            raise ValueError(
                f"MultiScaleQuantizer expected {len(self.scales)} grids of codes, one for each of scales = "
                f"{self.scales}, got {count}: were they made by another quantizer?"
            )
        full = indices[-1].shape[1:]
        parts = [self._enlarged(number, codes, full) for number, codes in enumerate(indices)]
        return tuple(sum(parts[1 : number + 1], parts[0]) for number in range(len(parts)))

    @nn.nowrap
    def fit(
        self,
        rng: Key[Array, ""],
        params: Mapping[str, Any],
        codebook: Mapping[str, Any],
        latents: Float[Array, "T N D"],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Sets the codebook by k-means of the latents at full size; the convolutions stay as they are."""
        fitted, averages = super().fit(rng, params, codebook, latents)
        return {**params, **fitted}, averages

    def _enlarged(
        self, number: int, codes: Int[Array, "B *S"], full: tuple[int, ...]
    ) -> Float[Array, "B *S2 D"]:
        """What the codes of a scale add to the sum."""
        vectors = ops.look_up(self.embedding.astype(jnp.float32), codes)
        convolution = self.convolutions[shared_convolution(number, len(self.scales), self.num_convolutions)]
        enlarged: Float[Array, "B *S2 D"] = convolution(ops.resize(vectors, full, ops.bicubic_matrix))
        return enlarged

    @nn.nowrap
    def _grids(self, full: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The shapes of the grids, from coarse to fine."""
        last = self.scales[-1]
        return [
            tuple(max(1, (2 * size * scale + last) // (2 * last)) for size in full) for scale in self.scales
        ]


class _Convolution(nn.Module):
    """A mean of its input and of a convolution over three places along each axis."""

    weight: float

    @nn.compact
    def __call__(self, h: Float[Array, "B *S D"]) -> Float[Array, "B *S D"]:
        axes, width, highest = h.ndim - 2, h.shape[-1], jax.lax.Precision.HIGHEST
        layer = nn.Conv(width, (3,) * axes, precision=highest) if axes else nn.Dense(width, precision=highest)
        mixed: Float[Array, "B *S D"] = (1 - self.weight) * h + self.weight * layer(h)
        return mixed


def shared_convolution(scale: int, num_scales: int, num_convolutions: int) -> int:
    """Returns the number of the convolution of a scale: the one whose tick is nearest to its place in [0, 1].

    The ticks are spread evenly from 1 / (2 n) to 1 - 1 / (2 n), of n = 4 convolutions from 1 / 12 to 11 / 12;
    the later one wins a tie. Of ten scales the four convolutions serve 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, as in
    VAR's code, where rounding decides the ties.
    """
    if num_scales == 1 or num_convolutions == 1:
        return 0
    first = Fraction(1, 12) if num_convolutions == 4 else Fraction(1, 2 * num_convolutions)
    step = (1 - 2 * first) / (num_convolutions - 1)
    distances = [
        abs(first + tick * step - Fraction(scale, num_scales - 1)) for tick in range(num_convolutions)
    ]
    return max(tick for tick, distance in enumerate(distances) if distance == min(distances))
