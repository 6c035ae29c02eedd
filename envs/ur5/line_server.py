"""TCP ports that take lines of text or bytes, all served in one thread."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from typing import Any

from hesrl.errors import UserError

_LONGEST_BACKLOG = 1 << 20
"""A client that leaves so many bytes unread is dropped."""
_LONGEST_LINE = 1 << 14

Answer = Callable[[str], str | None]
"""Takes a line and gives the line to send back, or None for none."""
Take = Callable[[bytes], None]
"""Takes bytes that have come."""


class Client:
    """One connection.

    Attributes:
        port: The port that it came to.
        take: Called with the bytes that come.
        held_back: What is to be sent before anything else, for whoever cuts it into pieces.
    """

    def __init__(self, connection: socket.socket, port: int) -> None:
        self.connection, self.port = connection, port
        self.take: Take = lambda data: None
        self.unsent = bytearray()
        self.held_back = b""


class LineServer:
    """Ports, and the connections to them."""

    def __init__(self) -> None:
        # select() takes microseconds; the timeouts of epoll are rounded up to milliseconds.
        self._selector = selectors.SelectSelector()
        self._clients: list[Client] = []

    def listen(self, host: str, port: int, answer: Answer, greeting: str = "") -> int:
        """Open a port that takes lines.

        Args:
            host: Address to listen on.
            port: Its number, or 0 for any that is free.
            answer: Called with each line that comes in.
            greeting: Line that a new connection receives.

        Returns:
            The port's number.

        Raises:
            UserError: The port cannot be opened.
        """

        def connected(client: Client) -> Take:
            if greeting:
                self.send(client, greeting.encode() + b"\n")
            return self.lines(client, answer)

        return self.listen_for_bytes(host, port, connected)

    def listen_for_bytes(self, host: str, port: int, connected: Callable[[Client], Take]) -> int:
        """Open a port that takes bytes.

        Args:
            host: Address to listen on.
            port: Its number, or 0 for any that is free.
            connected: Called with each new connection; gives what takes its bytes.

        Returns:
            The port's number.

        Raises:
            UserError: The port cannot be opened.
        """
        try:
            listener = socket.create_server((host, port))
        except (OSError, OverflowError) as error:
            raise UserError(
                f"cannot listen on {host}:{port}: {error}; name another port"
            ) from error
        listener.setblocking(False)
        bound: int = listener.getsockname()[1]

        def accept() -> None:
            connection, _ = listener.accept()
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = Client(connection, bound)
            self._clients.append(client)
            self._selector.register(connection, selectors.EVENT_READ, client)
            client.take = connected(client)

        self._selector.register(listener, selectors.EVENT_READ, accept)
        return bound

    def lines(self, client: Client, answer: Answer) -> Take:
        """Return what takes the bytes of a client as lines, each of which is answered."""
        received = bytearray()

        def take(data: bytes) -> None:
            nonlocal received
            received += data
            *lines, received = received.split(b"\n")
            if len(received) > _LONGEST_LINE:
                self.drop(client)
                return
            for line in lines:
                reply = answer(line.decode("utf-8", errors="replace").strip())
                if client not in self._clients:
                    return
                if reply is not None:
                    self.send(client, reply.encode() + b"\n")

        return take

    def clients(self, port: int) -> list[Client]:
        """Return the connections to a port."""
        return [client for client in self._clients if client.port == port]

    def wait(self, timeout: float) -> list[Any]:
        """Return what `serve` takes, as soon as there is something or after ``timeout`` seconds."""
        return [key.data for key, _ in self._selector.select(timeout)]

    def serve(self, ready: list[Any]) -> None:
        """Accept connections, and read what has come."""
        for one in ready:
            if not isinstance(one, Client):
                one()
            elif one in self._clients:
                self._read(one)

    def send(self, client: Client, data: bytes) -> None:
        """Send to a client, after what waits, unless it is gone; drop one that does not read."""
        if client not in self._clients:
            return
        client.unsent += data
        try:
            while client.unsent:
                del client.unsent[: client.connection.send(client.unsent)]
        except BlockingIOError:
            if len(client.unsent) > _LONGEST_BACKLOG:
                self.drop(client)
        except ConnectionError:
            # It may have left lines to read; the end of them drops it.
            client.unsent.clear()

    def drop(self, client: Client) -> None:
        """Close a connection; again is harmless."""
        if client in self._clients:
            self._clients.remove(client)
            self._selector.unregister(client.connection)
            client.connection.close()

    def close(self) -> None:
        """Close all ports and connections."""
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._clients.clear()
        self._selector.close()

    def _read(self, client: Client) -> None:
        try:
            data = client.connection.recv(1 << 16)
        except ConnectionError:
            data = b""
        if data:
            client.take(data)
        else:
            self.drop(client)
