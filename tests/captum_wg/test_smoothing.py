import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import nn

from captum_wg import (
    Consistency,
    ExpectedGradients,
    GeneralizedAttribution,
    GradientVariance,
    LayerExpectedGradients,
    LocalIntegratedGradients,
    NeuronStability,
    Stability,
    WeightedGradients,
)
from captum_wg.smoothing import check_smooth, mirrored_gaussian, smoothed, smoothed_mix

SHAPES = [(2, 3, 11), (2, 3, 8, 13), (2, 1, 4, 5, 6), (1, 2, 1, 9)]


def literal(m, smooth):
    """scipy's filter channel by channel; its "reflect" is half-sample symmetric."""
    result = np.empty_like(m)
    for b in range(len(m)):
        sides = m.shape[2:]
        shares = smooth if isinstance(smooth, tuple) else (smooth,) * len(sides)
        sigmas = [share * side for share, side in zip(shares, sides, strict=True)]
        blurred = np.stack([gaussian_filter(channel, sigmas, mode="reflect") for channel in m[b]])
        t = np.abs(m[b]).sum() / (np.abs(m[b]).sum() + np.abs(blurred).sum())
        result[b] = (1 - t) * m[b] + t * blurred
    return result


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("smooth", [3 / 32, 0.4, 1.0])
def test_agrees_with_scipy_also_where_the_border_is_wider_than_the_side(draw, shape, smooth):
    m = draw(*shape)
    torch.testing.assert_close(smoothed_mix(m, smooth), torch.from_numpy(literal(m.numpy(), smooth)))


@pytest.mark.parametrize("smooth", [3 / 32, 1.0])
def test_long_sides_take_no_matrix_and_agree_with_scipy(draw, smooth, monkeypatch):
    m = draw(2, 1, 4099)
    monkeypatch.setattr("captum_wg.smoothing.mirrored_gaussian", None)
    mix = smoothed_mix(m, smooth)
    torch.testing.assert_close(mix, torch.from_numpy(literal(m.numpy(), smooth)), rtol=0, atol=1e-12)
    torch.testing.assert_close(mix.sum((1, 2)), m.sum((1, 2)), rtol=0, atol=1e-9)
    long = draw(1, 1, 160_000).float().requires_grad_()
    smoothed_mix(long, smooth).square().sum().backward()
    assert long.grad.isfinite().all()


def test_one_share_for_each_dimension(draw):
    m = draw(2, 3, 8, 13)
    torch.testing.assert_close(
        smoothed_mix(m, (0.3, 0.05)), torch.from_numpy(literal(m.numpy(), (0.3, 0.05))), rtol=1e-12, atol=1e-12
    )
    only_rows = smoothed_mix(m, (0.3, 0.0))
    turned = smoothed_mix(m.transpose(2, 3), (0.0, 0.3)).transpose(2, 3)
    torch.testing.assert_close(only_rows, turned)
    assert not torch.allclose(only_rows, smoothed_mix(m, 0.3))


def test_smooth_is_three_32nds_of_the_side_by_default(draw):
    m = draw(2, 3, 32, 32)
    assert torch.equal(smoothed_mix(m), smoothed_mix(m, 3 / 32))
    torch.testing.assert_close(
        mirrored_gaussian(32, 3.0)[16, 16] / mirrored_gaussian(32, 3.0)[16, 19],
        torch.tensor(np.exp(0.5), dtype=torch.float64),
    )


@settings(max_examples=40, deadline=None)
@given(side=st.integers(1, 40), sigma=st.floats(0.05, 80))
def test_the_blur_keeps_sums_and_constants(side, sigma):
    matrix = mirrored_gaussian(side, sigma)
    ones = torch.ones(side, dtype=torch.float64)
    torch.testing.assert_close(matrix.sum(0), ones, rtol=0, atol=1e-12)
    torch.testing.assert_close(matrix.sum(1), ones, rtol=0, atol=1e-12)
    torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_sum_of_each_channel_stays(draw, shape, dtype):
    m = (draw(*shape) + 0.5).to(dtype)
    before, after = (v.double().flatten(2).sum(2) for v in (m, smoothed_mix(m, 0.2)))
    norm = m.double().flatten(2).abs().sum(2)
    assert ((after - before).abs() <= 1e-7 * norm).all()


def test_linear_for_fixed_t_and_scale_free(draw):
    m = draw(2, 3, 8, 9)
    torch.testing.assert_close(smoothed_mix(-7.5 * m), -7.5 * smoothed_mix(m))
    # One t for all channels: a channel's own mix is another.
    assert not torch.allclose(smoothed_mix(m)[:, :1], smoothed_mix(m[:, :1]))
    # And one for each example.
    torch.testing.assert_close(smoothed_mix(m)[1:], smoothed_mix(m[1:]))


def test_limits(draw):
    m = draw(2, 3, 8, 9)
    assert torch.equal(smoothed_mix(m, 0.0), m)
    torch.testing.assert_close(smoothed_mix(m, 1e-3), m)
    constant = torch.full((2, 3, 8, 9), -0.7, dtype=torch.float64)
    torch.testing.assert_close(smoothed_mix(constant, 0.3), constant)
    assert torch.equal(smoothed_mix(torch.zeros(1, 1, 4)), torch.zeros(1, 1, 4))
    # Both halves have one L1 norm where nothing cancels: half of it each.
    positive = m.abs()
    sharp, blurred = positive, 2 * smoothed_mix(positive, 0.2) - positive
    torch.testing.assert_close(sharp.flatten(1).sum(1), blurred.flatten(1).sum(1))


def test_dtype_and_gradients(draw):
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        assert smoothed_mix(draw(1, 2, 6, 6).to(dtype)).dtype == dtype
    m = draw(1, 2, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: smoothed_mix(v, 0.3), (m,))


def test_tuples(draw):
    image, table, series = draw(2, 3, 6, 7), draw(2, 5, seed=1), draw(2, 3, 9, seed=2)
    made = smoothed((image, table, series), 0.2)
    assert torch.equal(made[0], smoothed_mix(image, 0.2)) and torch.equal(made[2], smoothed_mix(series, 0.2))
    assert made[1] is table
    same = (image, table)
    assert smoothed(same, None) is same
    check_smooth((0.1, 0.2), (image, table))


def test_what_can_not_be_smoothed(draw):
    image = draw(2, 3, 6, 7)
    with pytest.raises(ValueError, match=r"\(2, 5\): the columns of a table are no neighbours"):
        smoothed_mix(draw(2, 5))
    with pytest.raises(ValueError, match="no neighbours; leave smooth out"):
        check_smooth(0.1, (draw(2, 5), draw(2, 4)))
    with pytest.raises(ValueError, match=r"must have shape .* got \(1, 1, 1, 1, 1, 1\)"):
        smoothed((torch.zeros(1, 1, 1, 1, 1, 1),), 0.1)
    with pytest.raises(ValueError, match="not be empty"):
        smoothed_mix(torch.zeros(2, 3, 0))
    for bad in (3, -0.1, float("nan"), True, "wide"):
        with pytest.raises(ValueError, match=r"smooth must be a number in .* a share of the side"):
            smoothed_mix(image, bad)
    with pytest.raises(ValueError, match="one for each of the 2 dimensions of space, got 3"):
        check_smooth((0.1, 0.1, 0.1), (image,))
    with pytest.raises(TypeError, match=r"floating point Tensor, got a Tensor of torch.int64"):
        smoothed_mix(torch.zeros(1, 1, 3, dtype=torch.long))
    with pytest.raises(TypeError, match="floating point Tensor, got ndarray"):
        smoothed_mix(np.zeros((1, 1, 3)))
    image[1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite values in examples 1;"):
        smoothed_mix(image)


# --- as an option of the methods


IMAGES = (2, 3, 6, 5)
METHODS = [
    ExpectedGradients,
    WeightedGradients,
    LocalIntegratedGradients,
    GradientVariance,
    Stability,
    Consistency,
]


def image_net(x):
    """Positive, and not linear, so that the measures have something to say."""
    return torch.stack([x.sin().flatten(1).sum(1) + 99, (x * x.flip(3)).flatten(1).sum(1) + 99], 1)


@pytest.mark.parametrize("cls", METHODS)
@pytest.mark.filterwarnings("ignore:for examples:UserWarning", "ignore:all outputs:UserWarning")
def test_methods_smooth_what_they_return(cls, draw):
    x, references = draw(*IMAGES), draw(3, *IMAGES[1:], seed=1)
    method = cls(image_net)
    plain = method.attribute(x, references, 1)
    made = method.attribute(x, references, 1, smooth=(0.2, 0.1))
    torch.testing.assert_close(made, smoothed_mix(plain, (0.2, 0.1)))
    assert not torch.allclose(made, plain)
    assert torch.equal(method.attribute(x, references, 1, smooth=None), plain)


@pytest.mark.parametrize("cls", METHODS[:2])
@pytest.mark.filterwarnings("ignore:for examples:UserWarning", "ignore:all outputs:UserWarning")
def test_smoothed_methods_stay_complete(cls, draw):
    """The delta is that of what is returned: compute_convergence_delta of it."""
    x, references = draw(*IMAGES).float(), draw(3, *IMAGES[1:], seed=1).float()
    method = cls(image_net)
    extra = {"return_weights": True} if cls is WeightedGradients else {}
    made = method.attribute(x, references, 1, smooth=0.2, return_convergence_delta=True, **extra)
    weights = {"weights": made} if extra else {}
    delta = method.compute_convergence_delta(made.attributions, references, x, 1, **weights)
    assert torch.equal(made.delta, delta)
    assert made.delta.abs().max() < 1e-5 * 99


@pytest.mark.filterwarnings("ignore:for examples:UserWarning", "ignore:all outputs:UserWarning")
def test_smoothed_first_then_grouped(draw):
    x, references = draw(*IMAGES), draw(3, *IMAGES[1:], seed=1)
    rows = torch.arange(6).view(1, 1, 6, 1)
    method = ExpectedGradients(image_net)
    made = method.attribute(x, references, 1, smooth=0.2, feature_mask=rows, group_attributions="sum")
    torch.testing.assert_close(made, smoothed_mix(method.attribute(x, references, 1), 0.2).sum((1, 3)))


def test_measures_of_one_pass_smooth_those_that_are_maps(draw):
    x, references = draw(*IMAGES), draw(3, *IMAGES[1:], seed=1)
    measures = {"stability": "stability", "own": lambda gradients, *_: gradients.mean(1)}
    method = GeneralizedAttribution(image_net)
    plain = method.attribute(x, references, 1, measures=measures)
    made = method.attribute(x, references, 1, measures=measures, smooth=0.2)
    torch.testing.assert_close(made["stability"], smoothed_mix(plain["stability"], 0.2))
    assert torch.equal(made["own"], plain["own"])


def test_layers_and_neurons_smooth_in_their_own_space(draw):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 4, 2)
        net = nn.Sequential(conv, nn.Tanh(), nn.Flatten(), nn.Linear(80, 2)).double()
    x, references = draw(*IMAGES), draw(3, *IMAGES[1:], seed=1)
    layer = LayerExpectedGradients(net, conv)
    plain = layer.attribute(x, references, 1)
    assert plain.shape == (2, 4, 5, 4)
    torch.testing.assert_close(layer.attribute(x, references, 1, smooth=0.2), smoothed_mix(plain, 0.2))
    neuron = NeuronStability(net, net[3])
    plain = neuron.attribute(x, 1, references)
    torch.testing.assert_close(neuron.attribute(x, 1, references, smooth=0.2), smoothed_mix(plain, 0.2))


@pytest.mark.parametrize("cls", METHODS)
def test_methods_refuse_what_can_not_be_smoothed_before_gradients(cls, draw):
    graded = []

    def function(x):
        graded.append(torch.is_grad_enabled())
        return x.flatten(1).sum(1) + 99

    with pytest.raises(ValueError, match=r"smooth must be a number in \[0.0, 1.0\].*share of the side"):
        cls(function).attribute(draw(*IMAGES), draw(3, *IMAGES[1:], seed=1), smooth=21)
    with pytest.raises(ValueError, match="columns of a table are no neighbours"):
        cls(function).attribute(draw(2, 5), draw(3, 5, seed=1), smooth=0.1)
    assert not any(graded)
