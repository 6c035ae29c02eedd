"""YAML that runs no code and fails in one way."""

from __future__ import annotations

from typing import Any

import yaml

from hesrl.errors import UserError, one_line


def load_yaml(data: bytes, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Return what a file of YAML has.

    Args:
        data: The content of the file.
        loader: PyYAML's, or one that refuses more.

    Raises:
        ValueError: The content is not valid YAML; the message is one line.
    """
    try:
        return yaml.load(data, loader)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    # A ValueError comes from impossible dates, which PyYAML does not turn into its own error.
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(one_line(error)) from error


class UniqueKeys(yaml.SafeLoader):
    """A loader that refuses a key that is there twice, with a `UserError`."""


def _mapping(loader: UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"line {node.start_mark.line + 1}: the key {key} is there twice")
    return loader.construct_mapping(node, deep=True)


UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
