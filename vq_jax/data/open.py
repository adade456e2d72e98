"""The registry of sources: which module opens what is written before the colon.

A new source is a module with a function of the type `Opener`, a line in `SCHEMES`, and a row in the table of
`tests/data/test_open.py`.
"""

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vq_jax.configs.data import DataConfig
from vq_jax.data.source import Source, Split, class_names, printable
from vq_jax.data.video_file import EXTENSIONS
from vq_jax.errors import UserError, nearest_names

_LOG = logging.getLogger("vq_jax")
_SPLITS: tuple[Split, Split] = ("train", "test")
_NAMED = 20  # classes named in a line

Opener = Callable[[str, Split, DataConfig, int], Source]
"""Opens one split of a data set: what is written after the colon, the split, the settings, the channels."""


class Scheme(NamedTuple):
    """How the data sets of one name are opened."""

    module: str  # imported when a source of this scheme is opened: tfds alone takes half a second
    function: str
    # What has to be written after the colon, for messages; empty: nothing, in brackets: what may be.
    argument: str = ""

    @property
    def optional(self) -> bool:
        """Whether what is written after the colon may be left out."""
        return self.argument.startswith("[")

    def usage(self, name: str) -> str:
        """How a data set of the scheme is written."""
        return f"{name}{'' if self.optional or not self.argument else ':'}{self.argument}"

    def load(self) -> Opener:
        """Imports the module and returns its function."""
        opener: Opener = getattr(importlib.import_module(self.module), self.function)
        return opener


SCHEMES: dict[str, Scheme] = {
    "photos": Scheme("vq_jax.data.photos", "open_photos"),
    "fashion": Scheme("vq_jax.data.fashion", "open_fashion"),
    "folder": Scheme("vq_jax.data.folder", "open_folder", "PATH"),
    "arrays": Scheme("vq_jax.data.arrays", "open_arrays", "FILE.npz"),
    "tfds": Scheme("vq_jax.data.tfds", "open_tfds", "NAME[:SPLIT]"),
    "frames": Scheme("vq_jax.data.frames", "open_frames", "PATH"),
    "video": Scheme("vq_jax.data.videos", "open_videos", "PATH"),
    "moving-fashion": Scheme("vq_jax.data.moving_fashion", "open_moving_fashion", "[:CLIPS]"),
}


def open_source(spec: str, split: Split, config: DataConfig, channels: int) -> Source:
    """Opens one half of a data set.

    Args:
      spec: photos, fashion, folder:PATH, arrays:FILE.npz, tfds:NAME[:SPLIT], frames:PATH, video:PATH or
        moving-fashion[:CLIPS].
      split: the pictures to train on, or those held out.
      config: `test_fraction` for data without a test set of its own, `data_dir` for tfds, `frames` and
        `frame_stride` for videos.
      channels: 1 or 3; photographs and picture files are converted, other data must have as many.

    Returns:
      The source; it holds at least one picture.

    Raises:
      UserError: the scheme is unknown, the data are missing or not as expected, or `frames` asks for clips
        of data that are pictures.

    Example:
      >>> source = open_source("photos", "test", DataConfig(), channels=3)
      >>> source[0]["image"].shape
      (300, 451, 3)
    """
    name, _, argument = spec.partition(":")
    if name not in SCHEMES:
        kinds = {"folder": Path.is_dir, _kind_of_file(spec): Path.is_file}
        meant = [f"{kind}:{spec}" for kind, is_there in kinds.items() if is_there(Path(spec))]
        hint = f"; did you mean {meant[0]}?" if meant else nearest_names(name, SCHEMES)
        raise UserError(f"expected a data source ({_usage()}), got {spec!r}{hint}")
    scheme = SCHEMES[name]
    if bool(argument) != bool(scheme.argument) and not scheme.optional:
        complaint = "takes nothing after its name" if argument else "needs something after a colon"
        raise UserError(f"the data source {name} {complaint}: expected {_usage()}, got {spec!r}")
    source = scheme.load()(argument, split, config, channels)
    if config.frames is not None and getattr(source, "frames", None) is None:
        raise UserError(
            f"expected videos for data.frames = {config.frames}, {spec} holds pictures: omit data.frames, or "
            "choose another --data"
        )
    return source


def open_splits(config: DataConfig, channels: int) -> tuple[Source, Source]:
    """Opens both halves of a data set and says in one line what was understood of it.

    Args:
      config: its source, see `open_source`.
      channels: see `open_source`.

    Returns:
      The pictures to train on, and those held out.

    Raises:
      UserError: see `open_source`.
    """
    train, test = (open_source(config.source, split, config, channels) for split in _SPLITS)
    _LOG.info("Data: %s", describe(train, test))
    return train, test


def describe(train: Source, test: Source) -> str:
    """Says in one line what two halves of a data set are, and what was left out of them."""
    classes, names = train.num_classes, class_names(train)
    words = "no classes" if classes is None else f"{classes} class{'es' if classes != 1 else ''}"
    if names is not None:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        words += f" ({printable(', '.join(names[:_NAMED]))}{more})"
    left_out = getattr(train, "left_out", ())
    what = "picture" if getattr(train, "frames", None) is None else "clip"
    count = f"{len(train)} {what}{'s' if len(train) != 1 else ''} to train on, {len(test)} held out"
    return f"{count}, {words}{'; left out: ' if left_out else ''}{', '.join(left_out)}"


def _kind_of_file(name: str) -> str:
    return "video" if Path(name).suffix.lower() in EXTENSIONS else "arrays"


def _usage() -> str:
    *others, last = (scheme.usage(name) for name, scheme in SCHEMES.items())
    return f"{', '.join(others)} or {last}"
