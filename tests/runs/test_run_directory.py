"""Making, opening and locking a run directory."""

from __future__ import annotations

import os
import re
import sys

import pytest
import yaml

from hesrl.errors import UserError
from hesrl.runs.directory import RunDirectory

HOLD = """
import sys
from hesrl.runs.directory import RunDirectory
run = RunDirectory.open(sys.argv[1])
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_run_has_a_name_of_its_own_and_tells_where_it_comes_from(make_run, monkeypatch):
    run = make_run("hesrl/UR5Reacher-v0")
    name = r"hesrl-UR5Reacher-v0__ppo__adahesscale__3__\d{8}-\d{6}"
    assert re.fullmatch(name, run.path.name)
    content = yaml.safe_load(run.config.read_text())
    assert content["settings"] == {
        "optimizer": "adahesscale", "learning_rate": 1e-3, "hidden": [64, 64], "note": None,
    }  # fmt: skip
    assert content["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(content) >= {"commit", "dirty", "created", "command"}
    monkeypatch.setattr("hesrl.runs.directory.time.strftime", lambda _: "20250102-030405")
    names = [make_run().path.name.rpartition("__")[2] for _ in range(3)]
    assert names == ["20250102-030405", "20250102-030405-2", "20250102-030405-3"]


def test_open_reads_the_settings_back(run):
    run.close()
    with RunDirectory.open(str(run.path)) as again:
        assert (again.path, again.settings) == (run.path, run.settings)


@pytest.mark.parametrize("root", ["/dev/null", "/dev/null/runs", "/proc/runs"])
def test_an_unwritable_root_is_named(root):
    names = {"env_id": "A-v0", "agent": "ppo", "optimizer": "adam", "seed": 0, "config": {}}
    with pytest.raises(UserError, match=f"cannot make a run folder in {root}: .*writable folder"):
        RunDirectory.create(root, **names)


def test_a_setting_that_yaml_lacks_leaves_no_directory(make_run, tmp_path):
    with pytest.raises(yaml.representer.RepresenterError):
        make_run(config={"device": object()})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not a run directory: it has no config.yaml"),
        (b"a: [1, 2", "config.yaml is not valid YAML"),
        (b"\xff\xfe\xfd", "config.yaml is not valid YAML"),
        (b"day: 2024-99-99", "config.yaml is not valid YAML"),
        (b"!!python/object/apply:os.getpid []", "config.yaml is not valid YAML"),
        (b"- a list", "config.yaml was not written by hesrl"),
        (b"name: another program", "config.yaml was not written by hesrl"),
        (b"format: hesrl run 1", "config.yaml has no 'settings' mapping"),
        (b"format: hesrl run 1\nsettings: {}", "config.yaml has no line 'agent: NAME': add it"),
    ],
)
def test_open_refuses_what_is_no_run(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        RunDirectory.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_open_names_a_missing_directory_and_a_config_that_is_a_folder(tmp_path):
    with pytest.raises(UserError, match=r"no run directory .*missing"):
        RunDirectory.open(tmp_path / "missing")
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*config\.yaml: Is a directory"):
        RunDirectory.open(tmp_path)


def test_a_second_process_is_refused_until_the_first_one_dies(run, start):
    run.close()
    with start(HOLD, run.path) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match=f"in use by process {holder.pid}: "):
            RunDirectory.open(run.path)
    RunDirectory.open(run.path)  # and, forgotten, lets go of it
    RunDirectory.open(run.path).close()


def test_a_new_run_is_locked_and_can_still_be_read(run):
    with pytest.raises(UserError, match=f"in use by process {os.getpid()}: "):
        RunDirectory.open(run.path)
    assert RunDirectory.open(run.path, read_only=True).settings == run.settings


def test_a_lock_that_cannot_be_made_is_named(run):
    run.close()
    (run.path / "run.lock").unlink()
    (run.path / "run.lock").mkdir()
    with pytest.raises(UserError, match=r"cannot lock .*: Is a directory"):
        RunDirectory.open(run.path)


def test_a_system_without_file_locks_is_told_so(run, monkeypatch):
    run.close()
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(UserError, match="needs Linux or macOS"):
        RunDirectory.open(run.path)
