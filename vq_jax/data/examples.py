"""The one place where a record of a source becomes an example: what a model is trained or measured on.

Training batches, held-out sets and cached variants differ in which part they see of a picture and in where
random numbers come from; both are in the `RecordRng` that they give.
"""

import functools
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from vq_jax.configs.data import DataConfig, written
from vq_jax.data.colour import change_colours
from vq_jax.data.crops import Choose, Size, Window, training_window
from vq_jax.data.degrade import degrade
from vq_jax.data.source import Batch, Record

_LOG = logging.getLogger("vq_jax")
_LOCK = threading.Lock()

CROP_NUMBERS = 4
"""Random numbers that a window takes: scale, vertical and horizontal position, mirror image."""

Example = dict[str, Any]
"""`image` uint8 [*S, C]; `broken` int32, see `Record`; `label` int32 where the source has labels. Where the
model's output is compared with something else than `image`, that is `target`, of the same kind; `mask` is
bool [*S], true where a part of `image` is given."""

ReadCrop = Callable[[Choose, Size, bool], Record]
"""Reads a record and crops its picture. Takes the function that chooses the part from the picture's height
and width, the size of the result, and whether the picture may be decoded smaller where it is made so."""


class RecordRng(NamedTuple):
    """The random numbers of one example: the same whichever process or worker makes it, and in any order.

    Attributes:
      window: `CROP_NUMBERS` numbers in [0, 1), float64 [4], that decide which part is seen; or the part.
      seed: of the generator of everything else that is random; or the generator.
    """

    window: Float[np.ndarray, "4"] | Window
    seed: tuple[int, ...] | np.random.Generator

    def generator(self) -> np.random.Generator:
        """Returns the record's own generator, which is made only here: it costs as much as a small crop."""
        return np.random.default_rng(self.seed)


class ExampleBuilder:
    """Makes examples of records.

    Args:
      config: image_size, resize, crop, flip, colour, degradation and scaled_decoding.
    """

    def __init__(self, config: DataConfig) -> None:
        self._config = config
        self._enlarged = False

    def __call__(self, record: ReadCrop, rng: RecordRng) -> Example:
        """Makes an example of a record.

        Args:
          record: reads the record: `take_crop` of a source and a number, or `crop_record` of a record.
          rng: what is random in the example.

        Returns:
          The example.
        """
        config = self._config
        choose = functools.partial(self._window, rng.window)
        example: Example = record(choose, config.picture_size, config.scaled_decoding)
        example.setdefault("broken", np.int32(0))
        changes_colours = config.colour.changes and not isinstance(rng.window, Window)
        if not (changes_colours or config.degradation.changes):
            return example
        picture, generator = example["image"], rng.generator()
        if changes_colours:
            picture = change_colours(picture, config.colour, generator)
        if not config.degradation.changes:
            return {**example, "image": picture}
        return {**example, "image": degrade(picture, config.degradation, generator), "target": picture}

    def _window(self, chosen: Float[np.ndarray, "4"] | Window, height: int, width: int) -> Window:
        if isinstance(chosen, Window):
            return chosen
        config = self._config
        size = config.picture_size
        if config.resize == "none" and (height < size[0] or width < size[1]):
            self._warn_enlarged(height, width)
        window = training_window(height, width, size, config.resize, config.crop, chosen[:3])
        return window._replace(mirrored=True) if config.flip and chosen[3] < 0.5 else window

    def _warn_enlarged(self, height: int, width: int) -> None:
        with _LOCK:
            warned, self._enlarged = self._enlarged, True
        if not warned:
            _LOG.warning(
                "pictures smaller than data.image_size %s are enlarged to it (one has %d x %d)",
                written(self._config.image_size),
                height,
                width,
            )


def stack(examples: Iterable[Example], count: int) -> Batch:
    """Copies examples into the arrays of a batch, one by one, so that no two need be in memory at a time.

    Args:
      examples: `count` of them, or fewer; all have the same keys, shapes and types.
      count: B, 1 and up.

    Returns:
      Their arrays [B, ...] by key, int32 [B] where an example has a number; the last example is repeated to
      fill them up.
    """
    batch: Batch = {}
    row = -1
    for row, example in enumerate(examples):
        if row == 0:
            batch = {key: _rows(value, count) for key, value in example.items()}
        for key, array in batch.items():
            array[row] = example[key]
    for array in batch.values():
        array[row + 1 :] = array[row]
    return batch


def _rows(value: Any, count: int) -> np.ndarray:
    array = np.asarray(value)
    return np.empty((count, *array.shape), array.dtype if array.ndim else np.int32)
