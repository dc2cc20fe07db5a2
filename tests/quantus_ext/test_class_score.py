"""f, against literal loops over masked copies."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from quantus_ext import DeletionAUC, InsertionAUC
from quantus_ext.class_score import ClassScore


class Then(nn.Module):
    """net, and what is made of its output in forward."""

    def __init__(self, net, make, registered=None):
        super().__init__()
        self.net, self.make = net, make
        if registered is not None:
            self.registered = registered
        self.eval()

    def forward(self, x):
        return self.make(self.net(x))


def literal(f, x, y, a, levels, insert=False):
    """Scores of single rows, one masked copy at a time, f giving the number for the class."""
    scores = []
    for row, label, attribution in zip(x, y, a, strict=True):
        order = sorted(range(len(row)), key=lambda j: (-attribution[j], j))
        curve = []
        for i in range(1, levels + 1):
            top = order[: round(i / levels * len(row))]
            masked = [0.0 if (j in top) != insert else float(v) for j, v in enumerate(row)]
            with torch.no_grad():
                curve.append(float(f(torch.tensor([masked]))[label]))
        scores.append(sum(curve) / levels)
    return scores


CASES = {
    "logits": (lambda z: z, None, lambda z: z.softmax(1)[0]),
    "softmax in forward": (lambda z: z.softmax(1), None, lambda z: z.softmax(1)[0]),
    "softmax registered, not applied": (lambda z: z, nn.Softmax(1), lambda z: z.softmax(1)[0]),
    "log-softmax": (lambda z: z.log_softmax(1), None, lambda z: z.softmax(1)[0]),
}


@pytest.mark.parametrize("cls", [DeletionAUC, InsertionAUC])
@pytest.mark.parametrize("case", CASES)
def test_a_softmax_is_taken_once(tabular, cls, case):
    net, x, y, a = tabular
    make, registered, f = CASES[case]
    expected = literal(lambda row: f(net(row)), x, y, a, 5, cls is InsertionAUC)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cls(levels=5)(Then(net, make, registered), x, y, a) == pytest.approx(expected, abs=1e-6)


def test_a_sigmoid_of_several_labels(tabular):
    net, x, y, a = tabular
    model = Then(net, torch.sigmoid)
    with pytest.warns(UserWarning, match=r"examples 0, 1, 2 lie in \[0, 1\] without summing to 1.*identity"):
        softmaxed = DeletionAUC(levels=5)(model, x, y, a, batch_size=2)
    assert softmaxed == pytest.approx(literal(lambda row: net(row).sigmoid().softmax(1)[0], x, y, a, 5), abs=1e-6)
    expected = literal(lambda row: net(row).sigmoid()[0], x, y, a, 5)
    assert DeletionAUC(levels=5, output="identity")(model, x, y, a) == pytest.approx(expected, abs=1e-6)
    assert DeletionAUC(levels=5, output="sigmoid")(net, x, y, a) == pytest.approx(expected, abs=1e-6)


def test_a_single_column(tabular):
    net, x, _, a = tabular
    y = [0, 1, 0]

    def f(row):
        p = net(row)[0, 0].sigmoid()
        return [1 - p, p]

    expected = literal(f, x, y, a, 5)
    for model, output in [
        (Then(net, lambda z: z[:, :1].sigmoid()), "auto"),
        (Then(net, lambda z: z[:, 0].sigmoid()), "auto"),
        (Then(net, lambda z: z[:, :1]), "sigmoid"),
    ]:
        assert DeletionAUC(levels=5, output=output)(model, x, y, a) == pytest.approx(expected, abs=1e-6)
    value = literal(lambda row: [net(row)[0, 0]], x, [0] * 3, a, 5)
    raw = Then(net, lambda z: z[:, :1])
    assert DeletionAUC(levels=5, output="identity")(raw, x, [0] * 3, a) == pytest.approx(value, abs=1e-6)
    with pytest.raises(ValueError, match=r"class 1, but the model returns 1 columns \(classes 0 to 0\)"):
        DeletionAUC(levels=5, output="identity")(raw, x, y, a)
    with pytest.raises(ValueError, match=r"class 2, but the model returns 2 columns"):
        DeletionAUC(levels=5, output="sigmoid")(raw, x, [0, 1, 2], a)
    with pytest.raises(ValueError, match="single column that is no probability; say output='sigmoid'"):
        DeletionAUC(levels=5)(Then(net, lambda z: 5 + z[:, :1]), x, y, a)
    with pytest.raises(ValueError, match="output='softmax' of an output of one column is always 1"):
        DeletionAUC(levels=5, output="softmax")(raw, x, y, a)


def test_a_function_of_the_output(tabular):
    net, x, y, a = tabular
    expected = literal(lambda row: net(row).exp()[0], x, y, a, 5)
    assert DeletionAUC(levels=5, output=torch.exp)(net, x, y, a) == pytest.approx(expected, abs=1e-6)
    margin = literal(lambda row: [net(row)[0, 2] - net(row)[0, 0]] * 3, x, y, a, 5)
    assert DeletionAUC(levels=5, output=lambda z: z[:, 2] - z[:, 0])(net, x, y, a) == pytest.approx(margin, abs=1e-6)
    with pytest.raises(ValueError, match=r"output must make scores .* got \(15, 3, 1\)"):
        DeletionAUC(levels=5, output=lambda z: z[..., None])(net, x, y, a)


def test_scores_do_not_depend_on_the_company():
    # Of the second example all outputs lie in [0, 1] by chance, of the third they are a distribution.
    outputs = torch.tensor([[3.0, -1.0], [0.2, 0.3], [0.4, 0.6]])
    model = Then(nn.Identity(), lambda z: z @ outputs)
    x, y, a = np.eye(3, dtype=np.float32), [0, 1, 1], np.random.default_rng(0).normal(size=(3, 3))
    with pytest.warns(UserWarning, match="examples 1 lie in"):
        together = DeletionAUC(levels=3, rule="trapezoid", return_curve=True)(model, x, y, a)
    for i in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (alone,) = DeletionAUC(levels=3, rule="trapezoid", return_curve=True)(model, x[[i]], y[i : i + 1], a[[i]])
        np.testing.assert_allclose(together[i], alone, atol=1e-7)
    starts = [outputs[0].softmax(0)[0], outputs[1].softmax(0)[1], outputs[2][1]]
    np.testing.assert_allclose([curve[0] for curve in together], starts, atol=1e-6)


def test_quantus_softmax_keeps_working(tabular):
    net, x, y, a = tabular
    probabilities = literal(lambda row: net(row).softmax(1)[0], x, y, a, 5)
    logits = literal(lambda row: net(row)[0], x, y, a, 5)
    ending = nn.Sequential(*net, nn.Softmax(1)).eval()
    metric = DeletionAUC(levels=5)
    for model in (net, ending, Then(net, lambda z: z.softmax(1))):
        for softmax in (True, None):
            assert metric(model, x, y, a, softmax=softmax) == pytest.approx(probabilities, abs=1e-6)
    assert metric(net, x, y, a, softmax=False) == pytest.approx(logits, abs=1e-6)
    with pytest.warns(UserWarning, match="softmax"):
        assert metric(ending, x, y, a, softmax=False) == pytest.approx(logits, abs=1e-6)
    # What the metric says itself goes before.
    assert DeletionAUC(levels=5, output="softmax")(net, x, y, a, softmax=False) == pytest.approx(
        probabilities, abs=1e-6
    )


def test_structured_outputs(tabular):
    net, x, y, a = tabular
    expected = DeletionAUC(levels=5)(net, x, y, a)
    assert DeletionAUC(levels=5)(Then(net, lambda z: {"logits": z}), x, y, a) == expected
    with pytest.raises(TypeError, match=r"must return a Tensor, got tuple.*register_forward_hook"):
        DeletionAUC(levels=5)(Then(net, lambda z: (z, z)), x, y, a)
    with pytest.raises(ValueError, match=r"torch.nn.Module, got function; make a module of a function"):
        DeletionAUC(levels=5)(lambda z: net(z), x, y, a)


def test_arguments_of_the_models_call(tabular):
    net, x, y, a = tabular

    class Scaled(nn.Module):
        def forward(self, z, scale=1.0):
            return scale * net(z)

    expected = DeletionAUC(levels=5)(Then(net, lambda z: 3 * z), x, y, a)
    assert DeletionAUC(levels=5)(Scaled().eval(), x, y, a, model_predict_kwargs={"scale": 3.0}) == expected


def test_a_model_that_writes_into_its_input(tabular):
    net, x, y, a = tabular
    before = x.copy()
    model = nn.Sequential(nn.ReLU(inplace=True), net).eval()
    expected = literal(lambda row: net(row.relu()).softmax(1)[0], x, y, a, 5)
    assert DeletionAUC(levels=5)(model, x, y, a) == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(x, before)


def test_a_keras_interface(tabular):
    net, x, y, _ = tabular

    class Keras:
        """What Quantus' TensorFlowModel is to us; channels stay where they are for tables."""

        softmax, model_predict_kwargs = None, {"verbose": 0}

        class model:
            @staticmethod
            def predict(rows, verbose):
                with torch.no_grad():
                    return net(torch.from_numpy(rows)).numpy()

        def shape_input(self, rows, shape, channel_first, batched):
            return rows

    score = ClassScore(Keras(), x, y, at_inputs=True)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).softmax(1)[range(3), y]
    np.testing.assert_allclose(score.at_inputs, expected, atol=1e-6)
    np.testing.assert_allclose(score(torch.from_numpy(x), torch.arange(3)), expected, atol=1e-6)
