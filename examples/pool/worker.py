"""A worker of the pool, in Python. What it has to do is in README.md."""

import contextlib
import os
import signal
import socket

import sendfd


def main() -> None:
    """Answer on every connection that arrives, until SIGTERM."""
    with sendfd.Receiver(int(os.environ["SENDFD_PORT"])) as receiver:
        # What was sent is still received, and then the iteration ends.
        signal.signal(signal.SIGTERM, lambda *_: receiver.retire())
        for message in receiver:
            # A client that went away is no reason to stop.
            with contextlib.suppress(OSError), message, message.socket() as connection:
                answer(connection)


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
