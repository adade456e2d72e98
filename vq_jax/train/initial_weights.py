"""The weights of another run or model that a run starts from, see `TrainingConfig.init`."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from flax import traverse_util
from jax.sharding import Mesh

from vq_jax.configs.model_base import Architecture
from vq_jax.configs.runs import ExperimentConfig, PriorConfig, RestorerConfig
from vq_jax.configs.serialize import part_to_dict
from vq_jax.errors import UserError, require
from vq_jax.nn import VQModel, inflate
from vq_jax.pretrained.build import abstract_prior, abstract_variables
from vq_jax.pretrained.hub import local_copy
from vq_jax.pretrained.load import load
from vq_jax.pretrained.model_directory import open_model
from vq_jax.pretrained.prior import Prior
from vq_jax.pretrained.restore import restore_weights
from vq_jax.pretrained.restorer import Restorer
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.runs.rundir import has_checkpoint
from vq_jax.train.optimizers import init_optimizer
from vq_jax.train.sharding import replicate, shard_state, state_sharding
from vq_jax.train.state import DiscriminatorState
from vq_jax.types import Params

_DISCRIMINATOR = "discriminator"
_log = logging.getLogger("vq_jax")


@dataclasses.dataclass(frozen=True)
class InitialWeights:
    """What a run starts from.

    Attributes:
      variables: `params` and, of a tokenizer, `codebook`: the weights that the other run evaluates with.
      discriminator: `params` and `batch_stats` of its discriminator; None where there is none to start from.
    """

    variables: Params
    discriminator: Params | None = None

    def network(self, state: Any, optimizer: optax.GradientTransformation, mesh: Mesh) -> Any:
        """The first state of a generator or prior with these weights, in the place of random ones."""

        def begin(state: Any, variables: Params) -> Any:
            params = variables["params"]
            new: dict[str, Any] = {"params": params, "opt_state": init_optimizer(optimizer, params)}
            if state.ema_params is not None:
                new["ema_params"] = jax.tree.map(jnp.copy, params)  # the step donates both
            if "codebook" in variables:
                new["codebook"] = variables["codebook"]
            return dataclasses.replace(state, **new)

        variables = replicate(dict(self.variables), mesh)
        shardings = state_sharding(jax.eval_shape(begin, state, variables), mesh)
        return jax.jit(begin, out_shardings=shardings)(state, variables)

    def judge(self, state: DiscriminatorState | None, mesh: Mesh) -> DiscriminatorState | None:
        """The first state of the discriminator, with these weights where there are some."""
        if state is None or self.discriminator is None:
            return state
        found = replicate(self.discriminator, mesh)
        return shard_state(dataclasses.replace(state, **found), mesh)


def initial_tokenizer(
    config: ExperimentConfig,
    workdir: epath.Path,
    model: VQModel,
    discriminator: Callable[[], DiscriminatorState | None],
) -> InitialWeights | None:
    """Loads the weights that a tokenizer's run starts from.

    Args:
      config: the run's.
      workdir: its directory; a run with a checkpoint starts from that.
      model: the network of the run.
      discriminator: function to the shapes of its discriminator's first state, None where it has none.

    Returns:
      The weights; None for a run that starts from random ones, or resumes.

    Raises:
      UserError: there is no such run or model, or its model is another one.
    """
    if config.training.inflate:
        return _inflated(config, workdir, model)
    found = _found(config, workdir, Tokenizer)
    if found is None:
        return None
    place = config.training.init
    _check_same(place, found.variables, abstract_variables(config, model), found.config.model, config.model)
    judge = _discriminator(config, found, discriminator()) if config.losses.has_discriminator else None
    _say(place, found.step, config.training.init_parts, judge, config.losses.has_discriminator)
    return InitialWeights(found.variables, judge)


def initial_prior(
    config: PriorConfig, workdir: epath.Path, model: Any, tokenizer: Tokenizer
) -> InitialWeights | None:
    """Loads the weights that a prior's run starts from, see `initial_tokenizer`.

    Args:
      config: the run's.
      workdir: its directory.
      model: the prior.
      tokenizer: whose codes it learns.

    Raises:
      UserError: there is no such run or model, its prior is another one, or it is over other codes.
    """
    found = _found(config, workdir, Prior)
    if found is None:
        return None
    place = config.training.init
    if found.tokenizer.fingerprint != tokenizer.fingerprint:
        raise UserError(
            f"the prior in {place} models the codes of another tokenizer than the one in {config.tokenizer}: "
            "give the tokenizer that it was trained on"
        )
    _check_same(place, found.variables, abstract_prior(model), found.config.prior, config.prior)
    _say(place, found.step, (), None, False)
    return InitialWeights(found.variables)


def initial_restorer(config: RestorerConfig, workdir: epath.Path, params: Params) -> InitialWeights | None:
    """Loads the weights that a restorer's run starts from, see `initial_tokenizer`.

    Args:
      config: the run's.
      workdir: its directory.
      params: shapes of the parameters to train.

    Raises:
      UserError: there is no such run or model, or its network is another one.
    """
    found = _found(config, workdir, Restorer)
    if found is None:
        return None
    place = config.training.init
    _check_same(place, found.variables, {"params": params}, found.config.restorer, config.restorer)
    _say(place, found.step, (), None, False)
    return InitialWeights(found.variables)


def _inflated(config: ExperimentConfig, workdir: epath.Path, model: VQModel) -> InitialWeights | None:
    """The weights of a tokenizer of pictures, inflated for one of video; None for a run that resumes."""
    found = _found(config, workdir, Tokenizer)
    if found is None:
        return None
    place, here, there = config.training.inflate, config.model, found.config.model
    try:
        require(
            found.model.strides(2) == model.strides(2) and there.image_channels == here.image_channels,
            f"it has {_patch(found.model, there)} a code, and {config.name} has {_patch(model, here)}",
        )
        variables = inflate(found.variables, abstract_variables(config, model))
    except ValueError as error:
        raise UserError(
            f"the weights in {place}, of {there.architecture}, are not those of {here.architecture} for "
            f"pictures: {error}"
        ) from error
    _say(place, found.step, (), None, config.losses.has_discriminator)
    return InitialWeights(variables)


def _patch(model: VQModel, config: Architecture) -> str:
    return f"{' x '.join(map(str, model.strides(2)))} pixels in {config.image_channels} channels"


def _found(config: Any, workdir: epath.Path, kind: type) -> Any:
    place = config.training.init or config.training.inflate
    if not place or has_checkpoint(workdir):
        return None
    found = load(place)
    if not isinstance(found, kind):
        raise UserError(
            f"{config.name} trains a {kind.__name__.lower()}, and {place} holds a "
            f"{type(found).__name__.lower()}: give a run of the same kind"
        )
    return found


def _check_same(place: str, found: Params, wanted: Params, there: Any, here: Any) -> None:
    """Raises UserError where the two models have other arrays; says which of their fields differ."""
    old, new = (_fields(config) for config in (there, here))
    differing = [
        f"{name}: {old.get(name)} there, {new.get(name)} here"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if _shapes(found) != _shapes(wanted):
        some = "; ".join(differing[:4]) or "its arrays have other shapes, as with other data or losses"
        raise UserError(
            f"the model in {place} is not the one to train: {some}.\nTo start from it, give the same values"
        )
    if differing:
        _log.warning("The model in %s has the same weights and other fields: %s", place, "; ".join(differing))


def _fields(config: Any) -> dict[str, Any]:
    return dict(traverse_util.flatten_dict(part_to_dict(config), sep="."))


def _shapes(tree: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(dict(tree))
    return {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in leaves}


def _discriminator(config: ExperimentConfig, found: Tokenizer, wanted: Any) -> Params | None:
    """The weights of the other run's discriminator; None where it has none like the one to train."""
    place, there = config.training.init, found.config
    same = dataclasses.replace(there.discriminator, optimizer=config.discriminator.optimizer)
    if not there.losses.has_discriminator or same != config.discriminator:
        return None
    saved = open_model(local_copy(place))
    if saved is not None:
        origin = saved.origin()
        return (origin.tree(_DISCRIMINATOR) or None) if origin is not None else None
    parts = {
        f"{_DISCRIMINATOR}/{name}": jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), getattr(wanted, name)
        )
        for name in ("params", "batch_stats")
    }
    _, weights = restore_weights(place, there, parts, prefer_step=found.step)
    return {name.partition("/")[2]: jax.tree.map(np.asarray, tree) for name, tree in weights.items()}


def _say(
    place: str, step: int, parts: tuple[str, ...], judge: Params | None, has_discriminator: bool
) -> None:
    training = f"; training {' and '.join(parts)} only" if parts else ""
    if has_discriminator:
        training += "; its discriminator too" if judge is not None else "; with a new discriminator"
    _log.info("Starting from the weights in %s, of step %d%s.", place, step, training)
