"""The examples, with real servers and real clients."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sendfd
from conftest import SIG, need

TOP = Path(__file__).parents[3]
POOL = TOP / "examples" / "pool"
EXAMPLES = Path(__file__).parents[1] / "examples"

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    processes: list[subprocess.Popen[bytes]] = []

    def run(*command: object) -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen([*map(str, command)], cwd=EXAMPLES))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()


def get(address: tuple[str, int]) -> str:
    with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/", timeout=60) as response:
        assert response.status == 200
        return str(response.read().decode())


@pytest.mark.parametrize(
    ("script", "language"), [("worker.py", "python"), ("worker_asyncio.py", "python-asyncio")]
)
def test_a_worker_of_the_pool(
    start: Start, monkeypatch: pytest.MonkeyPatch, script: str, language: str
) -> None:
    monkeypatch.setenv("SENDFD_PORT", str(int(SIG)))
    worker = start(sys.executable, "-X", "dev", "-W", "error", POOL / script)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        sendfd.Target(worker, SIG, timeout=60) as target,
    ):
        address = listener.getsockname()
        # One who leaves at once, one who leaves rudely, and something that is no socket.
        for linger in (b"\0" * 8, b"\1\0\0\0" + b"\0" * 4):
            with socket.create_connection(address) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection, _ = listener.accept()
            with connection:
                target.send(connection)
        target.send(0)
        for _ in range(20):
            with socket.create_connection(address) as client:
                connection, _ = listener.accept()
                client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
                with connection:
                    target.send(connection)
                with client.makefile("rb") as response:
                    head, _, body = response.read().partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 OK\r\n")
                assert b"Connection: close" in head
                assert b"Content-Type: text/plain" in head
                assert body.decode() == f"{language} {worker.pid}\n"
    worker.terminate()
    assert worker.wait(60) == 0


@pytest.mark.parametrize(
    ("server", "options", "answer"),
    [
        ("uvicorn", ["hello:asgi", "--fd", "{fd}", "--no-access-log"], "asgi"),
        ("gunicorn", ["hello:wsgi", "--workers", "1"], "wsgi"),
        ("hypercorn", ["hello:asgi", "--bind", "fd://{fd}", "--bind", "fd://{fd1}"], "asgi"),
    ],
)
def test_a_server_takes_over_a_listener(
    start: Start, server: str, options: list[str], answer: str
) -> None:
    need(server, importlib.util.find_spec(server) is not None)
    process = start(
        sys.executable, "with_listener.py", int(SIG), sys.executable, "-m", server, *options
    )
    listeners = [
        socket.create_server(("127.0.0.1", 0)) for _ in range(1 + ("{fd1}" in str(options)))
    ]
    addresses = [listener.getsockname() for listener in listeners]
    for listener in listeners:
        listener.setblocking(False)
    sendfd.send(process, SIG, listeners, timeout=60)
    for listener in listeners:
        listener.close()
    # Ours are closed: it is the server that listens, from before it even started.
    for address in addresses * 2:
        assert get(address).startswith(answer)
    process.terminate()
    process.wait(60)


def test_only_a_listener_is_taken_over(start: Start) -> None:
    process = start(sys.executable, "with_listener.py", int(SIG), "true")
    sendfd.send(process, SIG, 0, timeout=60)
    assert process.wait(60) == 1


def test_a_running_uvicorn_gets_listeners(start: Start) -> None:
    need("uvicorn", importlib.util.find_spec("uvicorn") is not None)
    process = start(sys.executable, "serve_uvicorn.py", int(SIG))
    addresses = []
    for _ in range(3):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            addresses.append(listener.getsockname())
            sendfd.send(process, SIG, listener, timeout=60)
        for address in addresses:
            assert get(address) == f"asgi {process.pid}\n"
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(60) in (0, -signal.SIGTERM)


def test_wsgi_on_connections_that_arrive(start: Start) -> None:
    process = start(sys.executable, "serve_wsgi.py", int(SIG))
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        sendfd.Target(process, SIG, timeout=60) as target,
    ):
        for _ in range(10):
            with socket.create_connection(listener.getsockname()) as client:
                connection, _ = listener.accept()
                with connection:
                    target.send(connection)
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                with client.makefile("rb") as response:
                    assert response.read().endswith(b"wsgi %d\n" % process.pid)
    process.terminate()
    assert process.wait(60) == 0
