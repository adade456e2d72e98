"""Evaluation weights out of the checkpoints of a run: no moments and no discriminator are read."""

from typing import Any

import jax
from etils import epath
from flax import traverse_util

from vq_jax.configs.runs import RunConfig
from vq_jax.errors import UserError
from vq_jax.runs.checkpoint import Checkpointer
from vq_jax.runs.rundir import CHECKPOINTS


def params_name(config: RunConfig) -> str:
    """Name in a run's state of the parameters to evaluate with: their running average if it keeps one."""
    return "ema_params" if config.training.ema_decay > 0 else "params"


def restore_weights(
    run: epath.PathLike,
    config: RunConfig,
    wanted: dict[str, Any],
    *,
    best: bool = False,
    step: int | None = None,
    prefer_step: int | None = None,
) -> tuple[int, dict[str, Any]]:
    """Restores parts of a run's state in NumPy; the mesh of the run need not be there.

    Args:
      run: its directory.
      config: its configuration.
      wanted: shapes of the parts, nested dictionaries by their place in the state, such as
        "generator/params".
      best: restore the checkpoint with the lowest validation loss rather than the newest.
      step: restore the checkpoint of this step.
      prefer_step: restore the checkpoint of this step if there is one.

    Returns:
      The step of the checkpoint, and the arrays of each part.

    Raises:
      UserError: no whole checkpoint, none of that step, or one of another model.
    """
    held = {place: tree for place, tree in wanted.items() if jax.tree.leaves(tree)}
    target, parts = traverse_util.unflatten_dict(held, sep="/"), tuple(wanted)
    keep = config.training.keep_checkpoints
    with Checkpointer(epath.Path(run) / CHECKPOINTS, keep=keep, read_only=True) as checkpointer:
        if prefer_step in checkpointer.steps():
            step = prefer_step
        elif best:
            step = checkpointer.best_step()
        if step is None:
            restored = checkpointer.restore_latest(target, parts)
        else:
            restored = checkpointer.restore(step, target, parts)
    if restored is None:
        raise UserError(f"{run} holds no checkpoint yet: let `vq-jax train` reach its first save")
    found = dict(wanted)
    for place in held:
        found[place] = restored.state
        for key in place.split("/"):
            found[place] = found[place][key]
    return restored.step, found
