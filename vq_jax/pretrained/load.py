"""Trained models, by the place where they are."""

from etils import epath

from vq_jax.configs.runs import PriorConfig, RestorerConfig
from vq_jax.errors import UserError
from vq_jax.pretrained.hub import local_copy
from vq_jax.pretrained.load_prior import read_prior, restore_prior
from vq_jax.pretrained.load_restorer import read_restorer, restore_restorer
from vq_jax.pretrained.load_tokenizer import load_tokenizer
from vq_jax.pretrained.model_directory import open_model
from vq_jax.pretrained.prior import Prior
from vq_jax.pretrained.restorer import Restorer
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.runs.rundir import read_config

_LOADERS = {
    "tokenizer": "load_tokenizer",
    "prior": "load_prior",
    "noise": "load_prior",
    "restorer": "load_restorer",
    "regressor": "load_restorer",
}


def load(
    place: epath.PathLike,
    *,
    best: bool = False,
    step: int | None = None,
    tokenizer: epath.PathLike | None = None,
) -> Tokenizer | Prior | Restorer:
    """Loads a trained model: a tokenizer, or a prior or a restorer with its tokenizer.

    Args:
      place: a run or model directory, local or gs://, or hf://owner/name, a model of the Hugging Face
        hub.
      best: of a run, take the checkpoint with the lowest validation loss rather than the newest.
      step: of a run, take the checkpoint of this step.
      tokenizer: of a prior or a restorer, where its tokenizer is: a run or model directory, or a name of the
        hub. When absent, the copy that its run keeps, or where the run found it.

    Raises:
      UserError: there is no such directory; no whole checkpoint in it, or none of that step; a file of it is
        damaged; or the tokenizer that a model was trained on is missing or gives other codes.
    """
    if best and step is not None:
        raise UserError(f"expected best or a step, got both: best=True and step={step}")
    directory = local_copy(place)
    saved = open_model(directory)
    config = read_config(directory) if saved is None else saved.config
    if isinstance(config, RestorerConfig):
        if saved is not None:
            return read_restorer(saved, config, step=step, tokenizer=tokenizer)
        return restore_restorer(directory, config, best=best, step=step, tokenizer=tokenizer)
    if not isinstance(config, PriorConfig):
        if tokenizer is not None:
            raise UserError(f"{place} holds a tokenizer: give no other one ({tokenizer})")
        return load_tokenizer(directory, best=best, step=step)
    if saved is not None:
        return read_prior(saved, config, step=step, tokenizer=tokenizer)
    return restore_prior(directory, config, best=best, step=step, tokenizer=tokenizer)


def load_prior(
    place: epath.PathLike,
    *,
    best: bool = False,
    step: int | None = None,
    tokenizer: epath.PathLike | None = None,
) -> Prior:
    """Loads a prior with its tokenizer; arguments as for `load`.

    Raises:
      UserError: as for `load`, or the model is of another kind.
    """
    model = load(place, best=best, step=step, tokenizer=tokenizer)
    if not isinstance(model, Prior):
        config = model.config
        raise UserError(f"expected a prior, {place} holds a {config.called}: use {_LOADERS[config.kind]}")
    return model


def load_restorer(
    place: epath.PathLike,
    *,
    best: bool = False,
    step: int | None = None,
    tokenizer: epath.PathLike | None = None,
) -> Restorer:
    """Loads a restorer, or a regressor, with its tokenizer; arguments as for `load`.

    Raises:
      UserError: as for `load`, or the model is of another kind.
    """
    model = load(place, best=best, step=step, tokenizer=tokenizer)
    if not isinstance(model, Restorer):
        config = model.config
        raise UserError(f"expected a restorer, {place} holds a {config.called}: use {_LOADERS[config.kind]}")
    return model
