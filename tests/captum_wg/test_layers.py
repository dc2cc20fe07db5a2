"""Layer and neuron forms: their numbers beside the methods on half of the model, Captum's classes and literal sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import LayerIntegratedGradients, NeuronIntegratedGradients
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import captum_wg
from captum_wg import (
    Deletion,
    LayerExpectedGradients,
    LayerGeneralizedAttribution,
    LayerLocalIntegratedGradients,
    LayerWeightedGradients,
    NeuronExpectedGradients,
    NeuronWeightedGradients,
    WeightedGradients,
)

pytestmark = pytest.mark.filterwarnings(
    "error::UserWarning",
    # Whether a removal reaches alpha f(x) is another file's matter.
    "ignore:for examples .* not even removing:UserWarning",
    "ignore:the output f.x. of examples:UserWarning",
    "ignore:The PyTorch API of nested tensors:UserWarning",
)

METHODS = (
    "ExpectedGradients",
    "WeightedGradients",
    "LocalIntegratedGradients",
    "GradientVariance",
    "Stability",
    "Consistency",
    "GeneralizedAttribution",
)


class Net(nn.Module):
    """Probabilities in two halves, of which no removal leaves the first class much."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.first = nn.Sequential(nn.Linear(5, 6), nn.Tanh())
            self.second = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3))
        self.double().eval()

    def tail(self, a):
        return (8 * self.second(a)).softmax(1)

    def forward(self, x):
        return self.tail(self.first(x))


class Tail(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, a):
        return self.net.tail(a)


class Reader(nn.Module):
    """Reads tokens 1, 2, ... (0 is padding), of which the mask leaves some out before an LSTM."""

    def __init__(self, outputs=2):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            self.embedding = nn.Embedding(9, 4, padding_idx=0)
            self.masked = nn.Identity()
            self.lstm = nn.LSTM(4, 5, batch_first=True)
            self.head = nn.Linear(5, outputs)
        self.double().eval()

    def read(self, vectors, mask=None):
        vectors = self.masked(vectors if mask is None else vectors * mask.unsqueeze(-1))
        return self.head(self.lstm(vectors)[0].sum(1)).mul(16).softmax(1)

    def forward(self, tokens, mask=None):
        return self.read(self.embedding(tokens), mask)


@pytest.fixture
def net():
    return Net()


@pytest.fixture
def x(draw):
    return 2 * draw(4, 5)


@pytest.fixture
def references(draw):
    return draw(3, 5, seed=1)


@pytest.fixture
def tokens():
    return torch.tensor([[1, 2, 3, 4, 5, 6], [6, 4, 2, 8, 0, 0], [7, 7, 1, 0, 0, 0], [3, 8, 5, 2, 1, 0]])


@pytest.fixture
def sentences():
    return torch.tensor([[0, 0, 0, 0, 0, 0], [2, 8, 1, 1, 6, 3], [5, 3, 3, 7, 2, 1]])


def close(a, b, tolerance=1e-12):
    if isinstance(a, dict):
        assert list(a) == list(b)
        a, b = tuple(a.values()), tuple(b.values())
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(close(p, q, tolerance) for p, q in zip(a, b, strict=True))
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a - b).abs() <= tolerance).all())


# --- at a layer


@pytest.mark.parametrize("name", METHODS)
def test_a_layer_form_is_the_method_on_the_models_second_half(name, net, x, references):
    at_layer = getattr(captum_wg, f"Layer{name}")(net, net.first)
    of_half = getattr(captum_wg, name)(net.tail)
    a, starts = net.first(x).detach(), net.first(references).detach()
    named = {"weighting": Deletion(neutral=starts.mean(0))} if name == "WeightedGradients" else {}
    assert close(at_layer.attribute(x, references, 1), of_half.attribute(a, starts, 1, **named))


def test_layer_expected_gradients_are_the_mean_of_captums_layer_integrated_gradients(net, x, references):
    for layer, of_input in ((net.first, False), (net.second[0], True), (net.second[1], False), (net.first[0], True)):
        ours = LayerExpectedGradients(net, layer).attribute(x, references, 2, attribute_to_layer_input=of_input)
        captums = LayerIntegratedGradients(net, layer)
        maps = [captums.attribute(x, r[None], 2, attribute_to_layer_input=of_input) for r in references]
        assert close(ours, torch.stack(maps).mean(0), 1e-8)  # Captum's nodes are float32


@pytest.mark.parametrize("multiply", [True, False])
def test_layer_expected_gradients_literally(net, x, references, multiply):
    nodes, weights = np.polynomial.legendre.leggauss(7)
    expected = []
    for row in x:
        total = torch.zeros(6, dtype=torch.float64)
        for start in references:
            a, b = net.first(row[None]).detach(), net.first(start[None]).detach()
            for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
                point = (b + node * (a - b)).requires_grad_()
                (gradient,) = torch.autograd.grad(net.tail(point)[0, 1], point)
                total += (weight * gradient * (a - b if multiply else 1))[0] / len(references)
        expected.append(total)
    ours = LayerExpectedGradients(net, net.first, multiply_by_inputs=multiply)
    assert ours.multiplies_by_inputs is multiply
    assert close(ours.attribute(x, references, 1, n_steps=7), torch.stack(expected))


@given(seed=st.integers(0, 1000), k=st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_behind_a_layer_all_is_linear_it_is_weight_times_difference(seed, k):
    generator = torch.Generator().manual_seed(seed)
    x, starts = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (3, k))
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    expected = net[2].weight[1] * (net[:2](x) - net[:2](starts).mean(0))
    found = LayerExpectedGradients(net, net[1]).attribute(x, starts.unsqueeze(0).expand(3, k, 5), 1, n_steps=1)
    assert close(found, expected.detach())


def test_completeness_holds_at_the_layer(net, x, references):
    def expected(weights):
        return net(x)[:, 0] - (weights * net(references)[:, 0]).sum(1)

    ours = LayerExpectedGradients(net, net.first)
    maps, delta = ours.attribute(x, references, 0, return_convergence_delta=True)
    assert delta.abs().max() < 1e-6
    assert close(delta, (maps.sum(1) - expected(torch.full((4, 3), 1 / 3))).detach(), 1e-7)
    assert torch.equal(ours.compute_convergence_delta(maps, references, x, 0), delta)
    to_input = ours.attribute(x, references, 0, attribute_to_layer_input=True)
    assert close(ours.compute_convergence_delta(to_input, references, x, 0, attribute_to_layer_input=True), delta, 1e-6)
    with pytest.raises(ValueError, match="attributions must have the inputs' shapes"):
        ours.compute_convergence_delta(to_input, references, x, 0)


def test_automatic_steps_keep_and_screening_work_at_the_layer(net, x, references):
    asked = {"return_convergence_delta": True, "return_weights": True, "return_steps": True}
    ours = LayerWeightedGradients(net, net.first)
    found = ours.attribute(x, references, 0, n_steps="auto", keep=2, screening_steps=3, **asked)
    allowed = 0.01 * (net(x)[:, :1] - net(references)[:, 0]).abs().amax(1)
    assert (found.delta.abs() <= allowed).all()
    assert ((found.weights > 0).sum(1) == 2).all() and close(found.weights.sum(1), torch.ones(4, dtype=torch.float64))
    assert torch.equal(found.steps > 0, found.weights > 0)
    assert torch.equal(ours.compute_convergence_delta(found.attributions, references, x, 0, weights=found), found.delta)


def test_fitness_removes_by_the_mean_activation_of_the_baselines_or_by_what_is_given(net, x, references):
    a, starts = net.first(x).detach(), net.first(references).detach()
    own = torch.stack([starts + i / 10 for i in range(4)])  # of baselines of their own too
    ours, half = LayerWeightedGradients(net, net.first), WeightedGradients(net.tail)
    by_mean = ours.fitness(x, references, 0)
    by_zero = ours.fitness(x, references, 0, weighting=Deletion(neutral=0))
    assert torch.equal(by_mean, half.fitness(a, starts, 0, weighting=Deletion(neutral=starts.mean(0))))
    assert torch.equal(by_zero, half.fitness(a, starts, 0, weighting=Deletion(neutral=0)))
    assert not torch.equal(by_mean, by_zero)
    whole = nn.Sequential(nn.Identity(), Tail(net))
    of_own = LayerWeightedGradients(whole, whole[0]).fitness(a, own, 0)
    assert torch.equal(of_own, half.fitness(a, own, 0, weighting=Deletion(neutral=own.mean(1))))


def test_a_way_around_the_layer_goes_on_with_the_inputs(draw):
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x):
            return self.head((self.layer(x) * x).tanh())

    net, x, starts = Around().double(), draw(2, 4), draw(3, 4, seed=1)
    maps, delta = LayerExpectedGradients(net, net.layer).attribute(x, starts, return_convergence_delta=True)
    at_starts = torch.stack([net.head((net.layer(s) * x).tanh()) for s in starts]).mean(0)
    assert delta.abs().max() < 1e-6
    assert close(maps.sum(1), (net(x) - at_starts)[:, 0].detach(), 1e-6)


# --- token ids


def test_token_ids_work_through_the_embedding_with_their_weights(tokens, sentences):
    reader = Reader()
    vectors, starts = reader.embedding(tokens).detach(), reader.embedding(sentences).detach()
    asked = {"return_convergence_delta": True, "return_weights": True}
    ours = LayerWeightedGradients(reader, reader.embedding).attribute(tokens, sentences, 1, **asked)
    groups = torch.arange(6).view(1, 6, 1)
    half = WeightedGradients(reader.read).attribute(
        vectors, starts, 1, feature_mask=groups, weighting=Deletion(neutral=starts.mean(0)), **asked
    )
    assert ours.weights.std() > 0.01
    assert all(close(p, q) for p, q in zip(ours, half, strict=True))


def test_tokens_are_features_and_words_by_a_mask(tokens, sentences):
    reader = Reader()
    ours = LayerWeightedGradients(reader, reader.embedding)
    distances = ours.fitness(tokens, sentences, 1)
    assert distances.max() <= 6
    assert torch.equal(distances, ours.fitness(tokens, sentences, 1, feature_mask=torch.arange(6).view(1, 6, 1)))
    words = torch.tensor([0, 0, 0, 1, 1, 1]).view(1, 6, 1)
    assert ours.fitness(tokens, sentences, 1, feature_mask=words).max() <= 2
    # What comes of ids (B, T) has tokens too; of vectors that went in, every element is a feature.
    masked = LayerWeightedGradients(reader, reader.masked)
    assert torch.equal(masked.fitness(tokens, sentences, 1), distances)
    of_vectors = LayerWeightedGradients(reader.read, reader.masked)
    vectors, starts = reader.embedding(tokens).detach(), reader.embedding(sentences).detach()
    assert of_vectors.fitness(vectors, starts, 1).max() > 6


def test_a_mask_that_goes_with_the_examples_is_there_for_the_baselines_activations(tokens, sentences):
    reader, mask = Reader(), None
    mask = (tokens > 0).double()
    ours = LayerExpectedGradients(reader, reader.masked).attribute(tokens, sentences, 1, mask)
    single = [
        LayerExpectedGradients(reader, reader.masked).attribute(t[None], sentences, 1, m[None])
        for t, m in zip(tokens, mask, strict=True)
    ]
    assert close(ours, torch.cat(single))
    assert not ours[mask == 0].any() and ours[mask > 0].all()
    # Before the mask the baselines' activations are the same for all examples.
    at_embedding = LayerExpectedGradients(reader, reader.embedding).attribute(tokens, sentences, 1, mask)
    assert close(at_embedding, ours) and not at_embedding[mask == 0].any()


def test_a_small_transformer_reads_tokens(tokens, sentences):
    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(9, 8), nn.Embedding(6, 8)
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(8, 2)

        def forward(self, ids, mask):
            read = self.encoder(self.words(ids) + self.places(torch.arange(6)), src_key_padding_mask=~mask)
            return self.head((read * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Transformer().double().eval()
    mask = tokens > 0
    for layer in (net.words, net.encoder.layers[0], net.encoder.layers[1].linear1):
        maps, delta = LayerExpectedGradients(net, layer).attribute(
            tokens, sentences, 0, mask, return_convergence_delta=True
        )
        assert maps.shape[:2] == tokens.shape and delta.abs().max() < 1e-2
        assert not maps[~mask].any() and maps[mask].any()
    assert torch.backends.mha.get_fastpath_enabled()


# --- images


def test_resnet_18_before_a_module_that_writes_in_place(draw):
    resnet18 = pytest.importorskip("torchvision").models.resnet18
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(resnet18(num_classes=4), nn.Softmax(1)).double().eval()
    x, starts = draw(2, 3, 16, 16), draw(2, 1, 3, 16, 16, seed=1)
    layer = net[0].bn1
    with pytest.raises(RuntimeError, match="in-place"):
        LayerIntegratedGradients(net, layer).attribute(x, target=1)
    found = LayerWeightedGradients(net, layer).attribute(x, starts, 1, n_steps=3, return_convergence_delta=True)
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    captums, delta = LayerIntegratedGradients(net, layer).attribute(
        x, starts[:, 0], 1, n_steps=3, return_convergence_delta=True
    )
    assert close(found.attributions, captums, 1e-8) and close(found.delta, delta, 1e-7)
    more = torch.cat([starts, -starts], dim=1)
    assert LayerWeightedGradients(net, layer).fitness(x, more, 1, n_steps=2, weighting=Deletion(alpha=0.99)).max() <= 64


def test_measures_at_a_layer_of_several_tensors(net, x, references):
    class Two(nn.Module):
        def forward(self, x):
            return x[:, :3] * 2, x[:, 3:].tanh()

    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.two = Two()

        def forward(self, x):
            a, b = self.two(x)
            return (a * b[:, :1]).sin().sum(1)

    halves = Halves().double()
    results = LayerGeneralizedAttribution(halves, halves.two).attribute(x, references, radius=2.0, n_samples=9)
    assert all(isinstance(r, tuple) and [p.shape[1] for p in r] == [3, 2] for r in results.values())
    alone = LayerLocalIntegratedGradients(halves, [halves.two])
    (listed,) = alone.attribute(x, references, radius=2.0, n_samples=9)
    assert close(listed, results["local_integrated_gradients"])


# --- of a neuron


@pytest.mark.parametrize("name", METHODS)
def test_a_neuron_form_is_the_method_on_the_neuron(name, net, x, references):
    of_neuron = getattr(captum_wg, f"Neuron{name}")(net, net.second[1]).attribute(x, 4, references)
    assert close(
        of_neuron, getattr(captum_wg, name)(lambda x: net.second[:2](net.first(x))[:, 4]).attribute(x, references)
    )


@pytest.mark.parametrize(
    "selector",
    [
        (1, 2, 0),
        (slice(0, 2), 1, slice(None)),
        (slice(None), slice(0, 2)),
        lambda a: a.square().flatten(1).sum(1),
        lambda a: a.sum(),
    ],
    ids=["tuple", "slices", "fewer slices", "callable", "callable of all"],
)
@pytest.mark.parametrize("of_input", [False, True])
def test_neuron_expected_gradients_are_the_mean_of_captums_neuron_integrated_gradients(selector, of_input, draw):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(27, 2)).double()
    x, starts = draw(3, 2, 4, 4), draw(2, 2, 4, 4, seed=1)
    ours = NeuronExpectedGradients(net, net[1]).attribute(x, selector, starts, attribute_to_neuron_input=of_input)
    captums = NeuronIntegratedGradients(net, net[1])
    maps = [captums.attribute(x, selector, s[None], attribute_to_neuron_input=of_input) for s in starts]
    assert close(ours, torch.stack(maps).mean(0), 1e-7)


def test_a_neuron_is_an_int_or_a_slice_of_a_flat_activation(net, x, references):
    ours = NeuronExpectedGradients(net, net.first)
    by_tuple = ours.attribute(x, (2,), references)
    assert torch.equal(ours.attribute(x, 2, references), by_tuple)
    both = ours.attribute(x, slice(2, 4), references)
    assert close(both, by_tuple + ours.attribute(x, 3, references))


def test_a_neurons_deltas_and_weights(net, x, references):
    ours = NeuronWeightedGradients(net, net.first)
    asked = {"return_convergence_delta": True, "return_weights": True}
    selector = lambda a: a.square().sum(1)  # noqa: E731
    found = ours.attribute(x, selector, references, keep=2, weighting="deletion", **asked)
    values, at_starts = (selector(net.first(v)).detach() for v in (x, references))
    assert close(found.delta, found.attributions.sum(1) - (values - found.weights @ at_starts)) and found.delta.any()
    again = ours.compute_convergence_delta(found.attributions, references, x, selector, weights=found)
    assert torch.equal(again, found.delta)
    distances = ours.fitness(x, selector, references)
    assert torch.equal((found.weights > 0).sum(1), torch.full((4,), 2)) and distances.shape == (4, 3)
