"""Baselines weighted by deletion and insertion together."""

from dataclasses import dataclass

from captum_wg.weighting.fitness import FitnessWeighting


@dataclass(frozen=True)
class Both(FitnessWeighting):
    """D_alpha: the geometric mean of `Deletion`'s and `Insertion`'s, for twice the masked forwards. Settings as in
    `FitnessWeighting`.
    """

    ways = ("deletion", "insertion")
