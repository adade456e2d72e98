"""Trained tokenizers out of runs and model directories."""

import jax
import jax.numpy as jnp
from etils import epath

from vq_jax.configs.runs import ExperimentConfig
from vq_jax.errors import UserError
from vq_jax.pretrained.build import abstract_variables, build_model
from vq_jax.pretrained.hub import local_copy
from vq_jax.pretrained.model_directory import open_model
from vq_jax.pretrained.restore import params_name, restore_weights
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.runs.rundir import read_config


def load_tokenizer(
    place: epath.PathLike, *, best: bool = False, step: int | None = None, prefer_step: int | None = None
) -> Tokenizer:
    """Loads a tokenizer.

    Args:
      place: a run or model directory, local or gs://, or hf://owner/name, a model of the hub.
      best: of a run, the checkpoint with the lowest validation loss rather than the newest.
      step: of a run, the checkpoint of this step.
      prefer_step: of a run, the checkpoint of this step if there is one.

    Raises:
      UserError: there is none, or it is another kind of model, or its files cannot be read.
    """
    directory = local_copy(place)
    saved = open_model(directory)
    config = read_config(directory) if saved is None else saved.config
    if not isinstance(config, ExperimentConfig):
        raise UserError(f"expected a tokenizer, {place} holds a {config.called}, {config.name}")
    model = build_model(config)
    abstract = abstract_variables(config, model)
    if saved is not None:
        saved.require_step(step)
        step, variables = saved.step, saved.weights(abstract)
    else:
        places = {"params": f"generator/{params_name(config)}", "codebook": "generator/codebook"}
        wanted = {places[name]: tree for name, tree in abstract.items()}
        step, found = restore_weights(
            directory, config, wanted, best=best, step=step, prefer_step=prefer_step
        )
        variables = {name: found[places[name]] for name in abstract}
    return Tokenizer(model, jax.tree.map(jnp.asarray, dict(variables)), config, step)
