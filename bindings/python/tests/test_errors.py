"""Each error: its class, its errno, its words, and that it leaves nothing behind."""

from __future__ import annotations

import errno
import math
import os
import resource
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest
import sendfd
from conftest import SIG, MakeChild, need, need_root


def fill(target: sendfd.Target, fd: int) -> int:
    """Send until the queue is full."""
    count = 0

    def send() -> None:
        nonlocal count
        while True:
            target.send(fd)
            count += 1

    with pytest.raises(BlockingIOError, match="queue is full") as caught:
        send()
    assert caught.value.errno == errno.EAGAIN
    return count


def test_no_such_process(child: MakeChild) -> None:
    peer = child("")
    pid = os.pidfd_open(peer.pid)
    os.waitid(os.P_PIDFD, pid, os.WEXITED | os.WNOWAIT)
    os.close(pid)
    # A zombie.
    with pytest.raises(ProcessLookupError, match=f"process {peer.pid} at signal {SIG}"):
        sendfd.send(peer.pid, SIG, 0)
    peer.end()
    with pytest.raises(ProcessLookupError):
        sendfd.Target(peer.pid, SIG)
    # Whoever has the pid now is not meant.
    with pytest.raises(ProcessLookupError, match="has exited with status 0") as caught:
        sendfd.send(peer.process, SIG, 0)
    assert caught.value.errno == errno.ESRCH


def test_a_target_that_exits(child: MakeChild) -> None:
    peer = child("r = sendfd.Receiver(SIG); print('ready', flush=True); signal.pause()")
    peer.ready()
    with sendfd.Target(peer.pid, SIG) as target:
        target.send(0)
        peer.kill()
        with pytest.raises(ProcessLookupError):
            target.send(0)


def test_not_listening() -> None:
    with pytest.raises(ConnectionRefusedError, match="start the target's receiver first") as caught:
        sendfd.send(os.getpid(), SIG, 0)
    assert caught.value.errno == errno.ECONNREFUSED
    with pytest.raises(TimeoutError, match="did not start to listen in time") as waited:
        sendfd.send(os.getpid(), SIG, 0, timeout=0.01)
    assert waited.value.errno == errno.ETIMEDOUT
    with pytest.raises(ConnectionRefusedError):
        sendfd.Target(os.getpid(), SIG)


def test_a_receiver_that_is_closed(null: int) -> None:
    with sendfd.Receiver(SIG) as receiver:
        target = sendfd.Target(os.getpid(), SIG)
        target.send(null)
    with target, pytest.raises(ConnectionRefusedError):
        target.send(null)
    with pytest.raises(OSError, match="the receiver is closed") as caught:
        receiver.recv()
    assert caught.value.errno == errno.EBADF
    assert receiver.fileno() == -1
    assert receiver.closed
    assert list(receiver) == []
    receiver.close()


def test_a_full_queue(receiver: sendfd.Receiver, null: int) -> None:
    with sendfd.Target(os.getpid(), SIG) as target:
        count = fill(target, null)
        assert count > 100
        with pytest.raises(TimeoutError, match="made no room"):
            target.send(null, timeout=0.01)
        receiver.recv().close()
        target.send(null, timeout=1)
        for _ in range(count):
            receiver.recv(timeout=0).close()
        with pytest.raises(BlockingIOError, match="there is no message"):
            receiver.recv(timeout=0)


def test_the_size_of_the_queue(null: int) -> None:
    with (
        sendfd.Receiver(SIG, queue_bytes=8192) as receiver,
        sendfd.Target(os.getpid(), SIG, paths="pidfd") as target,
    ):
        assert fill(target, null) < 100
        assert receiver.dropped == 0


def test_nothing_came(receiver: sendfd.Receiver) -> None:
    with pytest.raises(BlockingIOError) as empty:
        receiver.recv(0)
    assert empty.value.errno == errno.EAGAIN
    for timeout in (0.01, 1e-300):
        with pytest.raises(TimeoutError, match="no message came in time"):
            receiver.recv(timeout)


NOBODY = """
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
"""


def test_a_stranger(receiver: sendfd.Receiver, child: MakeChild) -> None:
    need_root()
    peer = child(
        NOBODY
        + """
try:
    sendfd.send(os.getppid(), SIG, 0)
except PermissionError as error:
    print(error.errno, error.strerror)
        """
    )
    words = peer.end()
    assert words.startswith(f"{errno.EPERM} cannot send to process {os.getpid()} at signal {SIG}: ")
    # The hint.
    assert words.endswith(")")
    with pytest.raises(BlockingIOError):
        receiver.recv(0)


def test_a_stranger_who_is_named(child: MakeChild) -> None:
    need_root()
    with sendfd.Receiver(SIG, uids=[65534]) as receiver:
        child(NOBODY + "sendfd.send(os.getppid(), SIG, 0)").end()
        with receiver.recv(0) as message:
            assert message.uid == message.gid == 65534


def test_who_is_another_user_by_now_is_not_told_success(child: MakeChild) -> None:
    # Opened as root, and in the cache as root; then the process gives its rights up.
    need_root()
    with sendfd.Receiver(SIG) as receiver:
        peer = child(f"""
target = sendfd.Target(os.getppid(), SIG)
target.send(0)
sendfd.send(os.getppid(), SIG, 0)
{NOBODY}
for send in (lambda: target.send(0), lambda: sendfd.send(os.getppid(), SIG, 0)):
    try:
        send()
    except PermissionError:
        print("refused", end=" ")
        """)
        assert peer.end() == "refused refused"
        for message in receiver.recv_many(10, timeout=0):
            message.close()
            assert message.uid == 0
        with pytest.raises(BlockingIOError):
            receiver.recv(0)


def test_too_many_in_flight(child: MakeChild) -> None:
    need_root()
    # Root is not limited; nobody is.
    child(
        NOBODY
        + """
with sendfd.Receiver(SIG) as receiver:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            sendfd.send(os.getpid(), SIG, [0] * 60)
    except OSError as error:
        assert error.errno == errno.ETOOMANYREFS, error
        assert "RLIMIT_NOFILE" in error.strerror
        """
    ).end()


def test_a_full_table_loses_nothing(receiver: sendfd.Receiver, null: int) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    sendfd.send(os.getpid(), SIG, [null] * 8, tag=8)
    lowest = os.dup(null)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 4, limit[1]))
    try:
        for _ in range(3):
            with pytest.raises(OSError, match="descriptor table is full") as caught:
                receiver.recv(0)
            assert caught.value.errno == errno.EMFILE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    with receiver.recv(0) as message:
        assert (message.tag, len(message.fds)) == (8, 8)


def test_opening_with_a_full_table(null: int) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    for spare in range(5):
        lowest = os.dup(null)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + spare, limit[1]))
        try:
            with pytest.raises(OSError, match="cannot open a receiver") as caught:
                sendfd.Receiver(SIG).close()
            assert caught.value.errno == errno.EMFILE
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_listening_twice(receiver: sendfd.Receiver) -> None:
    with pytest.raises(OSError, match="already listens") as caught:
        sendfd.Receiver(receiver.sig)
    assert caught.value.errno == errno.EADDRINUSE


def test_a_path_that_is_not_offered(receiver: sendfd.Receiver) -> None:
    need("a kernel without sendfd(2)", "syscall" not in sendfd.probe().working)
    with pytest.raises(OSError, match="not offered here: syscall") as caught:
        sendfd.send(os.getpid(), SIG, 0, paths="syscall")
    assert caught.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize(
    ("pid", "sig", "fds", "data", "number"),
    [
        (0, SIG, 0, b"", errno.EINVAL),
        (None, signal.SIGUSR1, 0, b"", errno.EINVAL),
        (None, 65, 0, b"", errno.EINVAL),
        (None, SIG, [], b"", errno.EINVAL),
        (None, SIG, [0] * 254, b"", errno.EINVAL),
        (None, SIG, [0] * 253, bytes(4097), errno.EINVAL),
        (None, SIG, 0, bytes(2**20 + 1), errno.EMSGSIZE),
        (None, SIG, 999_999, b"", errno.EBADF),
        (None, SIG, [0, 999_999], b"", errno.EBADF),
    ],
)
def test_bad_values_for_the_kernel(
    receiver: sendfd.Receiver, pid: int | None, sig: int, fds: Any, data: bytes, number: int
) -> None:
    with pytest.raises(OSError, match=r"cannot send to process .* at signal|not a port") as caught:
        sendfd.send(os.getpid() if pid is None else pid, sig, fds, data=data)
    assert caught.value.errno == number
    with pytest.raises(BlockingIOError):
        receiver.recv(0)


@pytest.mark.parametrize("pid", [-1, -(2**31)])
def test_a_pid_below_zero_is_named_as_given(receiver: sendfd.Receiver, pid: int) -> None:
    class Process:
        def __init__(self) -> None:
            self.pid = pid

    for process in (pid, Process()):
        for call in (
            lambda to: sendfd.send(to, SIG, 0),
            lambda to: sendfd.asend(to, SIG, 0),
            lambda to: sendfd.Target(to, SIG),
            lambda to: sendfd.probe(to, SIG),
        ):
            with pytest.raises(OSError, match=f"there is no process {pid}: ") as caught:
                call(process)
            assert caught.value.errno == errno.EINVAL
    with pytest.raises(BlockingIOError):
        receiver.recv(0)


def test_not_a_real_time_signal() -> None:
    for open_at in (sendfd.Receiver, sendfd.listen, lambda sig: sendfd.Target(os.getpid(), sig)):
        with pytest.raises(OSError, match="use a signal from SIGRTMIN to SIGRTMAX") as caught:
            open_at(signal.SIGTERM)
        assert caught.value.errno == errno.EINVAL


class Broken:
    def fileno(self) -> str:
        return "zero"


@pytest.mark.parametrize(
    "fd", [None, "0", b"\0", bytearray(1), 1.5, ["0"], [[0]], object(), Broken(), [Broken()]]
)
def test_what_is_no_descriptor(receiver: sendfd.Receiver, fd: Any) -> None:
    with pytest.raises(TypeError):
        sendfd.send(os.getpid(), SIG, fd)
    with pytest.raises(BlockingIOError):
        receiver.recv(0)


def test_a_closed_owner(receiver: sendfd.Receiver) -> None:
    closed = socket.socket()
    closed.close()
    with pytest.raises(ValueError, match="negative"):
        sendfd.send(os.getpid(), SIG, closed)
    with pytest.raises(ValueError, match="negative"):
        sendfd.send(os.getpid(), SIG, [0, -1])


def test_wrong_types(receiver: sendfd.Receiver) -> None:
    me: Any = os.getpid()
    wrong: Any
    for wrong in ("1", None, 1.5, object()):
        with pytest.raises(TypeError, match="a pid must be"):
            sendfd.send(wrong, SIG, 0)
    for wrong in ("text", 5, None):
        with pytest.raises(TypeError):
            sendfd.send(me, SIG, 0, data=wrong)
    for wrong in (5, [5]):
        with pytest.raises(TypeError):
            sendfd.send(me, SIG, 0, paths=wrong)
    for wrong in ("1", [1]):
        with pytest.raises(TypeError):
            sendfd.send(me, SIG, 0, timeout=wrong)
        with pytest.raises(TypeError):
            receiver.recv(wrong)
    with pytest.raises(TypeError):
        sendfd.send(me, SIG, 0, b"data by position")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        sendfd.Message()
    with pytest.raises(TypeError, match="go together"):
        sendfd.probe(me)


def test_bad_values(receiver: sendfd.Receiver) -> None:
    me = os.getpid()
    for timeout in (-1, -0.001, math.nan):
        with pytest.raises(ValueError, match="timeout"):
            sendfd.send(me, SIG, 0, timeout=timeout)
        with pytest.raises(ValueError, match="timeout"):
            receiver.recv(timeout)
    wrong: Any
    for wrong in ("", "pidfd,nmae", ["PIDFD"], []):
        with pytest.raises(ValueError, match="path"):
            sendfd.send(me, SIG, 0, paths=wrong)
    for tag in (-1, 2**64):
        with pytest.raises(OverflowError):
            sendfd.send(me, SIG, 0, tag=tag)
    with pytest.raises(OverflowError):
        sendfd.send(2**40, SIG, 0)


def test_the_environment() -> None:
    code = "import sendfd, os; sendfd.send(os.getpid(), 40, 0)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "SENDFD_PATHS": "smoke-signals"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "SENDFD_PATHS takes a comma-separated list" in result.stderr
