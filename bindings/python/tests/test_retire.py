"""Receivers that retire: nobody can send from then on; what was sent is received to the last."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sendfd
from conftest import SIG, MakeChild, need

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("paths", ["pidfd", "name"])
def test_what_was_sent_is_received_and_then_it_ends(null: int, paths: str) -> None:
    with (
        sendfd.Receiver(SIG) as receiver,
        sendfd.Target(os.getpid(), SIG, paths=paths) as target,
    ):
        for tag in range(20):
            target.send(null, tag=tag)
        receiver.recv().close()
        receiver.retire()
        receiver.retire()
        with pytest.raises(ConnectionRefusedError):
            target.send(null)
        with pytest.raises(ConnectionRefusedError):
            sendfd.send(os.getpid(), SIG, null, paths=paths)
        # The address is free, and the same target finds who has it next.
        with sendfd.Receiver(SIG) as successor:
            target.send(null, tag=100)
            tags = []
            for message in receiver:
                tags.append(message.tag)
                message.close()
            assert tags == list(range(1, 20))
            with successor.recv(60) as message:
                assert message.tag == 100
        for receive in (receiver.recv, lambda: receiver.recv(0), lambda: receiver.recv_many(2, 60)):
            with pytest.raises(OSError, match="retired") as end:
                receive()
            assert end.value.errno == errno.ESHUTDOWN
        assert not receiver.closed
    with pytest.raises(OSError, match="closed"):
        receiver.retire()


def test_threads_that_wait_are_woken() -> None:
    with sendfd.Receiver(SIG) as receiver:
        waiting = [threading.Thread(target=lambda: list(receiver)) for _ in range(3)]
        for thread in waiting:
            thread.start()
        receiver.retire()
        for thread in waiting:
            thread.join(60)
            assert not thread.is_alive()


def test_tasks_that_wait_are_woken(null: int) -> None:
    async def take(receiver: sendfd.Receiver, tags: list[int]) -> None:
        async for message in receiver:
            with message:
                tags.append(message.tag)

    async def main() -> None:
        tags: list[int] = []
        with sendfd.Receiver(SIG) as receiver:
            tasks = [asyncio.create_task(take(receiver, tags)) for _ in range(3)]
            await asyncio.sleep(0)
            for tag in range(9):
                sendfd.send(os.getpid(), SIG, null, tag=tag)
            receiver.retire()
            await asyncio.wait_for(asyncio.gather(*tasks), 60)
            assert sorted(tags) == list(range(9))
            with pytest.raises(OSError, match="retired"):
                await receiver.arecv()

    asyncio.run(main())


def test_in_trio(null: int) -> None:
    need("trio", importlib.util.find_spec("trio") is not None)
    import trio
    import trio.testing

    async def main() -> None:
        with sendfd.Receiver(SIG) as receiver, trio.fail_after(60):
            async with trio.open_nursery() as nursery:

                async def take() -> None:
                    async for message in receiver:
                        message.close()

                nursery.start_soon(take)
                nursery.start_soon(take)
                await trio.testing.wait_all_tasks_blocked()
                sendfd.send(os.getpid(), SIG, null)
                receiver.retire()

    trio.run(main)


def test_by_a_signal_that_interrupts_the_wait(child: MakeChild, null: int) -> None:
    worker = child("""
        with sendfd.Receiver(SIG) as receiver:
            signal.signal(signal.SIGTERM, lambda *_: receiver.retire())
            print("ready", flush=True)
            for message in receiver:
                message.close()
            print("ended")
    """)
    worker.ready()
    sendfd.send(worker.pid, SIG, null)
    worker.sleeps()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == "ended"


def test_not_in_a_forked_child(child: MakeChild) -> None:
    worker = child("""
        with sendfd.Receiver(SIG) as receiver:
            pid = os.fork()
            if pid == 0:
                try:
                    receiver.retire()
                except OSError as error:
                    os._exit(error.errno)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            sendfd.send(os.getpid(), SIG, 0)
    """)
    assert worker.end() == str(errno.EBADF)


CLIENTS = 2000
AT_ONCE = 50
AFTER = 100

ANSWER = r"""
        import asyncio, contextlib, os, socket, sys, sendfd
        ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
        receiver = sendfd.Receiver(int(sys.argv[1]))
        count = 0
        def served():
            global count
            count += 1
            if count == 100:
                receiver.retire()
"""
WORKERS = {
    "threads": [
        "-c",
        ANSWER
        + r"""
        for message in receiver:
            with message, message.socket(timeout=60) as connection:
                served()
                connection.recv(65536)
                connection.sendall(ANSWER)
""",
    ],
    "asyncio": [
        "-c",
        ANSWER
        + r"""
        async def answer(message):
            with message:
                reader, writer = await sendfd.aio.adopt_streams(message)
            served()
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
            writer.close()
            await writer.wait_closed()
        async def main():
            tasks = []
            async for message in receiver:
                tasks.append(asyncio.create_task(answer(message)))
            await asyncio.gather(*tasks)
        asyncio.run(main())
""",
    ],
    "uvicorn": ["-m", "sendfd.asgi", "hello:asgi", "--no-access-log", "--log-level", "error"],
}


class Pool:
    """Two workers, each of which has a successor as soon as it has ended, and a front."""

    def __init__(self, kind: str) -> None:
        self.arguments = WORKERS[kind]
        if kind == "uvicorn":
            self.arguments = [*self.arguments, "--limit-max-requests", str(AFTER)]
        else:
            flag, code = self.arguments
            self.arguments = [flag, "\n".join(line[8:] for line in code.splitlines())]
        self.targets = sendfd.Targets()
        self.workers: list[subprocess.Popen[bytes]] = []
        self.ended: list[int] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=AT_ONCE)

    def start(self) -> None:
        command = [sys.executable, *self.arguments]
        if self.arguments[0] == "-c":
            command.append(str(int(SIG)))
        env = os.environ | {"SENDFD_PORT": str(int(SIG))}
        self.workers.append(subprocess.Popen(command, cwd=EXAMPLES, env=env))
        self.targets.add(self.workers[-1], SIG)

    def serve(self) -> None:
        """Hand each connection to a worker."""
        for _ in range(CLIENTS):
            connection, _ = self.listener.accept()
            with connection:
                self.hand_over(connection)

    def hand_over(self, connection: socket.socket) -> None:
        end = time.monotonic() + 60
        while True:
            for worker in [one for one in self.workers if one.poll() is not None]:
                self.ended.append(worker.returncode)
                self.workers.remove(worker)
                self.start()
            try:
                self.targets.send(connection, timeout=60)
            except ProcessLookupError:
                # Both have ended since, and none of their successors is known yet.
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
            else:
                return

    def ask(self, _: int) -> bytes:
        """Be a client."""
        with socket.create_connection(self.listener.getsockname(), timeout=60) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            with client.makefile("rb") as answer:
                return answer.read()

    def close(self) -> None:
        self.listener.close()
        self.targets.close()
        for worker in self.workers:
            worker.kill()
            worker.wait()


@pytest.mark.parametrize("kind", WORKERS)
def test_workers_that_retire_under_load_lose_nobody(kind: str) -> None:
    if kind == "uvicorn":
        need("uvicorn", importlib.util.find_spec("uvicorn") is not None)
    pool = Pool(kind)
    try:
        pool.start()
        pool.start()
        front = threading.Thread(target=pool.serve, daemon=True)
        front.start()
        with ThreadPoolExecutor(AT_ONCE) as clients:
            answers = list(clients.map(pool.ask, range(CLIENTS)))
        front.join(60)
        assert not front.is_alive()
        lost = [answer for answer in answers if not answer.startswith(b"HTTP/1.1 200 OK\r\n")]
        assert lost == []
        # Each took what was queued, too, and so more than its number; uvicorn counts now and then.
        assert pool.ended
        assert set(pool.ended) == {0}
    finally:
        pool.close()
