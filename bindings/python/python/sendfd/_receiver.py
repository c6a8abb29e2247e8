"""The receiver, with what it has to do with event loops."""

from __future__ import annotations

import asyncio
import warnings
from collections import deque

from . import _sendfd
from ._sendfd import Message

# How many messages a task takes without letting others run.
_TURN = 32


class Receiver(_sendfd.Receiver):
    """Receives what other processes send to this process at one signal. No signal is raised.

    sig is a real-time signal, SIGRTMIN to SIGRTMAX; a process can have one receiver for each. uids
    are users whose messages are accepted, beside this process's own user and root. queue_bytes is
    how much the senders of the pidfd path can have queued together (0: the kernel's default, some
    277 messages; above net.core.wmem_max only for root).

    Opening raises OSError: EINVAL if sig is not a real-time signal, EADDRINUSE if this process
    listens there already, EMFILE, ENFILE, ENOMEM as the kernel says. It does not block.

    A receiver owns five descriptors, and one for each sender of the name path, all close-on-exec.
    It is a context manager, and iterates over messages until it is closed. Threads may share it. In
    a forked child it receives nothing (EBADF); the child may open its own.
    """

    _reader: _Reader | None = None

    async def arecv(self) -> Message:
        """Receive one message, in a coroutine of asyncio. Cancelling it loses none.

        Tasks that wait at the same time get messages in turn, which must be on one event loop.
        Raises RuntimeError if tasks of another loop are waiting, OSError like recv().
        """
        reader = self._reader_of(asyncio.get_running_loop())
        # Nothing is awaited between taking a message and returning it. So it cannot get lost.
        if not reader.waiting:
            if reader.turn == _TURN:
                reader.turn = 0
                await asyncio.sleep(0)
            message = self._recv_nowait()
            if message is not None:
                reader.turn += 1
                return message
        while True:
            await reader.wait()
            reader.turn = 1
            message = self._recv_nowait()
            if message is not None:
                return message

    def __aiter__(self) -> Receiver:
        """Iterate over messages, in a coroutine of asyncio, until the receiver is closed."""
        return self

    async def __anext__(self) -> Message:
        """Receive the next message."""
        try:
            return await self.arecv()
        except OSError:
            if self.closed:
                raise StopAsyncIteration from None
            raise

    def close(self) -> None:
        """Stop listening. What nobody received is closed; senders get ConnectionRefusedError.

        Threads and tasks that wait in it are woken: their iterations end, their calls raise OSError
        (EBADF). With asyncio, call it in the thread of the event loop. Closing twice does nothing.
        """
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
        super().close()

    def _reader_of(self, loop: asyncio.AbstractEventLoop) -> _Reader:
        reader = self._reader
        if reader is None or reader.loop is not loop:
            if reader is not None:
                if reader.waiting and not reader.loop.is_closed():
                    raise RuntimeError(f"{self!r} is being waited for on another event loop")
                reader.close()
            reader = self._reader = _Reader(loop, self.fileno())
        return reader

    def __repr__(self) -> str:
        """Say what it listens on."""
        state = "closed" if self.closed else f"fd={self.fileno()}"
        return f"<sendfd.Receiver sig={self.sig} {state}>"

    def __del__(self) -> None:
        """Close what was forgotten, and say so."""
        # When opening failed, there is nothing to close.
        if not getattr(self, "closed", True):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()


class _Reader:
    """Wakes the tasks of one event loop that wait for a receiver.

    It only says that there may be a message. The task that was woken takes it, so that none is on
    its way to a task that is being cancelled.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self.loop = loop
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.turn = 0
        self._fd = fd
        self._registered = False

    async def wait(self) -> None:
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
        self._unregister()
        self._fd = -1
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done() and not self.loop.is_closed():
                future.set_result(None)
