"""Trained models, by the place where they are."""

from etils import epath

from vq_jax.configs.runs import PriorConfig
from vq_jax.pretrained.hub import local_copy
from vq_jax.pretrained.load_prior import read_prior, restore_prior
from vq_jax.pretrained.load_tokenizer import load_tokenizer
from vq_jax.pretrained.model_directory import open_model
from vq_jax.pretrained.prior import Prior
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.runs.rundir import read_config


def load(place: epath.PathLike, *, best: bool = False) -> Tokenizer | Prior:
    """Loads a trained model: a tokenizer, or a prior with its tokenizer.

    Args:
      place: a run or model directory, local or gs://, or the name owner/name of a model of the Hugging Face
        hub.
      best: of a run, take the checkpoint with the lowest validation loss rather than the newest.

    Raises:
      UserError: there is no such directory; no whole checkpoint in it; a file of it is damaged; or the
        tokenizer that a prior was trained on is missing or gives other codes.
    """
    directory = local_copy(place)
    saved = open_model(directory)
    config = read_config(directory) if saved is None else saved.config
    if not isinstance(config, PriorConfig):
        return load_tokenizer(directory, best=best)
    return restore_prior(directory, config, best=best) if saved is None else read_prior(saved, config)
