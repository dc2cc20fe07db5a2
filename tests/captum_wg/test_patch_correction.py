import math

import numpy as np
import pytest
import torch
from captum.attr import (
    DeepLift,
    FeatureAblation,
    InputXGradient,
    KernelShap,
    LayerIntegratedGradients,
    NeuronIntegratedGradients,
    NoiseTunnel,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_wg import (
    ExpectedGradients,
    LayerExpectedGradients,
    NeuronExpectedGradients,
    OverBaselines,
    PatchCorrected,
    WeightedGradients,
)
from captum_wg.patch_correction import grid, toward_drops
from captum_wg.weighting.masking import Features

pytestmark = pytest.mark.filterwarnings("error::UserWarning:captum_wg")

TARGETS = [0, 2, 1]


@pytest.fixture
def x(draw):
    return draw(3, 2, 6, 7)


@pytest.fixture
def references(draw):
    return draw(4, 2, 6, 7, seed=1)


@pytest.fixture
def net(classifier):
    return classifier((2, 6, 7))


def ridge(e, v, groups, shrinkage):
    """The regression itself, by its normal equations over all elements of one example: e (n,), v (P,), groups (n,)."""
    design = np.stack([groups == s for s in range(len(v))]).astype(float)
    sums = design @ e
    claimed, lost = np.linalg.norm(sums), np.linalg.norm(v)
    b = max(sums @ v / (claimed * lost), 0.2) * lost / claimed if claimed * lost > 0 else 0.0
    penalty = shrinkage * np.diag(design.T @ design.sum(1))
    return np.linalg.solve(design.T @ design + penalty, design.T @ v + penalty @ (b * e))


def probabilities(net, x, targets):
    with torch.no_grad():
        return net(x).softmax(1)[torch.arange(len(x)), torch.as_tensor(targets)]


def literal(net, x, e, targets, rows, columns, shrinkage):
    """One forward at a time: the drops by each patch, and the regression solved."""
    result = torch.empty_like(x)
    for i in range(len(x)):
        one, drops = x[i : i + 1], []
        groups = torch.empty(x.shape[1:], dtype=torch.long)
        for r in range(rows):
            for c in range(columns):
                vertical = [h for h in range(x.shape[2]) if h * rows // x.shape[2] == r]
                horizontal = [w for w in range(x.shape[3]) if w * columns // x.shape[3] == c]
                masked = one.clone()
                for h in vertical:
                    for w in horizontal:
                        masked[0, :, h, w] = one[0].mean((1, 2))
                        groups[:, h, w] = r * columns + c
                both = probabilities(net, torch.cat([one, masked]), [targets[i]] * 2)
                drops.append(float(both[0] - both[1]))
        solved = ridge(e[i].flatten().numpy(), np.array(drops), groups.flatten().numpy(), shrinkage)
        result[i] = torch.from_numpy(solved).view(x.shape[1:])
    return result


@pytest.mark.parametrize("size", [None, 1, 4, 100])
@pytest.mark.parametrize("shrinkage", [1.0, 0.3, 5])
def test_it_is_the_ridge_regression(net, x, references, shrinkage, size):
    inner = ExpectedGradients(net)
    e = inner.attribute(x, references, TARGETS, n_steps=5)
    corrected = PatchCorrected(inner, (3, 4), shrinkage=shrinkage)
    made = corrected.attribute(x, references, TARGETS, n_steps=5, internal_batch_size=size)
    torch.testing.assert_close(made, literal(net, x, e, TARGETS, 3, 4, shrinkage), rtol=1e-8, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_groups=st.integers(1, 9),
    shrinkage=st.floats(0.01, 100),
    scale=st.sampled_from([1e-6, 1.0, 1e4]),
)
def test_any_groups_of_any_size(seed, n_groups, shrinkage, scale):
    rng = np.random.default_rng(seed)
    e, v = rng.normal(size=(2, 3, 4)) * scale, rng.normal(size=(2, n_groups))
    groups = np.concatenate([np.arange(n_groups), rng.integers(n_groups, size=12 - n_groups)])
    groups = np.stack([rng.permutation(groups) for _ in range(2)])
    maps = (torch.from_numpy(e),)
    features = Features(maps, (torch.from_numpy(groups).view(2, 3, 4),))
    (made,) = toward_drops(maps, torch.from_numpy(v), features, shrinkage)
    expected = np.stack([ridge(e[i].ravel(), v[i], groups[i], shrinkage) for i in range(2)]).reshape(2, 3, 4)
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-6, atol=1e-8)


def patch_sums(maps, rows, columns):
    masks = grid((maps,), (rows, columns))
    return Features((maps,), masks).scores((maps,))


def test_without_shrinkage_patch_sums_are_the_drops_and_with_all_of_it_the_map_is_scaled(net, x, references):
    inner = ExpectedGradients(net)
    e = inner.attribute(x, references, TARGETS)
    free = PatchCorrected(inner, 2, shrinkage=0).attribute(x, references, TARGETS)
    drops = patch_sums(free, 2, 2)
    for i, target in enumerate(TARGETS):
        masked = x.clone()
        masked[:, :, 3:, :4] = x.mean((2, 3), keepdim=True)
        before, after = probabilities(net, x, TARGETS)[i], probabilities(net, masked, [target] * 3)[i]
        assert drops[i, 2].item() == pytest.approx((before - after).item(), abs=1e-12)
    scaled = PatchCorrected(inner, 2, shrinkage=math.inf).attribute(x, references, TARGETS)
    sums = patch_sums(e, 2, 2)
    least = 0.2 * drops.norm(dim=1) / sums.norm(dim=1)
    b = torch.maximum((sums * drops).sum(1) / sums.square().sum(1), least)
    torch.testing.assert_close(scaled, b.view(-1, 1, 1, 1) * e)
    # Between the two lies what is between them.
    half = PatchCorrected(inner, 2).attribute(x, references, TARGETS)
    torch.testing.assert_close(half, (free + scaled) / 2)


def test_details_of_a_patch_stay_and_its_channels_move_alike(net, x, references):
    inner = ExpectedGradients(net)
    e = inner.attribute(x, references, TARGETS)
    made, scaled = (
        PatchCorrected(inner, 2, shrinkage=share).attribute(x, references, TARGETS) for share in (1.0, math.inf)
    )
    moved = made - scaled
    for rows in (slice(0, 3), slice(3, 6)):
        for columns in (slice(0, 4), slice(4, 7)):
            patch = moved[:, :, rows, columns].flatten(1)
            torch.testing.assert_close(patch, patch[:, :1].expand_as(patch))
    assert not torch.allclose(e, made)


def test_details_stay_where_the_map_goes_against_the_drops(x):
    features = Features((x,), grid((x,), 2))
    sums = features.scores((x,))
    (made,) = toward_drops((x,), -sums, features)
    torch.testing.assert_close(features.scores((made,)), -0.4 * sums)
    details = made - 0.2 * x
    torch.testing.assert_close(details[:, :1, :3, :4], details[:, :1, :1, :1].expand(3, 1, 3, 4))
    (zeros,) = toward_drops((torch.zeros_like(x),), sums, features)
    torch.testing.assert_close(features.scores((zeros,)), sums / 2)
    (nothing,) = toward_drops((x,), torch.zeros_like(sums), features)
    assert not nothing.any()


def test_an_additive_function_is_explained_as_it_is(draw):
    weights = draw(2, 6, 6, seed=3)
    x = draw(2, 2, 6, 6)

    def f(z):
        return (z * weights).sum((1, 2, 3))

    e = ExpectedGradients(f).attribute(x, 0.5)
    made = PatchCorrected(ExpectedGradients(f), 3, neutral=0.5).attribute(x, 0.5)
    torch.testing.assert_close(made, e)


def test_groups_in_place_of_the_grid(net, x, references):
    inner = ExpectedGradients(net)
    by_grid = PatchCorrected(inner, (3, 2)).attribute(x, references, TARGETS)
    groups = (torch.arange(6) // 2 * 100).view(6, 1) - (torch.arange(7) * 2 // 7)
    by_mask = PatchCorrected(inner).attribute(x, references, TARGETS, feature_mask=groups.expand(1, 2, 6, 7))
    torch.testing.assert_close(by_mask, by_grid)
    # Each example its own, with groups that others have not.
    own = torch.stack([groups, groups, torch.zeros_like(groups)]).unsqueeze(1).expand(3, 2, 6, 7)
    each = PatchCorrected(inner, shrinkage=0).attribute(x, references, TARGETS, feature_mask=own)
    free = PatchCorrected(inner, (3, 2), shrinkage=0).attribute(x, references, TARGETS)
    torch.testing.assert_close(each[:2], free[:2])
    whole = PatchCorrected(inner, 1, shrinkage=0).attribute(x, references, TARGETS)
    torch.testing.assert_close(each[2], whole[2])


def test_tables_and_tuples(classifier, draw):
    image, table = draw(3, 2, 4, 4), draw(3, 5, seed=1)
    net = classifier((2, 4, 4), (5,))
    masks = ((torch.arange(16) // 4).view(1, 1, 4, 4), torch.tensor([[7, 8, 8, 9, 9]]))
    means = (0.0, table.mean(0, keepdim=True))
    made = PatchCorrected(ExpectedGradients(net), neutral=means, shrinkage=0, output="identity").attribute(
        (image, table), (0.1, 0.2), 1, feature_mask=masks
    )
    assert [m.shape for m in made] == [image.shape, table.shape]
    masked = table.clone()
    masked[:, 1:3] = table.mean(0)[1:3]
    with torch.no_grad():
        drop = (net(image, table) - net(image, masked))[:, 1]
    torch.testing.assert_close(made[1][:, 1:3].sum(1), drop)
    # A tuple's grids are counted on.
    both = draw(3, 2, 6, seed=2), draw(3, 1, 2, 3, 4, seed=3)
    masks = grid(both, 2)
    assert masks[0].shape == (1, 1, 6) and masks[0].unique().tolist() == [0, 1]
    assert masks[1].shape == (1, 1, 2, 3, 4) and masks[1].unique().tolist() == list(range(2, 10))
    wide = PatchCorrected(ExpectedGradients(classifier((2, 6), (1, 2, 3, 4))), 2, output="softmax").attribute(
        both, target=0
    )
    assert [m.shape for m in wide] == [b.shape for b in both]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_around_any_method(net, x, references):
    relu = nn.Sequential(nn.Flatten(), nn.Linear(84, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    for method, arguments in (
        (WeightedGradients(net), {"baselines": references, "n_steps": 4, "keep": 2}),
        (OverBaselines(DeepLift(relu)), {"baselines": references}),
        (DeepLift(relu), {"baselines": 0.0}),
        (InputXGradient(net), {}),
        (NoiseTunnel(ExpectedGradients(net, baselines=references)), {"nt_samples": 2, "stdevs": 0.0}),
    ):
        e = method.attribute(x, target=TARGETS, **arguments).detach()
        made = PatchCorrected(method, (3, 4)).attribute(x, target=TARGETS, **arguments)
        expected = literal(method.forward_func, x, e, TARGETS, 3, 4, 1.0)
        torch.testing.assert_close(made, expected, rtol=1e-6, atol=1e-9, msg=type(method).__name__)


@pytest.mark.filterwarnings("ignore:for examples 1 not even removing")
def test_weights_and_steps_go_along(net, x, references):
    corrected = PatchCorrected(WeightedGradients(net), 2)
    made = corrected.attribute(x, references, TARGETS, n_steps="auto", return_weights=True, return_steps=True)
    assert made.weights.shape == made.steps.shape == (3, 4) and made.delta is None
    torch.testing.assert_close(made.attributions, corrected.attribute(x, references, TARGETS, n_steps="auto"))


def test_groups_are_features_of_methods_that_perturb(net, x):
    groups = (torch.arange(7) // 3).view(1, 1, 1, 7).expand(1, 2, 6, 7)
    for method in (FeatureAblation(net), KernelShap(net)):
        torch.manual_seed(0)
        e = method.attribute(x[:1], target=0, feature_mask=groups)
        torch.manual_seed(0)
        made = PatchCorrected(method).attribute(x[:1], target=0, feature_mask=groups)
        assert len(e.unique()) == len(made.unique()) == 3


def test_gaps_in_the_numbers_of_groups_mean_nothing(unprobed, record, net, x):
    groups = (torch.arange(7) // 3).view(1, 1, 1, 7).expand(1, 2, 6, 7)
    gaps = 5 + 90 * groups
    for make in (FeatureAblation, KernelShap):
        made, calls = [], []
        for mask in (groups, gaps):
            torch.manual_seed(0)
            f = record(net)
            made.append(PatchCorrected(make(f)).attribute(x[:1], target=0, feature_mask=mask))
            calls.append(len(f.sizes))
        torch.testing.assert_close(*made, rtol=0, atol=0)
        assert calls[0] == calls[1]


@pytest.mark.filterwarnings("ignore:for examples 2 not even removing")
def test_groups_are_no_features_of_others(net, x, references):
    groups = (torch.arange(7) // 3).view(1, 1, 1, 7).expand(1, 2, 6, 7)
    inner = WeightedGradients(net)
    assert not torch.allclose(*(inner.attribute(x, references, 0, feature_mask=m) for m in (None, groups)))
    e = inner.attribute(x, references, 0)
    scaled = PatchCorrected(inner, shrinkage=math.inf).attribute(x, references, 0, feature_mask=groups)
    shares = (scaled / e).flatten(1)
    torch.testing.assert_close(shares, shares[:, :1].expand_as(shares))


def test_the_price_is_a_forward_for_each_patch_in_micro_batches(unprobed, record, rising, draw):
    f = record(rising)
    x = draw(3, 1, 6, 6)
    corrected = PatchCorrected(ExpectedGradients(f), 3)
    with torch.no_grad():
        f.plain.clear()
        ExpectedGradients(f).attribute(x, n_steps=2, internal_batch_size=5)
        inner = f.plain + f.graded
        f.plain.clear(), f.graded.clear()
        corrected.attribute(x, n_steps=2, internal_batch_size=5)
    assert 9 * 3 <= sum(f.plain + f.graded) - sum(inner) <= 3 + 9 * 3 + 5
    assert max(f.plain + f.graded) <= 5


def test_no_gradients_are_taken_by_the_removals(x, references):
    class Watched(nn.Module):
        graded = 0

        def forward(self, z):
            self.graded += torch.is_grad_enabled()
            return z.flatten(1)[:, :3].sin()

    plain, watched = Watched(), Watched()
    ExpectedGradients(plain).attribute(x, references, TARGETS)
    PatchCorrected(ExpectedGradients(watched), 3, output="softmax").attribute(x, references, TARGETS)
    assert watched.graded == plain.graded


def test_f_is_what_output_says(net, x, references):
    inner = ExpectedGradients(net)
    made = {
        output: patch_sums(PatchCorrected(inner, 2, shrinkage=0, output=output).attribute(x, references, TARGETS), 2, 2)
        for output in ("auto", "softmax", "identity", "sigmoid")
    }
    made["callable"] = patch_sums(
        PatchCorrected(inner, 2, shrinkage=0, output=lambda o: o.softmax(1)[:, 0]).attribute(x, references, 0), 2, 2
    )
    masked = x.clone()
    masked[:, :, :3, :4] = x.mean((2, 3), keepdim=True)
    with torch.no_grad():
        a, b = net(x), net(masked)
    for output, f in (
        ("auto", lambda o: o.softmax(1)),
        ("softmax", lambda o: o.softmax(1)),
        ("identity", lambda o: o),
        ("sigmoid", torch.sigmoid),
        ("callable", lambda o: o.softmax(1)[:, :1].expand(3, 3)),
    ):
        torch.testing.assert_close(made[output][:, 0], (f(a) - f(b))[torch.arange(3), TARGETS])


def test_arguments_and_targets_of_examples_go_with_their_rows(x, references):
    def f(z, scale, table):
        return (z.flatten(1) @ table).sin() * scale[:, None]

    table = torch.randn(84, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    corrected = PatchCorrected(ExpectedGradients(f), 2, output="identity")
    made = corrected.attribute(x, references, TARGETS, (scale, table), n_steps=3)
    for i in range(3):
        alone = corrected.attribute(x[i : i + 1], references, TARGETS[i], (scale[i : i + 1], table), n_steps=3)
        torch.testing.assert_close(made[i : i + 1], alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_maps_have_the_inputs_dtype(classifier, x, references, dtype):
    net = classifier((2, 6, 7), dtype=dtype)
    made = PatchCorrected(ExpectedGradients(net), 2).attribute(x.to(dtype), references.to(dtype), TARGETS)
    assert made.dtype == dtype and made.isfinite().all()


def test_noise_tunnel_takes_it(net, x, references):
    corrected = PatchCorrected(ExpectedGradients(net, baselines=references), 2)
    smooth = NoiseTunnel(corrected).attribute(x, nt_samples=2, stdevs=0.0, target=TARGETS)
    torch.testing.assert_close(smooth, corrected.attribute(x, target=TARGETS))
    assert corrected.multiplies_by_inputs and not corrected.has_convergence_delta()


def test_what_can_not_be_corrected_is_said(net, x, references):
    inner = ExpectedGradients(net)
    with pytest.raises(TypeError, match=r"make an instance of it: ExpectedGradients\(model\)"):
        PatchCorrected(ExpectedGradients)
    with pytest.raises(TypeError, match="method must be an attribution"):
        PatchCorrected(net)
    layered = nn.Sequential(nn.Flatten(), nn.Linear(84, 3)).double()
    for method in (
        LayerIntegratedGradients(layered, layered[1]),
        LayerExpectedGradients(layered, layered[1]),
        NeuronIntegratedGradients(layered, layered[1]),
        NeuronExpectedGradients(layered, layered[1]),
        OverBaselines(LayerIntegratedGradients(layered, layered[1])),
    ):
        with pytest.raises(ValueError, match="explains a neuron, or a layer"):
            PatchCorrected(method)
    for bad in (0, 1.5, True, "8", (2, 0)):
        with pytest.raises(ValueError, match="patches must be a whole number of at least 1"):
            PatchCorrected(inner, bad)
    for bad in (-1, math.nan, "1", None):
        with pytest.raises(ValueError, match="shrinkage must be a number in"):
            PatchCorrected(inner, shrinkage=bad)
    with pytest.raises(ValueError, match="output must be one of"):
        PatchCorrected(inner, output="logits")
    with pytest.raises(ValueError, match="neutral must be one of"):
        PatchCorrected(inner, 2, neutral="grey").attribute(x, references, 0)
    with pytest.raises(TypeError, match="no convergence delta"):
        PatchCorrected(inner, 2).attribute(x, references, 0, return_convergence_delta=True)
    without = PatchCorrected(inner, 2).attribute(x, references, 0, return_convergence_delta=False)
    torch.testing.assert_close(without, PatchCorrected(inner, 2).attribute(x, references, 0))
    with pytest.raises(ValueError, match=r"patches=7 are more than inputs of shape \(3, 2, 6, 7\) are long"):
        PatchCorrected(inner, 7).attribute(x, references, 0)
    with pytest.raises(ValueError, match="one for each dimension of space"):
        PatchCorrected(inner, (2, 2, 2)).attribute(x, references, 0)
    with pytest.raises(ValueError, match="feature_mask, such as"):
        PatchCorrected(ExpectedGradients(lambda z: z.sum(1))).attribute(x.flatten(1))
    with pytest.raises(TypeError, match=r"InputXGradient\.attribute has no argument 'baselines'"):
        PatchCorrected(InputXGradient(net), 2).attribute(x, references, 0)


def test_maps_of_other_shapes_and_outputs_that_are_not_finite(x, references):
    class Sums(InputXGradient):
        def attribute(self, inputs, target=None, additional_forward_args=None):
            return inputs.sum(1, keepdim=True)

    with pytest.raises(ValueError, match=r"Sums must return maps of the inputs' shapes \[\(3, 2, 6, 7\)\]"):
        PatchCorrected(Sums(lambda z: z.sum((1, 2, 3))), 2).attribute(x)

    def f(z):
        # Of the second example alone, and only where its first corner is gone.
        gone = ((z[:, 0, 0, 0] - x[1].mean((1, 2))[0]).abs() < 1e-9).to(z)
        return z.sum((1, 2, 3)) / (1 - gone)

    with pytest.raises(ValueError, match="NaN or infinite for examples 1 or masked copies"):
        PatchCorrected(ExpectedGradients(f), 2).attribute(x)


@pytest.mark.filterwarnings("ignore:the rows of forward_func influence")
def test_rows_that_influence_each_other_are_refused(x):
    with pytest.raises(ValueError, match="what is removed of one example must not change another"):
        PatchCorrected(ExpectedGradients(lambda z: (z * z.mean(0)).sum((1, 2, 3))), 2).attribute(x)
