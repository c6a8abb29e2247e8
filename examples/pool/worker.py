"""A worker of the pool, in Python. What it has to do is in README.md."""

import contextlib
import os
import signal
import socket
import threading

import sendfd


def main() -> None:
    """Answer on every connection that arrives, until SIGTERM."""
    receiver = sendfd.Receiver(int(os.environ["SENDFD_PORT"]))
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    with receiver:
        while message := take(receiver, ending):
            # A client that went away is no reason to stop.
            with contextlib.suppress(OSError), message, message.socket() as connection:
                answer(connection)


def take(receiver: sendfd.Receiver, ending: threading.Event) -> sendfd.Message | None:
    """Wait for the next message; nothing once it was told to end and has served what there was."""
    while True:
        last = ending.is_set()
        try:
            # The signal may come just before the wait, so that no wait is for ever.
            return receiver.recv(timeout=0 if last else 0.2)
        except (TimeoutError, BlockingIOError):
            if last:
                return None


def answer(connection: socket.socket) -> None:
    """Read the request to its empty line, and say who we are."""
    connection.settimeout(5)
    with connection.makefile("rb") as request:
        while request.readline(65536) not in (b"\r\n", b"\n", b""):
            pass
    body = f"python {os.getpid()}\n"
    head = f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    connection.sendall(f"HTTP/1.1 200 OK\r\n{head}{body}".encode())


if __name__ == "__main__":
    main()
