"""Data sets of tensorflow-datasets, read from array_record files without TensorFlow."""

import contextlib
import hashlib
import importlib.util
import io
import os
import textwrap
from typing import Any

import numpy as np
from etils import epath

from vq_jax.configs.data import DataConfig
from vq_jax.data.identity import digest_of
from vq_jax.data.source import Record, Split, check_channels
from vq_jax.data.tfds_videos import TfdsClips
from vq_jax.errors import UserError, nearest_names
from vq_jax.host.files import is_remote
from vq_jax.host.storage import require_storage

_LONGEST = 400  # characters of what tfds says


class TfdsSource:
    """A range of a prepared split; records are decoded on demand.

    Args:
      records: random access to the split.
      span: which of its records.
      channels: channels of every picture.
      num_classes: number of different labels; None without labels.
      fingerprint: hash of the data set's version, split and files.
      class_names: of the labels, where they have names.
    """

    def __init__(
        self,
        records: Any,
        span: range,
        channels: int,
        num_classes: int | None,
        fingerprint: str,
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        self._records = records
        self._span = span
        self.channels = channels
        self.num_classes = num_classes
        self.class_names = class_names
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self._span)

    def __getitem__(self, index: int) -> Record:
        found = self._records[self._span[index]]
        record: Record = {"image": found["image"], "broken": np.int32(0)}
        if self.num_classes is not None:
            record["label"] = np.int32(found["label"])
        return record


def open_tfds(argument: str, split: Split, config: DataConfig, channels: int) -> TfdsSource | TfdsClips:
    """Opens one split of a prepared tensorflow-datasets set, of pictures or of videos.

    `NAME` trains on the split train of the set and holds out its split test, or else validation; a split
    whose first label is negative, as in ImageNet's test, has no labels and is not used.
    `NAME:SPLIT` takes both parts from SPLIT (which may be a slice such as train[:20%]); there, and where
    the set has neither test nor validation, the last `config.test_fraction` of the records is held out.

    Args:
      argument: NAME or NAME:SPLIT.
      split: train or test.
      config: its data_dir and test_fraction; for videos, its frames and frame_stride.
      channels: channels that the pictures must have.

    Returns:
      The source, with labels where the set has a class label named label.

    Raises:
      UserError: an unknown name or split, a set that is not prepared, or a set without pictures or videos.
    """
    import tensorflow_datasets as tfds

    require_storage(config.data_dir or "")
    name, _, own_split = argument.partition(":")
    builder = _builder(name, config.data_dir)
    advice = (
        'Do once: pip install "vq-jax[tfds]", then vq-jax prepare '
        f"{name}{f' --data-dir {config.data_dir}' if config.data_dir else ''}"
    )
    if not builder.info.splits:
        raise UserError(f"the tensorflow-datasets set {name} is not prepared in {builder.data_dir}. {advice}")
    # Read by directory, the records reach worker processes without the code of the data set.
    builder = tfds.builder_from_directory(builder.data_dir)
    key, num_classes = _check_features(builder.info.features, name, channels)
    known = list(builder.info.splits)
    chosen, sliced = own_split or ("train" if "train" in known else known[0]), True
    try:
        if not own_split and (held_out := _held_out(builder, known, num_classes)):
            chosen, sliced = held_out if split == "test" else "train", False
        records = builder.as_data_source(chosen)
    except NotImplementedError as error:
        raise UserError(
            f"the tensorflow-datasets set {name} was prepared in {builder.data_dir} as "
            f"{builder.info.file_format.value}, expected array_record. Choose another data_dir or "
            f"remove that directory. {advice}"
        ) from error
    except (KeyError, ValueError) as error:
        raise UserError(
            f"expected a split of {name} ({', '.join(known)}, or a slice of one), got {chosen!r}"
            f"{nearest_names(chosen, known)}"
        ) from error
    span = range(len(records))
    if sliced:
        count = min(max(1, round(len(span) * config.test_fraction)), len(span) - 1)
        span = span[len(span) - count :] if split == "test" else span[: len(span) - count]
    if not span:
        raise UserError(f"expected records in the {split} part of tfds:{argument}, it holds {len(records)}")
    channels_found = np.shape(records[span[0]][key])[-1]
    check_channels(channels_found, channels, name)
    identity = f"{builder.info.full_name} {chosen} {span} {len(records)} {_contents(builder, chosen)}"
    digest = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    names = None if num_classes is None else tuple(builder.info.features["label"].names)
    if key == "video":
        return TfdsClips(records, span, config, split, channels, num_classes, digest, names)
    return TfdsSource(records, span, channels, num_classes, digest, names)


def _contents(builder: Any, chosen: str) -> list[str]:
    """Digests of the files of a split, or of the split that a slice is cut out of."""
    digests = []
    for path in sorted(map(os.fspath, builder.info.splits[chosen].filepaths)):
        if is_remote(path):
            digests.append(str(epath.Path(path).stat().length))
            continue
        with open(path, "rb") as file:
            digests.append(digest_of(file))
    return digests


def prepare(name: str, data_dir: str | None = None) -> str:
    """Downloads a tensorflow-datasets set and writes it as array_record files, once.

    Nothing else in the package needs TensorFlow.

    Args:
      name: the set, such as cifar10.
      data_dir: directory of the sets; tensorflow-datasets' own when None.

    Returns:
      The directory of the prepared set.

    Raises:
      UserError: an unknown name, no TensorFlow, a failed download, missing archives that have to be
        downloaded by hand, or a set that is there in another file format.
    """
    import tensorflow_datasets as tfds

    builder = _builder(name, data_dir)
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UserError(
            "preparing a tensorflow-datasets set needs TensorFlow, which is not installed. "
            'Do once: pip install "vq-jax[tfds]"'
        ) from error
    # TensorFlow takes all of a GPU's memory when it first sees it.
    tf.config.set_visible_devices([], "GPU")
    if not builder.info.splits:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
        try:
            builder.download_and_prepare()
        except OSError as error:
            raise UserError(f"the set {name} could not be downloaded: {_brief(error)}") from error
        except AssertionError as error:  # how tfds asks for archives that it may not download
            raise UserError(f"the set {name} cannot be prepared: {_brief(error)}") from error
    if builder.info.file_format.value != "array_record":
        raise UserError(
            f"the set {name} is in {builder.data_dir} as {builder.info.file_format.value}, "
            "expected array_record: choose another --data-dir or remove that directory"
        )
    return str(builder.data_dir)


def _builder(name: str, data_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    try:
        with contextlib.redirect_stdout(io.StringIO()):  # a banner where TensorFlow is missing
            return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        more = ""
        if not importlib.util.find_spec("tensorflow"):
            more = ". Sets of videos, as ucf101, are known only with TensorFlow: pip install vq-jax[tfds]"
        raise UserError(
            f"expected the name of a tensorflow-datasets set, got {name!r}{nearest_names(name, known)}{more}"
        ) from error
    except ImportError as error:
        raise UserError(
            f"the tensorflow-datasets set {name!r} needs what is not installed: {_brief(error)}. "
            'Do once: pip install "vq-jax[tfds]"'
        ) from error
    except (ValueError, AssertionError, TypeError) as error:
        raise UserError(
            f"the tensorflow-datasets set {name!r} does not open: {_brief(error)}; expected NAME or "
            "NAME/CONFIG"
        ) from error


def _brief(error: Exception) -> str:
    """What tfds says, on one line, without the arguments that it was called with and without its examples."""
    message = str(error).partition("The builder name string must be")[0]
    if message.startswith("Failed to construct dataset"):
        message = message.partition('}": ')[2] or message
    return textwrap.shorten(message, _LONGEST, placeholder=" ...").rstrip(".")


def _held_out(builder: Any, known: list[str], num_classes: int | None) -> str | None:
    """Returns the split to hold out, the first of test and validation with labels, if the set has one."""
    for part in ("test", "validation"):
        if part in known:
            if num_classes is None:
                return part
            records = builder.as_data_source(part)
            if not len(records) or records[0]["label"] >= 0:
                return part
    return None


def _check_features(features: Any, name: str, channels: int) -> tuple[str, int | None]:
    """Checks that records hold pictures or videos.

    Returns:
      The name of their feature, and the number of different labels, None without labels.
    """
    for key, rank in (("image", 3), ("video", 4)):
        found = features[key] if key in features else None
        if found is not None and len(found.shape) == rank and found.np_dtype == np.uint8:
            break
    else:
        there = ", ".join(f"{key} {value.np_dtype} {value.shape}" for key, value in features.items())
        raise UserError(
            f"expected a set of uint8 pictures [H, W, C] in a feature named image, or of videos [T, H, W, C] "
            f"in one named video, {name} has {there}"
        )
    if found.shape[-1] is not None:
        check_channels(found.shape[-1], channels, name)
    return key, getattr(features["label"], "num_classes", None) if "label" in features else None
