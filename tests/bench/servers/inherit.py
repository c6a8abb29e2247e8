"""The control: a server that listens on a descriptor that it inherited, and stops as it is told.

Usage: python inherit.py SERVER FD

Prints "ready" when it serves. A line on its standard input has it stop as examples/takeover.py has it
(a pause between the end of accepting and the end of serving); SIGTERM, as the server itself does.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "bindings/python/examples"))

import takeover  # noqa: E402


def run_wsgiref(listener: socket.socket, serving: takeover.Serving) -> None:
    """The standard library's, as examples/serve_wsgi.py has it, which here listens."""
    import serve_wsgi

    with serve_wsgi.Server() as server:
        server.socket.close()
        server.socket = listener

        def leave() -> None:
            threading.Thread(target=server.shutdown).start()

        signal.signal(signal.SIGTERM, lambda *_: leave())
        serving(leave)
        server.serve_forever(poll_interval=0.01)


def main() -> None:
    """Serve."""
    name, fd = sys.argv[1], int(sys.argv[2])
    run = takeover.SERVERS.get(name, run_wsgiref)

    def serving(leave: Callable[[], object] | None) -> None:
        def wait() -> None:
            if not sys.stdin.readline():
                return
            if leave is None:
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                leave()

        threading.Thread(target=wait, daemon=True).start()
        print("ready", flush=True)

    listener = socket.socket(fileno=fd)
    listener.setblocking(False)
    run(listener, serving)


if __name__ == "__main__":
    main()
