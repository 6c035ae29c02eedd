"""The mark of tests that compile C++; without a compiler hesrl replays steps, as others test."""

import os
import shutil

import pytest

COMPILER = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler"
)
