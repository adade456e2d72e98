"""A trained model as it is used: uint8 pictures to codes and back."""

import functools
import operator
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import NamedSharding
from PIL import Image

from vq_jax import ops
from vq_jax.configs.runs import ExperimentConfig
from vq_jax.data.pictures import to_array
from vq_jax.errors import UserError
from vq_jax.nn import VQModel
from vq_jax.pretrained.batches import in_batches
from vq_jax.pretrained.build import build_model, image_shape
from vq_jax.pretrained.codebooks import folded_codebook, kept_codes
from vq_jax.pretrained.fingerprint import fingerprint, old_fingerprint
from vq_jax.pretrained.model_directory import model_files, write_model
from vq_jax.pretrained.room import check_room
from vq_jax.types import Array, CodeSpec, CodeSpecs, Params

Pictures = np.ndarray | Array | Image.Image
"""Pictures as `Tokenizer.encode` takes them."""


class Tokenizer:
    """A trained model on uint8 pictures: encode, decode, reconstruct, jitted.

    Codes are a pytree of int32 arrays laid out like `model.code_specs`: one array, or a tuple from coarse to
    fine.

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
        self._axes = len(self._fixed_shape or image_shape(config)) - 1
        self._code_specs: dict[int | tuple[int, ...], CodeSpecs] = {}
        self._encode = jax.jit(
            lambda variables, images: model.apply(variables, ops.normalize_pictures(images), method="encode")
        )

        self._decoders: dict[int | None, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled functions do not travel: another process, or a copy, makes its own.
        return _rebuilt, (type(self), self.model, jax.device_get(self.variables), self.config, self.step)

    @property
    def channels(self) -> int:
        """Channels of the pictures that the model takes."""
        return self.config.model.image_channels

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels a code along each spatial axis; empty where codes have no place in the picture."""
        return self.model.strides(self._axes)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the model and its variables: the same for tokenizers that give the same codes."""
        return fingerprint(self.config.model, self.variables)

    def has_fingerprint(self, known: str) -> bool:
        """Whether a fingerprint, by today's formula or the one before it, is this tokenizer's."""
        return known in (self.fingerprint, old_fingerprint(self.config.model, self.variables))

    def save(self, directory: epath.PathLike) -> None:
        """Writes a model directory, which `vq_jax.load` reads; whole or not at all.

        Args:
          directory: local path or gs://. A model that is there is replaced.

        Raises:
          UserError: the directory holds something else, or cannot be written.
        """
        write_model(directory, self.files())

    def keep_used(self, counts: Any) -> tuple["Tokenizer", np.ndarray]:
        """Returns a smaller tokenizer, whose codebook has only the codes in use, and what these were.

        Pictures in which only such codes occur are encoded and decoded as before, but for their numbers:
        `vq_jax.renumber(codes, used)` converts those of the whole codebook.

        Args:
          counts: how often each of the K codes occurs; those above zero stay.

        Returns:
          The tokenizer, and the codes that were kept, int32 in ascending order.

        Raises:
          UserError: the quantizer has no codebook of its own, counts are of another number of codes, or all
            are zero.
        """
        config, variables, used = kept_codes(self.config, self.model.quantizer, self.variables, counts)
        return Tokenizer(build_model(config), variables, config, self.step), used

    def folded(self) -> "Tokenizer":
        """Returns the tokenizer with a plain table in place of a codebook that is computed, as SimVQ's is.

        It has the same codes and pictures, and another fingerprint. Other tokenizers are as before; so is one
        whose quantizer wraps others.
        """
        config, variables = folded_codebook(self.config, self.model.quantizer, self.variables)
        return Tokenizer(build_model(config), variables, config, self.step)

    def files(self) -> dict[str, bytes]:
        """The files of its model directory by their names."""
        return model_files(self.config, self.step, self.variables)

    def encode(
        self,
        pictures: Pictures,
        *,
        batch_size: int | None = None,
        sharding: NamedSharding | None = None,
    ) -> Any:
        """Encodes pictures.

        Their lengths need not be ones that the model takes (`VQModel.padded_lengths`), such as multiples of
        its strides: the last pixels along an axis are repeated.

        Args:
          pictures: uint8 [B, *S, C], one picture [*S, C], or one of Pillow's.
          batch_size: pictures encoded together; all at once when absent.
          sharding: of a batch over a mesh.

        Returns:
          Codes, int32: [B, *s] or [B, *s, Q] for one grid, without B for one picture.

        Raises:
          UserError: another dtype, rank, number of channels, or size than the model takes.
        """
        given, single = self._batch_of(pictures)
        if self._fixed_shape is None:
            lengths = given.shape[1:-1]
            padded = self.model.padded_lengths(lengths)
            pad = [(0, whole - length) for whole, length in zip(padded, lengths, strict=True)]
            given = np.pad(given, [(0, 0), *pad, (0, 0)], mode="edge")
        check_room(
            self._encode,
            self.variables,
            given,
            batch_size or len(given),
            f"encoding pictures of shape {given.shape}",
        )
        codes = in_batches(functools.partial(self._encode, self.variables), given, batch_size, sharding)
        return jax.tree.map(operator.itemgetter(0), codes) if single else codes

    def decode(
        self,
        codes: Any,
        size: tuple[int, ...] | None = None,
        *,
        stages: int | None = None,
        batch_size: int | None = None,
        sharding: NamedSharding | None = None,
    ) -> np.ndarray:
        """Decodes codes to pictures.

        Args:
          codes: integers as `encode` returns them for several pictures, each in [0, codebook_size).
          size: lengths *S to cut the pictures to; whole multiples of the strides when absent.
          stages: decode the codes of so many stages of a residual quantizer, or scales of a multi-scale one,
            the first ones; all when absent. A residual quantizer trained with `min_stages` is made for that.
          batch_size: pictures decoded together; all at once when absent.
          sharding: of a batch over a mesh.

        Returns:
          Pictures, uint8 [B, *S, C].

        Raises:
          UserError: codes that are not integers or out of range, or of a wrong shape; or the quantizer does
            not have so many stages.
        """
        codes = self.check_codes(codes, size, batch_size, stages)
        pictures: np.ndarray = in_batches(
            functools.partial(self._decoder(stages), self.variables), codes, batch_size, sharding
        )
        return pictures if size is None else pictures[(slice(None), *map(slice, size))]

    def check_codes(
        self,
        codes: Any,
        size: tuple[int, ...] | None = None,
        rows: int | None = None,
        stages: int | None = None,
    ) -> Any:
        """Compares codes with what the model takes, and a size with that of their pictures.

        Args:
          codes: as `decode` takes them.
          size: lengths *S that pictures would be cut to.
          rows: pictures decoded together; all at once when absent.
          stages: as `decode` takes them.

        Returns:
          The codes, int32.

        Raises:
          UserError: codes that are not integers or out of range, or of a wrong shape; a size larger than the
            pictures; pictures that do not fit into the memory; stages that the quantizer does not have.
        """
        decode = self._decoder(stages)
        codes = self._checked(codes)
        rows = rows or len(jax.tree.leaves(codes)[0])
        given = jax.tree.map(lambda grid: jax.ShapeDtypeStruct((rows, *grid.shape[1:]), grid.dtype), codes)
        try:
            whole = jax.eval_shape(decode, self.variables, given).shape[1:-1]
        except (TypeError, ValueError) as error:
            if isinstance(self._specs, CodeSpec):
                raise
            raise UserError(
                f"grids of codes of shapes {_shapes(codes)} are not those of one picture: {error}"
            ) from error
        if size is not None:
            _check_size(size, whole, _shapes(codes))
        check_room(decode, self.variables, codes, rows, f"decoding codes of shape {_shapes(codes)}")
        return codes

    def reconstruct(
        self,
        pictures: Pictures,
        *,
        stages: int | None = None,
        batch_size: int | None = None,
        sharding: NamedSharding | None = None,
    ) -> np.ndarray:
        """Sends pictures through the codes and back: uint8 of the same shape; arguments as in `decode`."""
        self._decoder(stages)
        given, single = self._batch_of(pictures)
        codes = self.encode(given, batch_size=batch_size, sharding=sharding)
        decoded = self.decode(
            codes, size=given.shape[1:-1], stages=stages, batch_size=batch_size, sharding=sharding
        )
        return decoded[0] if single else decoded

    def _decoder(self, stages: int | None) -> Any:
        """The jitted function from variables and codes to pictures, by the codes of the first stages.

        Raises:
          UserError: the quantizer does not have so many.
        """
        most = self.model.num_stages
        if stages is not None and most is None:
            raise UserError(
                f"expected no number of stages, got {stages}: the quantizer of {self.config.name}, "
                f"{self.config.model.quantizer.name}, has no stages"
            )
        if stages is not None and most is not None and not 1 <= stages <= most:
            raise UserError(
                f"expected 1 to {most} stages, those of the quantizer of {self.config.name}, got {stages}"
            )
        if stages not in self._decoders:

            def decode(variables: dict[str, Params], codes: Any) -> Array:
                pictures: Any = self.model.apply(variables, codes, stages, method="decode")
                return ops.to_uint8(pictures)

            self._decoders[stages] = jax.jit(decode)
        return self._decoders[stages]

    def _batch_of(self, pictures: Pictures) -> tuple[np.ndarray, bool]:
        """Pictures [B, *S, C] that the model takes, and whether one without B was given."""
        if isinstance(pictures, Image.Image):
            pictures = to_array(pictures, self.channels)
        given = np.asarray(pictures)
        single = given.ndim == self._axes + 1
        if single:
            given = given[None]
        self.check(given)
        return given, single

    def code_specs(self, image_size: int | tuple[int, ...]) -> CodeSpecs:
        """Returns the specs of the codes of a picture.

        Args:
          image_size: its lengths *S without the channels, or one number for all of them; without effect where
            the model takes one size only.

        Raises:
          UserError: another number of lengths, or lengths below 1.
        """
        if image_size not in self._code_specs:
            sides = (image_size,) * self._axes if isinstance(image_size, int) else image_size
            if len(sides) != self._axes or min(sides) < 1:
                raise UserError(
                    f"expected the size of a picture, one number or {self._axes} without the channels, each "
                    f"at least 1, got {image_size}"
                )
            shape = self._fixed_shape or (*self.model.padded_lengths(sides), self.channels)
            self._code_specs[image_size] = self.model.code_specs(shape)
        return self._code_specs[image_size]

    def check(self, pictures: np.ndarray) -> None:
        """Compares pictures with what the model takes, uint8 [B, *S, C].

        Raises:
          UserError: another dtype, rank, number of channels, or size.
        """
        if pictures.dtype != np.uint8 or pictures.ndim != self._axes + 2 or 0 in pictures.shape:
            axes = {1: "W", 2: "H, W", 3: "T, H, W"}.get(self._axes, f"{self._axes} spatial axes")
            raise UserError(
                f"expected uint8 pictures [B, {axes}, C], got {pictures.dtype} {list(pictures.shape)}"
            )
        if pictures.shape[-1] != self.channels:
            raise UserError(
                f"expected pictures with {self.channels} channels (model.image_channels), got "
                f"{pictures.shape[-1]}"
            )
        if self._fixed_shape is not None and pictures.shape[1:] != self._fixed_shape:
            raise UserError(
                f"this model takes only pictures of shape {self._fixed_shape}, got "
                f"{pictures.shape[1:]}: resize them, or train a convolutional model"
            )

    @property
    def _specs(self) -> CodeSpecs:
        """The codes of a training picture: their layout is that of all pictures."""
        return self.code_specs(self.config.data.lengths)

    def _checked(self, codes: Any) -> Any:
        """The codes as int32 arrays; raises UserError where they are not ones of this model."""
        if isinstance(self._specs, CodeSpec):
            return self._checked_grid(np.asarray(codes), self._specs, "")
        specs, layout = jax.tree.leaves(self._specs), cast(Any, jax.tree.structure(self._specs))
        try:
            grids = layout.flatten_up_to(tuple(codes) if isinstance(codes, list) else codes)
        except (TypeError, ValueError) as error:
            raise UserError(f"expected {len(specs)} grids of codes from coarse to fine: {error}") from error
        return layout.unflatten(
            self._checked_grid(np.asarray(grid), spec, f" in grid {number}")
            for number, (grid, spec) in enumerate(zip(grids, specs, strict=True))
        )

    def _checked_grid(self, grid: np.ndarray, spec: CodeSpec, where: str) -> np.ndarray:
        if not np.issubdtype(grid.dtype, np.integer):
            raise UserError(f"expected integer codes{where}, got {grid.dtype}")
        if grid.size == 0 or grid.min() < 0 or grid.max() >= spec.codebook_size:
            span = f"{grid.min()} to {grid.max()}" if grid.size else "none"
            raise UserError(
                f"expected codes from 0 to {spec.codebook_size - 1} for this model's codebook{where}, got "
                f"{span}: were they made by another model?"
            )
        shape = spec.array_shape
        fixed = shape if self._fixed_shape is not None else shape[len(spec.shape) :]
        if grid.ndim != 1 + len(shape) or grid.shape[grid.ndim - len(fixed) :] != fixed:
            raise UserError(
                f"expected codes of shape [B, {', '.join(map(str, shape))}]"
                f"{'' if self._fixed_shape else ' or of other spatial size'}{where}, got {grid.shape}"
            )
        return grid.astype(np.int32)


def _shapes(codes: Any) -> str:
    return ", ".join(str(grid.shape) for grid in jax.tree.leaves(codes))


def _check_size(size: tuple[int, ...], whole: tuple[int, ...], shapes: str) -> None:
    if any(length > most for length, most in zip(size, whole, strict=False)):
        raise UserError(
            f"expected a size of at most {whole} for codes of shape {shapes}, got {size}: "
            "do the codes belong to another picture?"
        )


def _rebuilt(kind: type[Tokenizer], model: VQModel, variables: Any, *rest: Any) -> Tokenizer:
    return kind(model, jax.tree.map(jnp.asarray, variables), *rest)
