"""The pool against other ways to have several workers behind one port.

    bench.py --sendfd COMMAND --server PROGRAM [--only LANGUAGE] [--requests N] [--workers N]
             [--rounds N] [--svg FILE]

The load is ab's (package apache2-utils), fairness is counted by curl. The ways of one language run
at the same time and are measured in turn, round after round, so that what else the machine does
meets all of them: a ratio is the median of the ratios of the rounds. What is not installed is left
out, and said.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import picture

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent.parent
BIN = Path(sys.executable).parent
PARALLEL = 16

Commands = Callable[[int], list[list[str]]]


@dataclasses.dataclass
class Way:
    """One way, as processes: how they are started, and how they are told to reload."""

    name: str
    commands: Commands
    # What is asked of the first process to have all workers replaced.
    reload: signal.Signals | None = None
    # The goals: how many times its requests per second the pool shall make.
    goal: float | None = None
    # Whether it is the pool, and whether others' 99th are measured against its.
    pool: bool = False
    shared: bool = False
    rates: list[float] = dataclasses.field(default_factory=list)
    kept: list[float] = dataclasses.field(default_factory=list)
    medians: list[float] = dataclasses.field(default_factory=list)
    lasts: list[float] = dataclasses.field(default_factory=list)
    failed: int = 0
    fairness: float = 0
    killed: int = 0
    reloaded: int | None = None
    replaced: int | None = None


@contextlib.contextmanager
def started(commands: list[list[str]]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run them, each with a process group of its own, and end all of it."""
    environment = os.environ | {"SENDFD_MODULE": str(TOP / "bindings/node/dist/index.js")}
    processes = [
        subprocess.Popen(
            command, cwd=HERE, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]  # fmt: skip
    try:
        yield processes
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    """Find a port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for(port: int, workers: int, name: str) -> None:
    """Wait until so many have answered."""
    end = time.monotonic() + 60
    while len(pids(port, 64)) < workers:
        if time.monotonic() > end:
            raise SystemExit(f"{name}: its workers do not come up")
        time.sleep(0.1)


def pids(port: int, count: int, path: str = "") -> collections.Counter[str]:
    """Count who answers."""
    url = f"http://127.0.0.1:{port}/{path}[1-{count}]"
    # -H: a connection for each.
    command = ["curl", "-s", "-m", "30", "-H", "Connection: close"]
    command += ["--parallel", "--parallel-immediate", "--parallel-max", str(PARALLEL), url]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return collections.Counter(word for word in output.split() if word.isdigit())


@dataclasses.dataclass
class Load:
    """What ab says: requests per second, median and 99th in ms, and how many failed."""

    rate: float
    median: float
    last: float
    failed: int


def ab(port: int, requests: int, path: str = "", keep: bool = False) -> Load:
    """Make requests, each on a connection of its own if they are not kept."""
    command = ["ab", "-q", "-l", "-r", "-s10", f"-n{requests}", f"-c{PARALLEL}"]
    command += ["-k"] if keep else []
    output = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/{path}"], capture_output=True, text=True, check=False
    ).stdout

    def number(pattern: str) -> float:
        found = re.search(pattern, output)
        return float(found[1]) if found else 0.0

    kinds = re.search(
        r"\(Connect: (\d+), Receive: (\d+), Length: (\d+), Exceptions: (\d+)\)", output
    )
    failed = max(map(int, kinds.groups())) if kinds else 0
    failed += requests - int(number(r"Complete requests:\s+(\d+)"))
    failed += int(number(r"Non-2xx responses:\s+(\d+)"))
    rate = number(r"Requests per second:\s+([\d.]+)")
    return Load(rate, number(r"\n\s+50%\s+(\d+)"), number(r"\n\s+99%\s+(\d+)"), failed)


def proxied(folder: Path, name: str, count: int, server: Commands) -> Commands | None:
    """Run nginx in front of so many servers, each with a port of its own."""
    nginx = shutil.which("nginx")
    if not nginx:
        return None

    def commands(port: int) -> list[list[str]]:
        ports = [free_port() for _ in range(count)]
        servers = "".join(f"server 127.0.0.1:{one}; " for one in ports) + "keepalive 16;"
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / f"{name}.conf").write_text(
            f"{user} daemon off; pid {name}.pid; error_log stderr; events {{}} http {{"
            " access_log off; client_body_temp_path a; proxy_temp_path b;"
            " fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;"
            f" upstream up {{ {servers} }} server {{ listen 127.0.0.1:{port} backlog=4096;"
            " location / { proxy_pass http://up; proxy_http_version 1.1;"
            ' proxy_set_header Connection ""; } } }'
        )
        own = [nginx, "-p", str(folder), "-c", f"{name}.conf", "-e", "stderr"]
        return [own, *(command for one in ports for command in server(one))]

    return commands


def languages(arguments: argparse.Namespace, folder: Path) -> Iterator[tuple[str, list[Way]]]:
    """All that can be started here; others are put to the first way of a language."""
    count = arguments.workers
    python, node = sys.executable, shutil.which("node")

    def pool(command: str, policy: str) -> Way:
        own = [arguments.sendfd, "pool", "--policy", policy, "--worker", f"{count}*{command}"]

        def commands(port: int) -> list[list[str]]:
            return [[*own, "--listen", f"127.0.0.1:{port}"]]

        return Way(f"sendfd pool, {policy}", commands, signal.SIGHUP, pool=True)

    def several(name: str, commands: Commands, goal: float) -> Way:
        return Way(name, lambda port: commands(port) * count, goal=goal)

    def behind_nginx(language: str, name: str, commands: Commands) -> list[Way]:
        front = proxied(folder, language.lower(), count, commands)
        return [Way(f"nginx before {name}", front, goal=1.5)] if front else []

    rust = [arguments.server]
    yield (
        "Rust",
        [
            pool(arguments.server, "round-robin"),
            pool(arguments.server, "shortest-queue"),
            several("SO_REUSEPORT", lambda port: [[*rust, str(port)]], 0.9),
            *behind_nginx("Rust", "the same server", lambda port: [[*rust, str(port)]]),
        ],
    )
    asgi = f"{python} -m sendfd.asgi --no-access-log app:app"
    uvicorn = [str(BIN / "uvicorn"), "app:app", "--no-access-log", "--log-level", "warning"]
    reuse = (
        "import socket, sys, uvicorn; s = socket.socket();"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1);"
        "s.bind(('127.0.0.1', int(sys.argv[1])));"
        "c = uvicorn.Config('app:app', access_log=False, log_level='warning');"
        "uvicorn.Server(c).run([s])"
    )
    ways = [
        pool(asgi, "round-robin"),
        pool(asgi, "shortest-queue"),
        several("SO_REUSEPORT, uvicorn", lambda port: [[python, "-c", reuse, str(port)]], 0.9),
        Way(
            "uvicorn --workers",
            lambda port: [[*uvicorn, "--port", str(port), "--workers", str(count)]],
            signal.SIGHUP,
            shared=True,
        ),
    ]
    if (BIN / "gunicorn").exists():
        gunicorn = [str(BIN / "gunicorn"), "app:app", "-k", "uvicorn_worker.UvicornWorker"]
        ways.append(
            Way(
                "gunicorn, uvicorn's worker",
                lambda port: [[*gunicorn, "-w", str(count), "-b", f"127.0.0.1:{port}"]],
                signal.SIGHUP,
                shared=True,
            )
        )
    ways += behind_nginx("Python", "uvicorn", lambda port: [[*uvicorn, "--port", str(port)]])
    yield "Python", ways
    if node:
        yield (
            "Node",
            [
                pool("node app.mjs", "round-robin"),
                pool("node app.mjs", "shortest-queue"),
                Way("cluster", lambda port: [[node, "app.mjs", str(port), str(count)]], goal=1.3),
                *behind_nginx("Node", "Node", lambda port: [[node, "app.mjs", str(port), "0"]]),
            ],
        )


class Meanwhile:
    """Loads without end while something else is done; how many requests failed."""

    def __init__(self, port: int) -> None:
        """Nothing is asked yet."""
        self.port, self.failed, self.over = port, 0, threading.Event()
        self.thread = threading.Thread(target=self._load)

    def _load(self) -> None:
        while not self.over.is_set():
            self.failed += ab(self.port, 500).failed

    def __enter__(self) -> Meanwhile:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def measure(way: Way, port: int, requests: int) -> None:
    """One round."""
    new = ab(port, requests)
    kept = ab(port, requests, keep=True)
    mixed = ab(port, requests // 4, "mixed")
    way.rates.append(new.rate)
    way.kept.append(kept.rate)
    way.medians.append(mixed.median)
    way.lasts.append(mixed.last)
    way.failed += new.failed + kept.failed + mixed.failed


def disturb(way: Way, port: int, process: subprocess.Popen[bytes]) -> None:
    """Ten reloads, then a worker killed, under load."""
    shares = pids(port, 1000).values()
    way.fairness = max(shares) / min(shares)
    if way.reload is not None:
        with Meanwhile(port) as load:
            for _ in range(10):
                before = set(pids(port, 32))
                process.send_signal(way.reload)
                end = time.monotonic() + 5
                # Until nobody answers any more who did.
                while before & set(pids(port, 32)) and time.monotonic() < end:
                    time.sleep(0.05)
        way.reloaded = load.failed
    with Meanwhile(port) as load:
        os.kill(int(min(pids(port, 32))), signal.SIGKILL)
        time.sleep(2)
    way.killed = load.failed
    if way.pool:
        # The pool's own successor, on the same port.
        own = [*way.commands(port)[0], "--take-over", str(process.pid)]
        with started([own]):
            with Meanwhile(port) as load:
                process.wait(60)
                time.sleep(0.5)
            way.replaced = load.failed


def table(language: str, ways: list[Way]) -> Iterator[str]:
    """The rows of a language."""
    base = ways[0]
    for way in ways:
        ratios = [own / other for own, other in zip(way.rates, base.rates, strict=True)]
        kept = [own / other for own, other in zip(way.kept, base.kept, strict=True)]
        yield (
            f"| {language}: {way.name} | {statistics.median(way.rates):.0f}"
            f" ({statistics.median(ratios):.2f}) | {statistics.median(way.kept):.0f}"
            f" ({statistics.median(kept):.2f}) | {statistics.median(way.medians):.0f},"
            f" {statistics.median(way.lasts):.0f} | {way.fairness:.2f} | {way.failed}"
            f" | {shown(way.reloaded)} | {shown(way.replaced)} | {way.killed} |"
        )


def shown(failed: int | None) -> str:
    """Name what it cannot do."""
    return "no such thing" if failed is None else str(failed)


def goals(language: str, ways: list[Way]) -> Iterator[str]:
    """What was to be reached, and what was."""
    base = ways[0]

    def row(what: str, goal: str, value: float, reached: bool) -> str:
        return f"| {language}: {what} | {goal} | {value:.2f} | {'yes' if reached else 'no'} |"

    for way in ways:
        if way.goal is not None:
            ratio = statistics.median(
                own / other for own, other in zip(base.rates, way.rates, strict=True)
            )
            what = f"requests per second against {way.name}"
            yield row(what, f">= {way.goal}", ratio, ratio >= way.goal)
        if way.shared:
            shortest = ways[1]
            ratio = statistics.median(
                own / other for own, other in zip(shortest.lasts, way.lasts, strict=True)
            )
            yield row(f"99th under unequal cost against {way.name}", "<= 0.5", ratio, ratio <= 0.5)
            yield row(
                f"fairness ({way.name}: {way.fairness:.2f})", "<= 1.05", base.fairness,
                base.fairness <= 1.05,
            )  # fmt: skip
    for way in ways:
        if way.pool:
            failed = way.failed + (way.reloaded or 0) + (way.replaced or 0)
            yield row(
                f"failed, {way.name}, also in ten reloads and a replacement",
                "0",
                failed,
                not failed,
            )


def main() -> None:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sendfd", default="sendfd")
    parser.add_argument("--server", required=True)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("Rust", "Python", "Node"))
    parser.add_argument("--svg", type=Path)
    arguments = parser.parse_args()
    # Ended from outside, what was started is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # The processes run in another folder.
    arguments.sendfd = os.path.abspath(shutil.which(arguments.sendfd) or arguments.sendfd)
    arguments.server = os.path.abspath(arguments.server)
    for program in ("ab", "curl"):
        if not shutil.which(program):
            raise SystemExit(f"missing: {program} (packages apache2-utils, curl)")
    for program in ("nginx", "node"):
        if not shutil.which(program):
            print(f"without {program}, which is not installed", file=sys.stderr)
    rows: list[str] = []
    reached: list[str] = []
    bars: list[picture.Group] = []
    with tempfile.TemporaryDirectory() as folder:
        for language, ways in languages(arguments, Path(folder)):
            if arguments.only not in (None, language):
                continue
            with contextlib.ExitStack() as stack:
                running = []
                for way in ways:
                    port = free_port()
                    processes = stack.enter_context(started(way.commands(port)))
                    wait_for(port, arguments.workers, way.name)
                    running.append((way, port, processes[0]))
                    ab(port, arguments.requests // 5)
                for number in range(arguments.rounds):
                    for way, port, _ in running:
                        measure(way, port, arguments.requests)
                    print(f"{language}: round {number + 1}", file=sys.stderr)
                for way, port, process in running:
                    disturb(way, port, process)
                    print(f"{language}: {way.name}: disturbed", file=sys.stderr)
            rows += table(language, ways)
            reached += goals(language, ways)
            bars.append((language, [(way.name, statistics.median(way.rates)) for way in ways]))
    print(
        "| | requests/s, new connection each (ratio) | kept alive (ratio)"
        " | median, 99th ms, one in ten 20 ms | most / least loaded | failed"
        " | in ten reloads | in a replacement | worker killed |"
    )
    print("|---" * 9 + "|", *rows, sep="\n")
    print("\n| goal | | measured | reached |", "|---" * 4 + "|", *reached, sep="\n")
    if arguments.svg:
        arguments.svg.write_text(picture.bars(bars))


if __name__ == "__main__":
    main()
