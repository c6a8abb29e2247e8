"""Descriptors for tasks whose process nobody knows beforehand: the task asks for its own.

The process that has them keeps a Lender. What a pool, a queue or a test runner carries to the task
is three numbers: the pid, the signal and the key. The task sends one end of a socket pair to that
process, and the answer comes back over the pair: to whoever holds the other end, whatever has its
pid by then.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading

import sendfd

PATIENCE = 10

Address = tuple[int, int, int]
"""Whom to ask, at which signal, for which key."""


class Lender:
    """Keeps sockets for those who ask for them, in a thread of its own."""

    def __init__(self, sig: int) -> None:
        """Open the receiver. Raises what sendfd.Receiver raises."""
        self._receiver = sendfd.Receiver(sig)
        self._kept: dict[int, tuple[socket.socket, bool]] = {}
        self._keys = itertools.count(1)
        self._thread = threading.Thread(target=self._lend, daemon=True)
        self._thread.start()

    def keep(self, one: socket.socket, *, once: bool = True) -> Address:
        """Keep a socket, which is the lender's from now on: until it was lent, if once is true."""
        key = next(self._keys)
        self._kept[key] = one, once
        return os.getpid(), self._receiver.sig, key

    @property
    def kept(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def _lend(self) -> None:
        for message in self._receiver:
            # A task that was killed, and a stranger's message, are no reason to stop.
            with message, contextlib.suppress(OSError), message.socket(timeout=0) as asking:
                self._answer(asking, message.tag)

    def _answer(self, asking: socket.socket, key: int) -> None:
        one, once = self._kept.get(key, (None, False))
        if one is None:
            asking.send(b"-")
            return
        socket.send_fds(asking, [b"+"], [one.fileno()])
        if once:
            del self._kept[key]
            one.close()

    def close(self) -> None:
        """Lend no more, and close what was not lent."""
        self._receiver.close()
        self._thread.join()
        for one, _ in self._kept.values():
            one.close()
        self._kept.clear()

    def __enter__(self) -> Lender:
        """Nothing more to be done."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close."""
        self.close()


def borrow(address: Address) -> socket.socket:
    """Ask for a socket, and wait for it. LookupError: nothing is kept under that key any more.

    Raises ConnectionError if the lender ends without an answer, and what sendfd.send() raises.
    """
    pid, sig, key = address
    near, far = socket.socketpair()
    near.settimeout(PATIENCE)
    with near:
        with far:
            sendfd.send(pid, sig, far, tag=key, timeout=PATIENCE)
        answer, fds, _, _ = socket.recv_fds(near, 1, 1)
    if fds:
        return socket.socket(fileno=fds[0])
    if answer:
        raise LookupError(f"process {pid} keeps nothing under {key}")
    raise ConnectionError(f"process {pid} has gone")
