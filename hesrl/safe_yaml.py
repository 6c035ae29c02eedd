"""YAML that runs no code and fails in one way."""

from __future__ import annotations

from typing import Any

import yaml

from hesrl.errors import one_line


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
