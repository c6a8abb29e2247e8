"""Each kind of descriptor goes to a real second process, which uses it there."""

from __future__ import annotations

import os
import signal
import socket
import textwrap
from pathlib import Path

import pytest
import sendfd
from conftest import SIG, Child, MakeChild

RECEIVE = """
with sendfd.Receiver(SIG) as receiver:
    print("ready", flush=True)
    with receiver.recv() as m:
        assert m.pid == os.getppid() and m.uid == os.getuid() and m.gid == os.getgid()
        assert not os.get_inheritable(m.fd)
"""


@pytest.fixture
def hand(child: MakeChild):  # type: ignore[no-untyped-def]
    """Send a descriptor to a child that does this and that with the message `m`."""

    def run(fd: object, code: str) -> Child:
        peer = child(RECEIVE + textwrap.indent(textwrap.dedent(code), " " * 8))
        peer.ready()
        sendfd.send(peer, SIG, fd)  # type: ignore[arg-type]
        return peer

    return run


def test_a_tcp_connection(hand) -> None:  # type: ignore[no-untyped-def]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    code = """
        s = m.socket()
        assert (s.family, s.type, s.proto) == (socket.AF_INET, socket.SOCK_STREAM, 6)
        assert s.gettimeout() is None and m.fds == (None,)
        s.sendall(s.recv(100).upper())
        s.close()
    """
    with near:
        with far:
            peer = hand(far, code)
        near.sendall(b"over tcp")
        assert near.recv(100) == b"OVER TCP"
    peer.end()


def test_a_tcp_listener(hand) -> None:  # type: ignore[no-untyped-def]
    code = """
        assert sendfd.detect(m.fd) == ("socket", socket.AF_INET6, socket.SOCK_STREAM, 6, True)
        with m.socket() as listener:
            connection, _ = listener.accept()
            connection.sendall(b"hello")
            connection.close()
    """
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        peer = hand(listener, code)
        address = listener.getsockname()
    with socket.create_connection(address[:2]) as near:
        assert near.recv(100) == b"hello"
    peer.end()


def test_a_udp_socket(hand) -> None:  # type: ignore[no-untyped-def]
    code = """
        with m.socket() as s:
            assert (s.family, s.type) == (socket.AF_INET, socket.SOCK_DGRAM)
            data, address = s.recvfrom(100)
            s.sendto(data[::-1], address)
    """
    with socket.socket(type=socket.SOCK_DGRAM) as near:
        with socket.socket(type=socket.SOCK_DGRAM) as far:
            far.bind(("127.0.0.1", 0))
            peer = hand(far, code)
            near.sendto(b"abc", far.getsockname())
        assert near.recv(100) == b"cba"
    peer.end()


@pytest.mark.parametrize(
    "kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET], ids=str
)
def test_a_unix_socket(hand, kind: int) -> None:  # type: ignore[no-untyped-def]
    near, far = socket.socketpair(socket.AF_UNIX, kind)
    code = f"""
        with m.socket() as s:
            assert s.family == socket.AF_UNIX and int(s.type) == {int(kind)}
            s.send(b"from the child")
    """
    with near:
        with far:
            peer = hand(far, code)
        assert near.recv(100) == b"from the child"
    peer.end()


def test_a_file(hand, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "file"
    code = """
        with m.open("w", encoding="utf-8") as f:
            assert m.fds == (None,)
            print("grüezi", file=f)
    """
    with path.open("w+b") as file:
        file.write(b"one\n")
        file.flush()
        hand(file, code).end()
        # The same open file, so the same position.
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == path.stat().st_size
    assert path.read_text("utf-8") == "one\ngrüezi\n"


def test_a_pipe(hand) -> None:  # type: ignore[no-untyped-def]
    out, into = os.pipe()
    peer = hand(into, "os.write(m.fd, b'through a pipe')")
    os.close(into)
    with open(out, "rb") as file:
        assert file.read() == b"through a pipe"
    peer.end()


def test_a_memfd(hand) -> None:  # type: ignore[no-untyped-def]
    fd = os.memfd_create("shared")
    code = """
        import mmap
        with mmap.mmap(m.fd, 4096) as memory:
            memory[0:5] = b"there"
    """
    os.ftruncate(fd, 4096)
    hand(fd, code).end()
    assert os.pread(fd, 5, 0) == b"there"
    os.close(fd)


def test_an_eventfd(hand) -> None:  # type: ignore[no-untyped-def]
    fd = os.eventfd(0)
    hand(fd, "os.eventfd_write(m.fd, 42)").end()
    assert os.eventfd_read(fd) == 42
    os.close(fd)


def test_a_pidfd(hand, child: MakeChild) -> None:  # type: ignore[no-untyped-def]
    third = child("print('ready', flush=True); signal.pause()")
    third.ready()
    fd = os.pidfd_open(third.pid)
    hand(fd, "signal.pidfd_send_signal(m.fd, signal.SIGTERM)").end()
    os.close(fd)
    assert third.process.wait() == -signal.SIGTERM


def test_a_signalfd(hand) -> None:  # type: ignore[no-untyped-def]
    fd = sendfd.signalfd({signal.SIGUSR1})
    code = """
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        os.kill(os.getpid(), signal.SIGUSR1)
        info, = sendfd.parse_siginfo(os.read(m.fd, 128))
        assert (info.sig, info.pid, info.fd) == (signal.SIGUSR1, os.getpid(), None)
    """
    hand(fd, code).end()
    os.close(fd)


def test_several_at_once(hand) -> None:  # type: ignore[no-untyped-def]
    pipes = [os.pipe() for _ in range(16)]
    code = """
        assert len(m.fds) == len(set(m.fds)) == 16
        for i, fd in enumerate(m.fds): os.write(fd, b"%d" % i)
    """
    hand([into for _, into in pipes], code).end()
    for i, (out, into) in enumerate(pipes):
        assert os.read(out, 10) == b"%d" % i
        os.close(out)
        os.close(into)
