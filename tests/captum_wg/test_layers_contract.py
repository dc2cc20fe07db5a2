"""What anyone may rely on who swaps a layer or neuron class of captum.attr for one of ours."""

from __future__ import annotations

import inspect
import pickle
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from captum.attr import (
    LayerAttribution,
    LayerIntegratedGradients,
    LLMGradientAttribution,
    NeuronAttribution,
    NeuronIntegratedGradients,
    NoiseTunnel,
    TextTokenInput,
)
from torch import nn
from torch.utils.checkpoint import checkpoint

import captum_wg
from captum_wg import (
    AttributionResult,
    Deletion,
    ExpectedGradients,
    GradientVariance,
    LayerConsistency,
    LayerExpectedGradients,
    LayerGeneralizedAttribution,
    LayerGradientVariance,
    LayerWeightedGradients,
    NeuronExpectedGradients,
    NeuronGradientVariance,
    NeuronWeightedGradients,
)

pytestmark = pytest.mark.filterwarnings(
    "error::UserWarning",
    "ignore:for examples .* not even removing:UserWarning",
    "ignore:the output f.x. of examples:UserWarning",
    "ignore:the rows of forward_func influence each other:UserWarning",
)

LAYER_CLASSES = [getattr(captum_wg, name) for name in captum_wg.__all__ if name.startswith("Layer")]
NEURON_CLASSES = [getattr(captum_wg, name) for name in captum_wg.__all__ if name.startswith("Neuron")]

Pair = namedtuple("Pair", ["left", "right"])


class Branches(nn.Module):
    """Two layers side by side, one of two Tensors and a whole number, a module used twice and one never."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.a = nn.Linear(4, 3)
            self.b = Splits()
            self.twice = nn.Tanh()
            self.never = nn.Linear(4, 4)
            self.flat = nn.Linear(2, 2)
            self.head = nn.Linear(7, 2)
        self.double().eval()

    def forward(self, x, scale=None):
        left, right, steps = self.b(x)
        halves = self.flat(x.reshape(-1, 2)).reshape(len(x), 4)
        read = self.twice(self.a(x)) + self.twice(halves[:, :3])
        return self.head(torch.cat([read, left, right], 1) * steps * (1 if scale is None else scale)).softmax(1)


class Splits(nn.Module):
    def forward(self, x):
        return x[:, :2] * x[:, 2:], x[:, 1:3].tanh(), 2


@pytest.fixture
def net():
    return Branches()


@pytest.fixture
def x(draw):
    return draw(3, 4)


@pytest.fixture
def references(draw):
    return draw(2, 4, seed=1)


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


# --- calling


@pytest.mark.parametrize("cls", LAYER_CLASSES, ids=lambda c: c.__name__)
def test_layer_classes_are_captums_and_take_its_arguments(cls, net, x, references):
    method = cls(net, net.a, None)
    assert isinstance(method, LayerAttribution) and isinstance(method, getattr(captum_wg, cls.__name__[5:]))
    names = list(inspect.signature(cls.attribute).parameters)
    base = list(inspect.signature(getattr(captum_wg, cls.__name__[5:]).attribute).parameters)
    assert [n for n in names if n not in ("attribute_to_layer_input", "grad_kwargs")] == base
    if "n_steps" in names:
        captums = list(inspect.signature(LayerIntegratedGradients.attribute).parameters)
        assert names[: len(captums)] == captums
    by_name = method.attribute(x, references, 1, attribute_to_layer_input=True)
    positional = [p.default for p in inspect.signature(cls.attribute).parameters.values()]
    place = names.index("attribute_to_layer_input")
    by_place = cls.attribute.__wrapped__(
        method, x, references, 1, *positional[4:place], True, {"materialize_grads": True}
    )
    both = (by_name.values(), by_place.values()) if isinstance(by_name, dict) else ([by_name], [by_place])
    assert all(torch.equal(p, q) and p.shape == (3, 4) for p, q in zip(*both, strict=True))
    assert "attribute_to_layer_input" in cls.attribute.__doc__ and "Returns" in cls.attribute.__doc__


@pytest.mark.parametrize("cls", NEURON_CLASSES, ids=lambda c: c.__name__)
def test_neuron_classes_are_captums_and_take_its_arguments(cls, net, x, references):
    method = cls(net, net.a, None)
    assert isinstance(method, NeuronAttribution) and isinstance(method, getattr(captum_wg, cls.__name__[6:]))
    names = list(inspect.signature(cls.attribute).parameters)
    if "n_steps" in names:
        captums = list(inspect.signature(NeuronIntegratedGradients.attribute).parameters)
        assert names[: len(captums)] == captums
    assert "target" not in names and "neuron_selector" in cls.attribute.__doc__
    found = cls.attribute.__wrapped__(method, x, 1, references)
    by_name = method.attribute(inputs=x, neuron_selector=1, baselines=references)
    found, by_name = (list(v.values()) if isinstance(v, dict) else [v] for v in (found, by_name))
    assert all(torch.equal(p, q) and p.shape == x.shape for p, q in zip(found, by_name, strict=True))
    with pytest.raises(TypeError, match=r"attribute.*missing a required argument: 'neuron_selector'"):
        method.attribute(x)
    with pytest.raises(TypeError, match=r"attribute.*unexpected keyword argument 'target'"):
        method.attribute(x, 1, target=1)


def test_a_form_is_left_as_it_was_and_can_be_pickled(net, x, references):
    method = LayerWeightedGradients(net, net.a, None, False, references)
    before = dict(vars(method))
    method.attribute(x, target=1, attribute_to_layer_input=True)
    assert vars(method) == before and not method.multiplies_by_inputs and method.has_convergence_delta()
    again = pickle.loads(pickle.dumps(method))
    assert torch.equal(again.attribute(x, target=1), method.attribute(x, target=1))
    assert again.layer is again.forward_func.a


def test_nothing_is_left_behind(net, x, references):
    net.train()
    state = torch.get_rng_state()
    LayerWeightedGradients(net, [net.a, net.b]).attribute(x, references, 1)
    NeuronWeightedGradients(net, net.a).attribute(x, 1, references)
    assert net.training and hooks(net) == 0 and torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in net.parameters()) and not x.requires_grad
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("at_input", [False, True])
def test_hooks_are_removed_when_the_model_raises(net, x, at_input):
    def broken(x):
        if torch.is_grad_enabled():
            raise KeyError("in the middle of the walk")
        return net(x)

    with pytest.raises(KeyError):
        LayerExpectedGradients(broken, net.a).attribute(x, None, 1, attribute_to_layer_input=at_input)
    with pytest.raises(KeyError):
        NeuronExpectedGradients(lambda x: {}[x], net.a).attribute(x, 1, attribute_to_neuron_input=at_input)
    assert hooks(net) == 0 and torch.backends.mha.get_fastpath_enabled()


# --- structure


def test_a_layer_of_several_tensors_gives_a_tuple_and_a_list_a_list(net, x, references):
    alone = LayerExpectedGradients(net, net.b).attribute(x, references, 1)
    assert isinstance(alone, tuple) and [a.shape for a in alone] == [(3, 2), (3, 2)]
    listed = LayerWeightedGradients(net, [net.a, net.b], None).attribute(
        x, references, 1, return_convergence_delta=True, return_weights=True
    )
    assert isinstance(listed, AttributionResult) and listed.delta.shape == (3,) and listed.weights.shape == (3, 2)
    maps = listed.attributions
    assert isinstance(maps, list) and maps[0].shape == (3, 3) and isinstance(maps[1], tuple)
    method = LayerWeightedGradients(net, [net.a, net.b])
    assert torch.equal(method.compute_convergence_delta(maps, references, x, 1, weights=listed), listed.delta)
    masks = [torch.arange(3), (torch.tensor([0, 1]), torch.tensor([2, 2]))]
    assert method.fitness(x, references, 1, feature_mask=masks).max() <= 3
    one = LayerExpectedGradients(net, [net.a]).attribute(x, references, 1)
    assert isinstance(one, list) and torch.equal(one[0], LayerExpectedGradients(net, net.a).attribute(x, references, 1))
    named = LayerGeneralizedAttribution(net, [net.a, net.b]).attribute(
        x, references, 1, measures={"mean": "local_integrated_gradients", "own": lambda g, *_: g[0].mean(1)}
    )
    assert isinstance(named["mean"], list) and len(named["mean"][1]) == 2 and named["own"].shape == (3, 3)


@pytest.mark.parametrize("kind", [list, Pair])
def test_the_model_gets_the_kind_of_tuple_that_the_layer_returns(kind, x, references):
    class Layer(nn.Module):
        def forward(self, x):
            parts = x[:, :2], x[:, 2:]
            return kind(*parts) if kind is Pair else list(parts)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = Layer()

        def forward(self, x):
            parts = self.layer(x)
            assert type(parts) is kind
            return (parts[0] * parts[1]).sum(1)

    model = Model()
    maps = LayerExpectedGradients(model, model.layer).attribute(x, references)
    of_input = ExpectedGradients(model).attribute(x, references)
    torch.testing.assert_close(torch.cat(maps, 1), of_input)


def test_a_layer_that_reaches_the_output_in_no_way_gets_zeros_beside_one_that_does(net, x, references):
    model = nn.Sequential(net.a, nn.Tanh(), nn.Linear(3, 1).double())
    for cls in (LayerExpectedGradients, LayerGradientVariance):
        with pytest.warns(UserWarning, match=r"^layer 0 \(Linear\) gets zeros.*through other layers of the list alone"):
            maps = cls(model, [model[0], model[1]]).attribute(x, references)
        assert not maps[0].any() and (maps[1].any() or cls is LayerGradientVariance)


def test_arguments_go_along_as_ever(net, x, references):
    scale = torch.tensor([[1.0], [2.0], [0.5]], dtype=torch.float64)
    ours = LayerExpectedGradients(net, net.a).attribute(x, references, 1, scale)
    single = [
        LayerExpectedGradients(net, net.a).attribute(r[None], references, 1, s[None])
        for r, s in zip(x, scale, strict=True)
    ]
    torch.testing.assert_close(ours, torch.cat(single))
    shared = torch.arange(1.0, 4).double()  # as many as there are examples

    def weighted(x, values):
        return net.a(x) @ values

    together = LayerExpectedGradients(weighted, net.a).attribute(x, references, None, shared)
    expected = shared * (net.a(x) - net.a(references).mean(0)).detach()
    torch.testing.assert_close(together, expected)
    own = torch.stack([references, references + 1, references - 1])
    paired = LayerExpectedGradients(net, net.a).attribute(x, own, 1, scale)
    single = [
        LayerExpectedGradients(net, net.a).attribute(r[None], o, 1, s[None])
        for r, o, s in zip(x, own, scale, strict=True)
    ]
    torch.testing.assert_close(paired, torch.cat(single))


@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_micro_batches_do_not_matter(net, x, references, size):
    for method in (LayerExpectedGradients(net, net.a), LayerGradientVariance(net, net.a)):
        whole = method.attribute(x, references, 1)
        torch.testing.assert_close(method.attribute(x, references, 1, internal_batch_size=size), whole)


def test_a_model_that_takes_one_number_of_rows_only(net, x, references):
    def fixed(x):
        if len(x) != 3:
            raise RuntimeError("this model takes 3 rows")
        return net(x)

    expected = LayerExpectedGradients(net, net.a).attribute(x, references, 1)
    torch.testing.assert_close(LayerExpectedGradients(fixed, net.a).attribute(x, references, 1), expected)


def test_a_graph_whose_nodes_are_the_rows(draw):
    edges = torch.tensor([[0.5, 0.5, 0], [0, 1, 0], [0.2, 0.3, 0.5]]).double()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = nn.Linear(4, 3).double(), nn.Linear(3, 2).double()

    def graph(x):
        return (edges @ second((edges @ first(x)).tanh())).softmax(1)

    x, starts = draw(3, 4), draw(2, 4, seed=1)
    ours, delta = LayerExpectedGradients(graph, first).attribute(x, starts, 1, return_convergence_delta=True)
    a, b = first(x).detach(), first(starts).detach()
    half = ExpectedGradients(lambda a: (edges @ second((edges @ a).tanh())).softmax(1)).attribute(a, b, 1)
    torch.testing.assert_close(ours, half)
    assert delta.sum().abs() < 1e-6
    # Its activations depend on all rows of the inputs, of the baselines too.
    after = LayerExpectedGradients(graph, second).attribute(x, starts, 1)
    nodes = [second((edges @ v).tanh()).detach() for v in (a, *b.unsqueeze(1).expand(2, 3, 3))]
    own = torch.stack(nodes[1:], dim=1)
    torch.testing.assert_close(after, ExpectedGradients(lambda h: (edges @ h).softmax(1)).attribute(nodes[0], own, 1))


def test_half_precision_and_noise_tunnel(net, x, references):
    low = LayerExpectedGradients(net.bfloat16(), net.a).attribute(x.bfloat16(), references.bfloat16(), 1)
    assert low.dtype == torch.bfloat16
    net.double()
    method = LayerExpectedGradients(net, net.a, baselines=references)
    noisy = NoiseTunnel(method).attribute(x, nt_samples=3, stdevs=1e-9, target=1)
    torch.testing.assert_close(noisy, method.attribute(x, target=1), atol=1e-6, rtol=0)


# --- captum's language models


def test_captums_llm_attribution_takes_a_subclass_that_says_so():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.embedding, self.rnn = nn.Embedding(26, 4), nn.LSTM(4, 5, batch_first=True)
                self.out = nn.Linear(5, 26)
            self.device = torch.device("cpu")

        def forward(self, ids):
            return SimpleNamespace(logits=self.out(self.rnn(self.embedding(ids))[0]))

    class Letters:
        def encode(self, text, return_tensors=None, **_):
            ids = [ord(letter) - 97 for letter in text]
            return torch.tensor([ids]) if return_tensors else ids

        def decode(self, ids, **_):
            return "".join(chr(97 + int(i)) for i in ids)

        def convert_ids_to_tokens(self, ids):
            return list(self.decode(ids))

        def __call__(self, text, **_):
            return {"input_ids": self.encode(text), "offset_mapping": [(i, i + 1) for i in range(len(text))]}

    class LLMAttribution(LLMGradientAttribution):
        SUPPORTED_METHODS = (*LLMGradientAttribution.SUPPORTED_METHODS, LayerExpectedGradients, LayerWeightedGradients)

    model, letters = Model().eval(), Letters()
    text = TextTokenInput("hello", letters)
    captums = LLMGradientAttribution(LayerIntegratedGradients(model, model.embedding), letters).attribute(text, "abc")
    with pytest.raises(AssertionError, match="does not support"):
        LLMGradientAttribution(LayerExpectedGradients(model, model.embedding), letters)
    for cls in (LayerExpectedGradients, LayerWeightedGradients):
        ours = LLMAttribution(cls(model, model.embedding), letters).attribute(text, "abc")
        torch.testing.assert_close(ours.token_attr, captums.token_attr)
    starts = torch.tensor([letters.encode(word) for word in ("aaaaa", "world", "there")])
    of_words = LLMAttribution(LayerWeightedGradients(model, model.embedding), letters).attribute(
        text, "abc", baselines=starts, weighting=Deletion(output=torch.exp)
    )
    assert of_words.token_attr.shape == (3, 5) and not torch.equal(of_words.token_attr, ours.token_attr)


# --- what does not work


def test_layers_that_can_not_be_explained(net, x):
    def at(layer, model=net, **named):
        return lambda: LayerExpectedGradients(model, layer).attribute(x, None, 1, **named)

    cases = [
        (at(nn.Linear(4, 3)), ValueError, r"layer Linear is not in the model.*not from a copy"),
        (at(net.never), ValueError, r"layer never \(Linear\) is never called by forward_func; choose"),
        (at(net.never, lambda x: net(x)), ValueError, r"layer never \(Linear\) is never called"),
        (at(net.twice), ValueError, r"layer twice \(Tanh\) is called more than once.*Identity"),
        (at(net.flat), ValueError, r"output of layer flat \(Linear\) must have one row.*\(6, 2\).*Identity"),
        (at([]), TypeError, r"layer must be a torch.nn.Module of the model, or a list of some, got \[\]"),
        (at([net.a, net.a]), ValueError, r"layer is a list with the same module twice.*give each once"),
        (at("a"), TypeError, r"layer must be a torch.nn.Module.*'a'"),
        (at(net.a, attribute_to_layer_input=1), TypeError, "attribute_to_layer_input must be True or False"),
        (at(net.a, grad_kwargs={"create_graph": True}), ValueError, "grad_kwargs may hold materialize_grads"),
    ]
    for call, kind, words in cases:
        with pytest.raises(kind, match=words):
            call()
        assert hooks(net) == 0
    with pytest.raises(ValueError, match=r"device_ids=\[0, 1\].*data_parallel.module"):
        LayerExpectedGradients(net, net.a, [0, 1])
    with pytest.raises(ValueError, match=r"twice.*more than once"):
        NeuronExpectedGradients(net, net.twice).attribute(x, 1)
    with pytest.raises(TypeError, match=r"layer must be a torch.nn.Module of the model, got \[Linear"):
        NeuronExpectedGradients(net, [net.a])
    with pytest.raises(ValueError, match=r"inputs is None.*no layer form"):
        LayerConsistency(net, net.a).attribute(None, sampler=lambda _: x[None])


class Checkpointed(nn.Module):
    """Its middle is run again in the backward pass."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 3).double(), nn.Linear(3, 3).double(), nn.Tanh()

    def forward(self, x):
        return self.c(checkpoint(lambda z: self.b(z).sin(), self.a(x), use_reentrant=False))


def test_layers_beside_and_within_checkpoints(x, references):
    net = Checkpointed()
    plain = nn.Sequential(net.a, net.b, Sine(), net.c)
    for number, layer in ((0, net.a), (3, net.c)):
        ours = LayerExpectedGradients(net, layer).attribute(x, references, 1)
        torch.testing.assert_close(ours, LayerExpectedGradients(plain, plain[number]).attribute(x, references, 1))
    with pytest.raises(
        ValueError, match=r"layer b \(Linear\) is called within torch.utils.checkpoint.*turn checkpoints"
    ):
        LayerExpectedGradients(net, net.b).attribute(x, references, 1)
    assert hooks(net) == 0
    neuron = NeuronExpectedGradients(net, net.b).attribute(x, 1, references)
    torch.testing.assert_close(neuron, NeuronExpectedGradients(plain, net.b).attribute(x, 1, references))
    with torch.autograd.graph.save_on_cpu():
        LayerExpectedGradients(plain, net.b).attribute(x, references, 1)


class Sine(nn.Module):
    def forward(self, x):
        return x.sin()


def test_samplers_without_references_take_no_activations_of_baselines(x):
    class Unit(nn.Module):
        def forward(self, x):
            return x / x.norm(dim=1, keepdim=True)  # nothing at a baseline of zeros

    net = nn.Sequential(Unit(), nn.Linear(4, 2).double(), nn.Tanh())
    found = LayerGradientVariance(net, net[0]).attribute(x, target=1, sampler="ball", radius=0.1)
    expected = GradientVariance(net[1:]).attribute(net[0](x), target=1, sampler="ball", radius=0.1)
    torch.testing.assert_close(found, expected)


def test_a_layer_whose_tensors_the_output_does_not_depend_on(x):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(1, 3, batch_first=True).double()

        def forward(self, x):
            return self.lstm(x.unsqueeze(-1))[1][0].sum((0, 2))

    with pytest.raises(ValueError, match=r"depends on none of the layer's Tensors .*an LSTM's \(h, c\), stay"):
        LayerExpectedGradients(model := Last(), model.lstm).attribute(x)


def test_layers_without_numbers_to_differentiate():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 1))
    ids = torch.tensor([[1, 2], [3, 4]])
    at_input = LayerExpectedGradients(model, model[0])
    with pytest.raises(TypeError, match=r"input of layer 0 \(Embedding\).*torch.int64.*output of the embedding"):
        at_input.attribute(ids, attribute_to_layer_input=True)

    class Named(nn.Module):
        def forward(self, x):
            return {"x": x}

    class Holds(nn.Module):
        def __init__(self):
            super().__init__()
            self.named = Named()

        def forward(self, x):
            return self.named(x)["x"].sum(1)

    holds = Holds()
    with pytest.raises(TypeError, match=r"output of layer named \(Named\).*got dict.*Identity"):
        LayerExpectedGradients(holds, holds.named).attribute(torch.ones(2, 3))


def test_activations_of_other_lengths_for_inputs_and_baselines():
    class Trims(nn.Module):
        """Leaves out what is padding for all rows, so that lengths depend on the batch."""

        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(5, 3)

        def forward(self, ids):
            longest = int((ids > 0).sum(1).max())
            return self.embedding(ids[:, :longest]).sum((1, 2))

    trims = Trims()
    with pytest.raises(ValueError, match=r"\[\(4, 3\)\].*\[\(2, 3\)\].*pad inputs and baselines alike"):
        ids, baselines = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]]), torch.tensor([[1, 2, 0, 0]])
        LayerExpectedGradients(trims, trims.embedding).attribute(ids, baselines)


def test_token_ids_have_whole_numbers_for_baselines():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 1))
    ids, method = torch.tensor([[1, 2], [3, 4]]), LayerExpectedGradients(model, model[0])
    with pytest.raises(TypeError, match=r"baselines must be whole numbers as the inputs are \(torch.int64\), got 0.5"):
        method.attribute(ids, 0.5)
    with pytest.raises(TypeError, match=r"baselines are torch.float32, the inputs torch.int64"):
        method.attribute(ids, torch.zeros(1, 2))
    with pytest.raises(TypeError, match=r"torch.bool"):
        method.attribute(ids > 2)
    torch.testing.assert_close(method.attribute(ids, 1), method.attribute(ids, torch.ones(1, 2, dtype=torch.int32)))


def test_activations_that_are_not_finite(x):
    model = nn.Sequential(Log(), nn.Linear(4, 1).double())
    with pytest.raises(ValueError, match="the layer's activation holds NaN or infinite values in examples 0, 1, 2"):
        LayerExpectedGradients(model, model[0]).attribute(-x.abs(), x.abs()[:1])
    with pytest.raises(ValueError, match="the layer's activation at baselines holds NaN"):
        LayerExpectedGradients(model, model[0]).attribute(x.abs())


class Log(nn.Module):
    def forward(self, x):
        return x.log()


def test_selectors_that_select_no_neuron(net, x):
    cases = [
        (3, ValueError, r"neuron_selector=3 is out of range.*\(\d, 3\).*index 3"),
        ((0, 0), ValueError, "neuron_selector=.0, 0. is out of range.*too many indices"),
        (slice(5, 9), ValueError, r"neuron_selector must select one number.*got \(\d, 0\)"),
        ("1", TypeError, "neuron_selector must be an int, a slice, a tuple of these or a callable, got '1'"),
        (True, TypeError, "neuron_selector must be an int.*True"),
        ((), TypeError, r"neuron_selector must be an int.*\(\)"),
        (lambda a: a, ValueError, r"neuron_selector must select one number for each.*got \(\d, 3\).*summed"),
        (lambda a: 1.0, ValueError, "neuron_selector must select.*got float"),
    ]
    for selector, kind, words in cases:
        with pytest.raises(kind, match=words):
            NeuronExpectedGradients(net, net.a).attribute(x, selector)
        with pytest.raises(kind, match=words):
            NeuronGradientVariance(net, net.a).attribute(x, selector, x[:1])
    with pytest.raises(ValueError, match="can't select from a layer of 2 Tensors; give a callable"):
        NeuronExpectedGradients(net, net.b).attribute(x, 1)
    assert NeuronExpectedGradients(net, net.b).attribute(x, lambda pair: pair[0][:, 0] + pair[1][:, 1]).any()
    with pytest.raises(TypeError, match=r"int64.*embedding layer"):
        NeuronExpectedGradients(net, net.a).attribute(x.long(), 1)
