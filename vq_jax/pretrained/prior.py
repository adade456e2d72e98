"""A trained prior with its tokenizer, as it is used: new pictures, and holes in pictures filled."""

import dataclasses
import functools
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import linen
from jax.sharding import NamedSharding
from tqdm import tqdm

from vq_jax.configs.runs import PriorConfig
from vq_jax.configs.sampling import SamplingConfig
from vq_jax.configs.serialize import specs_to_json
from vq_jax.errors import UserError
from vq_jax.generate import MaskedOptions, SamplingOptions, sample_noise
from vq_jax.generate.inpainting import composite, cover_hole, feather, fill_windows, hole_codes
from vq_jax.generate.prior import fill_codes, sample_prior
from vq_jax.nn import Condition, MaskGIT, NoiseGenerator
from vq_jax.pretrained.model_directory import TOKENIZER, model_files, write_model
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.types import Params

Labels = int | Sequence[int] | np.ndarray | None


class Prior:
    """A prior over the codes of a tokenizer; what is drawn is uint8 pictures.

    Attributes:
      model: the network.
      variables: its parameters.
      tokenizer: what decodes the codes.
      config: the configuration of its run.
      step: updates made.
      image_size: height and width in pixels of the pictures that it draws.
    """

    def __init__(
        self,
        model: linen.Module,
        variables: Params,
        tokenizer: Tokenizer,
        config: PriorConfig,
        step: int,
        image_size: int,
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
        }
        config = dataclasses.replace(self.config, tokenizer=TOKENIZER)
        files = {f"{TOKENIZER}/{name}": content for name, content in self.tokenizer.files().items()}
        write_model(directory, {**files, **model_files(config, self.step, self.variables, codes)})

    @property
    def num_classes(self) -> int | None:
        """Classes that pictures can be drawn of; None where the prior knows none."""
        classes: int | None = self.model.num_classes
        return classes

    def sample(
        self,
        num: int | None = None,
        *,
        labels: Labels = None,
        guidance: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        steps: int | None = None,
        seed: int = 0,
        batch_size: int = 64,
        sharding: NamedSharding | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        """Draws new pictures; what is not given is as in `config.sampling`.

        Args:
          num: how many; one for each of the labels when absent.
          labels: classes, one for all or one each; every class in turn when absent.
          guidance: scale of classifier-free guidance; 1 is none.
          temperature: divides the logits; 0 takes the likeliest code. Of a noise generator, which takes
            no other option: scales the noise.
          top_k: draw among so many likeliest codes; 0 among all.
          top_p: draw among the likeliest codes that have this probability together.
          steps: of masked priors.
          seed: the same one and the same arguments give the same pictures.
          batch_size: pictures drawn together, at most.
          sharding: of a batch over a mesh.
          progress: show a bar where there is a terminal.

        Returns:
          uint8 [num, H, W, C].

        Raises:
          UserError: an argument is out of range, or not one for this prior.
        """
        codes = self.sample_codes(
            num,
            labels=labels,
            guidance=guidance,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            steps=steps,
            seed=seed,
            batch_size=batch_size,
            sharding=sharding,
            progress=progress,
        )
        size = (self.image_size, self.image_size)
        parts = range(0, len(codes), batch_size)
        return np.concatenate(
            [self.tokenizer.decode(codes[first : first + batch_size], size=size) for first in parts]
        )

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
    ) -> np.ndarray:
        """Draws grids of codes, int32 [num, ...]; arguments are those of `sample`."""
        chosen = self._options(options)
        every = self._labels(num, labels)
        total = len(every) if every is not None else 1 if num is None else num
        if total < 1:
            raise UserError(f"expected at least one picture to draw, got {total}")
        if batch_size < 1:
            raise UserError(f"expected batch_size of at least 1, got {batch_size}")
        batch = min(total, batch_size)
        drawn, sampler = [], self._sampler
        with tqdm(total=total, unit="picture", disable=not (progress and sys.stderr.isatty())) as bar:
            for number, first in enumerate(range(0, total, batch)):
                count = min(batch, total - first)
                some = None if every is None else np.resize(every[first : first + count], batch)
                rng = jax.random.fold_in(jax.random.key(seed), number)
                codes = self._call(sampler, rng, _condition(some), num=batch, sharding=sharding, **chosen)
                drawn.append(np.asarray(codes)[:count])
                bar.update(count)
        return np.concatenate(drawn)

    def inpaint(
        self,
        pictures: np.ndarray,
        masks: np.ndarray,
        *,
        labels: Labels = None,
        guidance: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        steps: int | None = None,
        seed: int = 0,
        ring: int = 1,
    ) -> np.ndarray:
        """Fills holes in pictures.

        The codes that a hole touches, and a ring of codes around them, are drawn given the others, and the
        result is mixed into the picture with a feathered edge: pixels outside those codes stay as they
        are, to the bit. A picture larger than those of the prior is filled window by window.

        Args:
          pictures: uint8 [B, H, W, C], at least as large as those that the prior draws.
          masks: bool [B, H, W], or of one picture for all; true where a pixel is to be filled.
          labels: classes, one for all or one each; where absent, none, which needs a prior trained with
            class dropout.
          guidance: as in `sample`.
          temperature: as in `sample`.
          top_k: as in `sample`.
          top_p: as in `sample`.
          steps: as in `sample`.
          seed: as in `sample`.
          ring: codes around the hole that are drawn anew too.

        Returns:
          uint8 of the pictures' shape.

        Raises:
          UserError: an argument is out of range, a mask is empty, full, or of another size, or the
            tokenizer's codes have no place in the picture.
        """
        pictures, masks = np.asarray(pictures), np.asarray(masks)
        self.tokenizer.check(pictures)
        if isinstance(self.model, NoiseGenerator):
            raise UserError(
                "a noise generator makes whole pictures and cannot inpaint: train a prior, as prior-fashion"
            )
        strides, window = self.tokenizer.strides, self.model.code_shape
        if len(strides) != 2 or len(window) != 2:
            raise UserError(
                "this prior cannot inpaint: its tokenizer's codes have no place in the picture; train one "
                "with a convolutional tokenizer"
            )
        stride = max(strides)
        if masks.ndim == 2:
            masks = np.broadcast_to(masks, pictures.shape[:3])
        _check_masks(pictures, masks)
        if ring < 0:
            raise UserError(f"expected a ring of at least 0 codes, got {ring}")
        if min(pictures.shape[1:3]) < self.image_size:
            raise UserError(
                f"expected pictures of at least {self.image_size} x {self.image_size} px, which this prior "
                f"draws, got {pictures.shape[2]} x {pictures.shape[1]}"
            )
        if ring * stride >= self.image_size:
            raise UserError(f"a ring of {ring} codes does not fit into the prior's grid of {window}")
        unknown = np.stack([hole_codes(mask, stride, ring) for mask in masks])
        if unknown.all(axis=(1, 2)).any():
            raise UserError("the mask touches every code of the picture and leaves nothing known: sample")
        options = {"guidance": guidance, "temperature": temperature, "top_k": top_k, "top_p": top_p}
        chosen = self._options({**options, "steps": steps})
        condition = _condition(self._labels_of(len(pictures), labels))
        calls = iter(range(sys.maxsize))

        def fill(codes: np.ndarray, known: np.ndarray) -> np.ndarray:
            rng = jax.random.fold_in(jax.random.key(seed), next(calls))
            filled = self._call(fill_codes, rng, condition, jnp.asarray(codes), jnp.asarray(known), **chosen)
            return np.asarray(filled)

        covered = [cover_hole(picture, mask) for picture, mask in zip(pictures, masks, strict=True)]
        codes = fill_windows(self.tokenizer.encode(np.stack(covered)), unknown, window, fill)
        decoded = self.tokenizer.decode(codes, size=pictures.shape[1:3])
        parts = zip(pictures, decoded, masks, unknown, strict=True)
        return np.stack(
            [composite(picture, new, feather(mask, grown, stride)) for picture, new, mask, grown in parts]
        )

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
        """Draws on beyond the edges of pictures.

        Args:
          pictures: uint8 [B, H, W, C].
          left: pixels to add there.
          top: alike.
          right: alike.
          bottom: alike.
          **options: those of `inpaint`.

        Returns:
          uint8 [B, top + H + bottom, left + W + right, C].

        Raises:
          UserError: as `inpaint`, or there is nothing to add.
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

    @property
    def _sampler(self) -> Any:
        if not isinstance(self.model, NoiseGenerator):
            return sample_prior
        place = jax.tree.leaves(self.variables)[0].sharding
        return functools.partial(
            sample_noise,
            tokenizer_model=self.tokenizer.model,
            tokenizer_variables=jax.device_put(self.tokenizer.variables, place),
        )

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        """The samplers' options: those given, and the run's."""
        sampling = self.config.sampling
        given = {name: value for name, value in given.items() if value is not None}
        unknown = set(given) - {field.name for field in dataclasses.fields(SamplingConfig)}
        if unknown:
            raise TypeError(f"unexpected sampling options {', '.join(sorted(unknown))}")
        if isinstance(self.model, NoiseGenerator):
            return {"temperature": _noise_scale(given, sampling.temperature)}
        masked = isinstance(self.model, MaskGIT)
        if "steps" in given and not masked:
            raise UserError(
                f"steps are for masked priors; this one, {self.config.prior.architecture}, draws code by code"
            )
        positions = int(np.prod(self.model.code_shape))
        if given.get("steps", 1) > positions:
            raise UserError(
                f"expected at most {positions} steps, as many as a picture has codes, got {given['steps']}"
            )
        values = {**dataclasses.asdict(sampling), **given}
        names = [field.name for field in dataclasses.fields(SamplingOptions)]
        try:
            options: dict[str, Any] = {"options": SamplingOptions(**{name: values[name] for name in names})}
            if masked:
                options["masking"] = MaskedOptions(
                    steps=min(values["steps"], positions), order=values["order"], noise=values["noise"]
                )
        except ValueError as error:
            raise UserError(str(error)) from error
        return options

    def _labels(self, num: int | None, labels: Labels) -> np.ndarray | None:
        """A label a picture, None for a prior without classes."""
        if labels is None:
            if self.num_classes is None:
                return None
            return np.arange(self.num_classes if num is None else num, dtype=np.int32) % self.num_classes
        checked = self._checked(labels)
        if num is not None and len(checked) not in (1, num):
            raise UserError(f"expected one label or {num}, one a picture, got {len(checked)}")
        return np.resize(checked, len(checked) if num is None else num)

    def _labels_of(self, num: int, labels: Labels) -> np.ndarray | None:
        """As `_labels`, for pictures that are there: absent ones are the null label."""
        if labels is not None or self.num_classes is None:
            return self._labels(num, labels)
        try:
            return np.full(num, self.model.null_label, np.int32)
        except ValueError as error:
            raise UserError(
                "this prior was trained without class dropout and needs a class: give a label"
            ) from error

    def _checked(self, labels: Labels) -> np.ndarray:
        values = np.atleast_1d(np.asarray(labels))
        if self.num_classes is None:
            raise UserError("this prior knows no classes: it was trained without labels, give none")
        if values.ndim != 1 or not len(values) or not np.issubdtype(values.dtype, np.integer):
            raise UserError(f"expected integer labels, got {labels!r}")
        wrong = values[(values < 0) | (values >= self.num_classes)]
        if wrong.size:
            raise UserError(
                f"expected labels from 0 to {self.num_classes - 1}, the prior's {self.num_classes} classes, "
                f"got {wrong[0]}"
            )
        return values.astype(np.int32)

    def _call(self, sampler: Any, rng: Any, condition: Condition, *arrays: Any, **options: Any) -> Any:
        if "options" in options and options["options"].guided and self.num_classes is None:
            raise UserError(
                "guidance needs classes, and this prior was trained without labels: leave it at 1"
            )
        try:
            return sampler(self.model, self.variables, rng, condition, *arrays, **options)
        except ValueError as error:  # guidance where there are no unconditional logits
            raise UserError(str(error)) from error


def _noise_scale(given: dict[str, Any], default: float) -> float:
    others = sorted(set(given) - {"temperature"})
    if others:
        raise UserError(
            f"{' and '.join(others)} cannot be given to a noise generator, which knows no probabilities: it "
            "takes a temperature alone, the scale of its noise"
        )
    scale = float(given.get("temperature", default))
    if not 0.0 <= scale < float("inf"):
        raise UserError(f"expected temperature of at least 0, the scale of the noise, got {scale}")
    return scale


def _condition(labels: np.ndarray | None) -> Condition:
    return Condition(None if labels is None else jnp.asarray(labels))


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
