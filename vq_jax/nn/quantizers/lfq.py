"""Lookup-free quantization: each channel of a latent becomes a bit, with no codebook to learn."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import PartitionSpec

from vq_jax import ops
from vq_jax.nn.quantizers.base import QuantizerOutput, check_float, is_filled, mean_square
from vq_jax.ops.meshes import auto_axes
from vq_jax.ranges import check_ranges
from vq_jax.types import Array, Bool, CodeSpec, Float, Int, Num

_BATCH_ENTROPIES = ("full", "sum", "mean")
_WIDEST = 20  # bits of a group: the probabilities of 2^20 codes are 4 MB
# float32 products on TPU and GPU are otherwise made of shorter numbers.
_PRECISION = jax.lax.Precision.HIGHEST

AxisName = str | tuple[str, ...]


class LFQ(nn.Module):
    """Keeps the signs of D channels (Yu et al. 2023, arXiv:2310.05737, section 3.1): MAGVIT-v2's quantizer.

    The codebook is implicit: the K = 2^D vectors of entries s and -s, s = 1. With `spherical` it is binary
    spherical quantization, BSQ (Zhao et al. 2024, arXiv:2406.07548, section 4): latents are scaled to length
    one first, and s = 1 / sqrt(D), which gives the codes length one too. A channel above zero is a one, zero
    itself is not, and the first channel is a code's lowest bit. There are no parameters and no state.

    The loss is sample_entropy_weight * (mean over the latents of the entropy of their assignment) -
    batch_entropy_weight * (entropy of the mean assignment) + commitment_weight * mean((u - sg(q))^2), u the
    latent after scaling. The assignment is the softmax of 2 <u, c> / entropy_temperature over all codes c;
    entropies are in nats. Its bits are independent, P(bit i is one) = sigmoid(4 s u_i / temperature), so the
    first entropy is the sum of those of D bits, exactly. The second one does not factorise. Gradients pass
    straight through from q, of entries s and -s, to u: the authors' code of BSQ passes them through from
    entries 1 and -1, and scales them by 1 / sqrt(D) by that.

    The mean is over the batch on all devices. Where a training step cuts the batch into parts
    (`training.accumulate`), it is over each part.

    Published recipes, as weights of sample entropy, batch entropy and commitment:
      MAGVIT-v2 (praxis, a library of its authors): 18 bits; 0.1, 0.1, 0.25; temperature 0.01; `full`.
        There a zero is a one. Above 18 bits `mean`, groups of 8, and there groups of strided bits besides.
      Open-MAGVIT2 (Luo et al. 2024, arXiv:2409.04410, code release): the same at 18 bits.
      BSQ-ViT (Zhao et al. 2024, code release): `spherical`, 18 bits; 0.1, 0.1, 0; temperature 1; `sum`,
        groups of 9.

    Attributes:
      bits: number of channels D, at most 30.
      spherical: BSQ instead of LFQ.
      sample_entropy_weight: weight of the entropy of each latent's assignment, which becomes low.
      batch_entropy_weight: weight of the entropy of the mean assignment, which becomes high.
      batch_entropy: what stands for that entropy: `full` is exact, in 2^D numbers, for up to 20 bits; `sum`
        adds the entropies of groups of bits, an upper bound, and `mean` averages them.
      group_size: consecutive bits of a group, the last group having those that remain; at most 20.
      entropy_temperature: temperature of the assignments.
      commitment_weight: weight of the loss that keeps latents near their codes.
      axis_name: under `jax.shard_map` or `jax.pmap`, the axes that the batch is spread over; () takes the
        entropy of each device's part. Under `jax.jit` it is that of the global batch without it.
    """

    bits: int
    spherical: bool = False
    sample_entropy_weight: float = 0.1
    batch_entropy_weight: float = 0.1
    batch_entropy: str = "sum"
    group_size: int = 9
    entropy_temperature: float = 0.01
    commitment_weight: float = 0.25
    axis_name: AxisName | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "LFQ")
        if self.batch_entropy not in _BATCH_ENTROPIES:
            known = ", ".join(_BATCH_ENTROPIES)
            raise ValueError(f"LFQ.batch_entropy must be one of {known}, got {self.batch_entropy!r}")
        if self.batch_entropy == "full" and self.bits > _WIDEST:
            raise ValueError(
                f"LFQ.batch_entropy = 'full' holds 2^bits numbers: it takes bits up to {_WIDEST}, got bits = "
                f"{self.bits}; take 'sum' or 'mean', over groups of group_size bits"
            )

    @property
    def codebook_size(self) -> int:
        """Number of codes K."""
        return int(2**self.bits)

    @nn.nowrap
    def code_spec(self, latent_shape: tuple[int, ...]) -> CodeSpec:
        """The codes of one picture, given the shape (*s, D) of its latents."""
        return CodeSpec(latent_shape[:-1], self.codebook_size)

    def __call__(self, z: Num[Array, "B *S D"], *, train: bool = False) -> QuantizerOutput:
        """Quantizes latents, in float32; in training as in evaluation.

        Args:
          z: latents, any float dtype.
          train: has no effect, but that shard_map and pmap then need `axis_name`.

        Returns:
          Output with the loss of the class, and the metrics `sample_entropy`, `batch_entropy`,
          `commitment_loss`, `perplexity` and `usage`.

        Raises:
          ValueError: the latents are not float, or z does not have one channel for each bit.
        """
        check_float(z, "LFQ")
        if z.shape[-1] != self.bits:
            raise ValueError(
                f"LFQ expected latents with one channel for each of bits = {self.bits}, got shape {z.shape}: "
                f"give the encoder latent_channels = {self.bits}"
            )
        axis_name = self._axis(train)
        flat = z.astype(jnp.float32).reshape(-1, self.bits)
        if self.spherical:
            flat = ops.normalize_vectors(flat)
        ones = flat > 0
        indices = jnp.sum(jnp.where(ones, self._places(), 0), axis=1, dtype=jnp.int32)
        points = self._points(ones)
        loss, metrics = self._losses(flat, points, axis_name)
        perplexity, usage = ops.code_use(indices, self.codebook_size, axis_name)
        # The very values of `lookup`, with the gradient of `flat`.
        quantized = points + (flat - jax.lax.stop_gradient(flat))
        return QuantizerOutput(
            quantized=quantized.reshape(z.shape).astype(z.dtype),
            indices=indices.reshape(z.shape[:-1]),
            loss=loss,
            metrics={**metrics, "perplexity": perplexity, "usage": usage},
        )

    def lookup(self, indices: Int[Array, "B *S"]) -> Float[Array, "B *S D"]:
        """The vectors of codes in [0, K), float32."""
        ones = jnp.bitwise_and(indices.reshape(-1, 1), self._places()) != 0
        return self._points(ones).reshape(*indices.shape, self.bits)

    def _axis(self, train: bool) -> AxisName | None:
        """The axes to average over in this call."""
        if not train or self.is_initializing():
            return None
        manual = jax.sharding.get_abstract_mesh().manual_axes
        if manual and self.axis_name is None:
            raise ValueError(
                "LFQ would take the entropy of each device's part of the batch under shard_map or pmap over "
                f"{', '.join(map(str, manual))}: set axis_name to the axes that the batch is spread over, or "
                "to () for one entropy per device"
            )
        return self.axis_name

    def _losses(
        self, flat: Float[Array, "N D"], points: Float[Array, "N D"], axis_name: AxisName | None
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        commitment = mean_square(flat - points)
        sample = batch = jnp.zeros((), jnp.float32)
        if is_filled(flat):
            logits = flat * np.float32(4 * self._scale() / self.entropy_temperature)
            sample = jnp.mean(jnp.sum(bit_entropy(logits), axis=1))
            size = self.bits if self.batch_entropy == "full" else self.group_size
            groups = [logits[:, start : start + size] for start in range(0, self.bits, size)]
            entropies = [mean_entropy(group, axis_name) for group in groups]
            batch = sum(entropies[1:], entropies[0])
            batch = batch / len(groups) if self.batch_entropy == "mean" else batch
        loss = (
            self.sample_entropy_weight * sample
            - self.batch_entropy_weight * batch
            + self.commitment_weight * commitment
        )
        return loss, {"sample_entropy": sample, "batch_entropy": batch, "commitment_loss": commitment}

    def _points(self, ones: Bool[Array, "N D"]) -> Float[Array, "N D"]:
        scale = np.float32(self._scale())
        return jnp.where(ones, scale, -scale)

    def _places(self) -> Int[np.ndarray, "1 D"]:
        """What each bit counts in a code."""
        return 2 ** np.arange(self.bits, dtype=np.int32)[None]

    def _scale(self) -> float:
        return 1 / math.sqrt(self.bits) if self.spherical else 1.0


def bit_entropy(logits: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Computes the entropy, in nats, of bits that are one with probability sigmoid(logits)."""
    size = jnp.abs(logits)
    return jnp.log1p(jnp.exp(-size)) + size * jax.nn.sigmoid(-size)


@auto_axes(lambda *_: PartitionSpec())
def mean_entropy(logits: Float[Array, "N D"], axis_name: AxisName | None = None) -> Float[Array, ""]:
    """Computes the entropy, in nats, of the mean over rows of the distribution of D independent bits.

    Exact, in memory of N x 2^(D/2) and 2^D numbers: the mean of products of two halves is one product of
    matrices.

    Args:
      logits: of each bit being one, float32.
      axis_name: axes of `jax.shard_map` or `jax.pmap` over whose devices the rows are spread, equally many on
        each.
    """
    half = (logits.shape[1] + 1) // 2
    low, high = _joint(logits[:, :half]), _joint(logits[:, half:])
    mean = jnp.matmul(high.T, low, precision=_PRECISION) / logits.shape[0]
    mean = jax.lax.pmean(mean, axis_name) if axis_name else mean
    return -jnp.sum(mean * jnp.log(jnp.maximum(mean, 1e-10)))


def _joint(logits: Float[Array, "N D"]) -> Float[Array, "N K"]:
    """The probabilities of all 2^D values of D independent bits, the first bit changing fastest."""
    joint = jnp.ones((logits.shape[0], 1), jnp.float32)
    for bit in range(logits.shape[1]):
        one = logits[:, bit : bit + 1]
        joint = jnp.concatenate([joint * jax.nn.sigmoid(-one), joint * jax.nn.sigmoid(one)], axis=1)
    return joint
