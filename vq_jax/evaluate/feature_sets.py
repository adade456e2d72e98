"""Features of a set of pictures, summed up as they come: what distances between sets are made of."""

import dataclasses

import numpy as np
from jaxtyping import Float, Float32, Float64

SPLITS = 10
"""Parts of a set over which the score of its classes is averaged."""
KEPT = 10_000
"""Most pictures of a set whose features are kept, for figures of kernels and neighbours."""
_SEED = 0


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureSet:
    """Sums over the features of a set, in bounded memory; made by `empty_set`.

    Sums are float64, so that how the pictures are batched matters to rounding only. `+` joins two sets.

    Attributes:
      count: pictures so far.
      total: sum of the features, [D].
      products: sum of their outer products, [D, D].
      rows: features that are kept: all of 10,000 pictures, of more an even draw.
      places: a random number for each of them; the smallest stay.
      dealt: pictures of each split: picture i is in split i mod 10.
      probabilities: sum of the probabilities of the classes in each split.
      negentropy: sum of p log p in each split.
    """

    count: int
    total: Float64[np.ndarray, " D"]
    products: Float64[np.ndarray, "D D"]
    rows: Float32[np.ndarray, "R D"]
    places: Float64[np.ndarray, " R"]
    dealt: Float64[np.ndarray, " 10"]
    probabilities: Float64[np.ndarray, "10 K"]
    negentropy: Float64[np.ndarray, " 10"]

    def added(
        self, features: Float[np.ndarray, "B D"], logits: Float[np.ndarray, "B K"] | None = None
    ) -> "FeatureSet":
        """Returns the set with the features, and the logits of classes, of more pictures."""
        wide = np.asarray(features, np.float64)
        places = np.random.default_rng((_SEED, self.count)).random(len(wide))
        split = (self.count + np.arange(len(wide))) % SPLITS
        dealt, probabilities, negentropy = self.dealt, self.probabilities, self.negentropy
        if logits is not None:
            log_p = _log_softmax(np.asarray(logits, np.float64))
            dealt, probabilities, negentropy = dealt.copy(), probabilities.copy(), negentropy.copy()
            np.add.at(dealt, split, 1.0)
            np.add.at(probabilities, split, np.exp(log_p))
            np.add.at(negentropy, split, np.sum(np.exp(log_p) * log_p, axis=1))
        return FeatureSet(
            self.count + len(wide),
            self.total + wide.sum(axis=0),
            self.products + wide.T @ wide,
            *_kept(
                np.concatenate([self.rows, np.asarray(features, np.float32)]),
                np.concatenate([self.places, places]),
            ),
            dealt,
            probabilities,
            negentropy,
        )

    def __add__(self, other: "FeatureSet") -> "FeatureSet":
        sums = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("rows", "places")
        }
        rows, places = (
            np.concatenate([getattr(x, part) for x in (self, other)]) for part in ("rows", "places")
        )
        kept, left = _kept(rows, places)
        return FeatureSet(**sums, rows=kept, places=left)

    def statistics(self, computed: str) -> "Statistics":
        """Returns mean and covariance, of N - 1 degrees of freedom, and the features that are kept.

        Args:
          computed: what the features are, in words.

        Raises:
          ValueError: there are fewer than two pictures.
        """
        if self.count < 2:
            raise ValueError(f"expected at least two pictures to compare sets, got {self.count}")
        mean = self.total / self.count
        covariance = (self.products - self.count * np.outer(mean, mean)) / (self.count - 1)
        return Statistics(mean, covariance, self.count, self.rows, computed)

    def class_score(self) -> tuple[float, float]:
        """Returns the exponential of the mean divergence of a picture's classes from all pictures'.

        Mean and standard deviation over ten splits, into which the pictures are dealt in turn.

        Raises:
          ValueError: there are no classes, or fewer pictures than splits.

        References:
          Salimans et al. 2016, Improved techniques for training GANs, arXiv:1606.03498, section 4: with
          Inception's classes this is the inception score.
        """
        if self.dealt.min() < 1:
            raise ValueError(
                f"expected at least {SPLITS} pictures with classes for a score over {SPLITS} splits, got "
                f"{int(self.dealt.sum())}"
            )
        average = self.probabilities / self.dealt[:, None]
        # 0 log 0 is 0
        entropy = np.sum(average * np.log(np.where(average > 0, average, 1.0)), axis=1)
        scores = np.exp(self.negentropy / self.dealt - entropy)
        return float(np.mean(scores)), float(np.std(scores))


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """What a set is compared by.

    Attributes:
      mean: of the features, [D].
      covariance: of the features, [D, D].
      count: pictures; None where a file does not say.
      rows: features, up to 10,000; none where a file has none.
      computed: what the features are, in words; empty where a file does not say.
    """

    mean: Float64[np.ndarray, " D"]
    covariance: Float64[np.ndarray, "D D"]
    count: int | None
    rows: Float32[np.ndarray, "R D"]
    computed: str = ""


def empty_set(width: int, classes: int = 0) -> FeatureSet:
    """Returns the set without pictures, of D = `width` features and K = `classes`."""
    return FeatureSet(
        0,
        np.zeros(width),
        np.zeros((width, width)),
        np.zeros((0, width), np.float32),
        np.zeros(0),
        np.zeros(SPLITS),
        np.zeros((SPLITS, classes)),
        np.zeros(SPLITS),
    )


def _kept(rows: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows with the smallest places, in their order."""
    if len(rows) <= KEPT:
        return rows, places
    chosen = np.sort(np.argpartition(places, KEPT)[:KEPT])
    return rows[chosen], places[chosen]


def _log_softmax(logits: Float64[np.ndarray, "B K"]) -> Float64[np.ndarray, "B K"]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    return result
