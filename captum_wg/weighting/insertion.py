"""Baselines weighted by insertion: deletion's twin."""

from dataclasses import dataclass

from captum_wg.weighting.fitness import FitnessWeighting


@dataclass(frozen=True)
class Insertion(FitnessWeighting):
    """D_alpha: the least number of features whose restoring, in the order of the baseline's map, into the input with
    all removed brings f up to alpha f(x). Settings as in `FitnessWeighting`.
    """

    ways = ("insertion",)
