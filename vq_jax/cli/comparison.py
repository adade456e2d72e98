"""Comparison of two sets of pictures by their features, and files of statistics to compare with."""

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vq_jax.configs.serialize import check_header, header
from vq_jax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from vq_jax.evaluate import Statistics

_KIND = "statistics"
_log = logging.getLogger("vq_jax")


class Comparison:
    """The metrics of sets that a command was asked for, and the features seen so far.

    Args:
      names: of the metrics, such as `fd-vgg`.
      against: a file of statistics to compare with; the pictures given to `add_reference` when absent.
      inception: file of the weights of Inception.
      half_pixels: resize for Inception as pytorch-fid does.
      i3d: file of the weights of I3D.

    Attributes:
      elsewhere: pictures to compare with come from elsewhere than what is measured.
      perturbation: what was done to perturbed codes, in words; empty before.

    Raises:
      UserError: a metric is not known, a network has no weights, or a file cannot be read.
    """

    def __init__(
        self,
        names: Sequence[str],
        against: "Statistics | None",
        inception: Path | None,
        half_pixels: bool,
        i3d: Path | None,
    ) -> None:
        from vq_jax import evaluate
        from vq_jax.convert.feature_networks import feature_networks

        try:
            self.metrics = evaluate.choose_set_metrics(names, feature_networks(inception, half_pixels, i3d))
        except UserError:
            raise
        except ValueError as error:
            raise UserError(str(error)) from error
        self._extractor = evaluate.Extractor(self.metrics, batch_spread())
        self._made, self._seen = self._extractor.empty(), self._extractor.empty()
        self._given, self.elsewhere, self.perturbation = against, False, ""
        if against is not None and len(self._made) > 1:
            raise UserError(
                "a file of statistics is of one network and one kind of pictures, and the metrics need "
                f"{len(self._made)}: choose metrics of one network"
            )

    @property
    def wants_reference(self) -> bool:
        """Whether the pictures that a model is to give are what its own are compared with."""
        return (
            self._given is None
            and not self.elsewhere
            and any(chosen.metric.needs_reference for chosen in self.metrics)
        )

    @property
    def wants_perturbed(self) -> bool:
        """Whether a metric is of what a tokenizer decodes from perturbed codes."""
        return any(_is_perturbed(key) for key in self._made)

    def require_tokenizer(self, what: str) -> None:
        """Refuses metrics of perturbed codes where there are none.

        Raises:
          UserError: there is such a metric.
        """
        for chosen in self.metrics:
            if _is_perturbed(chosen.key):
                raise UserError(f"{chosen.name} is of a tokenizer whose codes are perturbed, {what}")

    def add(self, pictures: "np.ndarray", valid: int) -> None:
        """Adds pictures, uint8, of the set that is measured; the first `valid` count."""
        plain = {key: seen for key, seen in self._made.items() if not _is_perturbed(key)}
        self._made |= self._extractor.added(plain, pictures, valid)

    def add_perturbed(self, pictures: "np.ndarray", valid: int) -> None:
        """Adds pictures, uint8, that were decoded from perturbed codes; the first `valid` count."""
        theirs = {key: seen for key, seen in self._made.items() if _is_perturbed(key)}
        self._made |= self._extractor.added(theirs, pictures, valid)

    def add_reference(self, pictures: "np.ndarray", valid: int) -> None:
        """Adds pictures, uint8, of the set that it is compared with."""
        self._seen = self._extractor.added(self._seen, pictures, valid)

    def figures(self) -> dict[str, float]:
        """The figures by name; warns of those that are worth little.

        Raises:
          UserError: there are too few pictures, or statistics of another network.
        """
        from vq_jax import evaluate

        reference = self._reference()
        figures = evaluate.set_figures(self.metrics, reference, self._made)
        for warning in evaluate.worth(self.metrics, reference, self._made):
            _log.warning("%s", warning)
        return figures

    def computed(self, made: str, reference: str) -> list[str]:
        """Says what was computed, a line for each network.

        Args:
          made: what was measured, in words, without its number.
          reference: what it was compared with, in words, without its number.
        """
        lines = []
        for key, features in self._made.items():
            chosen = [metric for metric in self.metrics if metric.key == key]
            line = f"{', '.join(metric.name for metric in chosen)}: {self._description(key)}; "
            line += f"{features.count:,} {made}"
            if any(metric.metric.needs_reference for metric in chosen):
                count = self._given.count if self._given is not None else self._seen[key].count
                line += f" against {'unknown number of' if count is None else f'{count:,}'} {reference}"
            if any(metric.metric.needs_rows for metric in chosen):
                line += (
                    f"; kernels and neighbours (3, or 5 for density and coverage) of {len(features.rows):,}"
                )
            lines.append(line)
        return lines

    def statistics(self) -> bytes:
        """A file of the statistics of the reference; of the set that is measured where there is none.

        Raises:
          UserError: the metrics are of several networks, or there are too few pictures.
        """
        if len(self._made) != 1:
            raise UserError("a file of statistics is of one network: choose metrics of one network")
        found = self._reference() or {
            key: _summed(self._made[key], self._description(key)) for key in self._made
        }
        return statistics_file(next(iter(found.values())))

    def _description(self, key: tuple[str, str]) -> str:
        of = {"motion": "differences of frames, ", "perturbed": f"{self.perturbation}; "}.get(key[1], "")
        return of + next(metric.network.description for metric in self.metrics if metric.key == key)

    def _reference(self) -> "dict[tuple[str, str], Statistics]":
        if self._given is not None:
            return dict.fromkeys(self._made, self._given)
        return {key: _summed(seen, self._description(key)) for key, seen in self._seen.items() if seen.count}


def _is_perturbed(key: tuple[str, str]) -> bool:
    return key[1] == "perturbed"


def _summed(features: Any, computed: str) -> "Statistics":
    try:
        statistics: Statistics = features.statistics(computed)
    except ValueError as error:
        raise UserError(str(error)) from error
    return statistics


def batch_spread() -> Any:
    """How batches are spread over the devices; None with one device."""
    import jax

    from vq_jax.train.sharding import batch_sharding, local_mesh

    return batch_sharding(local_mesh()) if jax.local_device_count() > 1 else None


def statistics_file(statistics: "Statistics") -> bytes:
    """The .npz file of statistics: `mu`, `sigma` as pytorch-fid has them, `count`, `rows` and `computed`."""
    import numpy as np

    arrays: dict[str, Any] = {name: np.array(value) for name, value in header(_KIND).items()}
    arrays |= {"mu": statistics.mean, "sigma": statistics.covariance, "rows": statistics.rows}
    arrays |= {"count": np.array(statistics.count or 0), "computed": np.array(statistics.computed)}
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def read_statistics(path: Path) -> "Statistics | None":
    """Reads a file of statistics, this library's or pytorch-fid's; None where an .npz file holds pictures.

    Raises:
      UserError: it is damaged, or has another kind of statistics.
    """
    import numpy as np

    from vq_jax.data.npz import read_npz
    from vq_jax.evaluate import Statistics

    names = ("kind", "version", "mu", "sigma", "rows", "count", "computed")
    arrays = read_npz(path, "an .npz file of statistics or pictures", names)
    if "mu" not in arrays or "sigma" not in arrays:
        return None
    if "kind" in arrays:
        try:
            check_header({name: arrays[name].item() for name in ("kind", "version")}, (_KIND,), str(path))
        except (ValueError, KeyError) as error:
            raise UserError(f"expected a file of statistics: {error}") from error
    mean, covariance = (np.asarray(arrays[name], np.float64) for name in ("mu", "sigma"))
    rows = np.asarray(arrays.get("rows", np.zeros((0, mean.size))), np.float32)
    if mean.ndim != 1 or covariance.shape != (mean.size, mean.size) or rows.shape[1:] != mean.shape:
        raise UserError(
            f"{path}: expected mu [D], sigma [D, D] and rows [N, D], got {list(mean.shape)}, "
            f"{list(covariance.shape)} and {list(rows.shape)}"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all() and np.isfinite(rows).all()):
        raise UserError(f"{path} has values that are not finite: compute the statistics again")
    count = int(arrays["count"]) if "count" in arrays else 0
    return Statistics(mean, covariance, count or None, rows, str(arrays.get("computed", "")))
