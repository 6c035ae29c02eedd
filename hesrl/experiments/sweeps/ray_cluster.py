"""Trials on a Ray cluster: one core each, in processes of the same kind as on one machine."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, NamedTuple

from hesrl.errors import EnvironmentFault, UserError, one_line
from hesrl.experiments.sweeps.cluster_node import call, put_sign, task
from hesrl.experiments.sweeps.store import Record
from hesrl.experiments.sweeps.trial import Trial
from hesrl.rl.threads import cores

ANSWER_SECONDS = 5.0
"""Time within which a cluster has to answer."""
SILENCE_SECONDS = 30.0
"""How long a cluster's head may be silent; after a minute Ray would end the sweep's process."""
AGAIN = "run the same command again, runs go on from their checkpoints"
LOST = f"Ray's node process has gone: {AGAIN}"
HEAD_LOST = f"the head of the Ray cluster does not answer any more: when it does, {AGAIN}"


class _Sent(NamedTuple):
    ref: Any
    trial: Trial
    content: bytes


class RayCluster:
    """A Ray cluster, whose nodes see the sweep's folder.

    A node that cannot run trials is named once and gets no more; its trial goes to another node.

    Args:
        jobs: Trials at the same time; None: one for each core of the cluster.
        address: ``auto`` or ``HOST:PORT`` of a cluster; None: one of this machine, which ends with
            the sweep.
        folder: The sweep's folder, which has to be there.
        say: Gets one line for each node that is left out.

    Raises:
        UserError: Ray is not installed, no cluster answers, or the folder cannot be written.
    """

    def __init__(
        self, jobs: int | None, address: str | None, folder: Path, say: Callable[[str], object]
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError("--executor ray needs Ray: pip install 'hesrl[ray]'") from error
        self._ray: Any = ray
        self._jobs = jobs
        self._close = contextlib.ExitStack()
        if not ray.is_initialized():
            _connect(ray, jobs, address)
            # It would print pages of Ray's own log when Ray's process here has gone.
            worker, printing = ray._private.worker, "print_to_stdstream"
            self._close.callback(setattr, worker, printing, getattr(worker, printing))
            setattr(worker, printing, lambda *_, **__: None)
            self._close.callback(ray.shutdown)
        self._node, self._head = _addresses(ray)
        self._heard = time.monotonic()
        self._task = ray.remote(num_cpus=1, max_retries=0)(task())
        self._sign = put_sign(folder)
        self._close.callback(self._sign.unlink, missing_ok=True)
        self._say = say
        self._running: dict[Future[tuple[str, Record | str]], _Sent] = {}
        self._unfit: dict[str, str] = {}  # why, by the node's id
        self._stopped = False
        self._cores = self._count_cores()

    def slots(self) -> int:
        """Return the number of jobs, or of the cores of the nodes that can run trials."""
        return self._cores if self._jobs is None else self._jobs

    def submit(self, trial: Trial, folder: Path, retry: bool) -> None:
        """Start a trial in its folder."""
        self._send(trial, call(trial, folder.absolute(), retry, self._sign))

    def _send(self, trial: Trial, content: bytes) -> None:
        others = {"ray.io/node-id": f"!in({','.join(self._unfit)})"} if self._unfit else None
        ref = self._task.options(label_selector=others).remote(content)
        self._running[ref.future()] = _Sent(ref, trial, content)

    def wait(self, seconds: float) -> list[Record]:
        """Return the records of trials that have ended, after some seconds at the latest.

        Raises:
            EnvironmentFault: Ray's process on this machine has gone, or the cluster's head.
            UserError: All nodes see another folder, or have another hesrl or none.
        """
        if not _answers(self._node):
            self._running.clear()
            raise EnvironmentFault(LOST)
        if _answers(self._head):
            self._heard = time.monotonic()
            self._cores = self._count_cores()
        elif time.monotonic() - self._heard > SILENCE_SECONDS:
            self._running.clear()
            raise EnvironmentFault(HEAD_LOST)
        if self._unfit and not self._cores and not self._stopped:
            raise UserError([*self._unfit.values()][-1])
        if not self._running:
            time.sleep(seconds)
            return []
        # Not `ray.wait`, which hangs for some seconds if Ray's process here ends meanwhile.
        ready, _ = wait(self._running, seconds, FIRST_COMPLETED)
        in_order = [future for future in self._running if future in ready]
        ended = [self._record(future, self._running.pop(future)) for future in in_order]
        return [record for record in ended if record is not None]

    def stop(self) -> None:
        """Ask all trials to save themselves and end."""
        self._stopped = True
        for sent in self._running.values():
            self._ray.cancel(sent.ref)

    def close(self) -> None:
        """End what still runs, at once, and leave the cluster."""
        for sent in self._running.values():
            self._ray.cancel(sent.ref, force=True)
        self._running.clear()
        self._close.close()

    def _count_cores(self) -> int:
        """Return the cores of the nodes that can run trials, as far as is known."""
        nodes = (n for n in self._ray.nodes() if n["Alive"] and n["NodeID"] not in self._unfit)
        return sum(int(node["Resources"].get("CPU", 0)) for node in nodes)

    def _record(self, future: Future[tuple[str, Record | str]], sent: _Sent) -> Record | None:
        """Return how a trial has ended; None if it goes to another node."""
        errors = self._ray.exceptions
        try:
            node, outcome = future.result()
        except errors.TaskCancelledError:
            return Record(sent.trial, "pending", "stopped")
        except errors.RayTaskError as error:
            raise UserError(one_line(error.cause)) from error
        except errors.RayError as error:
            return Record(sent.trial, "pending", f"killed: {type(error).__name__}")
        if isinstance(outcome, Record):
            return outcome
        self._leave_out(node, one_line(outcome))
        if self._stopped:
            return Record(sent.trial, "pending", "stopped")
        self._send(sent.trial, sent.content)
        return None

    def _leave_out(self, node: str, why: str) -> None:
        """Send no more trials to a node, and say so once; of the last one `wait` says it."""
        if node in self._unfit:
            return  # it had got several trials
        self._unfit[node] = why
        self._cores = self._count_cores()
        if self._cores:
            self._say(f"left out: {why}")


def _connect(ray: Any, jobs: int | None, address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        number = cores() if jobs is None else jobs
        ray.init("local", num_cpus=number, include_dashboard=False, **quiet)
        return
    from ray._private.services import canonicalize_bootstrap_address_or_die, find_node_ids

    try:
        _check_answer(ray, canonicalize_bootstrap_address_or_die(address), address)
        if not find_node_ids():  # `ray.init` would look for it for a minute
            raise ConnectionError(
                "this machine is not in it: run the sweep on one of its nodes, or make this "
                f"machine a node that runs nothing: ray start --address={address} --num-cpus=0"
            )
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UserError(f"--address {address}: no Ray cluster: {one_line(error)}") from error


def _check_answer(ray: Any, found: str, address: str) -> None:
    """Refuse ``HOST:PORT`` at once where Ray does not answer; `ray.init` would try for minutes.

    Raises:
        ConnectionError: The message says what is wrong.
    """
    import grpc

    loader = ray._raylet.AuthenticationTokenLoader.instance()
    token = loader.get_token_for_http_header() if loader.has_token() else {}
    with grpc.insecure_channel(found) as channel:
        call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
        try:
            call(b"", timeout=ANSWER_SECONDS, metadata=[*token.items()])
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAUTHENTICATED:
                raise ConnectionError("it does not answer") from error
            if token:
                raise ConnectionError(
                    "it refuses the token: put its own into RAY_AUTH_TOKEN or ~/.ray/auth_token"
                ) from error
            # Ray sends a token of itself to the address "auto" only.
            if address != "auto":
                raise ConnectionError(
                    "it asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN if the token "
                    "is not in ~/.ray/auth_token"
                ) from error


def _addresses(ray: Any) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return address and port of Ray's process on this machine, and of the cluster's head."""
    context = ray.get_runtime_context()
    own = context.get_node_id()
    (node,) = (node for node in ray.nodes() if node["NodeID"] == own)
    host, _, port = context.gcs_address.rpartition(":")
    return (node["NodeManagerAddress"], node["NodeManagerPort"]), (host.strip("[]"), int(port))


def _answers(address: tuple[str, int]) -> bool:
    """Return whether a process listens at an address."""
    try:
        socket.create_connection(address, ANSWER_SECONDS).close()
    except OSError:
        return False
    return True
