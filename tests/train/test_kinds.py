"""Every kind of run trains, stops, and resumes to the bit: a contract test over the registry of kinds."""

import os
import signal

import numpy as np
import pytest
from prior_runs import prior_config, prior_run
from restorer_runs import restorer_config, restorer_run
from runs import finished_run, rows_of, small_config

from vq_jax.configs.registry import RUN_KINDS
from vq_jax.runs.checkpoint import Checkpointer
from vq_jax.runs.digest import leaf_names
from vq_jax.train import loop, train
from vq_jax.train.tasks.base import TASKS, open_task, task_class

# A new kind of run adds its small run here: a configuration, and the directory of its finished run.
EXAMPLES = {
    "tokenizer": lambda: (small_config(), finished_run()),
    "prior": lambda: (prior_config(), prior_run()),
    "noise": lambda: (prior_config(kind="noise"), prior_run("noise")),
    "restorer": lambda: (restorer_config(), restorer_run()),
    "regressor": lambda: (restorer_config(kind="regressor"), restorer_run("regressor")),
}


OF_CI = ("noise", "regressor", "restorer")  # what takes longest


def state_of(config, workdir):
    """Every array of the newest checkpoint, by name."""
    with Checkpointer(workdir / "checkpoints", read_only=True) as checkpointer:
        restored = checkpointer.restore_latest(open_task(config, workdir).abstract_state())
    return restored.step, {name: np.asarray(leaf) for name, leaf in leaf_names(restored.state).items()}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.ci] * (kind in OF_CI)) for kind in RUN_KINDS]
)
def test_a_stopped_run_of_every_kind_resumes_to_the_same_bits(kind, tmp_path, monkeypatch):
    config, finished = EXAMPLES[kind]()
    assert config.kind == kind

    def stopping(config, workdir):
        task = open_task(config, workdir)
        take_step = task.take_step

        def take(state, batch, step):
            if step == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return take_step(state, batch, step)

        task.take_step = take
        return task

    with monkeypatch.context() as patched:
        patched.setattr(loop, "open_task", stopping)
        result = train(config, tmp_path / "run")
    assert (result.signal, result.step) == (signal.SIGTERM, 2)
    assert train(config, tmp_path / "run").step == config.training.steps
    assert rows_of(tmp_path / "run") == rows_of(finished)
    (step, state), (other_step, other) = (state_of(config, run) for run in (tmp_path / "run", finished))
    assert step == other_step and state.keys() == other.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], other[name], err_msg=name)


def test_every_kind_has_a_task_whose_groups_name_optimizers_of_its_configuration():
    assert TASKS.keys() == RUN_KINDS.keys() == EXAMPLES.keys()
    for kind, config in RUN_KINDS.items():
        task = task_class(kind)
        assert "" in task.metric_groups and task.network in config.__dataclass_fields__
        for path in task.metric_groups.values():
            assert path.split(".")[0] in config.__dataclass_fields__, path
