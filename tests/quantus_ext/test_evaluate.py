"""Both sides of Quantus' evaluate: our metrics and Quantus' own, for our methods, Captum's and given arrays."""

import subprocess
import sys

import numpy as np
import pytest
import quantus

from quantus_ext import DeletionAUC, InsertionAUC, OverlapAUC, explainer

# PixelFlipping of 0.5.3 fails on numpy 2.4 by itself.
NEWER = quantus.__version__ >= "0.6"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def masks():
    s = np.zeros((4, 1, 6, 7), int)
    s[:, :, 1:4, 2:5] = 1
    return s


def test_a_table(net, images, masks):
    x, y, a = images
    references = np.random.default_rng(3).normal(size=(3, 3, 6, 7)).astype(np.float32)
    methods = {
        "IG": explainer("IntegratedGradients", n_steps=5),
        "WG": explainer("WeightedGradients", baselines=references, n_steps=3),
        "LIG": explainer("LocalIntegratedGradients", baselines=references, n_samples=6, fresh_draws=True),
        "negative": -np.abs(a),
    }
    metrics = {
        "deletion": DeletionAUC(levels=5),
        "insertion": InsertionAUC(levels=5),
        "overlap": OverlapAUC(levels=5),
        "curve": DeletionAUC(levels=5, return_curve=True),
        "sparseness": quantus.Sparseness(),
        "flipping": quantus.PixelFlipping(features_in_step=14) if NEWER else quantus.Complexity(),
        "pointing": quantus.PointingGame(),
    }
    results = quantus.evaluate(
        {k: v for k, v in metrics.items() if k not in ("sparseness", "flipping", "pointing")},
        {"negative": methods.pop("negative")},
        net,
        x,
        y,
        s_batch=masks,
        explain_func_kwargs={},
    )
    results |= quantus.evaluate(metrics, methods, net, x, y, s_batch=masks, explain_func_kwargs={})
    for name, make in methods.items():
        if name != "LIG":
            attributions = make(net, x, y)
            for metric in ("deletion", "insertion"):
                assert results[name][metric] == metrics[metric](net, x, y, attributions)
            assert results[name]["overlap"] == metrics["overlap"](None, x, None, attributions, masks)
        assert np.shape(results[name]["curve"]) == (4, 5)
        np.testing.assert_allclose(np.mean(results[name]["curve"], 1), results[name]["deletion"])
    assert results["negative"]["deletion"] == metrics["deletion"](net, x, y, -np.abs(a))
    frame = quantus.evaluate(
        {"deletion": DeletionAUC(levels=5)},
        methods,
        net,
        x,
        y,
        explain_func_kwargs={},
        agg_func=np.mean,
        return_as_df=True,
        call_kwargs={"one": {"device": "cpu", "batch_size": 3, "softmax": False}},
    )
    assert frame.shape == (1, 3)


def test_sensitivity_explains_again(net, images):
    x, y, _ = images
    calls = []
    inner = explainer("LocalIntegratedGradients", baselines=np.zeros((2, 3, 6, 7)), n_samples=4, fresh_draws=True)

    def watched(model, inputs, targets, **kwargs):
        calls.append(len(inputs))
        return inner(model, inputs, targets, **kwargs)

    metrics = {"max": quantus.MaxSensitivity(nr_samples=3), "avg": quantus.AvgSensitivity(nr_samples=2)}
    results = quantus.evaluate(metrics, {"LIG": watched}, net, x, y, explain_func_kwargs={})
    assert calls == [4] * 6
    assert np.isfinite(results["LIG"]["max"]).all() and len(results["LIG"]["avg"]) == 4


def test_fresh_draws_make_a_sampler_look_less_stable(net, images):
    x, y, _ = images
    references = np.random.default_rng(3).normal(size=(8, 3, 6, 7)).astype(np.float32)
    kwargs = {"baselines": references, "n_samples": 2, "generator": 0}
    methods = {
        "same": explainer("LocalIntegratedGradients", **kwargs),
        "fresh": explainer("LocalIntegratedGradients", **kwargs, fresh_draws=True),
    }
    # Hardly any perturbation: what is left is the draws.
    metric = quantus.MaxSensitivity(nr_samples=3, lower_bound=1e-5)
    np.random.seed(0)
    results = quantus.evaluate({"max": metric}, methods, net, x, y, explain_func_kwargs={})
    assert np.mean(results["same"]["max"]) < 0.01 < np.mean(results["fresh"]["max"])


def test_without_quantus_the_import_says_what_to_install():
    code = "import sys; sys.modules['quantus'] = None; import quantus_ext"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode != 0
    assert 'ImportError: quantus_ext needs Quantus, which is not installed: pip install "captum-wg[quantus]"' in (
        process.stderr
    )
