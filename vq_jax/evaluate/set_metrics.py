"""Figures of how alike two sets of pictures are, by the name of the metric and of the feature network.

A new metric is a function in a file of its own and a name in `SET_METRICS`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vq_jax.errors import UserError, lookup
from vq_jax.evaluate.feature_sets import FeatureSet, Statistics, empty_set
from vq_jax.evaluate.frechet import frechet_distance
from vq_jax.evaluate.kernel_distance import kernel_distance
from vq_jax.evaluate.manifolds import density_coverage, precision_recall
from vq_jax.nn.features.feature_network import FeatureNetwork
from vq_jax.types import UInt8

_PART, _PART_PIXELS = 64, 2**20  # of the pictures whose features are computed together


@dataclasses.dataclass(frozen=True)
class SetMetric:
    """A figure, or several, of a set of pictures beside another.

    Attributes:
      compute: function of the reference and of the set, in that order.
      reference_names: what its figures are called with the network that the field's are of.
      needs_reference: it compares with another set.
      needs_rows: the features themselves, not only their mean and covariance.
      needs_classes: the network has classes.
      view: what the features are of: the pictures where empty; `motion`, the differences of the frames of
        clips; `perturbed`, what a tokenizer decodes from perturbed codes, beside the pictures themselves.
    """

    compute: Callable[[Statistics | None, FeatureSet], dict[str, float]]
    reference_names: Mapping[str, str]
    needs_reference: bool = True
    needs_rows: bool = False
    needs_classes: bool = False
    view: Literal["", "motion", "perturbed"] = ""


def _frechet(reference: Any, made: FeatureSet) -> dict[str, float]:
    ours = made.statistics("")
    return {"fd": frechet_distance(reference.mean, reference.covariance, ours.mean, ours.covariance)}


def _motion(reference: Any, made: FeatureSet) -> dict[str, float]:
    return {"fd_motion": _frechet(reference, made)["fd"]}


def _perturbed(reference: Any, made: FeatureSet) -> dict[str, float]:
    return {"pfd": _frechet(reference, made)["fd"]}


def _kernel(reference: Any, made: FeatureSet) -> dict[str, float]:
    return dict(zip(("kd", "kd_std"), kernel_distance(reference.rows, made.rows), strict=True))


def _neighbours(reference: Any, made: FeatureSet) -> dict[str, float]:
    return precision_recall(reference.rows, made.rows) | density_coverage(reference.rows, made.rows)


def _score(_: Any, made: FeatureSet) -> dict[str, float]:
    return dict(zip(("score", "score_std"), made.class_score(), strict=True))


SET_METRICS = {
    "fd": SetMetric(_frechet, {"fd": "fid"}),
    "kd": SetMetric(_kernel, {"kd": "kid", "kd_std": "kid_std"}, needs_rows=True),
    "prdc": SetMetric(
        _neighbours, {name: name for name in ("precision", "recall", "density", "coverage")}, needs_rows=True
    ),
    "is": SetMetric(
        _score,
        {"score": "inception_score", "score_std": "inception_score_std"},
        needs_reference=False,
        needs_classes=True,
    ),
    "fd-motion": SetMetric(_motion, {"fd_motion": "fid_motion"}, view="motion"),
    "pfd": SetMetric(_perturbed, {"pfd": "pfid"}, view="perturbed"),
}
"""Metrics of sets by name; `--metrics fd-vgg` is `fd` over the features of `vgg`."""


class ChosenMetric(NamedTuple):
    """A metric of sets over the features of a network."""

    name: str
    metric: SetMetric
    network: FeatureNetwork

    @property
    def key(self) -> tuple[str, str]:
        """Which features it is of."""
        return self.network.name, self.metric.view

    def figures(self, reference: Statistics | None, made: FeatureSet) -> dict[str, float]:
        """Its figures by name: `fd-vgg`; `fid` and the like with the published Inception, `fvd` with I3D."""
        names: Mapping[str, str] = {}
        if self.network.is_reference:
            own = self.network.reference_names
            names = self.metric.reference_names if own is None else own
        figures = self.metric.compute(reference, made)
        return {names.get(name, f"{name}-{self.network.name}"): value for name, value in figures.items()}


def choose_set_metrics(
    names: Sequence[str], networks: Mapping[str, Callable[[], FeatureNetwork]]
) -> list[ChosenMetric]:
    """Makes metrics of sets by their names, and the networks that they need once each.

    Args:
      names: such as `fd-vgg`.
      networks: functions that load a network, by its name.

    Raises:
      ValueError: a metric or network is not known, or a network without classes is to give a score of them.
      UserError: a network has no weights.
    """
    chosen, loaded = [], {}
    for name in names:
        kind, _, network = name.rpartition("-")
        metric = lookup(SET_METRICS, kind or network, "metric of sets")
        load = lookup(networks, network, "feature network")
        if network not in loaded:
            loaded[network] = load()
        if metric.needs_classes and not loaded[network].classes:
            raise ValueError(f"expected a network with classes for {name}, {network} has none")
        chosen.append(ChosenMetric(name, metric, loaded[network]))
    return chosen


def is_set_metric(name: str) -> bool:
    """Whether a name is that of a metric of sets, over whatever network."""
    return name.rpartition("-")[0] in SET_METRICS


class Extractor:
    """Adds the features of pictures to sets, with each network that the metrics need.

    Args:
      metrics: those wanted.
      sharding: of a batch over a mesh; one device when absent.
    """

    def __init__(self, metrics: Sequence[ChosenMetric], sharding: NamedSharding | None = None) -> None:
        self._networks = {metric.key: metric.network for metric in metrics}
        self._sharding = sharding
        self._weights = {
            network.name: jax.tree.map(jnp.asarray, network.weights) for network in self._networks.values()
        }
        self._compute = {key: jax.jit(network) for key, network in self._networks.items()}

    def empty(self) -> dict[tuple[str, str], FeatureSet]:
        """The sets before the first picture, by network and view."""
        return {key: empty_set(network.width, network.classes) for key, network in self._networks.items()}

    def added(
        self, sets: Mapping[tuple[str, str], FeatureSet], pictures: UInt8[np.ndarray, "B *S C"], valid: int
    ) -> dict[tuple[str, str], FeatureSet]:
        """Returns sets with the features of more pictures; of clips, each frame is one, or each clip for I3D.

        Args:
          sets: of `empty`, or of this.
          pictures: uint8 [B, H, W, C] or [B, T, H, W, C].
          valid: how many of them count; the others fill up the batch.

        Raises:
          UserError: pictures too small for a network, or without frames for their differences.
        """
        found = {}
        for key, features in sets.items():
            network = self._networks[key]
            shown = frame_differences(pictures) if key[1] == "motion" else np.asarray(pictures)
            network.check(shown.shape)
            rows = shown[:valid].reshape(-1, *shown.shape[-network.axes :])
            # As many at a time as the whole batch has, so that a last one that is not full compiles nothing.
            frames, pixels = math.prod(rows.shape[1:-3]), math.prod(rows.shape[-3:-1])
            size = math.prod(shown.shape[: -network.axes])
            size = max(1, min(size, _PART // frames, _PART_PIXELS // (frames * pixels)))
            for first in range(0, len(rows), size):
                part = rows[first : first + size]
                result = self._compute[key](self._weights[key[0]], self._placed(part, size))
                logits = None if result.logits is None else np.asarray(result.logits)[: len(part)]
                features = features.added(np.asarray(result.pooled)[: len(part)], logits)
            found[key] = features
        return found

    def _placed(self, pictures: UInt8[np.ndarray, "B *S C"], size: int) -> Any:
        """The pictures on the devices; the last one fills up to `size`, or what the devices divide."""
        if self._sharding is not None:
            size += -size % self._sharding.num_devices
        filled = np.concatenate([pictures, np.repeat(pictures[-1:], size - len(pictures), axis=0)])
        return filled if self._sharding is None else jax.device_put(filled, self._sharding)


def frame_differences(clips: UInt8[np.ndarray, "B T H W C"]) -> UInt8[np.ndarray, "B T2 H W C"]:
    """Returns each frame less the one before, as pictures: half the difference around grey, uint8.

    Raises:
      UserError: these are no clips of two frames or more.
    """
    if clips.ndim != 5 or clips.shape[1] < 2:
        raise UserError(
            f"expected clips of 2 frames or more for a figure of motion, got pictures of shape "
            f"{list(clips.shape[1:])}"
        )
    difference = np.diff(np.asarray(clips, np.int16), axis=1)
    return ((difference + 255) // 2).astype(np.uint8)


def set_figures(
    metrics: Sequence[ChosenMetric],
    reference: Mapping[tuple[str, str], Statistics],
    made: Mapping[tuple[str, str], FeatureSet],
) -> dict[str, float]:
    """Returns the figures of all metrics by name.

    Args:
      metrics: those wanted.
      reference: what the set is compared with, by `ChosenMetric.key`.
      made: the set, by `ChosenMetric.key`.

    Raises:
      UserError: a reference is missing, is of another network, or has not the features themselves where a
        metric needs them; or there are too few pictures.
    """
    figures: dict[str, float] = {}
    for chosen in metrics:
        known = reference.get(chosen.key)
        if chosen.metric.needs_reference and known is None:
            raise UserError(f"{chosen.name} compares two sets: give the other one with --against")
        if known is not None and chosen.metric.needs_reference:
            if len(known.mean) != chosen.network.width:
                raise UserError(
                    f"the statistics have {len(known.mean)} features, and {chosen.network.name} has "
                    f"{chosen.network.width}: were they computed with another network?"
                )
            if chosen.metric.needs_rows and not len(known.rows):
                raise UserError(
                    f"{chosen.name} needs the features of the reference, and its statistics are only their "
                    "mean and covariance: give the pictures with --against, or leave that metric out"
                )
        try:
            figures |= chosen.figures(known, made[chosen.key])
        except ValueError as error:
            raise UserError(f"{chosen.name}: {error}") from error
    return figures


def worth(
    metrics: Sequence[ChosenMetric], reference: Mapping[Any, Statistics], made: Mapping[Any, FeatureSet]
) -> list[str]:
    """Says of figures over fewer pictures than features what they are worth."""
    warnings = []
    for chosen in metrics:
        known = reference.get(chosen.key)
        counts = [made[chosen.key].count, *([known.count] if known is not None and known.count else [])]
        if {"fd", "pfd"} & set(chosen.name.split("-")) and min(counts) < chosen.network.width:
            warnings.append(
                f"{chosen.name} of {min(counts):,} pictures for {chosen.network.width:,} features is biased "
                "upwards: compare it only with figures of as many pictures; kd has no such bias"
            )
    return warnings
