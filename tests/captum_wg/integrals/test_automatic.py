from __future__ import annotations

import math
import warnings

import pytest
import torch
from captum.attr import NoiseTunnel

from captum_wg import Automatic, Deletion, ExpectedGradients, WeightedGradients
from captum_wg.engine import problem as engine
from captum_wg.engine.baseline_set import format_baselines
from captum_wg.engine.completeness import Completeness
from captum_wg.engine.problem import Problem, input_gradients
from captum_wg.integrals.automatic import FIRST_STEPS
from captum_wg.integrals.nodes import nodes_and_weights

# References are taken with many thousand points.
pytestmark = pytest.mark.filterwarnings("error::UserWarning", "ignore:.* gradients an example:UserWarning")

LEVELS = (6, 17, 50, 149)


def kinked(x):
    """A positive function with kinks, differently far along each path."""
    x = x.flatten(1)
    return 1 + x.relu().sum(1) + (x.sum(1, keepdim=True) - torch.linspace(-2, 2, 5, dtype=x.dtype)).abs().sum(1)


def hinged(x):
    """Zero at zero and rising from there, with a kink in every direction."""
    scale = torch.linspace(0.5, 2, x.shape[1], dtype=x.dtype)
    return ((scale * x).relu() + 3 * (x - 0.7).relu() + (x * x.roll(1, 1)).abs()).sum(1)


@pytest.fixture
def given(draw):
    return draw(3, 6), draw(4, 6, seed=1)


def path_means(f, x, references, steps):
    """The mean gradient along each path by the rule with steps[b][k] points, one by one: (B, K, *feature)."""
    result = torch.zeros(len(x), len(references), *x.shape[1:], dtype=x.dtype)
    for b in range(len(x)):
        for k, start in enumerate(references):
            for a, w in zip(*nodes_and_weights("riemann_shared_end", int(steps[b][k])), strict=True):
                point = (start + a * (x[b] - start)).unsqueeze(0).requires_grad_()
                result[b, k] += w * torch.autograd.grad(f(point).sum(), point)[0][0]
    return result


def own_deltas(f, x, references, steps):
    """delta_k of each path and the scale of each example, from the definition."""
    sums = (path_means(f, x, references, steps) * (x.unsqueeze(1) - references)).flatten(2).sum(2)
    rises = f(x).unsqueeze(1) - f(references)
    return sums - rises, rises.abs().mean(1)


def literal_steps(f, x, references, tolerance, max_steps, each=False):
    """Which level each path ends at, one example at a time, every level from nothing."""
    result = []
    for b in range(len(x)):
        steps = [FIRST_STEPS] * len(references)
        while True:
            deltas, scale = own_deltas(f, x[b : b + 1], references, [steps])
            d, allowed = deltas[0].tolist(), tolerance * scale.item()
            can = [k for k, n in enumerate(steps) if 3 * n - 1 <= max_steps]
            if each:
                chosen = [k for k in can if abs(d[k]) > allowed]
            elif abs(sum(d)) / len(d) <= allowed and math.hypot(*d) / len(d) <= allowed:
                chosen = []
            else:
                fewest = [k for k in can if steps[k] == min(steps[j] for j in can)]
                chosen = sorted(fewest, key=lambda k: -abs(d[k]))[: math.ceil(len(d) / 2)]
            if not chosen:
                break
            for k in chosen:
                steps[k] = 3 * steps[k] - 1
        result.append(steps)
    return result


@pytest.mark.parametrize("multiply", [True, False])
@pytest.mark.parametrize("tolerance", [0.05, 0.01, 0.003])
def test_expected_gradients_are_the_mean_of_the_integrals_at_their_levels(given, tolerance, multiply):
    x, references = given
    found, delta, steps = ExpectedGradients(kinked, multiply).attribute(
        x,
        references,
        n_steps=Automatic(tolerance, 2000),
        return_convergence_delta=True,
        return_steps=True,
    )
    assert steps.tolist() == literal_steps(kinked, x, references, tolerance, 2000)
    means = path_means(kinked, x, references, steps)
    torch.testing.assert_close(found, (means * (x.unsqueeze(1) - references) if multiply else means).mean(1))
    torch.testing.assert_close(delta, found.sum(1) - (kinked(x) - kinked(references).mean()))
    deltas, scale = own_deltas(kinked, x, references, steps)
    assert (deltas.mean(1).abs() <= tolerance * scale).all()
    if multiply:
        torch.testing.assert_close(delta, deltas.mean(1))


def test_the_cases_above_need_different_levels(given):
    x, references = given
    levels = [torch.tensor(literal_steps(kinked, x, references, t, 2000)) for t in (0.05, 0.003)]
    assert len(levels[1].unique()) > 1 and (levels[1].sum(1) != levels[1].sum(1)[0]).any()
    assert levels[0].sum() < levels[1].sum()


@pytest.mark.usefixtures("unprobed")
def test_every_gradient_counts(given, record):
    x, references = given
    f = record(kinked)
    _, steps = ExpectedGradients(f).attribute(x, references, n_steps=Automatic(0.003, 2000), return_steps=True)
    assert sum(f.graded) == int((steps - 1).sum()) + 3
    assert sum(f.plain) == 3 + 4


def test_a_linear_function_takes_the_first_level(draw):
    x, references = draw(3, 6), draw(4, 6, seed=1)
    found, steps = ExpectedGradients(lambda x: x.sum(1)).attribute(
        x, references, n_steps=Automatic(1e-9), return_steps=True
    )
    assert (steps == FIRST_STEPS).all()
    torch.testing.assert_close(found, x - references.mean(0))


def test_a_flat_function_is_not_refined_for_its_rounding(draw):
    x, references = draw(3, 6).float(), draw(4, 6, seed=1).float()
    found, steps = ExpectedGradients(lambda x: 0 * x.sum(1) + 7).attribute(
        x, references, n_steps="auto", return_steps=True
    )
    assert (steps == FIRST_STEPS).all() and not found.any()
    # A change of the output that float32 hardly holds beside its size.
    small = lambda x: 1e4 + 1e-3 * x.sum(1)  # noqa: E731
    _, steps = ExpectedGradients(small).attribute(x, references, n_steps="auto", return_steps=True)
    assert (steps == FIRST_STEPS).all()


def test_errors_that_cancel_do_not_end_an_example(draw):
    x = torch.tensor([[1.0, 1.0]]).double()
    # Two paths whose integrals are off by as much, one up and one down.
    f = lambda p: 5 + p.sum(1) + 40 * ((p[:, 0] - 0.77).relu() - (p[:, 1] - 0.77).relu())  # noqa: E731
    references = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
    deltas, _ = own_deltas(f, x, references, [[6, 6]])
    assert abs(deltas.mean()) < 1e-9 and (deltas.abs() > 0.1).all()
    with pytest.warns(UserWarning, match="examples 0 .*tolerance = 1e-05 with 149 points.*max_steps to 446"):
        _, steps = ExpectedGradients(f).attribute(x, references, n_steps=Automatic(1e-5), return_steps=True)
    assert (steps > FIRST_STEPS).all()


def test_errors_of_one_sign_are_judged_by_their_mean(draw):
    x, references = draw(1, 6) + 2, draw(4, 6, seed=1)
    f = lambda x: x.exp().sum(1)  # noqa: E731
    deltas, scale = own_deltas(f, x, references, [[FIRST_STEPS] * 4])
    mean, spread = (abs(deltas.mean()) / scale).item(), (deltas.norm() / 4 / scale).item()
    assert mean > 1.3 * spread
    for tolerance, enough in ((1.01 * mean, True), (0.99 * mean, False)):
        _, steps = ExpectedGradients(f).attribute(x, references, n_steps=Automatic(tolerance), return_steps=True)
        assert bool((steps == FIRST_STEPS).all()) == enough


def test_examples_outside_the_tolerance_are_named(draw):
    x = torch.tensor([[1.0], [0.2], [3.0]]).double()
    jump = lambda p: torch.where(p[:, 0] > 0.5, p[:, 0] + 10, p[:, 0])  # noqa: E731
    with pytest.warns(UserWarning, match=r"examples 0, 2 .*with 50 points.*be 10 where 0\.13 is.*max_steps to 149"):
        found, delta, steps = ExpectedGradients(jump).attribute(
            x, n_steps=Automatic(max_steps=60), return_steps=True, return_convergence_delta=True
        )
    assert steps.tolist() == [[50], [6], [50]]
    torch.testing.assert_close(delta, torch.tensor([-10.0, 0, -10]).double())
    torch.testing.assert_close(found, x)


@pytest.mark.parametrize("multiply", [True, False])
def test_weighted_gradients_bring_every_baseline_within(given, multiply):
    x, references = given[0].abs() + 0.5, given[1]
    found, delta, weights, steps = WeightedGradients(hinged, multiply).attribute(
        x,
        references,
        n_steps=Automatic(0.01, 3000),
        return_convergence_delta=True,
        return_weights=True,
        return_steps=True,
    )
    assert steps.tolist() == literal_steps(hinged, x, references, 0.01, 3000, each=True)
    means = path_means(hinged, x, references, steps)
    maps = means * (x.unsqueeze(1) - references) if multiply else means
    torch.testing.assert_close(found, (weights.unsqueeze(2) * maps).sum(1))
    torch.testing.assert_close(delta, found.sum(1) - (hinged(x) - weights @ hinged(references)))
    deltas, scale = own_deltas(hinged, x, references, steps)
    assert (deltas.abs() <= 0.01 * scale.unsqueeze(1)).all()
    if multiply:
        torch.testing.assert_close(delta, (weights * deltas).sum(1))
    distances = WeightedGradients(hinged, multiply).fitness(x, references, n_steps=Automatic(max_steps=3000))
    inverse = 1 / distances.double()
    torch.testing.assert_close(weights, inverse / inverse.sum(1, keepdim=True))


def test_steps_of_baselines_that_screening_left_out_are_none(given):
    x, references = given[0].abs() + 0.5, given[1]
    _, weights, steps = WeightedGradients(hinged).attribute(
        x,
        references,
        n_steps=Automatic(max_steps=3000),
        keep=2,
        screening_steps=4,
        return_weights=True,
        return_steps=True,
    )
    assert ((steps > 0) == (weights > 0)).all() and ((weights > 0).sum(1) == 2).all()


@pytest.mark.parametrize(
    "kwargs", [{"weighting": "equal"}, {"weighting": Deletion(power=0)}, {"keep": 1, "screening_steps": 6}]
)
def test_equal_weights_are_refined_as_expected_gradients(given, kwargs):
    x, references = given[0].abs() + 0.5, given[1]
    settings = dict(n_steps=Automatic(max_steps=3000), return_steps=True, return_convergence_delta=True)
    found, delta, weights, steps = WeightedGradients(hinged).attribute(
        x, references, return_weights=True, **settings, **kwargs
    )
    kept = references.expand(3, 4, 6)
    if "keep" in kwargs:
        kept = kept[weights > 0].unsqueeze(1)
    expected = ExpectedGradients(hinged).attribute(x, kept, **settings)
    torch.testing.assert_close(found, expected[0])
    torch.testing.assert_close(delta, expected[1])
    assert torch.equal(steps[weights > 0].view(3, -1), expected[2])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        *[({"tolerance": t}, r"tolerance must be a number in \(0.0, inf\)") for t in (0, -0.1, math.nan, "0.01")],
        *[({"max_steps": n}, "max_steps must be a whole number") for n in (0, 20.0, None, True)],
        ({"max_steps": 5}, "max_steps must be at least 6, with which every path starts, got 5"),
    ],
    ids=str,
)
def test_settings_are_checked(settings, match):
    with pytest.raises(ValueError, match=match):
        Automatic(**settings)


def test_auto_is_short_for_the_default(given):
    x, references = given
    found = ExpectedGradients(kinked).attribute(x, references, n_steps="auto", return_steps=True)
    same = ExpectedGradients(kinked).attribute(x, references, n_steps=Automatic(0.01, 200), return_steps=True)
    assert all(torch.equal(a, b) for a, b in zip(found, same, strict=True))


@pytest.mark.parametrize("rows", [1, 3, 7, 1000])
def test_neither_micro_batch_nor_batch_changes_the_result(given, rows):
    x, references = given
    method, kwargs = ExpectedGradients(kinked), dict(n_steps=Automatic(0.003, 2000))
    whole = method.attribute(x, references, **kwargs)
    torch.testing.assert_close(method.attribute(x, references, internal_batch_size=rows, **kwargs), whole)
    alone = torch.cat([method.attribute(v[None], references, internal_batch_size=rows, **kwargs) for v in x])
    torch.testing.assert_close(alone, whole)


def test_the_bits_repeat(given):
    x, references = given
    method = ExpectedGradients(kinked)
    assert torch.equal(method.attribute(x, references, n_steps="auto"), method.attribute(x, references, n_steps="auto"))


def test_tuples_own_baselines_targets_and_arguments(draw):
    def f(a, b, scale):
        return torch.stack([(a.relu().sum(1) + b.square().sum((1, 2))) * scale, a.sum(1)], 1)

    a, b, scale = draw(3, 4), draw(3, 2, 2, seed=1), draw(3, seed=2).abs()
    own = (draw(3, 2, 4, seed=3), draw(3, 2, 2, 2, seed=4))
    kwargs = dict(target=[0, 1, 0], additional_forward_args=scale)
    found, steps = ExpectedGradients(f).attribute(
        (a, b), own, n_steps=Automatic(1e-4, 5000), return_steps=True, **kwargs
    )
    fine = ExpectedGradients(f).attribute((a, b), own, n_steps=3000, method="riemann_middle", **kwargs)
    for ours, exact in zip(found, fine, strict=True):
        torch.testing.assert_close(ours, exact, rtol=0, atol=2e-3)
    assert (steps[1] == FIRST_STEPS).all() and steps.max() > 50


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_dtypes(given, dtype):
    x, references = (v.to(dtype) for v in given)
    found = ExpectedGradients(lambda x: kinked(x.float())).attribute(x, references, n_steps=Automatic(0.02))
    exact = ExpectedGradients(kinked).attribute(x.double(), references.double(), n_steps=1000, method="riemann_middle")
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("autocast", [False, True])
def test_the_rounding_of_a_narrow_output_is_no_reason_to_refine(draw, autocast):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        linear = torch.nn.Linear(8, 1)
    linear.bias.data.fill_(20.0)
    x, references = draw(5, 8).float(), draw(3, 8, seed=1).float()
    if not autocast:
        linear, x, references = linear.bfloat16(), x.bfloat16(), references.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        _, steps = ExpectedGradients(linear).attribute(x, references, n_steps="auto", return_steps=True)
    assert (steps == FIRST_STEPS).all()


def test_paths_without_an_error_are_left_alone(draw, record):
    x = torch.tensor([[1.0, 1.0]]).double()
    f = record(lambda p: p[:, 0] + 20 * (p[:, 1] - 0.77).relu())
    references = torch.cat([x.expand(9, 2), torch.tensor([[1.0, 0.0]]).double()])
    _, steps = ExpectedGradients(f).attribute(x, references, n_steps=Automatic(1e-3, 2000), return_steps=True)
    assert steps[0, :9].tolist() == [FIRST_STEPS] * 9 and steps[0, 9] > 50
    assert sum(f.graded) == int((steps - 1).sum()) + 1


def test_equal_errors_are_refined_in_the_order_of_their_baselines(draw):
    x = torch.tensor([[1.0]]).double()
    f = lambda p: 20 * (p[:, 0] - 0.77).relu()  # noqa: E731
    deltas, scale = own_deltas(f, x, torch.zeros(9, 1).double(), [[FIRST_STEPS] * 9])
    # Five of nine exact paths would bring the rest within this.
    tolerance = (deltas.mean().abs() / scale * 0.7).item()
    _, steps = ExpectedGradients(f).attribute(
        x, torch.zeros(9, 1).double(), n_steps=Automatic(tolerance), return_steps=True
    )
    assert steps[0].tolist() == [17] * 5 + [6] * 4


@pytest.mark.parametrize(("power", "max_steps"), [(1, 3000), (0, 3000), (1, 6)])
def test_screening_is_gone_on_from(given, record, power, max_steps):
    x, references = given[0].abs() + 0.5, given[1]
    f = record(hinged)
    kwargs = dict(n_steps=Automatic(max_steps=max_steps), keep=2, screening_steps=6, weighting=Deletion(power=power))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, delta, weights, steps = WeightedGradients(f).attribute(
            x, references, return_convergence_delta=True, return_weights=True, return_steps=True, **kwargs
        )
    kept = steps[steps > 0].view(3, 2)
    # The first look takes five points of each of four baselines, and x.
    assert sum(f.graded) == 3 * (4 * 5 + 1) + int((kept - 6).sum())
    chosen = torch.stack([references[w > 0] for w in weights])
    expected = torch.zeros_like(x)
    for b in range(3):
        means = path_means(hinged, x[b : b + 1], chosen[b], kept[b : b + 1])[0]
        expected[b] = (weights[b][weights[b] > 0].unsqueeze(1) * means * (x[b] - chosen[b])).sum(0)
    torch.testing.assert_close(found, expected)
    change = hinged(x) - (weights * hinged(references)).sum(1)
    torch.testing.assert_close(delta, expected.sum(1) - change)


def test_few_examples_are_at_work_at_once(given):
    x, references = given[0].repeat(5, 1), given[1]
    problem = Problem(kinked, input_gradients, x, internal_batch_size=9)
    references = format_baselines(references, (x,))
    parts = list(Automatic().parts(problem, references, Completeness(problem, references)))
    sizes = [part.examples.stop - part.examples.start for part in parts]
    assert sum(sizes) == 15 * 4 and max(sizes) == 2
    assert [int(part.baselines) for part in parts] == [0, 1, 2, 3] * (len(parts) // 4)
    assert all(part.gradients[0].shape == (size, 1, 6) for part, size in zip(parts, sizes, strict=True))


def test_a_gradient_that_is_not_finite_names_its_example(draw):
    x = draw(3, 4).abs()
    x[1, 0] = 0.0
    with pytest.raises(ValueError, match="the gradient is NaN or infinite for examples 1,"):
        ExpectedGradients(lambda p: p[:, 0].sqrt() + p.sum(1)).attribute(x, 1.0, n_steps="auto")


def test_an_output_that_is_not_finite_names_its_example():
    x = torch.tensor([[1.0, 2.0], [3.0, 1.0]]).double()
    starts = torch.tensor([[[0.5, 0.5]], [[0.0, 0.5]]]).double()
    with pytest.raises(ValueError, match=r"n_steps='auto' goes by the output's change.*infinite for examples 1 "):
        ExpectedGradients(lambda p: p.log().sum(1)).attribute(x, starts, n_steps="auto")


def test_within_noise_tunnel(given):
    x, references = given
    bound = ExpectedGradients(kinked, baselines=references)
    kwargs = dict(n_steps=Automatic(0.003, 2000))
    found = NoiseTunnel(bound).attribute(x, nt_samples=2, stdevs=0.0, **kwargs)
    torch.testing.assert_close(found, bound.attribute(x, **kwargs))


@pytest.mark.parametrize("screening", [{}, {"keep": 2, "screening_steps": 6}], ids=str)
def test_the_bar_grows_with_the_work_and_ends_full(given, monkeypatch, screening):
    x, references = given[0].abs() + 0.5, given[1]
    bars, tqdm = [], engine.tqdm

    class Noted(tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            bars.append(self)

    monkeypatch.setattr(engine, "tqdm", Noted)
    method = WeightedGradients(hinged) if screening else ExpectedGradients(hinged)
    _, steps = method.attribute(
        x, references, n_steps=Automatic(0.003, 2000), return_steps=True, show_progress=True, **screening
    )
    # Screening has taken six points of each path.
    taken = int((steps[steps > 0] - 6).sum()) if screening else int((steps - 1).sum()) + 3
    (bar,) = [b for b in bars if b.desc == type(method).__name__]
    assert (bar.total, bar.n) == (taken, taken)
