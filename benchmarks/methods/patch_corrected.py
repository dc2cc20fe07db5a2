"""What the output loses with each patch of a grid: as a map by itself, and maps over baselines corrected by it."""

from __future__ import annotations

from functools import partial

from captum.attr import DeepLift, FeatureAblation
from torch import Tensor

from benchmarks.methods.hookable import hookable
from benchmarks.methods.method import NO_DRAWS, SAME_DRAWS, Batch, Method, MethodSettings, explained
from benchmarks.methods.weightings import EG
from benchmarks.run.errors import BenchmarkError
from captum_wg import ExpectedGradients, OverBaselines, PatchCorrected, SmoothGrad
from captum_wg.baselines import channel_mean
from captum_wg.engine.checks import check_choice, check_positive_int
from captum_wg.patch_correction import grid

# Of a side.
PATCHES = 8
METHODS = (EG, "SmoothGrad", "DeepLift")
REMOVES = "{} removes patches by the mean of each channel; judges that remove otherwise are not its own yardstick."


def patch_corrected(
    name: str,
    settings: MethodSettings,
    *,
    n_steps: int = 1,
    pool: int | None = None,
    patches: int = PATCHES,
    method: str = EG,
) -> Method:
    """The row of `PatchCorrected`.

    Args:
        n_steps: points on the path from each baseline, or samples of SmoothGrad.
        pool: of how many baselines, the first ones; None: all.
        patches: of a side.
        method: what is corrected: ExpectedGradients; SmoothGrad, times the image from the baselines' mean; or DeepLift.

    Raises:
        BenchmarkError: a value that can't be.
    """
    try:
        for word, value in (("n_steps", n_steps), ("patches", patches)):
            check_positive_int(value, word)
        settings.check_pool(1 if pool is None else check_positive_int(pool, "pool"))
        check_choice(method, "method", METHODS)
    except (TypeError, ValueError) as error:
        raise BenchmarkError(f"{name}: {error}") from error
    draws = SAME_DRAWS if method == "SmoothGrad" else NO_DRAWS
    explain = partial(_corrected, n_steps=n_steps, pool=pool, patches=patches, method=method)
    return explained(name, explain, notes=(REMOVES.format(name),), draws=draws)


def _corrected(batch: Batch, *, n_steps: int, pool: int | None, patches: int, method: str) -> Tensor:
    batch = batch.of_first(pool)
    if method == "DeepLift":
        return batch.in_parts(PatchCorrected(OverBaselines(DeepLift(hookable(batch.model))), patches).attribute)
    if method == "SmoothGrad":
        corrected = PatchCorrected(SmoothGrad(batch.model), patches).attribute
        return batch.in_parts(corrected, n_samples=n_steps, generator=batch.seed)
    return batch.in_parts(PatchCorrected(ExpectedGradients(batch.model), patches).attribute, n_steps=n_steps)


def patch_ablation(name: str, settings: MethodSettings, *, patches: int = PATCHES) -> Method:
    """The row of the drops of the output alone, each written into every pixel of its patch.

    Args:
        patches: of a side.

    Raises:
        BenchmarkError: a value that can't be.
    """
    try:
        check_positive_int(patches, "patches")
    except (TypeError, ValueError) as error:
        raise BenchmarkError(f"{name}: {error}") from error
    return explained(name, partial(_ablate, patches=patches), notes=(REMOVES.format(name),))


def _ablate(batch: Batch, *, patches: int) -> Tensor:
    method, mask = OverBaselines(FeatureAblation(batch.model)), grid((batch.inputs,), patches)[0]
    return method.attribute(batch.inputs, channel_mean(), target=batch.targets, feature_mask=mask, show_progress=False)


ROWS = {"PatchCorrected": patch_corrected, "PatchAblation": patch_ablation}
