"""Hand an open descriptor to another process, by pid, on Linux.

In the process that wants descriptors::

    with sendfd.Receiver(signal.SIGRTMIN) as receiver:
        for message in receiver:
            with message, message.socket() as connection:
                ...

In the process that has one::

    sendfd.send(pid, signal.SIGRTMIN, connection)

Sending succeeds once the kernel holds a duplicate for the target: the sender may close its own
descriptor, or exit, in the next instruction. On an error nothing was sent.

Errors are those of the built-in OSError family, by errno:

================== =======================================================================
ProcessLookupError no such process, or it has exited
ConnectionRefused- the process lives but does not listen on the signal
Error
PermissionError    the target does not accept this user, or no permitted path leads to it
BlockingIOError    the target's queue is full, or (receiving) there is no message, and no
                   timeout was given
TimeoutError       the timeout ran out
OSError            EINVAL: not a real-time signal, a pid below 1, no descriptors or more
                   than MAX_FDS (one less beside data above 4096 bytes); EBADF: a
                   descriptor is not open, something is closed or inherited through fork;
                   ETOOMANYREFS: too many descriptors in flight; ESHUTDOWN: a receiver has
                   retired and given out its last message; EMSGSIZE: more than MAX_DATA
                   bytes; EADDRINUSE: this process listens there already; EOPNOTSUPP: a
                   path is not offered, or no memfd, in which data above 4096 bytes
                   travels; EMFILE, ENFILE, ENOMEM: as the kernel says
================== =======================================================================
"""

from ._message import Message
from ._receiver import Receiver
from ._sendfd import MAX_DATA, MAX_FDS, Target, asend, send
from ._sendfd import VERSION as __version__

# What not every program needs is imported when it is first named, so that importing this is light.
# (typing alone would be most of it. Type checkers take TYPE_CHECKING for true.)
TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import aio as aio
    from . import asgi as asgi
    from . import takeover as takeover
    from ._kind import Kind, detect
    from ._probe import Report, probe
    from ._signals import (
        SignalInfo,
        listen,
        parse_port,
        parse_siginfo,
        port,
        signalfd,
        sigtimedwait,
        sigwaitinfo,
        unlisten,
    )
    from ._targets import Targets

_WHERE = {
    "Kind": "_kind",
    "detect": "_kind",
    "Report": "_probe",
    "probe": "_probe",
    "SignalInfo": "_signals",
    "listen": "_signals",
    "parse_port": "_signals",
    "parse_siginfo": "_signals",
    "port": "_signals",
    "signalfd": "_signals",
    "sigtimedwait": "_signals",
    "sigwaitinfo": "_signals",
    "Targets": "_targets",
    "unlisten": "_signals",
}
_MODULES = frozenset({"aio", "asgi", "takeover"})


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _WHERE:
        value: object = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "MAX_DATA",
    "MAX_FDS",
    "Kind",
    "Message",
    "Receiver",
    "Report",
    "SignalInfo",
    "Target",
    "Targets",
    "__version__",
    "asend",
    "detect",
    "listen",
    "parse_port",
    "parse_siginfo",
    "port",
    "probe",
    "send",
    "signalfd",
    "sigtimedwait",
    "sigwaitinfo",
    "unlisten",
]
