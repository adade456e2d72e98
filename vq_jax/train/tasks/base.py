"""What the loop asks of what it trains."""

from typing import Any, Protocol

import numpy as np
from etils import epath
from jax.sharding import Mesh

from vq_jax.configs.runs import ExperimentConfig, NoiseConfig, RunConfig
from vq_jax.train.prefetch import DeviceBatches
from vq_jax.types import Array, Metrics


class Task(Protocol):
    """What a run trains. The loop owns steps, intervals, saves and signals; a task everything else.

    Making one checks all that a user can get wrong, and writes nothing.

    Attributes:
      config: of the run.
      mesh: the devices.
      data: fingerprint of what the batches are made of, which a resumed run compares.
      data_name: what that is, in words.
      pictures: what `draw` draws, in a word.
    """

    config: Any
    mesh: Mesh
    data: str
    data_name: str
    pictures: str

    def prepare(self, workdir: epath.Path) -> None:
        """Makes what the steps need, once the run directory is this run's."""

    def abstract_state(self) -> Any:
        """Shapes and shardings of the state, for restoring it."""

    def init_state(self) -> Any:
        """The state before the first step."""

    def batches(self, position: int) -> DeviceBatches:
        """Training batches from a position on: the position is all that a run remembers."""

    def take_step(self, state: Any, batch: dict[str, Array], step: int) -> tuple[Any, Metrics]:
        """The update after `step` others; the state given to it is donated."""

    def words(self, step: int) -> dict[str, str]:
        """What a row of metrics says of the step just taken, in words."""

    def evaluate(self, state: Any, step: int) -> dict[str, float]:
        """Figures on the held-out set, `loss` among them."""

    def draw(self, state: Any, step: int) -> np.ndarray:
        """A picture to look at, uint8 [H, W, 3]."""

    def report(self, workdir: epath.Path, state: Any, step: int) -> dict[str, float]:
        """Writes report.md at the end; returns figures of its own."""


def open_task(config: RunConfig, workdir: epath.Path) -> Task:
    """Makes the task of a configuration.

    Args:
      config: of a tokenizer or a prior.
      workdir: where its run is or will be; nothing is written there.

    Raises:
      UserError: the data, the tokenizer or the configuration cannot be used.
    """
    if isinstance(config, ExperimentConfig):
        from vq_jax.train.tasks.tokenizer import TokenizerTask

        return TokenizerTask(config)
    if isinstance(config, NoiseConfig):
        from vq_jax.train.tasks.noise import NoiseTask

        return NoiseTask(config, workdir)
    from vq_jax.train.tasks.prior import PriorTask

    return PriorTask(config, workdir)
