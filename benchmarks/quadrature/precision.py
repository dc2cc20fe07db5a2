"""What other precisions, memory formats and compilers gain for ExpectedGradients, and what they cost in the map."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.cost.counting import timed
from benchmarks.cost.peers import bare_gradients
from benchmarks.cost.workloads import describe
from benchmarks.models.training import bfloat16_instructions
from benchmarks.quadrature.fewer import Table, deletion_auc
from benchmarks.quadrature.problems import Problem
from benchmarks.quadrature.settings import Settings
from captum_wg import ExpectedGradients
from captum_wg.engine.problem import automatic_rows

FLOOR = "floor (bare float32 loop)"

# How a form of the model is made of the float32 one, and the context that it runs in on a type of device.
Form = tuple[Callable[[nn.Module], Any], Callable[[str], AbstractContextManager]]


def plain(device: str) -> AbstractContextManager:
    return contextlib.nullcontext()


def folded(model: nn.Module) -> nn.Module:
    """A copy in which each BatchNorm is part of the convolution before it."""
    from torch.fx.experimental.optimization import fuse

    return fuse(copy.deepcopy(model).eval()).requires_grad_(False)


def channels_last(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).to(memory_format=torch.channels_last)


def folded_channels_last(model: nn.Module) -> nn.Module:
    return channels_last(folded(model))


bfloat16 = partial(torch.autocast, dtype=torch.bfloat16)
FORMS: dict[str, Form] = {
    "float32": (lambda model: model, plain),
    "bfloat16 autocast": (lambda model: model, bfloat16),
    "channels_last": (channels_last, plain),
    "torch.compile": (partial(torch.compile, dynamic=False), plain),
    "BatchNorm folded": (folded, plain),
    "BatchNorm folded, channels_last": (folded_channels_last, plain),
    "bfloat16 autocast, BatchNorm folded, channels_last": (folded_channels_last, bfloat16),
}


def compare(
    problem: Problem, n_steps: int, repeats: int, forms: Mapping[str, Form], progress: bool = True
) -> pd.DataFrame:
    """One line per form: seconds of the first image's map, beside a bare float32 loop of as many gradients, and how
    the maps of all images differ from those in float32."""
    x, y, device = problem.x, problem.y, problem.x.device
    count, usual = len(problem.references) * n_steps, automatic_rows((x,))
    sizes = sorted({min(count, max(1, round(usual * share))) for share in (0.5, 1, 2)})
    loops = [partial(bare_gradients, problem.model, x[:1], int(y[0]), count, size) for size in sizes]
    failed: dict[str, str] = {}
    work: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}
    maps: dict[str, Tensor] = {}
    seconds: dict[str, list[float]] = {FLOOR: []}
    with tqdm(total=len(forms) + repeats * (len(forms) + 1), unit="run", disable=not progress) as bar:
        for name, form in forms.items():
            bar.set_description(f"{name}: maps")
            try:
                explain = _explainer(form, problem, n_steps)
                # All images, one by one: also the warm-up, and what compiles.
                maps[name] = torch.cat([explain(x[i : i + 1], y[i : i + 1]).float() for i in range(len(x))])
                work[name], seconds[name] = explain, []
            except Exception as error:  # noted in the row; the others go on
                failed[name] = describe(error)
            bar.update()
        for repeat in range(repeats):
            bar.set_description(f"times {repeat + 1}/{repeats}")
            # The micro-batch that is the best in this repeat: the floor is the least there is.
            seconds[FLOOR].append(min(timed(loop, device)[0] for loop in loops))
            bar.update()
            for name in work if repeat % 2 == 0 else reversed(work):
                seconds[name].append(timed(partial(work[name], x[:1], y[:1]), device)[0])
                bar.update()

    exact = maps.get("float32")
    auc = {name: deletion_auc(problem, own).mean() for name, own in maps.items()}
    lines = []
    for name in (FLOOR, *forms):
        line: dict[str, Any] = {"form": name}
        if name in seconds:
            for key, values in (("seconds", seconds[name]), ("ratio", np.divide(seconds[name], seconds[FLOOR]))):
                line |= {key: np.median(values), f"{key}_min": min(values), f"{key}_max": max(values)}
        if name in maps and exact is not None:
            elements = _rank_correlations(maps[name], exact)
            line |= {"rank correlation": np.mean(elements), "smallest": np.min(elements)}
            line |= {"of pixels": np.mean(_rank_correlations(maps[name].sum(1), exact.sum(1)))}
            line |= {"deletion AUC": auc[name], "change": auc[name] / auc["float32"] - 1}
        lines.append(line | {"note": failed.get(name, "")})
    return pd.DataFrame(lines)


def _explainer(form: Form, problem: Problem, n_steps: int) -> Callable[[Tensor, Tensor], Tensor]:
    make, context = form
    method = ExpectedGradients(make(problem.model))

    def explain(x: Tensor, y: Tensor) -> Tensor:
        with warnings.catch_warnings(), context(x.device.type):
            warnings.simplefilter("ignore")
            return method.attribute(x, problem.references, y, n_steps=n_steps, pairing="shared")

    return explain


def _rank_correlations(found: Tensor, exact: Tensor) -> list[float]:
    pairs = zip(found.flatten(1).cpu().numpy(), exact.flatten(1).cpu().numpy(), strict=True)
    return [spearmanr(a, b).statistic for a, b in pairs]


def instructions(device: str) -> str:
    """Whether a CPU computes in bfloat16 itself, as far as PyTorch tells; without that autocast is slower there."""
    if torch.device(device).type != "cpu":
        return ""
    found = [name for name, there in bfloat16_instructions().items() if there]
    return f", bfloat16 instructions: {', '.join(found) or 'none known (autocast emulates them)'}"


def precision(problem: Problem, settings: Settings) -> Table:
    """The table `precision`, with its text."""
    full = compare(problem, settings.n_steps, settings.repeats, FORMS)
    text = (
        f"ExpectedGradients, {settings.n_steps} steps, {settings.device}, PyTorch {torch.__version__}"
        f"{instructions(settings.device)}. Seconds and ratios (to the bare float32 loop of as many gradients at the "
        "best of three micro-batches, taken anew in each repeat) are of one image, median, smallest and largest of "
        f"{settings.repeats} interleaved repeats. Rank correlation (Spearman, to the float32 map; mean and smallest) "
        "and deletion AUC (judged by the float32 model; change against the float32 map's) are of all images."
    )
    return f"{full.to_markdown(index=False, floatfmt='.4f')}\n\n{text}", {"precision": full}
