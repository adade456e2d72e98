"""What a format is: how files of another project become model directories, and model directories files."""

import abc
import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from vq_jax.configs.data import ImageSize
from vq_jax.convert.weights_file import WeightsFile
from vq_jax.errors import UserError
from vq_jax.pretrained.model_directory import Origin
from vq_jax.pretrained.prior import Prior
from vq_jax.pretrained.restorer import Restorer
from vq_jax.pretrained.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Written:
    """A file in another project's form.

    Attributes:
      tensors: by their names.
      within: of a file of PyTorch, the key that they are under; None for the top.
      config: content of the `config.json` beside it; None for a format without one.
    """

    tensors: Mapping[str, np.ndarray]
    within: str | None = None
    config: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a file does not say of its model.

    Attributes:
      image_size: of the pictures that it was trained on, in pixels.
      tokenizer: of a prior, the model directory of its tokenizer.
    """

    image_size: ImageSize = 256
    tokenizer: str | None = None


@dataclasses.dataclass(frozen=True)
class Converted:
    """A file of another project as a model directory.

    Attributes:
      files: of the directory, by their names.
      summary: what the model is, in a line.
      left_out: names of the tensors that the directory does not keep.
    """

    files: dict[str, bytes]
    summary: str
    left_out: tuple[str, ...] = ()


class Format(abc.ABC):
    """Files of one project. A tokenizer's format derives from `TokenizerFormat`.

    Attributes:
      name: on the command line.
      title: whose files, and what they hold, for help and messages.
      within: keys under which its PyTorch files have the tensors, the first one that is there.
      lacks: what the project's own files have besides, and those that are written do not; how to read them.
      writes: the kind of file that `export` writes; None where there is no way back.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    within: ClassVar[tuple[str, ...]] = ("state_dict",)
    lacks: ClassVar[str] = ""
    writes: ClassVar[Literal["torch", "safetensors"] | None] = "torch"

    @abc.abstractmethod
    def recognises(self, names: Collection[str]) -> bool:
        """Whether tensors of these names are those of such a file, or most of them."""

    @abc.abstractmethod
    def convert(self, file: WeightsFile, asked: Asked) -> Converted:
        """Converts a file.

        Args:
          file: it.
          asked: what it does not say.

        Raises:
          UserError: tensors are missing, left over or of other shapes; or the network is not among ours.
        """

    @abc.abstractmethod
    def export(self, model: Tokenizer | Prior | Restorer, origin: Origin | None) -> Written:
        """Returns a model as a file; what the file had that it was converted from is in it again.

        Raises:
          UserError: files of this kind cannot hold such a model.
        """


def shape_of(file: WeightsFile, name: str, axes: int) -> tuple[int, ...]:
    """Returns the shape of a tensor.

    Raises:
      UserError: it is missing, or has another number of axes.
    """
    if name not in file.tensors:
        raise UserError(f"{file.path} lacks {name}, from which the size of the network is known")
    shape = file.tensors[name].shape
    if len(shape) != axes:
        raise UserError(f"{file.path}: expected {name} with {axes} axes, got {list(shape)}")
    return shape
