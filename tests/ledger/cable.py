"""A cable between a client and a PostgreSQL server that can be cut at any message."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

SOCKET = ".s.PGSQL.5432"


@dataclass
class Cable:
    """Listens at a socket in its own directory and hands everything on, until it is cut."""

    server: Path
    """Directory of the server's socket."""
    directory: Path
    """Where clients find this one's."""
    cut_before_request: int | None = None
    """Cut instead of handing on the client's message of this number, counted from `arm`."""
    cut_before_reply: int | None = None
    """Cut instead of handing on what the server answered to that message."""
    cuts: int = 0
    _requests: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, *, before_request: int | None = None, before_reply: int | None = None) -> None:
        """Count from here, and cut once, there."""
        with self._turn:
            self._requests = self.cuts = 0
            self.cut_before_request, self.cut_before_reply = before_request, before_reply

    def serve(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                server = socket.socket(socket.AF_UNIX)
                self._sockets += [client, server]
                try:
                    server.connect(str(self.server / SOCKET))
                except OSError:
                    client.close()
                    continue
                for work in (self._ask, self._answer):
                    threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while message := client.recv(1 << 20):
                with self._turn:
                    self._requests += 1
                    cut = self._requests == self.cut_before_request
                    self.cuts += cut
                if cut:
                    break
                server.sendall(message)
        self._drop(client, server)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while message := server.recv(1 << 20):
                with self._turn:
                    cut = self._requests == self.cut_before_reply and not self.cuts
                    self.cuts += cut
                if cut:  # the server has answered, so it has done what was asked
                    break
                client.sendall(message)
        self._drop(client, server)

    def _drop(self, *sockets: socket.socket) -> None:
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for one in self._sockets:
            one.close()


@contextmanager
def cable_to(server: Path, directory: Path) -> Iterator[Cable]:
    """A cable to the server whose socket is in that directory."""
    cable = Cable(server, directory)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(directory / SOCKET))
    listening.listen()
    thread = threading.Thread(target=cable.serve, args=(listening,), daemon=True)
    thread.start()
    try:
        yield cable
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
        cable.close()
