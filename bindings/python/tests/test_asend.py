"""Sending in event loops: asyncio's own, trio's, and anyio on both."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import threading
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import sendfd
from conftest import SIG, MakeChild

PIECES = """
with sendfd.Receiver(SIG) as receiver:
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(sys.argv[2])):
        with receiver.recv(60) as m:
            print(m.tag, os.read(m.fd, 10).decode(), flush=True)
"""


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    def run(main: Callable[[], Awaitable[None]]) -> None:
        anyio.run(main, backend=request.param)

    return run


Run = Callable[[Callable[[], Awaitable[None]]], None]


def full(target: sendfd.Target, fd: int) -> int:
    """Send until there is no room."""
    count = 0
    while True:
        try:
            target.send(fd)
        except BlockingIOError:
            return count
        count += 1


def test_it_waits_for_a_target_that_boots(run: Run, child: MakeChild, null: int) -> None:
    peer = child(
        """
        sys.stdin.readline()
        with sendfd.Receiver(SIG) as receiver, receiver.recv(30) as m:
            print(m.tag, m.data)
        """
    )

    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while ticks < 20:
                ticks += 1
                await anyio.sleep(0.001)
            peer.tell("go")

        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            await sendfd.asend(peer, SIG, null, tag=7, data=b"d")
        # The loop ran meanwhile.
        assert ticks == 20

    run(main)
    assert peer.end() == "7 b'd'"


def test_what_is_sent_is_what_the_number_meant(run: Run, child: MakeChild, null: int) -> None:
    peer = child(PIECES, 3)
    peer.ready()
    with sendfd.Target(peer, SIG) as target:

        async def main() -> None:
            sent = full(target, null)
            assert sent > 0

            async def send(tag: int) -> None:
                read, write = os.pipe()
                os.write(write, b"%d" % tag)
                os.close(write)
                sending = target.asend(read, tag=tag)
                # The number is another file's by the time it is awaited.
                os.close(read)
                other = os.open("/dev/null", os.O_RDONLY)
                try:
                    await sending
                finally:
                    os.close(other)

            async with anyio.create_task_group() as group:
                group.start_soon(send, 5)
                await anyio.sleep(0.01)
                peer.kill()

        with pytest.raises(BaseException) as caught:  # noqa: PT011
            run(main)
        # It waited for room, and says what became of the process.
        assert caught.group_contains(ProcessLookupError)


def test_a_waiting_send_holds_the_file(run: Run, child: MakeChild) -> None:
    peer = child("sys.stdin.readline()" + PIECES.replace("sys.stdin.readline()", "pass"), 2)

    async def main() -> None:
        read, write = os.pipe()
        os.write(write, b"mine")
        os.close(write)
        sending = sendfd.asend(peer, SIG, read, tag=1)
        os.close(read)
        other, write = os.pipe()
        assert other == read
        os.write(write, b"other")
        os.close(write)
        peer.tell("go")
        await sending
        os.close(other)

    run(main)
    # The same in a thread that blocks, with the number reused while it waits.
    read, write = os.pipe()
    os.write(write, b"blocks")
    os.close(write)
    assert peer.line() == "ready"
    assert peer.line() == "1 mine"
    sendfd.send(peer, SIG, read, tag=2)
    os.close(read)
    assert peer.end() == "2 blocks"


def test_a_blocking_send_holds_the_file(child: MakeChild) -> None:
    peer = child("sys.stdin.readline()" + PIECES.replace("sys.stdin.readline()", "pass"), 1)
    read, write = os.pipe()
    os.write(write, b"mine")
    os.close(write)
    thread = threading.Thread(target=sendfd.send, args=(peer, SIG, read), kwargs={"timeout": 60})
    before = os.stat(f"/proc/self/fd/{read}").st_ino
    thread.start()
    while sum(inode(fd) == before for fd in os.listdir("/proc/self/fd")) < 2:
        assert thread.is_alive()
    os.close(read)
    other = os.open("/dev/zero", os.O_RDONLY)
    assert other == read
    peer.tell("go")
    thread.join()
    os.close(other)
    peer.ready()
    assert peer.end() == "0 mine"


def inode(fd: str) -> int:
    try:
        return os.stat(f"/proc/self/fd/{fd}").st_ino
    except FileNotFoundError:
        return 0


def test_cancelled_it_has_sent_nothing(run: Run, receiver: sendfd.Receiver, null: int) -> None:
    async def main() -> None:
        with sendfd.Target(os.getpid(), SIG) as target:
            sent = full(target, null)
            with anyio.move_on_after(0.03) as scope:
                await target.asend(null, tag=9)
            assert scope.cancelled_caught
            for _ in range(sent):
                with receiver.recv(0) as message:
                    assert message.tag == 0
            with pytest.raises(BlockingIOError):
                receiver.recv(0)

    run(main)


def test_what_failed_holds_nothing(run: Run, receiver: sendfd.Receiver, null: int) -> None:
    # A traceback keeps the frames that an exception went through, with all that is in them.
    kept: list[BaseException] = []

    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def main() -> None:
        here = [(os.getpid(), SIG)]
        with sendfd.Target(os.getpid(), SIG) as target, sendfd.Targets(here) as targets:
            full(target, null)
            with pytest.raises(BlockingIOError):
                targets.send(null)

            async def fails(error: type[Exception], sending: Awaitable[object]) -> None:
                with pytest.raises(error) as caught:
                    await sending
                kept.append(caught.value)

            async def keeps(sending: Awaitable[object]) -> None:
                try:
                    await sending
                except BaseException as error:
                    kept.append(error)
                    raise

            before = count()
            await fails(BlockingIOError, target.asend(null, timeout=0))
            await fails(TimeoutError, target.asend([null, null], timeout=0.01))
            await fails(BlockingIOError, targets.asend(null, timeout=0))
            await fails(TimeoutError, targets.asend(null, timeout=0.01))
            with pytest.raises(BlockingIOError) as caught:
                targets.send(null)
            kept.append(caught.value)
            for sending in (target.asend(null), targets.asend(null)):
                with anyio.move_on_after(0.03) as scope:
                    await keeps(sending)
                assert scope.cancelled_caught
            assert len(kept) == 7
            assert count() == before

    run(main)
    kept.clear()


def test_a_cancelled_task_holds_nothing(receiver: sendfd.Receiver) -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        with near, sendfd.Target(os.getpid(), SIG) as target:
            full(target, near.fileno())
            task = asyncio.create_task(target.asend(far))
            far.close()
            # It has started, and waits.
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])
            near.settimeout(10)
            # The connection has ended, although the task is still known.
            assert near.recv(1) == b""
            assert task.cancelled()

    asyncio.run(main())


def test_cancelled_before_it_started(receiver: sendfd.Receiver, null: int) -> None:
    async def main() -> None:
        task = asyncio.create_task(sendfd.asend(os.getpid(), SIG, null))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(BlockingIOError):
            receiver.recv(0)

    asyncio.run(main())
    with pytest.warns(RuntimeWarning, match="never awaited"):
        _ = sendfd.asend(os.getpid(), SIG, null)
        del _
        gc.collect()


def test_timeouts(run: Run, receiver: sendfd.Receiver, null: int) -> None:
    async def main() -> None:
        with sendfd.Target(os.getpid(), SIG) as target:
            sent = full(target, null)
            with pytest.raises(BlockingIOError):
                await target.asend(null, timeout=0)
            with pytest.raises(TimeoutError, match="made no room"):
                await target.asend(null, timeout=0.01)
            receiver.recv(0).close()
            await target.asend(null, timeout=0)
            for _ in range(sent):
                receiver.recv(0).close()
        with pytest.raises(TimeoutError, match="did not start to listen"):
            await sendfd.asend(os.getpid(), SIG + 1, null, timeout=0.01)
        with pytest.raises(ConnectionRefusedError):
            await sendfd.asend(os.getpid(), SIG + 1, null, timeout=0)

    run(main)


def test_what_is_wrong_is_said_at_once(null: int) -> None:
    with pytest.raises(OSError, match="hold") as caught:
        _ = sendfd.asend(os.getpid(), SIG, 999_999)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(ValueError, match="timeout"):
        _ = sendfd.asend(os.getpid(), SIG, null, timeout=-1)
    with pytest.raises(TypeError, match="expected a descriptor"):
        _ = sendfd.asend(os.getpid(), SIG, "text")  # type: ignore[arg-type]


def test_others_run_between_sends(run: Run, child: MakeChild, null: int) -> None:
    peer = child(
        """
        with sendfd.Receiver(SIG) as receiver:
            print("ready", flush=True)
            for _ in range(500): receiver.recv(60).close()
        """
    )
    peer.ready()

    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await anyio.sleep(0)

        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            with sendfd.Target(peer, SIG) as target:
                for _ in range(500):
                    await target.asend(null)
            group.cancel_scope.cancel()
        assert ticks >= 10

    run(main)
    peer.end()


def test_blocking_a_loop_is_warned_of(child: MakeChild) -> None:
    # Children run in Python's development mode.
    child(
        """
        import asyncio, warnings
        async def main():
            with sendfd.Receiver(SIG) as receiver:
                for call in (
                    lambda: sendfd.send(os.getpid(), SIG, 0, timeout=5),
                    lambda: receiver.recv(5).close(),
                ):
                    with warnings.catch_warnings(record=True) as caught:
                        warnings.simplefilter("always")
                        call()
                    assert "stops the event loop" in str(caught[0].message), caught
                    assert caught[0].filename == "<string>", caught[0].filename
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    sendfd.send(os.getpid(), SIG, 0)
                    receiver.recv(0).close()
                    await asyncio.to_thread(sendfd.send, os.getpid(), SIG, 0, timeout=5)
                    (await receiver.arecv()).close()
                assert not caught, caught
        asyncio.run(main())
        with sendfd.Receiver(SIG) as receiver:
            sendfd.send(os.getpid(), SIG, 0, timeout=5)
        """
    ).end()


def test_the_stubs_say_what_it_is(receiver: sendfd.Receiver, null: int) -> None:
    async def main() -> None:
        sending: Any = sendfd.asend(os.getpid(), SIG, null)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert await sending is None
        receiver.recv(0).close()

    asyncio.run(main())
