"""A network in the form that methods with hooks on its modules ask for.

DeepLift, guided backpropagation and layer-wise relevance propagation change what single modules pass back. They are
wrong, most of them without a word, where a module is used twice (the ReLU of a residual block), works in place, is a
function instead of a module, or is of a type they don't know (Captum knows ReLU, not ReLU6).
"""

from __future__ import annotations

import copy
import operator

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval

from benchmarks.run.counting import Counted

RELUS = (F.relu, torch.relu, torch.relu_, "relu", "relu_")
SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")


class Sum(nn.Module):
    """The sum over the last axis: two branches that meet, stacked."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(-1)


def hookable(model: nn.Module) -> nn.Module:
    """A copy with the same outputs up to rounding, each of whose operations is a module that is used once.

    Each ReLU and ReLU6 is an `nn.ReLU` of its own, not in place; batch norm is merged into the convolution before it;
    where two branches are added they are stacked and go through a `Sum`. A `Counted` model's copy counts on the same
    counter.

    Raises:
        ValueError: torch.fx can't follow the network.
    """
    counted = isinstance(model, Counted)
    source = copy.deepcopy(model.model if counted else model).eval()
    try:
        graph = _Tracer().trace(source)
    except Exception as error:  # whatever the network's own code raises when it is given no numbers
        raise ValueError(
            f"{type(source).__name__} can't be followed by torch.fx ({' '.join(str(error).split())[:200]}); choose "
            "methods that don't change its modules, such as IntegratedGradients"
        ) from error
    network = fx.GraphModule(source, graph)
    for number, node in enumerate(list(graph.nodes)):
        module = network.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(module, nn.BatchNorm2d):
            _merge(network, node, module, f"merged_{number}")
        elif (own := _own(node, module)) is not None:
            network.add_submodule(f"own_{number}", own)
            with graph.inserting_before(node):
                args = (graph.call_function(torch.stack, (node.args[:2], -1)),) if isinstance(own, Sum) else node.args
                node.replace_all_uses_with(graph.call_module(f"own_{number}", args[:1]))
            graph.erase_node(node)
    network.delete_all_unused_submodules()
    network.recompile()
    if not counted:
        return network
    result = Counted(network)
    result.counter = model.counter
    return result


def graph_of(network: nn.Module) -> fx.GraphModule:
    """The traced network in what `hookable` gave."""
    return network.model if isinstance(network, Counted) else network


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # Subclasses outside torch.nn, such as convolutions that pad by themselves, are modules to hook, too.
        return isinstance(m, nn.Conv2d | nn.Linear) or super().is_leaf_module(m, module_qualified_name)


def _own(node: fx.Node, module: nn.Module | None) -> nn.Module | None:
    """The module to stand in a node's place, or None if the node stays."""
    if isinstance(module, nn.ReLU6):
        relu = nn.ReLU()
        relu.forward = F.relu6  # type: ignore[method-assign]  # hooks see a ReLU and its true inputs and outputs
        return relu
    if isinstance(module, nn.ReLU) or node.target in RELUS:
        return nn.ReLU()
    if node.target is F.adaptive_avg_pool2d:
        return nn.AdaptiveAvgPool2d(node.args[1])
    if node.target in SUMS and all(isinstance(arg, fx.Node) and arg.op != "get_attr" for arg in node.args[:2]):
        return Sum()
    return None


def _merge(network: fx.GraphModule, node: fx.Node, norm: nn.BatchNorm2d, name: str) -> None:
    before = node.args[0]
    module = network.get_submodule(before.target) if before.op == "call_module" else None
    if isinstance(module, nn.Conv2d) and len(before.users) == 1:
        network.add_submodule(name, fuse_conv_bn_eval(module, norm))
        before.target = name
        node.replace_all_uses_with(before)
        network.graph.erase_node(node)
