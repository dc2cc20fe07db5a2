"""Baselines weighted by deletion: the paper's form."""

from dataclasses import dataclass

from captum_wg.weighting.fitness import FitnessWeighting


@dataclass(frozen=True)
class Deletion(FitnessWeighting):
    """D_alpha: the least number of features whose removal, in the order of the baseline's map, brings f(x) down to
    alpha f(x) (Duc et al. 2025, Eq. 7). The default of WeightedGradients; settings as in `FitnessWeighting`.

    Examples:
        >>> import torch
        >>> Deletion(power=2.0).weights(torch.tensor([[1, 2]]))  # of D_alpha 1 and 2: 1 and 1/4 of their sum
        tensor([[0.8000, 0.2000]], dtype=torch.float64)
    """

    ways = ("deletion",)
