"""The codes that a prior will learn, described from presets before any tokenizer is trained."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from vq_jax.configs.presets import load_preset, presets
from vq_jax.configs.runs import ExperimentConfig, PriorConfig, RestorerConfig
from vq_jax.errors import UserError
from vq_jax.nn import VQModel
from vq_jax.pretrained.build import abstract_variables, build_model
from vq_jax.train import sharding
from vq_jax.types import CodeSpec, CodeSpecs

# Sources whose pictures have labels, with the number of classes.
_CLASSES = {
    "fashion": 10,
    "tfds:imagenet2012": 1000,
    "tfds:cifar10": 10,
    "tfds:mnist": 10,
    "tfds:ucf101": 101,
}


@dataclasses.dataclass(frozen=True)
class PlannedCodes:
    """What a prior's step has to know of its codes.

    Attributes:
      config: the tokenizer's configuration, computing in the prior's dtype.
      model: the tokenizer.
      image_shape: shape (*S, C) of the pictures that it encodes for the prior.
      specs: of the codes.
      num_classes: of the pictures; None without labels.
    """

    config: ExperimentConfig
    model: VQModel
    image_shape: tuple[int, ...]
    specs: CodeSpecs
    num_classes: int | None

    def abstract_batch(self, batch_size: int, mesh: Mesh, views: int | None = None) -> dict[str, Any]:
        """Shapes and shardings of a batch of codes, and of their labels where there are any, see
        `abstract_batch`."""
        return abstract_batch(self.specs, self.num_classes, batch_size, mesh, views)

    def abstract_variables(self, mesh: Mesh) -> Any:
        """Shapes of the tokenizer's variables, whole on every device."""
        return sharding.abstract(abstract_variables(self.config, self.model), sharding.replicated(mesh))


def abstract_batch(
    specs: CodeSpecs, num_classes: int | None, batch_size: int, mesh: Mesh, views: int | None = None
) -> dict[str, Any]:
    """Shapes and shardings of a batch of codes, of labels if there are classes, and of views of a width."""
    batch = {
        "codes": jax.tree.map(
            lambda spec: jax.ShapeDtypeStruct((batch_size, *spec.array_shape), jnp.int32), specs
        )
    }
    if num_classes is not None:
        batch["label"] = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    if views is not None and isinstance(specs, CodeSpec):
        batch["past"] = batch["codes"]
        batch["views"] = jax.ShapeDtypeStruct((batch_size, *specs.shape, views), jnp.float32)
    return sharding.abstract(batch, sharding.batch_sharding(mesh))


def planned_codes(
    config: PriorConfig | RestorerConfig, tokenizer: str | None, classes: int | None
) -> PlannedCodes:
    """Describes the codes that a configuration is over.

    Args:
      config: of a prior or a restorer.
      tokenizer: preset or file of the tokenizer; the preset that the tokenizer's run is named after when
        absent.
      classes: number of the pictures' classes, 0 for none; known for some sources when absent.

    Raises:
      UserError: tokenizer or number of classes are not known, or do not fit the configuration.
    """
    found = tokenizer_preset(config, tokenizer)
    data = config.data.resolve(found.data)
    found = dataclasses.replace(found, training=config.training)
    model = build_model(found)
    image_shape = (*data.lengths, found.model.image_channels)
    classes = num_classes(config, data.source, classes)
    return PlannedCodes(found, model, image_shape, model.code_specs(image_shape), classes)


def tokenizer_preset(config: PriorConfig | RestorerConfig, tokenizer: str | None) -> ExperimentConfig:
    """The configuration of the tokenizer, see `planned_codes`."""
    name = tokenizer or Path(config.tokenizer).name
    if tokenizer is None and name not in presets():
        raise UserError(
            f"{config.name} learns the codes of {config.tokenizer or 'a run yet to be named'}: "
            "give --tokenizer PRESET, the preset or file of that tokenizer"
        )
    found = load_preset(name)
    if not isinstance(found, ExperimentConfig):
        raise UserError(f"expected a tokenizer's preset for --tokenizer, {name} is that of a {found.called}")
    return found


def num_classes(config: PriorConfig | RestorerConfig, source: str, classes: int | None) -> int | None:
    """The classes of the condition, see `planned_codes`; None for an unconditional prior."""
    if not getattr(config, "conditional", False):
        return None
    if classes is None and source != "photos" and source not in _CLASSES:
        raise UserError(f"the number of classes of {source} is not known here: give --classes N, 0 for none")
    return (classes if classes is not None else _CLASSES.get(source)) or None
