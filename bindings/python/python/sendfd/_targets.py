"""Several targets, of which one that has room gets each message."""

from __future__ import annotations

import errno
import time

from ._sendfd import Held, Target, hold
from ._sleep import sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed import ReadableBuffer

    from ._sendfd import _HasFileno, _HasPid, _PathName

# What is about a target and not about the message.
_REFUSALS = (errno.ECONNREFUSED, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP)
# How long one that refused is left alone while others take messages.
_REST = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02


class _Member:
    """A target, and what is known about it."""

    def __init__(self, pid: int | _HasPid, sig: int) -> None:
        self.process, self.sig = pid, sig
        self.pid = pid if isinstance(pid, int) else pid.pid
        self.target: Target | None = None
        self.rests_until = 0.0

    def close(self) -> None:
        if self.target is not None:
            self.target.close()
            self.target = None


class Targets:
    """Several workers: each message goes to one of them, in turn, that takes it.

    addresses are pairs of a pid (or a process object) and a signal. One whose queue is full is
    passed over; one that does not listen (it boots, or has retired), does not accept this process
    or cannot be reached is left alone for a second while others take messages, and kept; only one
    that has exited is dropped. So a living worker is never given up. add() and discard() change who
    belongs to it.

    It owns up to two descriptors for each, and is a context manager that closes them. Threads may
    share it if they do not add or discard meanwhile.
    """

    def __init__(
        self,
        addresses: Iterable[tuple[int | _HasPid, int]] = (),
        *,
        paths: str | Iterable[_PathName] | None = None,
    ) -> None:
        """Open nothing yet: each is opened when it is first sent to."""
        self._paths = paths if paths is None or isinstance(paths, str) else tuple(paths)
        self._members = [_Member(pid, sig) for pid, sig in addresses]
        self._next = 0

    def add(self, pid: int | _HasPid, sig: int) -> None:
        """Add one more. It is opened when it is first sent to."""
        self._members.append(_Member(pid, sig))

    def discard(self, pid: int | _HasPid, sig: int) -> None:
        """Send nothing more to this one. What was sent to it arrives. Unknown ones are ignored."""
        number = pid if isinstance(pid, int) else pid.pid
        for member in [one for one in self._members if (one.pid, one.sig) == (number, sig)]:
            self._drop(member)

    @property
    def addresses(self) -> list[tuple[int | None, int]]:
        """The pid and signal of each that belongs to it."""
        return [(member.pid, member.sig) for member in self._members]

    def send(
        self,
        fd: int | _HasFileno | Iterable[int | _HasFileno],
        *,
        data: ReadableBuffer = b"",
        tag: int = 0,
        timeout: float | None = 0,
    ) -> Target:
        """Send one message to the next that takes it, and return which that was.

        fd, data, tag and timeout are those of sendfd.send(). Errors of the message itself are
        raised at once. When nobody takes it: BlockingIOError if one is full, ProcessLookupError if
        none is left, ConnectionRefusedError, PermissionError or OSError (EOPNOTSUPP) otherwise;
        TimeoutError after a timeout. On an error nothing was sent.
        """
        clock = _Clock(timeout)
        held = hold(fd, data, tag)
        try:
            while True:
                sent = self._offer(held, clock)
                if sent is not None:
                    return sent
                time.sleep(clock.pause())
        finally:
            held.release()

    async def asend(
        self,
        fd: int | _HasFileno | Iterable[int | _HasFileno],
        *,
        data: ReadableBuffer = b"",
        tag: int = 0,
        timeout: float | None = None,
    ) -> Target:
        """Send like send(), in a coroutine: cancelled while it waits, it has sent nothing.

        fd is held from when the coroutine starts.
        """
        clock = _Clock(timeout)
        held = hold(fd, data, tag)
        try:
            await sleep(0)
            while True:
                sent = self._offer(held, clock)
                if sent is not None:
                    return sent
                await sleep(clock.pause())
        finally:
            held.release()

    def _offer(self, held: Held, clock: _Clock) -> Target | None:
        """Go round once, first to those that do not rest. None if it is worth to wait."""
        now = time.monotonic()
        start, self._next = self._next, self._next + 1
        count = len(self._members)
        ring = [self._members[(start + step) % count] for step in range(count)]
        error: OSError = ProcessLookupError(errno.ESRCH, "none of the targets is left")
        try:
            for member in sorted(ring, key=lambda one: one.rests_until > now):
                try:
                    if member.target is None:
                        member.target = Target(member.process, member.sig, paths=self._paths)
                    held.send_to(member.target)
                except ProcessLookupError:
                    self._drop(member)
                except BlockingIOError as full:
                    error = full
                except OSError as refusal:
                    if refusal.errno not in _REFUSALS:
                        raise
                    member.rests_until = now + _REST
                    if not isinstance(error, BlockingIOError):
                        error = refusal
                else:
                    member.rests_until = 0.0
                    return member.target
            clock.check(error)
        finally:
            # Its traceback refers to this frame, and so to what is held, which must not stay open
            # until the garbage collector comes.
            del error
        return None

    def _drop(self, member: _Member) -> None:
        if member in self._members:
            self._members.remove(member)
        member.close()

    def close(self) -> None:
        """Close all. What was sent arrives all the same."""
        while self._members:
            self._drop(self._members[0])

    def __enter__(self) -> Targets:
        """Nothing more to be done."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close."""
        self.close()

    def __len__(self) -> int:
        """How many belong to it."""
        return len(self._members)


class _Clock:
    """How long to wait, and how long before the next try."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + timeout
        self._waits = timeout != 0
        self._pause = _FIRST_PAUSE

    def check(self, error: OSError) -> None:
        """Raise if there is no time left, or no use in waiting."""
        if not self._waits or not isinstance(error, (BlockingIOError, ConnectionRefusedError)):
            try:
                raise error
            finally:
                # It would be kept alive by its own traceback.
                del error
        if self._end is not None and time.monotonic() >= self._end:
            raise TimeoutError(errno.ETIMEDOUT, f"no target took it in time: {error.strerror}")

    def pause(self) -> float:
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_PAUSE)
        return pause if self._end is None else max(0.0, min(pause, self._end - time.monotonic()))
