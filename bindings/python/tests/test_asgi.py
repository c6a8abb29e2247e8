"""An ASGI application on connections that are handed over."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sendfd
from conftest import SIG, need

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    need("uvicorn", importlib.util.find_spec("uvicorn") is not None)
    process = subprocess.Popen(
        [sys.executable, "-m", "sendfd.asgi", "hello:asgi", "--timeout-keep-alive", "2"],
        cwd=EXAMPLES,
        env=os.environ | {"SENDFD_PORT": str(int(SIG))},
    )
    yield process
    process.kill()
    process.wait()


def hand_over(target: sendfd.Target, data: bytes = b"") -> socket.socket:
    near, far = socket.socketpair()
    near.settimeout(60)
    with far:
        try:
            target.send(far, data=data, timeout=60, wait_for="room")
        except OSError:
            near.close()
            raise
    return near


def answer(near: socket.socket) -> bytes:
    with near, near.makefile("rb") as response:
        return response.read()


GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


def test_it_serves_what_arrives(worker: subprocess.Popen[bytes]) -> None:
    with sendfd.Target(worker, SIG, timeout=60) as target:
        near = hand_over(target)
        near.sendall(GET)
        assert answer(near).endswith(b"asgi %d\n" % worker.pid)
        # What somebody else has read already comes first.
        near = hand_over(target, GET[:10])
        near.sendall(GET[10:])
        assert answer(near).startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer(hand_over(target, GET)).startswith(b"HTTP/1.1 200 OK\r\n")
        # What is no connection, or has gone, stops nothing.
        target.send(0)
        hand_over(target).close()
        assert answer(hand_over(target, GET)).startswith(b"HTTP/1.1 200 OK\r\n")


LENGTHS = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    length, more = 0, True
    while more:
        event = await receive()
        length += len(event.get("body", b""))
        more = event.get("more_body", False)
    headers = [(b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"%d bytes" % length})
"""


def test_much_that_was_read_already(tmp_path: Path) -> None:
    need("uvicorn", importlib.util.find_spec("uvicorn") is not None)
    (tmp_path / "lengths.py").write_text(LENGTHS)
    worker = subprocess.Popen(
        [sys.executable, "-m", "sendfd.asgi", "lengths:app"],
        cwd=tmp_path,
        env=os.environ | {"SENDFD_PORT": str(int(SIG))},
    )
    length = 3 * 2**19
    request = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % length
    request += bytes(length)
    try:
        with sendfd.Target(worker, SIG, timeout=60) as target:
            # Less than a record has room for, more, what many fronts read at once, and the most.
            for read in (4096, 4097, 65_536, sendfd.MAX_DATA):
                near = hand_over(target, request[:read])
                near.sendall(request[read:])
                assert b"\r\n%d bytes\r\n" % length in answer(near)
    finally:
        worker.kill()
        worker.wait()


def test_stopping_loses_nothing(worker: subprocess.Popen[bytes]) -> None:
    answers: list[bytes] = []
    sent = []
    with sendfd.Target(worker, SIG, timeout=60) as target:

        def client(near: socket.socket) -> None:
            time.sleep(0.02)
            near.sendall(GET)
            answers.append(answer(near))

        clients = []
        for _ in range(100):
            near = hand_over(target)
            sent.append(near)
            clients.append(threading.Thread(target=client, args=[near]))
            clients[-1].start()
        worker.send_signal(signal.SIGTERM)
        for one in clients:
            one.join()
    assert worker.wait(60) == 0
    assert [one[:15] for one in answers] == [b"HTTP/1.1 200 OK"] * len(sent)
