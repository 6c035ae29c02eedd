"""``hesrl doctor``: what works on this machine, what is missing, and how to get it."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import NamedTuple

import torch

from hesrl.errors import UserError, one_line
from hesrl.runs.provenance import PACKAGES, provenance
from hesrl.train_step.compilation import cache_folder, compile_seconds

OK, MISSING, BROKEN = "ok", "missing", "broken"

COMPILE = """
import time, torch
from hesrl.train_step.compilation import compiled
from hesrl.train_step.recording import record
x = torch.zeros(8)
graph = record(lambda: (x.tanh() + 1,), [x]).graph
start = time.perf_counter()
assert compiled(graph, [x])([x])[0].eq(1).all()
print(time.perf_counter() - start)
"""
"""Compiles a small function and calls it, in a process and a cache of its own."""

DRAW = """
import gymnasium
env = gymnasium.make("InvertedPendulum-v5", render_mode="rgb_array")
env.reset(seed=0)
assert env.render().any()
"""
"""Draws one picture, in a process of its own, since a broken OpenGL may end it."""


class Finding(NamedTuple):
    """What was found out about one thing."""

    name: str
    """Of the thing."""
    state: str
    """``ok``, ``missing`` (hesrl does without) or ``broken``."""
    detail: str
    """What there is, or what is wrong."""
    remedy: str = ""
    """How to get it, or to mend it."""


EXTRAS = {
    "SenseAct": (
        "senseact",
        "a UR5 through SenseAct",
        "pip install --no-deps git+https://github.com/kindredresearch/SenseAct",
    ),
    "Ray": ("ray", "sweeps on a cluster", "pip install 'hesrl[ray]'"),
    "video": ("imageio_ffmpeg", "--capture-video", "pip install 'hesrl[video]'"),
    "wandb": ("wandb", "--track", "pip install 'hesrl[track]'"),
    "ONNX": ("onnxruntime", "hesrl export", "pip install 'hesrl[export]'"),
    "contrib": (
        "sb3_contrib",
        "train sb3-ppo --recurrent, and TQC and others in Python",
        "pip install 'hesrl[contrib]'",
    ),
}
"""What else there is: module, what it is for, and how to get it."""

DISTRIBUTIONS = {"imageio_ffmpeg": "imageio-ffmpeg"}
"""Names of packages whose module has another one."""


@dataclass
class Args:
    """Say what works on this machine, what is missing, and how to get it."""

    json: bool = False
    """whether to print JSON, for programs"""


def main(args: Args) -> int:
    """Print what was found; return 1 if something is broken, else 0.

    Raises:
        UserError: A check does not end.
    """
    found = []
    for check in (_versions, _compiler, _cache, _rendering, _window, _gpu, _arm, _extras):
        for finding in check():
            found.append(finding)
            if not args.json:
                print(f"{finding.state:8} {finding.name:10} {finding.detail}", flush=True)
                if finding.remedy:
                    print(f"{'':19} → {finding.remedy}", flush=True)
    if args.json:
        print(json.dumps([finding._asdict() for finding in found], indent=2))
    return int(any(finding.state == BROKEN for finding in found))


def _versions() -> Iterator[Finding]:
    state = provenance()
    versions = {name: version for name, version in state["versions"].items() if version}
    words = ", ".join(f"{name} {version}" for name, version in versions.items())
    commit, changed = state["commit"], ", changed" if state["dirty"] else ""
    yield Finding("versions", OK, f"{words}; commit {commit[:12]}{changed}" if commit else words)
    lacking = ", ".join(name for name in PACKAGES if name not in versions)
    if lacking:
        yield Finding("packages", BROKEN, f"not installed: {lacking}", f"pip install {lacking}")
    yield Finding("machine", OK, f"{platform.platform()}, {os.cpu_count()} cores")


def _compiler() -> Iterator[Finding]:
    name = os.environ.get("CXX", "g++")
    without = "without it training steps are replayed, which takes longer"
    if shutil.which(name) is None:
        remedy = f"apt install g++ (Debian, Ubuntu), or set CXX; {without}"
        yield Finding("compiler", MISSING, f"no {name}", remedy)
        return
    with tempfile.TemporaryDirectory() as folder:
        done = _python(COMPILE, HESRL_CACHE=folder)
    if done.returncode:
        yield Finding("compiler", BROKEN, f"{name} fails: {_last_line(done)}", without)
        return
    yield Finding(
        "compiler",
        OK,
        f"{name} compiles a small function in {float(done.stdout):.1f} s; a training step takes "
        f"about {compile_seconds():.0f} s, once",
    )


def _cache() -> Iterator[Finding]:
    try:
        files = [file.stat() for file in cache_folder().iterdir() if file.is_file()]
    except OSError as error:
        yield Finding("cache", BROKEN, one_line(error), "set HESRL_CACHE to a folder of your own")
        return
    mebibytes = sum(file.st_size for file in files) / (1 << 20)
    detail = f"{cache_folder()}: {len(files)} files, {mebibytes:.0f} MiB; may be deleted"
    yield Finding("cache", OK, detail)


def _rendering() -> Iterator[Finding]:
    chosen = {"MUJOCO_GL": "egl"} if sys.platform == "linux" else {}
    how = {**chosen, **os.environ}.get("MUJOCO_GL", "the system's OpenGL")
    done = _python(DRAW, **{name: how for name in chosen})
    if done.returncode:
        remedy = "apt install libegl1 (Debian, Ubuntu), or set MUJOCO_GL; only videos need it"
        yield Finding("rendering", MISSING, f"by {how}: {_last_line(done)}", remedy)
        return
    yield Finding("rendering", OK, f"MuJoCo draws pictures by {how}")


def _window() -> Iterator[Finding]:
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        yield Finding("window", OK, "there is a screen to show episodes on")
        return
    yield Finding("window", MISSING, "no screen (DISPLAY)", "record videos instead")


def _gpu() -> Iterator[Finding]:
    if not torch.cuda.is_available():
        build = f"torch {torch.__version__}"
        yield Finding("GPU", MISSING, f"{build} sees none", "not needed: small networks want a CPU")
        return
    for number in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(number)
        gibibytes = gpu.total_memory / (1 << 30)
        yield Finding("GPU", OK, f"cuda:{number} {gpu.name}, {gibibytes:.0f} GiB")


def _arm() -> Iterator[Finding]:
    how = "over the real-time interface or RTDE (--env-options backend=rtde)"
    yield Finding("UR5", OK, f"{how}, without another package")


def _extras() -> Iterator[Finding]:
    for name, (module, purpose, remedy) in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield Finding(name, MISSING, f"not installed ({purpose})", remedy)
            continue
        try:
            version = metadata.version(DISTRIBUTIONS.get(module, module))
        except metadata.PackageNotFoundError:
            version = "of unknown version"
        yield Finding(name, OK, f"{version} ({purpose})")


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own.

    Raises:
        UserError: It has not ended after five minutes.
    """
    try:
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError("a check has not ended after five minutes: is the machine busy?") from error


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    return one_line(lines[-1]) if lines else f"ended with status {done.returncode}"
