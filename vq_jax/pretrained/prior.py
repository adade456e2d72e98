"""A trained prior with its tokenizer, as it is used: draws new pictures or clips, fills holes in them, and
continues clips."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import linen
from jax.sharding import NamedSharding

from vq_jax.configs.data import ImageSize, height_and_width
from vq_jax.configs.runs import PriorConfig
from vq_jax.configs.sampling import Options
from vq_jax.configs.serialize import specs_to_json
from vq_jax.errors import UserError
from vq_jax.generate import adapt_options, sampler_of
from vq_jax.generate.common import fold_in, row_keys
from vq_jax.nn import Condition
from vq_jax.pretrained.drawing import check_names, code_batches, condition, require_room, turns
from vq_jax.pretrained.filling import (
    check_length,
    checked_clips,
    code_window,
    context_frames,
    continue_clips,
    fill_holes,
    longer_clips,
    window_frames,
    with_gap,
    with_margins,
)
from vq_jax.pretrained.labels import Labels, class_numbers
from vq_jax.pretrained.model_directory import TOKENIZER, Origin, model_files, write_model
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.types import Params

_CONTINUED = 2**32 - 1  # a step that no sampler takes


class Prior:
    """A prior over the codes of a tokenizer; it draws uint8 pictures, or clips if the tokenizer is of clips.

    Its sampler's options, such as `temperature`, are keyword arguments of the methods: the fields of the
    dataclass that the prior's sampler takes, see `vq_jax.configs.sampling`. Those that are absent have the
    value of `config.sampling`.

    Attributes:
      model: the network.
      variables: its parameters.
      tokenizer: decodes the codes.
      config: the configuration of its run.
      step: updates made.
      image_size: of the pictures that it draws, in pixels: one number, or height and width.
      frames: of the clips that it draws; None for pictures.
    """

    def __init__(
        self,
        model: linen.Module,
        variables: Params,
        tokenizer: Tokenizer,
        config: PriorConfig,
        step: int,
        image_size: ImageSize,
        frames: int | None = None,
    ) -> None:
        self.model: Any = model
        self.variables = variables
        self.tokenizer = tokenizer
        self.config = config
        self.step = step
        self.image_size = image_size
        self.frames = frames

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths *S of what it draws: pictures (H, W), or clips (T, H, W)."""
        size = height_and_width(self.image_size)
        return size if self.frames is None else (self.frames, *size)

    def save(self, directory: epath.PathLike) -> None:
        """Writes a model directory, which `vq_jax.load` reads, with the tokenizer's in `tokenizer/`; whole or
        not at all.

        Args:
          directory: local path or gs://. A model that is there is replaced.

        Raises:
          UserError: the directory holds something else, or cannot be written.
        """
        write_model(directory, self.files())

    def files(self, origin: Origin | None = None) -> dict[str, bytes]:
        """The files of its model directory by their names, with where it comes from if it was converted."""
        codes = {
            "specs": specs_to_json(self.model.code_specs),
            "num_classes": self.num_classes,
            "image_size": self.image_size,
            **({} if self.frames is None else {"frames": self.frames}),
            "tokenizer": self.tokenizer.fingerprint,
        }
        config = dataclasses.replace(self.config, tokenizer=TOKENIZER)
        files = {f"{TOKENIZER}/{name}": content for name, content in self.tokenizer.files().items()}
        return {**files, **model_files(config, self.step, self.variables, codes, origin)}

    @property
    def num_classes(self) -> int | None:
        """How many classes it can draw; None for a prior without classes."""
        classes: int | None = self.model.num_classes
        return classes

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes in the order of their numbers; None where they have none."""
        return getattr(self.config.data, "class_names", None) if self.num_classes is not None else None

    def sample(
        self,
        num: int | None = None,
        *,
        labels: Labels = None,
        frames: int | None = None,
        seed: int = 0,
        batch_size: int = 64,
        sharding: NamedSharding | None = None,
        progress: bool = False,
        **options: Any,
    ) -> np.ndarray:
        """Draws new pictures, or clips.

        Args:
          num: how many; one for each of the labels when absent.
          labels: classes by number or name, one for all or one each; every class in turn when absent.
          frames: of each clip; as in training when absent. Longer clips are continued as by `predict`.
          seed: the same seed and arguments give the same pictures, whatever `batch_size` is.
          batch_size: pictures drawn together, at most.
          sharding: of a batch over a mesh.
          progress: show a bar where there is a terminal.
          **options: of the prior's sampler.

        Returns:
          uint8 [num, H, W, C], or [num, frames, H, W, C].

        Raises:
          UserError: an argument is out of range, or the prior does not take it.
        """
        self._check_labels(num, labels)
        _, total = turns(self, num, labels)
        require_room(self, total, self.lengths if frames is None else (frames, *self.lengths[1:]))
        batches = self.sample_batches(
            total,
            labels=labels,
            frames=frames,
            seed=seed,
            batch_size=batch_size,
            sharding=sharding,
            progress=progress,
            **options,
        )
        return np.concatenate(list(batches))

    def sample_batches(
        self,
        num: int | None = None,
        *,
        labels: Labels = None,
        frames: int | None = None,
        seed: int = 0,
        batch_size: int = 64,
        sharding: NamedSharding | None = None,
        progress: bool = False,
        **options: Any,
    ) -> Iterator[np.ndarray]:
        """Draws new pictures or clips batch by batch, any number of them in bounded memory.

        The pictures and the arguments are those of `sample`, and labels are taken in turn.

        Yields:
          uint8 [B, H, W, C] or [B, frames, H, W, C], B up to `batch_size`.
        """
        if frames is not None:
            check_length(self, frames)
        first = 0
        for codes in code_batches(
            self,
            num,
            labels,
            seed=seed,
            batch_size=batch_size,
            sharding=sharding,
            progress=progress,
            options=options,
        ):
            if frames is None:
                yield self.tokenizer.decode(codes, size=self.lengths)
                continue
            count = len(jax.tree.leaves(codes)[0])
            numbers = np.arange(first, first + count)
            cycle, _ = turns(self, num, labels)
            given = condition(None if cycle is None else cycle[numbers % len(cycle)])
            keys = fold_in(row_keys(seed, first, count), _CONTINUED)
            yield longer_clips(self, codes, frames, given, keys, options)
            first += count

    def sample_codes(
        self,
        num: int | None = None,
        *,
        labels: Labels = None,
        seed: int = 0,
        batch_size: int = 64,
        sharding: NamedSharding | None = None,
        progress: bool = False,
        **options: Any,
    ) -> Any:
        """Draws codes, int32 [num, ...], laid out like `model.code_specs`; arguments as in `sample`."""
        self._check_labels(num, labels)
        _, total = turns(self, num, labels)
        require_room(self, total, None)
        how: Any = {"seed": seed, "batch_size": batch_size, "sharding": sharding, "progress": progress}
        drawn = list(code_batches(self, total, labels, options=options, **how))
        return jax.tree.map(lambda *grids: np.concatenate(grids), *drawn)

    def inpaint(
        self,
        pictures: np.ndarray,
        masks: np.ndarray,
        *,
        labels: Labels = None,
        seed: int = 0,
        ring: int = 1,
        **options: Any,
    ) -> np.ndarray:
        """Fills holes in pictures, or in space and time of clips.

        Draws the codes that a hole touches, and a ring of codes around them, given the others, and mixes the
        result into the picture with a feathered edge: pixels outside those codes stay as they are, to the
        bit. Fills a picture larger than those of the prior window by window.

        Args:
          pictures: uint8 [B, H, W, C], at least as large as those that the prior draws; or clips
            [B, T, H, W, C], as long as those that it draws.
          masks: bool [B, H, W] or [B, T, H, W], or of one for all; true where a pixel is to be filled.
          labels: classes, one for all or one each; where absent, none, which needs a prior trained with
            class dropout.
          seed: the same seed and arguments give the same pictures.
          ring: width of the ring, in codes.
          **options: of the prior's sampler.

        Returns:
          uint8 of the pictures' shape.

        Raises:
          UserError: an argument is out of range, a mask is empty, full, or of another size, or this prior
            cannot inpaint.
        """
        pictures, masks = np.asarray(pictures), np.asarray(masks)
        self.tokenizer.check(pictures)
        code_window(self)  # whether it can inpaint at all
        given_labels, rng = condition(self._labels_of(len(pictures), labels)), jax.random.key(seed)
        return fill_holes(self, pictures, masks, given_labels, rng, ring=ring, options=options)

    def outpaint(
        self,
        pictures: np.ndarray,
        *,
        left: int = 0,
        top: int = 0,
        right: int = 0,
        bottom: int = 0,
        **options: Any,
    ) -> np.ndarray:
        """Continues pictures beyond their edges.

        Args:
          pictures: uint8 [B, H, W, C].
          left: pixels to add to the left.
          top: pixels to add above.
          right: pixels to add to the right.
          bottom: pixels to add below.
          **options: the other arguments of `inpaint`.

        Returns:
          uint8 [B, top + H + bottom, left + W + right, C].

        Raises:
          UserError: as in `inpaint`, or there is nothing to add.
        """
        pictures, masks = with_margins(self, pictures, left=left, top=top, right=right, bottom=bottom)
        return self.inpaint(pictures, masks, **options)

    def predict(
        self,
        clips: np.ndarray,
        frames: int | None = None,
        *,
        context: int | None = None,
        labels: Labels = None,
        seed: int = 0,
        progress: bool = False,
        **options: Any,
    ) -> np.ndarray:
        """Draws the frames that follow those of clips.

        A prior `next-frame` is given the last frames that it sees, and draws one after another. Of others,
        codes stand for several frames: the prior is given those of the last frames that fill whole codes, at
        most half of its clips (trained on the task `next` and not on `prediction`, all but the last code in
        time), and draws the rest. Beyond its clips it goes on with the last frames drawn, encoded anew: a
        window that slides over the frames. It should have been trained on one of the two tasks.

        Args:
          clips: uint8 [B, N, H, W, C], of the size that the prior draws.
          frames: to draw; as many as one window holds when absent.
          context: frames that each window begins with, in place of those said above.
          labels: classes, one for all or one each; where absent, none, which needs a prior trained with
            class dropout.
          seed: the same seed and arguments give the same frames.
          progress: show a bar where there is a terminal.
          **options: of the prior's sampler.

        Returns:
          uint8 [B, frames, H, W, C]: the new frames alone.

        Raises:
          UserError: an argument is out of range, or this prior draws pictures or cannot keep given codes.
        """
        clips = checked_clips(self, clips)
        used = context_frames(self, clips.shape[1], context)
        count = window_frames(self) - used if frames is None else frames
        given = condition(self._labels_of(len(clips), labels))
        keys = row_keys(seed, 0, len(clips))
        how: Any = {"context": used, "progress": progress, "options": options}
        return continue_clips(self, clips, count, given, keys, **how)

    def interpolate(self, first: np.ndarray, last: np.ndarray, **options: Any) -> np.ndarray:
        """Draws the frames between the first and the last ones of clips.

        It should have been trained on the task `interpolation`.

        Args:
          first: uint8 [B, N, H, W, C].
          last: uint8 [B, M, H, W, C], M at least the frames of a code.
          **options: the other arguments of `inpaint`.

        Returns:
          uint8 [B, T - N - M, H, W, C], T the frames of the prior's clips: the new frames alone.

        Raises:
          UserError: as in `inpaint`, or nothing is left between them.
        """
        clips, mask = with_gap(self, first, last)
        return self.inpaint(clips, mask, **options)[:, np.shape(first)[1] : -np.shape(last)[1]]

    def sampler_arguments(self) -> dict[str, Any]:
        """What the sampler takes beside the prior: the tokenizer, on the devices that the prior is on."""
        if not sampler_of(self.model).needs_tokenizer:
            return {}
        first = jax.tree.leaves(self.variables)[0]
        variables = jax.device_put(self.tokenizer.variables, first.sharding if first.committed else None)
        return {"tokenizer_model": self.tokenizer.model, "tokenizer_variables": variables}

    def options(self, given: Mapping[str, Any]) -> Options:
        """The options of the run, those given in their place."""
        given = {name: value for name, value in given.items() if value is not None}
        sampler = sampler_of(self.model)
        check_names(given, sampler.options, self.config.prior.architecture)
        try:
            options = dataclasses.replace(adapt_options(self.config.sampling, self.model), **given)
        except ValueError as error:
            raise UserError(str(error)) from error
        return options

    def _check_labels(self, num: int | None, labels: Labels) -> None:
        """Raises UserError unless there is one label for all, or one each."""
        if labels is not None and num is not None:
            given = len(class_numbers(labels, self.num_classes, self.class_names))
            if given not in (1, num):
                raise UserError(f"expected one label or {num}, one a picture, got {given}")

    def _labels_of(self, num: int, labels: Labels) -> np.ndarray | None:
        """As `_labels`, for given pictures: absent labels become the null label."""
        if labels is not None or self.num_classes is None:
            self._check_labels(num, labels)
            cycle, _ = turns(self, num, labels)
            return None if cycle is None else np.resize(cycle, num)
        try:
            return np.full(num, self.model.null_label, np.int32)
        except ValueError as error:
            raise UserError(
                "this prior was trained without class dropout and needs a class: give a label"
            ) from error

    def call(self, sampler: Any, rng: Any, condition: Condition, *arrays: Any, **options: Any) -> Any:
        try:
            return sampler(self.model, self.variables, rng, condition, *arrays, **options)
        except ValueError as error:  # more steps than positions, guidance without classes
            raise UserError(str(error)) from error
