"""Trained priors out of runs and model directories."""

import jax
import jax.numpy as jnp
from etils import epath

from vq_jax.configs.data import image_size_of
from vq_jax.configs.runs import NoiseConfig, PriorConfig
from vq_jax.configs.serialize import specs_from_json
from vq_jax.errors import UserError
from vq_jax.pretrained.build import abstract_prior, build_prior
from vq_jax.pretrained.load_tokenizer import load_tokenizer
from vq_jax.pretrained.model_directory import TOKENIZER, ModelDirectory
from vq_jax.pretrained.prior import Prior
from vq_jax.pretrained.record import find_tokenizer, load_same_tokenizer, require_record
from vq_jax.pretrained.restore import params_name, restore_weights


def restore_prior(
    run: epath.PathLike,
    config: PriorConfig,
    *,
    best: bool = False,
    step: int | None = None,
    tokenizer: epath.PathLike | None = None,
) -> Prior:
    """Loads the prior of a run with its tokenizer; see `load.load`.

    Raises:
      UserError: no whole checkpoint, or the tokenizer is missing or gives other codes.
    """
    record = require_record(run)
    found_tokenizer = find_tokenizer(run, config, record, given=tokenizer)
    model = build_prior(config, record.specs, record.num_classes, found_tokenizer.config)
    place = params_name(config)
    if isinstance(config, NoiseConfig):  # trained beside a discriminator
        place = f"generator/{place}"
    wanted = {place: abstract_prior(model)["params"]}
    step, found = restore_weights(run, config, wanted, best=best, step=step)
    variables = {"params": jax.tree.map(jnp.asarray, found[place])}
    return Prior(model, variables, found_tokenizer, config, step, record.image_size, record.frames)


def read_prior(
    saved: ModelDirectory,
    config: PriorConfig,
    *,
    step: int | None = None,
    tokenizer: epath.PathLike | None = None,
) -> Prior:
    """Loads the prior of a model directory with its tokenizer; see `load.load`.

    Raises:
      UserError: a file is missing or damaged, the model is of another step, or the tokenizer given gives
        other codes.
    """
    saved.require_step(step)
    fingerprint = saved.codes.get("tokenizer")
    if tokenizer is not None and fingerprint is not None:
        found_tokenizer = load_same_tokenizer(tokenizer, fingerprint, saved.path)
    else:
        found_tokenizer = load_tokenizer(saved.path / TOKENIZER)
        if tokenizer is not None:
            found_tokenizer = load_same_tokenizer(tokenizer, found_tokenizer.fingerprint, saved.path)
    try:
        specs = specs_from_json(saved.codes["specs"])
        num_classes, image_size = saved.codes["num_classes"], image_size_of(saved.codes["image_size"])
        frames = saved.codes.get("frames")  # absent from directories written before there were clips
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{saved.path} does not say what codes its prior models: {error!r}") from error
    model = build_prior(config, specs, num_classes, found_tokenizer.config)
    variables = jax.tree.map(jnp.asarray, dict(saved.weights(abstract_prior(model))))
    return Prior(model, variables, found_tokenizer, config, saved.step, image_size, frames)
