"""The receiver, with what it has to do with event loops."""

from __future__ import annotations

import errno
import sys
import time
import warnings

from . import _sendfd
from ._sleep import sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from ._loops import Reader, TrioTurns
    from ._message import Message

# A descriptor table that is full is tried again after so many seconds, twice as long each time.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1
# It is reported once in so many seconds.
_REPORT_EACH = 60.0


class Receiver(_sendfd.Receiver):
    """Receives what other processes send to this process at one signal. No signal is raised.

    sig is a real-time signal, SIGRTMIN to SIGRTMAX; a process can have one receiver for each. uids
    are users whose messages are accepted, beside this process's own user and root. queue_bytes is
    how much the senders of the pidfd path can have queued together (0: the kernel's default, some
    277 messages; above net.core.wmem_max only for root).

    Opening raises OSError: EINVAL if sig is not a real-time signal, EADDRINUSE if this process
    listens there already, EMFILE, ENFILE, ENOMEM as the kernel says. It does not block.

    A receiver owns five descriptors, and one for each sender of the name path, all close-on-exec.
    It is a context manager, and iterates over messages until it is closed, or has retired and given
    out the last one. Threads may share it. In
    a forked child it receives nothing (EBADF); the child may open its own.
    """

    _reader: Reader | TrioTurns | None = None
    _reported = float("-inf")

    def __new__(cls, sig: int, *, uids: Sequence[int] = (), queue_bytes: int = 0) -> Self:
        """Open it."""
        # Importing takes descriptors, of which there may be none left when the first message comes.
        # A program without an event loop is spared it.
        if "asyncio" in sys.modules or "trio" in sys.modules:
            from . import _loops  # noqa: F401
        return super().__new__(cls, sig, uids=uids, queue_bytes=queue_bytes)

    async def arecv(self) -> Message:
        """Receive one message, in a coroutine of asyncio, trio or anyio. Cancelling it loses none.

        Tasks that wait at the same time get messages in turn, which must be on one event loop.
        Others are let run between messages. Raises RuntimeError if tasks of another loop are
        waiting, OSError like recv().
        """
        from . import _loops

        return await _loops.receive(self)

    def __aiter__(self) -> Receiver:
        """Iterate over messages, in a coroutine, until it is closed or, retired, empty.

        A descriptor table that is full does not end the iteration: it is reported once, to the
        logger "sendfd", and the next message is received when there is room.
        """
        return self

    async def __anext__(self) -> Message:
        """Receive the next message."""
        pause = _FIRST_PAUSE
        while True:
            try:
                from . import _loops

                return await _loops.receive(self)
            except OSError as error:
                if self.closed or error.errno == errno.ESHUTDOWN:
                    raise StopAsyncIteration from None
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                self._report(error)
            await sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _report(self, full: OSError) -> None:
        """Log that the descriptor table is full."""
        now = time.monotonic()
        if now - self._reported >= _REPORT_EACH:
            self._reported = now
            # Event loops have imported it already.
            import logging

            logging.getLogger("sendfd").warning(
                "%s; nothing is lost: it goes on when there is room", full.strerror
            )

    def close(self) -> None:
        """Stop listening. What nobody received is closed; senders get ConnectionRefusedError.

        Threads and tasks that wait in it are woken: their iterations end, their calls raise OSError
        (EBADF). With an event loop, call it in the loop's thread. Closing twice does nothing.
        """
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
        super().close()

    def __repr__(self) -> str:
        """Say what it listens on."""
        return f"<sendfd.Receiver sig={self.sig}{' closed' if self.closed else ''}>"

    def __del__(self) -> None:
        """Close what was forgotten, and say so."""
        # When opening failed, there is nothing to close.
        if not getattr(self, "closed", True):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()
