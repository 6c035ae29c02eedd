"""The model types of transformers, each with a configuration of a few small layers.

The numbers that say how large a model is have the same names in most configurations; those are
made small, in nested configurations as well; ``coverage_transformers.yaml`` has them. A model gets
what its ``forward`` asks for by name.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from typing import Any

import torch
import yaml

from hesrl.bench.coverage_examine import Build, Case, Library
from hesrl.bench.coverage_inputs import case_of

_SIZES: dict[str, dict[Any, Any]] = yaml.safe_load(
    (files("hesrl.bench") / "coverage_transformers.yaml").read_text(encoding="utf-8")
)


def _by_name(numbers: dict[int, str]) -> dict[str, int]:
    return {name: number for number, names in numbers.items() for name in names.split()}


FEWER = _by_name(_SIZES["layers"])
SMALL = FEWER | _by_name(_SIZES["numbers"])

_VOCABULARY, _LENGTH, _IMAGE = 120, 8, 32
_MAX_PARAMETERS = 150_000_000
"""What a model that cannot be made small may have."""

_HEADS = (
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING",
    "MODEL_FOR_CAUSAL_LM_MAPPING",
    "MODEL_FOR_MASKED_LM_MAPPING",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING",
    "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING",
    "MODEL_FOR_CTC_MAPPING",
    "MODEL_MAPPING",
    "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING",
    "MODEL_FOR_DEPTH_ESTIMATION_MAPPING",
    "MODEL_FOR_OBJECT_DETECTION_MAPPING",
    "MODEL_FOR_IMAGE_TO_IMAGE_MAPPING",
    "MODEL_FOR_PRETRAINING_MAPPING",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING",
    "MODEL_FOR_BACKBONE_MAPPING",
)
"""What a model may be for, in the order in which it is tried; each yields its own loss or none."""

_BASE = "MODEL_MAPPING"
"""Models without a head, which have all parts of one that is made of several."""

_LABELLED = _HEADS[:4]


def _auto() -> Any:
    return importlib.import_module("transformers.models.auto.modeling_auto")


def families() -> dict[str, str]:
    """Return the name of a model class for each folder of ``transformers.models``.

    A folder may have several model types, such as a text model, an image model and a model of both.
    The type with the shortest name is taken.
    """
    auto = _auto()
    configurations: Any = importlib.import_module("transformers.models.auto.configuration_auto")
    found: dict[str, str] = {}
    classes: dict[str, str] = {}
    for head in reversed(_HEADS):
        for kind, names in getattr(auto, f"{head}_NAMES").items():
            classes[kind] = names if isinstance(names, str) else names[0]
    for kind in sorted(classes, key=lambda kind: (len(kind), kind)):
        folder = configurations.model_type_to_module_name(kind)
        if folder not in found.values() and classes[kind] not in (classes[k] for k in found):
            found[kind] = folder
    return {kind: classes[kind] for kind in sorted(found)}


def find(family: str) -> Iterator[Build]:
    """Yield what builds a model type, small ones first."""
    auto = _auto()
    configurations: Any = importlib.import_module("transformers").AutoConfig
    config_class = type(configurations.for_model(family))
    classes = []
    several = len(getattr(config_class, "sub_configs", {})) > 1
    for head in (*([_BASE] if several else []), *_HEADS):
        mapping = getattr(auto, head)
        if config_class in mapping:
            chosen = mapping[config_class]
            chosen = chosen[0] if isinstance(chosen, tuple) else chosen
            classes.append((chosen, head in _LABELLED))

    sizes: tuple[dict[str, int], ...] = (SMALL, FEWER)
    for small, (model_class, labelled) in itertools.product(sizes, classes):
        for how in ("all", "main", "text"):
            yield partial(_case, family, config_class, model_class, small, how, labelled)


def _case(
    family: str,
    config_class: Any,
    model_class: Any,
    small: dict[str, int],
    how: str,
    labelled: bool,
) -> Case:
    config = tiny(config_class, small, _SIZES["special"].get(family, {}))
    with torch.device("meta"):
        count = sum(p.numel() for p in model_class(config).parameters())
    if count > _MAX_PARAMETERS:
        raise RuntimeError(f"{count} parameters are too many")
    model = model_class(config)
    inputs = _inputs(model, config, how)
    if labelled and "input_ids" in inputs and "labels" in _parameters(model):
        inputs["labels"] = inputs.get("decoder_input_ids", inputs["input_ids"])
    return case_of(model_class.__name__, model, **inputs)


def tiny(config_class: Any, small: dict[str, int], special: dict[str, Any]) -> Any:
    """Return a configuration whose numbers of layers, heads and entries are small."""
    default = config_class()
    options: dict[str, Any] = {"use_cache": False} if hasattr(default, "use_cache") else {}
    nested = getattr(config_class, "sub_configs", {})
    last = _VOCABULARY
    for name, value in vars(default).items():
        name = name.removeprefix("_")
        if name in nested:
            if value is not None:
                options[name] = tiny(type(value), small, special.get(name, {}))
        elif isinstance(value, bool) or value is None:
            continue
        elif isinstance(value, int):
            if name in small:
                options[name] = small[name]
            elif name.endswith(("_token_id", "_token_index")) and value >= _VOCABULARY:
                last -= 1
                options[name] = last
        elif isinstance(value, (list, tuple)) and small is SMALL and name in _SIZES["lists"]:
            options[name] = _SIZES["lists"][name][: len(value)]
    options |= {k: v for k, v in special.items() if k not in nested}
    return config_class(**options)


def _parameters(model: Any) -> list[str]:
    return list(inspect.signature(model.forward).parameters)


def _number(config: Any, *names: str, default: int) -> int:
    """Return a number of a configuration or of one nested in it, by the first of some names."""
    inner = [getattr(config, name, None) for name in getattr(config, "sub_configs", {})]
    for part in (config, *inner):
        for name in names:
            value = getattr(part, name, None)
            if isinstance(value, dict):
                value = value.get("height")
            if isinstance(value, (list, tuple)) and value:
                value = value[0]
            if isinstance(value, int):
                return value
    return default


def _inputs(model: Any, config: Any, how: str) -> dict[str, Any]:
    """Return data for a model: all that is known, its main input only, or its text only."""
    side = _number(config, "image_size", "img_size", default=_IMAGE)
    channels = _number(config, "num_channels", "in_channels", "in_chans", default=3)
    frames = _number(config, "num_frames", "frames_per_clip", default=0)
    mels = _number(config, "num_mel_bins", "n_mels", "input_feat_per_channel", default=0)
    words = _number(config, "vocab_size", default=_VOCABULARY)
    text = torch.randint(3, max(4, min(words, _VOCABULARY) - 20), (2, _LENGTH))
    image = torch.rand(2, *([frames] if frames else []), channels, side, side)
    steps = 2 * _number(config, "max_source_positions", default=_LENGTH)
    features = torch.rand(2, mels or 80, steps)
    if not hasattr(config, "max_source_positions"):
        width = _number(config, "feature_projection_input_dim", default=mels or 80)
        features = torch.rand(2, 64, width)
    audio = torch.randn(2, 4000)
    if mels and hasattr(config, "max_length") and hasattr(config, "frequency_stride"):
        audio = torch.rand(2, config.max_length, mels)
    known = {
        "input_ids": text,
        "decoder_input_ids": text[:, :6].contiguous(),
        "pixel_values": image,
        "pixel_values_videos": image,
        "input_values": audio,
        "input_features": features,
    }
    names = [name for name in _parameters(model) if name in known]
    main = getattr(model, "main_input_name", "input_ids")
    if how == "main":
        names = [name for name in names if name in (main, "decoder_input_ids")]
    elif how == "text":
        names = [name for name in names if name.endswith("input_ids")]
    if not names:
        raise RuntimeError(f"forward takes {', '.join(_parameters(model))}")
    return {name: known[name] for name in names}


TRANSFORMERS = Library(
    "transformers",
    ("transformers.modeling_utils", "transformers.models.auto.modeling_auto"),
    families,
    find,
)
