"""Ray that is missing or does not answer, and nodes that are not set up, are one line each.

test_sweep_kills.py runs a sweep on Ray, and tests/torture/cluster.py on several hosts.
"""

import concurrent.futures
import contextlib
import dataclasses
import os
import pickle
import socket
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from hesrl.errors import EnvironmentFault, UserError
from hesrl.experiments.sweeps import ray_cluster
from hesrl.experiments.sweeps.cluster_node import CODE, installed, put_sign, run_on_node, task
from hesrl.experiments.sweeps.ray_cluster import RayCluster
from hesrl.experiments.sweeps.store import Record
from hesrl.experiments.sweeps.trial import Trial

TRIAL = Trial("a2c", (("env_id", "InvertedPendulum-v5"),), 1)


def test_ray_is_needed_only_where_it_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"^--executor ray needs Ray: pip install 'hesrl\[ray\]'$"):
        RayCluster(1, None, tmp_path, print)


@contextlib.contextmanager
def no_ray():
    """A server that answers, but not as Ray does."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.cluster
def test_an_address_that_does_not_answer_is_refused(tmp_path):
    with no_ray() as address, pytest.raises(UserError, match=f"^--address {address}: no Ray clus"):
        RayCluster(1, address, tmp_path, print)
    with pytest.raises(UserError, match=r"^--address localhost:1: no Ray cluster: it does not"):
        RayCluster(1, "localhost:1", tmp_path, print)
    with pytest.raises(UserError, match=r"^--address somewhere: no Ray cluster: Invalid address"):
        RayCluster(1, "somewhere", tmp_path, print)


@contextlib.contextmanager
def asks_for_a_token():
    """A server that refuses all tokens, as Ray does."""
    grpc = pytest.importorskip("grpc", reason="comes with Ray")

    class Refuses(grpc.GenericRpcHandler):
        def service(self, _):
            def refuse(_, context):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "token")

            return grpc.unary_unary_rpc_method_handler(refuse)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, handlers=[Refuses()])
        port = server.add_insecure_port("0.0.0.0:0")  # Ray asks at the address of the network
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("token", "line"),
    [({}, "it asks for a token: set RAY_AUTH_MODE"), ({"authorization": "x"}, "it refuses the t")],
)
def test_a_token_that_is_missing_or_wrong_is_refused(token, line, tmp_path, monkeypatch):
    loader = SimpleNamespace(has_token=lambda: bool(token), get_token_for_http_header=lambda: token)
    found = SimpleNamespace(instance=lambda: loader)
    monkeypatch.setattr("ray._raylet.AuthenticationTokenLoader", found)
    with asks_for_a_token() as address, pytest.raises(UserError, match=line):
        RayCluster(1, address, tmp_path, print)


@pytest.mark.cluster
def test_a_machine_outside_the_cluster_is_told_how_to_join_it(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_cluster, "_check_answer", lambda *_: None)
    monkeypatch.setattr("ray._private.services.find_node_ids", set)
    line = r"^--address 10.0.0.1:6379: no Ray cluster: .* ray start --address=10.0.0.1:6379 --num-c"
    with pytest.raises(UserError, match=line):
        RayCluster(1, "10.0.0.1:6379", tmp_path, print)


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("gone", "line"),
    [
        ("node", "^Ray's node process has gone: run the"),
        ("head", "^the head of the Ray cluster do"),
    ],
)
def test_a_cluster_that_has_gone_ends_the_sweep(gone, line, tmp_path, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.nodes", list)
    monkeypatch.setattr(ray_cluster, "_addresses", lambda _: ("node", "head"))
    monkeypatch.setattr(ray_cluster, "_answers", lambda address: address != gone)
    pool = RayCluster(None, None, tmp_path, print)
    if gone == "head":
        assert pool.wait(0) == []
        monkeypatch.setattr(ray_cluster, "SILENCE_SECONDS", 0.0)
    with pytest.raises(EnvironmentFault, match=line):
        pool.wait(0)
    pool.close()
    assert not [*tmp_path.iterdir()]


class FakeRay:
    """Nodes with one core each; a trial runs on the first one that its selector lets it."""

    def __init__(self, bad, good=()):
        self.bad, self.good, self.sent = bad, good, []
        self.exceptions = pytest.importorskip("ray").exceptions

    def nodes(self):
        return [
            {"NodeID": node, "Alive": True, "Resources": {"CPU": 1.0}}
            for node in (*self.bad, *self.good)
        ]

    def options(self, label_selector):
        without = label_selector["ray.io/node-id"][4:-1].split(",") if label_selector else []
        left = [node["NodeID"] for node in self.nodes() if node["NodeID"] not in without]
        return SimpleNamespace(remote=lambda content: self._run(content, left))

    def _run(self, content, left):
        future = concurrent.futures.Future()
        self.sent.append(left[:1])
        if left:
            trial = pickle.loads(content)[1]
            future.set_result((left[0], self.bad.get(left[0]) or Record(trial, "done")))
        return SimpleNamespace(future=lambda: future)

    def cancel(self, ref, force=False):
        """Let it be: what runs here has ended."""


@contextlib.contextmanager
def cluster_on(ray, folder, monkeypatch, jobs=None):
    """A cluster of fake nodes, and the lines that it says."""
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr(ray_cluster, "_addresses", lambda _: ("node", "head"))
    monkeypatch.setattr(ray_cluster, "_answers", lambda _: True)
    monkeypatch.setattr("ray.nodes", ray.nodes)
    lines = []
    pool = RayCluster(jobs, None, folder, lines.append)
    pool._ray, pool._task = ray, ray
    yield pool, lines
    pool.close()


@pytest.mark.cluster
def test_bad_nodes_are_named_once_and_their_trials_go_elsewhere(tmp_path, monkeypatch):
    ray = FakeRay({"a": "node a has\nno hesrl", "b": "node b sees another folder"}, ["c"])
    with cluster_on(ray, tmp_path, monkeypatch) as (pool, lines):
        assert pool.slots() == 3
        trials = [TRIAL, dataclasses.replace(TRIAL, seed=2)]
        for trial in trials:
            pool.submit(trial, tmp_path, retry=False)
        ended = [record for _ in range(3) for record in pool.wait(0)]
        assert ended == [Record(trial, "done") for trial in trials]
        assert lines == ["left out: node a has no hesrl", "left out: node b sees another folder"]
        pool.submit(TRIAL, tmp_path, retry=False)
        assert pool.slots() == 1 and ray.sent[-1] == ["c"]
        pool.wait(0)


@pytest.mark.cluster
def test_a_cluster_of_bad_nodes_ends_the_sweep(tmp_path, monkeypatch):
    ray = FakeRay({"a": "node a has no hesrl", "b": "node b has no hesrl"})
    with cluster_on(ray, tmp_path, monkeypatch, jobs=3) as (pool, lines):
        for seed in range(3):
            pool.submit(dataclasses.replace(TRIAL, seed=seed), tmp_path, retry=False)
        assert pool.wait(0) == pool.wait(0) == []
        with pytest.raises(UserError, match=r"^node b has no hesrl$"):
            pool.wait(0)
        assert lines == ["left out: node a has no hesrl"]


@pytest.mark.cluster
def test_a_trial_of_a_bad_node_goes_nowhere_after_ctrl_c(tmp_path, monkeypatch):
    ray = FakeRay({"a": "node a has no hesrl"})
    with cluster_on(ray, tmp_path, monkeypatch) as (pool, lines):
        pool.submit(TRIAL, tmp_path, retry=False)
        pool.stop()
        assert pool.wait(0) == [Record(TRIAL, "pending", "stopped")]
        assert pool.wait(0) == [] and ray.sent == [["a"]] and not lines


@contextlib.contextmanager
def three_nodes():
    """Ray with a node without cores, which is this process's, a bad one and a good one."""
    ray = pytest.importorskip("ray")
    cluster = pytest.importorskip("ray.cluster_utils").Cluster()
    try:
        for cpus, marks in [(0, {}), (2, {"BAD_NODE": "yes"}), (1, {})]:
            cluster.add_node(num_cpus=cpus, env_vars=marks, include_dashboard=False)
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
        yield ray
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.cluster
def test_ray_sends_no_more_trials_to_a_node_that_is_left_out(tmp_path):
    named = tmp_path / "named"

    def run(content):
        """Be bad on the bad node; on the other one wait, so that the bad one gets trials."""
        node = ray.get_runtime_context().get_node_id()
        trial = pickle.loads(content)[1]
        if "BAD_NODE" in os.environ:
            (tmp_path / f"{trial.seed}.bad").touch()
            return node, "node is bad"
        while not named.exists():
            time.sleep(0.1)
        return node, Record(trial, "done")

    with three_nodes() as ray:
        pool = RayCluster(None, None, tmp_path, lambda line: named.write_text(line + "\n"))
        pool._task = ray.remote(num_cpus=1, max_retries=0)(run)
        assert pool.slots() == 3
        for seeds in (range(3), range(3, 6)):
            for seed in seeds:
                pool.submit(dataclasses.replace(TRIAL, seed=seed), tmp_path, retry=False)
            ended = []
            while len(ended) < 3:
                ended += pool.wait(1.0)
            assert {(record.trial.seed, record.status) for record in ended} == {
                (seed, "done") for seed in seeds
            }
            assert pool.slots() == 1 and named.read_text() == "left out: node is bad\n"
        pool.close()
    bad = {path.name for path in tmp_path.glob("*.bad")}
    assert bad and bad <= {"0.bad", "1.bad", "2.bad"}


def on_node(folder, sign, **other):
    return run_on_node("10.0.0.2", TRIAL, folder, False, sign, installed() | other)


def test_a_node_that_sees_another_folder_runs_nothing(tmp_path):
    line = f"node 10.0.0.2 of the cluster does not see {tmp_path} of the sweep's machine: give"
    assert on_node(tmp_path, tmp_path / "ray-1.sign").startswith(line)
    assert not [*tmp_path.iterdir()]


def test_a_node_with_other_versions_runs_nothing(tmp_path):
    sign = put_sign(tmp_path)
    for name, version in {"torch": "1.0", "mujoco": None, CODE: "0" * 12}.items():
        line = on_node(tmp_path, sign, **{name: version})
        assert line.startswith(f"node 10.0.0.2 of the cluster has {name} ")
    assert [*tmp_path.iterdir()] == [sign]


def test_the_code_of_hesrl_is_told_from_other_code(tmp_path, monkeypatch):
    file = tmp_path / "ppo.py"
    monkeypatch.setattr("hesrl.agents.__path__", [str(tmp_path)])
    digests = []
    for text in ("x = 1", "x = 2", "x = 1"):
        file.write_text(text)
        installed.cache_clear()
        digests.append(installed()[CODE])
    installed.cache_clear()
    assert digests[0] == digests[2] != digests[1]


@pytest.mark.cluster
@pytest.mark.parametrize("error", [ImportError, AttributeError, OSError, SyntaxError, RuntimeError])
def test_a_node_that_cannot_import_hesrl_says_which_it_is(error, monkeypatch):
    def broken(call):
        raise error("no libcuda")

    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "10.0.0.2")
    monkeypatch.setattr(
        "ray.get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "a1")
    )
    monkeypatch.setattr("pickle.loads", broken)
    line = f"node 10.0.0.2 of the cluster cannot run hesrl: {error.__name__}: no libcuda; hesrl tra"
    node, outcome = task()(b"")
    assert node == "a1" and outcome.startswith(line)


def test_each_sweep_puts_a_sign_of_its_own_into_its_folder(tmp_path):
    first = put_sign(tmp_path)
    second = put_sign(tmp_path)
    assert first != second and [*tmp_path.iterdir()] == [second]
    with pytest.raises(UserError, match=r"^cannot write .*nowhere/ray-.*: No such file"):
        put_sign(tmp_path / "nowhere")
