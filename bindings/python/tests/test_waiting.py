"""Blocking calls: signals, threads, closing, forks, interpreters."""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import sendfd
from conftest import SIG, MakeChild, need


class Alarm(Exception):
    pass


@pytest.fixture
def alarm() -> Iterator[list[int]]:
    """SIGALRM every 20 ms; it is noted, and the test may say that it raises."""
    rung: list[int] = []

    def ring(*_: object) -> None:
        rung.append(1)
        if len(rung) == 5:
            raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    yield rung
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_handler_that_raises_ends_the_wait(receiver: sendfd.Receiver, alarm: list[int]) -> None:
    with pytest.raises(Alarm):
        receiver.recv()
    assert len(alarm) == 5


def test_a_handler_that_raises_ends_sending(alarm: list[int]) -> None:
    with pytest.raises(Alarm):
        sendfd.send(os.getpid(), SIG, 0, timeout=60)
    assert len(alarm) == 5


def test_a_handler_that_raises_ends_waiting_for_signals(alarm: list[int]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    with pytest.raises(Alarm):
        sendfd.sigwaitinfo({signal.SIGUSR1})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    assert len(alarm) == 5


def test_other_signals_do_not_shorten_or_lengthen_the_wait(
    receiver: sendfd.Receiver, alarm: list[int]
) -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        receiver.recv(0.07)
    assert time.monotonic() - start >= 0.07
    assert 1 <= len(alarm) < 5


def test_keyboard_interrupt(child: MakeChild) -> None:
    peer = child(
        """
        signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
        with sendfd.Receiver(SIG) as receiver:
            try:
                print("ready", flush=True)
                receiver.recv()
            except KeyboardInterrupt:
                print("interrupted")
        """
    )
    peer.ready()
    peer.sleeps()
    peer.process.send_signal(signal.SIGUSR1)
    assert peer.line() == "handled"
    peer.sleeps()
    peer.process.send_signal(signal.SIGINT)
    assert peer.end() == "interrupted"


def test_the_interpreter_is_free_meanwhile(receiver: sendfd.Receiver, null: int) -> None:
    # Whoever waits with the interpreter held would wait for ever.
    timer = threading.Timer(0.02, sendfd.send, [os.getpid(), SIG, null])
    timer.start()
    receiver.recv().close()
    timer.join()


def test_threads_share_a_receiver(receiver: sendfd.Receiver, null: int) -> None:
    tags: list[int] = []

    def take() -> None:
        for message in receiver:
            with message:
                tags.append(message.tag)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for tag in range(5000):
        sendfd.send(os.getpid(), SIG, null, tag=tag, timeout=60)
    while len(tags) < 5000:
        time.sleep(0.001)
    # Closing ends all their loops.
    receiver.close()
    for thread in threads:
        thread.join()
    assert sorted(tags) == list(range(5000))


def test_closing_wakes_a_thread_that_waits(receiver: sendfd.Receiver) -> None:
    caught: list[OSError] = []

    def wait() -> None:
        try:
            receiver.recv()
        except OSError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    receiver.close()
    thread.join()
    assert "closed" in str(caught[0])


def test_closing_in_a_signal_handler(receiver: sendfd.Receiver) -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: receiver.close())
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    assert list(receiver) == []
    signal.signal(signal.SIGALRM, before)


def test_threads_and_forks_do_not_stand_in_each_others_way(child: MakeChild) -> None:
    child(
        """
        import threading, warnings
        warnings.simplefilter("ignore")  # That forking with threads is dangerous is the point.
        receiver = sendfd.Receiver(SIG)

        def take():
            for message in receiver:
                message.close()

        def feed():
            while not receiver.closed:
                try:
                    sendfd.send(os.getpid(), SIG, 0, timeout=0.05)
                except (TimeoutError, ConnectionRefusedError):
                    pass  # Full, or closed by now.

        threads = [threading.Thread(target=work) for work in (take, take, feed, feed)]
        for thread in threads: thread.start()
        for _ in range(100):
            if os.fork() == 0:
                try:
                    receiver.recv(0)
                except OSError as error:
                    if error.errno != errno.EBADF: os._exit(1)
                with sendfd.Receiver(SIG) as own:
                    sendfd.send(os.getpid(), SIG, 0)
                    own.recv(0).close()
                os._exit(0)
            assert os.wait()[1] == 0
        receiver.close()
        for thread in threads: thread.join()
        """
    ).end()


def test_polling(receiver: sendfd.Receiver, null: int) -> None:
    poll = select.poll()
    poll.register(receiver, select.POLLIN)
    assert poll.poll(0) == []
    for path in sendfd.probe().working:
        sendfd.send(os.getpid(), SIG, null, paths=[path])
        assert poll.poll(10_000) == [(receiver.fileno(), select.POLLIN)]
        receiver.recv(0).close()
        while True:
            # The connection itself was readable, too.
            try:
                receiver.recv(0)
            except BlockingIOError:
                break
        assert poll.poll(0) == []


def test_fork(child: MakeChild, null: int) -> None:
    peer = child(
        """
        receiver = sendfd.Receiver(SIG)
        target = sendfd.Target(os.getpid(), SIG)
        parent = os.getpid()
        if os.fork() == 0:
            for call in (lambda: receiver.recv(), lambda: receiver.recv(0), lambda: next(receiver)):
                try:
                    call()
                except OSError as error:
                    assert error.errno == errno.EBADF
                    assert "open a receiver of its own in the child process" in error.strerror
                else:
                    os._exit(1)
            target.send(0, tag=7)
            with sendfd.Receiver(SIG) as own:
                sendfd.send(os.getpid(), SIG, 0, tag=8)
                with own.recv(0) as message:
                    assert message.tag == 8 and message.pid == os.getpid()
            receiver.close()
            os._exit(0)
        _, status = os.wait()
        assert status == 0, status
        with receiver, target, receiver.recv(0) as message:
            assert message.tag == 7 and message.pid != parent
        """
    )
    peer.end()


def test_a_child_does_not_keep_its_parents_queue_alive(child: MakeChild) -> None:
    peer = child(
        """
        receiver = sendfd.Receiver(SIG)
        pid = os.fork()
        if pid == 0:
            print(os.getpid(), flush=True)
            signal.pause()
        signal.pause()
        """
    )
    grandchild = int(peer.line())
    try:
        with sendfd.Target(peer.pid, SIG) as target:
            target.send(0)
            peer.process.kill()
            peer.process.wait()
            with pytest.raises(ProcessLookupError):
                target.send(0)
    finally:
        os.kill(grandchild, signal.SIGKILL)


def test_subinterpreters_are_refused_in_words() -> None:
    code = """
import sys
if sys.version_info >= (3, 14):
    from concurrent import interpreters
    call = interpreters.create().exec
elif sys.version_info >= (3, 13):
    import _interpreters
    interpreter = _interpreters.create()
    def call(code):
        error = _interpreters.exec(interpreter, code)
        if error: raise RuntimeError(error)
else:
    import _xxsubinterpreters
    interpreter = _xxsubinterpreters.create()
    def call(code): _xxsubinterpreters.run_string(interpreter, code)
import sendfd
call('''
try:
    import sendfd
except ImportError as error:
    print(error, flush=True)
else:
    print("imported", flush=True)
''')
with sendfd.Receiver(40) as receiver:
    sendfd.send(__import__("os").getpid(), 40, 0)
    receiver.recv().close()
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "subinterpreter" in done.stdout


@pytest.mark.parametrize(
    ("look", "ahead"),
    [
        ("repr(receiver), str(receiver), f'{receiver}'", 7),
        ("receiver.sig, receiver.closed, receiver.dropped", 7),
        # What is polled takes nothing ahead, for the poll would not wake for that.
        ("receiver.fileno()", 0),
    ],
)
def test_looking_at_a_receiver_does_not_change_how_it_receives(
    child: MakeChild, look: str, ahead: int
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    need("8192 descriptors", most >= 8192 or os.geteuid() == 0)
    need("a count of descriptors (Linux 6.2)", os.stat("/proc/self/fd").st_size > 0)
    one = child(f"""
        resource.setrlimit(resource.RLIMIT_NOFILE, (8192, max({most}, 8192)))
        opened = lambda: len(os.listdir("/proc/self/fd"))
        with sendfd.Receiver(SIG) as receiver:
            {look}
            for _ in range(16):
                sendfd.send(os.getpid(), SIG, 0)
            for _ in range(8):
                receiver.recv(timeout=0).close()
            before = opened()
            # Messages queue up: the next comes with seven more, whose descriptors are here early.
            receiver.recv(timeout=0).close()
            print(opened() - before)
    """)
    assert one.end() == str(ahead)
