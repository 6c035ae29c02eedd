"""Layers and networks of torch_geometric on a small random graph."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hesrl.bench.coverage_examine import Build, Case
from hesrl.bench.coverage_inputs import case_of
from hesrl.measuring.networks import dense_network

_NODES, _EDGES, _WIDTH, _KINDS = 12, 40, 8, 3


def _mlp(n_in: int, n_out: int) -> nn.Sequential:
    return dense_network([n_in, 16, n_out], nn.ReLU)


class _Data:
    """A random graph and what layers take of it."""

    def __init__(self) -> None:
        self.x = torch.randn(_NODES, _WIDTH)
        self.edge_index = torch.randint(_NODES, (2, _EDGES))
        self.edge_attr = torch.rand(_EDGES, _WIDTH)
        self.weight = torch.rand(_EDGES)
        self.edge_type = torch.randint(_KINDS, (_EDGES,))
        self.node_type = torch.randint(_KINDS, (_NODES,))
        self.pos = torch.randn(_NODES, 3)
        self.normal = nn.functional.normalize(torch.randn(_NODES, 3))
        self.batch = torch.arange(_NODES) * 2 // _NODES


Arguments = Callable[[_Data], dict[str, Any]]


def _edges(data: _Data) -> dict[str, Any]:
    return {"edge_index": data.edge_index}


def _with(**names: str) -> Arguments:
    return lambda data: _edges(data) | {name: getattr(data, of) for name, of in names.items()}


_IN_OUT: dict[str, Any] = {"in_channels": _WIDTH, "out_channels": _WIDTH}
_DEGREES = torch.tensor([0, 1, 3, 4, 2, 1, 1])

_PLAIN = (
    "GCNConv SAGEConv GraphConv ResGatedGraphConv GATConv GATv2Conv TransformerConv TAGConv "
    "ARMAConv SGConv MFConv FeaStConv LEConv ClusterGCNConv GENConv FiLMConv SuperGATConv "
    "GeneralConv MixHopConv"
)
"""Layers that take the number of features before and behind them, and the edges."""

LAYERS: dict[str, tuple[Callable[[], dict[str, Any]], Arguments]] = {
    **dict.fromkeys(_PLAIN.split(), (lambda: _IN_OUT, _edges)),
    "SimpleConv": (lambda: {"aggr": "mean", "combine_root": "sum"}, _edges),
    "EGConv": (lambda: _IN_OUT | {"num_heads": 2}, _edges),
    "ChebConv": (lambda: _IN_OUT | {"K": 3}, _edges),
    "SSGConv": (lambda: _IN_OUT | {"alpha": 0.1}, _edges),
    "GatedGraphConv": (lambda: {"out_channels": _WIDTH, "num_layers": 2}, _edges),
    "AGNNConv": (dict, _edges),
    "APPNP": (lambda: {"K": 2, "alpha": 0.1}, _edges),
    "LGConv": (dict, _edges),
    "GINConv": (lambda: {"nn": _mlp(_WIDTH, _WIDTH), "train_eps": True}, _edges),
    "GINEConv": (lambda: {"nn": _mlp(_WIDTH, _WIDTH)}, _with(edge_attr="edge_attr")),
    "CGConv": (lambda: {"channels": _WIDTH, "dim": _WIDTH}, _with(edge_attr="edge_attr")),
    "NNConv": (
        lambda: _IN_OUT | {"nn": _mlp(_WIDTH, _WIDTH * _WIDTH)},
        _with(edge_attr="edge_attr"),
    ),
    "GMMConv": (lambda: _IN_OUT | {"dim": _WIDTH, "kernel_size": 3}, _with(edge_attr="edge_attr")),
    "PDNConv": (
        lambda: _IN_OUT | {"edge_dim": _WIDTH, "hidden_channels": 8},
        _with(edge_attr="edge_attr"),
    ),
    "RGCNConv": (lambda: _IN_OUT | {"num_relations": _KINDS}, _with(edge_type="edge_type")),
    "FastRGCNConv": (lambda: _IN_OUT | {"num_relations": _KINDS}, _with(edge_type="edge_type")),
    "RGATConv": (lambda: _IN_OUT | {"num_relations": _KINDS}, _with(edge_type="edge_type")),
    "HEATConv": (
        lambda: (
            _IN_OUT
            | {"num_node_types": _KINDS, "num_edge_types": _KINDS, "edge_type_emb_dim": 4}
            | {"edge_dim": _WIDTH, "edge_attr_emb_dim": 4}
        ),
        _with(node_type="node_type", edge_type="edge_type", edge_attr="edge_attr"),
    ),
    "GCN2Conv": (lambda: {"channels": _WIDTH, "alpha": 0.1}, _with(x_0="x")),
    "FAConv": (lambda: {"channels": _WIDTH}, _with(x_0="x")),
    "PNAConv": (
        lambda: (
            _IN_OUT
            | {"aggregators": ["mean", "min", "max", "std"], "deg": _DEGREES}
            | {"scalers": ["identity", "amplification", "attenuation"]}
        ),
        _edges,
    ),
    "EdgeConv": (lambda: {"nn": _mlp(2 * _WIDTH, _WIDTH)}, _edges),
    "PointNetConv": (lambda: {"local_nn": _mlp(_WIDTH + 3, _WIDTH)}, _with(pos="pos")),
    "PPFConv": (
        lambda: {"local_nn": _mlp(_WIDTH + 4, _WIDTH)},
        _with(pos="pos", normal="normal"),
    ),
    "PointTransformerConv": (lambda: _IN_OUT, _with(pos="pos")),
    "PointGNNConv": (
        lambda: {"mlp_h": _mlp(_WIDTH, 3), "mlp_f": _mlp(_WIDTH + 3, 8), "mlp_g": _mlp(8, _WIDTH)},
        _with(pos="pos"),
    ),
    "HypergraphConv": (
        lambda: _IN_OUT,
        lambda data: {"hyperedge_index": data.edge_index},
    ),
    "DNAConv": (lambda: {"channels": _WIDTH, "heads": 2}, lambda data: _edges(data)),
    "AntiSymmetricConv": (lambda: {"in_channels": _WIDTH}, _edges),
    "SignedConv": (
        lambda: _IN_OUT | {"first_aggr": True},
        lambda data: {"pos_edge_index": data.edge_index, "neg_edge_index": data.edge_index.flip(0)},
    ),
    "DirGNNConv": (lambda: {"conv": _conv("SAGEConv")(**_IN_OUT)}, _edges),
    "GPSConv": (
        lambda: {"channels": _WIDTH, "conv": _conv("GCNConv")(**_IN_OUT), "heads": 2},
        _with(batch="batch"),
    ),
}
"""For each layer its settings, and what it takes besides the features of the nodes."""

_SIZES = {"in_channels": _WIDTH, "hidden_channels": 8, "num_layers": 2, "out_channels": _WIDTH}

NETWORKS: dict[str, tuple[dict[str, Any], Arguments]] = {
    "GCN": (_SIZES, _edges),
    "GraphSAGE": (_SIZES, _edges),
    "GIN": (_SIZES, _edges),
    "GAT": (_SIZES | {"v2": True, "heads": 2, "jk": "lstm"}, _edges),
    "EdgeCNN": (_SIZES | {"jk": "max"}, _edges),
    "GraphUNet": (
        {"in_channels": _WIDTH, "hidden_channels": 8, "out_channels": _WIDTH, "depth": 2},
        _edges,
    ),
    "AttentiveFP": (
        _SIZES | {"edge_dim": _WIDTH, "num_timesteps": 2},
        _with(edge_attr="edge_attr", batch="batch"),
    ),
    "NeuralFingerprint": (_SIZES, _with(batch="batch")),
    "LINKX": (_SIZES | {"num_nodes": _NODES}, _edges),
    "PMLP": (_SIZES, _edges),
    "RECT_L": ({"in_channels": _WIDTH, "hidden_channels": 8}, _with(edge_weight="weight")),
    "SGFormer": (
        {"in_channels": _WIDTH, "hidden_channels": 8, "out_channels": _WIDTH},
        _with(batch="batch"),
    ),
    "Polynormer": (
        {"in_channels": _WIDTH, "hidden_channels": 8, "out_channels": _WIDTH},
        _with(batch="batch"),
    ),
    "LightGCN": ({"num_nodes": _NODES, "embedding_dim": 8, "num_layers": 2}, _edges),
}
"""For each network its settings, and what it takes besides the features of the nodes."""


class _Network(nn.Module):
    """A layer between two linear ones, so that gradients pass through it to both sides."""

    def __init__(self, name: str, data: _Data) -> None:
        super().__init__()
        settings, self.arguments = LAYERS[name]
        self.name, self.data = name, data
        self.first, self.layer = nn.Linear(_WIDTH, _WIDTH), _conv(name)(**settings())
        self.last = nn.LazyLinear(4)

    def forward(self) -> Tensor:
        x = self.first(self.data.x)
        x = x[:, None].expand(-1, 3, -1) if self.name == "DNAConv" else x
        out: Any = self.layer(x, **self.arguments(self.data))
        out = (
            torch.cat(out, dim=-1) if isinstance(out, tuple) and self.name == "SignedConv" else out
        )
        out = out[0] if isinstance(out, tuple) else out
        scores: Tensor = self.last(out)
        return scores


def _conv(name: str) -> Any:
    return getattr(importlib.import_module("torch_geometric.nn"), name)


def families() -> list[str]:
    """Return the names of the layers and networks."""
    return [*LAYERS, *NETWORKS]


def find(family: str) -> Iterator[Build]:
    """Yield what builds a layer within a network, or a network."""
    yield partial(_case, family)


def _case(family: str) -> Case:
    data = _Data()
    if family in LAYERS:
        network = _Network(family, data)
        network()  # the last layer takes its size
        return case_of(family, network)
    settings, arguments = NETWORKS[family]
    inputs = arguments(data) | ({} if family == "LightGCN" else {"x": data.x})
    return case_of(family, _conv(family)(**settings), **inputs)
