"""What the loop asks of a task, and which task trains each kind of run."""

import importlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from etils import epath
from jax.sharding import Mesh

from vq_jax.configs.runs import RunConfig
from vq_jax.train.prefetch import DeviceBatches
from vq_jax.types import Array, Metrics


class Task(Protocol):
    """What a run trains. The loop owns steps, intervals, saves and signals; a task everything else.

    Its class is called with the run's configuration and directory. That checks all that a user can get wrong,
    and writes nothing.

    Attributes:
      config: the run's.
      mesh: the devices.
      data: fingerprint of what the batches are made of, which a resumed run compares.
      data_name: what that is, in words.
      pictures: what `draw` draws, in a word.
      network: name of the configuration's field with the network that is trained.
      metric_groups: for each prefix of metrics' names, the configuration's field with the optimizer to adjust
        when such a metric is not finite. A metric belongs to its longest prefix; "" holds all others. If
        several groups are not finite, the first caused it and is named.
    """

    config: Any
    mesh: Mesh
    data: str
    data_name: str
    pictures: str
    network: str
    metric_groups: Mapping[str, str]

    @classmethod
    def lower(
        cls, config: Any, mesh: Mesh, *, tokenizer: str | None = None, classes: int | None = None
    ) -> Any:
        """Lowers the run's most expensive step for a mesh, whose devices may be described only.

        It is the step of the last phase, with all losses on.

        Args:
          config: the run's.
          mesh: the devices.
          tokenizer: of a run over codes: preset or file of the tokenizer, see `planned_codes`.
          classes: of a run over codes: number of the pictures' classes.

        Returns:
          The step as `jax.stages.Lowered`.

        Raises:
          UserError: the step cannot be described with these values.
        """

    def prepare(self, workdir: epath.Path) -> None:
        """Makes what the steps need, once the run directory belongs to this run."""

    def abstract_state(self) -> Any:
        """Shapes and shardings of the state, for restoring it."""

    def init_state(self) -> Any:
        """The state before the first step."""

    def batches(self, position: int) -> DeviceBatches:
        """Training batches from a position, the number of batches consumed, which is all that a run saves."""

    def take_step(self, state: Any, batch: dict[str, Array], step: int) -> tuple[Any, Metrics]:
        """The update after `step` others; it donates the state."""

    def stages(self) -> list[int]:
        """The steps, 0 first, after which another kind of step begins: of a phase, or with one loss more."""

    def words(self, step: int) -> dict[str, str]:
        """Text by name, such as the phase, for the row of metrics of the last step."""

    def evaluate(self, state: Any, step: int) -> dict[str, float]:
        """Figures on the held-out set, `loss` among them."""

    def draw(self, state: Any, step: int) -> np.ndarray:
        """A picture to look at, uint8 [H, W, 3]."""

    def report(self, workdir: epath.Path, state: Any, step: int, command: str | None) -> dict[str, float]:
        """Writes report.md at the end, with the command if given; returns figures of the report only."""


# A generator that diverges spoils the discriminator's figures too, so its own losses come first. Its
# adversarial loss is the discriminator's judgement, and its norms are spoilt by either network.
ADVERSARIAL_GROUPS = {
    "": "optimizer",
    "discriminator/": "discriminator.optimizer",
    "adversarial_": "discriminator.optimizer",
    "grad_norm": "optimizer",
    "param_norm": "optimizer",
}


TASKS = {
    "tokenizer": "vq_jax.train.tasks.tokenizer.TokenizerTask",
    "prior": "vq_jax.train.tasks.prior.PriorTask",
    "noise": "vq_jax.train.tasks.noise.NoiseTask",
    "restorer": "vq_jax.train.tasks.restorer.RestorerTask",
    "regressor": "vq_jax.train.tasks.restorer.RestorerTask",
}
"""The task that trains each kind of run of `configs.registry.RUN_KINDS`."""


def task_class(kind: str) -> Any:
    """Imports the class of a kind of run's task."""
    module, _, name = TASKS[kind].rpartition(".")
    return getattr(importlib.import_module(module), name)


def open_task(config: RunConfig, workdir: epath.Path) -> Task:
    """Makes the task of a configuration.

    Args:
      config: the run's.
      workdir: the run's directory, which need not exist; nothing is written there.

    Raises:
      UserError: the data, the tokenizer or the configuration cannot be used.
    """
    task: Task = task_class(config.kind)(config, workdir)
    return task
