"""Trained restorers out of runs and model directories."""

from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from vq_jax.configs.runs import RestorerConfig
from vq_jax.configs.serialize import specs_from_json
from vq_jax.errors import UserError
from vq_jax.pretrained.build import abstract_restorer, build_restorer, image_shape
from vq_jax.pretrained.load_tokenizer import load_tokenizer
from vq_jax.pretrained.model_directory import TOKENIZER, ModelDirectory
from vq_jax.pretrained.record import find_tokenizer, load_same_tokenizer, require_record
from vq_jax.pretrained.restore import params_name, restore_weights
from vq_jax.pretrained.restorer import Restorer
from vq_jax.pretrained.tokenizer import Tokenizer


def restore_restorer(
    run: epath.PathLike,
    config: RestorerConfig,
    *,
    best: bool = False,
    step: int | None = None,
    tokenizer: epath.PathLike | None = None,
) -> Restorer:
    """Loads the restorer of a run with its tokenizer; see `load.load`.

    Raises:
      UserError: no whole checkpoint, or the tokenizer is missing or gives other codes.
    """
    record = require_record(run)
    found_tokenizer = find_tokenizer(run, config, record, given=tokenizer)
    model = build_restorer(config, found_tokenizer.config, record.specs, config.data.degradation.scale)
    place = f"generator/{params_name(config)}"
    wanted = {place: _abstract(model, found_tokenizer)}
    step, found = restore_weights(run, config, wanted, best=best, step=step)
    variables = {"params": jax.tree.map(jnp.asarray, found[place])}
    return Restorer(model, variables, found_tokenizer, config, step)


def read_restorer(
    saved: ModelDirectory,
    config: RestorerConfig,
    *,
    step: int | None = None,
    tokenizer: epath.PathLike | None = None,
) -> Restorer:
    """Loads the restorer of a model directory with its tokenizer; see `load.load`.

    Raises:
      UserError: a file is missing or damaged, the model is of another step, or the tokenizer given gives
        other codes.
    """
    saved.require_step(step)
    try:
        specs, fingerprint = specs_from_json(saved.codes["specs"]), saved.codes["tokenizer"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{saved.path} does not say what codes its restorer predicts: {error!r}") from error
    if tokenizer is not None:
        found_tokenizer = load_same_tokenizer(tokenizer, fingerprint, saved.path)
    else:
        found_tokenizer = load_tokenizer(saved.path / TOKENIZER)
    model = build_restorer(config, found_tokenizer.config, specs, config.data.degradation.scale)
    weights = saved.weights({"params": _abstract(model, found_tokenizer)})
    variables = jax.tree.map(jnp.asarray, dict(weights))
    return Restorer(model, variables, found_tokenizer, config, saved.step)


def _abstract(model: Any, tokenizer: Tokenizer) -> Any:
    return abstract_restorer(model, image_shape(tokenizer.config))["params"]
