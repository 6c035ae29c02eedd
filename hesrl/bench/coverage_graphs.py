"""The layers of torch_geometric, and some of its networks, on a small random graph.

What a constructor needs is filled in by the names of its parameters, and so is what ``forward``
takes of the graph. A layer that needs more, such as triangles of a mesh, does not run here.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hesrl.bench.coverage_examine import Build, Case, Library
from hesrl.bench.coverage_inputs import case_of
from hesrl.measuring.networks import dense_network

_NODES, _EDGES, _WIDTH, _KINDS = 12, 40, 8, 3

_NEEDED: dict[str, Any] = {
    **dict.fromkeys(("in_channels", "out_channels", "channels", "edge_dim", "dim"), _WIDTH),
    **dict.fromkeys(("hidden_channels", "embedding_dim"), 8),
    **dict.fromkeys(("num_relations", "num_node_types", "num_edge_types", "kernel_size"), _KINDS),
    **dict.fromkeys(("edge_type_emb_dim", "edge_attr_emb_dim", "space_dimensions"), 4),
    **dict.fromkeys(("num_layers", "num_timesteps", "depth", "K", "k", "propagate_dimensions"), 2),
    "alpha": 0.1,
    "num_nodes": _NODES,
    "first_aggr": True,
    "aggregators": ["mean", "min", "max", "std"],
    "scalers": ["identity", "amplification", "attenuation"],
    "deg": torch.tensor([0, 1, 3, 4, 2, 1, 1]),
}
"""What constructors get for parameters without a default."""


def _mlp(n_in: int, n_out: int) -> nn.Sequential:
    return dense_network([n_in, 16, n_out], nn.ReLU)


def _conv(name: str) -> nn.Module:
    return _class(name)(_WIDTH, _WIDTH)


_SPECIAL: dict[str, Callable[[], dict[str, Any]]] = {
    "GINConv": lambda: {"nn": _mlp(_WIDTH, _WIDTH), "train_eps": True},
    "GINEConv": lambda: {"nn": _mlp(_WIDTH, _WIDTH)},
    "NNConv": lambda: {"nn": _mlp(_WIDTH, _WIDTH * _WIDTH)},
    "CGConv": lambda: {"dim": _WIDTH},
    "ChebConv": lambda: {"K": 3},
    "EdgeConv": lambda: {"nn": _mlp(2 * _WIDTH, _WIDTH)},
    "DynamicEdgeConv": lambda: {"nn": _mlp(2 * _WIDTH, _WIDTH)},
    "PointNetConv": lambda: {"local_nn": _mlp(_WIDTH + 3, _WIDTH)},
    "PPFConv": lambda: {"local_nn": _mlp(_WIDTH + 4, _WIDTH)},
    "PointGNNConv": lambda: {
        "mlp_h": _mlp(_WIDTH, 3),
        "mlp_f": _mlp(_WIDTH + 3, 8),
        "mlp_g": _mlp(8, _WIDTH),
    },
    "EGConv": lambda: {"num_heads": 2},
    "DNAConv": lambda: {"heads": 2},
    "DirGNNConv": lambda: {"conv": _conv("SAGEConv")},
    "GPSConv": lambda: {"conv": _conv("GCNConv"), "heads": 2},
    "SimpleConv": lambda: {"combine_root": "sum"},
    "GAT": lambda: {"out_channels": _WIDTH, "v2": True, "heads": 2, "jk": "lstm"},
    "EdgeCNN": lambda: {"out_channels": _WIDTH, "jk": "max"},
    **dict.fromkeys(("GCN", "GraphSAGE", "GIN"), lambda: {"out_channels": _WIDTH}),
}
"""Settings that a class needs or shall have besides."""

NETWORKS = (
    *("GCN", "GraphSAGE", "GIN", "GAT", "EdgeCNN", "GraphUNet", "AttentiveFP"),
    *("NeuralFingerprint", "LINKX", "PMLP", "RECT_L", "SGFormer", "Polynormer", "LightGCN"),
)
"""Networks that take features and edges of one graph."""

_OPTIONAL = ((), ("edge_attr",), ("edge_type",), ("batch",), ("edge_type", "edge_attr"))
"""What ``forward`` gets besides what it needs, in the order to try."""


class _Data:
    """A random graph and what layers take of it."""

    def __init__(self) -> None:
        self.x = self.x_0 = torch.randn(_NODES, _WIDTH)
        self.edge_index = self.hyperedge_index = torch.randint(_NODES, (2, _EDGES))
        self.pos_edge_index, self.neg_edge_index = self.edge_index, self.edge_index.flip(0)
        self.edge_attr = torch.rand(_EDGES, _WIDTH)
        self.edge_weight = torch.rand(_EDGES)
        self.edge_type = torch.randint(_KINDS, (_EDGES,))
        self.node_type = torch.randint(_KINDS, (_NODES,))
        self.pos = torch.randn(_NODES, 3)
        self.normal = nn.functional.normalize(torch.randn(_NODES, 3))
        self.batch = torch.arange(_NODES) * 2 // _NODES

    def arguments(self, module: nn.Module, optional: tuple[str, ...]) -> dict[str, Tensor]:
        """Return what ``forward`` needs of the graph, and what it takes of the optional."""
        needed = _needed(module.forward)
        takes = [name for name in optional if name in inspect.signature(module.forward).parameters]
        return {name: getattr(self, name) for name in (*needed, *takes)}


def _needed(function: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters without a default."""
    kinds = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind not in kinds]


class _Network(nn.Module):
    """A layer between two linear ones, so that gradients pass through it to both sides."""

    def __init__(self, name: str, data: _Data, optional: tuple[str, ...]) -> None:
        super().__init__()
        self.name, self.data, self.optional = name, data, optional
        self.first, self.layer = nn.Linear(_WIDTH, _WIDTH), _make(name)
        self.last = nn.LazyLinear(4)

    def forward(self) -> Tensor:
        arguments = self.data.arguments(self.layer, self.optional)
        x = self.first(self.data.x)
        arguments["x"] = x[:, None].expand(-1, 3, -1) if self.name == "DNAConv" else x
        out: Any = self.layer(**arguments)
        if isinstance(out, tuple):
            out = torch.cat(out, dim=-1) if self.name == "SignedConv" else out[0]
        return self.last(out)


def _class(name: str) -> Any:
    return getattr(importlib.import_module("torch_geometric.nn"), name)


def _make(name: str) -> nn.Module:
    special = _SPECIAL.get(name, dict)()
    needed = (p for p in _needed(_class(name)) if p not in special)
    return _class(name)(**{p: _NEEDED[p] for p in needed}, **special)


def families() -> list[str]:
    """Return the names of the layers and networks."""
    layers: Any = importlib.import_module("torch_geometric.nn.conv")
    return [*(name for name in layers.__all__ if name != "MessagePassing"), *NETWORKS]


def find(family: str) -> Iterator[Build]:
    """Yield what builds a layer within a network, or a network."""
    yield from (partial(_case, family, optional) for optional in _OPTIONAL)


def _case(family: str, optional: tuple[str, ...]) -> Case:
    data = _Data()
    if family in NETWORKS:
        network = _make(family)
        return case_of(family, network, **data.arguments(network, optional))
    network = _Network(family, data, optional)
    network()  # the last layer takes its size
    return case_of(family, network)


GEOMETRIC = Library("torch_geometric", ("torch_geometric.nn",), families, find)
