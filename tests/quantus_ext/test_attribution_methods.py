"""A call that was written for quantus.explain gives Quantus' map."""

from collections import OrderedDict

import numpy as np
import pytest
import quantus
import torch

from quantus_ext import explain, explainer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize(
    "method, kwargs",
    [
        ("DeepLift", {"baseline": torch.full((4, 3, 6, 7), 0.5)}),
        ("DeepLift", {}),
        ("DeepLiftShap", {"baseline": torch.full((4, 3, 6, 7), 0.5)}),
        ("DeepLiftShap", {}),
        ("Occlusion", {}),
        ("Occlusion", {"window": (3, 2, 2)}),
        ("LayerGradCam", {"gc_layer": "list(model.named_modules())[1][1]"}),
        ("LayerGradCam", {"gc_layer": "model[0]"}),
        ("LayerGradCam", {"xai_lib_kwargs": {"layer": "list(model.named_modules())[1][1]"}}),
        ("LayerActivation", {"gc_layer": "list(model.named_modules())[1][1]"}),
        ("InputXGradient", {"xai_lib_kwargs": {}, "xai_lib": "captum", "device": "cpu", "keepdims": False}),
        ("Saliency", {"reduce_axes": (1,), "softmax": True}),
    ],
)
def test_quantus_calls_keep_working(net, images, method, kwargs):
    x, y, _ = images
    # Quantus writes into xai_lib_kwargs.
    theirs = {k: dict(v) if isinstance(v, dict) else v for k, v in kwargs.items()}
    expected = quantus.explain(net, x, y, method=method, **theirs)
    np.testing.assert_allclose(explain(net, x, y, method=method, **kwargs), expected, atol=1e-6)
    np.testing.assert_allclose(explainer(method, **kwargs)(net, x, y), expected, atol=1e-6)


def test_integrated_gradients_from_quantus_baseline(net, images):
    x, y, _ = images
    baseline = torch.full((4, 3, 6, 7), 0.5)
    expected = quantus.explain(net, x, y, method="IntegratedGradients", baseline=baseline)
    mine = explainer("IntegratedGradients", n_steps=10, method="riemann_trapezoid")
    np.testing.assert_allclose(mine(net, x, y, baseline=baseline), expected, atol=1e-6)


def test_gradient_shap_needs_no_baselines(net, images):
    x, y, _ = images
    zeros = np.zeros((2, 3, 6, 7), np.float32)
    for seed in (0, 1):
        expected = explainer("GradientShap", baselines=zeros, generator=seed)(net, x, y)
        np.testing.assert_array_equal(explain(net, x, y, method="GradientShap", generator=seed), expected)


def test_tabular_occlusion_has_a_window(tabular):
    model, x, y, _ = tabular
    expected = explainer("Occlusion", sliding_window_shapes=(1,))(model, x, y)
    np.testing.assert_array_equal(explain(model, x, y, method="Occlusion"), expected)


@pytest.mark.parametrize(
    "layer",
    [
        "0",
        "model[0]",
        "model[-5]",
        "list(model.named_modules())[1][1]",
        "list(model.children())[0]",
        "model._modules.get('0')",
    ],
)
def test_names_of_layers(net, images, layer):
    x, y, _ = images
    expected = explainer("LayerGradCam", init_kwargs={"layer": net[0]})(net, x, y)
    np.testing.assert_array_equal(explainer("LayerGradCam", gc_layer=layer)(net, x, y), expected)
    deeper = torch.nn.Sequential(OrderedDict(body=net)).eval()
    np.testing.assert_array_equal(explainer("LayerGradCam", gc_layer="model.body[0]")(deeper, x, y), expected)


@pytest.mark.parametrize(
    "text",
    ["conv", "", "model[9]", "model.weight", "model.train()", "__import__('os').getcwd()", "list(3)", "model[0", "[]"],
)
def test_no_other_text_is_evaluated(net, images, text):
    x, y, _ = images
    with pytest.raises(ValueError, match="is not in the model; its layers are"):
        explainer("LayerGradCam", gc_layer=text)(net, x, y)
    assert not net.training


def test_bases_and_language_models_are_not_offered():
    with pytest.raises(ValueError) as caught:
        explainer("Nothing")
    offered = str(caught.value)
    for name in ("'Attribution'", "'GradientAttribution'", "'LayerAttribution'", "LLM", "'NoiseTunnel'"):
        assert name not in offered
    for name in ("'IntegratedGradients'", "'WeightedGradients'", "'LayerGradCam'", "'Lime'"):
        assert name in offered
    with pytest.raises(ValueError, match="GradientAttribution is abstract"):
        explainer("GradientAttribution")


def test_a_function_as_the_model(net, images):
    x, y, _ = images
    for call in (lambda f: explain(f, x, y), lambda f: explain(f, x, y, method="Saliency"), explainer("Saliency")):
        with pytest.raises(ValueError, match=r"torch.nn.Module, got function; make a module of a function: type\("):
            call(lambda z: net(z)) if call.__class__.__name__ == "function" else call(lambda z: net(z), x, y)
    module = type("Model", (torch.nn.Module,), {"forward": lambda self, z: net(z)})()
    np.testing.assert_array_equal(explainer("Saliency")(module, x, y), explainer("Saliency")(net, x, y))


@pytest.mark.filterwarnings("always::UserWarning")
@pytest.mark.parametrize("words", [{"normalise": True}, {"nr_channels": 3, "img_size": 12}, {"abs": True}])
def test_words_that_quantus_ignores_are_left_out_with_a_word(net, images, words):
    x, y, _ = images
    with pytest.warns(UserWarning, match=f"{next(iter(words))}.*quantus.explain ignores this"):
        found = explain(net, x, y, method="InputXGradient", **words)
    np.testing.assert_array_equal(found, explain(net, x, y, method="InputXGradient"))


def test_captum_s_switches_are_booleans(net, images):
    x, y, _ = images
    with pytest.raises(TypeError, match="abs must be True or False"):
        explain(net, x, y, method="Saliency", abs="no")
    with pytest.raises(TypeError, match="multiply_by_inputs must be True or False"):
        explain(net, x, y, method="DeepLift", init_kwargs={"multiply_by_inputs": "no"})
