"""Ray that is missing or does not answer is one line; test_sweep_kills.py runs a sweep on it."""

import contextlib
import socket
import sys
import threading

import pytest

from hesrl.errors import UserError
from hesrl.experiments.sweeps.ray_cluster import RayCluster, run_on_node


def test_ray_is_needed_only_where_it_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"^--executor ray needs Ray: pip install 'hesrl\[ray\]'$"):
        RayCluster(1, None)


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
def test_an_address_that_does_not_answer_is_refused():
    with no_ray() as address, pytest.raises(UserError, match=f"^--address {address}: no Ray clus"):
        RayCluster(1, address)
    with pytest.raises(UserError, match=r"^--address localhost:1: no Ray cluster: it does not"):
        RayCluster(1, "localhost:1")
    with pytest.raises(UserError, match=r"^--address somewhere: no Ray cluster: Invalid address"):
        RayCluster(1, "somewhere")


def test_a_node_says_if_it_does_not_see_the_folder(tmp_path):
    assert run_on_node(None, tmp_path / "elsewhere", retry=False) is None
