"""Which features and which edges of a graph decide the class of a node.

    python docs/examples/graph.py [--quick]

A network of torch_geometric's kind, model(x, edge_index, edge_weight), takes the nodes of one graph for its rows, and
they influence each other: as examples of an attribution they would be explained all at once (the package warns of it).
The way is to make the whole graph one example, x[None] (1, N, F) and edge weights w[None] (1, E), and to hand over a
function of R such graphs, which go through the model as torch_geometric batches graphs: side by side, as one large
graph whose parts are not connected. Explained here are several nodes at once, each an example with a copy of the graph.

The truth is planted. To a random graph (Barabasi-Albert) houses of five nodes are attached by one edge each, as in the
BA-shapes of GNNExplainer (Ying et al. 2019). Feature 0 of a roof is 1 or -1, its colour, and the class of all nodes of
the house; some nodes of the random graph, which have no class, are coloured too; all other features are noise. So a
node of a house owes its class to feature 0 of the roof, and to the edges on the shortest way from there.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise

import networkx
import torch
from torch import Tensor, nn

from captum_wg import ExpectedGradients, WeightedGradients

ROOF, HOUSE = 0, [(0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 4)]
FEATURES = 6


@dataclass
class Graph:
    """N nodes with F features each, E edges without direction; roof (N,): of each node's house, -1 of no house."""

    x: Tensor
    edges: Tensor
    classes: Tensor
    roof: Tensor

    def way(self, node: int) -> Tensor:
        """Which edges (E,) are on the shortest way from the roof, which inside of a house there is one of."""
        nodes = networkx.shortest_path(networkx.Graph(self.edges.T.tolist()), int(self.roof[node]), node)
        steps = torch.tensor([sorted(step) for step in pairwise(nodes)]).reshape(-1, 2)
        return (self.edges.sort(0).values.T.unsqueeze(1) == steps).all(2).any(1)

    def near(self, node: int, steps: int) -> Tensor:
        """Which edges (E,) so many layers can see from a node."""
        seen = torch.arange(len(self.x)) == node
        for _ in range(steps):
            edges = seen[self.edges].any(0)
            seen[self.edges[:, edges].flatten()] = True
        return edges


def planted_graph(n_random: int, n_houses: int, seed: int) -> Graph:
    """The random graph with its houses."""
    generator = torch.Generator().manual_seed(seed)
    edges = list(networkx.barabasi_albert_graph(n_random, 2, seed=seed).edges)
    n_nodes = n_random + 5 * n_houses
    x = 0.3 * torch.randn(n_nodes, FEATURES, generator=generator)
    x[:, 0] = 0
    coloured = torch.rand(n_random, generator=generator) < 0.3
    signs = 1 - 2 * torch.randint(2, (n_nodes,), generator=generator).float()
    x[:n_random, 0] += signs[:n_random] * coloured
    classes, roof = torch.full((n_nodes,), -1), torch.full((n_nodes,), -1)
    for first in range(n_random, n_nodes, 5):
        edges += [(first + a, first + b) for a, b in HOUSE]
        edges.append((int(torch.randint(n_random, (), generator=generator)), first + 4))
        x[first + ROOF, 0] += signs[first]
        classes[first : first + 5] = signs[first] > 0
        roof[first : first + 5] = first + ROOF
    return Graph(x, torch.tensor(edges).T, classes, roof)


class Convolution(nn.Module):
    """A graph convolution (Kipf and Welling 2017): D^-1/2 (A + I) D^-1/2 X W."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        source, target = edge_index
        x = self.linear(x)
        root = (1 + torch.zeros_like(x[:, 0]).index_add(0, target, edge_weight)).rsqrt()
        share = root[source] * edge_weight * root[target]
        return (x * root.square().unsqueeze(1)).index_add(0, target, share.unsqueeze(1) * x[source])


class Network(nn.Module):
    """Three convolutions; the class of a node follows from what all of them found."""

    def __init__(self, n_classes: int, width: int = 24):
        super().__init__()
        self.layers = nn.ModuleList(Convolution(n, width) for n in (FEATURES, width, width))
        self.out = nn.Linear(3 * width, n_classes)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        found = []
        for layer in self.layers:
            x = layer(x, edge_index, edge_weight).relu()
            found.append(x)
        return self.out(torch.cat(found, 1))


def both_ways(edges: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Edges without direction (2, E) and their weights (E,) as edge_index (2, 2 E) and edge_weight (2 E,)."""
    return torch.cat([edges, edges.flip(0)], 1), torch.cat([weights, weights])


def train(graphs: list[Graph], epochs: int) -> Network:
    """A network of graphs other than the one that is explained, so that it can't know nodes by their noise.

    A share of the edges is left out, another one each time, so that it has seen what a path comes from: no edges.
    """
    torch.manual_seed(0)
    network = Network(n_classes=2)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for epoch in range(epochs):
        graph = graphs[epoch % len(graphs)]
        weights = (torch.rand(graph.edges.shape[1]) < torch.rand(()) * 2).float()
        output = network(graph.x, *both_ways(graph.edges, weights))
        loss = nn.functional.cross_entropy(output, graph.classes, ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def at_node(network: nn.Module, edges: Tensor, x: Tensor, weights: Tensor, node: Tensor) -> Tensor:
    """The logits (R, classes) of one node in each of R graphs: x (R, N, F), weights (R, E), node (R,)."""
    n_graphs, n_nodes, _ = x.shape
    first = n_nodes * torch.arange(n_graphs)
    side_by_side = (edges.unsqueeze(1) + first.view(1, -1, 1)).reshape(2, -1)
    output = network(x.reshape(-1, x.shape[2]), *both_ways(side_by_side, weights.reshape(-1)))
    return output[first + node]


def auc(scores: Tensor, truth: Tensor) -> float:
    """The probability that something true has a larger score than something that is not."""
    difference = scores[truth].unsqueeze(1) - scores[~truth]
    return ((difference > 0).float() + (difference == 0).float() / 2).mean().item()


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller graph and fewer nodes")
    quick = parser.parse_args(arguments).quick
    size = (60, 16) if quick else (100, 30)
    graph, *others = (planted_graph(*size, seed) for seed in range(30))
    network = train(others, 400 if quick else 1500)
    n_nodes, n_edges = len(graph.x), graph.edges.shape[1]
    ones, generator = torch.ones(n_edges), torch.Generator().manual_seed(0)
    predicted = network(graph.x, *both_ways(graph.edges, ones)).argmax(1)
    accuracy = (predicted == graph.classes)[graph.classes >= 0].float().mean().item()
    print(f"{n_nodes} nodes, {n_edges} edges; accuracy {accuracy:.2f}")

    # A roof needs no edges.
    right = ((predicted == graph.classes) & (graph.roof != torch.arange(n_nodes))).nonzero().flatten()
    nodes = right[torch.randperm(len(right), generator=generator)[: 10 if quick else 20]]
    classes = graph.classes[nodes]
    # As many copies of the graph as there are nodes to explain.
    x, weights = graph.x.expand(len(nodes), -1, -1), ones.expand(len(nodes), -1)
    # Baselines: the features of other nodes, and no edges.
    shuffled = torch.stack([graph.x[torch.randperm(n_nodes, generator=generator)] for _ in range(8)])
    none = torch.zeros(8, n_edges)

    def of_features(x: Tensor, node: Tensor) -> Tensor:
        return at_node(network, graph.edges, x, ones.expand(len(x), -1), node)

    def of_edges(weights: Tensor, node: Tensor) -> Tensor:
        return at_node(network, graph.edges, graph.x.expand(len(weights), -1, -1), weights, node)

    def of_both(x: Tensor, weights: Tensor, node: Tensor) -> Tensor:
        return at_node(network, graph.edges, x, weights, node)

    how = dict(target=classes, additional_forward_args=nodes, n_steps=40, pairing="shared")
    # What a removal takes, where baselines are weighed: a node with all of its features, or an edge.
    of_node, of_edge = torch.arange(n_nodes).view(1, -1, 1), n_nodes + torch.arange(n_edges).view(1, -1)
    features, delta = WeightedGradients(of_features).attribute(
        x, shuffled, feature_mask=of_node, return_convergence_delta=True, **how
    )
    edges = ExpectedGradients(of_edges).attribute(weights, 0.0, **how)
    (both_features, both_edges), delta_both = WeightedGradients(of_both).attribute(
        (x, weights), (shuffled, none), feature_mask=(of_node, of_edge), return_convergence_delta=True, **how
    )

    results = {"accuracy": accuracy, "delta": max(delta.abs().max().item(), delta_both.abs().max().item())}
    for name, found in (("features", features), ("features of both", both_features)):
        cells = found.flatten(1).argmax(1)
        results[f"{name}: roof first"] = (cells == FEATURES * graph.roof[nodes]).float().mean().item()
    for name, found in (("edges", edges), ("edges of both", both_edges)):
        seen = [(row, graph.near(int(i), 3), graph.way(int(i))) for row, i in zip(found, nodes, strict=True)]
        results[f"{name}: auc"] = sum(auc(row[near], way[near]) for row, near, way in seen) / len(seen)
    print(
        f"Of {len(nodes)} nodes of houses, each explained for its class (chance: {1 / (n_nodes * FEATURES):.4f}, .5):"
    )
    for name, value in results.items():
        print(f"  {name:<32}{value:.3f}")
    return results


if __name__ == "__main__":
    main()
