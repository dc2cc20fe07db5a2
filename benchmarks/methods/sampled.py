"""Expected gradients from a number of points for all baselines together, in place of a quadrature on each path."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from benchmarks.methods.method import SAME_DRAWS, Batch, Method, MethodSettings, explained
from benchmarks.run.errors import BenchmarkError
from captum_wg import ExpectedGradients
from captum_wg.engine.checks import check_choice, check_positive_int

SAMPLINGS = ("random", "staggered")


def sampled_gradients(
    name: str, settings: MethodSettings, *, n_samples: int = 60, sampling: str = "random", pool: int | None = None
) -> Method:
    """The row of `ExpectedGradients` with n_samples.

    Args:
        sampling: one of SAMPLINGS.
        pool: of how many baselines, the first ones; None: all.

    Raises:
        BenchmarkError: a value that can't be.
    """
    try:
        check_positive_int(n_samples, "n_samples")
        check_choice(sampling, "sampling", SAMPLINGS)
        settings.check_pool(1 if pool is None else check_positive_int(pool, "pool"))
    except (TypeError, ValueError) as error:
        raise BenchmarkError(f"{name}: {error}") from error
    return explained(name, partial(_explain, n_samples=n_samples, sampling=sampling, pool=pool), draws=SAME_DRAWS)


def _explain(batch: Batch, *, n_samples: int, sampling: str, pool: int | None) -> Tensor:
    explain = ExpectedGradients(batch.model).attribute
    return batch.of_first(pool).in_parts(explain, n_samples=n_samples, sampling=sampling, generator=batch.seed)


ROWS = {"SampledGradients": sampled_gradients}
