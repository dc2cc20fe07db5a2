"""How far the maps of an image lie apart when the set of baselines is drawn again, and what D_alpha has to do with it.

Of S sets of K baselines each, with the map m_s by the baselines of set s, and v the variance over the sets of each of
its elements (ddof = 1),

    deviation     sqrt(sum v) / |mean_s m_s|, of a method; "absolute" without the division
    distance      Spearman's correlation, over all S K baselines, of D_alpha with a baseline's variance: the squared
                  distance of its map to the mean of all baselines' maps
    noise         the same with the variance of the map from one random point on the path (the published code's)

the last two also "relative", to the map's squared norm, or large maps would be variable ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from scipy import stats

from benchmarks.methods.method import Batch, Ingredient, Method
from benchmarks.run.randomness import generator_of
from captum_wg import GradientVariance

ABSOLUTE, RELATIVE = ", absolute", ", relative"
# How a baseline's own variance can be meant; a positive correlation says that the fit ones vary less.
SENSES = {
    "distance": "squared distance of the baseline's map to the mean of all baselines' maps",
    "noise": "variance of the map from one random point on the path (the published code's)",
}


@dataclass(frozen=True)
class Deviations(Ingredient):
    """The deviation of each method and the correlations, (N, number of `values`), from all maps and their D_alpha.

    Attributes:
        methods: weightings of the baselines' maps.
        size: K; the first K baselines are the first set, and so on.
        n_points: on each path, for the noise.
    """

    methods: tuple[Method, ...] = field(kw_only=True)
    size: int = field(kw_only=True)
    n_points: int = field(kw_only=True)
    kind: ClassVar[str] = "variance"

    @property
    def values(self) -> list[str]:
        """What the numbers are, in their order."""
        of_methods = [f"{method.name}{way}" for method in self.methods for way in ("", ABSOLUTE)]
        return of_methods + [f"{sense}{way}" for sense in SENSES for way in ("", RELATIVE)]

    def make(self, batch: Batch, *needed: np.ndarray) -> np.ndarray:
        return np.array([self._of_image(batch, i, *values) for i, values in enumerate(zip(*needed, strict=True))])

    def _of_image(self, batch: Batch, i: int, maps: np.ndarray, distances: np.ndarray) -> list[float]:
        spreads = (
            np.square(maps - maps.mean(0), dtype=np.float64).sum((1, 2, 3)),
            path_variance(batch, i, self.n_points),
        )
        norms = np.square(maps, dtype=np.float64).sum((1, 2, 3))
        found = [value for method in self.methods for value in over_sets(method, batch, i, maps, distances, self.size)]
        return found + [correlation(distances, by) for spread in spreads for by in (spread, spread / norms)]


def over_sets(
    method: Method, batch: Batch, i: int, maps: np.ndarray, distances: np.ndarray, size: int
) -> tuple[float, float]:
    """A method's deviation over the sets for the i-th image, relative and absolute, from the maps (S K, C, H, W) and
    D_alpha (S K,) of all baselines."""
    x, generator = batch.inputs[i].cpu(), generator_of(batch.seed, method.name, batch.names[i])
    sets = [slice(first, first + size) for first in range(0, len(maps), size)]
    values = [(maps[one], distances[one])[: len(method.ingredients)] for one in sets]
    found = np.stack([method.combine(x, value, generator) for value in values]).astype(np.float64)
    deviation, norm = math.sqrt(found.var(0, ddof=1).sum()), float(np.linalg.norm(found.mean(0)))
    return deviation / norm if norm else math.nan, deviation


def path_variance(batch: Batch, i: int, n_points: int) -> np.ndarray:
    """For each baseline (K,) the variance of the i-th image's map taken from one uniformly random point, summed over
    all elements: that of (x - x'_k) g along the path, estimated from n_points random points."""
    x = batch.inputs[i : i + 1]
    baselines = batch.baselines(x) if callable(batch.baselines) else batch.baselines.to(x)
    own = baselines[0] if baselines.ndim == 5 else baselines
    spread = GradientVariance(batch.model).attribute(
        x.expand_as(own),
        own[:, None],
        target=int(batch.targets[i]),
        n_samples=n_points,
        sampler="segments",
        radius=math.inf,
        generator=int(generator_of(batch.seed, "path variance", batch.names[i]).integers(2**31)),
        internal_batch_size=batch.internal_batch_size,
    )
    # The measure divides by the number of points.
    unbiased = n_points / max(1, n_points - 1)
    return ((x - own).square() * spread).double().sum((1, 2, 3)).cpu().numpy() * unbiased


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, NaN if one of them is constant."""
    return math.nan if np.ptp(a) == 0 or np.ptp(b) == 0 else float(stats.spearmanr(a, b).statistic)
