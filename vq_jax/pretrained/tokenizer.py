"""A trained model as it is used: uint8 pictures to codes and back."""

import functools
import hashlib
import json
from typing import Any

import jax
import numpy as np

from vq_jax import ops
from vq_jax.configs.runs import ExperimentConfig
from vq_jax.configs.serialize import part_to_dict
from vq_jax.errors import UserError
from vq_jax.nn import VQModel
from vq_jax.types import Array, CodeSpecs, Params


class Tokenizer:
    """A trained model on uint8 pictures: encode, decode, reconstruct, jitted.

    Attributes:
      model: the network.
      variables: its parameters and codebook.
      config: the configuration of its run.
      step: updates made.
    """

    def __init__(
        self, model: VQModel, variables: dict[str, Params], config: ExperimentConfig, step: int
    ) -> None:
        self.model = model
        self.variables = variables
        self.config = config
        self.step = step
        self._fixed_shape: tuple[int, ...] | None = model.image_shape
        self._code_specs: dict[int, CodeSpecs] = {}
        self._stride = max(model.strides(2), default=1)
        self._encode = jax.jit(
            lambda variables, images: model.apply(variables, ops.normalize_pictures(images), method="encode")
        )

        def decode(variables: dict[str, Params], indices: Array) -> Array:
            pictures: Any = model.apply(variables, indices, method="decode")
            return ops.to_uint8(pictures)

        self._decode = jax.jit(decode)

    @property
    def channels(self) -> int:
        """Channels of the pictures that the model takes."""
        return self.config.model.image_channels

    @property
    def stride(self) -> int | None:
        """Pixels a code, along height and width; None where codes have no place in the picture."""
        return None if self._fixed_shape is not None else self._stride

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the model and its variables: whether codes were made by this tokenizer."""
        digest = hashlib.sha256(json.dumps(part_to_dict(self.config.model), sort_keys=True).encode())
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.variables):
            digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
            digest.update(np.ascontiguousarray(leaf).data)
        return digest.hexdigest()[:32]

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures uint8 [B, H, W, C] to indices int32 [B, h, w].

        Height and width need not divide by the model's stride: right and lower edges are repeated.

        Raises:
          UserError: another dtype, rank, number of channels, or size than the model takes.
        """
        pictures = np.asarray(pictures)
        self.check(pictures)
        if self._fixed_shape is None:
            pad = [(0, -size % self._stride) for size in pictures.shape[1:-1]]
            pictures = np.pad(pictures, [(0, 0), *pad, (0, 0)], mode="edge")
        return np.asarray(self._encode(self.variables, pictures))

    def decode(self, indices: np.ndarray, size: tuple[int, ...] | None = None) -> np.ndarray:
        """Indices int32 [B, h, w] to pictures uint8 [B, H, W, C].

        Args:
          indices: codes, each in [0, codebook_size).
          size: height and width to cut the pictures to; whole multiples of the stride when absent.

        Raises:
          UserError: indices that are not integers or out of range, or of a wrong shape.
        """
        indices = np.asarray(indices)
        size_limit = self.model.quantizer.codebook_size
        if not np.issubdtype(indices.dtype, np.integer):
            raise UserError(f"expected integer indices, got {indices.dtype}")
        if indices.size == 0 or indices.min() < 0 or indices.max() >= size_limit:
            span = f"{indices.min()} to {indices.max()}" if indices.size else "none"
            raise UserError(
                f"expected indices from 0 to {size_limit - 1} for this model's codebook, got {span}: "
                "were they made by another model?"
            )
        latents = self.code_specs(self.config.data.image_size).array_shape
        if indices.ndim != 1 + len(latents) or (self._fixed_shape and indices.shape[1:] != latents):
            raise UserError(
                f"expected indices of shape [B, {', '.join(map(str, latents))}]"
                f"{'' if self._fixed_shape else ' or of other spatial size'}, got {indices.shape}"
            )
        pictures = np.asarray(self._decode(self.variables, indices.astype(np.int32)))
        if size is None:
            return pictures
        if any(length > whole for length, whole in zip(size, pictures.shape[1:], strict=False)):
            raise UserError(
                f"expected a size of at most {pictures.shape[1:-1]} for indices of shape "
                f"{indices.shape}, got {size}: do the codes belong to another picture?"
            )
        return pictures[(slice(None), *(slice(0, length) for length in size))]

    def reconstruct(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures uint8 [B, H, W, C] through the codes and back, same shape and dtype."""
        return self.decode(self.encode(pictures), size=pictures.shape[1:-1])

    def code_specs(self, image_size: int) -> CodeSpecs:
        """The codes of a square picture, of the one size where the model takes no other."""
        if image_size not in self._code_specs:
            shape = self._fixed_shape or (image_size, image_size, self.channels)
            self._code_specs[image_size] = self.model.code_specs(shape)
        return self._code_specs[image_size]

    def check(self, pictures: np.ndarray) -> None:
        """Compares pictures with what the model takes, uint8 [B, H, W, C].

        Raises:
          UserError: another dtype, rank, number of channels, or size.
        """
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or 0 in pictures.shape:
            raise UserError(
                f"expected uint8 pictures [B, H, W, C], got {pictures.dtype} {list(pictures.shape)}"
            )
        if pictures.shape[-1] != self.channels:
            raise UserError(
                f"expected pictures with {self.channels} channels (model.image_channels), got "
                f"{pictures.shape[-1]}"
            )
        if self._fixed_shape is not None and pictures.shape[1:] != self._fixed_shape:
            raise UserError(
                f"this model takes pictures of shape {self._fixed_shape} only, got "
                f"{pictures.shape[1:]}: resize them, or train a convolutional model"
            )
