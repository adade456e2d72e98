"""Trained priors out of their run directories."""

from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from vq_jax.configs.runs import NoiseConfig, PriorConfig
from vq_jax.errors import UserError
from vq_jax.pretrained.prior import Prior
from vq_jax.pretrained.restore import find_tokenizer, read_record, restore
from vq_jax.train.tasks.noise import build_noise, noise_state
from vq_jax.train.tasks.prior import build_prior, prior_state


def load_prior(run: epath.PathLike, config: PriorConfig, *, best: bool = False) -> Prior:
    """Loads a trained prior with its tokenizer; see `restore.restore`.

    Raises:
      UserError: no whole checkpoint, or the tokenizer is missing or gives other codes.
    """
    record = read_record(run)
    if record is None:
        raise UserError(f"{run} holds no checkpoint yet: let `vq-jax train` reach its first save")
    tokenizer = find_tokenizer(run, config, record)
    rng = jax.random.key(0)
    if isinstance(config, NoiseConfig):
        model: Any = build_noise(config, record, tokenizer)
        state: Any = jax.eval_shape(lambda: noise_state(rng, config, record, tokenizer, model))
        restored = restore(run, config, state, best=best)
        params = restored.state.generator.eval_params
    else:
        model = build_prior(config, record)
        state = jax.eval_shape(lambda: prior_state(rng, config, model))
        restored = restore(run, config, state, best=best)
        params = restored.state.eval_params
    variables = {"params": jax.tree.map(jnp.asarray, params)}
    return Prior(model, variables, tokenizer, config, restored.step, record.image_size)
