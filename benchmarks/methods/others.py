"""Rows of other libraries and papers: one line each in `ROWS`.

Every image is explained by itself, so that its map does not depend on those beside it: Captum's rule for max pooling
looks at the first row of a batch, and adaptive paths follow the last digits, which change with a batch's size.
Where a method needs a baseline or something to hide pixels with, it is 0, the mean colour of normalised images.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from captum.attr import (
    DeepLift,
    DeepLiftShap,
    GradientShap,
    GuidedBackprop,
    GuidedGradCam,
    IntegratedGradients,
    KernelShap,
    LayerAttribution,
    LayerGradCam,
    Lime,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from torch import Tensor, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from benchmarks.methods.bee import bee
from benchmarks.methods.blur_ig import blur_ig
from benchmarks.methods.guided_ig import guided_ig
from benchmarks.methods.hookable import Sum, graph_of, hookable
from benchmarks.methods.idgi import idgi
from benchmarks.methods.method import NO_DRAWS, SAME_DRAWS, Batch, Method, MethodSettings, explained
from benchmarks.methods.rise import rise
from benchmarks.methods.spectral_ig import spectral_ig
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.randomness import generator_of, seeded
from captum_wg.baselines import gaussian_blur

# Pairs of an image and a baseline, or changed images, that go through the network together.
ROWS_AT_ONCE = 16
# Of the rise of the output, and of the sum of all magnitudes: what DeepLift's map may miss of completeness.
DEEP_LIFT_TOLERANCE = 1e-2, 1e-5

HOOKED = (
    "Rows that change what modules pass back are computed on a copy of the network in which each ReLU and ReLU6 is a "
    "module of its own and batch norm is merged into the convolution before it; its outputs are the same."
)
FROM_ZERO = "Rows of other libraries that put something in the place of pixels take 0, the mean colour."
LAST_LAYER = "{} is of the last layer whose output has a height and a width."
BEST_OF_MANY = "{} is the best of its maps by deletion AUC over corners, so that this judge flatters it."
POOL = "{}: pool=K takes the first K baselines alone."
PUBLISHED = "{} explains the class' probability, as published, where other rows explain the network's output."

# (1, C, H, W), class -> map (1, C, H, W), or (1, 1, H, W) of a method that tells no channels apart.
Attribute = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Row:
    """A row of the registry: `row(name, settings, **keywords)` gives its `Method`.

    Attributes:
        prepare: `prepare(batch, **keywords)` makes the method ready for a batch's network, and gives the function that
            is called for each image.
        notes: "{}" stands for the row's name.
        draws, slow: as `Method` has them.
        package: what must be installed, besides the extra `benchmarks`.
    """

    prepare: Callable[..., Attribute]
    notes: tuple[str, ...] = ()
    draws: str = NO_DRAWS
    slow: bool = False
    package: str = ""
    group: ClassVar[str] = "others"

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.prepare)

    def __call__(self, name: str, settings: MethodSettings, **keywords: Any) -> Method:
        """The method, called `name` in the table.

        Raises:
            BenchmarkError: a keyword's value that can't be; it needs a package that is not installed.
        """
        for word, value in keywords.items():
            whole = isinstance(self.__signature__.parameters[word].default, int)
            number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not number or not (value >= 1 if whole else 0 < value < 1):
                wanted = "a whole number of at least 1" if whole else "a number between 0 and 1"
                raise BenchmarkError(f"--methods {name}: {word} must be {wanted}, got {value!r}")
        try:
            settings.check_pool(keywords.get("pool", 0))
        except ValueError as error:
            raise BenchmarkError(f"--methods {name}: {error}") from error
        if self.package and importlib.util.find_spec(self.package) is None:
            raise BenchmarkError(f"--methods {name} needs {self.package}: pip install 'captum-wg[peers]'")
        explain = partial(_one_by_one, partial(self.prepare, **keywords))
        notes = tuple(note.format(name) for note in self.notes)
        return explained(name, explain, group=self.group, notes=notes, draws=self.draws, slow=self.slow)


def _one_by_one(prepare: Callable[[Batch], Attribute], batch: Batch) -> Tensor:
    channels = batch.inputs.shape[1]
    with warnings.catch_warnings():
        # What Captum says of itself, not of the image.
        warnings.filterwarnings("ignore", "(?s).*(backward hooks|did not already require gradients)")
        attribute = prepare(batch)
        maps = [
            attribute(x.clone(), target).detach()
            for x, target in zip(batch.inputs.split(1), batch.targets.tolist(), strict=True)
        ]
    # What tells no channels apart is shared out among them, so that their sum is the map.
    return torch.cat([m if m.shape[1] == channels else m.expand(-1, channels, -1, -1) / channels for m in maps])


def _deep_lift(batch: Batch) -> Attribute:
    method = DeepLift(hookable(batch.model))
    return lambda x, target: _complete(*method.attribute(x, target=target, return_convergence_delta=True))


def _deep_lift_shap(batch: Batch, *, pool: int = 0) -> Attribute:
    method = DeepLiftShap(hookable(batch.model))

    def attribute(x: Tensor, target: int) -> Tensor:
        baselines = batch.of_first(pool or None).baselines_of(x)
        if len(baselines) < 2:
            raise BenchmarkError(f"DeepLiftShap needs 2 baselines or more, got {len(baselines)}; choose DeepLift")
        total = torch.zeros_like(x)
        for part in baselines.tensor_split(math.ceil(len(baselines) / ROWS_AT_ONCE)):
            mean, deltas = method.attribute(x, part, target=target, return_convergence_delta=True)
            total += _complete(mean, deltas.mean()) * (len(part) / len(baselines))
        return total

    return attribute


def _complete(maps: Tensor, delta: Tensor) -> Tensor:
    """The map, if it sums to the rise of the output: where the rescale rule misses an operation, it does not."""
    relative, rounding = DEEP_LIFT_TOLERANCE
    maps = maps.detach()
    total, excess = float(maps.sum()), float(delta.detach())
    if not abs(excess) <= relative * max(abs(total), abs(total - excess)) + rounding * float(maps.abs().sum()):
        raise ValueError(
            "DeepLift's map does not sum to the rise of the output: the network has operations that Captum's DeepLift "
            "has no rule for, such as products or layer norm; leave it out"
        )
    return maps


def _guided_backprop(batch: Batch) -> Attribute:
    network = hookable(batch.model)
    _only_relus(network)
    method = GuidedBackprop(network)
    return lambda x, target: method.attribute(x, target)


def _only_relus(network: nn.Module) -> None:
    activations = [module for module in network.modules() if type(module).__module__ == nn.ReLU.__module__]
    other_types = sorted({type(module).__name__ for module in activations} - {"ReLU"})
    if other_types or not activations:
        raise ValueError(
            f"GuidedBackprop is defined for networks of ReLUs; this one has {', '.join(other_types) or 'none'}"
        )


def _layer_grad_cam(batch: Batch) -> Attribute:
    network = hookable(batch.model)
    method = LayerGradCam(network, _last_layer(network, batch))
    size = tuple(batch.inputs.shape[2:])
    return lambda x, target: LayerAttribution.interpolate(
        method.attribute(x, target, relu_attributions=True), size, "bilinear"
    )


def _guided_grad_cam(batch: Batch) -> Attribute:
    network = hookable(batch.model)
    _only_relus(network)
    method = GuidedGradCam(network, _last_layer(network, batch))
    return lambda x, target: method.attribute(x, target, interpolate_mode="bilinear").abs()


def _last_layer(network: nn.Module, batch: Batch) -> nn.Module:
    """The last layer whose output has a height and a width."""
    graph = graph_of(network)
    ShapeProp(graph).propagate(batch.inputs[:1])
    shapes = {
        node.target: node.meta["tensor_meta"].shape
        for node in graph.graph.nodes
        if node.op == "call_module" and "tensor_meta" in node.meta
    }
    layers = [name for name, shape in shapes.items() if len(shape) == 4 and shape[2] * shape[3] > 1]
    if not layers:
        raise ValueError("Grad-CAM needs a layer whose output has a height and a width; this network has none")
    return graph.get_submodule(layers[-1])


def _occlusion(batch: Batch, *, patch: int = 0, stride: int = 0) -> Attribute:
    channels, side = batch.inputs.shape[1], min(batch.inputs.shape[2:])
    patch = patch or max(1, side // 8)
    stride = stride or max(1, patch // 2)
    return lambda x, target: Occlusion(batch.model).attribute(
        x, (channels, patch, patch), (channels, stride, stride), target=target, perturbations_per_eval=ROWS_AT_ONCE
    )


def _over_cells(kind: type, batch: Batch, *, cells: int = 8, n_samples: int = 1000) -> Attribute:
    """KernelShap or Lime, a grid of cells x cells being the features."""
    height, width = batch.inputs.shape[2:]
    down, across = (torch.arange(side, device=batch.inputs.device) * cells // side for side in (height, width))
    grid = (down[:, None] * cells + across).view(1, 1, height, width)

    def attribute(x: Tensor, target: int) -> Tensor:
        with seeded(batch.seed, kind.__name__):
            return kind(batch.model).attribute(
                x, target=target, feature_mask=grid, n_samples=n_samples, perturbations_per_eval=ROWS_AT_ONCE
            )

    return attribute


def _relevance(composite: str, batch: Batch) -> Attribute:
    from zennit import composites
    from zennit.attribution import Gradient
    from zennit.rules import Norm

    network = hookable(batch.model)
    _only_known(graph_of(network))
    rules = getattr(composites, composite)(layer_map=[((Sum,), Norm())])

    def attribute(x: Tensor, target: int) -> Tensor:
        with Gradient(network, rules) as attributor:
            return attributor(x, lambda out: F.one_hot(torch.tensor([target]), out.shape[1]).to(out))[1]

    return attribute


# What only moves numbers about: its gradient passes relevance on as it should. The rest, zennit's rules must know.
MOVES = {"flatten", "stack", "cat", "view", "reshape", "permute", "transpose", "contiguous", "chunk"}
SIZES = {"size", "getitem", "getattr", "floordiv"}


def _only_known(graph: torch.fx.GraphModule) -> None:
    from zennit.types import Activation, AvgPool, Linear, MaxPool

    known = (Linear, Activation, AvgPool, MaxPool, Sum, nn.Dropout, nn.Identity, nn.Flatten, nn.ZeroPad2d)
    unknown = set()
    for node in graph.graph.nodes:
        if node.op == "call_module":
            module = graph.get_submodule(node.target)
            if not isinstance(module, known) or isinstance(module, nn.MultiheadAttention):
                unknown.add(type(module).__name__)
        elif node.op in ("call_function", "call_method"):
            name = getattr(node.target, "__name__", node.target)
            if name not in MOVES | SIZES:
                unknown.add(name)
    if unknown:
        raise ValueError(
            f"zennit's rules don't say how relevance passes {', '.join(sorted(unknown))}, which this network has; "
            "choose another method"
        )


def _rise(batch: Batch, *, n_masks: int = 4000, cells: int = 7, seen: float = 0.5) -> Attribute:
    return partial(rise, batch.model, n_masks=n_masks, cells=cells, seen=seen, seed=batch.seed)


def _idgi(batch: Batch, *, n_steps: int = 128) -> Attribute:
    return partial(idgi, batch.model, n_steps=n_steps, rows=ROWS_AT_ONCE)


def _guided_ig(batch: Batch, *, n_steps: int = 200, fraction: float = 0.25, radius: float = 0.02) -> Attribute:
    return partial(guided_ig, batch.model, n_steps=n_steps, fraction=fraction, radius=radius)


def _blur_ig(batch: Batch, *, n_steps: int = 100, largest: float = 0.2) -> Attribute:
    return partial(blur_ig, batch.model, n_steps=n_steps, largest=largest, rows=ROWS_AT_ONCE)


def _spectral_ig(batch: Batch, *, n_steps: int = 200, overlap: float = 0.4) -> Attribute:
    return partial(spectral_ig, batch.model, n_steps=n_steps, overlap=overlap, rows=ROWS_AT_ONCE)


def _bee(batch: Batch, *, n_draws: int = 50, n_steps: int = 5, levels: int = 10) -> Attribute:
    tries = dict(n_draws=n_draws, n_steps=n_steps, levels=levels, rows=ROWS_AT_ONCE)
    return lambda x, target: bee(
        batch.model, x, target, batch.baselines_of(x), generator=generator_of(batch.seed, "BEE"), **tries
    )


def _from_zero(batch: Batch, *, n_steps: int = 50) -> Attribute:
    return partial(_straight, IntegratedGradients(batch.model), n_steps, lambda x: torch.zeros_like(x))


def _from_blur(batch: Batch, *, n_steps: int = 50, sigma: float = 0.125) -> Attribute:
    blur = gaussian_blur(sigma * max(batch.inputs.shape[2:]))
    return partial(_straight, IntegratedGradients(batch.model), n_steps, lambda x: blur(x)[:, 0])


def _straight(
    method: IntegratedGradients, n_steps: int, baseline: Callable[[Tensor], Tensor], x: Tensor, target: int
) -> Tensor:
    return method.attribute(x, baseline(x), target, n_steps=n_steps, internal_batch_size=ROWS_AT_ONCE)


def _gradient_shap(batch: Batch, *, n_samples: int = 50, pool: int = 0) -> Attribute:
    batch = batch.of_first(pool or None)

    def attribute(x: Tensor, target: int) -> Tensor:
        total, baselines = torch.zeros_like(x), batch.baselines_of(x)
        with seeded(batch.seed, "GradientShap"):
            for part in torch.arange(n_samples).split(ROWS_AT_ONCE):
                mean = GradientShap(batch.model).attribute(x, baselines, len(part), target=target)
                total += mean * (len(part) / n_samples)
        return total

    return attribute


def _smooth_grad(batch: Batch, *, n_samples: int = 50, noise: float = 0.15) -> Attribute:
    def attribute(x: Tensor, target: int) -> Tensor:
        with seeded(batch.seed, "SmoothGrad"):
            return x * NoiseTunnel(Saliency(batch.model)).attribute(
                x,
                nt_samples=n_samples,
                nt_samples_batch_size=ROWS_AT_ONCE,
                stdevs=noise * float(x.max() - x.min()),
                target=target,
                abs=False,
            )

    return attribute


ROWS = {
    "DeepLift": Row(_deep_lift, (HOOKED, FROM_ZERO)),
    "DeepLiftShap": Row(_deep_lift_shap, (HOOKED, POOL)),
    "GuidedBackprop": Row(_guided_backprop, (HOOKED,)),
    "LayerGradCam": Row(_layer_grad_cam, (LAST_LAYER,)),
    "GuidedGradCam": Row(_guided_grad_cam, (HOOKED, LAST_LAYER, "{} is taken absolute.")),
    "Occlusion": Row(_occlusion, (FROM_ZERO,)),
    "KernelShap": Row(partial(_over_cells, KernelShap), (FROM_ZERO,), draws=SAME_DRAWS, slow=True),
    "Lime": Row(partial(_over_cells, Lime), (FROM_ZERO,), draws=SAME_DRAWS, slow=True),
    "EpsilonPlus": Row(partial(_relevance, "EpsilonPlus"), (HOOKED,), package="zennit"),
    "EpsilonAlpha2Beta1": Row(partial(_relevance, "EpsilonAlpha2Beta1"), (HOOKED,), package="zennit"),
    "RISE": Row(_rise, (PUBLISHED, FROM_ZERO), draws=SAME_DRAWS, slow=True),
    "IDGI": Row(_idgi, (PUBLISHED, FROM_ZERO)),
    "GuidedIG": Row(_guided_ig, (PUBLISHED, FROM_ZERO)),
    "BlurIG": Row(_blur_ig, (PUBLISHED,)),
    "SpectralIG": Row(_spectral_ig, (PUBLISHED, FROM_ZERO)),
    "BEE": Row(_bee, (BEST_OF_MANY,), draws=SAME_DRAWS, slow=True),
    "IntegratedGradients-zero": Row(_from_zero, (FROM_ZERO,)),
    "IntegratedGradients-blur": Row(_from_blur, ("{} starts from the image blurred by sigma sides.",)),
    "GradientShap-references": Row(_gradient_shap, (POOL,), draws=SAME_DRAWS),
    "SmoothGrad": Row(_smooth_grad, ("{} is the mean of noisy gradients times the image, signed.",), draws=SAME_DRAWS),
}
