"""Priors out of files of other projects, and back."""

import abc
from typing import Any

import jax

from vq_jax.configs.priors import PriorArchitecture
from vq_jax.configs.runs import PriorConfig
from vq_jax.convert.base import Asked, Converted, Format, Written
from vq_jax.convert.places import PlaceOf, given_back, names_used, taken
from vq_jax.convert.tokenizers import model_name
from vq_jax.convert.torch_tensor import DTYPES, dtype_names
from vq_jax.convert.weights_file import WeightsFile, named
from vq_jax.errors import UserError
from vq_jax.pretrained.build import abstract_prior, build_prior
from vq_jax.pretrained.load_tokenizer import load_tokenizer
from vq_jax.pretrained.model_directory import Origin
from vq_jax.pretrained.prior import Prior
from vq_jax.types import CodeSpec


class PriorFormat(Format):
    """Files with a prior over the codes of a tokenizer, which has a file of its own."""

    @abc.abstractmethod
    def prior(self, file: WeightsFile, codebook_size: int) -> tuple[PriorArchitecture, int]:
        """Returns the prior that a file's tensors imply, and how many classes it has.

        Args:
          file: it.
          codebook_size: number of codes of the tokenizer.

        Raises:
          UserError: the prior models another number of codes, or is not among ours.
        """

    @abc.abstractmethod
    def place_of(self, prior: Any) -> PlaceOf:
        """Returns the function to the places of the prior's parameters.

        Raises:
          ValueError: files of this kind cannot hold such a prior.
        """

    def prepared(self, file: WeightsFile) -> WeightsFile:
        """Returns the file with its tensors under plain names."""
        return file

    def convert(self, file: WeightsFile, asked: Asked) -> Converted:
        """Converts a file, see `Format.convert`."""
        if asked.tokenizer is None:
            raise UserError(
                f"expected the tokenizer whose codes the prior in {file.path} models: convert it first, "
                "and give its model directory as --tokenizer DIR"
            )
        file = self.prepared(file)
        tokenizer = load_tokenizer(asked.tokenizer)
        specs = tokenizer.code_specs(asked.image_size)
        if not isinstance(specs, CodeSpec) or specs.codes_per_position > 1:
            raise UserError(
                f"files of {self.name} model one grid of codes, one a position, and the tokenizer in "
                f"{asked.tokenizer} has others"
            )
        prior, classes = self.prior(file, specs.codebook_size)
        try:
            config = PriorConfig(model_name(file, self.name), prior)
        except ValueError as error:
            raise UserError(f"{file.path} cannot be converted: {error}") from error
        model = build_prior(config, specs, classes, tokenizer.config)
        abstract, place_of = abstract_prior(model)["params"], self.place_of(prior)
        params = taken(
            file, abstract, place_of, f"model of {self.name} for pictures of {asked.image_size} px"
        )
        used = names_used(abstract, place_of)
        unknown = [name for name in file.tensors if name not in used]
        if unknown:
            raise UserError(
                f"{file.path} is not a model of {self.name} as its other tensors describe it: it has "
                f"{named(unknown)} too"
            )
        found = Prior(model, {"params": params}, tokenizer, config, 0, asked.image_size)
        origin = Origin(self.name, dtype_names(file.tensors), {}, {"under": file.under})
        return Converted(found.files(origin), f"{config.name}: {prior.architecture}, {classes} classes")

    def export(self, model: Any, origin: Origin | None) -> Written:
        """Returns a prior as a file, see `Format.export`."""
        if not isinstance(model, Prior) or model.num_classes is None:
            raise UserError(
                f"files of {self.name} hold a prior with classes, and {model.config.name} is none"
            )
        try:
            tensors = given_back(jax.device_get(model.variables["params"]), self.place_of(model.config.prior))
        except ValueError as error:
            raise UserError(
                f"{model.config.name} cannot be written as a file of {self.name}: {error}"
            ) from error
        if origin is None or origin.format != self.name:
            return Written(tensors, self.within[0])
        for name, dtype in origin.dtypes.items():
            tensors[name] = tensors[name].astype(DTYPES[dtype])
        return Written(tensors, origin.settings.get("under"))


def check_codes(file: WeightsFile, codes: int, codebook_size: int) -> None:
    """Checks that a prior models as many codes as the tokenizer has.

    Raises:
      UserError: it does not.
    """
    if codes != codebook_size:
        raise UserError(
            f"the prior in {file.path} models {codes} codes, and the tokenizer has {codebook_size}: give the "
            "one that it was trained on"
        )
