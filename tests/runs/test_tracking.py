"""Weights & Biases: what it stores offline, read back from its file."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from hesrl.runs.directory import RunDirectory

needs_wandb = pytest.mark.skipif(find_spec("wandb") is None, reason="needs hesrl[track]")

TRAIN = """
import sys
from hesrl.runs.directory import RunDirectory
from hesrl.runs.metrics import MetricsLog, read_metric
from hesrl.runs.tracking import Tracker
run = RunDirectory.open(sys.argv[1])
resume_step = None if sys.argv[2] == "new" else int(sys.argv[2])
with MetricsLog(run, resume_step=resume_step, tracker=Tracker(run, "project")) as log:
    for step in map(int, sys.argv[3:]):
        log.log(step, {"losses/value_loss": step / 8, "charts/SPS": 100.0})
"""
SESSION = """
import sys
from dataclasses import dataclass
from pathlib import Path
from hesrl.errors import UserError
from hesrl.runs.session import Session

@dataclass
class Args:
    seed: int = 1
    runs_dir: Path = Path(sys.argv[1])
    resume: Path | None = None
    env_id: str = "Hopper-v5"
    total_timesteps: int = 1
    optimizer: str = "adam"
    planned_timesteps: int = 1

try:
    Session("ppo", Args(), wandb_project="project")
except UserError as error:
    print(error)
"""


def python(code: str, *arguments: object, **environment: str) -> str:
    """Run code without anybody's login, in a home of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "NETRC"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def records(file: Path):
    """Read the records of a file in LevelDB's log format, whose header takes 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = file.read_bytes(), 7, b""
    while at < len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(parts)
            parts = b""


def tracked(run: RunDirectory):
    """Return ids, settings and rows of all that was tracked offline."""
    ids, config, rows = set(), {}, []
    for file in sorted(run.path.glob("wandb/offline-run-*/*.wandb")):
        for record in records(file):
            if record.WhichOneof("record_type") == "run":
                ids.add(record.run.run_id)
                config |= {i.key: json.loads(i.value_json) for i in record.run.config.update}
                config.pop("_wandb")  # its own notes
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                row = {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in items}
                rows.append({k: v for k, v in row.items() if not k.startswith("_")})
    return ids, config, rows


def row(step):
    return {"losses/value_loss": step / 8, "charts/SPS": 100.0, "global_step": step}


@needs_wandb
def test_what_goes_to_the_table_goes_to_wandb_too_and_a_resumed_run_keeps_its_id(run, tmp_path):
    run.close()
    options = {"WANDB_MODE": "offline", "HOME": str(tmp_path)}
    assert python(TRAIN, run.path, "new", 10, 20, **options) == ""
    python(TRAIN, run.path, 20, 30, **options)
    ids, config, rows = tracked(run)
    assert len(ids) == 1 and rows == [row(10), row(20), row(30)]
    assert config == {"learning_rate": 1e-3, "hidden": [64, 64], "note": None}


@needs_wandb
def test_without_a_login_nothing_is_left_behind(tmp_path):
    said = python(SESSION, tmp_path / "runs", HOME=str(tmp_path))
    assert said.startswith("--track: ") and said.count("\n") == 1
    assert "WANDB_MODE=offline" in said and list((tmp_path / "runs").iterdir()) == []


def test_a_missing_extra_is_named_and_leaves_no_directory(tmp_path):
    code = f"import sys; sys.modules['wandb'] = None\n{SESSION}"
    assert python(code, tmp_path / "runs").startswith("--track needs wandb: pip install 'hesrl[")
    assert list((tmp_path / "runs").iterdir()) == []
