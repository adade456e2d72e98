"""Models by name, and trained models from their run directory."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from vq_jax import ops
from vq_jax.architectures import make_architecture
from vq_jax.config import ExperimentConfig
from vq_jax.errors import UserError
from vq_jax.nn import VQModel
from vq_jax.train.checkpoint import Checkpointer
from vq_jax.train.loop import abstract_state, build_model
from vq_jax.train.rundir import CHECKPOINTS, read_config
from vq_jax.types import Array, Params


def create_model(architecture: str, *, head: str = "picture", dtype: Any = None, **fields: Any) -> VQModel:
    """Makes a model by name, with random weights to come from its `init`.

    Args:
      architecture: a name of `architectures.ARCHITECTURES`, such as "vqvae-residual".
      head: what the decoder puts out, see `nn.VQModel`.
      dtype: compute dtype; float32 when absent.
      **fields: fields of the architecture to override, such as codebook_size=1024.

    Raises:
      ValueError: unknown architecture or field, with the nearest ones.
    """
    return make_architecture(architecture, **fields).build(head=head, dtype=dtype)


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
        self._fixed_shape: tuple[int, ...] | None = getattr(model.decoder, "image_shape", None)
        self._stride = 2 ** getattr(model.encoder, "num_downsamples", 0)
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
        latents = self._code_shape
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

    @functools.cached_property
    def _code_shape(self) -> tuple[int, ...]:
        side = self.config.data.image_size
        return self.model.code_shapes(self._fixed_shape or (side, side, self.channels))

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


def load(run: epath.PathLike, *, best: bool = False) -> Tokenizer:
    """Loads a trained model.

    Args:
      run: a run directory, local or gs://.
      best: take the checkpoint with the lowest validation loss rather than the newest.

    Raises:
      UserError: no run directory, or no whole checkpoint in it.
    """
    config = read_config(run)
    model = build_model(config)
    # The mesh of the run need not be there: one device holds the model.
    anywhere = dataclasses.replace(config.training, mesh_data=-1, mesh_fsdp=1)
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        abstract_state(dataclasses.replace(config, training=anywhere), model),
    )
    with Checkpointer(
        epath.Path(run) / CHECKPOINTS, keep=config.training.keep_checkpoints, read_only=True
    ) as checkpointer:
        step = checkpointer.best_step() if best else None
        restored = checkpointer.restore_latest(target) if step is None else checkpointer.restore(step, target)
    if restored is None:
        raise UserError(f"{run} holds no checkpoint yet: let `vq-jax train` reach its first save")
    state = restored.state.generator
    variables = {"params": state.eval_params, "codebook": state.codebook}
    return Tokenizer(model, jax.tree.map(jnp.asarray, variables), config, restored.step)
