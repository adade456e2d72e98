"""Metrics that a run was asked for beside those that every run has: of reconstructions, and of their set."""

import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vq_jax import evaluate
from vq_jax.configs.runs import ExperimentConfig
from vq_jax.convert.feature_networks import feature_networks
from vq_jax.data.source import Batch
from vq_jax.errors import UserError
from vq_jax.evaluate import DEFAULT_EVALUATORS, OF_PAIRS, Evaluator, FeatureSet, Setup
from vq_jax.nn import VQModel
from vq_jax.train.sharding import batch_sharding, local_mesh
from vq_jax.types import Array, UInt8

_log = logging.getLogger("vq_jax")
Sets = dict[tuple[str, str], FeatureSet]
"""Features by network and view, see `evaluate.Extractor`."""


def target(batch: Mapping[str, Any]) -> Any:
    """The pictures that a model is to give, undegraded."""
    return batch.get("target", batch["image"])


def make_run_evaluators(config: ExperimentConfig, model: VQModel, batch: Batch) -> dict[str, Evaluator]:
    """Makes the evaluators that every run of a tokenizer has, and those of `config.metrics`.

    Args:
      config: the run's.
      model: its network.
      batch: held-out pictures, which the evaluators have to take.

    Raises:
      UserError: a metric is not known, its weights are not there, or it does not take such pictures.
    """
    single = [name for name in config.metrics if not evaluate.is_set_metric(name)]
    setup = Setup(model.code_specs(batch["image"].shape[1:]), config.losses.reconstruction)
    try:
        made = evaluate.make_evaluators(list(dict.fromkeys((*DEFAULT_EVALUATORS, *single))), setup)
        of_pairs = {name: made[name] for name in single if name in OF_PAIRS}
        if of_pairs:
            shown = {"image": target(batch), "target": target(batch), "valid": batch["valid"]}
            jax.eval_shape(functools.partial(evaluate.pair_step, evaluators=of_pairs), shown)
    except ValueError as error:
        raise UserError(f"metrics: {error}") from error
    return made


class RunSets:
    """The metrics of sets of a run, which compare all reconstructions with all held-out pictures.

    Every process computes them from all pictures.

    Args:
      config: the run's.
      batches: its held-out pictures, whose features are computed at once.

    Raises:
      UserError: a metric is not known, a network has no weights or does not take such pictures, or there are
        too few of them.

    Attributes:
      chosen: the metrics.
    """

    def __init__(self, config: ExperimentConfig, batches: Sequence[Batch]) -> None:
        names = [name for name in config.metrics if evaluate.is_set_metric(name)]
        file, i3d = (Path(path) if path else None for path in (config.inception, config.i3d))
        for network, path in (("inception", file), ("i3d", i3d)):
            if path is not None and not any(name.endswith(f"-{network}") for name in names):
                raise UserError(
                    f"{network} names weights that no metric needs: give --metrics fd-{network}, or omit it"
                )
        try:
            self.chosen = evaluate.choose_set_metrics(names, feature_networks(file, i3d=i3d))
            for chosen in self.chosen:
                if chosen.metric.view == "perturbed":
                    raise ValueError(f"{chosen.name} is not measured by runs: `vq-jax evaluate` does")
        except ValueError as error:
            raise UserError(f"metrics: {error}") from error
        spread = batch_sharding(local_mesh()) if jax.local_device_count() > 1 else None
        self._extractor = evaluate.Extractor(self.chosen, spread)
        seen = self.empty()
        for batch in batches:
            seen = self.added(seen, batch, target(batch))
        try:
            self._reference = {key: features.statistics("") for key, features in seen.items()}
        except ValueError as error:
            raise UserError(f"metrics: {error}") from error
        evaluate.set_figures(self.chosen, self._reference, seen)  # says so if the pictures are too few
        self._said = False

    def empty(self) -> Sets:
        """The sets before the first picture."""
        return self._extractor.empty()

    def added(self, sets: Sets, batch: Batch, pictures: UInt8[Array, "B *S C"]) -> Sets:
        """Returns sets with the pictures that belong to a batch.

        Args:
          sets: of `empty`, or of this.
          batch: says which pictures count.
          pictures: the batch's own, or their reconstructions.

        Raises:
          UserError: pictures that a network does not take.
        """
        return self._extractor.added(sets, np.asarray(pictures), int(batch["valid"].sum()))

    def figures(self, made: Sets) -> dict[str, float]:
        """Returns the figures of all reconstructions by name; warns once of those that are worth little.

        Raises:
          UserError: there are too few pictures.
        """
        figures = evaluate.set_figures(self.chosen, self._reference, made)
        for warning in () if self._said else evaluate.worth(self.chosen, self._reference, made):
            _log.warning("%s", warning)
        self._said = True
        return figures
