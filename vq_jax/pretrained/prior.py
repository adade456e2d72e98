"""A trained prior with its tokenizer, as it is used: draws new pictures and fills holes in pictures."""

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import linen
from jax.sharding import NamedSharding

from vq_jax.configs.data import ImageSize, height_and_width
from vq_jax.configs.priors import PRIORS
from vq_jax.configs.runs import PriorConfig
from vq_jax.configs.sampling import Options
from vq_jax.configs.serialize import specs_to_json
from vq_jax.errors import UserError, nearest_names
from vq_jax.generate import adapt_options, fill_codes, sampler_of
from vq_jax.generate.inpainting import composite, cover_hole, feather, fill_windows, hole_codes
from vq_jax.nn import Condition
from vq_jax.pretrained.drawing import code_batches, condition, require_room, turns
from vq_jax.pretrained.labels import Labels, class_numbers
from vq_jax.pretrained.model_directory import TOKENIZER, model_files, write_model
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.types import CodeSpec, Params


class Prior:
    """A prior over the codes of a tokenizer; it draws uint8 pictures.

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
    """

    def __init__(
        self,
        model: linen.Module,
        variables: Params,
        tokenizer: Tokenizer,
        config: PriorConfig,
        step: int,
        image_size: ImageSize,
    ) -> None:
        self.model: Any = model
        self.variables = variables
        self.tokenizer = tokenizer
        self.config = config
        self.step = step
        self.image_size = image_size

    def save(self, directory: epath.PathLike) -> None:
        """Writes a model directory, which `vq_jax.load` reads, with the tokenizer's in `tokenizer/`; whole or
        not at all.

        Args:
          directory: local path or gs://. A model that is there is replaced.

        Raises:
          UserError: the directory holds something else, or cannot be written.
        """
        codes = {
            "specs": specs_to_json(self.model.code_specs),
            "num_classes": self.num_classes,
            "image_size": self.image_size,
            "tokenizer": self.tokenizer.fingerprint,
        }
        config = dataclasses.replace(self.config, tokenizer=TOKENIZER)
        files = {f"{TOKENIZER}/{name}": content for name, content in self.tokenizer.files().items()}
        write_model(directory, {**files, **model_files(config, self.step, self.variables, codes)})

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
        seed: int = 0,
        batch_size: int = 64,
        sharding: NamedSharding | None = None,
        progress: bool = False,
        **options: Any,
    ) -> np.ndarray:
        """Draws new pictures.

        Args:
          num: how many; one for each of the labels when absent.
          labels: classes by number or name, one for all or one each; every class in turn when absent.
          seed: the same seed and arguments give the same pictures, whatever `batch_size` is.
          batch_size: pictures drawn together, at most.
          sharding: of a batch over a mesh.
          progress: show a bar where there is a terminal.
          **options: of the prior's sampler.

        Returns:
          uint8 [num, H, W, C].

        Raises:
          UserError: an argument is out of range, or the prior does not take it.
        """
        self._check_labels(num, labels)
        _, total = turns(self, num, labels)
        require_room(self, total, height_and_width(self.image_size))
        batches = self.sample_batches(
            total,
            labels=labels,
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
        seed: int = 0,
        batch_size: int = 64,
        sharding: NamedSharding | None = None,
        progress: bool = False,
        **options: Any,
    ) -> Iterator[np.ndarray]:
        """Draws new pictures batch by batch, any number of them in bounded memory.

        The pictures and the arguments are those of `sample`, and labels are taken in turn.

        Yields:
          uint8 [B, H, W, C], B up to `batch_size`.
        """
        size = height_and_width(self.image_size)
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
            yield self.tokenizer.decode(codes, size=size)

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
        """Fills holes in pictures.

        Draws the codes that a hole touches, and a ring of codes around them, given the others, and mixes the
        result into the picture with a feathered edge: pixels outside those codes stay as they are, to the
        bit. Fills a picture larger than those of the prior window by window.

        Args:
          pictures: uint8 [B, H, W, C], at least as large as those that the prior draws.
          masks: bool [B, H, W], or of one picture for all; true where a pixel is to be filled.
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
        window, strides = self._window()
        if masks.ndim == 2:
            masks = np.broadcast_to(masks, pictures.shape[:3])
        _check_masks(pictures, masks)
        unknown = self._unknown_codes(masks, ring)
        chosen, given_labels = self.options(options), condition(self._labels_of(len(pictures), labels))
        calls = iter(range(sys.maxsize))

        def fill(codes: np.ndarray, known: np.ndarray) -> np.ndarray:
            rng = jax.random.fold_in(jax.random.key(seed), next(calls))
            given = (jnp.asarray(codes), jnp.asarray(known))
            return np.asarray(self.call(fill_codes, rng, given_labels, *given, options=chosen))

        covered = [cover_hole(picture, mask) for picture, mask in zip(pictures, masks, strict=True)]
        codes = fill_windows(self.tokenizer.encode(np.stack(covered)), unknown, window, fill)
        decoded = self.tokenizer.decode(codes, size=pictures.shape[1:3])
        parts = zip(pictures, decoded, masks, unknown, strict=True)
        return np.stack(
            [composite(picture, new, feather(mask, grown, strides)) for picture, new, mask, grown in parts]
        )

    def _unknown_codes(self, masks: np.ndarray, ring: int) -> np.ndarray:
        """The codes to draw: masks bool [B, H, W] to bool [B, h, w]."""
        window, strides = self._window()
        height, width = masks.shape[1:]
        if ring < 0:
            raise UserError(f"expected a ring of at least 0 codes, got {ring}")
        lowest, narrowest = height_and_width(self.image_size)
        if height < lowest or width < narrowest:
            raise UserError(
                f"expected pictures of at least {narrowest} x {lowest} px, which this prior draws, got "
                f"{width} x {height}"
            )
        if ring * strides[0] >= lowest or ring * strides[1] >= narrowest:
            raise UserError(f"a ring of {ring} codes does not fit into the prior's grid of {window}")
        unknown = np.stack([hole_codes(mask, strides, ring) for mask in masks])
        if unknown.all(axis=(1, 2)).any():
            raise UserError("the mask touches every code of the picture and leaves nothing known: sample")
        return unknown

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
        pictures = np.asarray(pictures)
        self.tokenizer.check(pictures)
        added = {"left": left, "top": top, "right": right, "bottom": bottom}
        wrong = {name: pixels for name, pixels in added.items() if pixels < 0}
        if wrong or not any(added.values()):
            raise UserError(
                f"expected pixels to add, none of them negative and one at least above 0: {added}"
            )
        margins = [(0, 0), (top, bottom), (left, right)]
        masks = np.pad(np.zeros(pictures.shape[:3], bool), margins, constant_values=True)
        return self.inpaint(np.pad(pictures, [*margins, (0, 0)], mode="edge"), masks, **options)

    def sampler_arguments(self) -> dict[str, Any]:
        """What the sampler takes beside the prior: the tokenizer, on the devices that the prior is on."""
        if not sampler_of(self.model).needs_tokenizer:
            return {}
        first = jax.tree.leaves(self.variables)[0]
        variables = jax.device_put(self.tokenizer.variables, first.sharding if first.committed else None)
        return {"tokenizer_model": self.tokenizer.model, "tokenizer_variables": variables}

    def _window(self) -> tuple[tuple[int, int], tuple[int, ...]]:
        """Height and width of the prior's grid, and pixels a code along both.

        Raises:
          UserError: this prior cannot inpaint.
        """
        specs = self.model.code_specs
        reason = ""
        if sampler_of(self.model).fill is None:
            reason = (
                "it draws whole pictures and cannot keep given codes; train another kind, as prior-fashion"
            )
        elif not isinstance(specs, CodeSpec):
            reason = "it models several grids of codes, and a hole is filled in one"
        elif not self.tokenizer.strides:
            reason = (
                "its tokenizer's codes have no place in the picture; train one with a convolutional tokenizer"
            )
        elif len(specs.shape) != 2:
            reason = f"its codes have {len(specs.shape)} axes, and those of pictures have two"
        if reason:
            raise UserError(f"this prior, {self.config.prior.architecture}, cannot inpaint: {reason}")
        return specs.shape, self.tokenizer.strides

    def options(self, given: Mapping[str, Any]) -> Options:
        """The options of the run, those given in their place."""
        given = {name: value for name, value in given.items() if value is not None}
        sampler = sampler_of(self.model)
        _check_names(given, sampler.options, self.config.prior.architecture)
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


def _check_names(given: Mapping[str, Any], options: type[Options], architecture: str) -> None:
    takes = [field.name for field in dataclasses.fields(options)]
    foreign, unknown = [], []
    for name in sorted(given.keys() - set(takes)):
        priors = [kind for kind, prior in PRIORS.items() if name in prior.options.__dataclass_fields__]
        if priors:
            foreign.append(f"{name} is an option of {', '.join(priors)}")
        else:
            unknown.append(f"unknown option {name}{nearest_names(name, takes)}")
    if foreign or unknown:
        raise UserError(
            f"{'; '.join(unknown + foreign)}; this prior, {architecture}, takes {', '.join(takes)}"
        )


def _check_masks(pictures: np.ndarray, masks: np.ndarray) -> None:
    if masks.dtype != np.bool_:
        raise UserError(f"expected bool masks, true where a pixel is to be filled, got {masks.dtype}")
    if masks.shape != pictures.shape[:3]:
        wanted, found = (f"{shape[-1]} x {shape[-2]}" for shape in (pictures.shape[:3], masks.shape))
        raise UserError(
            f"expected a mask of the picture's size, {wanted} px, got {found} "
            f"({len(masks)} for {len(pictures)} pictures)"
        )
    for mask in masks:
        if not mask.any():
            raise UserError("the mask is empty: mark the pixels to fill")
        if mask.all():
            raise UserError("the mask is full and leaves nothing of the picture: sample new ones instead")
