from __future__ import annotations

import pytest
import torch
from captum._utils.gradient import compute_gradients
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from captum_wg import ExpectedGradients, WeightedGradients
from captum_wg.engine import problem as engine
from captum_wg.engine.problem import Points, Problem, automatic_rows, even_parts, input_gradients

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


# --- input_gradients


@pytest.mark.parametrize("target", [1, torch.tensor(1), torch.tensor([0, 2, 1]), [0, 2, 1], (1,), [(0,), (2,), (1,)]])
def test_gradients_are_captums(make_net, draw, target):
    net, x = make_net(4), draw(3, 4).requires_grad_()
    (expected,) = compute_gradients(net, (x,), target)
    (found,) = input_gradients(net, x, target)
    torch.testing.assert_close(found, expected)


def test_gradients_are_captums_for_tuples_and_further_arguments(draw):
    x, y, w = draw(3, 4).requires_grad_(), draw(3, 2, seed=1).requires_grad_(), draw(3, seed=2)
    f = lambda x, y, w, power: (x.sum(1) * y.sum(1)) ** power * w  # noqa: E731
    expected = compute_gradients(f, (x, y), None, (w, 3))
    found = input_gradients(f, (x, y), None, (w, 3))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_one_further_argument_needs_no_tuple(draw):
    x = draw(3, 4).requires_grad_()
    assert torch.equal(input_gradients(lambda x, w: (x * w).sum(1), x, None, 2.0)[0], torch.full_like(x, 2.0))


def test_an_unused_element_gets_zeros(draw):
    x, y = draw(3, 4).requires_grad_(), draw(3, 2).requires_grad_()
    gx, gy = input_gradients(lambda x, y: x.sum(1), (x, y))
    assert (gx == 1).all() and torch.equal(gy, torch.zeros_like(y))


def test_an_output_without_a_graph(draw):
    x = draw(3, 4).requires_grad_()
    with pytest.raises(ValueError, match=r"output without a gradient: it depends on none of the inputs, or cuts"):
        input_gradients(lambda x: x.detach().sum(1), x)


def test_an_output_that_depends_on_parameters_alone(draw):
    x, w = draw(3, 4).requires_grad_(), nn.Parameter(torch.ones(3, dtype=torch.float64))
    with pytest.raises(ValueError, match="depends on none of the inputs; nothing can be attributed"):
        input_gradients(lambda x: w * 2, x)


def test_a_cudnn_rnn_in_eval_mode_is_explained(draw):
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sum(1)

        @staticmethod
        def backward(ctx, g):
            raise RuntimeError("cudnn RNN backward can only be called in training mode")

    with pytest.raises(RuntimeError, match="put the RNN modules alone into train mode"):
        input_gradients(Fails.apply, draw(3, 4).requires_grad_())


def test_other_errors_of_backward_pass_through(draw):
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sum(1)

        @staticmethod
        def backward(ctx, g):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match=r"^out of memory"):
        input_gradients(Fails.apply, draw(3, 4).requires_grad_())


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
def test_no_call_has_more_rows_than_asked_for(record, draw, rows, n_points):
    x, function = draw(5, 4), record(lambda x: (x**2).sum(1))
    walk = problem(function, x, internal_batch_size=rows)
    for _ in walk.gradients(grid(x, n_points), n_points):
        pass
    assert max(function.graded) <= rows and sum(function.graded) == 5 * n_points
    walk.outputs(grid(x, n_points), n_points)
    assert max(function.plain) <= rows and sum(function.plain) == 5 * n_points


def test_a_walk_is_not_cut_smaller_than_needed(record, draw):
    x, function = draw(6, 4), record(lambda x: (x**2).sum(1))
    for _ in problem(function, x, internal_batch_size=8).gradients(grid(x, 4), 4):
        pass
    assert function.graded == [8, 8, 8]  # two examples at a time
    function.graded.clear()
    for _ in problem(function, x[:1], internal_batch_size=8).gradients(grid(x[:1], 10), 10):
        pass
    assert function.graded == [5, 5]  # evened out, not 8 and 2


@pytest.mark.parametrize("shape", [(1,), (4,), (3, 32, 32), (3, 600, 600)])
def test_the_automatic_size_is_bounded_and_repeatable(shape):
    x = torch.empty(2, *shape)
    rows = automatic_rows((x,))
    assert 1 <= rows <= 4096 and rows == automatic_rows((x,))
    assert automatic_rows((x, x)) <= rows


@pytest.mark.parametrize("method", [ExpectedGradients, WeightedGradients])
@pytest.mark.parametrize("rows", [1, 4, 7, 50, None])
def test_methods_keep_to_the_size_and_take_b_k_n_gradients(record, draw, method, rows):
    x, references = draw(5, 3, 4, 4), draw(4, 3, 4, 4, seed=1)
    function = record(lambda x: (x**2).flatten(1).sum(1))
    bound = rows or automatic_rows((x,))
    method(function).attribute(x, references, n_steps=25, internal_batch_size=rows, return_convergence_delta=True)
    assert sum(function.graded) == 5 * 4 * 25
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
    with pytest.raises(ValueError, match=r"the gradient is NaN or infinite for examples 1; check the model"):
        for _ in walk.gradients(lambda e, c: Points((x[e].unsqueeze(1).expand(-1, c.stop - c.start, -1),)), 2):
            pass


def test_a_nan_in_any_element_of_a_tuple_counts():
    x, y = torch.ones(2, 1), torch.tensor([[1.0], [0.0]])
    with pytest.raises(ValueError, match="for examples 1;"):
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


@pytest.mark.parametrize("module", [nn.Dropout(), nn.BatchNorm1d(4), nn.Dropout2d()])
def test_train_mode_is_warned_of_where_it_matters(draw, module):
    net = nn.Sequential(nn.Linear(4, 2), nn.Sequential(module))
    with pytest.warns(UserWarning, match=rf"modules in train mode \({type(module).__name__}\).*eval\(\)"):
        problem(net, draw(2, 4))
    problem(net.eval(), draw(2, 4))
    problem(nn.Linear(4, 2).train(), draw(2, 4))


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
def test_the_models_whole_output_at_the_inputs_is_taken_once(make_net, draw, record, rows):
    net, x = make_net(4), draw(3, 4)
    f = record(net)
    walk = problem(f, x, target=[2, 0, 1], internal_batch_size=rows)
    for _ in range(2):
        torch.testing.assert_close(walk.raw_outputs_at_inputs(), net(x).detach())
    # What is explained is chosen from it, without another forward.
    torch.testing.assert_close(walk.outputs_at_inputs(), net(x)[[0, 1, 2], [2, 0, 1]].detach())
    assert sum(f.plain) == 3 and f.graded == []


@pytest.mark.parametrize("rows", [1, 2, None])
@pytest.mark.parametrize("per_example", ["target", "argument", "nothing"])
def test_outputs_at_rows_that_all_examples_share(draw, record, per_example, rows):
    f = record(lambda x, scale: torch.stack([x.sum(1), x.square().sum(1)], 1) * scale)
    x, shared = draw(3, 4), draw(5, 4, seed=1)
    target = [0, 1, 1] if per_example == "target" else 1
    scale = draw(3, 1, seed=2) if per_example == "argument" else torch.ones(1, 1)
    walk = problem(f, x, target=target, additional_forward_args=scale, internal_batch_size=rows)
    found = walk.outputs_at_shared((shared,))
    # A row counts once, but where an argument goes with each example.
    assert sum(f.plain) == (15 if per_example == "argument" else 5)
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

    with pytest.raises(ValueError, match="gradient_func differentiates 1 numbers for 3 rows.*one number a row"):
        Problem(lambda x: x, total, draw(3, 4)).outputs_at_inputs()
