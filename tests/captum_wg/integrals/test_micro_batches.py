"""However a call is cut into micro-batches, its map is the same: for every rule, with and without weights."""

from __future__ import annotations

import functools
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_wg import Automatic, ExpectedGradients, WeightedGradients

# Every path ends at its highest level: 17 points are max_steps, and none is within the tolerance before.
TO_THE_END = Automatic(1e-9, 17)

RULES = {
    "gausslegendre": {"n_steps": 4},
    "riemann_shared_end": {"n_steps": 5, "method": "riemann_shared_end"},
    "adaptive": {"n_steps": 11, "method": "adaptive"},
    "automatic": {"n_steps": TO_THE_END},
    "random": {"n_samples": 13, "stdevs": 0.2},
    "staggered": {"n_samples": 13, "sampling": "staggered"},
}
WEIGHTED = {
    "fitness": {},
    "kept": {"keep": 2},
    "screened": {"keep": 2, "screening_steps": 3},
    "own rule": {"weighting": lambda _, maps: maps.norms() / maps.norms().sum(1, keepdim=True)},
}


def kinked(x):
    """Zero at zero and rising from there, with kinks differently far along each path; one row as in any company."""
    far = (x.sum(1, keepdim=True) - torch.linspace(1, 3, 5, dtype=x.dtype)).relu().sum(1)
    scale = torch.linspace(0.5, 2, x.shape[1], dtype=x.dtype)
    return (scale * x).relu().sum(1) + 3 * (x - 0.7).relu().sum(1) + (x.square() * scale).sum(1) + 4 * far


def attribute(n_examples, n_baselines, rule, weighted, rows, own=False):
    generator = torch.Generator().manual_seed(10 * n_examples + n_baselines)
    x = torch.randn((n_examples, 6), generator=generator, dtype=torch.float64).abs() + 0.5
    shape = (n_examples, n_baselines, 6) if own else (n_baselines, 6)
    references = torch.randn(shape, generator=generator, dtype=torch.float64)
    kwargs = {"pairing": "shared", "internal_batch_size": rows, "return_convergence_delta": True, **RULES[rule]}
    if weighted:
        kwargs |= {"return_weights": True, **WEIGHTED[weighted]}
    method = WeightedGradients(kinked) if weighted else ExpectedGradients(kinked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the tolerance is not met
        return tuple(method.attribute(x, references, **kwargs))


@functools.lru_cache
def uncut(*given):
    return attribute(*given[:-1], 10**6, given[-1])


CASES = [(rule, None) for rule in RULES] + [
    (rule, weighted)
    for rule in ("gausslegendre", "riemann_shared_end", "adaptive", "automatic")
    for weighted in WEIGHTED
]


@pytest.mark.parametrize(("rule", "weighted"), CASES)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_any_number_of_rows_gives_the_same_map(rule, weighted, data):
    n_examples = data.draw(st.integers(1, 3))
    n_baselines = data.draw(st.integers(2, 5))
    own = data.draw(st.booleans())
    rows = data.draw(st.integers(1, n_examples * n_baselines * 17))
    found = attribute(n_examples, n_baselines, rule, weighted, rows, own)
    expected = uncut(n_examples, n_baselines, rule, weighted, own)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_baselines", [3, 4])
def test_automatic_steps_in_micro_batches_that_end_with_a_path(n_baselines):
    """All sizes at which a run of paths with as many nodes each ends with its micro-batch, and all others."""
    x = torch.linspace(0.5, 2, 12, dtype=torch.float64).view(2, 6)
    references = torch.linspace(-1, 1, 6 * n_baselines, dtype=torch.float64).view(n_baselines, 6)
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rows in [10**6, *range(1, 2 * n_baselines * 16 + 1)]:
            results.append(
                WeightedGradients(kinked).attribute(
                    x, references, n_steps=TO_THE_END, internal_batch_size=rows, return_steps=True
                )
            )
    for found in results[1:]:
        assert (found.steps == 17).all()
        torch.testing.assert_close(found.attributions, results[0].attributions, rtol=1e-12, atol=1e-12)
