"""A broker, in Python: a process that has files hands them to those who ask for them.

    broker.py serve SIG FILE...    hands out FILE number N, from 0, opened for reading
    broker.py ask PID SIG N        asks that process, and copies the file to standard output

A request is a message with the tag N and one descriptor: an end of a socket pair. The answer goes
back over that pair. It is not sent to the pid that is in the request: that says who asked, but by
the time of the answer it may be the pid of another process, which would get the file. The pair
leads to whoever holds its other end, and sending over it fails when nobody does.
"""

import os
import shutil
import socket
import sys

import sendfd

PATIENCE = 10


def serve(sig: int, files: list[str]) -> None:
    """Answer every request, for as long as the process lives."""
    with sendfd.Receiver(sig) as receiver:
        for message in receiver:
            with message:
                try:
                    # An answer fits into the socket of who has had none yet.
                    with message.socket(timeout=0) as asker:
                        answer(asker, files, message.tag)
                except BrokenPipeError:
                    print(
                        f"broker: process {message.pid} is gone, and gets no answer",
                        file=sys.stderr,
                    )
                except (OSError, TypeError):
                    print(f"broker: process {message.pid} sent what is no request", file=sys.stderr)


def answer(asker: socket.socket, files: list[str], nth: int) -> None:
    """Send a byte and the file, or the byte alone."""
    if nth >= len(files):
        asker.send(b"-")
        return
    with open(files[nth], "rb") as file:
        socket.send_fds(asker, [b"+"], [file.fileno()])


def ask(pid: int, sig: int, nth: int) -> None:
    """Ask for a file, and copy it to standard output."""
    near, far = socket.socketpair()
    near.settimeout(PATIENCE)
    with near:
        with far:  # Closed here, so that the broker's is the only one, and its exit is seen.
            sendfd.send(pid, sig, far, tag=nth, timeout=PATIENCE)
        print(f"asked process {pid}", file=sys.stderr)
        _, fds, _, _ = socket.recv_fds(near, 1, 1)
    if not fds:
        sys.exit("broker: there is no such file to be had")
    with os.fdopen(fds[0], "rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", sig, *files] if files:
            serve(int(sig), files)
        case ["ask", pid, sig, nth]:
            ask(int(pid), int(sig), int(nth))
        case _:
            sys.exit("usage: broker.py serve SIG FILE... | broker.py ask PID SIG N")
