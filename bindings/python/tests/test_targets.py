"""Fail-over among several targets."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket

import pytest
import sendfd
from conftest import SIG, MakeChild


def test_each_in_turn_and_the_full_ones_passed_over(null: int) -> None:
    sigs = [SIG, SIG + 1, SIG + 2]
    receivers = [sendfd.Receiver(sig, queue_bytes=4608) for sig in sigs]
    with sendfd.Targets([(os.getpid(), sig) for sig in sigs], paths="pidfd") as targets:
        assert [targets.send(null).sig for _ in range(6)] == sigs * 2
        # One alone has room in the end.
        sent = []
        with pytest.raises(BlockingIOError):
            while True:
                sent.append(targets.send(null).sig)
        assert set(sent) == set(sigs)
        receivers[1].recv(0).close()
        assert targets.send(null).sig == sigs[1]
        with pytest.raises(TimeoutError, match="no target took it"):
            targets.send(null, timeout=0.01)
        assert len(targets) == 3
    for receiver in receivers:
        receiver.close()


def test_a_living_one_is_never_given_up(child: MakeChild, null: int) -> None:
    code = """
        sys.stdin.readline()
        with sendfd.Receiver(SIG):
            print("ready", flush=True)
            sys.stdin.read()
    """
    boots, dies = child(code), child(code)
    with (
        sendfd.Receiver(SIG) as receiver,
        sendfd.Targets([(boots.process, SIG), (dies.process, SIG), (os.getpid(), SIG)]) as targets,
    ):
        for _ in range(5):
            assert targets.send(null).pid == os.getpid()
            receiver.recv(0).close()
        dies.kill()
        assert targets.send(null).pid == os.getpid()
        receiver.recv(0).close()
        boots.tell("go")
        boots.ready()
        targets.discard(os.getpid(), SIG)
        # It is tried although it is said to rest: nobody else is there.
        assert targets.send(null).pid == boots.pid
        assert (boots.pid, SIG) in targets.addresses
        boots.end()
        with pytest.raises(ProcessLookupError, match="none of the targets"):
            targets.send(null, timeout=60)
        assert len(targets) == 0


def test_one_that_cannot_be_reached_is_passed_over(
    child: MakeChild, receiver: sendfd.Receiver, null: int
) -> None:
    # Nothing can be fetched from a process whose main thread has exited.
    leaderless = child(
        """
        import ctypes, threading, time

        def hold():
            while os.path.exists("/proc/self/fd/0"):
                time.sleep(0.001)
            with sendfd.Receiver(SIG):
                print("ready", flush=True)
                sys.stdin.read()
            os._exit(0)

        threading.Thread(target=hold).start()
        ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)
        """
    )
    leaderless.ready()
    with sendfd.Targets(paths="pidfd") as targets:
        targets.add(leaderless.process, SIG)
        targets.add(os.getpid(), SIG)
        for _ in range(3):
            assert targets.send(null, timeout=60).pid == os.getpid()
            receiver.recv(0).close()
        targets.discard(os.getpid(), SIG)
        with pytest.raises(OSError, match="main thread") as caught:
            targets.send(null, timeout=60)
        assert caught.value.errno == errno.EOPNOTSUPP
    leaderless.end()


def test_errors_of_the_message_are_not_the_targets(null: int) -> None:
    with sendfd.Receiver(SIG), sendfd.Targets([(os.getpid(), SIG)]) as targets:
        with pytest.raises(OSError, match="hold") as caught:
            targets.send(999_999)
        assert caught.value.errno == errno.EBADF
        with pytest.raises(OSError, match="bytes") as caught:
            targets.send(null, data=bytes(sendfd.MAX_DATA + 1))
        assert caught.value.errno == errno.EMSGSIZE
        assert len(targets) == 1
    with sendfd.Targets([(os.getpid(), SIG)]) as targets:
        with pytest.raises(ConnectionRefusedError):
            targets.send(null)
        with pytest.raises(TimeoutError):
            targets.send(null, timeout=0.01)


def test_in_a_loop(null: int) -> None:
    async def main() -> None:
        with sendfd.Targets([(os.getpid(), SIG)]) as targets:
            sending = asyncio.create_task(targets.asend(null, tag=3))
            await asyncio.sleep(0.01)
            with sendfd.Receiver(SIG) as receiver:
                with await receiver.arecv() as message:
                    assert message.tag == 3
                assert (await sending).sig == SIG
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(targets.asend(null), 0.01)

    asyncio.run(main())


def test_what_was_refused_once_is_not_kept_open(receiver: sendfd.Receiver) -> None:
    near, far = socket.socketpair()
    near.settimeout(60)
    # Nobody listens at the first.
    addresses = [(os.getpid(), SIG + 1), (os.getpid(), SIG)]
    gc.disable()
    try:
        with sendfd.Targets(addresses) as targets:
            with far:
                targets.send(far)
            receiver.recv(0).close()
            assert near.recv(1) == b""
            near.close()
            targets.discard(*addresses[1])
            near, far = socket.socketpair()
            near.settimeout(60)
            with far, pytest.raises(TimeoutError):
                targets.send(far, timeout=0.01)
            assert near.recv(1) == b""
    finally:
        gc.enable()
        near.close()
