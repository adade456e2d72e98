"""How often a classifier takes drawn pictures for the class that they were drawn as."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Int, UInt8

from vq_jax.errors import UserError


class ClassAccuracy:
    """Counts the drawn pictures that a classifier of the user's own takes for their class.

    The classifier is a program that jax.export wrote, of pictures uint8 [b, H, W, C], with b left open, to
    logits [b, K]; it need not have been made with this library:

        pictures = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, 28, 28, 1"), jnp.uint8)
        program = jax.export.export(jax.jit(logits_of_pictures), platforms=["cpu", "cuda", "tpu"])(pictures)
        Path("classifier.jax").write_bytes(program.serialize())

    Args:
      path: of the program.
      shape: of a picture.
      classes: number of classes K.

    Raises:
      UserError: the file cannot be read, is no such program, or takes other pictures or has other classes.

    Attributes:
      total: pictures counted.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], classes: int) -> None:
        if importlib.util.find_spec("flatbuffers") is None:
            raise UserError('jax reads programs with flatbuffers: pip install "vq-jax[portable]"')
        try:
            program = export.deserialize(bytearray(path.read_bytes()))
        except Exception as error:  # of many kinds, for bytes that are something else
            reason = f": {error.strerror}" if isinstance(error, OSError) else ""
            raise UserError(f"expected a classifier that jax.export wrote, got {path}{reason}") from error
        self.total, self._right, self._path, self._classes = 0, 0, path, classes
        wanted = f"uint8 [b, {', '.join(map(str, shape))}] to logits [b, {classes}], b left open"
        takes = [(*aval.shape, str(aval.dtype)) for aval in program.in_avals]
        gives = [(*aval.shape, str(aval.dtype)) for aval in program.out_avals]
        fits = len(takes) == len(gives) == 1 and takes[0][1:] == (*shape, "uint8")
        if not fits or isinstance(takes[0][0], int) or gives[0][1:-1] != (classes,):
            raise UserError(f"expected a classifier of {wanted}; {path} is of {takes} to {gives}")
        backend = jax.default_backend()
        if {"gpu": "cuda"}.get(backend, backend) not in program.platforms:
            raise UserError(
                f"{path} is a program for {', '.join(program.platforms)}, and this is {backend}: export it "
                "with `platforms` that have both"
            )
        self._logits = jax.jit(program.call)

    def add(self, pictures: UInt8[np.ndarray, "B *S C"], numbers: Int[np.ndarray, " B"]) -> None:
        """Counts pictures, drawn with every class in turn, whose numbers since the first are given."""
        found = np.argmax(np.asarray(self._logits(jnp.asarray(pictures))), axis=-1)
        self._right += int(np.sum(found == numbers % self._classes))
        self.total += len(numbers)

    def figures(self) -> dict[str, float]:
        """The share of all pictures, `class_accuracy`."""
        return {"class_accuracy": self._right / self.total}

    def computed(self) -> str:
        """How it was computed, in words."""
        return (
            f"class_accuracy: the share of {self.total:,} drawn pictures, every class in turn, that "
            f"{self._path.name} takes for their class, of {self._classes}"
        )
