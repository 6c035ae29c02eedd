"""What a node of a Ray cluster does: it runs a trial if it is set up as the sweep's machine is."""

from __future__ import annotations

import hashlib
import pickle
import uuid
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hesrl.experiments.sweeps.executors import run_in_process
from hesrl.experiments.sweeps.store import Record
from hesrl.experiments.sweeps.trial import Trial
from hesrl.runs.atomic import cannot_write
from hesrl.runs.provenance import provenance

SIGN = "ray-{}.sign"
CODE = "code of hesrl"


def task() -> Callable[[bytes], Any]:
    """Return what Ray runs on a node: a function of what `call` makes.

    Ray sends it as code, because it has no name in a module. So a node without hesrl runs it, too.
    The function returns the node's id in the cluster, and the trial's record or, in one line, why
    the node cannot run it.
    """

    def run(call: bytes) -> tuple[str, Any]:
        import pickle

        import ray

        address = ray.util.get_node_ip_address()
        try:
            function, *arguments = pickle.loads(call)
            outcome = function(address, *arguments)
        except Exception as error:  # of any type: who knows what is installed there
            outcome = (
                f"node {address} of the cluster cannot run hesrl: {type(error).__name__}: {error}; "
                "hesrl train has to work there, in the environment that ray start runs in"
            )
        return ray.get_runtime_context().get_node_id(), outcome

    return run


def call(trial: Trial, folder: Path, retry: bool, sign: Path) -> bytes:
    """Return a trial for the `task`.

    Args:
        trial: What to run.
        folder: Its folder.
        retry: Whether a run that cannot go on begins anew.
        sign: A file that only the sweep's own folder has (`put_sign`).
    """
    return pickle.dumps((run_on_node, trial, folder, retry, sign, installed()))


def run_on_node(
    address: str,
    trial: Trial,
    folder: Path,
    retry: bool,
    sign: Path,
    expected: Mapping[str, str | None],
) -> Record | str:
    """Run a trial on a node of the cluster.

    Returns:
        The trial's record; or one line, and nothing has run, if the node sees another folder than
        the sweep, or has other versions installed.
    """
    if not sign.exists():
        return (
            f"node {address} of the cluster does not see {sign.parent} of the sweep's machine: "
            "give an --out on a file system that all nodes share"
        )
    found = installed()
    for name, version in expected.items():
        if found[name] != version:
            return (
                f"node {address} of the cluster has {name} {found[name]}, the sweep's machine "
                f"{version}: install the same on all nodes"
            )
    return run_in_process(trial, folder, retry)


@cache
def installed() -> dict[str, str | None]:
    """Return what decides results: versions by package, and the digest of hesrl's code."""
    versions = provenance()["versions"]
    del versions["python"]  # Ray compares it
    # The build of a version, such as +cpu, is the machine's affair.
    found = {name: (v or "").partition("+")[0] or None for name, v in versions.items()}
    return found | {CODE: _digest()}


def _digest() -> str:
    """Return 12 hex digits of the SHA-256 of hesrl's files, by their places in the package."""
    import hesrl
    from hesrl import agents, configs, envs

    files = {}
    for package in (hesrl, agents, configs, envs):
        root, name = Path(package.__path__[0]), Path(*package.__name__.split("."))
        for file in root.rglob("*"):
            if file.suffix in (".py", ".cpp", ".h", ".yaml"):
                files[str(name / file.relative_to(root))] = file
    digest = hashlib.sha256()
    for place in sorted(files):
        digest.update(place.encode() + b"\0" + files[place].read_bytes())
    return digest.hexdigest()[:12]


def put_sign(folder: Path) -> Path:
    """Put a file into the sweep's folder that no other folder has, in place of an earlier one.

    Its name is new each time: a shared file system may remember for a while what it has not found.

    Raises:
        UserError: The folder cannot be written.
    """
    sign = folder.absolute() / SIGN.format(uuid.uuid4().hex)
    try:
        for old in folder.glob(SIGN.format("*")):
            old.unlink(missing_ok=True)
        sign.touch()
    except OSError as error:
        raise cannot_write(sign, error) from error
    return sign
