"""Connections for tasks of celery, on the same machine.

Usage: celery -A tasks worker --concurrency 2        the workers
       python tasks.py PORT COUNT                    accepts COUNT connections, which they answer

Where messages go is in CELERY_BROKER_URL. The workers run as the same user as who accepts, or as
root.
"""

from __future__ import annotations

import os
import socket
import sys
import time

import sendfd
from celery import Celery
from lending import Address, Lender, borrow

app = Celery("tasks", broker=os.environ.get("CELERY_BROKER_URL", "amqp://"))


@app.task  # type: ignore[untyped-decorator]
def answer(address: Address) -> None:
    """Answer one connection, in a process of celery's."""
    with borrow(address) as connection:
        connection.sendall(b"answered by %d\n" % os.getpid())


def main() -> None:
    """Accept, and have the workers answer."""
    port, count = map(int, sys.argv[1:])
    with (
        socket.create_server(("127.0.0.1", port)) as listener,
        Lender(sendfd.port(4)) as lender,
    ):
        print("listening on", listener.getsockname()[1], flush=True)
        for _ in range(count):
            connection, _ = listener.accept()
            answer.delay(lender.keep(connection))
        while lender.kept:
            time.sleep(0.01)


if __name__ == "__main__":
    main()
