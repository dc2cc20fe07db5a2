"""What a row of the tables is: the ingredients that it needs, and how they combine to a map.

An ingredient is what costs gradients: the maps of K baselines, their D_alpha, or a whole explanation. It is computed
for a batch of images, stored image by image, and shared by all rows that need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

# (1, C, H, W) inputs -> baselines; or the baselines themselves (K, C, H, W), as captum_wg takes both.
Baselines = Tensor | Callable[[Tensor], Any]

# Images that are explained together; bounds memory, changes no map.
IMAGES_AT_ONCE = 16
# What random numbers a method uses when it explains the same or a perturbed input again.
NO_DRAWS, SAME_DRAWS, NEW_DRAWS = "no draws", "same draws", "new draws"


def file_name(name: str) -> str:
    """A row's name as it can stand in the name of a file: "WeightedGradients,power=2,keep=3,smooth=3-32"."""
    return name.translate(str.maketrans({"(": ",", "/": "-", **dict.fromkeys(")[] '\"", "")}))


@dataclass(frozen=True)
class MethodSettings:
    """What of an experiment the rows are made with, where their names say nothing else.

    Attributes:
        n_baselines: K.
        n_steps: points on the path from each baseline.
        alpha, neutral, ranking: of D_alpha.
        fresh_draws: whether a sampler draws anew for each explanation instead of repeating its points.
    """

    n_baselines: int = 10
    n_steps: int = 50
    alpha: float = 0.5
    neutral: str = "corners"
    ranking: str = "signed"
    fresh_draws: bool = False

    def check_pool(self, pool: int) -> None:
        """Raise ValueError for more baselines than there are."""
        if pool > self.n_baselines:
            raise ValueError(f"pool must be at most {self.n_baselines}, the number of baselines, got {pool}")


@dataclass(frozen=True, eq=False)
class Batch:
    """Images that are explained together, and what they are explained with.

    Attributes:
        model: the network in evaluation mode, or what a judge made of it.
        inputs: (N, C, H, W), float32, on the model's device.
        targets: (N,), int64, the class that is explained of each.
        names: of the images; random numbers follow from them.
        baselines: K of them.
        seed: of whatever is drawn.
        local_radius: gives the radius of the local measures, in units of the normalised input.
        internal_batch_size: how many points share a forward; None: by the size of an input.
    """

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    names: tuple[str, ...]
    baselines: Baselines
    seed: int = 0
    local_radius: Callable[[], float] = lambda: 1.0
    internal_batch_size: int | None = None

    def baselines_of(self, x: Tensor) -> Tensor:
        """Those of one input (1, C, H, W): (K, C, H, W)."""
        found = self.baselines(x) if callable(self.baselines) else self.baselines.to(x)
        return found.reshape(-1, *x.shape[1:])

    def of_first(self, count: int | None) -> Batch:
        """The same with the first baselines alone; None: with all."""
        made = self.baselines
        if count is None:
            return self
        if isinstance(made, Tensor):
            return replace(self, baselines=made[:count])
        return replace(self, baselines=lambda x: self.baselines_of(x)[:count])

    def in_parts(self, explain: Callable[..., Tensor], **settings: Any) -> Tensor:
        """The maps by a class of captum_wg, from its `attribute`, of `IMAGES_AT_ONCE` images at most in a call."""
        count = math.ceil(len(self.inputs) / IMAGES_AT_ONCE)
        baselines = self.baselines if callable(self.baselines) else self.baselines.to(self.inputs)
        settings |= dict(pairing="shared", internal_batch_size=self.internal_batch_size, show_progress=False)
        parts = zip(self.inputs.tensor_split(count), self.targets.tensor_split(count), strict=True)
        return torch.cat([explain(x, baselines, target, **settings) for x, target in parts])


Explain = Callable[[Batch], "Tensor | np.ndarray"]


@dataclass(frozen=True)
class Ingredient:
    """Something that methods are made of. A subclass says how by `make`.

    Attributes:
        name: two ingredients of one name and kind are the same, but for how many baselines they are of.
        count: of how many baselines, the first ones; None where it is not of single baselines. What is computed of a
            baseline is taken to be the same among however many others.
        needs: the ingredients that it is made of itself.
        kind: the first word of its results' keys; of kind "maps" are those that --discard-maps deletes.
    """

    name: str
    count: int | None = None
    needs: tuple[Ingredient, ...] = ()
    kind: ClassVar[str] = "maps"

    @property
    def key(self) -> tuple[str, str]:
        """Where its results are, but for the images."""
        name = file_name(self.name)
        return self.kind, name if self.count is None else f"{name}-first{self.count}"

    def make(self, batch: Batch, *needed: np.ndarray) -> np.ndarray:
        """Its value for each image (N, ...), from those of `needs`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Explanation(Ingredient):
    """The maps of a method that is no weighting: (N, C, H, W), or (N, n * C, H, W) of n rows that share one pass."""

    explain: Explain = field(kw_only=True)

    def make(self, batch: Batch, *needed: np.ndarray) -> np.ndarray:
        """The maps, float32.

        Raises:
            ValueError: their shape does not belong to that of the inputs.
        """
        found = self.explain(batch)
        maps = (found.detach().cpu().numpy() if isinstance(found, Tensor) else np.asarray(found)).astype(np.float32)
        n, channels, *size = batch.inputs.shape
        if maps.ndim != 4 or (len(maps), *maps.shape[2:]) != (n, *size) or maps.shape[1] % channels:
            raise ValueError(f"the maps have shape {maps.shape}, the inputs {tuple(batch.inputs.shape)}")
        return maps


# x (C, H, W), the ingredients' values for this image, a generator of this row's and image's own -> map (C, H, W).
Combine = Callable[..., np.ndarray]


@dataclass(frozen=True, eq=False)
class Method:
    """A row.

    Attributes:
        name: as it stands in the tables and is asked for by `--methods`.
        ingredients: what it needs; none for a map that asks no network.
        combine: `combine(x, values, generator)` gives its map (C, H, W), all channels kept, float32, of one image
            x (C, H, W), a Tensor, and the tuple of its ingredients' values for that image.
        group: "captum", "ours", "published", "others" or "control".
        notes: what a reader must know of it; the same text of several rows appears once.
        channels: the form its maps are usually judged in: 1 (summed over the channels) or 3.
        draws: NO_DRAWS, SAME_DRAWS or NEW_DRAWS.
        slow: many forwards for one map, too slow to explain again and again.
        source: rows of one source are explained again together, where a judge does so; by default its own name.
        local: whether it looks within the local radius.
        weighting: of a weighting of baselines its `benchmarks.methods.weightings.Weighting`; None of all else.
    """

    name: str
    ingredients: tuple[Ingredient, ...] = ()
    combine: Combine = field(kw_only=True)
    group: str = "ours"
    notes: tuple[str, ...] = ()
    channels: int = 1
    draws: str = NO_DRAWS
    slow: bool = False
    source: str = ""
    local: bool = False
    weighting: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", self.source or self.name)

    @property
    def every(self) -> tuple[Ingredient, ...]:
        """The ingredients and, after them, all that these are made of, each once."""
        needed = (one for own in self.ingredients for one in own.needs)
        found = {one.key: one for one in (*self.ingredients, *needed)}
        return tuple(found.values())


def explained(name: str, explain: Explain, *, part: tuple[int, int] = (0, 1), source: str = "", **more: Any) -> Method:
    """A row whose map is what a function gives for a batch: any method of Captum or another library.

    Args:
        explain: takes a `Batch` and gives maps (N, C, H, W), an array or a Tensor, all channels kept.
        part: (i, n) if `explain` gives the maps of n rows along the channels (N, n * C, H, W), this one's the i-th.
        source: the name of what `explain` computes, if rows share it.
        more: of `Method`.
    """
    i, n = part

    def combine(x: Tensor, values: tuple[np.ndarray, ...], generator: np.random.Generator) -> np.ndarray:
        (maps,) = values
        size = len(maps) // n
        return maps[i * size : (i + 1) * size].copy()

    return Method(name, (Explanation(source or name, explain=explain),), combine=combine, source=source, **more)
