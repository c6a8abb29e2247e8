"""Signal mode, and the payload of signals that Python's own signal module leaves out."""

from __future__ import annotations

import fcntl
import signal
import struct
from collections.abc import Iterable
from typing import NamedTuple

from . import _sendfd

_SI_QUEUE = -1


def _descriptor(code: int, value: int) -> int | None:
    if code == _SI_QUEUE:
        # Whoever may signal this process can send any value. What is delivered is always
        # close-on-exec.
        try:
            flags = fcntl.fcntl(value, fcntl.F_GETFD)
        except (OSError, ValueError):
            return None
        return value if flags & fcntl.FD_CLOEXEC else None
    return value if code == _sendfd.SI_SENDFD and value >= 0 else None


class SignalInfo(NamedTuple):
    """A signal that was taken, with its payload."""

    sig: int
    """The signal's number."""
    fd: int | None
    """Its value, si_value.sival_int: in signal mode, a descriptor that this process now owns. None
    if the signal carries none, or a number that is not open and close-on-exec: on a kernel without
    sendfd(2), whoever may signal this process can make one up."""
    pid: int
    """Who sent it. It is no address to answer to: by then it may be another process's."""
    uid: int
    """The sender's user."""
    code: int
    """si_code: SI_SENDFD (0x81) for a descriptor that the kernel itself delivered, which nobody can
    forge, else SI_QUEUE (-1) for a signal with a value."""


def port(number: int) -> int:
    """Return the signal of port `number`, 0 to 29: SIGRTMAX - number.

    Counted from SIGRTMAX, which is 64 everywhere, a port is the same signal in every C library;
    SIGRTMIN is 34 in glibc and 35 in musl. Raises ValueError for another number.
    """
    if not 0 <= number <= 29:
        raise ValueError(f"ports are numbered from 0 to 29: {number} is none")
    return signal.SIGRTMAX - number


def parse_port(text: str) -> int:
    """Return the signal that text names: "3" is port 3, "RTMIN+1" and "RTMAX-3" are as in kill(1).

    "SIG" may stand in front of those. A number from SIGRTMIN to SIGRTMAX is a signal, as
    SENDFD_PORT in a worker's environment has it. Raises ValueError for anything else.
    """
    name = text.strip().upper().removeprefix("SIG")
    for prefix, base, sign in (("RTMIN", signal.SIGRTMIN, 1), ("RTMAX", signal.SIGRTMAX, -1)):
        if name.startswith(prefix):
            offset = name.removeprefix(prefix)
            number = base + int(offset) if offset else int(base)
            # What is added must say so: RTMIN+1, RTMAX-1.
            if offset[:1] in ("", "+-"[sign < 0]) and signal.SIGRTMIN <= number <= signal.SIGRTMAX:
                return number
            break
    else:
        number = int(name) if name.isdecimal() else -1
        if 0 <= number <= 29:
            return port(number)
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return number
    raise ValueError(f"{text!r} is no port: use 0 to 29, RTMIN+n or RTMAX-n")


def listen(sig: int) -> None:
    """Start signal mode: each descriptor that is sent to this process at sig raises sig in it.

    The signal's value is the number of the descriptor, close-on-exec, which the process then owns.
    Python's signal handlers see neither the value nor how often the signal came. So block the
    signal first, before any thread is started, and take it with sigwaitinfo() or a signalfd()::

        signal.pthread_sigmask(signal.SIG_BLOCK, {sig})
        sendfd.listen(sig)
        info = sendfd.sigwaitinfo({sig})

    Tags and data do not arrive. Does not block. A forked child does not listen.

    On a kernel that has sendfd(2) this is a flag of sigaction(2), and what that call cannot carry
    is refused to its sender (ConnectionRefusedError). While the descriptor table is full, taking
    the signal raises OSError (EMFILE) and it stays pending. Elsewhere it costs a thread, and
    several descriptors in one message raise a signal for each, in order.

    Raises ValueError if the signal would be handled by a Python function, OSError (EINVAL) if it is
    not a real-time signal or would kill the process, OSError (EADDRINUSE) if this process listens
    there already, OSError as the kernel says (EMFILE, ...).
    """
    blocked = sig in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    if (
        not blocked
        and signal.SIGRTMIN <= sig <= signal.SIGRTMAX
        and callable(signal.getsignal(sig))
    ):
        raise ValueError(
            f"a Python handler for signal {sig} would lose the descriptors: block the signal and "
            "take it with sendfd.sigwaitinfo() or sendfd.signalfd()"
        )
    _sendfd.listen(sig)


def unlisten(sig: int) -> None:
    """End signal mode on sig.

    What no signal was raised for yet is closed. Signals that are pending stay, and their
    descriptors are this process's: take them with sigtimedwait(). Raises OSError (EINVAL) if the
    process is not in signal mode there.
    """
    _sendfd.unlisten(sig)


def sigwaitinfo(signals: Iterable[int]) -> SignalInfo:
    """Wait for one of the signals, which must be blocked, and return it with its payload.

    Like signal.sigwaitinfo(), which has no place for the payload. Signals that are handled
    meanwhile run their Python handlers, and the wait goes on unless those raise. Raises OSError
    (EINVAL) for what is no signal.
    """
    info = sigtimedwait(signals)
    assert info is not None, "a wait without limit ends with a signal"
    return info


def sigtimedwait(signals: Iterable[int], timeout: float | None = None) -> SignalInfo | None:
    """Like sigwaitinfo(), for so many seconds at most. Returns None if no signal came.

    A timeout of 0 only looks; None is no limit. Raises ValueError for one below 0.
    """
    info = _sendfd.sigtimedwait(list(signals), timeout)
    if info is None:
        return None
    sig, code, pid, uid, value = info
    return SignalInfo(sig, _descriptor(code, value), pid, uid, code)


def signalfd(signals: Iterable[int]) -> int:
    """Open a descriptor that is readable while one of the signals is pending. Block them first.

    Read a multiple of 128 bytes from it, and give them to parse_siginfo(). It is non-blocking,
    close-on-exec and the caller's to close. Another process that has it reads its own signals from
    it. Raises OSError: EINVAL for what is no signal, EMFILE, ... as the kernel says.
    """
    return _sendfd.signalfd(list(signals))


# signo, errno, code, pid, uid, fd, tid, band, overrun, trapno, status, int: struct signalfd_siginfo
_SIGINFO = struct.Struct("=Iii II i IIII i i 80x")


def parse_siginfo(data: bytes) -> list[SignalInfo]:
    """Take apart what was read from a signalfd: a multiple of 128 bytes, one signal in each.

    Raises ValueError for another length.
    """
    if len(data) % _SIGINFO.size:
        raise ValueError(f"{len(data)} bytes are not a multiple of {_SIGINFO.size}")
    return [
        SignalInfo(sig, _descriptor(code, value), pid, uid, code)
        for sig, _, code, pid, uid, *_, value in _SIGINFO.iter_unpack(data)
    ]
