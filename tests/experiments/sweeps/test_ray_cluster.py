"""Ray that is missing or does not answer, and nodes that are not set up, are one line each.

test_sweep_kills.py runs a sweep on Ray, and tests/torture/cluster.py on several hosts.
"""

import concurrent.futures
import contextlib
import pickle
import socket
import sys
import threading
from types import SimpleNamespace

import pytest

from hesrl.errors import EnvironmentFault, UserError
from hesrl.experiments.sweeps import ray_cluster
from hesrl.experiments.sweeps.cluster_node import CODE, installed, put_sign, run_on_node, task
from hesrl.experiments.sweeps.ray_cluster import RayCluster
from hesrl.experiments.sweeps.trial import Trial

TRIAL = Trial("a2c", (("env_id", "InvertedPendulum-v5"),), 1)


def test_ray_is_needed_only_where_it_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"^--executor ray needs Ray: pip install 'hesrl\[ray\]'$"):
        RayCluster(1, None, tmp_path)


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
        RayCluster(1, address, tmp_path)
    with pytest.raises(UserError, match=r"^--address localhost:1: no Ray cluster: it does not"):
        RayCluster(1, "localhost:1", tmp_path)
    with pytest.raises(UserError, match=r"^--address somewhere: no Ray cluster: Invalid address"):
        RayCluster(1, "somewhere", tmp_path)


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
        RayCluster(1, address, tmp_path)


@pytest.mark.cluster
def test_a_machine_outside_the_cluster_is_told_how_to_join_it(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_cluster, "_check_answer", lambda *_: None)
    monkeypatch.setattr("ray._private.services.find_node_ids", set)
    line = r"^--address 10.0.0.1:6379: no Ray cluster: .* ray start --address=10.0.0.1:6379 --num-c"
    with pytest.raises(UserError, match=line):
        RayCluster(1, "10.0.0.1:6379", tmp_path)


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
    monkeypatch.setattr("ray.cluster_resources", dict)
    monkeypatch.setattr(ray_cluster, "_addresses", lambda _: ("node", "head"))
    monkeypatch.setattr(ray_cluster, "_answers", lambda address: address != gone)
    pool = RayCluster(None, None, tmp_path)
    if gone == "head":
        assert pool.wait(0) == []
        monkeypatch.setattr(ray_cluster, "SILENCE_SECONDS", 0.0)
    with pytest.raises(EnvironmentFault, match=line):
        pool.wait(0)
    pool.close()
    assert not [*tmp_path.iterdir()]


def on_node(folder, sign, **other):
    return run_on_node("10.0.0.2", TRIAL, folder, False, sign, installed() | other)


def test_a_node_that_sees_another_folder_runs_nothing(tmp_path):
    line = f"^node 10.0.0.2 of the cluster does not see {tmp_path} of the sweep's machine: give"
    with pytest.raises(UserError, match=line):
        on_node(tmp_path, tmp_path / "ray-1.sign")
    assert not [*tmp_path.iterdir()]


def test_a_node_with_other_versions_runs_nothing(tmp_path):
    sign = put_sign(tmp_path)
    for name, version in {"torch": "1.0", "mujoco": None, CODE: "0" * 12}.items():
        with pytest.raises(UserError, match=f"^node 10.0.0.2 of the cluster has {name} "):
            on_node(tmp_path, sign, **{name: version})
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
def test_a_node_without_the_same_hesrl_says_which_it_is(monkeypatch):
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "10.0.0.2")
    call = pickle.dumps((run_on_node,)).replace(b"run_on_node", b"run_in_ship")
    with pytest.raises(RuntimeError, match=r"^node 10.0.0.2 of the cluster cannot run .*ship"):
        task()(call)


def test_each_sweep_puts_a_sign_of_its_own_into_its_folder(tmp_path):
    first = put_sign(tmp_path)
    second = put_sign(tmp_path)
    assert first != second and [*tmp_path.iterdir()] == [second]
    with pytest.raises(UserError, match=r"^cannot write .*nowhere/ray-.*: No such file"):
        put_sign(tmp_path / "nowhere")
