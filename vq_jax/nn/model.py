"""VQModel: encoder, quantizer and decoder as one linen module."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from vq_jax import ops
from vq_jax.nn.quantizers import QuantizerOutput
from vq_jax.types import Array, Codes, CodeSpecs, Float, Latents, Metrics, Num


@struct.dataclass
class VQOutput:
    """Output of a VQModel.

    Attributes:
      reconstruction: float32 [B, *S, C], in about [-1, 1].
      indices: codes, int32, laid out like `code_specs`; None if the quantizer was bypassed.
      loss: the quantizer's loss, float32 ().
      metrics: scalars by name.
      outputs: the decoder's outputs, before the head.
      latents: the encoder's outputs, before the quantizer.
      revival: see `QuantizerOutput`.
    """

    reconstruction: Float[Array, "B *S C"]
    indices: Codes | None
    loss: Float[Array, ""]
    metrics: Metrics
    outputs: Float[Array, "B *S O"]
    latents: Latents
    revival: dict[str, Any] = struct.field(default_factory=dict)


class VQModel(nn.Module):
    """Encoder, quantizer and decoder: a VQ-VAE, or the generator of a VQ-GAN.

    The encoder and the decoder are modules called as `encoder(images, train=...)` and
    `decoder(latents, train=...)`; they determine the number of spatial axes. In a hierarchy, the encoder
    outputs a tuple of latents from coarse to fine, and the quantizer's codes and vectors are tuples too.

    With networks that are causal in time, a clip may be given to any method in parts, of which the first has
    1 + a multiple of the stride in frames and the others a multiple. The collection `stream` carries what the
    next part needs; encoding and decoding each have their own:

        codes, stream = model.apply(variables, first, method="encode", mutable=["stream"])
        more, stream = model.apply({**variables, **stream}, next, method="encode", mutable=["stream"])

    Attributes:
      encoder: maps pictures [B, *S, C] in [-1, 1] to latents [B, *s, D]. It and the decoder have `reach` if
        it is bounded: positions on each side that a latent depends on, or a pixel, besides its own.
      quantizer: maps latents to a `QuantizerOutput`.
      decoder: maps latents to the head's inputs [B, *S, O]. For the adaptive weight of an adversarial loss it
        has `last_layer`, the name of its last layer with a kernel (slash-joined where it is nested).
      head: what the decoder outputs: `picture`, or the parameters of a likelihood, `bernoulli` or
        `log_laplace`, see `ops.head_to_picture`.
    """

    encoder: nn.Module
    quantizer: nn.Module
    decoder: nn.Module
    head: str = "picture"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head not in ops.HEADS:
            raise ValueError(f"VQModel.head must be one of {', '.join(ops.HEADS)}, got {self.head!r}")

    def __call__(
        self, images: Num[Array, "B *S C"], *, train: bool = False, quantize: bool = True
    ) -> VQOutput:
        """Encodes, quantizes and decodes.

        Args:
          images: float, in [-1, 1].
          train: training mode; the codebook is updated if its collection is mutable.
          quantize: False bypasses the quantizer: the decoder reads the latents, and the loss is zero.
        """
        latents = self.encode_latents(images, train=train)
        if quantize:
            quantized: QuantizerOutput = self.quantizer(latents, train=train)
            outputs = self.decoder(quantized.quantized, train=train)
            return VQOutput(
                reconstruction=ops.head_to_picture(outputs, self.head),
                indices=quantized.indices,
                loss=quantized.loss,
                metrics=quantized.metrics,
                outputs=outputs,
                latents=latents,
                revival=quantized.revival,
            )
        outputs = self.decoder(latents, train=train)
        return VQOutput(
            reconstruction=ops.head_to_picture(outputs, self.head),
            indices=None,
            loss=jnp.zeros((), jnp.float32),
            metrics={},
            outputs=outputs,
            latents=latents,
        )

    def encode_latents(self, images: Num[Array, "B *S C"], *, train: bool = False) -> Latents:
        """Encodes pictures to continuous latents, before the quantizer.

        Raises:
          ValueError: the pictures are not float; `ops.normalize_pictures` converts them.
        """
        check_pictures(images)
        return self.encoder(images, train=train)

    def decode_latents(self, latents: Latents) -> Float[Array, "B *S C"]:
        """Decodes continuous latents to pictures in about [-1, 1], float32."""
        return ops.head_to_picture(self.decoder(latents, train=False), self.head)

    def encode(self, images: Float[Array, "B *S C"]) -> Codes:
        """Encodes pictures in [-1, 1] to codes, int32."""
        return self.quantizer(self.encode_latents(images), train=False).indices

    def quantize(self, latents: Latents, *, train: bool = False) -> QuantizerOutput:
        """Quantizes continuous latents."""
        return self.quantizer(latents, train=train)

    def lookup(self, indices: Codes) -> Latents:
        """Looks up the vectors that codes stand for, float32."""
        return self.quantizer.lookup(indices)

    def decode(self, indices: Codes, stages: int | None = None) -> Float[Array, "B *S C"]:
        """Decodes codes to pictures in about [-1, 1], float32.

        Args:
          indices: codes of all stages.
          stages: decode the codes of so many stages or scales, the first ones; all when absent. For a
            quantizer with `num_stages`.
        """
        latents = self.lookup(indices) if stages is None else self.quantizer.lookup_stages(indices, stages)
        return self.decode_latents(latents)

    @nn.nowrap
    def code_specs(self, image_shape: tuple[int, ...]) -> CodeSpecs:
        """Returns the specs of the codes of one picture of `image_shape` (*S, C), laid out like the codes."""
        images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        rng = jax.eval_shape(lambda: jax.random.key(0))
        latents = jax.eval_shape(
            lambda *inputs: self.init_with_output(*inputs, method="encode_latents")[0], rng, images
        )
        return self.quantizer.code_spec(jax.tree.map(lambda leaf: leaf.shape[1:], latents))

    @property
    def num_stages(self) -> int | None:
        """Number of the quantizer's stages or scales, of which the first ones decode alone; None without."""
        stages: int | None = getattr(self.quantizer, "num_stages", None)
        return stages

    @property
    def is_causal(self) -> bool:
        """Whether a frame of a clip is encoded and decoded without those after it, so that parts can be."""
        return bool(getattr(self.encoder, "causal", False))

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """The only picture shape (*S, C) that the model accepts; None if it accepts any size."""
        shape: tuple[int, ...] | None = getattr(self.decoder, "image_shape", None)
        return shape and (*shape[:-1], shape[-1] // ops.head_channels(self.head, 1))

    @nn.nowrap
    def strides(self, axes: int) -> tuple[int, ...]:
        """Returns the pixels per code along each of `axes` spatial axes; () if codes have no position."""
        strides: tuple[int, ...] = self.encoder.strides(axes)
        return strides

    @nn.nowrap
    def padded_lengths(self, lengths: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the least lengths *S, none below the given ones, of a picture that the model takes.

        They are multiples of the strides, unless the encoder has a method of this name, as that of video
        has: 1 + a multiple of the stride along the frames.
        """
        rule = getattr(self.encoder, "padded_lengths", None)
        if rule is not None:
            padded: tuple[int, ...] = rule(lengths)
            return padded
        strides = self.strides(len(lengths)) or (1,) * len(lengths)
        return tuple(-(-length // stride) * stride for length, stride in zip(lengths, strides, strict=True))


def check_pictures(images: Array) -> None:
    """Raises ValueError where pictures are not floating-point numbers."""
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"expected float pictures in [-1, 1], got {images.dtype}: use vq_jax.ops.normalize_pictures"
        )
