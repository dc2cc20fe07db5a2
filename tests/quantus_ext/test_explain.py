import copy
import pickle
import random
import warnings

import captum.attr
import numpy as np
import pytest
import quantus
import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Saliency
from captum.log import log_usage
from torch import nn

import captum_wg
from quantus_ext import explain, explainer

# Captum's own, of hooks and gradients, and those of methods on models as small as these.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def references():
    return np.random.default_rng(5).normal(size=(3, 3, 6, 7)).astype(np.float32)


def direct(cls, net, x, y, **kwargs):
    """The class itself, as a Captum user calls it."""
    return cls(net).attribute(torch.from_numpy(x), target=torch.from_numpy(y), **kwargs).detach().numpy()


@pytest.mark.parametrize(
    "name, kwargs",
    [
        ("Saliency", {"abs": False}),
        ("IntegratedGradients", {"n_steps": 7, "method": "riemann_middle"}),
        ("InputXGradient", {}),
        ("DeepLift", {}),
        ("Deconvolution", {}),
        ("Occlusion", {"sliding_window_shapes": (3, 2, 2), "strides": 2}),
        ("FeatureAblation", {"feature_mask": torch.arange(42).reshape(1, 1, 6, 7)}),
    ],
)
def test_captums_classes_with_their_own_parameters(net, images, name, kwargs):
    x, y, _ = images
    net[1].inplace = False
    expected = direct(getattr(captum.attr, name), net, x, y, **kwargs)
    for method in (name, getattr(captum.attr, name)):
        result = explainer(method, **kwargs, reduce_axes=())(net, x, y)
        np.testing.assert_allclose(result, expected, atol=1e-6)
        assert isinstance(result, np.ndarray) and result.dtype == np.float32
        summed = explainer(method, **kwargs)(net, x, y)
        assert summed.shape == (4, 1, 6, 7)
        np.testing.assert_allclose(summed, expected.sum(1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "ExpectedGradients",
        "WeightedGradients",
        "LocalIntegratedGradients",
        "GradientVariance",
        "Stability",
        "Consistency",
    ],
)
def test_our_classes(net, images, references, name):
    x, y, _ = images
    kwargs = {"n_steps": 3} if name.endswith("edGradients") else {"n_samples": 6}
    if name == "LocalIntegratedGradients":
        kwargs = {"n_samples": 6}
    expected = direct(getattr(captum_wg, name), net, x, y, baselines=torch.from_numpy(references), **kwargs)
    make = explainer(name, baselines=references, reduce_axes=(), **kwargs)
    np.testing.assert_allclose(make(net, x, y), expected, atol=1e-5)
    # No chunk of three examples may be taken for one that is paired with the three baselines.
    six = np.concatenate([x, x[:2]]), np.concatenate([y, y[:2]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for batch_size in (1, 2, 3):
            np.testing.assert_allclose(make(*(net, *six), batch_size=batch_size)[:4], expected, atol=1e-5)
    assert not any("pairing" in str(w.message) for w in caught)
    np.testing.assert_allclose(
        explain(net, x, y, method=name, baselines=references, **kwargs), expected.sum(1, keepdims=True), atol=1e-5
    )


def test_explain_is_the_same_unbound(net, images):
    x, y, _ = images
    bound = explainer("IntegratedGradients", n_steps=4)(net, x, y)
    np.testing.assert_array_equal(explain(net, x, y, method="IntegratedGradients", n_steps=4), bound)
    np.testing.assert_array_equal(explain(net, x, y, method=IntegratedGradients, n_steps=4), bound)
    default = explain(net, x, y, method="IntegratedGradients", reduce_axes=())
    np.testing.assert_allclose(default, direct(IntegratedGradients, net, x, y, n_steps=50), atol=1e-6)


@pytest.mark.parametrize("method", ["Gradient", "Control Var. Sobel Filter"])
def test_other_names_go_to_quantus(net, images, method):
    x, y, _ = images
    net[0].train()
    np.testing.assert_array_equal(explain(net, x, y, method=method), quantus.explain(net.eval(), x, y, method=method))
    np.testing.assert_array_equal(
        explain(net, torch.from_numpy(x), torch.from_numpy(y), method=method),
        quantus.explain(net, x, y, method=method),
    )


def test_quantus_keeps_the_mode_and_needs_no_layout(net, images):
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 3)).train()
    square = rng.normal(size=(2, 4, 4, 4)).astype(np.float32)
    assert explain(model, square, np.array([0, 1]), method="Gradient").shape == (2, 1, 4, 4)
    assert model.training and model[1].training
    x, y, _ = images
    with pytest.warns(UserWarning, match="without specifying 'method'"):
        result = explain(net, x, y)
    np.testing.assert_allclose(result, direct(Saliency, net, x, y, abs=False).sum(1, keepdims=True), atol=1e-6)


def test_keys_and_merging(net, images):
    x, y, _ = images
    make = explainer("IntegratedGradients", n_steps=4)
    bound = make(net, x, y)
    np.testing.assert_array_equal(make(model=net, inputs=x, targets=y, method="a row's key", xai_lib="captum"), bound)
    np.testing.assert_array_equal(make(net, x, y, device="cpu", channel_first=True), bound)
    other = make(net, x, y, n_steps=9)
    np.testing.assert_array_equal(other, explainer("IntegratedGradients", n_steps=9)(net, x, y))
    assert np.abs(other - bound).max() > 0
    np.testing.assert_array_equal(make(net, x, y), bound)


def test_reduction_is_that_of_quantus(net, images):
    x, y, _ = images
    for kwargs in ({}, {"reduce_axes": ()}, {"reduce_axes": (1, 2)}, {"reduce_axes": (-1,)}, {"keepdims": False}):
        expected = quantus.explain(net, x, y, method="InputXGradient", **kwargs)
        result = explainer("InputXGradient", **kwargs)(net, x, y)
        assert result.shape == expected.shape
        np.testing.assert_allclose(result, expected, atol=1e-6)
    table = nn.Linear(5, 3).eval()
    rows = np.ones((2, 5), np.float32)
    assert explainer("Saliency")(table, rows, [0, 1]).shape == (2, 5)
    series = nn.Sequential(nn.Flatten(), nn.Linear(8, 3)).eval()
    assert explainer("Saliency")(series, np.ones((2, 2, 4), np.float32), [0, 1]).shape == (2, 1, 4)


class Rows(nn.Module):
    """A model with a second, per-example input and a third that all examples share."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.rows = []
        self.eval()

    def forward(self, x, scale=None, shift=None):
        self.rows.append(len(x))
        if scale is not None and len(scale) != len(x):
            raise RuntimeError("scale was not cut with the inputs")
        z = torch.tanh(self.linear(x)) * (1 if scale is None else scale)
        return z if shift is None else z + shift.sum() * z


def test_chunks_are_bounded_and_change_nothing():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = Rows()
    x, y = rng.normal(size=(7, 4)).astype(np.float32), rng.integers(0, 3, 7)
    scale, shift = rng.normal(size=(7, 1)), rng.normal(size=3)
    arguments = {
        "InputXGradient": {"additional_forward_args": (scale, shift)},
        "Saliency": {"additional_forward_args": scale},
        "IntegratedGradients": {"baselines": rng.normal(size=(7, 4)), "n_steps": 3},
        "DeepLiftShap": {"baselines": rng.normal(size=(7, 4))},
        "FeatureAblation": {"feature_mask": np.array([[0, 0, 1, 1]]), "baselines": 0.5},
        "ShapleyValues": {"feature_mask": np.array([[0, 1, 1, 2]] * 7)[:1], "baselines": rng.normal(size=(7, 4))},
        "ExpectedGradients": {"baselines": rng.normal(size=(7, 2, 4)), "n_steps": 3},
        "WeightedGradients": {
            "baselines": rng.normal(size=(2, 4)),
            "weighting": captum_wg.Deletion(neutral=rng.normal(size=(7, 4)), output="softmax"),
            "n_steps": 3,
        },
    }
    for name, kwargs in arguments.items():
        net = nn.Sequential(model.linear, nn.Sigmoid()).eval() if name == "DeepLiftShap" else model
        whole = explainer(name, **kwargs)(net, x, y)
        for size, rows in ((1, [1] * 7), (3, [2, 2, 3])):
            model.rows.clear()
            np.testing.assert_allclose(explainer(name, **kwargs, batch_size=size)(net, x, y), whole, atol=1e-5)
            # After the probe of what goes with the examples.
            assert name != "Saliency" or model.rows[-len(rows) :] == rows
    paired = explainer("ExpectedGradients", baselines=rng.normal(size=(7, 4)), pairing="paired")
    np.testing.assert_allclose(paired(model, x, y, batch_size=3), paired(model, x, y), atol=1e-6)


def test_default_batch_size():
    model = Rows()
    explainer("Saliency")(model, np.zeros((130, 4), np.float32), np.zeros(130, int))
    assert model.rows == [43, 43, 44]


def test_permutation_needs_company(images, net):
    x, y, _ = images
    make = explainer("FeaturePermutation", feature_mask=np.arange(42).reshape(1, 1, 6, 7), batch_size=1)
    # Captum gives zeros for a batch of one.
    assert all(np.abs(make(net, x, y, generator=0)).max((1, 2, 3)) > 0)
    with pytest.raises(ValueError, match="FeaturePermutation exchanges values between the examples"):
        make(net, x[:1], y[:1])


@pytest.mark.parametrize("targets", [[0, 3, 1, 4], np.array([[0], [3], [1], [4]]), torch.tensor([0, 3, 1, 4])])
def test_forms_of_targets(net, images, targets):
    x, y, _ = images
    np.testing.assert_array_equal(explainer("Saliency")(net, x, targets), explainer("Saliency")(net, x, y))


def test_one_target_none_or_several(net, images):
    x, _, _ = images
    make = explainer("Saliency", batch_size=3)
    np.testing.assert_array_equal(make(net, x, 2), make(net, x, [2] * 4))
    scalar = nn.Sequential(net, nn.Linear(5, 1), nn.Flatten(0)).eval()
    assert make(scalar, x, None).shape == (4, 1, 6, 7)
    grid = nn.Sequential(net, nn.Linear(5, 6), nn.Unflatten(1, (2, 3))).eval()
    several = make(grid, x, [(0, 1), (1, 2), (0, 0), (1, 0)])
    np.testing.assert_allclose(several[1:2], make(grid, x[1:2], [(1, 2)]), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes(net, images, references, dtype):
    x, y, _ = images
    model = copy.deepcopy(net).to(dtype)
    for name, kwargs in (("WeightedGradients", {"baselines": references, "n_steps": 3}), ("Saliency", {})):
        result = explainer(name, **kwargs)(model, x, y)
        assert result.dtype == (np.float64 if dtype == torch.float64 else np.float32)
        if name == "Saliency":
            tolerance = 1e-6 if dtype == torch.float64 else 0.02
            np.testing.assert_allclose(result, explainer(name)(net, x, y), atol=tolerance)
    integers = (x * 3).astype(np.uint8)
    assert explainer("Saliency")(net, integers, y).shape == (4, 1, 6, 7)
    free = nn.Sequential(nn.Flatten(), nn.Softplus()).eval()
    assert explainer("Saliency")(free, x.astype(np.float64), y).dtype == np.float64


def test_nothing_of_the_callers_is_changed(net, images, references):
    x, y, _ = images
    x.flags.writeable = y.flags.writeable = references.flags.writeable = False
    net.train()
    net[1].eval()
    modes = [module.training for module in net.modules()]
    inputs, given = torch.from_numpy(x.copy()), {"baselines": references, "n_steps": 2}
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    for name in ("WeightedGradients", "DeepLift", "GradientShap"):
        kwargs = {"baselines": references, "generator": 1} if name == "GradientShap" else {}
        explainer(name, **kwargs)(net, inputs, y)
    explain(net, x, y, method="ExpectedGradients", **given)
    assert [module.training for module in net.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not inputs.requires_grad and inputs.grad is None and torch.equal(inputs, torch.from_numpy(x.copy()))
    assert given.keys() == {"baselines", "n_steps"} and given["baselines"] is references
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules())


def test_the_mode_is_evaluation_and_comes_back_after_an_error(images):
    class Watching(nn.Module):
        def forward(self, x):
            assert not self.training
            raise RuntimeError("stop")

    model = Watching().train()
    with pytest.raises(RuntimeError, match="stop"):
        explainer("Saliency")(model, *images[:2])
    assert model.training


@pytest.mark.parametrize(
    "name", ["GradientShap", "LocalIntegratedGradients", "ExpectedGradients", "ShapleyValueSampling", "Lime"]
)
def test_draws(net, images, references, name):
    x, y, _ = images
    kwargs = {
        "GradientShap": {"baselines": references, "stdevs": 0.1},
        "LocalIntegratedGradients": {"baselines": references, "n_samples": 4, "radius": 0.5},
        "ExpectedGradients": {"baselines": references, "n_samples": 4},
    }.get(name, {"feature_mask": np.arange(42).reshape(1, 1, 6, 7) // 6, "n_samples": 4})
    same = explainer(name, **kwargs, generator=0)
    first = same(net, x, y)
    np.testing.assert_array_equal(same(net, x, y), first)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(same))(net, x, y), first)
    assert np.abs(same(net, x, y, generator=1) - first).max() > 0

    def three(**options):
        make = explainer(name, **kwargs, **options)
        return [make(net, x, y) for _ in range(3)]

    fresh, again = three(generator=0, fresh_draws=True), three(fresh_draws=True)
    np.testing.assert_array_equal(fresh, again)
    np.testing.assert_array_equal(fresh[0], first)
    assert np.abs(fresh[1] - fresh[0]).max() > 0 and np.abs(fresh[2] - fresh[1]).max() > 0

    stream = three(generator=torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(stream, three(generator=torch.Generator().manual_seed(3)))
    assert np.abs(stream[1] - stream[0]).max() > 0


@pytest.mark.skipif(torch.cuda.is_initialized(), reason="CUDA's generators are put back once it is in use")
def test_a_seed_does_not_reach_a_device_that_is_not_in_use(net, images, references, monkeypatch):
    reached = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reached.append)
    explainer("GradientShap", baselines=references, generator=0)(net, *images[:2])
    assert reached == []


def test_warnings_point_to_the_callers_line(net, images):
    x, y, _ = images
    with pytest.warns(UserWarning, match="as many rows") as caught:
        explainer("ExpectedGradients", baselines=x, n_steps=1)(net, x, y)
    assert caught[0].filename == __file__


def test_our_draws_do_not_depend_on_chunks(net, images, references):
    x, y, _ = images
    for generator in (0, torch.Generator().manual_seed(1)):
        make = explainer("LocalIntegratedGradients", baselines=references, n_samples=5)
        if isinstance(generator, torch.Generator):
            whole, cut = (
                make(net, x, y, generator=torch.Generator().manual_seed(1), batch_size=size) for size in (64, 2)
            )
        else:
            whole, cut = (make(net, x, y, generator=generator, batch_size=size) for size in (64, 2))
        np.testing.assert_allclose(cut, whole, atol=1e-6)


def test_functions_of_the_model(net, images):
    x, y, _ = images
    make = explainer(lambda model: NoiseTunnel(Saliency(model)), nt_samples=3, stdevs=0.2, generator=0)
    torch.manual_seed(0)
    expected = NoiseTunnel(Saliency(net)).attribute(
        torch.from_numpy(x), target=torch.from_numpy(y), nt_samples=3, stdevs=0.2
    )
    np.testing.assert_allclose(make(net, x, y, reduce_axes=()), expected, atol=1e-6)
    np.testing.assert_allclose(
        explain(net, x, y, method=lambda model: Saliency(model)), explainer("Saliency")(net, x, y)
    )


def test_shared_baselines_are_not_cut_inside_a_wrapper(net, images):
    x, y, _ = images
    seen = []

    class Watched(captum.attr.GradientShap):
        @log_usage()
        def attribute(self, inputs, baselines, target=None):
            seen.append(set(baselines[0].flatten().tolist()))
            return inputs

    make = explainer(lambda model: NoiseTunnel(Watched(model)), nt_samples=40, draw_baseline_from_distrib=True)
    four = np.ones((4, 3, 6, 7), np.float32) * np.arange(4).reshape(4, 1, 1, 1)
    make(net, x, y, baselines=four, batch_size=2, generator=0)
    assert len(seen) >= 2 and all(values == {0, 1, 2, 3} for values in seen)


def test_a_class_that_writes_into_its_inputs(net, images):
    x, y, _ = images

    class Writing(captum.attr.Attribution):
        def attribute(self, inputs, target=None):
            return inputs.detach().zero_()

    tensor = torch.from_numpy(x.copy())
    explainer(Writing)(net, tensor, y)
    assert torch.equal(tensor, torch.from_numpy(x))


def test_layers(net, images):
    x, y, _ = images
    expected = captum.attr.LayerGradCam(net, net[0]).attribute(torch.from_numpy(x), target=torch.from_numpy(y))
    for layer in ("0", net[0]):
        result = explainer("LayerGradCam", init_kwargs={"layer": layer})(net, x, y)
        np.testing.assert_allclose(result, expected.detach(), atol=1e-6)
    np.testing.assert_array_equal(explain(net, x, y, method="LayerGradCam", xai_lib_kwargs={"layer": "0"}), result)
    # No target is asked for.
    activation = explainer("LayerActivation", init_kwargs={"layer": "0"})(net, x, y)
    np.testing.assert_allclose(activation, net[0](torch.from_numpy(x)).detach().sum(1, keepdim=True), atol=1e-5)
    neuron = explainer("NeuronGradient", init_kwargs={"layer": "0"}, neuron_selector=(0, 1, 1))
    assert neuron(net, x, y).shape == (4, 1, 6, 7)

    pooled = {"init_kwargs": {"layer": "2"}}
    with pytest.raises(ValueError, match=r"shape \(4, 1, 3, 3\) for inputs of shape .*interpolate=True"):
        explainer("LayerGradCam", **pooled)(net, x, y)
    resized = explainer("LayerGradCam", **pooled, interpolate=True)(net, x, y)
    assert resized.shape == (4, 1, 6, 7)
    smooth = explainer("LayerGradCam", **pooled, interpolate=(6, 7), interpolate_mode="bilinear")(net, x, y)
    assert smooth.shape == (4, 1, 6, 7) and np.abs(smooth - resized).max() > 0
    with pytest.raises(ValueError, match=r"layer 'conv' is not in the model; its layers are \['0', '1'"):
        explainer("LayerGradCam", init_kwargs={"layer": "conv"})(net, x, y)
    with pytest.raises(ValueError, match=r"LayerGradCam: missing a required argument: 'layer'.*init_kwargs"):
        explainer("LayerGradCam")(net, x, y)


def test_softmax(net, images):
    x, y, _ = images
    ends_in_softmax = nn.Sequential(*net, nn.Softmax(1)).eval()
    logits = explainer("Saliency")(net, x, y)
    probabilities = explainer("Saliency")(ends_in_softmax, x, y)
    np.testing.assert_allclose(explainer("Saliency", softmax=True)(net, x, y), probabilities, atol=1e-6)
    np.testing.assert_allclose(explainer("Saliency", softmax=False)(ends_in_softmax, x, y), logits, atol=1e-6)
    for softmax, model in ((True, net), (False, ends_in_softmax)):
        cam = explainer("LayerGradCam", init_kwargs={"layer": "0"}, softmax=softmax)(model, x, y)
        assert np.abs(cam).max() > 0


def test_one_measure_of_a_dictionary(net, images, references):
    x, y, _ = images
    kwargs = {"baselines": references, "n_samples": 4}
    measures = {"mean": captum_wg.local_measures.Mean()}
    result = explainer("GeneralizedAttribution", measures=measures, **kwargs)(net, x, y)
    np.testing.assert_allclose(result, explainer("LocalIntegratedGradients", **kwargs)(net, x, y), atol=1e-6)
    with pytest.raises(ValueError, match="GeneralizedAttribution returned 2 results"):
        measures = {"mean": captum_wg.local_measures.Mean(), "variance": captum_wg.local_measures.Variance()}
        explainer("GeneralizedAttribution", measures=measures, **kwargs)(net, x, y)


def test_shows_what_it_is(references):
    make = explainer("WeightedGradients", baselines=references, n_steps=3)
    assert repr(make) == "explainer('WeightedGradients', baselines=<ndarray (3, 3, 6, 7)>, n_steps=3)"
    assert make.__name__ == "WeightedGradients"
    assert explainer(Saliency).__name__ == "Saliency"


def test_can_be_copied(net, images):
    x, y, _ = images
    make = explainer("IntegratedGradients", n_steps=3)
    for other in (copy.deepcopy(make), pickle.loads(pickle.dumps(make))):
        np.testing.assert_array_equal(other(net, x, y), make(net, x, y))


@pytest.mark.parametrize(
    "args, kwargs, message",
    [
        (["IntegratedGradient"], {}, "unknown method 'IntegratedGradient'; did you mean .*'IntegratedGradients'"),
        (["Gradient"], {}, "unknown method 'Gradient'.*quantus_ext.explain"),
        ([3], {}, "method must be the name of a class, a class or a function of the model, got int"),
        (["NoiseTunnel"], {}, "NoiseTunnel is not made of a model alone; give a function"),
        ([dict], {}, "dict is not made of a model alone"),
        (["IntegratedGradients"], {"steps": 3}, "unexpected keyword argument 'steps'.*'n_steps'"),
        (["IntegratedGradients"], {"return_convergence_delta": True}, "return_convergence_delta asks for more"),
        (["WeightedGradients"], {"return_weights": True}, "return_weights asks for more"),
        (["ExpectedGradients"], {"n_steps": "auto", "return_steps": True}, "return_steps asks for more"),
        (["Saliency"], {"xai_lib": "zennit"}, "xai_lib must be 'captum' here, got 'zennit'"),
        (["Saliency"], {"channel_first": False}, "channel_first must be True"),
    ],
)
def test_bad_explainers(args, kwargs, message):
    with pytest.raises(ValueError, match=message):
        explainer(*args, **kwargs)


def test_bad_calls(net, images):
    x, y, _ = images
    make = explainer("Saliency")
    with pytest.raises(ValueError, match="unknown method 'Gradients'; did you mean"):
        explain(net, x, y, method="Gradients")
    with pytest.raises(ValueError, match=r"LayerActivation.*missing a required argument: 'layer'"):
        explain(net, x, y, method="LayerActivation")
    with pytest.raises(ValueError, match=r"model must be a torch.nn.Module, got function"):
        make(lambda x: x, x, y)
    with pytest.raises(ValueError, match="inputs must be one array or Tensor"):
        make(net, (x, x), y)
    with pytest.raises(ValueError, match="inputs must be of shape"):
        make(net, x[:0], y[:0])
    bad = x.copy()
    bad[1, 0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="inputs holds NaN or infinite values in row 1"):
        make(net, bad, y)
    with pytest.raises(ValueError, match="one class number for each of the 4 inputs"):
        make(net, x, y[:3])
    for targets in (["a"] * 4, y + 0.5):
        with pytest.raises(ValueError, match="targets must be class numbers"):
            make(net, x, targets)
    for axes in ((0,), (4,), (-4,), ("1",), 0):
        with pytest.raises(ValueError, match="reduce_axes must name dims of the inputs but the first, 1 to 3"):
            make(net, x, y, reduce_axes=axes)
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got 0"):
        make(net, x, y, batch_size=0)
    for generator in (-1, 0.5, True):
        with pytest.raises(ValueError, match="generator must be a seed"):
            make(net, x, y, generator=generator)
    with pytest.raises(ValueError, match="unexpected keyword argument 'n_steps'"):
        make(net, x, y, n_steps=3)
    with pytest.raises(ValueError, match="init_kwargs are for a class"):
        explainer(lambda model: Saliency(model), init_kwargs={"layer": "0"})(net, x, y)
    with pytest.raises(ValueError, match=r"method must make an attribution object.*it made Sequential"):
        explainer(lambda model: model)(net, x, y)
    with pytest.raises(ValueError, match="xai_lib must be 'captum'"):
        make(net, x, y, xai_lib="zennit")

    class Refusing(captum.attr.Attribution):
        def attribute(self, inputs, target=None):
            raise ValueError("example 1 is wrong")

    with pytest.raises(ValueError, match=r"example 1 is wrong$"):
        explainer(Refusing)(net, x, y)
    with pytest.raises(ValueError, match=r"example 1 is wrong \(examples counted from input 0\)"):
        explainer(Refusing, batch_size=2)(net, x, y)

    class Pair(captum.attr.Attribution):
        def attribute(self, inputs, target=None, what=2):
            return {2: (inputs, inputs), "flat": inputs.flatten(1), "text": "text"}[what]

    for what, message in [(2, "Pair returned 2 results"), ("flat", r"shape \(4, 126\)"), ("text", "Pair returned str")]:
        with pytest.raises(ValueError, match=message):
            explainer(Pair, what=what)(net, x, y)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_as_many_baselines_as_inputs_are_asked_about_whatever_the_chunks(batch_size):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    x, references = np.random.default_rng(0).normal(size=(2, 4, 3, 2, 2)).astype(np.float32)
    with pytest.warns(UserWarning, match="as many rows"):
        found = explainer("ExpectedGradients", baselines=references, batch_size=batch_size)(net, x, [0] * 4)
    shared = explainer("ExpectedGradients", baselines=references, pairing="shared")(net, x, [0] * 4)
    np.testing.assert_allclose(found, shared, atol=1e-6)
