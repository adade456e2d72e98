"""A source of fixed crops: a set number of each picture, so that what is made of them can be kept."""

import hashlib

import numpy as np

from vq_jax.config import DataConfig
from vq_jax.data.crops import cut, training_window
from vq_jax.data.sources import Record, Source

_SEED = 0  # not the run's: runs of several seeds share what was made of the crops


class Variants:
    """The training crops of a source, a set number of each picture.

    Record `v * len(source) + n` is variant v of picture n. Where the configuration mirrors, odd variants
    are the mirror images of the even ones before them.

    Args:
      source: the pictures.
      config: image_size, resize, crop and flip; a picture has `crops_per_picture` times `variants`.
      variants: see above.
    """

    def __init__(self, source: Source, config: DataConfig, variants: int) -> None:
        self._source = source
        self._config = config
        self._count = variants * config.crops_per_picture
        self.channels = source.channels
        self.num_classes = source.num_classes
        parts = (source.fingerprint, config.image_size, config.resize, config.crop, config.flip, self._count)
        self.fingerprint = hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self._source) * self._count

    def __getitem__(self, index: int) -> Record:
        variant, number = divmod(index, len(self._source))
        config = self._config
        record = self._source[number]
        height, width, _ = record["image"].shape
        mirrored = config.flip and variant % 2 == 1
        draw = variant // 2 if config.flip else variant
        draws = np.random.default_rng((_SEED, draw, number)).random(3)
        window = training_window(height, width, config.image_size, config.resize, config.crop, draws)
        crop = cut(record["image"], window, config.image_size)
        return {**record, "image": crop[:, ::-1] if mirrored else crop}
