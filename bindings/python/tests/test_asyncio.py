"""Receiving in event loops: asyncio's own, uvloop's, trio's."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
import sendfd
from conftest import SIG, MakeChild, need

try:
    import uvloop

    # It opens a pair of descriptors for the whole process when it first runs.
    warm = uvloop.new_event_loop()
    warm.run_until_complete(asyncio.sleep(0))
    warm.close()
except ImportError:
    uvloop = None  # type: ignore[assignment]

Run = Callable[[Coroutine[Any, Any, None]], None]

SENDER = """
with sendfd.Target(os.getppid(), SIG) as target:
    for tag in range(int(sys.argv[2])):
        target.send(0, tag=tag, timeout=None)
"""


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    if request.param == "asyncio":
        return asyncio.run
    need("uvloop", uvloop is not None)

    def run_uvloop(coroutine: Coroutine[Any, Any, None]) -> None:
        loop = uvloop.new_event_loop()
        try:
            loop.run_until_complete(coroutine)
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    return run_uvloop


def test_a_hundred_thousand_messages(run: Run, receiver: sendfd.Receiver, child: MakeChild) -> None:
    count = 100_000
    peer = child(SENDER, count)

    async def main() -> None:
        expected = 0
        async for message in receiver:
            assert message.tag == expected
            message.close()
            expected += 1
            if expected == count:
                break

    run(main())
    peer.end()
    with pytest.raises(BlockingIOError):
        receiver.recv(0)


def test_cancelling_loses_nothing(run: Run, receiver: sendfd.Receiver, child: MakeChild) -> None:
    count = 5000
    tags: list[int] = []
    cancelled = 0

    async def take(chance: random.Random) -> None:
        nonlocal cancelled
        while len(tags) < count:
            task = asyncio.create_task(receiver.arecv())
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            task.cancel()
            try:
                message = await task
            except asyncio.CancelledError:
                cancelled += 1
                continue
            tags.append(message.tag)
            message.close()

    async def main() -> None:
        await asyncio.gather(*(take(random.Random(seed)) for seed in range(3)))

    peer = child(SENDER, count)
    run(main())
    peer.end()
    assert sorted(tags) == list(range(count))
    assert cancelled > 0


def test_a_timeout_loses_nothing(run: Run, receiver: sendfd.Receiver, null: int) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(receiver.arecv(), 0.01)
        sendfd.send(os.getpid(), SIG, null, tag=3)
        message = await asyncio.wait_for(receiver.arecv(), 10)
        assert message.tag == 3
        message.close()

    run(main())


def test_tasks_get_messages_in_turn(run: Run, receiver: sendfd.Receiver, null: int) -> None:
    async def main() -> None:
        order: list[int] = []

        async def wait(number: int) -> None:
            (await receiver.arecv()).close()
            order.append(number)

        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(wait(number)))
            await asyncio.sleep(0)
        for _ in range(5):
            sendfd.send(os.getpid(), SIG, null)
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3, 4]

    run(main())


def test_a_stream_leaves_room_for_others(run: Run, receiver: sendfd.Receiver, null: int) -> None:
    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        for _ in range(200):
            sendfd.send(os.getpid(), SIG, null)
        ticking = asyncio.create_task(tick())
        for _ in range(200):
            (await receiver.arecv()).close()
        ticking.cancel()
        # All 200 were there from the start, and are taken 32 at a time.
        assert ticks >= 200 // 32

    run(main())


def test_closing_ends_the_iteration(run: Run, receiver: sendfd.Receiver) -> None:
    async def main() -> None:
        async def iterate() -> int:
            return len([message async for message in receiver])

        waiting = asyncio.create_task(iterate())
        single = asyncio.create_task(receiver.arecv())
        await asyncio.sleep(0.01)
        receiver.close()
        assert await waiting == 0
        with pytest.raises(OSError, match="closed"):
            await single
        with pytest.raises(OSError, match="closed"):
            await receiver.arecv()
        assert [message async for message in receiver] == []

    run(main())


def test_one_loop_after_another(run: Run, receiver: sendfd.Receiver, null: int) -> None:
    async def main() -> None:
        waiting = asyncio.create_task(receiver.arecv())
        await asyncio.sleep(0)
        sendfd.send(os.getpid(), SIG, null)
        (await waiting).close()

    for _ in range(3):
        run(main())
    # And none at all.
    sendfd.send(os.getpid(), SIG, null)
    receiver.recv(0).close()


def test_two_loops_at_once_are_refused(receiver: sendfd.Receiver) -> None:
    async def other() -> None:
        with pytest.raises(RuntimeError, match="on another event loop"):
            await receiver.arecv()

    async def main() -> None:
        waiting = asyncio.create_task(receiver.arecv())
        await asyncio.sleep(0)
        thread = threading.Thread(target=asyncio.run, args=[other()])
        thread.start()
        thread.join()
        waiting.cancel()

    asyncio.run(main())


def test_errors_come_through(run: Run, child: MakeChild) -> None:
    child(
        """
        import asyncio
        receiver = sendfd.Receiver(SIG)
        if os.fork() == 0:
            try:
                asyncio.run(receiver.arecv())
            except OSError as error:
                os._exit(error.errno)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == errno.EBADF
        receiver.close()
        """
    ).end()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_other_libraries(backend: str, receiver: sendfd.Receiver, child: MakeChild) -> None:
    async def main() -> None:
        with anyio.fail_after(60):
            for tag in range(500):
                with await receiver.arecv() as message:
                    assert message.tag == tag
            tag = 500
            async for message in receiver:
                with message:
                    assert message.tag == tag
                tag += 1
                if tag == 1000:
                    break

    peer = child(SENDER, 1000)
    anyio.run(main, backend=backend)
    peer.end()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_full_queue_leaves_room_for_others(
    backend: str, receiver: sendfd.Receiver, null: int
) -> None:
    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await anyio.sleep(0)

        for _ in range(200):
            sendfd.send(os.getpid(), SIG, null)
        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            for _ in range(200):
                (await receiver.arecv()).close()
            group.cancel_scope.cancel()
        assert ticks >= 200 // 32

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelling_elsewhere_loses_nothing(
    backend: str, receiver: sendfd.Receiver, child: MakeChild
) -> None:
    count = 2000
    tags: list[int] = []
    cancelled = 0

    async def take(seed: int) -> None:
        nonlocal cancelled
        chance = random.Random(seed)
        while len(tags) < count:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:

                    async def cancel(group: Any = group) -> None:
                        for _ in range(chance.randrange(4)):
                            await anyio.sleep(0)
                        group.cancel_scope.cancel()

                    group.start_soon(cancel)
                    message = await receiver.arecv()
                    tags.append(message.tag)
                    message.close()
                    group.cancel_scope.cancel()
                cancelled += scope.cancel_called
            if chance.randrange(10) == 0:
                cancelled += 1
                await anyio.sleep(0)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for seed in range(3):
                group.start_soon(take, seed)

    peer = child(SENDER, count)
    anyio.run(main, backend=backend)
    peer.end()
    assert sorted(tags) == list(range(count))


def test_trio_is_woken_by_closing(receiver: sendfd.Receiver) -> None:
    async def main() -> None:
        ended = []

        async def iterate() -> None:
            ended.extend([message async for message in receiver])
            ended.append(None)  # type: ignore[arg-type]

        async def single() -> None:
            with pytest.raises(OSError, match="closed"):
                await receiver.arecv()

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(iterate)
                group.start_soon(single)
                await anyio.sleep(0.01)
                receiver.close()
        assert ended == [None]

    anyio.run(main, backend="trio")


LIMITED = """
import anyio, logging, resource, time
full = False

class Report(logging.Handler):
    def emit(self, record):
        global full
        full = True
        print(record.levelname, record.name, flush=True)

# Under -X dev asyncio reports on its own whatever a busy machine makes slow.
logging.getLogger("sendfd").addHandler(Report())
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
looks = 0

class Receiver(sendfd.Receiver):
    def _recv_nowait(self):
        global looks
        looks += 1
        return super()._recv_nowait()

receiver = Receiver(SIG)
start = time.monotonic()

async def answer(connection):
    with connection:
        # Nobody is answered before the table was full.
        while not full:
            await anyio.sleep(0.01)
        connection.send(b"answer")

async def main():
    print("ready", flush=True)
    served = 0
    async with anyio.create_task_group() as group:
        async for message in receiver:
            with message:
                group.start_soon(answer, message.socket())
            served += 1
            if served == 100:
                break
    receiver.close()

anyio.run(main, backend=sys.argv[2])
# Twice for each message, and every 5 ms at most while the table is full.
print(looks <= 200 + (time.monotonic() - start) / 0.005)
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_full_table_ends_no_iteration(backend: str, child: MakeChild) -> None:
    peer = child(LIMITED, backend)
    peer.ready()
    clients = []
    for _ in range(100):
        near, far = socket.socketpair()
        with far:
            sendfd.send(peer, SIG, far, timeout=60)
        clients.append(near)
    for near in clients:
        with near:
            near.settimeout(60)
            assert near.recv(10) == b"answer"
    # Reported once, and not looked at in a busy loop.
    assert peer.end().splitlines() == ["WARNING sendfd", "True"]


# The table is full before the first message is taken; who is told so makes room.
FULL_AT_FIRST = """
from importlib import import_module
import logging
library, early = sys.argv[2], sys.argv[3] == "True"
if early:
    import_module(library)
receiver = sendfd.Receiver(SIG)
# What only programs with an event loop need is not there in others.
print(early == ("sendfd._loops" in sys.modules), flush=True)
loops = import_module(library)
for tag in range(10):
    sendfd.send(os.getpid(), SIG, 0, tag=tag)
hold = []

class Report(logging.Handler):
    def emit(self, record):
        print(record.levelname, flush=True)
        while hold:
            os.close(hold.pop())

logging.getLogger("sendfd").addHandler(Report())

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            hold.append(os.dup(0))
    except OSError:
        pass
    tags = []
    async for message in receiver:
        with message:
            tags.append(message.tag)
        if len(tags) == 10:
            receiver.close()
    print(tags == list(range(10)), flush=True)

loops.run(main() if library == "asyncio" else main)
"""


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_a_table_that_is_full_at_first(library: str, early: bool, child: MakeChild) -> None:
    assert child(FULL_AT_FIRST, library, early).end().split() == ["True", "WARNING", "True"]
