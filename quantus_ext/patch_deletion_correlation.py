"""How well a map ranks patches by what their removal costs."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from quantus.helpers.enums import DataType
from torch import Tensor

from captum_wg.weighting.masking import Features
from captum_wg.weighting.output import Output
from quantus_ext.removal_correlation import RemovalCorrelation, check_patch, patches_of


class PatchDeletionCorrelation(RemovalCorrelation):
    """Patch deletion correlation: how well a map ranks the patches of an image by what each of them is worth.

        score = Spearman's correlation over patches p of   sum_{i in p} a_i   and   f(x) - f(x without p)

    with f the model's probability of the given class (`output` says which). Between -1 and 1; higher is better, and
    random maps have about 0. Each patch is removed by itself, all channels together, so that the image stays near to
    what the model knows. Patches stand in a grid from the top left; the last of a row or column may be smaller. With
    several removals the score is the mean of theirs.

    Where all patches have the same sum (a constant map, if the patches are of one size) or the same drop, the score is
    0: such a map tells nothing. ceil(H / h) ceil(W / w) forwards for each image and removal, and one of the image
    itself; `scores_of` judges any number of maps for these.

    Source: the faithfulness of Alvarez-Melis and Jaakkola, "Towards Robust Interpretability with Self-Explaining Neural
    Networks", NeurIPS 2018: Pearson's correlation over features removed one by one. Here patches, and ranks.
    """

    name = "Patch deletion correlation"
    data_applicability: ClassVar = {DataType.IMAGE}
    definition = "Alvarez-Melis and Jaakkola 2018 (faithfulness), by patches and ranks"
    ranked = True

    def __init__(
        self,
        patch: int | tuple[int, int] = 8,
        removal: Any = "corners",
        ranking: str = "signed",
        *,
        output: Output = "auto",
        internal_batch_size: int | None = None,
        **kwargs: Any,
    ):
        """Set up the metric. The score is a rank correlation over single patches: higher is better.

        Args:
            patch: the side of a patch in pixels, or its height and width. 8 and 4 are usual at 32 x 32; of 224 x 224
                8 makes 784 patches, 28 makes 64.
            removal: what replaces a removed patch, in any form that `DeletionAUC` takes; or a tuple of them, whose
                scores are averaged. Take some that no map was fitted to.
            ranking: "signed" takes the sum of the attribution over channels, "absolute" the sum of its absolute values.
            output, internal_batch_size: as in `DeletionAUC`.
            **kwargs: abs, normalise, normalise_func, normalise_func_kwargs, return_aggregate, aggregate_func,
                default_plot_func, disable_warnings and display_progressbar, as there.
        """
        self.patch = check_patch(patch)
        super().__init__(removal, ranking, output=output, internal_batch_size=internal_batch_size, **kwargs)

    def features_of(self, x: Tensor) -> Features:
        """The patches."""
        return patches_of(x, self.patch, type(self).__name__)

    def sets_of(self, n_features: int, shape: tuple[int, ...]) -> Tensor:
        """Each patch by itself."""
        if n_features < 3:
            raise ValueError(
                f"patch={self.patch} cuts inputs of shape {shape} into {n_features}; a correlation needs at least 3, "
                "so take smaller patches"
            )
        return torch.eye(n_features, dtype=torch.bool)
