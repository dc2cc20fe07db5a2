import math

import pytest
import torch
from captum.attr import GradientAttribution, InputXGradient, NoiseTunnel, Saliency
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_wg import LayerSmoothGrad, NeuronSmoothGrad, SmoothGrad
from captum_wg.smoothing import smoothed_mix

pytestmark = pytest.mark.filterwarnings("error::UserWarning:captum_wg")

TARGETS = [0, 2, 1]


@pytest.fixture
def x(draw):
    return draw(3, 5) * torch.tensor([[1.0], [4.0], [0.1]], dtype=torch.float64)


@pytest.fixture
def references(draw):
    return draw(4, 5, seed=1)


@pytest.fixture
def net(make_net):
    return make_net(5)


class Points(nn.Module):
    """A network that keeps the rows that gradients are taken at."""

    def __init__(self, net):
        super().__init__()
        self.net, self.rows = net, []

    def forward(self, z):
        if torch.is_grad_enabled():
            self.rows.append(z.detach().clone())
        return self.net(z)


@pytest.mark.parametrize("size", [None, 1, 7])
@pytest.mark.parametrize("antithetic", [True, False])
def test_it_is_the_mean_gradient_at_its_points_times_the_difference(net, x, references, antithetic, size):
    seen = Points(net)
    arguments = dict(n_samples=7, antithetic=antithetic, generator=3, internal_batch_size=size)
    made = SmoothGrad(seen).attribute(x, references, TARGETS, **arguments)
    assert size is None or max(map(len, seen.rows)) <= size
    rows = torch.cat(seen.rows)[:21].view(3, 7, 5)  # those beyond are repeats that fill up
    for i, target in enumerate(TARGETS):
        total = torch.zeros(5, dtype=torch.float64)
        for row in rows[i]:
            at = row.clone().requires_grad_()
            total += torch.autograd.grad(net(at[None])[0, target], at)[0]
        expected = total / 7 * (x[i] - (references[0] + references[1] + references[2] + references[3]) / 4)
        torch.testing.assert_close(made[i], expected, rtol=1e-10, atol=1e-12)


def test_noise_is_gaussian_by_the_range_of_each_example_and_comes_in_pairs(make_net, draw):
    x = draw(2, 400) * torch.tensor([[1.0], [50.0]], dtype=torch.float64)
    seen = Points(make_net(400))
    SmoothGrad(seen).attribute(x, target=0, n_samples=9, noise_level=0.2, internal_batch_size=1)
    rows = torch.cat(seen.rows).view(2, 9, 400)
    noise = (rows - x.unsqueeze(1)) / (0.2 * (x.max(1).values - x.min(1).values)).view(2, 1, 1)
    torch.testing.assert_close(noise[0], noise[1])
    torch.testing.assert_close(noise[:, 0:8:2], -noise[:, 1:8:2])
    drawn = noise[0, [0, 2, 4, 6, 8]]
    assert drawn.std(1).sub(1).abs().max() < 0.15 and drawn.mean(1).abs().max() < 0.2
    assert torch.corrcoef(drawn).fill_diagonal_(0).abs().max() < 0.25


def test_it_tends_to_captums_noise_tunnel(x):
    def cubes(z):
        return z.pow(3).sum(1)

    found = SmoothGrad(cubes).attribute(x, n_samples=4000)
    for i in range(3):
        one = x[i : i + 1]
        stdev = 0.15 * float(one.max() - one.min())
        # By hand: the mean of 3 (x + sigma e)^2.
        torch.testing.assert_close(found[i], one[0] * 3 * (one[0] ** 2 + stdev**2), rtol=0.05, atol=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            captums = NoiseTunnel(Saliency(cubes)).attribute(one.clone(), nt_samples=4000, stdevs=stdev, abs=False)
        torch.testing.assert_close(found[i], (one * captums)[0], rtol=0.1, atol=0)
    alone = SmoothGrad(cubes, multiply_by_inputs=False)
    torch.testing.assert_close(alone.attribute(x, n_samples=4000) * x, found)
    assert not alone.multiplies_by_inputs and SmoothGrad(cubes).multiplies_by_inputs


def test_pairs_are_exact_where_gradients_are_linear_and_single_ones_are_not(x, draw):
    square = draw(5, 5, seed=4)
    square = square + square.T

    def quadratic(z):
        return torch.einsum("bi,ij,bj->b", z, square, z) / 2

    exact = x * (x @ square)
    torch.testing.assert_close(SmoothGrad(quadratic).attribute(x, n_samples=2, noise_level=3), exact)
    assert not torch.allclose(SmoothGrad(quadratic).attribute(x, n_samples=2, antithetic=False), exact, rtol=0.01)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_samples=st.integers(1, 9),
    noise=st.floats(0, 10),
    shift=st.floats(-100, 100),
    antithetic=st.booleans(),
)
def test_a_linear_function_is_explained_as_it_is_however_inputs_are_encoded(seed, n_samples, noise, shift, antithetic):
    draws = torch.Generator().manual_seed(seed)
    x, references = torch.randn(2, 3, 4, generator=draws, dtype=torch.float64).split([1, 1])
    x, references, w = x[0], references[0], torch.randn(4, generator=draws, dtype=torch.float64)
    made = SmoothGrad(lambda z: (z - shift) @ w).attribute(
        x + shift, references + shift, pairing="shared", n_samples=n_samples, noise_level=noise, antithetic=antithetic
    )
    torch.testing.assert_close(made, (x - references.mean(0)) * w, rtol=1e-9, atol=1e-9)


def test_without_noise_it_is_input_x_gradient(net, x, references):
    found = SmoothGrad(net).attribute(x, target=TARGETS, n_samples=1, noise_level=0)
    torch.testing.assert_close(found, InputXGradient(net).attribute(x.clone().requires_grad_(), TARGETS).detach())
    # Nor has an example any whose elements are all the same.
    flat = torch.full_like(x, 0.3)
    noisy, still = (SmoothGrad(net).attribute(flat, references, TARGETS, noise_level=n) for n in (0.15, 0))
    torch.testing.assert_close(noisy, still)


def test_each_examples_own_baselines_bound_ones_and_smoothing(classifier, draw):
    net, x = classifier((2, 6, 6)), draw(3, 2, 6, 6)
    own = draw(3, 4, 2, 6, 6, seed=2)
    found = SmoothGrad(net).attribute(x, own, TARGETS, n_samples=4)
    for i, target in enumerate(TARGETS):
        one = SmoothGrad(net, baselines=own[i]).attribute(x[i : i + 1], target=target, n_samples=4)
        torch.testing.assert_close(found[i : i + 1], one)
    smooth = SmoothGrad(net).attribute(x, own, TARGETS, n_samples=4, smooth=0.2)
    torch.testing.assert_close(smooth, smoothed_mix(found, 0.2))


def test_tuples_have_a_noise_and_a_range_each(draw):
    x, y = draw(3, 4), 100 * draw(3, 2, seed=1)

    def f(a, b):
        return a.pow(2).sum(1) + b.pow(2).sum(1)

    made = SmoothGrad(f).attribute((x, y), n_samples=3, noise_level=(0.0, 0.5))
    torch.testing.assert_close(made[0], 2 * x * x)
    assert isinstance(made, tuple) and not torch.allclose(made[1], 2 * y * y, rtol=0.01)


def test_dtypes_seeds_and_the_callers_things(net, x, references):
    method = SmoothGrad(net)
    assert isinstance(method, GradientAttribution) and not method.has_convergence_delta()
    state = torch.get_rng_state()
    first, again = (method.attribute(x, references, TARGETS, generator=5) for _ in range(2))
    other = method.attribute(x, references, TARGETS, generator=6)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_sums_are_kept_in_more_than_half_precision(draw):
    weights = torch.tensor([165 / 128, -65 / 128, 193 / 64, 97 / 256], dtype=torch.bfloat16)
    x = draw(2, 4).bfloat16()
    made = SmoothGrad(lambda z: (z * weights).sum(1)).attribute(x, n_samples=51, internal_batch_size=1)
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made, x * weights, rtol=2**-8, atol=0)
    # Whose range half precision can't hold.
    wide = torch.tensor([[40000.0, -40000.0, 1.0]]).half()
    made = SmoothGrad(lambda z: (z.float() * 1e-3).sum(1)).attribute(wide, noise_level=0.0)
    torch.testing.assert_close(made, (wide.float() * 1e-3).half(), rtol=1e-2, atol=0)


def test_an_input_that_is_its_baselines_has_nothing(draw):
    x = torch.full((1, 4), 0.7)
    assert not SmoothGrad(lambda z: z.sum(1) * 1000).attribute(x, x.expand(10, 4)).any()


def test_numbers_of_examples_are_inputs_and_elements_too(draw):
    x, y = draw(3, 4), draw(3, seed=1)
    torch.testing.assert_close(SmoothGrad(lambda z: z**2).attribute(y), 2 * y**2)
    made = SmoothGrad(lambda a, b: (a**2).sum(1) * b).attribute((x, y), n_samples=2, noise_level=(0.3, 0.3))
    assert [m.shape for m in made] == [(3, 4), (3,)]


def test_elements_of_a_tuple_have_noise_of_their_own():
    x, n = torch.linspace(0, 1, 400).expand(2, 400).double(), []

    def f(a, b):
        n.append(torch.corrcoef(torch.stack([(a - x[:1])[0], (b - x[:1])[0]]))[0, 1].item())
        return a.sum(1) + b.sum(1)

    SmoothGrad(f).attribute((x, x), n_samples=1, noise_level=2.0)
    assert abs(n[-1]) < 0.2


def test_arguments_that_go_with_the_examples(draw):
    x, a = draw(3, 4), draw(3, 4, seed=1)
    made = SmoothGrad(lambda z, a: (z * a).pow(2).sum(1)).attribute(x, additional_forward_args=a, n_samples=2)
    torch.testing.assert_close(made, 2 * x**2 * a**2)


def test_paired_baselines(net, x, references):
    method = SmoothGrad(net)
    made = method.attribute(x, references[:3], TARGETS, pairing="paired", n_samples=4)
    for i, target in enumerate(TARGETS):
        one = method.attribute(x[i : i + 1], references[i : i + 1], target, n_samples=4)
        torch.testing.assert_close(made[i : i + 1], one)


@pytest.mark.filterwarnings("ignore:Setting forward:UserWarning")
def test_wrappers_and_inference_mode(net, x, references):
    expected = SmoothGrad(net).attribute(x, references, TARGETS)
    bound = NoiseTunnel(SmoothGrad(net, baselines=references))
    torch.testing.assert_close(bound.attribute(x, nt_samples=2, stdevs=0.0, target=TARGETS), expected)
    with torch.inference_mode():
        torch.testing.assert_close(SmoothGrad(net).attribute(x, references, TARGETS), expected)


def test_a_progress_bar_is_drawn_if_asked_for(net, x, capsys):
    SmoothGrad(net).attribute(x, target=TARGETS, show_progress=True)
    assert "SmoothGrad" in capsys.readouterr().err


def test_of_layers_the_noise_is_theirs(make_net, draw):
    net, x, references = make_net(5), draw(3, 5), draw(4, 5, seed=1)
    first, rest = net[1], net[2:]
    found = LayerSmoothGrad(net, first).attribute(x, references, TARGETS, n_samples=6)
    expected = SmoothGrad(rest).attribute(first(x).detach(), first(references).detach(), TARGETS, n_samples=6)
    torch.testing.assert_close(found, expected)
    neuron = NeuronSmoothGrad(net, first).attribute(x, 2, references, n_samples=6)
    expected = SmoothGrad(first).attribute(x, references, 2, n_samples=6)
    torch.testing.assert_close(neuron, expected)


def test_ids_of_tokens_have_no_noise_but_their_vectors_have(draw):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(12, 2), nn.Tanh())
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
    with pytest.raises(TypeError, match="floating point"):
        SmoothGrad(net).attribute(ids, target=0)
    found = LayerSmoothGrad(net, net[0]).attribute(ids, torch.zeros(1, 4, dtype=torch.long), target=0)
    assert found.shape == (2, 4, 3) and found[0].abs().sum() > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_samples": 0}, "n_samples must be a whole number of at least 1"),
        ({"noise_level": -0.1}, "noise_level must be"),
        ({"noise_level": math.nan}, "noise_level must be"),
        ({"noise_level": math.inf}, "noise_level must be finite"),
        ({"noise_level": (0.1, 0.1)}, "noise_level must be a number, or one for each of the 1 inputs"),
        ({"antithetic": 1}, "antithetic must be"),
        ({"smooth": 2}, "smooth"),
        ({"generator": "7"}, "generator"),
    ],
)
def test_arguments_are_checked(net, x, arguments, words):
    seen = Points(net)
    with pytest.raises((TypeError, ValueError), match=words):
        SmoothGrad(seen).attribute(x, target=TARGETS, **arguments)
    assert sum(map(len, seen.rows)) == 0
    with pytest.raises(TypeError, match="multiply_by_inputs"):
        SmoothGrad(net, multiply_by_inputs=1)
