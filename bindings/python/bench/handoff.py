"""What handing over a descriptor costs, against the other ways that Python has.

Each round runs every way once, so that a machine that is busy is busy for all of them. The figure
to look at is the ratio within a round, of which the median over all rounds is printed. Nothing
fails for being slow.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import socket
import statistics
import time
from collections.abc import Callable
from typing import Any

import sendfd

SIG = signal.SIGRTMIN + 6
FORK = multiprocessing.get_context("fork")

Way = Callable[[int], float]


def between_processes(
    count: int, send: Callable[[int], None], receive: Callable[[], None]
) -> float:
    """Have a second process send `count` times, and time the receiving: microseconds for each."""
    go, gone = FORK.Pipe()

    def run() -> None:
        gone.recv()
        send(count)

    process = FORK.Process(target=run)
    process.start()
    go.send(None)
    receive()  # The first, which is when it is under way.
    start = time.perf_counter()
    for _ in range(count - 1):
        receive()
    elapsed = time.perf_counter() - start
    process.join()
    go.close()
    gone.close()
    return elapsed / (count - 1) * 1e6


def by_sendfd(count: int) -> float:
    """Target.send and Receiver.recv."""
    parent = os.getpid()
    with open("/dev/null") as file, sendfd.Receiver(SIG) as receiver:
        recv = receiver.recv

        def send(count: int) -> None:
            with sendfd.Target(parent, SIG) as target:
                fd = file.fileno()
                for _ in range(count):
                    target.send(fd, timeout=None)

        return between_processes(count, send, lambda: os.close(recv().detach()))


def by_sixteen(count: int) -> float:
    """Lists of 16; for each descriptor."""
    parent = os.getpid()
    with open("/dev/null") as file, sendfd.Receiver(SIG) as receiver:
        fds = [file.fileno()] * 16

        def send(count: int) -> None:
            with sendfd.Target(parent, SIG) as target:
                for _ in range(count):
                    target.send(fds, timeout=None)

        return between_processes(count // 16, send, lambda: receiver.recv().close()) / 16


def by_send_fds(count: int) -> float:
    """socket.send_fds and socket.recv_fds over a connected pair."""
    ours, theirs = socket.socketpair()
    with open("/dev/null") as file, ours, theirs:

        def send(count: int) -> None:
            fd = file.fileno()
            for _ in range(count):
                socket.send_fds(theirs, [b"x"], [fd])

        return between_processes(count, send, lambda: os.close(socket.recv_fds(ours, 1, 1)[1][0]))


def by_pickling(count: int) -> float:
    """A socket, pickled through multiprocessing.Pipe."""
    ours, theirs = FORK.Pipe()
    with socket.socket() as passenger:

        def send(count: int) -> None:
            # It is the sender that hands the descriptor out, on a thread, to who asks for it.
            for _ in range(count):
                theirs.send(passenger)
            assert theirs.recv() is None

        def receive() -> None:
            received: Any = ours.recv()
            received.close()

        calls = 0

        def counted() -> None:
            nonlocal calls
            receive()
            calls += 1
            if calls == count // 50:
                ours.send(None)

        time_each = between_processes(count // 50, send, counted)
    ours.close()
    theirs.close()
    return time_each


def in_turns_by_sendfd(count: int) -> float:
    """Send and receive in turns, in one process: what the calls cost, without waiting."""
    with (
        open("/dev/null") as file,
        sendfd.Receiver(SIG) as receiver,
        sendfd.Target(os.getpid(), SIG) as target,
    ):
        send, recv, fd = target.send, receiver.recv, file.fileno()
        start = time.perf_counter()
        for _ in range(count):
            send(fd)
            os.close(recv().detach())
        return (time.perf_counter() - start) / count * 1e6


def in_turns_by_sixteen(count: int) -> float:
    """The same with lists of 16; for each descriptor."""
    with (
        open("/dev/null") as file,
        sendfd.Receiver(SIG) as receiver,
        sendfd.Target(os.getpid(), SIG) as target,
    ):
        fds = [file.fileno()] * 16
        start = time.perf_counter()
        for _ in range(count // 16):
            target.send(fds)
            receiver.recv().close()
        return (time.perf_counter() - start) / count * 1e6


def in_turns_by_send_fds(count: int) -> float:
    """The same with socket.send_fds and socket.recv_fds."""
    ours, theirs = socket.socketpair()
    with open("/dev/null") as file, ours, theirs:
        fd = file.fileno()
        start = time.perf_counter()
        for _ in range(count):
            socket.send_fds(theirs, [b"x"], [fd])
            os.close(socket.recv_fds(ours, 1, 1)[1][0])
        return (time.perf_counter() - start) / count * 1e6


def in_turns_by_pickling(count: int) -> float:
    """The same with a socket, pickled through multiprocessing.Pipe."""
    ours, theirs = FORK.Pipe()
    with socket.socket() as passenger, ours, theirs:
        start = time.perf_counter()
        for _ in range(count // 50):
            theirs.send(passenger)
            ours.recv().close()
        return (time.perf_counter() - start) / (count // 50) * 1e6


WAYS: dict[str, Way] = {
    "sendfd, in turns": in_turns_by_sendfd,
    "sendfd, 16 a message, in turns": in_turns_by_sixteen,
    "socket.send_fds, in turns": in_turns_by_send_fds,
    "pickled through a Pipe, in turns": in_turns_by_pickling,
    "sendfd": by_sendfd,
    "sendfd, 16 a message": by_sixteen,
    "socket.send_fds": by_send_fds,
    "pickled through a Pipe": by_pickling,
}

RATIOS = [
    ("sendfd, in turns", "socket.send_fds, in turns", "no more than 1"),
    ("sendfd, 16 a message, in turns", "sendfd, in turns", "below 0.25"),
    (
        "sendfd, in turns",
        "pickled through a Pipe, in turns",
        "no more than 0.025, which is 40 times as fast",
    ),
    ("sendfd", "socket.send_fds", "no more than 1"),
    ("sendfd, 16 a message", "sendfd", "below 0.25"),
    ("sendfd", "pickled through a Pipe", "no more than 0.025, which is 40 times as fast"),
]


def main() -> None:
    """Run the rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=20_000, help="descriptors in each round")
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(arguments.rounds):
        for name, way in WAYS.items():
            times[name].append(way(arguments.count))
    print("microseconds for each descriptor, median of the rounds:")
    for name, each in times.items():
        print(f"  {statistics.median(each):9.2f}  {name}")
    print("ratios, median of the rounds:")
    for ours, other, goal in RATIOS:
        ratio = statistics.median(a / b for a, b in zip(times[ours], times[other], strict=True))
        print(f"  {ratio:9.3f}  {ours} / {other} (goal: {goal})")


if __name__ == "__main__":
    main()
