"""Expected gradients corrected by what the output loses with each patch."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from benchmarks.methods.method import Batch, Method, MethodSettings, explained
from benchmarks.run.errors import BenchmarkError
from captum_wg import ExpectedGradients, PatchCorrected
from captum_wg.engine.checks import check_positive_int


def patch_corrected(
    name: str, settings: MethodSettings, *, n_steps: int = 1, pool: int | None = None, patches: int = 8
) -> Method:
    """The row of `PatchCorrected(ExpectedGradients)`.

    Args:
        n_steps: points on the path from each baseline.
        pool: of how many baselines, the first ones; None: all.
        patches: of a side.

    Raises:
        BenchmarkError: a value that can't be.
    """
    try:
        for word, value in (("n_steps", n_steps), ("patches", patches)):
            check_positive_int(value, word)
        settings.check_pool(1 if pool is None else check_positive_int(pool, "pool"))
    except (TypeError, ValueError) as error:
        raise BenchmarkError(f"{name}: {error}") from error
    note = (
        f"{name} removes patches by the mean of each channel; judges that remove otherwise are not its own yardstick."
    )
    return explained(name, partial(_explain, n_steps=n_steps, pool=pool, patches=patches), notes=(note,))


def _explain(batch: Batch, *, n_steps: int, pool: int | None, patches: int) -> Tensor:
    explain = PatchCorrected(ExpectedGradients(batch.model), patches).attribute
    return batch.of_first(pool).in_parts(explain, n_steps=n_steps)


ROWS = {"PatchCorrected": patch_corrected}
