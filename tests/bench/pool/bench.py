"""The pool against other ways to have several workers behind one port.

    bench.py --sendfd COMMAND [--requests N] [--workers N]

The load is ab's (packages apache2-utils), fairness is counted by curl. What is not installed is
left out, and said.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent.parent
BIN = Path(sys.executable).parent
PARALLEL = 16


def free_port() -> int:
    """Find a port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Rival:
    """One way, as processes that can be started, reloaded and ended."""

    def __init__(
        self, name: str, commands: Callable[[int], list[list[str]]], reloads: bool
    ) -> None:
        """Nothing is started yet. The first command is who is told to reload, by SIGHUP."""
        self.name, self.commands, self.reloads = name, commands, reloads

    @contextlib.contextmanager
    def running(self, workers: int) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
        """Serve on a free port, with all workers up."""
        port = free_port()
        environment = os.environ | {"SENDFD_MODULE": str(TOP / "bindings/node/dist/index.js")}
        processes = [
            subprocess.Popen(
                command, cwd=HERE, env=environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for command in self.commands(port)
        ]  # fmt: skip
        try:
            end = time.monotonic() + 60
            while len(pids(port, 64)) < workers:
                if time.monotonic() > end:
                    raise SystemExit(f"{self.name}: its workers do not come up")
                time.sleep(0.1)
            yield port, processes[0]
        finally:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
            for process in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(15)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def pids(port: int, count: int, path: str = "") -> collections.Counter[str]:
    """Count who answers."""
    url = f"http://127.0.0.1:{port}/{path}[1-{count}]"
    # -H: a connection for each.
    command = ["curl", "-s", "-m", "30", "-H", "Connection: close"]
    command += ["--parallel", "--parallel-immediate", "--parallel-max", str(PARALLEL), url]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return collections.Counter(word for word in output.split() if word.isdigit())


def ab(port: int, requests: int, path: str = "", keep: bool = False) -> tuple[float, int, int, int]:
    """Requests per second, median and 99th in ms, and how many failed."""
    command = ["ab", "-q", "-l", "-r", f"-n{requests}", f"-c{PARALLEL}"]
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
    return (
        number(r"Requests per second:\s+([\d.]+)"),
        int(number(r"\n\s+50%\s+(\d+)")),
        int(number(r"\n\s+99%\s+(\d+)")),
        failed,
    )


def rivals(arguments: argparse.Namespace, folder: Path) -> Iterator[Rival]:
    """All that can be started here."""
    count = arguments.workers
    python, node = sys.executable, shutil.which("node")

    def pool(command: str, policy: str) -> Callable[[int], list[list[str]]]:
        own = [arguments.sendfd, "pool", "--policy", policy, "--worker", f"{count}*{command}"]
        return lambda port: [[*own, "--listen", f"127.0.0.1:{port}"]]

    asgi = f"{python} -m sendfd.asgi --no-access-log app:app"
    uvicorn = [str(BIN / "uvicorn"), "app:app", "--no-access-log", "--log-level", "warning"]
    for policy in ("round-robin", "shortest-queue"):
        yield Rival(f"Python: sendfd pool, {policy}", pool(asgi, policy), True)
    yield Rival(
        "Python: uvicorn --workers",
        lambda port: [[*uvicorn, "--port", str(port), "--workers", str(count)]],
        True,
    )
    if (BIN / "gunicorn").exists():
        gunicorn = [str(BIN / "gunicorn"), "app:app", "-k", "uvicorn_worker.UvicornWorker"]
        yield Rival(
            "Python: gunicorn, uvicorn's worker",
            lambda port: [[*gunicorn, "-w", str(count), "-b", f"127.0.0.1:{port}"]],
            True,
        )
    reuse = (
        "import socket, sys, uvicorn; s = socket.socket();"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1);"
        "s.bind(('127.0.0.1', int(sys.argv[1])));"
        "c = uvicorn.Config('app:app', access_log=False, log_level='warning');"
        "uvicorn.Server(c).run([s])"
    )
    yield Rival(
        "Python: SO_REUSEPORT, uvicorn",
        lambda port: [[python, "-c", reuse, str(port)]] * count,
        False,
    )
    if nginx := shutil.which("nginx"):

        def proxied(port: int) -> list[list[str]]:
            ports = [free_port() for _ in range(count)]
            servers = "".join(f"server 127.0.0.1:{one}; " for one in ports) + "keepalive 16;"
            user = "user root;" if os.geteuid() == 0 else ""
            (folder / "nginx.conf").write_text(
                f"{user} daemon off; pid nginx.pid; error_log stderr; events {{}} http {{"
                " access_log off; client_body_temp_path a; proxy_temp_path b;"
                " fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;"
                f" upstream up {{ {servers} }} server {{ listen 127.0.0.1:{port} backlog=4096;"
                " location / { proxy_pass http://up; proxy_http_version 1.1;"
                ' proxy_set_header Connection ""; } } }'
            )
            own = [nginx, "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
            return [own] + [[*uvicorn, "--port", str(one)] for one in ports]

        yield Rival("Python: nginx before uvicorn", proxied, False)
    if node:
        yield Rival("Node: sendfd pool, round-robin", pool("node app.mjs", "round-robin"), True)
        yield Rival("Node: cluster", lambda port: [[node, "app.mjs", str(port), str(count)]], False)


def reloaded(port: int, process: subprocess.Popen[bytes], requests: int) -> int:
    """Failed requests during ten reloads."""
    failed = 0
    for _ in range(10):
        process.send_signal(signal.SIGHUP)
        failed += ab(port, requests // 10)[3]
        time.sleep(0.5)
    return failed


def main() -> None:
    """Measure each in turn, and print a table in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sendfd", default="sendfd")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    # The processes run in another folder.
    arguments.sendfd = os.path.abspath(shutil.which(arguments.sendfd) or arguments.sendfd)
    for program in ("ab", "curl"):
        if not shutil.which(program):
            raise SystemExit(f"missing: {program} (packages apache2-utils, curl)")
    print(
        "| | requests/s, new connection each | kept alive | median, 99th ms, one in ten 20 ms "
        "| most / least loaded | failed | failed in ten reloads |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for rival in rivals(arguments, Path(folder)):
            with rival.running(arguments.workers) as (port, process):
                requests = arguments.requests
                ab(port, requests // 5)
                rate, _, _, failed = ab(port, requests)
                kept = ab(port, requests, keep=True)
                _, median, last, mixed_failed = ab(port, requests // 2, "mixed")
                shares = pids(port, 1000).values()
                fairness = max(shares) / min(shares)
                failed += kept[3] + mixed_failed
                reloads = str(reloaded(port, process, requests)) if rival.reloads else "no reload"
            print(
                f"| {rival.name} | {rate:.0f} | {kept[0]:.0f} | {median}, {last} "
                f"| {fairness:.2f} | {failed} | {reloads} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
