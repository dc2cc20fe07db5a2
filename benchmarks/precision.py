"""What other precisions, memory formats and compilers gain for ExpectedGradients, and what they cost in the map."""

from __future__ import annotations

import argparse
import contextlib
import copy
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.cost import peers
from benchmarks.cost.workloads import describe, synchronize
from benchmarks.data import datasets as data
from benchmarks.models import checkpoints as models
from captum_wg import ExpectedGradients
from captum_wg.engine.problem import automatic_rows

AIM = "<= 0.5 with rank correlation >= 0.99"
COLUMNS = ("seconds", "seconds_min", "seconds_max", "ratio", "ratio_min", "ratio_max")


@dataclass(frozen=True)
class Form:
    """A form of the model: how it is made of the float32 one, and the context that it runs in on a type of device."""

    name: str
    make: Callable[[nn.Module], Any] = lambda model: model
    context: Callable[[str], AbstractContextManager] = lambda device: contextlib.nullcontext()


def autocast(device: str) -> AbstractContextManager:
    return torch.autocast(device, dtype=torch.bfloat16)


def folded(model: nn.Module) -> nn.Module:
    """A copy in which each BatchNorm is part of the convolution before it."""
    from torch.fx.experimental.optimization import fuse

    return fuse(copy.deepcopy(model).eval()).requires_grad_(False)


def channels_last(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).to(memory_format=torch.channels_last)


FORMS: tuple[Form, ...] = (
    Form("float32"),
    Form("bfloat16 autocast", context=autocast),
    Form("channels_last", channels_last),
    Form("torch.compile", lambda model: torch.compile(model, dynamic=False)),
    Form("BatchNorm folded", folded),
    Form("BatchNorm folded, channels_last", lambda model: channels_last(folded(model))),
    Form(
        "bfloat16 autocast, BatchNorm folded, channels_last",
        lambda model: channels_last(folded(model)),
        autocast,
    ),
)


def compare(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    references: Tensor,
    n_steps: int,
    repeats: int,
    forms: Sequence[Form] = FORMS,
    progress: bool = True,
) -> pd.DataFrame:
    """One line per form: seconds of the first image's map, beside a bare float32 loop of as many gradients, and how
    the maps of all images differ from those in float32."""
    device = x.device.type
    count = len(references) * n_steps
    usual = automatic_rows((x,))
    sizes = sorted({min(count, max(1, round(usual * share))) for share in (0.5, 1, 2)})
    failed: dict[str, str] = {}
    seconds: dict[str, list[float]] = {"floor": [], **{form.name: [] for form in forms}}
    prepared: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}
    maps: dict[str, np.ndarray] = {}

    def timed(work: Callable[[], Any]) -> float:
        synchronize(str(x.device))
        started = time.perf_counter()
        work()
        synchronize(str(x.device))
        return time.perf_counter() - started

    with tqdm(total=len(forms) + repeats * (len(forms) + 1), unit="run", disable=not progress) as bar:
        for form in forms:
            bar.set_description(f"{form.name}: maps")
            try:
                prepared[form.name] = _explainer(form, model, references, n_steps, device)
                # All images, one by one: also the warm-up, and what compiles.
                maps[form.name] = np.concatenate(
                    [prepared[form.name](x[i : i + 1], y[i : i + 1]).float().cpu().numpy() for i in range(len(x))]
                )
            except Exception as error:  # noted in the row; the others go on
                failed[form.name] = describe(error)
            bar.update()
        working = [form for form in forms if form.name in maps]
        for repeat in range(repeats):
            bar.set_description(f"times {repeat + 1}/{repeats}")
            # The micro-batch that is the best in this repeat: the floor is the least there is.
            times = [timed(lambda n=n: peers.bare_gradients(model, x[:1], int(y[0]), count, n)) for n in sizes]
            seconds["floor"].append(min(times))
            bar.update()
            for form in working if repeat % 2 == 0 else reversed(working):
                seconds[form.name].append(timed(lambda f=form: prepared[f.name](x[:1], y[:1])))
                bar.update()

    lines = [_line("floor (bare float32 loop)", seconds["floor"], seconds["floor"])]
    expected = maps.get("float32")
    base = _deletion(model, x, y, expected) if expected is not None else None
    for form in forms:
        line = _line(form.name, seconds[form.name], seconds["floor"])
        if form.name in maps and expected is not None and base is not None:
            own = maps[form.name]
            elements = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(own, expected, strict=True)]
            pixels = [
                spearmanr(a.sum(0).ravel(), b.sum(0).ravel()).statistic for a, b in zip(own, expected, strict=True)
            ]
            auc = _deletion(model, x, y, own)
            line |= {
                "rank correlation": float(np.mean(elements)),
                "smallest": float(np.min(elements)),
                "of pixels": float(np.mean(pixels)),
                "deletion AUC": float(auc.mean()),
                "change": float(auc.mean() / base.mean() - 1),
                "aim": AIM,
            }
        line["note"] = failed.get(form.name, "")
        lines.append(line)
    return pd.DataFrame(lines)


def _explainer(
    form: Form, model: nn.Module, references: Tensor, n_steps: int, device: str
) -> Callable[[Tensor, Tensor], Tensor]:
    method = ExpectedGradients(form.make(model))

    def explain(x: Tensor, y: Tensor) -> Tensor:
        with warnings.catch_warnings(), form.context(device):
            warnings.simplefilter("ignore")
            return method.attribute(x, references, y, n_steps=n_steps, pairing="shared")

    return explain


def _line(name: str, seconds: Sequence[float], floor: Sequence[float]) -> dict[str, Any]:
    line: dict[str, Any] = {"form": name}
    if seconds:
        ratios = [a / b for a, b in zip(seconds, floor, strict=True)]
        values = [f(v) for v in (seconds, ratios) for f in (median, min, max)]
        line |= dict(zip(COLUMNS, values, strict=True))
    return line


def _deletion(model: nn.Module, x: Tensor, y: Tensor, maps: np.ndarray) -> np.ndarray:
    """The deletion AUC (B,) of maps, always judged by the float32 model."""
    from quantus_ext import DeletionAUC

    metric = DeletionAUC(levels=100, disable_warnings=True)
    judged = metric(model, x.cpu().numpy(), y.cpu().numpy(), maps, device=str(x.device), channel_first=True)
    return np.asarray(judged)


def bfloat16(device: str) -> str:
    """Whether a CPU computes in bfloat16 itself, as far as PyTorch tells; without that autocast is slower there."""
    if torch.device(device).type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return ""
    found = [name for name in ("amx_bf16", "avx512_bf16") if torch.cpu.get_capabilities().get(name)]
    return f", bfloat16 instructions: {', '.join(found) or 'none known (autocast emulates them)'}"


def precision(given: argparse.Namespace) -> int:
    """The command `python -m benchmarks.speed --precision`: 0 if every form's map could be made, else 1."""
    name = "digits" if given.data in (None, "noise") else given.data
    images = data.load(name, given.root)
    model = (
        models.load_checkpoint(given.weights, images.classes)
        if given.weights
        else models.digits_model(images.train, given.cache)
    )
    model = models.ready(model, given.device)
    chosen = data.select_correct(model, images.test, given.images or 8, given.seed, given.device)
    data.tell_unreadable(chosen.unreadable.values())
    references = data.sample_references(images.train, given.baselines or 10, given.seed).to(given.device)
    n_steps = given.n_steps or 50
    full = compare(model, chosen.x.to(given.device), chosen.y.to(given.device), references, n_steps, given.repeats)
    text = [
        "# Precision",
        f"ExpectedGradients of ResNet-18 on {images.name}, {len(references)} baselines x {n_steps} steps, seed "
        f"{given.seed}, {given.device}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
        f"{bfloat16(given.device)}. Seconds and ratios (to the bare float32 loop of as many gradients at the best of "
        f"three micro-batches, taken anew in each repeat) are of one image, median, smallest and largest of "
        f"{given.repeats} interleaved repeats. Rank correlation (Spearman, to the float32 map; mean and smallest) and "
        f"deletion AUC (judged by the float32 model; change against the float32 map's) are of {len(chosen.x)} "
        f"correctly classified test images.",
        full.to_markdown(index=False, floatfmt=".4f"),
    ]
    print("\n\n".join(text[1:]))
    full.to_csv(Path(given.out) / "precision.csv", index=False)
    (Path(given.out) / "precision.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    return 0 if full["note"].fillna("").eq("").all() else 1
