"""A new release takes the listening sockets of the running one, and no client is refused.

The one that runs offers them; the new one takes them, starts to serve, and says so; only then does
the old one stop accepting and finish what it has. If the new one fails before it serves, the old
one goes on as if nothing had been asked. docs/takeover.md has the protocol, which Node speaks, too.

Both are the same program::

    with takeover.take_or_listen({"http": ("", 80)}, old=pid, sig=SIG) as taken:
        server = start(taken.sockets["http"])
        taken.serving()
    with takeover.Offer(SIG, {"http": listener}, leave=server.stop_accepting):
        server.run()

examples/takeover.py does this with uvicorn, hypercorn, aiohttp, gunicorn, waitress, cheroot and
Twisted.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import re
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from ._message import Message
from ._receiver import Receiver
from ._sendfd import MAX_FDS, send

if TYPE_CHECKING:
    from ._sendfd import _HasPid

_REQUEST = b"takeover 1"
_LINE = 4096
_NAME = re.compile(r"[!-9;-~]{1,255}")


class Refused(ConnectionRefusedError):
    """The running process does not hand its sockets over; it says why."""


_Self = TypeVar("_Self", bound="_Closes")


class _Closes:
    """Is closed at the end of a with."""

    def close(self) -> None:
        """Close."""
        raise NotImplementedError

    def __enter__(self: _Self) -> _Self:
        """Nothing more to be done."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


class Taken(_Closes):
    """Listening sockets that were taken, or opened, for a server that is about to start.

    A context manager: left without serving() having been called, it gives up. The process that
    offered them goes on then, and the sockets are closed here.
    """

    sockets: dict[str, socket.socket]
    """The sockets, by name. They are closed with this until serving() was called, and then the
    caller's."""

    def __init__(self, sockets: dict[str, socket.socket], old: socket.socket | None) -> None:
        """Keep what was taken; old is how to speak with who offered it."""
        self.sockets = sockets
        self._old = old
        self._served = False

    def serving(self) -> None:
        """Say that this process serves: the old one stops accepting.

        Raises ConnectionAbortedError if the old one has gone meanwhile or does not wait any longer.
        If it has gone, this process is the only one that accepts; if it does not wait, both do.
        """
        self._served = True
        if self._old is not None:
            try:
                self._old.sendall(b"serving\n")
            except OSError as error:
                raise ConnectionAbortedError(
                    errno.ECONNABORTED, f"the process that offered its sockets has gone: {error}"
                ) from error

    def wait_left(self, timeout: float | None = None) -> bool:
        """Wait until new connections come to this process alone. False if the time ran out."""
        if self._old is None:
            return True
        poll = select.poll()
        poll.register(self._old, select.POLLIN)
        if not poll.poll(None if timeout is None else timeout * 1000):
            return False
        with contextlib.suppress(OSError):
            self._old.recv(1)
        return True

    def close(self) -> None:
        """Give up, if serving() was not called; if it was, the sockets stay open."""
        if not self._served:
            for one in self.sockets.values():
                one.close()
        if self._old is not None:
            self._old.close()


def take(pid: int | _HasPid, sig: int, *, timeout: float | None = 30) -> Taken:
    """Ask process pid, which offers them at sig, for its listening sockets. Blocks until they come.

    timeout is in seconds, None without limit. Raises what sendfd.send() raises (ProcessLookupError:
    there is no such process; ConnectionRefusedError: it offers nothing), Refused if it declines,
    TimeoutError, ConnectionAbortedError if it ends the exchange or does not keep to the protocol.
    On an error nothing was taken.
    """
    end = _end(timeout)
    near, far = socket.socketpair()
    with far:
        try:
            send(pid, sig, far, data=_REQUEST, timeout=timeout)
        except BaseException:
            near.close()
            raise
    try:
        return Taken(_receive_offer(near, end), near)
    except BaseException:
        near.close()
        raise


def take_or_listen(
    addresses: Mapping[str, tuple[str, int] | str],
    *,
    old: int | _HasPid | None,
    sig: int,
    timeout: float | None = 30,
) -> Taken:
    """Take sockets from process old, and open those that it does not have.

    All are non-blocking, as two processes that accept from one socket need it: whoever comes second
    must not wait in accept(). addresses says which are wanted: by name, a (host, port) of TCP,
    where host "" is every address, or the path of a unix socket. What old offers beside these is
    closed. If old is None or has exited, all are opened here; an old unix socket on which nobody
    listens is replaced.

    Raises what take() raises, but for ProcessLookupError, and OSError where a socket cannot be
    opened.
    """
    try:
        taken = Taken({}, None) if old is None else take(old, sig, timeout=timeout)
    except ProcessLookupError:
        taken = Taken({}, None)
    offered, taken.sockets = taken.sockets, {}
    try:
        for name, address in addresses.items():
            taken.sockets[name] = one = offered.pop(name, None) or _listen(address)
            one.setblocking(False)
    except BaseException:
        taken.close()
        raise
    finally:
        for unwanted in offered.values():
            unwanted.close()
    return taken


class Offer(_Closes):
    """Offers the listening sockets of this process to its successor, from a thread of its own.

    sockets are by name; names are printable ASCII without space and colon. They are duplicated: the
    server may close its own. sig is where the successor asks; who may send to this process may ask.

    When the successor serves, leave() is called, in that thread: it makes the server stop
    accepting, and finish, in its own time, what it has accepted. Whatever it does, it must not
    remove the path of a unix socket nor call shutdown(2) on a listening socket: both would reach
    the successor. Without leave, this process gets SIGTERM. If the successor gives up, nothing
    happens, and the next may ask.

    Opening raises what Receiver raises, and ValueError for a bad name or no sockets.
    """

    def __init__(
        self,
        sig: int,
        sockets: Mapping[str, socket.socket],
        leave: Callable[[], object] | None = None,
        *,
        timeout: float | None = 30,
    ) -> None:
        """Start to offer."""
        if not 1 <= len(sockets) <= MAX_FDS:
            raise ValueError(f"offer from 1 to {MAX_FDS} sockets")
        for name in sockets:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot name a socket")
        self._line = f"offer {' '.join(sockets)}\n".encode()
        if len(self._line) > _LINE:
            raise ValueError("the names are too long together")
        self._leave, self._timeout = leave, timeout
        self._receiver = Receiver(sig)
        self._lock = threading.Lock()
        self._busy = False
        self._end: socket.socket | None = None
        self._sockets = [one.dup() for one in sockets.values()]
        self.left = threading.Event()
        """Set when a successor serves and leave() has returned."""
        threading.Thread(target=self._run, name="sendfd.takeover", daemon=True).start()

    def _run(self) -> None:
        for message in self._receiver:
            with message:
                if self._busy:
                    self._refuse(message, "another process is taking over")
                elif message.data != _REQUEST:
                    self._refuse(message, "only version 1 of the protocol is spoken here")
                else:
                    self._busy = True
                    asking = message.socket(timeout=self._timeout)
                    threading.Thread(
                        target=self._answer, args=[asking], name="sendfd.takeover", daemon=True
                    ).start()
        self._receiver.close()

    def _refuse(self, message: Message, words: str) -> None:
        with contextlib.suppress(OSError), message.socket(timeout=0) as asking:
            asking.send(f"refuse {words}\n".encode())

    def _answer(self, asking: socket.socket) -> None:
        try:
            served = self._offer(asking)
        except OSError:
            served = False
        if not served:
            asking.close()
            self._busy = False
            return
        # Who asked meanwhile is told that another took over; then the thread closes it.
        self._receiver.retire()
        self._close_sockets()
        if self._leave is None:
            # The end of this process says that it left, or close().
            self._end = asking
            self.left.set()
            os.kill(os.getpid(), signal.SIGTERM)
            return
        try:
            self._leave()
        finally:
            asking.close()
            # Not before: who waits for it may close what leave() still uses.
            self.left.set()

    def _offer(self, asking: socket.socket) -> bool:
        with self._lock:
            if not self._sockets:
                return False
            socket.send_fds(asking, [self._line], [one.fileno() for one in self._sockets])
        line = b""
        end = _end(self._timeout)
        while not line.endswith(b"\n") and len(line) < _LINE:
            asking.settimeout(_left(end))
            some = asking.recv(_LINE - len(line))
            if not some:
                return False
            line += some
        return line == b"serving\n"

    def _close_sockets(self) -> None:
        with self._lock:
            while self._sockets:
                self._sockets.pop().close()

    def close(self) -> None:
        """Offer no more. Who asked and has not been told that it may go on is on its own."""
        self._receiver.close()
        self._close_sockets()
        end, self._end = self._end, None
        if end is not None:
            end.close()


def _end(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _left(end: float | None) -> float | None:
    if end is None:
        return None
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError(errno.ETIMEDOUT, "the other process did not answer in time")
    return left


def _receive_offer(near: socket.socket, end: float | None) -> dict[str, socket.socket]:
    """Read the answer, which owns nothing when this raises."""
    line = b""
    sockets: list[socket.socket] = []
    try:
        while not line.endswith(b"\n") and len(line) < _LINE:
            near.settimeout(_left(end))
            some, fds, _ = _receive(near, _LINE - len(line))
            sockets += [socket.socket(fileno=fd) for fd in fds]
            if not some:
                break
            line += some
        near.settimeout(None)
        words = line.decode(errors="replace").split()
        if words[:1] == ["refuse"] and not sockets:
            why = " ".join(words[1:])
            raise Refused(errno.ECONNREFUSED, f"the process does not hand over: {why}")
        names = words[1:]
        good = words[:1] == ["offer"] and line.endswith(b"\n") and 0 < len(names) == len(sockets)
        if not good or len(set(names)) < len(names):
            raise ConnectionAbortedError(
                errno.ECONNABORTED, "the process ended the exchange without an offer"
            )
    except BaseException:
        for one in sockets:
            one.close()
        raise
    return dict(zip(names, sockets, strict=True))


def _receive(near: socket.socket, size: int) -> tuple[bytes, array.array[int], int]:
    """As socket.recv_fds, close-on-exec from the start."""
    fds = array.array("i")
    data, control, flags, _ = near.recvmsg(
        size, socket.CMSG_SPACE(MAX_FDS * fds.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, content in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, fds, flags


def _listen(address: tuple[str, int] | str) -> socket.socket:
    if isinstance(address, tuple):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        return socket.create_server(address, family=family)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or _is_served(address):
                raise
            os.unlink(address)
            listener.bind(address)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(path)
        except ConnectionRefusedError:
            return False
    return True
