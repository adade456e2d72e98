"""The photographs in the wheel of scikit-image, split by picture."""

import numpy as np

from vq_jax.configs.data import DataConfig
from vq_jax.data.in_memory import MemorySource
from vq_jax.data.source import Split, check_convertible

# The wheel holds these; `skimage.data` downloads others. (The wheel of scikit-learn has two more, china and
# flower, among 30 MB of other things: not worth it for two pictures.)
_TRAIN = (
    "astronaut",
    "rocket",
    "hubble_deep_field",
    "retina",
    "immunohistochemistry",
    "stereo_motorcycle",
    "brick",
    "grass",
    "gravel",
)
_TEST = ("chelsea", "coffee")


def open_photos(argument: str, split: Split, config: DataConfig, channels: int) -> MemorySource:
    """Decodes the photographs of one split.

    Ten pictures are for training, among them the two views of a stereo pair and three grey textures; a
    cat (chelsea) and a cup of coffee are held out.

    Args:
      argument: not used; empty.
      split: train or test.
      config: not used.
      channels: 3, or 1 for grey.

    Returns:
      The source, without labels.

    Raises:
      UserError: other channels.
    """
    check_convertible(channels, "photos")
    from skimage import data

    pictures: list[np.ndarray] = []
    for name in _TRAIN if split == "train" else _TEST:
        loaded = getattr(data, name)()
        if name == "stereo_motorcycle":
            pictures += loaded[:2]  # the third is the disparity map
        else:
            pictures.append(loaded)
    return MemorySource([_to_channels(picture, channels) for picture in pictures])


def _to_channels(picture: np.ndarray, channels: int) -> np.ndarray:
    from PIL import Image

    converted = Image.fromarray(picture).convert("L" if channels == 1 else "RGB")
    return np.asarray(converted).reshape(*converted.size[::-1], channels)
