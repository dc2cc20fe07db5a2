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
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.experiment.bench import bench
from benchmarks.experiment.cells import Chunk, values
from benchmarks.experiment.settings import Experiment
from benchmarks.methods.method import Batch, Method
from benchmarks.run.faults import attempted
from benchmarks.run.randomness import generator_of
from benchmarks.run.store import Key, Store
from captum_wg import GradientVariance

ABSOLUTE, RELATIVE = ", absolute", ", relative"


def deviations(
    experiment: Experiment, store: Store, made_of: Sequence[Key], methods: Sequence[str], size: int, chunk: Chunk
) -> pd.DataFrame:
    """A cell: for each image the deviations of methods over sets of `size` baselines, and both correlations.

    Args:
        made_of: where the maps of all baselines are, and their D_alpha.

    Columns: name; what; value; problem, why there are no values, or "".
    """
    ready = bench(experiment)
    rows = [experiment.method(name) for name in methods]
    tables = []
    for image, *needed in zip(chunk.images, *(values(store, key, chunk) for key in made_of), strict=True):
        found, problem = None, next((value for value in needed if isinstance(value, str)), "")
        if not problem:
            batch = ready.batch([image.name], ready.input(image)[None], [image.label])
            found, problem = attempted(of_image, batch, rows, *needed, size, experiment.n_steps)
        own = pd.Series(found or {"": math.nan}, name="value").rename_axis("what").reset_index()
        tables.append(own.assign(name=image.name, problem=problem))
    return pd.concat(tables, ignore_index=True)[["name", "what", "value", "problem"]]


def of_image(
    batch: Batch, methods: Sequence[Method], maps: np.ndarray, distances: np.ndarray, size: int, n_points: int
) -> dict[str, float]:
    """The deviations and correlations of a batch of one image, from the maps (S K, C, H, W) and D_alpha (S K,)."""
    found = {}
    for method in methods:
        found[method.name], found[f"{method.name}{ABSOLUTE}"] = over_sets(method, batch, maps, distances, size)
    norms = np.square(maps, dtype=np.float64).sum((1, 2, 3))
    spread = np.square(maps - maps.mean(0), dtype=np.float64).sum((1, 2, 3))
    for sense, own in (("distance", spread), ("noise", path_variance(batch, n_points))):
        found |= {sense: correlation(distances, own), f"{sense}{RELATIVE}": correlation(distances, own / norms)}
    return found


def over_sets(method: Method, batch: Batch, maps: np.ndarray, distances: np.ndarray, size: int) -> tuple[float, float]:
    """A method's deviation, relative and absolute."""
    x, generator = batch.inputs[0].cpu(), generator_of(batch.seed, method.name, batch.names[0])
    sets = [(maps[i : i + size], distances[i : i + size]) for i in range(0, len(maps), size)]
    found = np.stack([method.combine(x, one[: len(method.ingredients)], generator) for one in sets]).astype(np.float64)
    deviation, norm = math.sqrt(found.var(0, ddof=1).sum()), float(np.linalg.norm(found.mean(0)))
    return deviation / norm if norm else math.nan, deviation


def path_variance(batch: Batch, n_points: int) -> np.ndarray:
    """For each baseline (K,) the variance of the map taken from one uniformly random point, summed over all elements:
    that of (x - x'_k) g along the path, estimated from n_points random points."""
    x = batch.inputs
    own = batch.baselines_of(x)
    spread = GradientVariance(batch.model).attribute(
        x.expand_as(own),
        own[:, None],
        target=int(batch.targets[0]),
        n_samples=n_points,
        sampler="segments",
        radius=math.inf,
        generator=int(generator_of(batch.seed, "path variance", batch.names[0]).integers(2**31)),
        internal_batch_size=batch.internal_batch_size,
    )
    # The measure divides by the number of points.
    unbiased = n_points / max(1, n_points - 1)
    return ((x - own).square() * spread).double().sum((1, 2, 3)).cpu().numpy() * unbiased


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, NaN if one of them is constant."""
    return math.nan if np.ptp(a) == 0 or np.ptp(b) == 0 else float(stats.spearmanr(a, b).statistic)
