"""What ways to spend gradients cost, and what a judge is to them."""

from __future__ import annotations

from benchmarks.experiment.settings import Experiment
from benchmarks.judges.columns import JUDGES
from benchmarks.judges.removals import FITTED
from benchmarks.run.errors import BenchmarkError

# Those that choose; the others only see what was chosen.
CHOOSING = (FITTED, "DeletionAUC-noise", "InsertionAUC-noise")
JUDGING = (
    *CHOOSING,
    *("DeletionAUC-blur", "DeletionAUC-mean", "InsertionAUC", "InsertionAUC-blur", "InsertionAUC-mean"),
)


def check_drawn(baselines: str, therefore: str = "the first few of them are no smaller set of the same kind") -> None:
    """That the baselines are drawn, so that others of them are of the same kind.

    Raises:
        BenchmarkError: they are not.
    """
    if baselines in ("blur", "published"):
        raise BenchmarkError(
            f"--baselines {baselines} are not drawn, so {therefore}; use references, uniform or gaussian"
        )


def price(experiment: Experiment, name: str, n_pixels: int, forward_cost: float) -> float:
    """What a method takes for one image, in gradients; of a row that is no weighting nothing is known: 0."""
    weighting = experiment.method(name).weighting
    gradients, forwards = weighting.evaluations(n_pixels) if weighting else (0, 0)
    return gradients + forward_cost * forwards


def relation(experiment: Experiment, judge: str, *names: str) -> str:
    """What a judge is to methods: weights of theirs are "fitted" to it, or it inserts what their fitness removes or the
    reverse ("same removal"), or neither ("unseen")."""
    weightings = [experiment.method(name).weighting for name in names]
    # Weights in a random order please nobody.
    by = [one.fitness for one in weightings if one and one.fitted and not one.shuffled]
    found = {fitness.relation(JUDGES[judge].works_by) for fitness in by}
    return next((what for what in ("fitted", "same removal") if what in found), "unseen")
