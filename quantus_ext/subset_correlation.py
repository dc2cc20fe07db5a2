"""How well sums of a map over random subsets predict what their removal costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_wg.engine.checks import check_number, check_positive_int
from captum_wg.weighting.masking import Features
from captum_wg.weighting.output import Output
from quantus_ext.removal_correlation import RemovalCorrelation, check_patch, patches_of


class SubsetCorrelation(RemovalCorrelation):
    """Subset correlation: how well sums of a map over random subsets of features predict what the output loses.

        score = Pearson's correlation over subsets S of   sum_{i in S} a_i   and   f(x) - f(x without S)

    with f the model's probability of the given class (`output` says which). Between -1 and 1; higher is better, and
    random maps have about 0. All subsets are of the same size, max(1, round(share * P)) of P features: pixels of an
    image, elements of any other input, or an image's patches. With several removals the score is the mean of theirs.

    Quantus' FaithfulnessCorrelation draws new subsets for each method and image. Here they depend on the seed and the
    inputs' shape alone: the same for all images and methods, whose differences are then not those of luck.

    Where all subsets have the same sum (a constant map) or the same drop, the score is 0: such a map tells nothing.
    n_subsets forwards for each image and removal, and one of the image itself; `scores_of` judges any number of maps
    for these.

    Source: Bhatt et al., "Evaluating and Aggregating Feature-based Model Explanations", IJCAI 2020 (faithfulness
    correlation).
    """

    name = "Subset correlation"
    definition = "Bhatt et al. 2020 (faithfulness correlation), the same subsets for all"
    ranked = False

    def __init__(
        self,
        n_subsets: int = 100,
        share: float = 0.2,
        patch: int | tuple[int, int] | None = None,
        removal: Any = "corners",
        ranking: str = "signed",
        *,
        seed: int = 0,
        output: Output = "auto",
        internal_batch_size: int | None = None,
        **kwargs: Any,
    ):
        """Set up the metric. The score is a correlation over random subsets: higher is better.

        Args:
            n_subsets: how many subsets are removed, at least 3.
            share: of the features that is in each, in (0, 1).
            patch: subsets of patches of this side, or height and width, in place of pixels; they leave whole parts of
                the image as they are.
            removal: what replaces removed features, in any form that `DeletionAUC` takes; or a tuple of them, whose
                scores are averaged. Take some that no map was fitted to.
            ranking: "signed" takes the sum of the attribution over channels, "absolute" the sum of its absolute values.
            seed: of the subsets.
            output, internal_batch_size: as in `DeletionAUC`.
            **kwargs: abs, normalise, normalise_func, normalise_func_kwargs, return_aggregate, aggregate_func,
                default_plot_func, disable_warnings and display_progressbar, as there.
        """
        self.n_subsets = check_positive_int(n_subsets, "n_subsets")
        if self.n_subsets < 3:
            raise ValueError(f"n_subsets must be at least 3 for a correlation, got {n_subsets}")
        self.share = check_number(share, "share", 0.0, 1.0, open_interval=True)
        self.patch = None if patch is None else check_patch(patch)
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}")
        self.seed = seed
        super().__init__(removal, ranking, output=output, internal_batch_size=internal_batch_size, **kwargs)

    def features_of(self, x: Tensor) -> Features:
        """Pixels or elements, or patches."""
        return Features((x,)) if self.patch is None else patches_of(x, self.patch, type(self).__name__)

    def sets_of(self, n_features: int, shape: tuple[int, ...]) -> Tensor:
        """The first of each of n_subsets permutations of the features."""
        size = max(1, round(self.share * n_features))
        if size >= n_features:
            raise ValueError(
                f"share={self.share} of {n_features} features is all of them, so that all subsets are the same; take a "
                "smaller share, or smaller patches"
            )
        generator = np.random.default_rng((self.seed, *shape))
        sets = np.zeros((self.n_subsets, n_features), dtype=bool)
        for members in sets:
            members[generator.permutation(n_features)[:size]] = True
        return torch.from_numpy(sets)
