"""Models whose rows belong together, and arguments of either reading, against loops that call the model as it is."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from captum_wg import (
    ExpectedGradients,
    GradientVariance,
    LocalIntegratedGradients,
    WeightedGradients,
    shared,
)
from captum_wg.engine.baseline_set import format_baselines
from captum_wg.engine.gradient import input_gradients
from captum_wg.engine.problem import Problem
from captum_wg.integrals.nodes import nodes_and_weights

INFLUENCE = "rows of forward_func influence each other"


def literal(function, x, target=None, n_steps=7, baselines=None):
    """The mean over baselines of the gradient of the sum of all rows' outputs, all rows at one point of the path."""
    starts = torch.zeros_like(x[:1]) if baselines is None else baselines
    total = torch.zeros_like(x)
    for start in starts:
        for node, weight in zip(*nodes_and_weights("gausslegendre", n_steps), strict=True):
            z = (start + node * (x - start)).requires_grad_()
            output = function(z)
            output = output.sum() if target is None else output[:, target].sum()
            total += weight * torch.autograd.grad(output, z)[0] * (x - start) / len(starts)
    return total


def single(function, x, target, n_steps=7, baselines=None):
    """`literal` for one example after another: what a function of each row alone gives."""
    return torch.cat([literal(function, row, target, n_steps, baselines) for row in x.split(1)])


def weight(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Graph:
    """Node features pass along edges; the nodes are the rows."""

    x = weight(30, 4, seed=1)
    edges = torch.randint(0, 30, (2, 80), generator=torch.Generator().manual_seed(2))
    w = weight(4, 3, seed=3)

    @classmethod
    def by_edges(cls, x, edges):
        h = torch.tanh(x @ cls.w)
        return h + torch.zeros_like(h).index_add(0, edges[1], h[edges[0]])

    @classmethod
    def by_matrix(cls, x, adjacency):
        return torch.tanh(torch.tanh(x @ cls.w) + adjacency @ torch.tanh(x @ cls.w))

    @classmethod
    def adjacency(cls):
        a = torch.zeros(30, 30, dtype=torch.float64)
        a[cls.edges[1], cls.edges[0]] = 1
        return a


def tagger():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lstm, head = nn.LSTM(4, 5).double(), nn.Linear(5, 3).double()
    return lambda z: head(lstm(z)[0])[:, 0]


def deep_set(z):
    return torch.tanh(z @ Graph.w) * torch.tanh(z.mean(0, keepdim=True) @ Graph.w)


def contrastive(z):
    return (z @ z.T).softmax(1) @ torch.tanh(z @ Graph.w)


def last_row_only(z):
    """What a causal mask does: the first row depends on itself alone."""
    return torch.tanh(z.cumsum(0) @ Graph.w)


TOGETHER = {
    "edges": (lambda z: Graph.by_edges(z, Graph.edges), Graph.x),
    "matrix": (lambda z: Graph.by_matrix(z, Graph.adjacency()), Graph.x),
    "sequence first": (tagger(), weight(6, 1, 4, seed=4)),
    "set": (deep_set, weight(5, 4, seed=5)),
    "contrastive": (contrastive, weight(5, 4, seed=6)),
    "causal": (last_row_only, weight(5, 4, seed=7)),
}


@pytest.mark.parametrize("name", TOGETHER)
@pytest.mark.parametrize("size", [None, 2])
def test_rows_that_influence_each_other_stay_together(name, size):
    function, x = TOGETHER[name]
    with pytest.warns(UserWarning, match=INFLUENCE):
        found = ExpectedGradients(function).attribute(x, target=1, n_steps=7, internal_batch_size=size)
    torch.testing.assert_close(found, literal(function, x, 1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("form", [lambda a: a, lambda a: a.to_sparse()], ids=["dense", "sparse"])
def test_a_graph_given_as_an_argument(form):
    adjacency = form(Graph.adjacency())
    with pytest.warns(UserWarning, match=INFLUENCE):
        found = ExpectedGradients(Graph.by_matrix).attribute(
            Graph.x, target=1, n_steps=7, additional_forward_args=adjacency
        )
    right = literal(lambda z: Graph.by_matrix(z, Graph.adjacency()), Graph.x, 1)
    torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)


def test_edges_given_as_an_argument_and_several_baselines():
    baselines = weight(3, 4, seed=8)
    with pytest.warns(UserWarning, match=INFLUENCE):
        found = ExpectedGradients(Graph.by_edges).attribute(
            Graph.x, baselines, target=1, n_steps=7, additional_forward_args=Graph.edges
        )
    right = literal(lambda z: Graph.by_edges(z, Graph.edges), Graph.x, 1, baselines=baselines)
    torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)


def test_measures_of_rows_that_stay_together():
    function, x = TOGETHER["set"]
    points = torch.stack([x, x + 0.3, x - 0.2], dim=1)
    gradients = []
    for s in range(3):
        z = points[:, s].clone().requires_grad_()
        gradients.append(torch.autograd.grad(function(z)[:, 1].sum(), z)[0])
    stacked = torch.stack(gradients)
    with pytest.warns(UserWarning, match=INFLUENCE):
        mean = LocalIntegratedGradients(function).attribute(x, target=1, sampler=lambda _: points)
        variance = GradientVariance(function).attribute(x, target=1, sampler=lambda _: points)
    torch.testing.assert_close(mean, stacked.mean(0), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(variance, stacked.var(0, unbiased=False), rtol=1e-8, atol=1e-12)


def test_batch_statistics_inside_a_lambda():
    def make():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).double()

    ours, other = make(), make()
    x = weight(5, 4, seed=9)
    with pytest.warns(UserWarning, match="train mode") as caught:
        found = ExpectedGradients(lambda z: ours(z)).attribute(x, target=1, n_steps=7)
    assert any(INFLUENCE in str(w.message) for w in caught)
    torch.testing.assert_close(found, literal(other, x, 1), rtol=1e-10, atol=1e-12)


def test_a_function_of_one_example_alone_is_asked_one_row_at_a_time():
    # The documented way for graphs: x[None], and a wrapper, which here takes one graph only.
    def node(z):
        return Graph.by_edges(z[0], Graph.edges)[3][None]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ExpectedGradients(node).attribute(Graph.x[None], target=1, n_steps=7)
    right = literal(lambda z: Graph.by_edges(z, Graph.edges)[3:4], Graph.x, 1)
    torch.testing.assert_close(found[0], right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("settings", [{"n_steps": "auto"}, {"method": "adaptive"}], ids=["automatic", "adaptive"])
def test_points_of_their_own_for_rows_that_stay_together_are_refused(settings):
    with pytest.warns(UserWarning, match=INFLUENCE), pytest.raises(ValueError, match=r"inputs x\[None\]"):
        ExpectedGradients(deep_set).attribute(weight(5, 4, seed=5), target=1, **settings)


def test_weights_for_rows_that_stay_together_are_refused_and_equal_ones_are_not():
    x, baselines = weight(5, 4, seed=5), weight(3, 4, seed=10)
    method = WeightedGradients(deep_set)
    with pytest.warns(UserWarning, match=INFLUENCE), pytest.raises(ValueError, match="weighting='equal'"):
        method.attribute(x, baselines, target=1)
    with pytest.warns(UserWarning, match=INFLUENCE):
        found = method.attribute(x, baselines, target=1, n_steps=7, weighting="equal")
    torch.testing.assert_close(found, literal(deep_set, x, 1, baselines=baselines), rtol=1e-10, atol=1e-12)


V = weight(4, 8, seed=11)


def prototypes(x, p):
    return torch.tanh(x @ V) @ p.T


def masked_mean(x, mask):  # x (B, T, 4), mask (T, T)
    return torch.tanh(mask @ x @ V).mean(1)


def positions(x, table):  # x (B, T, 4), table (T, 4)
    return torch.tanh((x + table) @ V).mean(1)


def channels(x, constants):  # x (B, 3, 2, 2), constants (3, 1, 1)
    return torch.tanh((x - constants).flatten(1) @ weight(12, 4, seed=12))


def one_row(x, row):  # (1, 8) at any B
    return torch.tanh(x @ V + row)


def per_example(x, scale):  # (B, 1)
    return torch.tanh(x @ V * scale)


SHARED = {
    "prototypes": (prototypes, (4,), weight(3, 8, seed=13), 3),
    "mask": (masked_mean, (4, 4), weight(4, 4, seed=14), 4),
    "positions": (positions, (4, 4), weight(4, 4, seed=15), 4),
    "channels": (channels, (3, 2, 2), weight(3, 1, 1, seed=16), 3),
    "one row": (one_row, (4,), weight(1, 8, seed=17), 1),
}


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("n_examples", [1, 2, 3, 4, 5])
@pytest.mark.filterwarnings("error::UserWarning")
def test_an_argument_means_the_same_whatever_the_number_of_examples(name, n_examples):
    function, shape, argument, _ = SHARED[name]
    x = weight(n_examples, *shape, seed=20)
    found, delta = ExpectedGradients(function).attribute(
        x, target=2, n_steps=7, additional_forward_args=argument, return_convergence_delta=True
    )
    right = literal(lambda z: function(z, argument), x, 2)
    torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)
    rise = function(x, argument)[:, 2] - function(torch.zeros_like(x), argument)[:, 2]
    torch.testing.assert_close(delta, found.flatten(1).sum(1) - rise, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("n_examples", [1, 3])
@pytest.mark.filterwarnings("error::UserWarning")
def test_an_argument_of_the_examples_goes_with_them(n_examples):
    x, scale = weight(n_examples, 4, seed=21), weight(n_examples, 1, seed=22)
    found = ExpectedGradients(per_example).attribute(x, target=2, n_steps=7, additional_forward_args=scale)
    torch.testing.assert_close(found, literal(lambda z: per_example(z, scale), x, 2), rtol=1e-10, atol=1e-12)


def test_one_argument_of_each_kind_and_the_weights_with_them():
    def function(x, scale, p):
        return torch.tanh(x @ V * scale) @ p.T

    x, scale, p = weight(3, 4, seed=23), weight(3, 1, seed=24), weight(3, 8, seed=25)
    baselines = weight(2, 4, seed=26)
    whole = WeightedGradients(function)
    found, weights = whole.attribute(
        x, baselines, target=2, n_steps=7, additional_forward_args=(scale, p), return_weights=True
    )
    for i in range(3):
        alone, own = WeightedGradients(lambda z, i=i: function(z, scale[i : i + 1], p)).attribute(
            x[i : i + 1], baselines, target=2, n_steps=7, return_weights=True
        )
        torch.testing.assert_close(found[i : i + 1], alone, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(weights[i : i + 1], own)


def test_the_marker_says_it_without_a_probe():
    # Where both readings agree at the examples the first is taken, which is wrong elsewhere: only the caller can know.
    def function(x, table):
        return torch.tanh(x @ V + (table[:1] if len(table) == 3 else table * 0))

    x, table = weight(3, 4, seed=27), weight(3, 8, seed=28)
    found = ExpectedGradients(function).attribute(x, target=2, n_steps=7, additional_forward_args=shared(table))
    torch.testing.assert_close(found, literal(lambda z: function(z, table), x, 2), rtol=1e-10, atol=1e-12)
    assert shared(shared(table)).value is table


def test_a_model_that_draws_at_random_can_not_be_probed():
    def noisy(z):
        return torch.tanh(z @ V) + torch.randn(len(z), 8, dtype=z.dtype)

    with torch.random.fork_rng(devices=[]), pytest.warns(UserWarning, match="draws at random"):
        found = ExpectedGradients(noisy).attribute(weight(4, 4, seed=29), target=2, n_steps=7)
    torch.testing.assert_close(found, literal(lambda z: torch.tanh(z @ V), weight(4, 4, seed=29), 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.filterwarnings("error::UserWarning")
def test_rounding_is_no_influence(dtype):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(*(m for _ in range(6) for m in (nn.Linear(64, 64), nn.ReLU())), nn.Linear(64, 5)).to(dtype)
    ExpectedGradients(net).attribute(torch.randn(33, 64).to(dtype), target=1, n_steps=2)


def test_the_model_s_own_error_is_shown():
    def broken(z):
        raise KeyError("of the model")

    with pytest.raises(KeyError, match="of the model"):
        ExpectedGradients(broken).attribute(weight(2, 4, seed=1), target=0)


def test_what_the_probe_costs(record):
    def rows(n_examples):
        recorded = record(lambda z: torch.tanh(z @ V))
        ExpectedGradients(recorded).attribute(weight(n_examples, 4, seed=1), target=0, n_steps=5)
        return sum(recorded.plain), sum(recorded.graded)

    # Three rows: as they are, in reverse order, exchanged (twice three times), and twice. One example: eleven rows.
    assert rows(6) == (3 * 8 + 6, 30)
    assert rows(1) == (11, 5)


LEGAL = torch.tensor([True, True, False])
A, B = weight(4, 3, seed=31), weight(4, 3, seed=32)


def layer_norm(z):
    q = nn.functional.layer_norm(z, (4,))
    return torch.tanh((q + q.mean(0)) @ A)


def early_exit(z):
    return torch.tanh(z @ A) if bool((z.norm(dim=1) > 1).all()) else torch.tanh(z @ B)


HIDDEN = {
    "a column of -inf": lambda z: torch.tanh(z @ A * (z @ A).mean(0)).masked_fill(~LEGAL, -float("inf")),
    "a column of -1e9": lambda z: torch.tanh(z @ A * (z @ A).mean(0)).masked_fill(~LEGAL, -1e9),
    "a large constant": lambda z: 1e4 + torch.tanh(z @ A * (z @ A).mean(0)),
    "the largest of all rows": lambda z: torch.tanh(z / z.abs().max() @ A),
    "scale does not matter": layer_norm,
    "the largest norm": lambda z: torch.tanh(z / z.norm(dim=1).max().clamp(min=5) @ A),
    "an exit that all rows take": early_exit,
}


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize(
    "x",
    [weight(1, 4, seed=33), torch.tensor([[3.0, -2, 1, 2]]).double(), torch.zeros(1, 4).double()],
    ids=["drawn", "large", "zero"],
)
def test_influence_is_found_with_one_example(name, x):
    function, baselines = HIDDEN[name], weight(5, 4, seed=34)
    found = ExpectedGradients(function).attribute(x, baselines, target=1, n_steps=7)
    torch.testing.assert_close(found, literal(function, x, 1, baselines=baselines), rtol=1e-9, atol=1e-10)


# (A switch that only points of other examples would turn can't be seen from a few rows.)
@pytest.mark.parametrize("name", [n for n in HIDDEN if n != "an exit that all rows take"])
@pytest.mark.parametrize(
    "x",
    [weight(4, 4, seed=35), weight(1, 4, seed=36).expand(3, 4), torch.zeros(3, 4).double(), 2 + weight(9, 4, seed=37)],
    ids=["drawn", "equal rows", "zero", "many"],
)
def test_influence_is_found_whatever_the_rows_are_like(name, x):
    function, baselines = HIDDEN[name], weight(5, 4, seed=34)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ExpectedGradients(function).attribute(x, baselines, target=1, n_steps=7, pairing="shared")
    torch.testing.assert_close(found, literal(function, x, 1, baselines=baselines), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_influence_is_found_in_half_precision(dtype):
    def function(z):
        h = torch.tanh(z @ A.to(dtype))
        return 4 + h * h.mean(0)

    with pytest.warns(UserWarning, match=INFLUENCE):
        ExpectedGradients(function).attribute(weight(4, 4, seed=38).to(dtype), target=1, n_steps=2)


NET = nn.Sequential(nn.Linear(300, 512), nn.GELU(), nn.Linear(512, 5)).eval()
WIDE = torch.randn(3, 300, generator=torch.Generator().manual_seed(39))
CLEAN = NET(WIDE).detach()
INNOCENT = {
    "a column of NaN": (lambda z: NET(z).masked_fill(torch.arange(5) == 4, float("nan")), ()),
    "the distance to the clean output": (lambda z, clean: (NET(z) - clean).abs().sum(1), CLEAN),
    "divergence from the clean output": (
        lambda z, clean: nn.functional.kl_div(NET(z).log_softmax(1), clean.softmax(1), reduction="none").sum(1),
        CLEAN,
    ),
    "doubt about confident rows": (lambda z: 1 - (300 * NET(z)).softmax(1).amax(1), ()),
    "classes": (lambda z: NET(z).argmax(1).float() + NET(z)[:, 0], ()),
}


@pytest.mark.parametrize("name", INNOCENT)
def test_no_influence_is_seen_where_there_is_none(name):
    function, argument = INNOCENT[name]
    target = 1 if name == "a column of NaN" else None
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*influence")
        ExpectedGradients(function).attribute(
            WIDE, target=target, n_steps=3, additional_forward_args=argument if len(argument) else None
        )


@pytest.mark.parametrize("probability", [0.05, 0.5])
def test_chance_is_no_influence(probability):
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(probability)).double()
    for seed in range(10):
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.manual_seed(seed)
            ExpectedGradients(model).attribute(weight(4, 4, seed=40), target=1, n_steps=2)
        said = " ".join(str(w.message) for w in caught)
        assert "draws at random" in said
        assert INFLUENCE not in said


def test_a_fixed_batch_of_as_many_rows_as_examples():
    def exported(z):
        if len(z) != 3:
            raise RuntimeError("exported for 3 rows")
        return torch.tanh(z @ A)

    x, baselines = weight(3, 4, seed=41), weight(2, 4, seed=42)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ExpectedGradients(exported).attribute(x, baselines, target=1, n_steps="auto")
    torch.testing.assert_close(
        found, ExpectedGradients(lambda z: torch.tanh(z @ A)).attribute(x, baselines, target=1, n_steps="auto")
    )


def test_an_argument_that_the_model_writes_into_is_handed_out_as_a_copy():
    def writing(z, m):
        m.sub_(1).mul_(100)
        return torch.tanh(z @ A * m[:1])

    x, m = weight(4, 4, seed=43), torch.full((3,), 1.001, dtype=torch.float64)
    for given in (m, shared(m)):
        found = ExpectedGradients(writing).attribute(x, target=1, n_steps=7, additional_forward_args=given)
        torch.testing.assert_close(found, single(lambda z: torch.tanh(z @ A * 0.1), x, 1), rtol=1e-8, atol=1e-10)
        assert torch.equal(m, torch.full((3,), 1.001, dtype=torch.float64))


def test_a_neuron_s_rows_influence_each_other_too():
    from captum._utils.gradient import construct_neuron_grad_fn

    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Identity()

        def forward(self, z):
            return self.mix(torch.tanh(z @ A * (z @ A).mean(0)))

    model, x = Mixing(), weight(4, 4, seed=44)
    method = ExpectedGradients(model)
    method.gradient_func = construct_neuron_grad_fn(model.mix, 2)
    with pytest.warns(UserWarning, match=INFLUENCE):
        found = method.attribute(x, n_steps=7)
    torch.testing.assert_close(found, literal(model, x, 2), rtol=1e-9, atol=1e-10)


def test_a_nested_argument_is_passed_on():
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    found = ExpectedGradients(lambda z, _: torch.tanh(z @ A)).attribute(
        weight(2, 4, seed=45), target=1, n_steps=7, additional_forward_args=nested
    )
    torch.testing.assert_close(found, literal(lambda z: torch.tanh(z @ A), weight(2, 4, seed=45), 1))


def test_fitness_of_rows_that_stay_together_is_refused():
    with pytest.warns(UserWarning, match=INFLUENCE), pytest.raises(ValueError, match="one row at a time"):
        WeightedGradients(deep_set).fitness(weight(5, 4, seed=5), weight(3, 4, seed=10), target=1)


R = weight(3, 8, seed=50)
SYMMETRIC = {
    "nearest prototype": (lambda z, r: torch.cdist(torch.tanh(z @ V), r).amin(1), None),
    "mean distance": (lambda z, r: torch.cdist(torch.tanh(z @ V), r).mean(1), None),
    "memory": (lambda z, r: (torch.tanh(z @ V) @ r.T).softmax(1) @ r, 2),
    "one of its rows": (lambda z, r: torch.tanh(z @ V + r[1]), 2),
}


@pytest.mark.parametrize("name", SYMMETRIC)
@pytest.mark.parametrize("n_examples", [2, 3, 7])
@pytest.mark.parametrize("size", [None, 3, 4])
def test_a_shared_argument_is_found_whatever_the_order_of_its_rows_is_to_the_model(name, n_examples, size):
    function, target = SYMMETRIC[name]
    x, memory = weight(n_examples, 4, seed=51), weight(n_examples, 8, seed=52)
    found = ExpectedGradients(function).attribute(
        x, target=target, n_steps=4, additional_forward_args=memory, internal_batch_size=size
    )
    right = literal(lambda z: function(z, memory), x, target, n_steps=4)
    torch.testing.assert_close(found, right, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("n_examples", [1, 2, 5])
@pytest.mark.parametrize("settings", [{}, {"n_steps": 3}, {"n_steps": "auto"}, {"n_samples": 3}], ids=str)
def test_a_fixed_batch_whatever_the_number_of_examples(n_examples, settings):
    def fixed(z):
        if len(z) != 4:
            raise RuntimeError("compiled for 4 rows")
        return torch.tanh(z @ A)

    x = weight(n_examples, 4, seed=53)
    settings = {"return_convergence_delta": True, **settings}
    found = ExpectedGradients(fixed).attribute(x, target=1, internal_batch_size=4, **settings)
    right = ExpectedGradients(lambda z: torch.tanh(z @ A)).attribute(x, target=1, **settings)
    torch.testing.assert_close(tuple(found), tuple(right), rtol=1e-9, atol=1e-12)


def test_generators_of_the_model_s_own_are_chance_and_no_influence():
    numbers = np.random.default_rng(0)
    own = torch.Generator().manual_seed(0)

    def by_numpy(z):
        return torch.tanh(z @ A) * torch.tensor(numbers.random((len(z), 3)))

    def by_its_own(z):
        return torch.tanh(z @ A) * torch.rand(len(z), 3, generator=own, dtype=z.dtype)

    for function in (by_numpy, by_its_own):
        for n_examples in (1, 3):
            with pytest.warns(UserWarning, match="draws at random"):
                ExpectedGradients(function).attribute(weight(n_examples, 4, seed=54), target=1, n_steps=2)


@pytest.mark.filterwarnings("error:.*influence")
def test_sorted_lengths_are_an_order_and_no_influence():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lstm = nn.LSTM(4, 5, batch_first=True).double()

    def function(z, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(z, lengths, batch_first=True)
        return lstm(packed)[1][0][0]

    x, lengths = weight(3, 6, 4, seed=55), torch.tensor([6, 4, 2])
    found = ExpectedGradients(function).attribute(x, target=1, n_steps=5, additional_forward_args=lengths)
    right = literal(lambda z: function(z, lengths), x, 1, n_steps=5)
    torch.testing.assert_close(found, right, rtol=1e-9, atol=1e-10)


def test_token_ids_are_only_exchanged_for_ids_that_may_index_the_same_table(draw):
    table, seen = draw(9, 4), []

    def look_up(ids):
        assert not ids.is_floating_point()
        seen.append(ids)
        return table[ids].sum((1, 2))

    ids = torch.tensor([[3, 8], [5, 4], [6, 7], [3, 3]])
    problem = Problem(look_up, input_gradients, ids, whole_numbers=True)
    problem.probe(format_baselines(torch.tensor([[2, 2], [1, 1]]), problem.inputs))
    assert not problem.together and len(seen) > 3
    asked = torch.cat(seen)
    assert asked.min() >= 0 and asked.max() <= 8
    mixed = Problem(lambda ids: look_up(ids) - look_up(ids).mean(), input_gradients, ids, whole_numbers=True)
    with pytest.warns(UserWarning, match=INFLUENCE):
        mixed.probe(format_baselines(0, mixed.inputs))
    assert mixed.together
