"""Connections for a ProcessPoolExecutor: whichever process gets the task gets the connection.

Usage: python executor.py PORT COUNT

Accepts COUNT connections, each of which is answered in a process of the pool.
"""

from __future__ import annotations

import os
import socket
import sys
from concurrent.futures import ProcessPoolExecutor

import sendfd
from lending import Address, Lender, borrow


def answer(address: Address) -> int:
    """Answer one connection, in a process of the pool."""
    with borrow(address) as connection:
        connection.sendall(b"answered by %d\n" % os.getpid())
    return os.getpid()


def main() -> None:
    """Accept, and have the pool answer."""
    port, count = map(int, sys.argv[1:])
    with (
        ProcessPoolExecutor(2) as pool,
        socket.create_server(("127.0.0.1", port)) as listener,
        Lender(sendfd.port(4)) as lender,
    ):
        print("listening on", listener.getsockname()[1], flush=True)
        tasks = []
        for _ in range(count):
            connection, _ = listener.accept()
            tasks.append(pool.submit(answer, lender.keep(connection)))
        print("processes:", len({task.result() for task in tasks}))


if __name__ == "__main__":
    main()
