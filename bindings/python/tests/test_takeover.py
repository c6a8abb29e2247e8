"""Handing over listening sockets: the protocol, and real servers restarted while clients keep
coming."""

from __future__ import annotations

import http.client
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sendfd
from conftest import SIG, MakeChild, need
from sendfd import takeover

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


OFFER = """
from sendfd import takeover
a, b = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
left = []
with takeover.Offer(SIG, {"a": a, "b": b}, lambda: left.append(1)) as offer:
    print(a.getsockname()[1], b.getsockname()[1], flush=True)
    assert offer.left.wait(60)
    sys.stdin.read()
assert left == [1]
a.close(), b.close()
"""


def test_the_whole_exchange(child: MakeChild) -> None:
    old = child(OFFER)
    ports = [int(word) for word in old.line().split()]
    with takeover.take(old, SIG) as taken:
        assert [s.getsockname()[1] for s in taken.sockets.values()] == ports
        assert list(taken.sockets) == ["a", "b"]
        assert not any(os.get_inheritable(s.fileno()) for s in taken.sockets.values())
        assert not taken.wait_left(0)
        with pytest.raises(takeover.Refused, match="another process is taking over"):
            takeover.take(old, SIG)
        taken.serving()
        assert taken.wait_left(60)
    old.end()
    for one in taken.sockets.values():
        socket.create_connection(one.getsockname()).close()
        one.close()


def test_giving_up_changes_nothing(child: MakeChild) -> None:
    old = child(OFFER)
    old.line()
    with takeover.take(old, SIG) as taken:
        address = taken.sockets["a"].getsockname()
    for one in taken.sockets.values():
        assert one.fileno() == -1
    socket.create_connection(address).close()
    # The next may ask, once the old one has seen that the first gave up.
    while True:
        try:
            taken = takeover.take(old, SIG)
            break
        except takeover.Refused:
            time.sleep(0.01)
    with taken:
        taken.serving()
        assert taken.wait_left(60)
    for one in taken.sockets.values():
        one.close()
    old.end()


def test_what_is_no_offer(receiver: sendfd.Receiver) -> None:
    answers = [
        (b"refuse too busy\n", [], takeover.Refused, "too busy"),
        (b"", [], ConnectionAbortedError, "without an offer"),
        (b"offer a b\n", [0], ConnectionAbortedError, "without an offer"),
        (b"offer a a\n", [0, 0], ConnectionAbortedError, "without an offer"),
        (b"offer\n", [], ConnectionAbortedError, "without an offer"),
        (b"x" * 5000, [0], ConnectionAbortedError, "without an offer"),
    ]
    with socket.create_server(("127.0.0.1", 0)) as one:
        for line, fds, error, words in answers:

            def answer(line: bytes = line, fds: list[int] = fds) -> None:
                with receiver.recv(60) as message, message.socket() as asking:
                    assert message.data == b"takeover 1"
                    if line:
                        socket.send_fds(asking, [line], [one.fileno() for _ in fds])

            thread = threading.Thread(target=answer)
            thread.start()
            with pytest.raises(error, match=words):
                takeover.take(os.getpid(), SIG)
            thread.join()
    with pytest.raises(TimeoutError):
        takeover.take(os.getpid(), SIG, timeout=0.01)
    receiver.recv(60).close()


def test_an_unknown_version_is_refused(child: MakeChild) -> None:
    old = child(OFFER)
    old.line()
    near, far = socket.socketpair()
    with near:
        with far:
            sendfd.send(old, SIG, far, data=b"takeover 9")
        near.settimeout(60)
        assert near.recv(100) == b"refuse only version 1 of the protocol is spoken here\n"
        assert near.recv(100) == b""


def test_take_or_listen(child: MakeChild, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    wanted: dict[str, tuple[str, int] | str] = {"a": ("127.0.0.1", 0), "unix": path}
    old = child(OFFER)
    ports = [int(word) for word in old.line().split()]
    with takeover.take_or_listen(wanted, old=old, sig=SIG) as taken:
        assert list(taken.sockets) == ["a", "unix"]
        assert taken.sockets["a"].getsockname()[1] == ports[0]
        with pytest.raises(OSError, match="in use"):
            takeover.take_or_listen(wanted, old=None, sig=SIG)
        taken.serving()
        assert taken.wait_left(60)
    for one in taken.sockets.values():
        one.close()
    old.end()
    # Nobody is left: all are opened, also where a path was left behind.
    with takeover.take_or_listen(wanted, old=old, sig=SIG) as taken:
        socket.create_connection(taken.sockets["a"].getsockname()).close()
        taken.serving()
        assert taken.wait_left()
    for one in taken.sockets.values():
        one.close()


def test_bad_offers(listener: socket.socket) -> None:
    for name in ("", "a b", "a:b", "ä", "x" * 256):
        with pytest.raises(ValueError, match="name"):
            takeover.Offer(SIG, {name: listener})
    with pytest.raises(ValueError, match="from 1 to 253"):
        takeover.Offer(SIG, {})


class Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.path)


def ask(address: str) -> int:
    """One request; the pid that answered."""
    connection = Unix(address) if address.startswith("/") else http.client.HTTPConnection(address)
    connection.timeout = 60
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        response = connection.getresponse()
        assert response.status == 200
        return int(response.read().split()[1])
    finally:
        connection.close()


SERVERS = ["uvicorn", "hypercorn", "aiohttp", "gunicorn", "waitress", "cheroot", "twisted"]


# All servers over TCP; that no path is removed shows with three of them.
CASES = [(server, "tcp") for server in SERVERS] + [
    (server, "unix") for server in ("uvicorn", "gunicorn", "aiohttp")
]


@pytest.mark.parametrize(("server", "kind"), CASES)
def test_no_request_is_lost(server: str, kind: str, tmp_path: Path) -> None:
    need(server, importlib.util.find_spec(server) is not None)
    if kind == "tcp":
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
    else:
        address = str(tmp_path / "socket")
    port = 64 - SIG
    command = [sys.executable, "takeover.py", server, str(port), address]
    old = subprocess.Popen(command, cwd=EXAMPLES)
    processes = [old]
    pids: list[int] = []
    failures: list[Exception] = []
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            try:
                pids.append(ask(address))
            except Exception as error:
                failures.append(error)

    clients = [threading.Thread(target=load) for _ in range(4)]
    try:
        wait_until_it_answers(address, old)
        for client in clients:
            client.start()
        for _ in range(2):
            new = subprocess.Popen([*command, str(processes[-1].pid)], cwd=EXAMPLES)
            processes.append(new)
            assert processes[-2].wait(60) in (0, -15)
            answered = len(pids)
            while len(pids) < answered + 40 and not failures:
                assert new.poll() is None
                time.sleep(0.01)
        assert failures == []
        assert len(set(pids)) >= 3
    finally:
        over.set()
        for client in clients:
            if client.ident:
                client.join()
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_it_answers(address: str, server: subprocess.Popen[bytes]) -> None:
    while True:
        try:
            ask(address)
            return
        except OSError:
            assert server.poll() is None
            time.sleep(0.05)
