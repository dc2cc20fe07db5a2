import dataclasses
import warnings

import numpy as np
import pytest
import torch

from benchmarks import old_judges as judges
from benchmarks import old_methods as methods
from benchmarks.evaluation import Explanations, evaluate, explain
from benchmarks.old_methods import Method
from benchmarks.run.randomness import seeded


def row(references, name="Saliency"):
    return methods.available(methods.MethodSettings(references))[name]


def judge_of(make, **changes):
    return dataclasses.replace(judges.available()["Sparseness-1ch"], make=make, **changes)


def judged(method, model, judge, batch, seed=0):
    return evaluate(Explanations(method, model, seed), method, judge, *batch)


@pytest.mark.parametrize("name", list(judges.available()))
def test_a_score_is_that_of_the_metric_called_directly(name, references, tiny_model, tiny_batch):
    judge, method = judges.available()[name], row(references)
    explanations = Explanations(method, tiny_model, seed=7)
    found = evaluate(explanations, method, judge, *tiny_batch)
    assert found.shape == (3,)
    assert np.isfinite(found).all()

    explain_func = explanations.function(method, judge.channels or 1)
    x, y = tiny_batch
    with seeded(7, judge.stream, x.tobytes()):
        scores = judge.make()(
            model=tiny_model,
            x_batch=x,
            y_batch=y,
            a_batch=explain_func(tiny_model, x, y),
            explain_func=explain_func,
            explain_func_kwargs={},
        )
    np.testing.assert_allclose(found, judges.per_image(scores, 3), rtol=1e-6)


def test_scores_repeat_and_move_no_generator(references, tiny_model, tiny_batch):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    shap = row(references, "GradientShap")
    for name in ("PixelFlipping-1ch", "MaxSensitivity"):
        first, again, other = (
            judged(shap, tiny_model, judges.available()[name], tiny_batch, seed) for seed in (0, 0, 1)
        )
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_the_draws_of_a_metric_are_those_of_the_images_and_the_same_for_every_method(tiny_model, tiny_batch):
    def drawing(**kwargs):
        return np.random.rand(len(kwargs["x_batch"]))

    x, y = tiny_batch
    first, second = (Method(name, "control", lambda model, inputs, targets, device=None: inputs) for name in "ab")
    judge = judge_of(lambda: drawing)
    found = judged(first, tiny_model, judge, (x, y))
    assert np.array_equal(found, judged(second, tiny_model, judge, (x, y)))
    assert not np.array_equal(found, judged(first, tiny_model, judge, (x[::-1], y[::-1])))


def test_robustness_columns_are_statistics_of_the_same_explanations(tiny_model, tiny_batch):
    calls = []

    def noisy(model, inputs, targets, device=None):
        calls.append(inputs)
        return inputs + torch.rand(inputs.shape).numpy()

    method = Method("noisy", "control", noisy)
    explanations = Explanations(method, tiny_model)
    columns = judges.available()
    largest, mean = (
        evaluate(explanations, method, columns[name], *tiny_batch) for name in ("MaxSensitivity", "AvgSensitivity")
    )
    assert len(calls) == 11
    assert (largest > mean).all()


def test_maps_that_are_taken_over_are_not_made_again(tiny_model, tiny_batch):
    def failing(model, inputs, targets, device=None):
        raise RuntimeError("explained again")

    x, y = tiny_batch
    method = Method("stored", "control", failing, part=(1, 2))
    explanations = Explanations(method, tiny_model)
    explanations.add(x, y, np.concatenate([x, 2 * x], axis=1))
    assert np.array_equal(explanations.maps(method, x[1:], y[1:]), 2 * x[1:])
    assert np.array_equal(explanations.maps(dataclasses.replace(method, part=(0, 2)), x, y), x)
    with pytest.raises(RuntimeError, match="explained again"):
        explanations.maps(method, x, (y + 1) % 10)
    with pytest.raises(RuntimeError, match="explained again"):
        explanations.maps(method, x + 1, y)


def test_a_failing_metric_shows_its_own_reason(references, tiny_model, tiny_batch):
    def failing(**kwargs):
        raise RuntimeError("the metric's own reason")

    with pytest.raises(RuntimeError, match="the metric's own reason"):
        judged(row(references), tiny_model, judge_of(lambda: failing), tiny_batch)


def test_a_failing_explanation_shows_its_reason(tiny_model, tiny_batch):
    def failing(model, inputs, targets, device=None):
        raise ValueError("no map today")

    with pytest.raises(ValueError, match="no map today"):
        judged(Method("failing", "control", failing), tiny_model, judges.available()["Sparseness-1ch"], tiny_batch)


@pytest.mark.parametrize(("value", "reason"), [(0.0, "all equal to zero"), (-1.0, "uniformly distributed")])
def test_maps_that_quantus_refuses_show_its_reason(tiny_model, tiny_batch, value, reason):
    constant = Method("constant", "control", lambda model, inputs, targets, device=None: np.full_like(inputs, value))
    with pytest.raises(AssertionError, match=reason):
        judged(constant, tiny_model, judges.available()["Sparseness-1ch"], tiny_batch)


def test_scores_of_the_wrong_number_are_a_reason(references, tiny_model, tiny_batch):
    with pytest.raises(ValueError, match=r"scores of shape \(1,\) for 3 images"):
        judged(row(references), tiny_model, judge_of(lambda: lambda **_: [1.0]), tiny_batch)


def test_maps_are_given_out_as_copies(references, tiny_model, tiny_batch):
    method = row(references)
    explanations = Explanations(method, tiny_model)
    first = explanations.maps(method, *tiny_batch)
    kept = first.copy()
    first[:] = 0
    assert np.array_equal(explanations.maps(method, *tiny_batch), kept)


def test_warnings_are_kept_once(tiny_model, tiny_batch):
    def warning(model, inputs, targets, device=None):
        for _ in range(2):
            warnings.warn("look\n here", stacklevel=1)
        return inputs

    explained = explain(Method("warning", "ours", warning), tiny_model, *tiny_batch)
    assert explained.warnings == ("look here",)
    assert explained.seconds > 0 and np.array_equal(explained.maps, tiny_batch[0])
