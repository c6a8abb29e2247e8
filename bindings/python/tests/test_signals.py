"""Signal mode, in real processes: what arrives as a signal is a descriptor."""

from __future__ import annotations

import os
import signal

import pytest
import sendfd
from conftest import SIG, MakeChild

LISTEN = """
signal.pthread_sigmask(signal.SIG_BLOCK, {SIG})
sendfd.listen(SIG)
print("ready", flush=True)
"""


def pipes(child: MakeChild, code: str) -> None:
    """Send the child two pipes, into which it writes its pid and their number."""
    peer = child(LISTEN + code)
    peer.ready()
    for number in range(2):
        out, into = os.pipe()
        sendfd.send(peer, SIG, into)
        os.close(into)
        with open(out, "rb") as file:
            assert file.read() == b"%d %d" % (peer.pid, number)
    peer.end()


def test_sigwaitinfo(child: MakeChild) -> None:
    pipes(
        child,
        """
for number in range(2):
    info = sendfd.sigwaitinfo({SIG})
    assert (info.sig, info.pid, info.uid, info.code) == (SIG, os.getppid(), os.getuid(), -1)
    assert not os.get_inheritable(info.fd)
    os.write(info.fd, b"%d %d" % (os.getpid(), number))
    os.close(info.fd)
assert sendfd.sigtimedwait({SIG}, 0) is None
sendfd.unlisten(SIG)
        """,
    )


def test_signalfd_in_asyncio(child: MakeChild) -> None:
    pipes(
        child,
        """
import asyncio

async def main():
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue()
    fd = sendfd.signalfd({SIG})

    def readable():
        for info in sendfd.parse_siginfo(os.read(fd, 128 * 16)):
            queue.put_nowait(info)

    loop.add_reader(fd, readable)
    for number in range(2):
        info = await queue.get()
        assert (info.sig, info.pid, info.uid, info.code) == (SIG, os.getppid(), os.getuid(), -1)
        os.write(info.fd, b"%d %d" % (os.getpid(), number))
        os.close(info.fd)
    loop.remove_reader(fd)
    os.close(fd)

asyncio.run(main())
        """,
    )


def test_pythons_own_sigwaitinfo(child: MakeChild) -> None:
    peer = child(
        LISTEN
        + """
info = signal.sigwaitinfo({SIG})
assert (info.si_signo, info.si_pid) == (SIG, os.getppid())
assert info.si_code in (-1, 0x81)
        """
    )
    peer.ready()
    sendfd.send(peer, SIG, 0)
    peer.end()


def test_a_python_handler_is_refused(child: MakeChild) -> None:
    child(
        """
        signal.signal(SIG, lambda *_: None)
        try:
            sendfd.listen(SIG)
        except ValueError as error:
            assert "would lose the descriptors" in str(error)
        else:
            sys.exit("no error")
        signal.pthread_sigmask(signal.SIG_BLOCK, {SIG})
        sendfd.listen(SIG)
        """
    ).end()


def test_errors() -> None:
    with pytest.raises(OSError, match="neither handled nor blocked"):
        sendfd.listen(SIG)
    with pytest.raises(OSError, match="not in signal mode"):
        sendfd.unlisten(SIG)
    with pytest.raises(OSError, match="Invalid argument"):
        sendfd.sigwaitinfo({9999})
    with pytest.raises(OSError, match="cannot open a signalfd"):
        sendfd.signalfd([0])
    with pytest.raises(ValueError, match="multiple of 128"):
        sendfd.parse_siginfo(bytes(127))
    with pytest.raises(ValueError, match="timeout"):
        sendfd.sigtimedwait([SIG], -1)
    assert sendfd.parse_siginfo(b"") == []


def test_the_payload_of_other_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    os.kill(os.getpid(), signal.SIGUSR1)
    info = sendfd.sigtimedwait({signal.SIGUSR1}, 10)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    assert info is not None
    assert (info.sig, info.pid, info.fd) == (signal.SIGUSR1, os.getpid(), None)


def test_a_number_that_was_made_up_is_not_believed(child: MakeChild) -> None:
    # Sent as an attacker would: by sigqueue(3), with any number as the value.
    one = child("""
        import ctypes
        libc = ctypes.CDLL(None)
        signal.pthread_sigmask(signal.SIG_BLOCK, {SIG})
        sendfd.listen(SIG)
        own = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        # None, not open, not close-on-exec, and one to be believed.
        for number in (-1, 900, 0, own):
            libc.sigqueue(os.getpid(), SIG, ctypes.c_void_p(number & 0xFFFFFFFF))
            print(sendfd.sigwaitinfo({SIG}).fd == own, end=" ")
        sendfd.unlisten(SIG)
    """)
    assert one.end() == "False False False True"
