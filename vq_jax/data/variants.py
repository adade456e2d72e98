"""A source of fixed crops: a set number of each picture, so that what is made of them can be kept."""

import functools
import hashlib

import numpy as np
from jaxtyping import Float

from vq_jax.configs.data import DataConfig
from vq_jax.data.crops import Window, training_window
from vq_jax.data.source import Record, Source, take_square

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
        scaled = ("scaled",) if config.scaled_decoding and hasattr(source, "square") else ()
        sizes = (config.image_size, config.resize, config.crop, config.flip, self._count)
        parts = (source.fingerprint, *sizes, *scaled)
        self.fingerprint = hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self._source) * self._count

    def __getitem__(self, index: int) -> Record:
        variant, number = divmod(index, len(self._source))
        config = self._config
        draw, mirrored = divmod(variant, 2) if config.flip else (variant, 0)
        draws = np.random.default_rng((_SEED, draw, number)).random(3)
        choose = functools.partial(self._choose, draws, bool(mirrored))
        return take_square(self._source, number, choose, config.image_size, config.scaled_decoding)

    def _choose(self, draws: Float[np.ndarray, "3"], mirrored: bool, height: int, width: int) -> Window:
        config = self._config
        window = training_window(height, width, config.image_size, config.resize, config.crop, draws)
        return window._replace(mirrored=mirrored)
