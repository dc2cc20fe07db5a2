from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from captum_wg import ExpectedGradients, WeightedGradients
from captum_wg.engine import problem as engine
from captum_wg.engine.gradient import input_gradients
from captum_wg.engine.problem import Points, Problem, automatic_rows, even_parts

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def problem(function, inputs, **kwargs):
    return Problem(function, input_gradients, inputs, **kwargs)


def grid(x, n_points):
    """S points x + s for each example, as a PointSource."""
    offsets = torch.arange(float(n_points), dtype=x.dtype)

    def points(examples, chosen):
        steps = offsets[chosen].view(1, -1, *(1,) * (x.ndim - 1))
        return Points((x[examples].unsqueeze(1) + steps,))

    return points


# --- the walk over points


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7, 12, 100, None])
def test_every_gradient_is_handed_out_once_whatever_the_tiles(make_net, draw, rows):
    net, x, n_points = make_net(4, 1), draw(3, 4), 4
    found = torch.full((3, n_points, 4), float("nan"), dtype=x.dtype)
    at = torch.full_like(found, float("nan"))
    seen = torch.zeros(3, n_points)
    order = []
    for tile in problem(net, x, internal_batch_size=rows).gradients(grid(x, n_points), n_points):
        found[tile.examples, tile.points], at[tile.examples, tile.points] = tile.gradients[0], tile.at[0]
        seen[tile.examples, tile.points] += 1
        order.append((tile.examples.start, tile.points.start))
    assert (seen == 1).all()
    assert order == sorted(order)
    for b in range(3):
        for s in range(n_points):
            point = (x[b] + s).unsqueeze(0).requires_grad_()
            (expected,) = torch.autograd.grad(net(point).sum(), point)
            torch.testing.assert_close(found[b, s], expected[0], rtol=1e-12, atol=1e-14)
            assert torch.equal(at[b, s], point[0].detach())


@pytest.mark.parametrize("rows", [1, 3, 7, 16])
@pytest.mark.parametrize("n_points", [1, 2, 5, 20])
@pytest.mark.usefixtures("unprobed")
def test_every_call_has_as_many_rows_as_asked_for(record, draw, micro_batches, rows, n_points):
    x, function = draw(5, 4), record(lambda x: (x**2).sum(1))
    walk = problem(function, x, internal_batch_size=rows)
    for _ in walk.gradients(grid(x, n_points), n_points):
        pass
    assert function.graded == [rows] * micro_batches(5, n_points, rows)
    walk.outputs(grid(x, n_points), n_points)
    assert function.plain == function.graded


def test_a_walk_is_not_cut_smaller_than_needed(record, draw, monkeypatch):
    x, function = draw(6, 4), record(lambda x: (x**2).sum(1))

    def sizes(x, n_points, size=None):
        function.graded.clear()
        for _ in problem(function, x, internal_batch_size=size).gradients(grid(x, n_points), n_points):
            pass
        return function.graded

    assert sizes(x, 4, 8) == [8, 8, 8]  # two examples at a time
    assert sizes(x[:1], 10, 8) == [8, 8]  # the size that was asked for, filled up
    monkeypatch.setattr(engine, "automatic_rows", lambda *_: 8)
    assert sizes(x, 4) == [8, 8, 8]
    assert sizes(x[:1], 10) == [5, 5]  # evened out, not 8 and 2
    assert sizes(x[:1], 10, 9) == [9, 1]  # more than the automatic size: nothing is filled up beyond it


@pytest.mark.parametrize("shape", [(1,), (4,), (3, 32, 32), (3, 600, 600)])
def test_the_automatic_size_is_bounded_and_repeatable(shape):
    x = torch.empty(2, *shape)
    rows = automatic_rows((x,))
    assert 1 <= rows <= 4096 and rows == automatic_rows((x,))
    assert automatic_rows((x, x)) <= rows


@pytest.mark.parametrize("method", [ExpectedGradients, WeightedGradients])
@pytest.mark.parametrize("rows", [1, 4, 7, 50, None])
@pytest.mark.usefixtures("unprobed")
def test_methods_keep_to_the_size_and_take_b_k_n_gradients(record, draw, micro_batches, method, rows):
    x, references = draw(5, 3, 4, 4), draw(4, 3, 4, 4, seed=1)
    function = record(lambda x: (x**2).flatten(1).sum(1))
    bound = rows or automatic_rows((x,))
    method(function).attribute(x, references, n_steps=25, internal_batch_size=rows, return_convergence_delta=True)
    if rows is None:
        assert sum(function.graded) == 5 * 4 * 25
    else:
        assert function.graded == [rows] * micro_batches(5, 4 * 25, rows)
    assert max(function.sizes) <= bound


def test_the_automatic_size_is_smaller_than_the_whole(record, draw):
    x, function = draw(8, 3, 32, 32), record(lambda x: (x**2).flatten(1).sum(1))
    ExpectedGradients(function).attribute(x, draw(5, 3, 32, 32, seed=1), n_steps=20)
    assert sum(function.graded) == 8 * 5 * 20
    assert max(function.graded) <= automatic_rows((x,)) < 8 * 5 * 20 / 4


@given(n=st.integers(0, 200), most=st.integers(1, 50))
def test_even_parts_cover_the_range_in_the_fewest_parts(n, most):
    parts = list(even_parts(n, most))
    assert [i for first, last in parts for i in range(first, last)] == list(range(n))
    sizes = [last - first for first, last in parts]
    assert len(parts) == -(-n // most)
    assert not sizes or (max(sizes) <= most and max(sizes) - min(sizes) <= 1)


# --- Problem


def test_targets_and_arguments_follow_their_example(make_net, draw):
    net, x, w = make_net(4), draw(3, 4), draw(3, seed=3)
    target = torch.tensor([2, 0, 1])
    walk = problem(
        lambda x, w: net(x) * w.unsqueeze(1), x, target=target, additional_forward_args=w, internal_batch_size=2
    )
    found = torch.empty(3, 3, 4, dtype=x.dtype)
    for tile in walk.gradients(grid(x, 3), 3):
        found[tile.examples, tile.points] = tile.gradients[0]
    for b in range(3):
        for s in range(3):
            point = (x[b] + s).unsqueeze(0).requires_grad_()
            (expected,) = torch.autograd.grad(net(point)[0, target[b]] * w[b], point)
            torch.testing.assert_close(found[b, s], expected[0])


@pytest.mark.parametrize("rows", [1, 4, None])
def test_outputs_are_the_explained_ones_at_each_point(make_net, draw, rows):
    net, x = make_net(4), draw(3, 4)
    walk = problem(net, x, target=[2, 0, 1], internal_batch_size=rows)
    found = walk.outputs(grid(x, 3), 3)
    expected = torch.stack(
        [torch.stack([net((x[b] + s)[None])[0, t] for s in range(3)]) for b, t in enumerate([2, 0, 1])]
    )
    torch.testing.assert_close(found, expected.detach())
    torch.testing.assert_close(walk.outputs_at_inputs(), expected[:, 0].detach())
    assert not found.requires_grad


def test_outputs_are_at_least_float32():
    x = torch.ones(2, 4, dtype=torch.bfloat16)
    assert problem(lambda x: x.sum(1), x).outputs_at_inputs().dtype == torch.float32
    assert problem(lambda x: x.double().sum(1), x).outputs_at_inputs().dtype == torch.float64


def test_a_replacement_for_the_gradients_is_asked_in_captums_words(draw):
    x, asked = draw(2, 4), []

    def gradient_func(forward_fn, inputs, target_ind=None, additional_forward_args=None):
        asked.append((forward_fn, inputs[0].shape, inputs[0].requires_grad, target_ind, additional_forward_args))
        return (torch.ones_like(inputs[0]),)

    function = lambda x: x.sum(1)  # noqa: E731
    walk = Problem(function, gradient_func, x, 1, ("more",))
    (tile,) = walk.gradients(grid(x, 3), 3)
    assert asked == [(function, (6, 4), True, 1, ("more",))]
    assert (tile.gradients[0] == 1).all() and tile.gradients[0].shape == (2, 3, 4)


def test_a_replacement_may_say_none_for_zeros(draw):
    x = draw(2, 4)
    walk = Problem(lambda x: x.sum(1), lambda **_: (None,), x)
    (tile,) = walk.gradients(grid(x, 3), 3)
    assert torch.equal(tile.gradients[0], torch.zeros(2, 3, 4, dtype=x.dtype))


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_gradients_that_are_not_finite_name_their_examples(rows):
    x = torch.tensor([[1.0], [0.0], [2.0]])
    walk = problem(lambda x: x.sqrt().sum(1), x, internal_batch_size=rows)
    with pytest.raises(
        ValueError,
        match=r"the gradient is NaN or infinite for examples 1, or a point where it is taken; check the model",
    ):
        for _ in walk.gradients(lambda e, c: Points((x[e].unsqueeze(1).expand(-1, c.stop - c.start, -1),)), 2):
            pass


def test_a_nan_in_any_element_of_a_tuple_counts():
    x, y = torch.ones(2, 1), torch.tensor([[1.0], [0.0]])
    with pytest.raises(ValueError, match="for examples 1,"):
        ExpectedGradients(lambda x, y: (x + y.sqrt()).sum(1)).attribute((x, y), n_steps=1, method="riemann_right")


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_internal_batch_size_is_checked(draw, size):
    with pytest.raises(ValueError, match="internal_batch_size must be a whole number of at least 1"):
        problem(lambda x: x.sum(1), draw(2, 3), internal_batch_size=size)


def test_forward_func_is_checked(draw):
    with pytest.raises(TypeError, match="forward_func must be a module or a callable, got str"):
        problem("model", draw(2, 3))
    with pytest.raises(TypeError, match="forward_func must return a Tensor, got list"):
        problem(lambda x: x.tolist(), draw(2, 3)).outputs_at_inputs()


@pytest.mark.parametrize("module", [nn.Dropout(), nn.BatchNorm1d(4), nn.Dropout1d()])
@pytest.mark.usefixtures("unprobed")
def test_train_mode_is_warned_of_where_it_matters(draw, module):
    net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(module)).double()
    with pytest.warns(UserWarning, match=rf"modules in train mode \({type(module).__name__}\).*eval\(\)"):
        problem(net, draw(2, 4))
    problem(net.eval(), draw(2, 4))
    problem(nn.Linear(4, 2).double().train(), draw(2, 4))


@pytest.mark.parametrize("rows", [1, 4, None])
def test_progress_counts_every_row(draw, monkeypatch, rows):
    counts, tqdm = [], engine.tqdm

    class Counting(tqdm):
        def update(self, n=1):
            counts.append(n)
            return super().update(n)

    monkeypatch.setattr(engine, "tqdm", Counting)
    x = draw(3, 4)
    walk = problem(lambda x: (x**2).sum(1), x, show_progress=True, internal_batch_size=rows)
    for _ in walk.gradients(grid(x, 5), 5):
        pass
    assert sum(counts) == 15
    walk.outputs(grid(x, 5), 5)
    assert sum(counts) == 30


def test_progress_is_shown_only_on_request(draw, capsys):
    x = draw(3, 4)
    for _ in problem(lambda x: (x**2).sum(1), x, show_progress=True, name="Mine").gradients(grid(x, 5), 5, what="rows"):
        pass
    assert "Mine rows" in capsys.readouterr().err
    for _ in problem(lambda x: (x**2).sum(1), x).gradients(grid(x, 5), 5):
        pass
    assert capsys.readouterr().err == ""


def test_a_bar_that_nobody_asked_for_appears_only_where_the_work_takes_long(draw, capsys, monkeypatch):
    x = draw(3, 4)

    def shown(show_progress):
        walk = problem(lambda x: (x**2).sum(1), x, show_progress=show_progress, name="Mine")
        for _ in walk.gradients(grid(x, 5), 5):
            pass
        return "Mine" in capsys.readouterr().err

    assert not shown(None)
    monkeypatch.setattr(engine, "PATIENCE", 0.0)
    assert shown(None) and not shown(False)
    monkeypatch.setattr(engine, "PATIENCE", 1e9)
    assert shown(True) and not shown(None)


# --- outputs without gradients


@pytest.mark.parametrize("rows", [1, 2, None])
@pytest.mark.usefixtures("unprobed")
def test_the_models_whole_output_at_the_inputs_is_taken_once(make_net, draw, record, rows):
    net, x = make_net(4), draw(3, 4)
    f = record(net)
    walk = problem(f, x, target=[2, 0, 1], internal_batch_size=rows)
    for _ in range(2):
        torch.testing.assert_close(walk.raw_outputs_at_inputs(), net(x).detach())
    # What is explained is chosen from it, without another forward.
    torch.testing.assert_close(walk.outputs_at_inputs(), net(x)[[0, 1, 2], [2, 0, 1]].detach())
    assert sum(f.plain) == (4 if rows == 2 else 3) and f.graded == []  # of two rows each, if of two


@pytest.mark.parametrize("rows", [1, 2, None])
@pytest.mark.parametrize("per_example", ["target", "argument", "nothing"])
@pytest.mark.usefixtures("unprobed")
def test_outputs_at_rows_that_all_examples_share(draw, record, per_example, rows):
    f = record(lambda x, scale: torch.stack([x.sum(1), x.square().sum(1)], 1) * scale)
    x, shared = draw(3, 4), draw(5, 4, seed=1)
    target = [0, 1, 1] if per_example == "target" else 1
    scale = draw(3, 1, seed=2) if per_example == "argument" else torch.ones(1, 1)
    walk = problem(f, x, target=target, additional_forward_args=scale, internal_batch_size=rows)
    found = walk.outputs_at_shared((shared,))
    # A row counts once, but where an argument goes with each example.
    if rows is None:
        assert sum(f.plain) == (15 if per_example == "argument" else 5)
    assert len(f.plain) == -(-5 // (rows or 5)) * (3 if per_example == "argument" and rows else 1)
    assert found.shape == (3, 5) and max(f.plain) <= (rows or 15)
    both = torch.stack([shared.sum(1), shared.square().sum(1)])
    for b in range(3):
        column = target[b] if per_example == "target" else 1
        torch.testing.assert_close(found[b], both[column] * (scale[b, 0] if per_example == "argument" else 1))


# --- what another's gradient_func explains


def third(forward_fn, inputs, target_ind=None, additional_forward_args=None):
    """The gradient of each row's third feature times its fourth, whatever the function returns."""
    forward_fn(*inputs)
    with torch.enable_grad():
        value = inputs[0][:, 2] * inputs[0][:, 3]
        return torch.autograd.grad(value.unbind(), inputs)


@pytest.mark.parametrize("rows", [1, 2, None])
def test_what_a_replacement_differentiates_is_the_explained_output(draw, rows):
    x, shared = draw(3, 4), draw(5, 4, seed=1)
    walk = Problem(lambda x: x.sum(1), third, x, [0, 1, 1], internal_batch_size=rows)
    torch.testing.assert_close(walk.outputs_at_inputs(), x[:, 2] * x[:, 3])
    torch.testing.assert_close(walk.raw_outputs_at_inputs(), x[:, 2] * x[:, 3])
    torch.testing.assert_close(walk.outputs(grid(x, 3), 3)[:, 2], (x + 2)[:, 2] * (x + 2)[:, 3])
    torch.testing.assert_close(walk.outputs_at_shared((shared,)), (shared[:, 2] * shared[:, 3]).expand(3, 5))
    assert walk.output_dtype == torch.float64
    # And the gradients are its own, also after that.
    (tile,) = Problem(lambda x: x.sum(1), third, x).gradients(grid(x, 2), 2)
    torch.testing.assert_close(tile.gradients[0][:, 0, 2], x[:, 3])


def test_a_replacement_that_differentiates_all_rows_at_once(draw):
    def whole(forward_fn, inputs, target_ind=None, additional_forward_args=None):
        with torch.enable_grad():
            value = inputs[0].square().sum(1)
            return torch.autograd.grad(outputs=value, inputs=inputs, grad_outputs=torch.ones_like(value))

    x = draw(3, 4)
    torch.testing.assert_close(Problem(lambda x: x, whole, x).outputs_at_inputs(), x.square().sum(1))


def test_a_replacement_that_differentiates_a_sum_cannot_be_told(draw):
    def total(forward_fn, inputs, target_ind=None, additional_forward_args=None):
        with torch.enable_grad():
            return torch.autograd.grad(inputs[0].square().sum(), inputs)

    with pytest.raises(ValueError, match=r"gradient_func differentiates 1 numbers for 3 rows.*one number a row"):
        Problem(lambda x: x, total, draw(3, 4)).outputs_at_inputs()
