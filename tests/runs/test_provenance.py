"""Where a run comes from."""

from __future__ import annotations

import subprocess
from datetime import datetime, timedelta
from importlib import metadata

import pytest

from hesrl.runs.provenance import git_state, provenance


@pytest.fixture
def checkout(tmp_path):
    """A git checkout with one committed file, ``module.py``."""
    (tmp_path / "module.py").write_text("x = 1\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "module.py"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    return tmp_path


def test_versions_time_and_command():
    found = provenance()
    assert found["versions"]["torch"] == metadata.version("torch")
    assert set(found["versions"]) >= {"python", "hesrl", "numpy", "gymnasium", "mujoco"}
    age = datetime.now().astimezone() - datetime.fromisoformat(found["created"])
    assert timedelta(0) <= age < timedelta(seconds=10)
    assert "python" in found["command"] or "pytest" in found["command"]


def test_commit_of_a_clean_and_of_a_changed_checkout(checkout):
    commit, dirty = git_state(checkout / "module.py")
    assert commit is not None
    assert len(commit) == 40
    assert dirty is False
    (checkout / "module.py").write_text("x = 2\n")
    assert git_state(checkout / "module.py") == (commit, True)


def test_an_untracked_copy_inside_a_checkout_has_no_commit(checkout):
    copy = checkout / "site-packages" / "module.py"
    copy.parent.mkdir()
    copy.write_text("x = 1\n")
    assert git_state(copy) == (None, None)


def test_no_checkout_and_no_git_have_no_commit(tmp_path, checkout, monkeypatch):
    assert git_state(tmp_path.parent / "module.py") == (None, None)
    monkeypatch.setenv("PATH", "")
    assert git_state(checkout / "module.py") == (None, None)
