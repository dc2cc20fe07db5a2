"""What other precisions, memory formats and compilers gain for ExpectedGradients, and what they cost in the map."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial, reduce
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.cost.peers import bare_gradients
from benchmarks.cost.workloads import describe
from benchmarks.models.training import bfloat16_instructions
from benchmarks.quadrature.problems import Problem, Table
from benchmarks.quadrature.settings import Settings
from benchmarks.run.counting import in_turns, timed
from captum_wg import ExpectedGradients
from captum_wg.engine.problem import automatic_rows

FLOOR = "floor (bare float32 loop)"


def folded(model: nn.Module) -> nn.Module:
    """A copy in which each BatchNorm is part of the convolution before it."""
    from torch.fx.experimental.optimization import fuse

    return fuse(copy.deepcopy(model).eval()).requires_grad_(False)


def channels_last(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).to(memory_format=torch.channels_last)


# By which changes a form of the model is made of the float32 one, and the context that it runs in on a type of device.
Form = tuple[Sequence[Callable[[nn.Module], Any]], Callable[[str], AbstractContextManager]]
plain, bfloat16 = nullcontext, partial(torch.autocast, dtype=torch.bfloat16)
FORMS: dict[str, Form] = {
    "float32": ([], plain),
    "bfloat16 autocast": ([], bfloat16),
    "channels_last": ([channels_last], plain),
    "torch.compile": ([partial(torch.compile, dynamic=False)], plain),
    "BatchNorm folded": ([folded], plain),
    "BatchNorm folded, channels_last": ([folded, channels_last], plain),
    "bfloat16 autocast, BatchNorm folded, channels_last": ([folded, channels_last], bfloat16),
}


def compare(problem: Problem, n_steps: int, repeats: int, forms: Mapping[str, Form]) -> pd.DataFrame:
    """One line per form: seconds of the first image's map, beside a bare float32 loop of as many gradients, and how
    the maps of all images differ from those in float32."""
    x, y = problem.x, problem.y
    notes, maps = dict.fromkeys((FLOOR, *forms), ""), {}
    work: dict[str, Callable[[], Any]] = {}
    for name, form in tqdm(forms.items(), desc="maps", unit="form", leave=False):
        try:
            explain = _explainer(form, problem.model, n_steps)
            # All images, one by one: also the warm-up, and what compiles.
            maps[name] = problem.explain(explain, 1).float()
            work[name] = partial(explain, x[:1], problem.references, y[:1])
        except Exception as error:  # noted in the row; the others go on
            notes[name] = describe(error)
    count, usual = len(problem.references) * n_steps, automatic_rows((x,))
    sizes = sorted({min(count, max(1, round(usual * share))) for share in (0.5, 1, 2)})
    loops = {f"{size} rows": partial(bare_gradients, problem.model, x[:1], int(y[0]), count, size) for size in sizes}
    seconds = pd.DataFrame(index=range(repeats), columns=[*loops, *work], dtype=float)
    for repeat, name in tqdm([*in_turns(seconds.columns, repeats)], desc="times", unit="run", leave=False):
        seconds.loc[repeat, name] = timed({**loops, **work}[name], x.device)[0]
    # The micro-batch that is the best in this repeat: the floor is the least there is.
    seconds.insert(0, FLOOR, seconds[list(loops)].min(axis=1))
    seconds = seconds.drop(columns=list(loops))
    spread = {"": "median", "_min": "min", "_max": "max"}
    times = {"seconds": seconds, "ratio": seconds.div(seconds[FLOOR], axis=0)}
    table = pd.DataFrame({f"{key}{end}": of.agg(how) for key, of in times.items() for end, how in spread.items()})
    table = table.reindex(list(notes)).rename_axis("form")
    if "float32" in maps:
        exact, plain_auc = maps["float32"], problem.deletion_auc(maps["float32"]).mean()
        for name, found in maps.items():
            elements, auc = _rank_correlations(found, exact), problem.deletion_auc(found).mean()
            pixels = _rank_correlations(found.sum(1), exact.sum(1))
            table.loc[name, ["rank correlation", "smallest"]] = np.mean(elements), np.min(elements)
            table.loc[name, ["of pixels", "deletion AUC", "change"]] = np.mean(pixels), auc, auc / plain_auc - 1
    return table.assign(note=notes).reset_index()


def _explainer(form: Form, model: nn.Module, n_steps: int) -> Callable[..., Tensor]:
    changes, context = form
    method = ExpectedGradients(reduce(lambda model, change: change(model), changes, model))

    def explain(x: Tensor, baselines: Tensor, target: Tensor) -> Tensor:
        with warnings.catch_warnings(), context(x.device.type):
            warnings.simplefilter("ignore")
            return method.attribute(x, baselines, target, n_steps=n_steps, pairing="shared")

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


def precision(settings: Settings, problem: Problem) -> Table:
    """The table `precision`, with its text."""
    full = compare(problem, settings.n_steps, settings.repeats, FORMS)
    text = (
        f"ExpectedGradients, {settings.n_steps} steps, {settings.device}, PyTorch {torch.__version__}"
        f"{instructions(settings.device)}. Seconds and ratios (to the bare float32 loop of as many gradients at the "
        "best of three micro-batches, taken anew in each repeat) are of one image, median, smallest and largest of "
        f"{settings.repeats} interleaved repeats. Rank correlation (Spearman, to the float32 map; mean and smallest) "
        "and deletion AUC (judged by the float32 model; change against the float32 map's) are of all images."
    )
    frame = full.to_markdown(index=False, floatfmt=".4f")
    return problem.text(settings, frame, text), {"precision": full}
