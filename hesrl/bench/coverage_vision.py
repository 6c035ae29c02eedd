"""The families of torchvision and timm, each by its smallest model, on small images."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hesrl.bench.coverage_examine import Build, Case, Library
from hesrl.bench.coverage_inputs import case_of

_SIZES = (
    "zepto|atto|femto|pico|xxs|xx_small|xxtiny",
    "nano|xs|x_small|xtiny|xxsmall",
    "tiny|ti|t|t0|b0|m0|m1|s0|a0|f0|d1|l0",
    r"small|mini|s\d*|002|050|035",
    "",
    "medium|m|base|b|100",
    "large|l|xl|x|huge|h|giant|gigantic|g|so400m|so150m2|enormous|1b|3b",
)
"""Words by which names say how large a model is, the smallest first."""


def _size(name: str) -> tuple[int, int, int, str]:
    """Return a key that sorts the models of a family by what their names say of their size."""
    words = re.split(r"_", name)[1:]
    ranks = [n for n, pattern in enumerate(_SIZES) for w in words if re.fullmatch(pattern, w)]
    numbers = [int(n) for n in re.findall(r"\d+", name)]
    return min(ranks, default=4), numbers[0] if numbers else 99, len(name), name


def torchvision_families() -> dict[str, str]:
    """Return the name of a small model for each module of ``torchvision.models``."""
    models: Any = importlib.import_module("torchvision.models")
    found: dict[str, str] = {}
    for name in sorted(models.list_models(), key=_size):
        module = models.get_model_builder(name).__module__.removeprefix("torchvision.models.")
        if not module.startswith("quantization"):
            found.setdefault(module, name)
    return dict(sorted(found.items()))


def find_torchvision(family: str) -> Iterator[Build]:
    """Yield what builds a family of torchvision, with small images first."""
    models: Any = importlib.import_module("torchvision.models")
    name = torchvision_families()[family]
    kind = family.partition(".")[0]

    def make(size: int) -> Case:
        options: dict[str, Any] = (
            {} if kind in ("video", "optical_flow") else {"weights_backbone": None}
        )
        if kind == "detection":
            options |= {"min_size": size, "max_size": size} if "ssd" not in name else {}
            model = models.get_model(name, weights=None, num_classes=3, **options)
            return _detection(name, model, size)
        if kind == "optical_flow":
            pair = torch.rand(2, 1, 3, 128, 128)
            return case_of(name, models.get_model(name, weights=None), *pair, num_flow_updates=2)
        if kind == "video":
            clip = torch.rand(2, 3, 16 if size < 100 else 32, size, size)
            return case_of(name, models.get_model(name, weights=None), clip)
        if kind != "segmentation":
            options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        if name == "vit_b_16":
            options = {"image_size": size}
        model = models.get_model(name, weights=None, num_classes=5, **options)
        return case_of(name, model, torch.rand(2, 3, size, size))

    yield from (partial(make, size) for size in (64, 128, 224, 299))


def _detection(name: str, model: Any, size: int) -> Case:
    images = list(torch.rand(2, 3, size, size))
    box, mask = torch.tensor([[8.0, 8.0, 40.0, 48.0]]), torch.zeros(1, size, size)
    mask[:, 8:48, 8:40] = 1
    points = torch.tensor([[[16.0, 16.0, 1.0]] * 17])
    target = {"boxes": box, "labels": torch.ones(1, dtype=torch.long)}
    target |= {"masks": mask.to(torch.uint8), "keypoints": points}
    model.train()

    def loss() -> Tensor:
        losses = model(images, [dict(target) for _ in images])
        return torch.stack([loss.sum() for loss in losses.values()]).sum()

    return Case(name, model, loss)


def timm_families() -> dict[str, str]:
    """Return the name of a small model for each module of ``timm.models``."""
    timm: Any = importlib.import_module("timm")
    found: dict[str, str] = {}
    for name in sorted(timm.list_models(exclude_filters="test_*"), key=_size):
        module = timm.models.model_entrypoint(name).__module__.rpartition(".")[2]
        found.setdefault(module, name)
    return dict(sorted(found.items()))


_SMALL: tuple[dict[str, Any], ...] = (
    {"img_size": 64, "embed_dim": 48, "depth": 2, "num_heads": 2},
    {"img_size": 64, "depth": 2},
    {"img_size": 64},
    {},
)
"""Options that make a model smaller, as far as it has them."""


def find_timm(family: str) -> Iterator[Build]:
    """Yield what builds a family of timm, small ones first."""
    timm: Any = importlib.import_module("timm")
    name = timm_families()[family]

    def make(options: dict[str, Any], size: int | None) -> Case:
        model = timm.create_model(name, pretrained=False, num_classes=5, **options)
        channels, *sides = model.default_cfg["input_size"]
        image = torch.rand(2, channels, *([size, size] if size else sides))
        return case_of(name, model, image)

    for options in _SMALL:
        yield from (
            partial(make, options, size) for size in ((64,) if options else (64, 128, None))
        )


TORCHVISION = Library(
    "torchvision", ("torchvision.models",), torchvision_families, find_torchvision
)
TIMM = Library("timm", ("timm.models",), timm_families, find_timm)
