from __future__ import annotations

import pytest
import torch

from captum_wg.engine.baseline_set import format_baselines
from captum_wg.engine.completeness import Completeness
from captum_wg.engine.problem import Problem, input_gradients

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def made(f, x, references, **kwargs):
    problem = Problem(f, input_gradients, x, **kwargs)
    return Completeness(problem, format_baselines(references, problem.inputs, problem.is_tuple))


@pytest.mark.parametrize("rows", [1, 4, None])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("target", [1, [0, 2, 1]], ids=str)
def test_values_at_the_inputs_and_at_their_baselines(make_net, draw, target, own, rows):
    net, x = make_net(4), draw(3, 4)
    references = draw(3, 5, 4, seed=1) if own else draw(5, 4, seed=1)
    completeness = made(net, x, references, target=target, internal_batch_size=rows)
    each = references if own else references.expand(3, 5, 4)
    of = [target] * 3 if isinstance(target, int) else target
    at_inputs = torch.stack([net(x[b : b + 1])[0, of[b]] for b in range(3)])
    at_baselines = torch.stack([net(each[b])[:, of[b]] for b in range(3)])
    torch.testing.assert_close(completeness.at_inputs, at_inputs.detach())
    torch.testing.assert_close(completeness.at_baselines, at_baselines.detach())


@pytest.mark.usefixtures("unprobed")
def test_values_are_taken_once_and_only_when_they_are_asked_for(record, draw):
    f = record(lambda x: x.sum(1))
    completeness = made(f, draw(3, 4), draw(5, 4, seed=1))
    assert f.sizes == []
    for _ in range(2):
        completeness.delta(draw(3, 4))
    assert (f.graded, f.plain) == ([], [5, 3]) or (f.graded, f.plain) == ([], [3, 5])


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.usefixtures("unprobed")
def test_values_at_the_kept_are_some_of_those_at_all(record, draw, own):
    f = record(lambda x: x.square().sum(1))
    x, references = draw(3, 4), draw(3, 5, 4, seed=1) if own else draw(5, 4, seed=1)
    completeness = made(f, x, references)
    kept = torch.tensor([[0, 3], [1, 2], [0, 4]])
    each = references if own else references.expand(3, 5, 4)
    some = completeness.of(kept)
    torch.testing.assert_close(some.at_baselines, each.square().sum(2).gather(1, kept))
    # Five baselines that are shared cost five forwards, whichever of them are kept.
    assert sum(f.plain) == (6 if own else 5)
    torch.testing.assert_close(completeness.at_baselines, each.square().sum(2))
    assert sum(f.plain) == (6 + 15 if own else 5)


def test_the_delta_is_the_sum_less_the_change_of_the_output(draw):
    f = lambda a, b: (a.sum(1) * b.flatten(1).sum(1)).exp()  # noqa: E731
    x, starts = (draw(3, 2), draw(3, 2, 2, seed=1)), (draw(5, 2, seed=2), draw(5, 2, 2, seed=3))
    maps, weights = (draw(3, 2, seed=4), draw(3, 2, 2, seed=5)), draw(3, 5, seed=6).softmax(1)
    completeness = made(f, x, starts)
    total, at = maps[0].sum(1) + maps[1].sum((1, 2)), f(*starts)
    torch.testing.assert_close(completeness.delta(maps), total - (f(*x) - at.mean()))
    torch.testing.assert_close(completeness.delta(maps, weights), total - (f(*x) - weights @ at))
    torch.testing.assert_close(completeness.delta(maps, weights.float()), completeness.delta(maps, weights))


def test_baselines_of_weight_zero_leave_every_bit_as_it_is_without_them(draw):
    f = lambda x: x.square().sum(1).exp()  # noqa: E731
    for seed in range(20):
        x, references, maps = draw(3, 4, seed=seed), draw(9, 4, seed=100 + seed), draw(3, 4, seed=200 + seed)
        kept = torch.stack([torch.randperm(9, generator=torch.Generator().manual_seed(b))[:5] for b in range(3)])
        kept = kept.sort(dim=1).values
        weights = draw(3, 5, seed=300 + seed).softmax(1)
        completeness = made(f, x, references)
        of_all = torch.zeros(3, 9, dtype=torch.float64).scatter(1, kept, weights)
        assert torch.equal(completeness.of(kept).delta(maps, weights), completeness.delta(maps, of_all))


def test_sums_of_narrow_maps_are_taken_in_float32(draw):
    maps = draw(2, 1000).bfloat16()
    delta = made(lambda x: x.sum(1), maps, 0.0).delta(maps)
    assert delta.dtype == torch.float32
    expected = maps.double().sum(1) - maps.sum(1).double()
    torch.testing.assert_close(delta.double(), expected, rtol=1e-4, atol=1e-3)
