"""What send and Target take, over each path."""

from __future__ import annotations

import array
import asyncio
import multiprocessing
import os
import socket
import sys
import threading
from typing import Any

import processes
import pytest
import sendfd
from conftest import SIG, MakeChild, need

PATHS = ("pidfd", "name")


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> Any:
    need(request.param, request.param in sendfd.probe().working)
    return request.param


def test_data_and_tag(receiver: sendfd.Receiver, null: int, path: Any) -> None:
    sendfd.send(os.getpid(), SIG, null, data=b"\0bytes", tag=2**64 - 1, paths=path)
    with receiver.recv(timeout=0) as message:
        assert (message.data, message.tag, message.path) == (b"\0bytes", 2**64 - 1, path)
        assert (message.pid, message.uid, message.gid) == (os.getpid(), os.getuid(), os.getgid())
        assert message.fds == (message.fd,)
        assert os.path.sameopenfile(message.fd, null)


def test_every_buffer_is_data(receiver: sendfd.Receiver, null: int) -> None:
    for data in (b"xy", bytearray(b"xy"), memoryview(b"-x-y-")[1::2], array.array("B", b"xy")):
        sendfd.send(os.getpid(), SIG, null, data=data)
        with receiver.recv(0) as message:
            assert message.data == b"xy"


def test_the_most_data_and_descriptors(receiver: sendfd.Receiver, null: int, path: Any) -> None:
    assert sendfd.MAX_DATA == 2**20
    for count, length in ((253, 4096), (252, 4097), (252, sendfd.MAX_DATA)):
        data = os.urandom(length)
        sendfd.send(os.getpid(), SIG, [null] * count, data=data, paths=[path])
        with receiver.recv(0) as message:
            assert message.data == data
            assert len(message.fds) == count


def test_data_that_waits_is_what_it_was(null: int) -> None:
    data = bytearray(os.urandom(100_000))
    sent = bytes(data)

    async def main() -> None:
        sending = asyncio.ensure_future(sendfd.asend(os.getpid(), SIG, null, data=data, timeout=60))
        await asyncio.sleep(0)
        data[:] = bytes(len(data))
        with sendfd.Receiver(SIG) as receiver:
            await sending
            with receiver.recv(0) as message:
                assert message.data == sent

    asyncio.run(main())


def test_what_counts_as_descriptors(receiver: sendfd.Receiver, null: int) -> None:
    left, right = socket.socketpair()
    with left, right, open("/dev/null") as file:
        several: Any
        for several in (null, file, left, [null, file, left], (null, right), {null, file}):
            sendfd.send(os.getpid(), SIG, several)
            with receiver.recv(0) as message:
                expected = len(several) if isinstance(several, list | tuple | set) else 1
                assert len(message.fds) == expected


class Owner:
    """Its descriptor is closed with it."""

    def __init__(self) -> None:
        self.fd = os.open("/dev/null", os.O_RDONLY)

    def fileno(self) -> int:
        return self.fd

    def __del__(self) -> None:
        os.close(self.fd)


def test_owners_made_on_the_way_live_until_sent(receiver: sendfd.Receiver) -> None:
    sendfd.send(os.getpid(), SIG, (Owner() for _ in range(3)))
    with receiver.recv(0) as message:
        assert len(message.fds) == 3


def test_a_target(receiver: sendfd.Receiver, null: int, path: Any) -> None:
    with sendfd.Target(os.getpid(), SIG, paths=path) as target:
        assert (target.pid, target.sig, target.path) == (os.getpid(), SIG, path)
        assert f"pid={os.getpid()}" in repr(target)
        for tag in range(100):
            target.send(null, tag=tag, data=b"d")
            target.send([null, null], tag=tag)
    for tag in range(100):
        with receiver.recv(0) as one, receiver.recv(0) as two:
            assert (one.tag, len(one.fds), one.data) == (tag, 1, b"d")
            assert (two.tag, len(two.fds), two.data) == (tag, 2, b"")
    assert target.closed
    with pytest.raises(OSError, match="the target is closed"):
        target.send(null)
    target.close()


def test_a_timeout_waits_for_a_target_that_still_boots(child: MakeChild, null: int) -> None:
    peer = child(
        """
        sys.stdin.readline()
        with sendfd.Receiver(SIG) as receiver, receiver.recv(30) as m:
            print(m.tag)
        """
    )
    with pytest.raises(ConnectionRefusedError):
        sendfd.send(peer.pid, SIG, null)
    telling = threading.Timer(0.05, peer.tell, ["go"])
    telling.start()
    sendfd.send(peer.pid, SIG, null, tag=5, timeout=None)
    telling.join()
    assert peer.end() == "5"


def test_the_message_outlives_its_sender(receiver: sendfd.Receiver, child: MakeChild) -> None:
    child("sendfd.send(os.getppid(), SIG, 0, data=b'last will'); os._exit(0)").end()
    with receiver.recv(0) as message:
        assert message.data == b"last will"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method: str) -> None:
    if method == "fork" and sys.version_info >= (3, 12) and threading.active_count() > 1:
        need("one thread", False)
    context: Any = multiprocessing.get_context(method)
    near, far = socket.socketpair()
    process = context.Process(target=processes.upper, args=(int(SIG),))
    with pytest.raises(ValueError, match="has not been started"):
        sendfd.send(process, SIG, far)
    process.start()
    with near:
        with far:
            sendfd.send(process, SIG, far, data=b"shout", timeout=60)
        assert near.recv(100) == b"SHOUT"
    process.join()
    assert process.exitcode == 0
    with pytest.raises(ProcessLookupError, match="exited"):
        sendfd.send(process, SIG, 0)
    process.close()
    if method == "forkserver":
        from multiprocessing import forkserver, resource_tracker

        # Its own processes stay up, with descriptors of ours, until they are told.
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]
    if method == "spawn":
        from multiprocessing import resource_tracker

        resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def test_threads_may_send_at_the_same_time(child: MakeChild, null: int) -> None:
    peer = child(
        """
        with sendfd.Receiver(SIG) as receiver:
            print("ready", flush=True)
            last = {}
            for message in receiver:
                with message:
                    thread, number = divmod(message.tag, 1000)
                    assert last.get(thread, -1) == number - 1
                    last[thread] = number
                if sum(last.values()) == 4 * 999: break
        """
    )
    peer.ready()
    with sendfd.Target(peer, SIG) as target:

        def work(thread: int) -> None:
            for number in range(1000):
                target.send(null, tag=thread * 1000 + number, timeout=60)

        threads = [threading.Thread(target=work, args=[i]) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    peer.end()
