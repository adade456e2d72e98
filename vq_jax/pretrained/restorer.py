"""A trained restorer as it is used: degraded uint8 pictures of any size to restored ones."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from PIL import Image

from vq_jax import ops
from vq_jax.configs.runs import RestorerConfig
from vq_jax.configs.serialize import specs_to_json
from vq_jax.data.pictures import to_array
from vq_jax.errors import UserError
from vq_jax.nn import RestorerModel
from vq_jax.pretrained.model_directory import TOKENIZER, model_files, write_model
from vq_jax.pretrained.tokenizer import Pictures, Tokenizer
from vq_jax.pretrained.windows import in_windows
from vq_jax.types import Array, Params

_WINDOW = 512  # px of the restored picture, at least
_REACHES = 6  # of the network, that a window is wide at least: a pixel is restored 2.25 times at most, about
_MARGIN = 48  # px of a network without bounds


class Restorer:
    """A restorer, or a regressor, over a tokenizer; it restores uint8 pictures of any size.

    Attributes:
      model: the network.
      variables: its parameters, without the tokenizer's.
      tokenizer: whose codes it predicts.
      config: the configuration of its run.
      step: updates made.
    """

    def __init__(
        self,
        model: Any,
        variables: Params,
        tokenizer: Tokenizer,
        config: RestorerConfig,
        step: int,
    ) -> None:
        self.model = model
        self.variables = variables
        self.tokenizer = tokenizer
        self.config = config
        self.step = step

        def restore(variables: Params, images: Array, fidelity: Array) -> Array:
            output: Any = model.apply(variables, ops.normalize_pictures(images), fidelity=fidelity)
            return ops.to_uint8(output.reconstruction)

        self._restore = jax.jit(restore)

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled functions do not travel: another process, or a copy, makes its own.
        variables = jax.device_get(self.variables)
        parts = (self.model, variables, self.tokenizer, self.config, self.step)
        return type(self), parts

    @property
    def scale(self) -> int:
        """How many times larger a restored picture is, in height and width."""
        scale: int = self.model.scale
        return scale

    @property
    def channels(self) -> int:
        """Channels of the pictures that the model takes."""
        return self.tokenizer.channels

    @property
    def fidelities(self) -> tuple[float, ...]:
        """The ends of the range that `restore` takes, 0 and 1; a single one where it has no choice."""
        if not isinstance(self.model, RestorerModel):
            return (1.0,)
        return (0.0, 1.0) if self.model.fusion else (0.0,)

    @property
    def colourises(self) -> bool:
        """Whether it learnt to give grey pictures colours."""
        return self.config.data.degradation.removes_colour

    def save(self, directory: epath.PathLike) -> None:
        """Writes a model directory, which `vq_jax.load` reads, with the tokenizer's in `tokenizer/`; whole or
        not at all.

        Args:
          directory: local path or gs://. A model that is there is replaced.

        Raises:
          UserError: the directory holds something else, or cannot be written.
        """
        write_model(directory, self.files())

    def files(self) -> dict[str, bytes]:
        """The files of its model directory by their names."""
        specs = self.tokenizer.code_specs(self.tokenizer.config.data.image_size)
        codes = {"specs": specs_to_json(specs), "tokenizer": self.tokenizer.fingerprint}
        config = dataclasses.replace(self.config, tokenizer=TOKENIZER)
        files = {f"{TOKENIZER}/{name}": content for name, content in self.tokenizer.files().items()}
        return {**files, **model_files(config, self.step, self.variables, codes)}

    def restore(self, pictures: Pictures | Sequence[Pictures], *, fidelity: float | None = None) -> Any:
        """Restores pictures.

        A picture larger than 512 px, restored, or six times what the network looks at, goes through it in
        overlapping windows, so that memory does not grow with it. The result is that of the whole picture
        where the network looks at a bounded part of it. Norms and attention over the whole picture, as in a
        tokenizer of the family CNN, have no bounds: there, windows fade into one another.

        Args:
          pictures: uint8 [B, h, w, C], one picture [h, w, C], one of Pillow's, or a list of such pictures of
            any sizes.
          fidelity: 0: the picture that the predicted codes stand for; 1: as close to the input as was
            learnt; between them, a mixture. 1 when absent, or 0 for a restorer that learnt codes alone.

        Returns:
          uint8 [B, h * scale, w * scale, C], without B for one picture; a list for a list.

        Raises:
          UserError: another dtype or number of channels, or a fidelity that the model does not have.
        """
        weight = self.check_fidelity(fidelity)
        if isinstance(pictures, list | tuple):
            return [self.restore(picture, fidelity=fidelity) for picture in pictures]
        if isinstance(pictures, Image.Image):
            pictures = to_array(pictures, self.channels)
        given = np.asarray(pictures)
        single = given.ndim == 3
        if single:
            given = given[None]
        self.tokenizer.check(given)
        restored = np.stack([self._whole(picture, weight) for picture in given])
        return restored[0] if single else restored

    def _whole(self, picture: np.ndarray, weight: float) -> np.ndarray:
        stride = self.tokenizer.strides[0]
        multiple = stride // int(np.gcd(stride, self.scale))
        reach = self.model.reach
        if reach is None:
            lengths = _WINDOW, _MARGIN, _MARGIN
        else:
            lengths = max(_WINDOW, _REACHES * reach), reach, 1
        window, margin, blend = (-(-length // (self.scale * multiple)) * multiple for length in lengths)
        variables = self.model.with_tokenizer(self.variables["params"], self.tokenizer.variables)

        def network(pictures: np.ndarray) -> np.ndarray:
            return np.asarray(self._restore(variables, pictures, jnp.float32(weight)))

        options = {"window": window, "margin": margin, "blend": blend}
        return in_windows(network, picture, scale=self.scale, multiple=multiple, **options)

    def check_fidelity(self, fidelity: float | None) -> float:
        """Returns the fidelity to restore with.

        Raises:
          UserError: the model has no such fidelity.
        """
        ends = self.fidelities
        weight = ends[-1] if fidelity is None else float(fidelity)
        if not ends[0] <= weight <= ends[-1]:
            has = " to ".join(f"{end:g}" for end in ends)
            why = "" if len(ends) == 2 else f": this {self.config.kind} has no other"
            raise UserError(f"expected a fidelity of {has}{why}, got {weight:g}")
        return weight
