"""Trained models out of their run directories, and the tie between a prior's run and its tokenizer's."""

import dataclasses
import json
import os
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from vq_jax.configs.runs import ExperimentConfig, PriorConfig, RunConfig
from vq_jax.configs.serialize import specs_from_json, specs_to_json
from vq_jax.errors import UserError
from vq_jax.host.storage import require_storage
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.runs.checkpoint import Checkpointer, Restored
from vq_jax.runs.rundir import CHECKPOINTS, CONFIG_FILE, read_config
from vq_jax.train.tasks.tokenizer import abstract_state, build_model
from vq_jax.types import CodeSpecs

_RECORD = "tokenizer.json"


def restore(
    run: epath.PathLike,
    config: RunConfig,
    state: Any,
    *,
    best: bool = False,
    prefer_step: int | None = None,
) -> Restored:
    """Restores a run's state onto one device; the mesh of the run need not be there.

    Args:
      run: its directory.
      config: its configuration.
      state: shapes of its state.
      best: the checkpoint with the lowest validation loss rather than the newest.
      prefer_step: the checkpoint of this step where it is there still.

    Raises:
      UserError: no whole checkpoint.
    """
    target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    keep = config.training.keep_checkpoints
    with Checkpointer(epath.Path(run) / CHECKPOINTS, keep=keep, read_only=True) as checkpointer:
        step = checkpointer.best_step() if best else None
        if prefer_step in checkpointer.steps():
            step = prefer_step
        restored = checkpointer.restore_latest(target) if step is None else checkpointer.restore(step, target)
    if restored is None:
        raise UserError(f"{run} holds no checkpoint yet: let `vq-jax train` reach its first save")
    return restored


def load_tokenizer(run: epath.PathLike, *, best: bool = False, prefer_step: int | None = None) -> Tokenizer:
    """Loads the tokenizer of a run; see `restore`.

    Raises:
      UserError: no run directory, one of a prior, or no whole checkpoint in it.
    """
    config = read_config(run)
    if not isinstance(config, ExperimentConfig):
        raise UserError(f"expected the run of a tokenizer, {run} is that of a prior, {config.name}")
    model = build_model(config)
    anywhere = dataclasses.replace(config.training, mesh_data=-1, mesh_fsdp=1)
    state = abstract_state(dataclasses.replace(config, training=anywhere), model)
    restored = restore(run, config, state, best=best, prefer_step=prefer_step)
    generator = restored.state.generator
    variables = {"params": generator.eval_params, "codebook": generator.codebook}
    return Tokenizer(model, jax.tree.map(jnp.asarray, variables), config, restored.step)


@dataclasses.dataclass(frozen=True)
class TokenizerRecord:
    """What a prior's run keeps of its tokenizer: where it was, which it was, and what its codes are like."""

    path: str
    relative: str | None  # to the prior's run
    fingerprint: str
    step: int
    specs: CodeSpecs
    num_classes: int | None
    image_size: int

    def write(self, workdir: epath.Path) -> None:
        """Writes it into the prior's run, whole or not at all."""
        values = {**dataclasses.asdict(self), "specs": specs_to_json(self.specs)}
        part = workdir / f"{_RECORD}.part"
        part.write_text(json.dumps(values, indent=2) + "\n")
        part.replace(workdir / _RECORD)


def read_record(workdir: epath.PathLike) -> TokenizerRecord | None:
    """Reads what a prior's run keeps of its tokenizer; None where there is nothing yet.

    Raises:
      UserError: it cannot be read.
    """
    require_storage(workdir)
    path = epath.Path(workdir) / _RECORD
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text())
        return TokenizerRecord(**{**values, "specs": specs_from_json(values["specs"])})
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def make_record(
    workdir: epath.Path, run: str, tokenizer: Tokenizer, num_classes: int | None, image_size: int
) -> TokenizerRecord:
    """Describes a tokenizer for a prior's run."""
    remote = "://" in run or "://" in os.fspath(workdir)
    return TokenizerRecord(
        path=run if remote else os.path.abspath(os.path.expanduser(run)),
        relative=None if remote else os.path.relpath(os.path.expanduser(run), workdir),
        fingerprint=tokenizer.fingerprint,
        step=tokenizer.step,
        specs=tokenizer.code_specs(image_size),
        num_classes=num_classes,
        image_size=image_size,
    )


def find_tokenizer(workdir: epath.PathLike, config: PriorConfig, record: TokenizerRecord) -> Tokenizer:
    """Finds the tokenizer that a prior was trained on: where the configuration says, where it was then, or
    where it would be if both runs were moved together.

    Raises:
      UserError: it is not there, or what is there gives other codes.
    """
    places = [config.tokenizer, record.path]
    if record.relative is not None:
        places.append(os.path.normpath(os.path.join(workdir, record.relative)))
    others = []
    for place in dict.fromkeys(places):
        require_storage(place)
        if not place or not (epath.Path(place) / CONFIG_FILE).exists():
            continue
        tokenizer = load_tokenizer(place, prefer_step=record.step)
        if tokenizer.fingerprint == record.fingerprint:
            return tokenizer
        others.append(place)
    if others:
        raise UserError(
            f"the tokenizer in {others[0]} is not the one that the prior in {workdir} was trained on and "
            f"gives other codes: put the run back as it was at step {record.step}, or train the prior "
            "anew in another --workdir"
        )
    raise UserError(
        f"the tokenizer of the prior in {workdir} is missing: there is no run in "
        f"{' or '.join(dict.fromkeys(places))}; put its run directory back there"
    )
