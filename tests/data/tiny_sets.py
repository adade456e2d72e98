"""Small tensorflow-datasets sets, prepared without a network and without TensorFlow."""

import pathlib

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


class _Tiny(tfds.core.GeneratorBasedBuilder):
    """Pictures of one value each; a path lets tfds store the file as it is, without TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")
    SPLITS = {"train": 20}
    FEATURES = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(num_classes=4),
    }

    def _info(self):
        features = tfds.features.FeaturesDict(self.FEATURES)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(count) for name, count in self.SPLITS.items()}

    def _generate_examples(self, count):
        folder = pathlib.Path(self._data_dir_root)
        for value in range(count):
            path = folder / f"{value}.png"
            Image.new("RGB", (9, 8), (value, value, value)).save(path)
            yield value, {"image": path, "label": value % 4}


class TinyAlone(_Tiny):
    pass


class TinyTested(_Tiny):
    SPLITS = {"train": 6, "validation": 4, "test": 3}


class TinyValidated(_Tiny):
    SPLITS = {"train": 6, "validation": 4}


class TinyUnlabelled(TinyTested):
    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(count, name) for name, count in self.SPLITS.items()}

    def _generate_examples(self, count, name):
        for value, record in super()._generate_examples(count):
            yield value, record | ({"label": -1} if name == "test" else {})


class TinyWords(TinyTested):
    FEATURES = {"image": tfds.features.Image(shape=(None, None, 3)), "label": tfds.features.Text()}

    def _generate_examples(self, count):
        for value, record in super()._generate_examples(count):
            yield value, record | {"label": "a word"}


class TinyNumbers(_Tiny):
    SPLITS = {"train": 2}
    FEATURES = {"value": tfds.features.Scalar(np.int32)}

    def _generate_examples(self, count):
        yield from ((value, {"value": value}) for value in range(count))


class TinyVideos(_Tiny):
    """Videos of 3 to 12 frames, whose values are their numbers, ten times the video's number added.

    Sequences of pictures: tfds' own feature of videos is one too, but cannot be made without TensorFlow.
    """

    SPLITS = {"train": 10, "test": 4}
    FEATURES = {
        "video": tfds.features.Sequence(tfds.features.Image(shape=(8, 9, 3))),
        "label": tfds.features.ClassLabel(num_classes=4),
    }

    def _generate_examples(self, count):
        folder = pathlib.Path(self._data_dir_root)
        for number in range(count):
            paths = []
            for frame in range(3 + number):
                value = 10 * number + frame
                paths.append(folder / f"{number}-{frame}.png")
                Image.new("RGB", (9, 8), (value, value, value)).save(paths[-1])
            yield number, {"video": [str(path) for path in paths], "label": number % 4}


def prepare(directory: str, *names: str) -> None:
    """Writes sets, by their tfds names such as tiny_tested, into a directory of prepared sets."""
    for name in names:
        tfds.builder(name, data_dir=directory, file_format="array_record").download_and_prepare()
