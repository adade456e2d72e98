"""A source of fixed crops: a fixed number of each picture, so that what is made from them can be kept."""

import dataclasses
import functools
import hashlib

import numpy as np

from vq_jax.configs.data import DataConfig
from vq_jax.data.examples import CROP_NUMBERS, ExampleBuilder, RecordRng
from vq_jax.data.source import Record, Source, class_names, take_crop

_SEED = 0  # not the run's: runs with different seeds share what was made from the crops


class Variants:
    """The training crops of a source, a fixed number of each picture.

    Record `v * len(source) + n` is variant v of picture n. Where the configuration mirrors, each odd variant
    is the mirror image of the even one before it.

    Args:
      source: the pictures.
      config: see `ExampleBuilder`, and crops_per_picture.
      variants: a picture has `crops_per_picture` times this many crops.
    """

    def __init__(self, source: Source, config: DataConfig, variants: int) -> None:
        config.check_channels(source.channels)
        self._source = source
        self._config = config
        self._make_example = ExampleBuilder(config)
        self._count = variants * config.crops_per_picture
        self.channels = source.channels
        self.num_classes = source.num_classes
        self.class_names = class_names(source)
        scaled = ("scaled",) if config.scaled_decoding and hasattr(source, "crop") else ()
        sizes = (config.image_size, config.resize, config.crop, config.flip, self._count)
        colour = (dataclasses.astuple(config.colour),) if config.colour.changes else ()
        degradation = (config.degradation,) if config.degradation.changes else ()
        parts = (source.fingerprint, *sizes, *scaled, *colour, *degradation)
        self.fingerprint = hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self._source) * self._count

    def __getitem__(self, index: int) -> Record:
        variant, number = divmod(index, len(self._source))
        draw, mirrored = divmod(variant, 2) if self._config.flip else (variant, 0)
        generator = np.random.default_rng((_SEED, draw, number))
        window = np.array([*generator.random(CROP_NUMBERS - 1), 0.0 if mirrored else 0.5])
        record = functools.partial(take_crop, self._source, number)
        return self._make_example(record, RecordRng(window, generator))
