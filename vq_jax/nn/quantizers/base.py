"""The output of all quantizers, and the base of those with a codebook of vectors."""

import contextlib
import contextvars
import functools
import logging
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from vq_jax import ops
from vq_jax.ranges import check_ranges
from vq_jax.types import Array, Bool, Codes, CodeSpec, Float, Int, Key, Latents, Metrics, Num

_log = logging.getLogger("vq_jax")
_silent = contextvars.ContextVar("silent", default=False)


@struct.dataclass
class Revival:
    """Rows of a codebook parameter to replace after the optimizer's update, see `train.apply_revival`.

    Attributes:
      mask: the dead codes.
      vectors: replacements for the rows of the dead codes; the other rows have no meaning.
      cluster_size: average use per step that a revived code starts from.
    """

    mask: Bool[Array, " K"]
    vectors: Float[Array, "K D"]
    cluster_size: Float[Array, ""]


@struct.dataclass
class QuantizerOutput:
    """Output of a quantizer; it unpacks as `quantized, indices, loss, *_ = output`.

    Attributes:
      quantized: vectors of the codebook in place of the latents, [B, *S, D] in the latents' dtype; gradients
        pass to the latents.
      indices: codes, int32 [B, *S], or [B, *S, Q] with Q codes per position.
      loss: float32 (), already weighted.
      metrics: float32 scalars by name.
      revival: a `Revival` for each codebook parameter with dead codes to replace, nested like the
        quantizer's parameters; empty if there are none.
    """

    quantized: Latents
    indices: Codes
    loss: Float[Array, ""]
    metrics: Metrics
    revival: dict[str, Any] = struct.field(default_factory=dict)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.quantized, self.indices, self.loss, self.metrics, self.revival))


class CodebookQuantizer(nn.Module):
    """Base of the quantizers that pick the nearest of K vectors.

    A subclass makes the codebook in `setup`, returns it from `codebook` and defines `__call__` and `fit`.

    Attributes:
      codebook_size: number of codes K.
      code_dim: width D of a vector of the codebook.
      commitment_weight: beta, weight of the commitment loss.
      normalize: scale latents and codebook to vectors of length one (Yu et al. 2022, arXiv:2110.04627,
        section 3.2).
      decay: decay of the running averages, in [0, 1).
      revive_threshold: a code used less than this many times per step, on average, is replaced by a
        latent of the batch, drawn from the rng stream `quantizer`; 0 turns this off.
      entropy_weight: weight of `ops.entropy_loss`, which holds all N x K assignments; 0 turns it off.
      entropy_temperature: temperature of the assignments in that loss.
      axis_name: under `jax.shard_map` or `jax.pmap`, the axes that the batch is spread over: training sums
        the statistics over them, so that all devices keep the same codebook. () keeps one per device. Under
        `jax.jit` the sums are global without it.
      gradient: how the gradient passes: `straight_through`; `rotation`, see `ops.rotation_trick`; or
        `diveq`, see `ops.diveq`, which trains the codebook too and takes the place of the other losses:
        set their weights to 0.
      diveq_noise: standard deviation of the noise of `diveq`, drawn in training from the rng stream
        `quantizer`. The authors' package has 1e-3, vector-quantize-pytorch the square root of 5e-3, 0.07.
    """

    codebook_size: int
    code_dim: int
    commitment_weight: float = 0.25
    normalize: bool = False
    decay: float = 0.99
    revive_threshold: float = 0.0
    entropy_weight: float = 0.0
    entropy_temperature: float = 0.01
    axis_name: str | tuple[str, ...] | None = None
    gradient: str = "straight_through"
    diveq_noise: float = 1e-3

    _by_code: ClassVar[tuple[str, ...]] = ("embedding", "cluster_size", "embedding_sum")
    # Variables with a row for each code.

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        check_ranges(self, name)
        if self.gradient not in ops.GRADIENTS:
            raise ValueError(
                f"{name}.gradient must be one of {', '.join(ops.GRADIENTS)}, got {self.gradient!r}"
            )
        if self.gradient == "rotation" and self.code_dim < 2:
            raise ValueError(
                f"{name}.gradient = 'rotation' needs a code_dim of at least 2, got {self.code_dim}: set "
                "gradient to 'straight_through'"
            )

    @nn.nowrap
    def code_spec(self, latent_shape: tuple[int, ...]) -> CodeSpec:
        """Returns the spec of one picture's codes, given the shape (*s, D) of its latents."""
        return CodeSpec(latent_shape[:-1], self.codebook_size)

    def codebook(self) -> Float[Array, "K D"]:
        """Returns the codebook as it is compared with latents, float32."""
        raise TypeError(f"{type(self).__name__} has no codebook: use one of its subclasses")

    def lookup(self, indices: Int[Array, "B *S"]) -> Float[Array, "B *S D"]:
        """Looks up the vectors of codes in [0, K), float32."""
        return ops.look_up(self.codebook(), indices)

    @nn.nowrap
    def fit(
        self,
        rng: Key[Array, ""],
        params: Mapping[str, Any],
        codebook: Mapping[str, Any],
        latents: Float[Array, "T N D"],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Sets the codebook by k-means.

        Args:
          rng: key of the draws of k-means.
          params: the quantizer's parameters.
          codebook: its variables of the collection `codebook`.
          latents: the encoder's outputs for T training batches.

        Returns:
          The new parameters and variables.
        """
        raise TypeError(f"{type(self).__name__} has no codebook: use one of its subclasses")

    @nn.nowrap
    def keep(
        self, params: Mapping[str, Any], codebook: Mapping[str, Any], codes: np.ndarray
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Leaves out all codes but some.

        Args:
          params: the quantizer's parameters.
          codebook: its variables of the collection `codebook`.
          codes: those to keep, in their new order.

        Returns:
          The parameters and variables of a quantizer with as many codes.
        """

        def rows(tree: Mapping[str, Any]) -> dict[str, Any]:
            return {name: leaf[codes] if name in self._by_code else leaf for name, leaf in tree.items()}

        return rows(params), rows(codebook)

    def _updating(self, train: bool) -> bool:
        return is_updating(self, train)

    def _axis(self, train: bool) -> str | tuple[str, ...] | None:
        """Returns the axes to sum statistics over in this call.

        Raises:
          ValueError: the codebook would be updated on each device by its own part of the batch.
        """
        manual = jax.sharding.get_abstract_mesh().manual_axes
        if self._updating(train) and manual and self.axis_name is None:
            raise ValueError(
                f"{type(self).__name__} would keep another codebook on each device of shard_map or pmap over "
                f"{', '.join(map(str, manual))}: set axis_name to the axes that the batch is spread over, or "
                "to () to keep one per device"
            )
        return self.axis_name if train and not self.is_initializing() else None

    def _flatten(self, z: Num[Array, "B *S D"]) -> Float[Array, "N D"]:
        name = type(self).__name__
        check_float(z, name)
        if z.shape[-1] != self.code_dim:
            raise ValueError(
                f"{name} expected latents of width code_dim = {self.code_dim}, got shape {z.shape}: give the "
                f"encoder latent_channels = {self.code_dim}"
            )
        flat = z.astype(jnp.float32).reshape(-1, self.code_dim)
        return ops.normalize_vectors(flat) if self.normalize else flat

    def _draw(self, flat: Float[Array, "N D"]) -> Float[Array, "K D"]:
        rng = self._key(f"what replaces dead codes (revive_threshold = {self.revive_threshold})")
        return ops.sample_vectors(rng, flat, self.codebook_size, self.axis_name)

    def _key(self, drawn: str) -> Key[Array, ""]:
        if not self.has_rng("quantizer") and not self.has_rng("params"):
            raise ValueError(
                f"{type(self).__name__} draws {drawn} and needs a key for it: give "
                'rngs={"quantizer": key} to apply'
            )
        return self.make_rng("quantizer")

    @nn.nowrap
    def _kmeans(
        self, rng: Key[Array, ""], latents: Float[Array, "T N D"]
    ) -> tuple[Float[Array, "K D"], Float[Array, " K"]]:
        """Returns the centres, and how many latents of a batch each has on average."""
        flat = latents.astype(jnp.float32).reshape(-1, self.code_dim)
        if self.normalize:
            flat = ops.normalize_vectors(flat)
        centres, counts = jax.jit(ops.kmeans, static_argnums=2)(rng, flat, self.codebook_size)
        if self.normalize:
            centres = ops.normalize_vectors(centres)
        return centres, counts / latents.shape[0]

    def _output(
        self,
        z: Float[Array, "B *S D"],
        flat: Float[Array, "N D"],
        quantized: Float[Array, "N D"],
        indices: Int[Array, " N"],
        counts: Float[Array, " K"],
        *,
        train: bool,
    ) -> QuantizerOutput:
        """Makes the output, with the commitment and entropy losses and the usage metrics."""
        commitment = mean_square(flat - jax.lax.stop_gradient(quantized))
        loss = self.commitment_weight * commitment
        metrics = {
            "commitment_loss": commitment,
            "perplexity": ops.perplexity(counts),
            "usage": ops.usage(counts),
        }
        if self.entropy_weight > 0 and is_filled(flat):
            entropy = ops.entropy_loss(flat, self.codebook(), self.entropy_temperature)
            loss = loss + self.entropy_weight * entropy
            metrics["entropy_loss"] = entropy
        return QuantizerOutput(
            quantized=self._pass(flat, quantized, train).reshape(z.shape).astype(z.dtype),
            indices=indices.reshape(z.shape[:-1]),
            loss=loss,
            metrics=metrics,
        )

    def _pass(
        self, flat: Float[Array, "N D"], quantized: Float[Array, "N D"], train: bool
    ) -> Float[Array, "N D"]:
        """Returns `quantized` as the decoder gets it, with the gradient that is chosen."""
        match self.gradient:
            case "rotation":
                return ops.rotation_trick(flat, quantized)
            case "diveq":
                noise = jnp.zeros_like(flat)
                if train and not self.is_initializing() and self.diveq_noise > 0:
                    rng = self._key(f"noise (gradient = 'diveq', diveq_noise = {self.diveq_noise})")
                    noise = ops.directional_noise(rng, flat, self.diveq_noise, self._axis(train))
                return ops.diveq(flat, quantized, noise)
            case _:
                return ops.straight_through(flat, quantized)


def check_float(z: Array, name: str) -> None:
    """Raises ValueError where latents are not floating-point numbers, whose gradient would be lost."""
    if not jnp.issubdtype(z.dtype, jnp.floating):
        raise ValueError(f"{name} expected float latents, got {z.dtype}: give it the encoder's outputs")


def is_filled(x: Array) -> bool:
    """Whether an array has elements; so it has where jax.export leaves a size open."""
    return 0 not in x.shape


def mean_square(x: Array) -> Float[Array, ""]:
    """Returns the mean square, 0 of no elements."""
    return jnp.mean(jnp.square(x)) if is_filled(x) else jnp.zeros((), jnp.float32)


@contextlib.contextmanager
def silent_without_updates() -> Iterator[None]:
    """Within it, training without a mutable codebook is meant and not warned of."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def is_updating(module: nn.Module, train: bool, what: str = "codebook") -> bool:
    """Whether a call of a quantizer changes its collection `codebook`; warns once where only training would.

    Args:
      module: the quantizer.
      train: of its call.
      what: what the collection holds, for the warning.
    """
    if not train or module.is_initializing():
        return False
    updating: bool = module.is_mutable_collection("codebook")
    if not updating and not _silent.get():
        _say_unchanged(type(module).__name__, what)
    return updating


@functools.cache
def _say_unchanged(name: str, what: str) -> None:
    _log.warning(
        '%s was called with train=True, and its %s does not change: give mutable=["codebook"] to apply, and '
        "keep the updates that it then returns.",
        *(name, what),
    )


def init_codebook(
    rng: Key[Array, ""], codebook_size: int, code_dim: int, normalize: bool
) -> Float[Array, "K D"]:
    """Draws a codebook: uniform, of expected squared length one; of length one exactly if `normalize`."""
    init = nn.initializers.variance_scaling(1.0, "fan_in", "uniform", in_axis=1, out_axis=0)
    codebook = init(rng, (codebook_size, code_dim), jnp.float32)
    return ops.normalize_vectors(codebook) if normalize else codebook
