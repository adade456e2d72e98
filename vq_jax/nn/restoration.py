"""Networks that restore pictures: one by the codes of the clean picture, and one without codes beside it.

References:
  Zhou et al. 2022, Towards Robust Blind Face Restoration with Codebook Lookup Transformer, arXiv:2206.11253,
  sections 3.2 and 3.3: codes of the clean picture are predicted from the degraded one, with codebook and
  decoder frozen, and a weight w in [0, 1] mixes features of the input into the decoder. Here the predictor is
  convolutional, several codes of a position are predicted one after the other, and the input's features join
  before and after the decoder rather than inside it, so that the decoder may be any.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from vq_jax import ops
from vq_jax.nn.backbones.residual import ResidualStack
from vq_jax.nn.model import VQModel
from vq_jax.types import Array, Float, Int, Params

_ZEROS = nn.initializers.zeros
_TRUST = 4.0
_CUBIC_REACH = 2  # px of the smaller picture


@struct.dataclass
class RestorerOutput:
    """Output of a restoring network.

    Attributes:
      reconstruction: restored pictures, float32 [B, *S, C], in about [-1, 1].
      latents: what stands for the clean picture before quantization, float32 [B, *s, D].
      logits: of the clean picture's codes, float32 [B, *s, Q, K]; None without codes.
      indices: the predicted codes, int32 [B, *s] or [B, *s, Q]; None without codes.
    """

    reconstruction: Float[Array, "B *S C"]
    latents: Float[Array, "B *s D"]
    logits: Float[Array, "B *s Q K"] | None = None
    indices: Int[Array, "B ..."] | None = None

    @property
    def outputs(self) -> Float[Array, "B *S C"]:
        """The restored pictures: what a reconstruction loss reads."""
        return self.reconstruction


def enlarge(images: Float[Array, "B *s C"], scale: int) -> Float[Array, "B *S C"]:
    """Enlarges pictures by a whole number along each spatial axis, bicubic (Keys 1981, a = -0.5).

    A part of a picture gives the same bits as that part of the whole, away from its edges: a code that is as
    likely as another must not depend on where a window lies. `jax.image.resize` sums in another order.
    """
    if scale > 1:
        for axis in range(1, images.ndim - 1):
            images = _enlarged(images, axis, scale)
    return images


def _enlarged(images: Float[Array, "B *s C"], axis: int, scale: int) -> Float[Array, "B *S C"]:
    """Enlarges along one axis: sums of five neighbours, those within the picture, with weights of sum 1."""
    length, neighbours = images.shape[axis], np.arange(-_CUBIC_REACH, _CUBIC_REACH + 1)
    places = (np.arange(scale) + 0.5) / scale - 0.5  # of a pixel's parts, from its middle
    far = np.abs(places[:, None] - neighbours)
    near = (1.5 * far - 2.5) * far**2 + 1
    weights = np.where(far < 1, near, np.where(far < 2, ((2.5 - 0.5 * far) * far - 4) * far + 2, 0))
    inside = np.isin(np.arange(length)[:, None] + neighbours, np.arange(length))
    weights = weights * inside[:, None, :]  # [length, scale, neighbours]
    weights = (weights / weights.sum(-1, keepdims=True)).astype(np.float32)
    edges = [(_CUBIC_REACH,) * 2 if number == axis else (0, 0) for number in range(images.ndim)]
    padded, total = jnp.expand_dims(jnp.pad(images, edges), axis + 1), jnp.zeros((), images.dtype)
    for number in range(len(neighbours)):
        weight = np.expand_dims(weights[..., number], (*range(axis), *range(axis + 2, images.ndim + 1)))
        part = jax.lax.slice_in_dim(padded, number, number + length, axis=axis)
        total = total + part * weight
    return total.reshape(*images.shape[:axis], length * scale, *images.shape[axis + 1 :])


def _reach(parts: Sequence[int | None], stride: int, scale: int) -> int | None:
    """Pixels on each side that a restored pixel depends on, besides its own patch; None: there is no bound.

    Args:
      parts: what each part of the network looks at, in positions; None: no bound is known.
      stride: pixels of a position.
      scale: of `enlarge`, which looks at two pixels on each side of where it is.
    """
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return stride * sum(known) + ((_CUBIC_REACH + 1) * scale if scale > 1 else 0)


class Reader(nn.Module):
    """Reads a degraded picture: an encoder and the picture's own patches, then residual blocks.

    Attributes:
      encoder: made like the tokenizer's, whose weights it starts from.
      channels: width of the blocks.
      residual_channels: width inside the blocks.
      num_res_blocks: number of blocks.
      dtype: compute dtype.
    """

    encoder: nn.Module
    channels: int
    residual_channels: int
    num_res_blocks: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "B *S C"], *, train: bool = False
    ) -> tuple[Float[Array, "B *s E"], Float[Array, "B *s D"]]:
        """Returns features, and an estimate of the clean picture's latents: the encoder's, corrected."""
        encoder: Any = self.encoder
        spatial = images.ndim - 2
        latents = encoder(images, train=train)
        patches = ops.to_patches(images, encoder.strides(spatial)[0])
        inputs = jnp.concatenate([latents.astype(self.dtype), patches.astype(self.dtype)], axis=-1)
        x = nn.Conv(self.channels, (3,) * spatial, dtype=self.dtype, name="conv_in")(inputs)
        x = ResidualStack(
            self.channels, self.residual_channels, self.num_res_blocks, dtype=self.dtype, name="blocks"
        )(x)
        change = nn.Dense(latents.shape[-1], kernel_init=_ZEROS, dtype=self.dtype, name="latents")(x)
        return x, (latents + change).astype(jnp.float32)


class PixelPath(nn.Module):
    """Corrects a decoded picture by the input, patch by patch.

    Attributes:
      patch_size: pixels of a patch along each axis.
      channels: width of the blocks.
      num_blocks: number of residual blocks.
      start: where learning starts, between the decoded picture at 0 and the input at 1.
      dtype: compute dtype.
    """

    patch_size: int
    channels: int
    num_blocks: int
    start: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "B *S C"], decoded: Float[Array, "B *S C"]
    ) -> Float[Array, "B *S C"]:
        """Returns what to add to the decoded picture."""
        spatial = images.ndim - 2
        pair = jnp.concatenate([images, decoded], axis=-1).astype(self.dtype)
        patches = ops.to_patches(pair, self.patch_size)
        width = patches.shape[-1] // 2
        linear = nn.Dense(width, use_bias=False, kernel_init=_ZEROS, dtype=self.dtype, name="linear")(patches)
        x = nn.Conv(self.channels, (3,) * spatial, dtype=self.dtype, name="conv_in")(patches)
        x = ResidualStack(self.channels, self.channels, self.num_blocks, dtype=self.dtype, name="blocks")(x)
        x = nn.Conv(width, (3,) * spatial, kernel_init=_ZEROS, dtype=self.dtype, name="conv_out")(x)
        change = ops.from_patches((linear + x).astype(jnp.float32), self.patch_size)
        return self.start * (images - decoded) + change


def _pixel_reach(patch: int, num_blocks: int, stride: int) -> int:
    """Positions on each side that a `PixelPath` over patches of at most `patch` pixels looks at."""
    return math.ceil(math.gcd(patch, stride) * (2 + num_blocks) / stride)


class Mixer(nn.Module):
    """Moves the vectors of predicted codes towards the input's latents; it starts at these latents.

    Attributes:
      channels: width of the blocks.
      num_blocks: number of residual blocks.
      dtype: compute dtype.
    """

    channels: int
    num_blocks: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, features: Float[Array, "B *s E"], difference: Float[Array, "B *s D"]
    ) -> Float[Array, "B *s D"]:
        """Returns what to add to the vectors, from the features and the latents minus the vectors."""
        spatial, width = features.ndim - 2, difference.shape[-1]
        inputs = jnp.concatenate([features, difference.astype(self.dtype)], axis=-1)
        x = nn.Conv(self.channels, (3,) * spatial, dtype=self.dtype, name="conv_in")(inputs)
        x = ResidualStack(self.channels, self.channels, self.num_blocks, dtype=self.dtype, name="blocks")(x)
        change = nn.Dense(width, kernel_init=_ZEROS, dtype=self.dtype, name="out")(x)
        return difference + change.astype(jnp.float32)


class RestorerModel(nn.Module):
    """Restores pictures by the codes of the clean ones, over a frozen tokenizer.

    The predicted codes' vectors go through the tokenizer's decoder. With `fidelity` w, the latents are moved
    towards the input's own by w, and the decoded picture is corrected by the input, also by w: 0 shows only
    what the codebook knows, 1 is as close to the input as was learnt.

    Attributes:
      tokenizer: a frozen one; its variables are the group `tokenizer`, see `with_tokenizer`.
      encoder: made like the tokenizer's.
      codebook_size: K.
      codes_per_position: Q.
      scale: how many times larger the output is than the input, along each axis.
      channels: width of the blocks that read the input.
      residual_channels: width inside them.
      num_res_blocks: their number.
      fusion: learn the paths for a fidelity above 0.
      fusion_channels: width of these paths.
      fusion_blocks: their residual blocks.
      fusion_patch: pixels, along each axis, of the patches that the path after the decoder works on; where it
        does not divide the tokenizer's stride, their greatest common divisor is.
      fusion_start: where that path starts to learn, between the decoded picture at 0 and the input at 1.
      dtype: compute dtype; parameters are float32.
    """

    tokenizer: VQModel
    encoder: nn.Module
    codebook_size: int
    codes_per_position: int = 1
    scale: int = 1
    channels: int = 128
    residual_channels: int = 64
    num_res_blocks: int = 6
    fusion: bool = True
    fusion_channels: int = 64
    fusion_blocks: int = 2
    fusion_patch: int = 4
    fusion_start: float = 0.0
    dtype: Any = jnp.float32

    def setup(self) -> None:
        encoder: Any = self.encoder
        self.reader = Reader(
            encoder, self.channels, self.residual_channels, self.num_res_blocks, dtype=self.dtype
        )
        depth, size = self.codes_per_position, self.codebook_size
        self.heads = [nn.Dense(size, dtype=self.dtype) for _ in range(depth)]
        self.before = [nn.Embed(size, self.channels, dtype=self.dtype) for _ in range(depth - 1)]
        self.nearest = [nn.Embed(size, self.channels, dtype=self.dtype) for _ in range(depth)]
        self.trust = self.param("trust", nn.initializers.constant(_TRUST), (depth,), jnp.float32)
        if self.fusion:
            self.mixer = Mixer(self.fusion_channels, self.fusion_blocks, dtype=self.dtype)
            patch = math.gcd(self.fusion_patch, encoder.strides(2)[0])
            self.pixels = PixelPath(
                patch, self.fusion_channels, self.fusion_blocks, self.fusion_start, self.dtype
            )

    @property
    def reach(self) -> int | None:
        """Pixels on each side that a restored pixel depends on, besides its own patch; None: unbounded."""
        encoder, decoder = (getattr(part, "reach", None) for part in (self.encoder, self.tokenizer.decoder))
        stride = self.tokenizer.strides(2)[0]
        pixels = _pixel_reach(self.fusion_patch, self.fusion_blocks, stride)
        fusion = [1 + self.fusion_blocks, pixels] if self.fusion else []
        return _reach([encoder, 1 + self.num_res_blocks, *fusion, decoder], stride, self.scale)

    def __call__(
        self,
        images: Float[Array, "B *s C"],
        *,
        codes: Int[Array, "B ..."] | None = None,
        fidelity: Any = 1.0,
        train: bool = False,
    ) -> RestorerOutput:
        """Restores pictures.

        Args:
          images: degraded, in [-1, 1]; their lengths times `scale` are multiples of the tokenizer's strides.
          codes: of the clean pictures, in training: the logits of a position's later codes are those after
            its true earlier ones. The picture is made of the predicted codes all the same.
          fidelity: 0 to 1; without `fusion`, it is 0 whatever is given.
          train: training mode of the encoder.
        """
        images = enlarge(images, self.scale)
        features, latents = self.reader(images, train=train)
        own = jax.lax.stop_gradient(self._by_depth(self.tokenizer.quantize(latents).indices))
        predicted, logits = self._predict(features, own)
        if codes is not None and self.codes_per_position > 1:
            logits = self._logits(features, own, self._by_depth(codes))
        vectors = self.tokenizer.lookup(predicted)
        if not self.fusion:
            return RestorerOutput(self.tokenizer.decode_latents(vectors), latents, logits, predicted)
        weight = jnp.asarray(fidelity, jnp.float32)
        moved = vectors + weight * self.mixer(features, latents - vectors)
        decoded = self.tokenizer.decode_latents(moved)
        picture = decoded + weight * self.pixels(images, decoded)
        return RestorerOutput(picture, latents, logits, predicted)

    @nn.nowrap
    def with_tokenizer(self, params: Params, tokenizer: Params) -> Params:
        """Returns the variables of the network: the parameters that learn, and the frozen tokenizer's."""
        codebook = {"codebook": {"tokenizer": tokenizer["codebook"]}} if tokenizer.get("codebook") else {}
        return {"params": {**params, "tokenizer": tokenizer["params"]}, **codebook}

    def clean(self, target: Float[Array, "B *S C"]) -> tuple[Array, Float[Array, "B *s D"]]:
        """Returns the codes of clean pictures, and their vectors."""
        codes: Any = self.tokenizer.encode(target)
        return codes, self.tokenizer.lookup(codes)

    def _by_depth(self, codes: Array) -> Array:
        """Codes as [B, *s, Q]."""
        return codes if self.codes_per_position > 1 else codes[..., None]

    def _head(self, number: int, features: Array, own: Array, codes: Array) -> Array:
        """Logits of a position's code `number`, after those before it in `codes` [B, *s, Q].

        They begin at `own`, the codes [B, *s, Q] nearest to the input's latents, which have a bonus.
        """
        for earlier in range(number):
            features = features + self.before[earlier](codes[..., earlier])
        logits = self.heads[number](features + self.nearest[number](own[..., number]))
        bonus = jax.nn.one_hot(own[..., number], self.codebook_size, dtype=jnp.float32)
        return logits.astype(jnp.float32) + self.trust[number] * bonus

    def _logits(self, features: Array, own: Array, codes: Array) -> Array:
        depth = range(self.codes_per_position)
        return jnp.stack([self._head(number, features, own, codes) for number in depth], axis=-2)

    def _predict(self, features: Array, own: Array) -> tuple[Array, Array]:
        """The most likely codes, each after those before it, and the logits that they were chosen by."""
        chosen, logits = jnp.zeros_like(own), []
        for number in range(self.codes_per_position):
            logits.append(self._head(number, features, own, chosen))
            chosen = chosen.at[..., number].set(jnp.argmax(logits[-1], axis=-1).astype(jnp.int32))
        return chosen if self.codes_per_position > 1 else chosen[..., 0], jnp.stack(logits, axis=-2)


class RegressorModel(nn.Module):
    """The same network without codes: encoder, decoder and the paths beside them, all of which learn.

    It is what a restorer is compared with: the difference is what the codes add.

    Attributes:
      encoder: made like the tokenizer's.
      decoder: made like the tokenizer's.
      head: what the decoder outputs, see `VQModel`.
      scale: see `RestorerModel`, as the following.
      channels: width of the blocks that read the input.
      residual_channels: width inside them.
      num_res_blocks: their number.
      fusion_channels: width of the path beside the decoder.
      fusion_blocks: its residual blocks.
      fusion_patch: see `RestorerModel`.
      fusion_start: see `RestorerModel`.
      dtype: compute dtype; parameters are float32.
    """

    encoder: nn.Module
    decoder: nn.Module
    head: str = "picture"
    scale: int = 1
    channels: int = 128
    residual_channels: int = 64
    num_res_blocks: int = 6
    fusion_channels: int = 64
    fusion_blocks: int = 2
    fusion_patch: int = 4
    fusion_start: float = 0.0
    dtype: Any = jnp.float32

    @nn.nowrap
    def with_tokenizer(self, params: Params, tokenizer: Params) -> Params:
        """Returns the variables of the network, which uses no tokenizer."""
        return {"params": params}

    def setup(self) -> None:
        encoder: Any = self.encoder
        self.reader = Reader(
            encoder, self.channels, self.residual_channels, self.num_res_blocks, dtype=self.dtype
        )
        patch = math.gcd(self.fusion_patch, encoder.strides(2)[0])
        self.pixels = PixelPath(
            patch, self.fusion_channels, self.fusion_blocks, self.fusion_start, self.dtype
        )

    @property
    def reach(self) -> int | None:
        """See `RestorerModel.reach`."""
        encoder, decoder = (getattr(part, "reach", None) for part in (self.encoder, self.decoder))
        network: Any = self.encoder
        stride = network.strides(2)[0]
        pixels = _pixel_reach(self.fusion_patch, self.fusion_blocks, stride)
        return _reach([encoder, 1 + self.num_res_blocks, decoder, pixels], stride, self.scale)

    def __call__(
        self, images: Float[Array, "B *s C"], *, fidelity: Any = 1.0, train: bool = False
    ) -> RestorerOutput:
        """Restores pictures, see `RestorerModel`; `fidelity` has no effect."""
        decoder: Any = self.decoder
        images = enlarge(images, self.scale)
        _, latents = self.reader(images, train=train)
        decoded = ops.head_to_picture(decoder(latents, train=train), self.head)
        return RestorerOutput(decoded + self.pixels(images, decoded), latents)
