import dataclasses

import numpy as np
import pytest
import torch

from benchmarks import judges, methods
from benchmarks.cells import Explanations, run_cell
from benchmarks.methods import Method


def saliency(references):
    return methods.available(methods.MethodSettings(references))["Saliency"]


def judge_of(make, **changes):
    return dataclasses.replace(judges.available()["Sparseness-1ch"], make=make, **changes)


@pytest.mark.parametrize("name", list(judges.available()))
def test_a_cell_is_the_metric_called_directly(name, references, tiny_model, tiny_batch):
    judge = judges.available()[name]
    explanations = Explanations(saliency(references), tiny_model)
    cell = run_cell(explanations, judge, *tiny_batch, seed=7)
    assert cell.reason is None
    assert cell.scores.shape == (3,)
    assert np.isfinite(cell.scores).all()

    from benchmarks.randomness import seeded

    explain = explanations.function(judge.channels or 1)
    x, y = tiny_batch
    with seeded(7, judge.stream):
        scores = judge.make()(
            model=tiny_model,
            x_batch=x,
            y_batch=y,
            a_batch=explain(tiny_model, x, y),
            explain_func=explain,
            explain_func_kwargs={},
        )
    np.testing.assert_allclose(cell.scores, judges.per_image(scores, 3), rtol=1e-6)


def test_cells_repeat_and_move_no_generator(references, tiny_model, tiny_batch):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    shap = methods.available(methods.MethodSettings(references))["GradientShap"]
    for name in ("PixelFlipping-1ch", "MaxSensitivity"):
        first, again, other = (
            run_cell(Explanations(shap, tiny_model, seed), judges.available()[name], *tiny_batch, seed=seed).scores
            for seed in (0, 0, 1)
        )
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_robustness_columns_are_statistics_of_the_same_explanations(references, tiny_model, tiny_batch):
    calls = []

    def explain(model, inputs, targets, device=None):
        calls.append(inputs)
        return inputs + torch.rand(inputs.shape).numpy()

    explanations = Explanations(Method("noisy", "control", explain), tiny_model)
    columns = judges.available()
    largest, mean = (
        run_cell(explanations, columns[name], *tiny_batch).scores for name in ("MaxSensitivity", "AvgSensitivity")
    )
    assert len(calls) == 11
    assert (largest > mean).all()


def test_a_failing_metric_shows_its_own_reason(references, tiny_model, tiny_batch):
    def failing(**kwargs):
        raise RuntimeError("the metric's\nown reason")

    cell = run_cell(Explanations(saliency(references), tiny_model), judge_of(lambda: failing), *tiny_batch)
    assert cell.scores is None
    assert cell.reason == "RuntimeError: the metric's own reason"


def test_a_failing_explanation_shows_its_reason(tiny_model, tiny_batch):
    def failing(model, inputs, targets, device=None):
        raise ValueError("no map today")

    explanations = Explanations(Method("failing", "control", failing), tiny_model)
    assert (
        run_cell(explanations, judges.available()["Sparseness-1ch"], *tiny_batch).reason == "ValueError: no map today"
    )


@pytest.mark.parametrize(("value", "reason"), [(0.0, "all equal to zero"), (-1.0, "uniformly distributed")])
def test_maps_that_quantus_refuses_show_its_reason(tiny_model, tiny_batch, value, reason):
    constant = Method("constant", "control", lambda model, inputs, targets, device=None: np.full_like(inputs, value))
    cell = run_cell(Explanations(constant, tiny_model), judges.available()["Sparseness-1ch"], *tiny_batch)
    assert cell.reason.startswith("AssertionError: ")
    assert reason in cell.reason


def test_scores_of_the_wrong_number_are_a_reason(references, tiny_model, tiny_batch):
    cell = run_cell(Explanations(saliency(references), tiny_model), judge_of(lambda: lambda **_: [1.0]), *tiny_batch)
    assert "scores of shape (1,) for 3 images" in cell.reason


def test_maps_are_given_out_as_copies(references, tiny_model, tiny_batch):
    explanations = Explanations(saliency(references), tiny_model)
    first = explanations.maps(*tiny_batch)
    kept = first.copy()
    first[:] = 0
    assert np.array_equal(explanations.maps(*tiny_batch), kept)


def test_warnings_are_kept_once(tiny_model, tiny_batch):
    import warnings

    def explain(model, inputs, targets, device=None):
        warnings.warn("look\n here", stacklevel=1)
        return inputs

    explanations = Explanations(Method("warning", "ours", explain), tiny_model)
    explanations.maps(*tiny_batch)
    explanations.maps(tiny_batch[0] + 1, tiny_batch[1])
    assert explanations.warnings == ["look here"]
