"""What becomes of a message's descriptors."""

from __future__ import annotations

import errno
import gc
import os
import socket
import threading
from pathlib import Path

import pytest
import sendfd
from conftest import SIG


def arrive(receiver: sendfd.Receiver, *fds: object, data: bytes = b"") -> sendfd.Message:
    sendfd.send(os.getpid(), receiver.sig, fds, data=data)  # type: ignore[arg-type]
    return receiver.recv(0)


def is_open(fd: int | None) -> bool:
    assert fd is not None
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_detaching(receiver: sendfd.Receiver, null: int) -> None:
    message = arrive(receiver, null, null, null)
    first, second, third = message.fds
    assert message.fd == first
    assert message.detach(1) == second
    assert message.fds == (first, None, third)
    with pytest.raises(ValueError, match="descriptor 1 of the message was taken or closed before"):
        message.detach(1)
    with pytest.raises(IndexError, match="carries 3 descriptors"):
        message.detach(3)
    with pytest.raises(OverflowError):
        message.detach(-1)
    assert message.detach_all() == [first, third]
    assert message.detach_all() == []
    assert set(message.fds) == {None}
    with pytest.raises(ValueError, match="descriptor 0 of the message was taken or closed before"):
        _ = message.fd
    del message
    gc.collect()
    for fd in (first, second, third):
        assert fd is not None
        os.close(fd)


def test_the_rest_is_closed(receiver: sendfd.Receiver, null: int) -> None:
    with arrive(receiver, null, null) as message:
        kept, closed = message.fds
        assert message.detach(0) == kept
    assert not is_open(closed)
    assert kept is not None
    os.close(kept)
    with pytest.raises(ValueError, match="taken or closed"):
        message.socket(1)
    message.close()


def test_what_is_forgotten_is_closed_with_a_warning(receiver: sendfd.Receiver, null: int) -> None:
    message = arrive(receiver, null, null)
    one, two = message.fds
    with pytest.warns(ResourceWarning, match=rf"\[{one}, {two}\] of a sendfd.Message") as caught:
        del message
        gc.collect()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert isinstance(caught[0].source, sendfd.Message)
    assert not is_open(one)
    assert not is_open(two)


def test_forgotten_while_an_exception_passes(receiver: sendfd.Receiver, null: int) -> None:
    def forget() -> None:
        message = arrive(receiver, null)
        raise KeyError(message.fd)

    with pytest.warns(ResourceWarning), pytest.raises(KeyError):
        try:
            forget()
        except KeyError as error:
            error.__traceback__ = None
            raise


def test_a_forgotten_receiver(null: int) -> None:
    receiver = sendfd.Receiver(SIG)
    sendfd.send(os.getpid(), SIG, null)
    with pytest.warns(ResourceWarning, match="unclosed <sendfd.Receiver sig="):
        del receiver
        gc.collect()
    sendfd.Receiver(SIG).close()


def test_opening(receiver: sendfd.Receiver, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xe9t\xe9\r\nend")
    with path.open("rb") as file, arrive(receiver, file, file) as message:
        number = message.fds[1]
        with message.open(encoding="latin-1", newline="", index=1) as text:
            assert text.fileno() == number
            assert text.read() == "été\r\nend"
        assert not is_open(number)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        with message.open("rb", 0) as raw:
            assert raw.read() == path.read_bytes()
        with pytest.raises(ValueError, match="taken or closed"):
            message.open()


def test_what_cannot_be_opened_stays(receiver: sendfd.Receiver, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with path.open("rb") as file, arrive(receiver, file) as message:
        fd = message.fd
        with pytest.raises(ValueError, match="mode"):
            message.open("nonsense")
        with pytest.raises(LookupError, match="encoding"):
            message.open(encoding="klingon")
        with pytest.raises(ValueError, match="binary mode"):
            message.open("rb", encoding="utf-8")
        with pytest.raises(OSError, match="non-socket") as caught:
            message.socket()
        assert caught.value.errno == errno.ENOTSOCK
        assert message.fds == (fd,)
        assert is_open(fd)


def test_a_directory_is_no_file(receiver: sendfd.Receiver, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    with arrive(receiver, fd) as message:
        with pytest.raises(IsADirectoryError):
            message.open()
        assert is_open(message.fd)
    os.close(fd)


def test_a_socket_that_does_not_block(receiver: sendfd.Receiver) -> None:
    near, far = socket.socketpair()
    with near, far:
        far.setblocking(False)
        with arrive(receiver, far) as message, message.socket() as received:
            assert received.gettimeout() == 0
            with pytest.raises(BlockingIOError):
                received.recv(1)
        with arrive(receiver, near) as message, message.socket() as received:
            assert received.gettimeout() is None
            socket.setdefaulttimeout(5)
            try:
                with arrive(receiver, far) as another, another.socket() as with_default:
                    assert with_default.gettimeout() == 5
            finally:
                socket.setdefaulttimeout(None)


def test_kinds(null: int, tmp_path: Path) -> None:
    assert sendfd.detect(null) == sendfd.Kind("character-device")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix:
        kind = sendfd.detect(unix)
        assert kind == ("socket", socket.AF_UNIX, socket.SOCK_DGRAM, 0, False)
        assert "AF_UNIX" in repr(kind)
        assert "SOCK_DGRAM" in repr(kind)
    with (tmp_path / "file").open("w") as file:
        assert sendfd.detect(file).name == "file"
    fd = os.eventfd(0)
    assert sendfd.detect(fd) == ("anonymous", None, None, None, None)
    os.close(fd)
    with pytest.raises(OSError, match="cannot tell the kind") as caught:
        sendfd.detect(999_999)
    assert caught.value.errno == errno.EBADF


def test_how_it_looks(receiver: sendfd.Receiver, null: int) -> None:
    with arrive(receiver, null, data=b"x'y") as message:
        assert repr(message) == (
            f"<sendfd.Message fds=({message.fd},) pid={os.getpid()} uid={os.getuid()} "
            f"gid={os.getgid()} tag=0 data=b\"x'y\" path='{message.path}'>"
        )
    assert repr(receiver) == f"<sendfd.Receiver sig={SIG}>"


def test_threads_take_each_descriptor_once(receiver: sendfd.Receiver, null: int) -> None:
    message = arrive(receiver, *[null] * 200)
    taken: list[int] = []

    def take() -> None:
        for index in range(200):
            try:
                taken.append(message.detach(index))
            except ValueError:
                continue

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 200
    for fd in taken:
        os.close(fd)


def test_the_timeout_of_a_socket_is_said(receiver: sendfd.Receiver) -> None:
    near, far = socket.socketpair()
    with near, far:
        far.setblocking(False)
        for timeout in (None, 0, 2.5):
            with arrive(receiver, far) as message, message.socket(timeout=timeout) as received:
                assert received.gettimeout() == timeout
        with arrive(receiver, far) as message:
            with pytest.raises(ValueError, match="out of range"):
                message.socket(timeout=-1)
            # What was refused stays.
            assert is_open(message.fd)


def test_several_messages_with_one_call(receiver: sendfd.Receiver, null: int) -> None:
    for tag in range(5):
        sendfd.send(os.getpid(), SIG, null, tag=tag)
    messages = receiver.recv_many(3)
    # Where the limit of descriptors is low, fewer come at once than there are.
    while len(messages) < 5:
        messages += receiver.recv_many(10_000_000, timeout=10)
    assert [message.tag for message in messages] == [0, 1, 2, 3, 4]
    for message in messages:
        message.close()
    with pytest.raises(BlockingIOError):
        receiver.recv_many(3, 0)
    with pytest.raises(TimeoutError):
        receiver.recv_many(3, timeout=0.001)
    with pytest.raises(ValueError, match="1 or more"):
        receiver.recv_many(0)
