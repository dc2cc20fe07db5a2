"""The same points on every path, whatever the gradients say: a quadrature rule by name."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.integrals.nodes import Quadrature, continuation, nodes_and_weights
from captum_wg.integrals.rule import Rule, Sums
from captum_wg.integrals.walk import Paths, PathsRule


class Fixed(PathsRule):
    """n_steps points of `method` on each path; a node at 1 is the input itself and is taken once for all paths.

    Args:
        method, n_steps: as in `nodes_and_weights`.
        name: n_steps' name for the messages.
        missing: the nodes and weights to take instead of these, where others have been taken already.
    """

    def __init__(self, method: str, n_steps: int, name: str = "n_steps", missing: Quadrature | None = None):
        self.method = method
        self.quadrature = missing or nodes_and_weights(method, n_steps, name)
        self.points = len(self.quadrature[0])

    def paths(self, inputs: tuple[Tensor, ...], references: BaselineSet) -> Paths:
        """The points of the rule, baseline by baseline; their weights are 1/K of the rule's."""
        nodes, weights = (torch.from_numpy(v) for v in self.quadrature)
        count = references.count
        end_weight = None
        if len(nodes) and nodes[-1] == 1:
            end_weight = float(weights[-1]) / count
            nodes, weights = nodes[:-1], weights[:-1]
        which = torch.arange(count, device="cpu").repeat_interleave(len(nodes))
        return Paths(inputs, references, which, nodes.repeat(count), weights.repeat(count) / count, None, end_weight)

    def coarse(self, n_steps: int) -> Fixed:
        return Fixed(self.method, n_steps, "screening_steps")

    def going_on(self, n_steps: int, sums: Sums) -> tuple[Rule, Sums | None]:
        more = continuation(self.coarse(n_steps).quadrature, self.quadrature)
        if more is None:
            return self, None
        missing, factor = more
        return Fixed(self.method, n_steps, missing=missing), tuple(s * factor for s in sums)
