from __future__ import annotations

import pytest
import torch

from captum_wg.engine.baseline_set import format_baselines
from captum_wg.engine.problem import Problem, input_gradients
from captum_wg.integrals.nodes import nodes_and_weights
from captum_wg.integrals.walk import Paths, add_gradients, end_gradients, path_gradients

pytestmark = pytest.mark.filterwarnings("error::UserWarning")

EVERYONE = slice(0, 3)


def every_path(x, references, method, n_steps, end=False):
    """The rule's points on all K paths, each counting 1/K of its weight; end: the last node is the input itself."""
    nodes, weights = (torch.from_numpy(v) for v in nodes_and_weights(method, n_steps))
    formatted = format_baselines(references, (x,))
    count = formatted.count
    end_weight = float(weights[-1]) / count if end else None
    if end:
        nodes, weights = nodes[:-1], weights[:-1]
    which = torch.arange(count).repeat_interleave(len(nodes))
    return Paths((x,), formatted, which, nodes.repeat(count), weights.repeat(count) / count, end_weight=end_weight)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("feature", [(), (4,), (2, 3, 3)])
def test_points_and_differences_against_a_loop(draw, feature, own):
    x, references = draw(3, *feature), draw(3, 2, *feature, seed=1) if own else draw(2, *feature, seed=1)
    paths = every_path(x, references, "gausslegendre", 4)
    nodes, weights = nodes_and_weights("gausslegendre", 4)
    assert paths.count == 8
    (points,), (differences,) = paths.at(EVERYONE, slice(0, 8))
    differences = differences.expand_as(points)
    for b in range(3):
        for k in range(2):
            start = references[b, k] if own else references[k]
            for s in range(4):
                torch.testing.assert_close(points[b, 4 * k + s], start + nodes[s] * (x[b] - start))
                torch.testing.assert_close(differences[b, 4 * k + s], x[b] - start)
                assert float(paths.weights[4 * k + s]) == pytest.approx(weights[s] / 2, rel=1e-14)
    (part,), _ = paths.at(slice(1, 3), slice(3, 6))
    assert torch.equal(part, points[1:3, 3:6])


def test_half_precision_points_are_made_in_float32(draw):
    x, r = draw(3, 4).bfloat16(), draw(2, 4, seed=1).bfloat16()
    (points,), (differences,) = every_path(x, r, "riemann_middle", 3).at(EVERYONE, slice(0, 6))
    (wide,), _ = every_path(x.float(), r.float(), "riemann_middle", 3).at(EVERYONE, slice(0, 6))
    assert points.dtype == torch.bfloat16 and differences.dtype == torch.float32
    assert torch.equal(points, wide.bfloat16())


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("method", ["riemann_right", "riemann_trapezoid", "riemann_shared_end"])
def test_the_input_itself_is_one_point_for_all_paths(draw, method, own):
    x, references = draw(3, 2, 2), draw(3, 4, 2, 2, seed=1) if own else draw(4, 2, 2, seed=1)
    nodes, weights = nodes_and_weights(method, 5)
    paths = every_path(x, references, method, 5, end=True)
    assert paths.count == 4 * 4 + 1
    (points,), (differences,) = paths.at(EVERYONE, slice(0, paths.count))
    assert torch.equal(points[:, -1], x)
    each = references if own else references.expand(3, 4, 2, 2)
    # One point in place of K: of a function linear in the difference both have the same sum.
    literal = torch.zeros(3, 2, 2, dtype=torch.float64)
    for k in range(4):
        for a, w in zip(nodes, weights, strict=True):
            literal += w / 4 * torch.sin(a * x) * (x - each[:, k])
    at = torch.cat([paths.nodes[:-1], torch.ones(1)]).view(1, -1, 1, 1)
    found = (paths.weights.view(1, -1, 1, 1) * torch.sin(at * x.unsqueeze(1)) * differences).sum(1)
    torch.testing.assert_close(found, literal)
    for cut in (slice(15, 17), slice(16, 17), slice(3, 16)):
        (part,), (differences_of_part,) = paths.at(slice(1, 3), cut)
        assert torch.equal(part, points[1:3, cut]) and torch.equal(differences_of_part, differences[1:3, cut])


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 100])
def test_a_walk_says_whose_gradients_they_are(draw, rows):
    x, references = draw(3, 4), draw(2, 4, seed=1)
    problem = Problem(lambda p: (p**3).sum(1), input_gradients, x, internal_batch_size=rows)
    paths = every_path(x, references, "riemann_shared_end", 3, end=True)
    ends, total = 0, torch.zeros_like(x)
    for part in paths.walk(problem):
        s = len(part.baselines)
        assert part.gradients[0].shape[1] == len(part.weights) == s
        for i in range(s):
            last = part.at_inputs and i == s - 1
            start = references.mean(0) if last else references[part.baselines[i]]
            torch.testing.assert_close(part.differences[0][:, i].expand_as(x[part.examples]), x[part.examples] - start)
        ends += (part.examples.stop - part.examples.start) * part.at_inputs
        total[part.examples] += (part.weights.view(1, -1, 1) * part.gradients[0] * part.differences[0]).sum(1)
    assert ends == 3
    expected = torch.zeros_like(x)
    for r in references:
        for a, w in zip(*nodes_and_weights("riemann_shared_end", 3), strict=True):
            expected += w / 2 * 3 * (r + a * (x - r)) ** 2 * (x - r)
    torch.testing.assert_close(total, expected)


# --- any list of points


def gradients_of(walk, n):
    """What a walk over n points in micro-batches yields, in one Tensor."""
    found = torch.full((n, 2, 2), torch.nan, dtype=torch.float64)
    for rows, (gradients,) in walk:
        assert found[rows].isnan().all()
        found[rows] = gradients
    return found


@pytest.mark.parametrize("rows", [1, 3, None])
@pytest.mark.parametrize("own", [False, True])
def test_path_gradients_are_taken_on_their_own_paths(draw, own, rows):
    x, references = draw(3, 2, 2), draw(3, 4, 2, 2, seed=1) if own else draw(4, 2, 2, seed=1)
    places, nodes = [[2, 3], [0, 0], [0, 1], [1, 1]], torch.tensor([0.0, 0.25, 1, 0.5])
    # Its gradient is the point itself.
    problem = Problem(lambda p: p.square().sum((1, 2)) / 2, input_gradients, x, internal_batch_size=rows)
    found = gradients_of(path_gradients(problem, format_baselines(references, (x,)), torch.tensor(places), nodes), 4)
    for i, ((b, k), a) in enumerate(zip(places, nodes, strict=True)):
        start = references[b, k] if own else references[k]
        torch.testing.assert_close(found[i], start + a * (x[b] - start))


@pytest.mark.parametrize("rows", [1, 2, None])
def test_end_gradients_are_those_at_the_examples(draw, rows):
    x = draw(4, 2, 2)
    problem = Problem(lambda p: p.square().sum((1, 2)) / 2, input_gradients, x, internal_batch_size=rows)
    assert torch.equal(end_gradients(problem, slice(1, 4))[0], x[1:])
    narrow = Problem(lambda p: p.square().sum((1, 2)) / 2, input_gradients, x.bfloat16())
    (found,) = end_gradients(narrow, slice(0, 1))
    assert found.dtype == torch.float32 and torch.equal(found, x[:1].bfloat16().float())


PATHS = [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "counts", [[2] * 6, [2, 0, 3, 0, 0, 1], [3, 1, 4, 1, 5, 2], [1] * 6, [4, 4, 1, 2, 2, 1]], ids=str
)
def test_gradients_are_added_to_their_paths_whatever_the_micro_batches(draw, counts, weighted):
    """A run of paths with as many nodes each is summed at once, also where a micro-batch ends with its last one."""
    x, references = draw(4, 3), draw(5, 3, seed=1)
    generator = torch.Generator().manual_seed(2)
    nodes = [torch.rand(n, generator=generator, dtype=torch.float64) for n in counts]
    weights = [torch.rand(n, generator=generator, dtype=torch.float64) for n in counts] if weighted else None
    before = draw(2, 3, 3, seed=3)
    expected = before.clone()
    for p, (b, k) in enumerate(PATHS):
        start = references[k + 1]
        for i, a in enumerate(nodes[p]):
            gradient = 3 * (start + a * (x[b + 2] - start)) ** 2
            expected[b, k] += gradient * (weights[p][i] if weighted else 1)
    for rows in range(1, sum(counts) + 1):
        problem = Problem(lambda p: (p**3).sum(1), input_gradients, x, internal_batch_size=rows)
        totals = before.clone()
        formatted = format_baselines(references, (x,))
        add_gradients(problem, formatted, (totals,), torch.ones(2, 3) > 0, nodes, (2, 1), weights=weights)
        torch.testing.assert_close(totals, expected, rtol=1e-13, atol=1e-13)
