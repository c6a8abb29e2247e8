"""Real servers under load: restarted, told to retire, or given single connections; who loses requests?

Usage: .venv/bin/python tests/bench/servers/servers.py [--requests N] [--write docs/servers.md] [SERVER ...]

Each case is run twice: by this library, and by the control, where the same server has inherited the
listening descriptor from a process that keeps it, so that nothing is handed over. What fails there, too,
is the server's own. `make servers` writes the table into docs/servers.md.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import sendfd

TOP = Path(__file__).parents[3]
EXAMPLES = TOP / "bindings/python/examples"
NODE = TOP / "bindings/node"
INHERIT = Path(__file__).parent / "inherit.py"

SIG = sendfd.port(6)
CLIENTS = 4
STOPS = 5
"""How often a server is restarted or retires in a case."""

RESTARTED = ["uvicorn", "hypercorn", "aiohttp", "gunicorn", "waitress", "cheroot", "twisted"]
HANDED = ["uvicorn", "wsgiref"]
IN_NODE = ["http", "express", "fastify"]


class Load:
    """Clients that each ask again and again, with a new connection for each request."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.answered = 0
        self.failures: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask_again) for _ in range(CLIENTS)]

    @property
    def requests(self) -> int:
        return self.answered + len(self.failures)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, requests: int) -> None:
        """Wait for so many more."""
        wanted = self.requests + requests
        end = time.monotonic() + 120
        while self.requests < wanted:
            if time.monotonic() > end:
                raise TimeoutError(
                    f"{self.requests} of {wanted} requests were answered in two minutes"
                )
            time.sleep(0.005)

    def _ask_again(self) -> None:
        while not self._over.is_set():
            try:
                ask(self.address)
            except (OSError, ValueError) as error:
                self.failures.append(repr(error))
            else:
                self.answered += 1


def ask(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        answer = b""
        while some := client.recv(65536):
            answer += some
    if not answer.startswith(b"HTTP/1.1 200 ") and not answer.startswith(b"HTTP/1.0 200 "):
        raise ValueError(f"answered {answer[:60]!r}")


class Processes:
    """What was started, and is ended in any case."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen[str]] = []

    def start(
        self, command: list[str], cwd: Path = EXAMPLES, fds: tuple[int, ...] = ()
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            pass_fds=fds,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"SENDFD_PORT": str(int(SIG))},
        )
        self.all.append(process)
        return process

    def close(self) -> None:
        for process in self.all:
            process.kill()
            process.communicate()


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise RuntimeError(f"{process.args} does not serve")


def wait_for(what: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            what()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def free_address() -> tuple[str, int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address: tuple[str, int] = free.getsockname()
    return address


# ------------------------------------------------------------ the cases

Start = Callable[[], "subprocess.Popen[str]"]
# Servers of one kind under load, and how to start one.
Serving = Callable[[str], "contextlib.AbstractContextManager[tuple[Load, Start]]"]


def restart(server: str, requests: int) -> Load:
    """A new one takes the listening socket over, and the old one ends."""
    processes, address = Processes(), free_address()

    def start(old: subprocess.Popen[str] | None) -> subprocess.Popen[str]:
        pid = [str(old.pid)] if old else []
        if server in IN_NODE:
            where = [str(int(SIG)), str(address[1])]
            return processes.start(["node", "bench/server.mjs", server, "take", *where, *pid], NODE)
        where = ["6", f"{address[0]}:{address[1]}"]
        return processes.start([sys.executable, "takeover.py", server, *where, *pid])

    with contextlib.closing(processes):
        running = start(None)
        wait_for(lambda: ask(address))
        with Load(address) as load:
            for _ in range(STOPS):
                load.wait_for(requests // STOPS)
                successor = start(running)
                running.wait(60)
                running = successor
    return load


def restart_control(server: str, requests: int) -> Load:
    """A new one starts on the same descriptor, and then the old one is told to stop."""
    with control(server) as (load, start):
        running = start()
        for _ in range(STOPS):
            load.wait_for(requests // STOPS)
            successor = start()
            tell(running)
            running = successor
    return load


def retire(serving: Serving, server: str, requests: int) -> Load:
    """Of two workers, one after the other is told to end, and has a successor."""
    with serving(server) as (load, start):
        workers = [start(), start()]
        for _ in range(STOPS):
            load.wait_for(requests // STOPS)
            workers.append(start())
            oldest = workers.pop(0)
            oldest.send_signal(signal.SIGTERM)
            oldest.wait(60)
    return load


def single(serving: Serving, server: str, requests: int) -> Load:
    """Two workers serve."""
    with serving(server) as (load, start):
        start(), start()
        load.wait_for(requests)
    return load


@contextlib.contextmanager
def control(server: str) -> Iterator[tuple[Load, Start]]:
    """Servers that inherit a listening descriptor, which is kept open here."""
    processes = Processes()
    with contextlib.closing(processes), socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()

        def start() -> subprocess.Popen[str]:
            if server in IN_NODE:
                command = ["node", "bench/server.mjs", server, "inherit", str(fd)]
                process = processes.start(command, NODE, (fd,))
            else:
                command = [sys.executable, str(INHERIT), server, str(fd)]
                process = processes.start(command, fds=(fd,))
            ready(process)
            return process

        load = Load(listener.getsockname())
        # The first client is answered as soon as there is a server.
        with load:
            yield load, start


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("leave\n")
    process.stdin.flush()
    process.wait(60)


@contextlib.contextmanager
def front(server: str) -> Iterator[tuple[Load, Start]]:
    """Workers that listen nowhere, and what accepts and hands each connection to one of them."""
    processes, targets = Processes(), sendfd.Targets()
    lock = threading.Lock()
    over = threading.Event()

    def start() -> subprocess.Popen[str]:
        if server in IN_NODE:
            command = ["node", "bench/server.mjs", server, "receive", str(int(SIG))]
            process = processes.start(command, NODE)
        elif server == "wsgiref":
            process = processes.start([sys.executable, "serve_wsgi.py", str(int(SIG))])
        else:
            quiet = ["--no-access-log", "--log-level", "error"]
            process = processes.start([sys.executable, "-m", "sendfd.asgi", "hello:asgi", *quiet])
        sendfd.Target(process.pid, SIG, timeout=60).close()
        with lock:
            targets.add(process.pid, SIG)
        return process

    def hand_over(connection: socket.socket) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                with lock:
                    targets.send(connection)
                return
            except OSError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.002)

    def accept() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                with connection:
                    hand_over(connection)

    with contextlib.closing(processes), socket.create_server(("127.0.0.1", 0)) as listener, targets:
        listener.settimeout(0.2)
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            with Load(listener.getsockname()) as load:
                yield load, start
        finally:
            over.set()
            thread.join()


Case = Callable[[str, int], Load]
# The case, its control, and the servers.
CASES: dict[str, tuple[Case, Case, list[str]]] = {
    "restart": (restart, restart_control, RESTARTED + IN_NODE),
    "retire": (partial(retire, front), partial(retire, control), HANDED + IN_NODE),
    "single connections": (partial(single, front), partial(single, control), HANDED + IN_NODE),
}


# ------------------------------------------------------------ the table


def version(server: str) -> str:
    if server == "wsgiref":
        return "%d.%d.%d" % sys.version_info[:3]
    if server == "http":
        return subprocess.check_output(["node", "--version"], text=True).strip().lstrip("v")
    if server in IN_NODE:
        package = NODE / "node_modules" / server / "package.json"
        return str(json.loads(package.read_text())["version"])
    return importlib.metadata.version(server)


def row(case: str, server: str, requests: int) -> str:
    ours, control, _ = CASES[case]
    by_us = ours(server, requests)
    by_control = control(server, requests)
    for name, load in ("", by_us), (" (control)", by_control):
        for failure in load.failures[:3]:
            print(f"{server}, {case}{name}: {failure}", file=sys.stderr)
    # What fails in the control at the same rate is the server's own.
    expected = by_us.requests * len(by_control.failures) / max(1, by_control.requests)
    ours_alone = max(0, round(len(by_us.failures) - expected))
    cells = [
        case,
        f"{'Node, ' if server in IN_NODE else ''}{server} {version(server)}",
        *(by_us.requests, len(by_us.failures), ours_alone),
        *(by_control.requests, len(by_control.failures)),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Run what was asked for, and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--write", type=Path)
    parser.add_argument("servers", nargs="*", metavar="SERVER")
    options = parser.parse_args()
    rows = [
        "| case | server | requests | failed | of which ours | control: requests | failed |",
        "|---|---|---|---|---|---|---|",
    ]
    print(*rows, sep="\n", flush=True)
    for case, (_, _, servers) in CASES.items():
        for server in servers:
            if options.servers and server not in options.servers:
                continue
            rows.append(row(case, server, options.requests))
            print(rows[-1], flush=True)
    if options.write:
        begin, end = "<!-- table -->\n", "<!-- end -->\n"
        before, _, rest = options.write.read_text().partition(begin)
        after = rest.partition(end)[2]
        options.write.write_text(before + begin + "\n".join(rows) + "\n" + end + after)


if __name__ == "__main__":
    main()
