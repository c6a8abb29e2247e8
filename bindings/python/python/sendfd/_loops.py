"""What waiting means in asyncio, trio and anyio (which runs on one of the two).

Neither library is imported before a program runs it.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any

from ._sleep import running_trio, sleep

if TYPE_CHECKING:
    import asyncio

    from ._message import Message
    from ._receiver import Receiver
    from ._sendfd import Outbound

# How many messages are taken or sent in a row without letting other tasks run.
_TURN = 32
# A target that boots or is full is tried again after so many seconds, twice as long each time.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02


def warn_if_running(call: str) -> None:
    """Warn if this thread runs an event loop, which `call` is about to stop."""
    asyncio = sys.modules.get("asyncio")
    running = asyncio is not None and asyncio._get_running_loop() is not None
    if running or running_trio() is not None:
        name = "asend" if "recv" not in call else "arecv"
        warnings.warn(
            f"{call}() with a timeout stops the event loop of this thread until it returns: "
            f"await {name}() instead",
            RuntimeWarning,
            stacklevel=3,
        )


_sent_in_a_row = 0


async def deliver(outbound: Outbound, timeout: float | None) -> None:
    """Send a message, waiting without stopping the loop. Cancelled, it has sent nothing."""
    # Nothing is awaited after the message was sent.
    global _sent_in_a_row
    try:
        _sent_in_a_row += 1
        if _sent_in_a_row >= _TURN or running_trio() is not None:
            _sent_in_a_row = 0
            await sleep(0)
        end = None if timeout is None else time.monotonic() + timeout
        pause = _FIRST_PAUSE
        while timeout != 0:
            if outbound.attempt():
                return
            left = pause if end is None else end - time.monotonic()
            if left <= 0:
                break
            await sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE)
        outbound.last_attempt(timeout != 0)
    finally:
        outbound.release()


async def receive(receiver: Receiver) -> Message:
    """Take one message. Cancelled, it has taken none."""
    trio = running_trio()
    if trio is not None:
        return await _receive_in_trio(trio, receiver)
    import asyncio

    reader = _reader_of(receiver, asyncio.get_running_loop())
    # Nothing is awaited between taking a message and returning it. So it cannot get lost.
    if not reader.waiting:
        if reader.turn == _TURN:
            reader.turn = 0
            await asyncio.sleep(0)
        message = receiver._recv_nowait()
        if message is not None:
            reader.turn += 1
            return message
    while True:
        await reader.wait()
        reader.turn = 1
        message = receiver._recv_nowait()
        if message is not None:
            return message


class TrioTurns:
    """The tasks of one run of trio that wait for a receiver take turns."""

    def __init__(self, trio: Any) -> None:
        """Make the line in which they wait."""
        self.trio = trio
        self.token = trio.lowlevel.current_trio_token()
        self.lock = trio.StrictFIFOLock()
        self.fd = -1

    def close(self) -> None:
        """Wake who waits for the descriptor, which is about to be closed."""
        fd, self.fd = self.fd, -1
        if fd >= 0 and running_trio() is not None:
            self.trio.lowlevel.notify_closing(fd)


async def _receive_in_trio(trio: Any, receiver: Receiver) -> Message:
    turns = receiver._reader
    if not isinstance(turns, TrioTurns) or turns.token != trio.lowlevel.current_trio_token():
        if turns is not None:
            turns.close()
        turns = receiver._reader = TrioTurns(trio)
    # To acquire it is a checkpoint: others run, and cancelling is noticed, before each message.
    await turns.lock.acquire()
    try:
        while True:
            message = receiver._recv_nowait()
            if message is not None:
                return message
            turns.fd = receiver.fileno()
            try:
                await trio.lowlevel.wait_readable(turns.fd)
            except trio.ClosedResourceError:
                continue
    finally:
        turns.lock.release()


def _reader_of(receiver: Receiver, loop: asyncio.AbstractEventLoop) -> Reader:
    reader = receiver._reader
    if not isinstance(reader, Reader) or reader.loop is not loop:
        if isinstance(reader, Reader) and reader.waiting and not reader.loop.is_closed():
            raise RuntimeError(f"{receiver!r} is being waited for on another event loop")
        if reader is not None:
            reader.close()
        reader = receiver._reader = Reader(loop, receiver.fileno())
    return reader


class Reader:
    """Wakes the tasks of one event loop of asyncio that wait for a receiver.

    It only says that there may be a message. The task that was woken takes it, so that none is on
    its way to a task that is being cancelled.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        """Prepare to watch fd."""
        self.loop = loop
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.turn = 0
        self._fd = fd
        self._registered = False

    async def wait(self) -> None:
        """Wait in line for something to receive."""
        if not self._registered and self._fd >= 0:
            self.loop.add_reader(self._fd, self._ready)
            self._registered = True
        future = self.loop.create_future()
        self.waiting.append(future)
        try:
            await future
        finally:
            if future in self.waiting:
                self.waiting.remove(future)

    def _ready(self) -> None:
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                # One task for one look. If there is more, this is called again.
                future.set_result(None)
                return
        # Registering costs system calls, so it is undone only when nobody comes back to wait.
        self._unregister()

    def _unregister(self) -> None:
        if self._registered:
            self._registered = False
            if not self.loop.is_closed():
                self.loop.remove_reader(self._fd)

    def close(self) -> None:
        """Wake all who wait: the receiver is closed, or waited for elsewhere."""
        self._unregister()
        self._fd = -1
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done() and not self.loop.is_closed():
                future.set_result(None)
