"""Tokenizers out of files of other projects, and back."""

import abc
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vq_jax.configs.data import DataConfig
from vq_jax.configs.discriminators import DiscriminatorConfig
from vq_jax.configs.losses import Losses
from vq_jax.configs.model_base import Architecture
from vq_jax.configs.runs import ExperimentConfig
from vq_jax.convert.base import Asked, Converted, Format, Written
from vq_jax.convert.places import PlaceOf, given_back, names_used, taken
from vq_jax.convert.torch_tensor import DTYPES, dtype_names
from vq_jax.convert.vqgan import discriminator_place
from vq_jax.convert.weights_file import WeightsFile, named
from vq_jax.errors import UserError
from vq_jax.pretrained.build import abstract_variables, build_model
from vq_jax.pretrained.model_directory import Origin, model_files
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.types import Params

_GENERIC = ("diffusion_pytorch_model", "model", "pytorch_model", "last", "checkpoint")


class TokenizerFormat(Format):
    """Files with encoder, quantizer and decoder.

    Attributes:
      discriminator_prefix: of the names of the discriminator's tensors; None where files have none.
    """

    discriminator_prefix: ClassVar[str | None] = None

    @abc.abstractmethod
    def model(self, file: WeightsFile) -> Architecture:
        """Returns the model that a file's tensors imply.

        Raises:
          UserError: they imply a network that is not among ours.
        """

    @abc.abstractmethod
    def place_of(self, model: Architecture) -> PlaceOf:
        """Returns the function to the places of the model's parameters.

        Raises:
          ValueError: files of this kind cannot hold such a model.
        """

    def prepared(self, file: WeightsFile) -> WeightsFile:
        """Returns the file with the tensors to convert under their plain names, such as averages of them."""
        return file

    def is_carried(self, name: str) -> bool:
        """Whether a tensor without use here is kept for the way back."""
        return False

    def is_left_out(self, name: str) -> bool:
        """Whether a tensor is of a part that other files have too, such as a perceptual loss."""
        return False

    def discriminator(self, file: WeightsFile) -> DiscriminatorConfig | None:
        """Returns the discriminator that a file's tensors imply, None where they have none."""
        return None

    def settings(self, file: WeightsFile) -> dict[str, Any]:
        """Returns the plain values of a file that `written` needs."""
        return {"under": file.under}

    def written(
        self, model: Architecture, tensors: dict[str, np.ndarray], settings: Mapping[str, Any]
    ) -> Written:
        """Returns the file with these tensors; the settings are those of the file that came in, if any."""
        return Written(tensors, settings.get("under", self.within[0]))

    def convert(self, file: WeightsFile, asked: Asked) -> Converted:
        """Converts a file, see `Format.convert`."""
        if asked.tokenizer is not None:
            raise UserError(f"files of {self.name} hold a tokenizer: omit --tokenizer")
        file = self.prepared(file)
        judge = self.discriminator(file)
        try:
            config = ExperimentConfig(
                name=model_name(file, self.name),
                model=self.model(file),
                data=DataConfig(image_size=asked.image_size),
                losses=Losses() if judge is None else Losses(reconstruction="l1", adversarial_weight=0.8),
                discriminator=judge or DiscriminatorConfig(),
            )
            place_of = self.place_of(config.model)
            abstract = abstract_variables(config, build_model(config))
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"{file.path} cannot be converted: {error}") from error
        params = taken(file, abstract["params"], place_of, f"model of {self.name}")
        used, arrays = names_used(abstract["params"], place_of), {}
        if judge is not None:
            shapes, place = _abstract_discriminator(config), self._judge_place
            arrays = {"discriminator": taken(file, shapes, place, f"discriminator of {self.name}")}
            used |= names_used(shapes, place)
        rest = [name for name in file.tensors if name not in used]
        unknown = [name for name in rest if not (self.is_carried(name) or self.is_left_out(name))]
        if unknown:
            raise UserError(
                f"{file.path} is not a model of {self.name} as its other tensors describe it: it has "
                f"{named(unknown)} too"
            )
        carried = [name for name in rest if self.is_carried(name)]
        origin = _origin(self.name, file, used, arrays, carried, self.settings(file))
        variables = {"params": params, "codebook": _fresh_codebook(config)}
        step = int(file.others.get("global_step", 0))
        return Converted(
            model_files(config, step, variables, origin=origin),
            _summary(config, judge is not None),
            tuple(name for name in rest if not self.is_carried(name)),
        )

    def export(self, model: Any, origin: Origin | None) -> Written:
        """Returns a tokenizer as a file, see `Format.export`."""
        if not isinstance(model, Tokenizer):
            raise UserError(
                f"files of {self.name} hold a tokenizer, and {model.config.name} is a {model.config.called}"
            )
        try:
            place_of = self.place_of(model.config.model)
            tensors = given_back(jax.device_get(model.variables["params"]), place_of)
            if origin is None or origin.format != self.name:
                return self.written(model.config.model, tensors, {})
            tensors |= self._beside(origin)
            for name, dtype in origin.dtypes.items():
                tensors[name] = tensors[name].astype(DTYPES[dtype])
            return self.written(model.config.model, tensors, origin.settings)
        except ValueError as error:
            raise UserError(
                f"{model.config.name} cannot be written as a file of {self.name}: {error}"
            ) from error

    def _beside(self, origin: Origin) -> dict[str, np.ndarray]:
        """The tensors of a file beside those of the model: of its discriminator, and those that were kept."""
        carried = {
            name.removeprefix("carried/"): array
            for name, array in origin.arrays.items()
            if name.startswith("carried/")
        }
        return {**given_back(origin.tree("discriminator"), self._judge_place), **carried}

    def _judge_place(self, path: str, shape: tuple[int, ...]) -> Any:
        return discriminator_place(self.discriminator_prefix or "", path, shape)


def _summary(config: ExperimentConfig, has_judge: bool) -> str:
    size = "x".join(map(str, config.data.picture_size))
    judge = ", with its discriminator" if has_judge else ""
    return (
        f"{config.name}: {config.model.architecture}, {config.model.quantizer.describe()}, {size} px{judge}"
    )


def _abstract_discriminator(config: ExperimentConfig) -> Params:
    network = config.discriminator.build()
    least = 3 * 2**config.discriminator.num_layers
    pictures = jax.ShapeDtypeStruct((1, least, least, config.model.image_channels), jnp.float32)
    variables: Any = jax.eval_shape(lambda images: network.init(jax.random.key(0), images), pictures)
    return dict(variables)


def _fresh_codebook(config: ExperimentConfig) -> Params:
    """The variables of a quantizer of which no code was used yet, nested as in the model's."""
    quantizer = config.model.quantizer
    latents = jnp.zeros((1, 1, quantizer.latent_channels), jnp.float32)
    variables: Any = jax.jit(quantizer.build().init)(jax.random.key(0), latents)
    return {"quantizer": variables["codebook"]} if "codebook" in variables else {}


def _origin(
    format: str,
    file: WeightsFile,
    used: set[str],
    arrays: Params,
    carried: list[str],
    settings: dict[str, Any],
) -> Origin:
    kept: dict[str, Any] = traverse_util.flatten_dict(arrays, sep="/") if arrays else {}
    kept |= {f"carried/{name}": file.array(name) for name in carried}
    dtypes = dtype_names({name: tensor for name, tensor in file.tensors.items() if name in used})
    return Origin(format, dtypes, kept, settings)


def model_name(file: WeightsFile, otherwise: str) -> str:
    """Returns a name for a model: that of its file or folder, as far as a run may have it."""
    stem = file.path.parent.name if file.path.stem in _GENERIC else file.path.stem
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    return name if re.search("[a-z]", name) else otherwise
