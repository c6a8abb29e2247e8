"""The demo: five workers in five languages behind one port, a load, a kill and a reload.

    demo.py --sendfd COMMAND [--requests N] [--kill NAME] [--serve] [--with PID] NAME=COMMAND...

It starts `sendfd pool` and has ab (or curl) make requests. In the middle of them one worker is
killed, then all are reloaded, one by one. In the end it says who served what, by which path, how
fast, and what was lost. With --serve it stays up until Ctrl-C instead. The pool's own lines are
shown as they come. The pool ends with this program, however that ends; with --with this program
ends with the process that started it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

ROUND = 500
PARALLEL = 16
PATIENCE = 60


class Failure(Exception):
    """What ends the demo, in a line."""


LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Have the kernel send SIGTERM when the process that started this one ends, even by SIGKILL."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # It may have ended before that.
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


class Pool:
    """The pool, as a process, with what it says."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Start it; ready() says when it serves."""
        port = os.environ.get("PORT", "0")
        command = [arguments.sendfd, "pool", "--listen", f"127.0.0.1:{port}"]
        command += ["--status", "127.0.0.1:0", "--drain", "10"]
        for worker in arguments.worker:
            command += ["--worker", worker]
        self.lines: list[str] = []
        self.news = threading.Condition()
        self.over = False
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            # There are no other threads yet.
            preexec_fn=functools.partial(end_with, os.getpid()),
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stderr or ():
            # Also when nobody reads what is shown: the pool must not have to wait.
            with contextlib.suppress(OSError):
                print(line, end="", flush=True)
            with self.news:
                self.lines.append(line.rstrip())
                self.news.notify_all()
        with self.news:
            self.over = True
            self.news.notify_all()

    def wait_for(self, what: str, pattern: str, times: int = 1, never: str = "$^") -> list[str]:
        """Wait until so many lines match; they come back. A line that matches `never` ends it."""

        def matches(pattern: str) -> list[str]:
            return [m[1] for line in self.lines if (m := re.search(pattern, line))]

        with self.news:
            end = time.monotonic() + PATIENCE
            while len(found := matches(pattern)) < times:
                if wrong := matches(never):
                    raise Failure(wrong[0])
                if self.over:
                    raise Failure(self.how_it_ended())
                if not self.news.wait(end - time.monotonic()):
                    raise Failure(f"after {PATIENCE} s the pool has not said {what}")
            return found

    def how_it_ended(self) -> str:
        """Say it in words, of a pool that has ended or is about to."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return "the pool does not answer"
        if code < 0:
            return f"the pool was killed by {signal.Signals(-code).name}"
        return f"the pool ended with exit code {code}"

    def status(self) -> Any:
        """Ask for what the status page shows."""
        url = self.status_url + "status.json"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return json.load(answer)
        except (OSError, ValueError):
            raise Failure(self.how_it_ended()) from None

    def ready(self, workers: int) -> None:
        """Wait until every worker listens."""
        self.address = self.wait_for("where it listens", r"listening on (.*)")[0]
        self.status_url = self.wait_for("where its status is", r"status on (.*)")[0]
        self.wait_for(
            "that every worker is ready", r"(is ready, by)", workers,
            never=r"(worker \S+: process \d+ (?:ended before|has opened no receiver).*)",
        )  # fmt: skip

    def end(self) -> None:
        """Have it drain, and wait for it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Ab:
    """A load by ab, of apache2-utils."""

    name = "ab"

    def command(self, address: str) -> list[str]:
        """One round. Answers differ in length, and a reset does not end the round."""
        return ["ab", "-q", "-l", "-r", f"-n{ROUND}", f"-c{PARALLEL}", f"http://{address}/"]

    def unanswered(self, output: str) -> int:
        """How many requests got no answer."""
        complete = re.search(r"Complete requests:\s+(\d+)", output)
        if complete is None:
            # It gives up on all when one is not answered in time.
            raise Failure("a request was not answered: ab gave up")
        # One connection that is reset counts up to three times, once as each of these.
        kinds = re.search(
            r"\(Connect: (\d+), Receive: (\d+), Length: (\d+), Exceptions: (\d+)\)", output
        )
        failed = max(map(int, kinds.groups())) if kinds else 0
        return failed + ROUND - int(complete[1])


class Curl:
    """The same by curl, where there is no ab."""

    name = "curl"

    def command(self, address: str) -> list[str]:
        """One round."""
        return [
            "curl", "--silent", "--max-time", "30", "--parallel", "--parallel-immediate",
            "--parallel-max", str(PARALLEL), f"http://{address}/[1-{ROUND}]",
        ]  # fmt: skip

    def unanswered(self, output: str) -> int:
        """Each answer is a line."""
        return ROUND - len(output.splitlines())


class Table:
    """Who served what; in a terminal it is drawn over and over in its place."""

    HEAD = (
        f"{'worker':<16}{'pid':>9}  {'path':<8}{'state':<9}"
        f"{'handed':>7}{'median':>10}{'99th':>10}{'restarts':>9}"
    )

    def __init__(self) -> None:
        """Nothing is drawn yet."""
        self.live = sys.stdout.isatty()

    def text(self, status: Any) -> str:
        """Every worker on a line."""
        rows = [
            f"{w['name']:<16}{w['pid']:>9}  {w['path']:<8}{w['state']:<9}{w['handed']:>7}"
            f"{w['median_us']:>7.1f} us{w['p99_us']:>7.1f} us{w['restarts']:>9}"
            for w in status["workers"]
        ]
        return "\n".join([self.HEAD, *rows])

    def draw(self, status: Any) -> None:
        """Show it now, and have what comes next written over it."""
        if self.live:
            lines = self.text(status).count("\n") + 1
            print(f"\x1b[J{self.text(status)}\n\x1b[{lines}A", end="", flush=True)


@contextlib.contextmanager
def running(load: Ab | Curl, address: str) -> Iterator[subprocess.Popen[str]]:
    """Run one round, which does not outlive what is done meanwhile."""
    with subprocess.Popen(
        load.command(address),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as round_:  # fmt: skip
        try:
            yield round_
        finally:
            round_.kill()


def kill_worker(pool: Pool, name: str, round_: subprocess.Popen[str]) -> None:
    """Kill it in the middle of a round, while it has connections."""
    start = pool.status()["accepted"]
    while pool.status()["accepted"] == start and round_.poll() is None:
        time.sleep(0.001)
    pid = next(w["pid"] for w in pool.status()["workers"] if w["name"] == name)
    print(f"-- killing worker {name}, process {pid}", flush=True)
    os.kill(pid, signal.SIGKILL)


def demonstrate(pool: Pool, load: Ab | Curl, requests: int, victim: str) -> bool:
    """The load, the kill, the reload, the table. True if nothing was lost."""
    table = Table()
    unanswered = made = with_victim = 0
    killed = reloaded = False
    workers = len(pool.status()["workers"])
    while made < requests or not reloaded:
        kill_now = not killed and made >= requests // 3
        with running(load, pool.address) as round_:
            if kill_now:
                kill_worker(pool, victim, round_)
                killed = True
            elif killed and not reloaded and made >= requests // 2:
                print("-- reloading, one worker after the other", flush=True)
                pool.process.send_signal(signal.SIGHUP)
                reloaded = True
            try:
                output = round_.communicate(timeout=PATIENCE)[0]
            except subprocess.TimeoutExpired:
                raise Failure(f"{load.name} is not done after {PATIENCE} s") from None
        made += ROUND
        missing = load.unanswered(output)
        if kill_now:
            with_victim = missing
        else:
            unanswered += missing
        table.draw(pool.status())
        if not table.live:
            print(f"-- {made} requests made by {load.name}", flush=True)
    pool.wait_for(
        "that all workers are new", rf"(reload: {workers} of {workers} workers are new)",
        never=r"(worker \S+: reload: .*)",
    )  # fmt: skip
    status = pool.status()
    handed = sum(worker["handed"] - worker["returned"] for worker in status["workers"])
    clear = "\x1b[J" if table.live else ""
    answered = made - unanswered - with_victim
    print(f"{clear}\n{table.text(status)}\n")
    print(f"{made} requests by {load.name}, {answered} answered")
    print(f"{status['accepted']} connections accepted, {handed} handed over")
    print(f"{with_victim} were with the killed worker when it was killed")
    lost = unanswered + status["lost"] + status["waiting"]
    print(f"{lost} lost")
    return bool(lost == 0 and handed == status["accepted"])


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sendfd", default="sendfd")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--kill")
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--with", type=int, dest="parent", metavar="PID")
    parser.add_argument("worker", nargs="+")
    arguments = parser.parse_args()
    load = Ab() if shutil.which("ab") else Curl()
    if not shutil.which(load.name) and not arguments.serve:
        raise Failure("ab or curl is needed to make requests (packages apache2-utils, curl)")
    names = [worker.split("=")[0] for worker in arguments.worker]
    victim = arguments.kill or names[0]
    if victim not in names:
        raise Failure(f"there is no worker {victim!r} to be killed")
    # Ended from outside, the pool is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if arguments.parent:
        end_with(arguments.parent)
    pool = Pool(arguments)
    try:
        pool.ready(len(arguments.worker))
        if arguments.serve:
            print(f"\nTry curl http://{pool.address}/ and look at {pool.status_url}")
            print("Ctrl-C ends it.", flush=True)
            try:
                pool.process.wait()
            except KeyboardInterrupt:
                return 0
            raise Failure(pool.how_it_ended())
        return 0 if demonstrate(pool, load, arguments.requests, victim) else 1
    finally:
        pool.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"demo: {failure}")
    except BrokenPipeError:
        # Nobody reads it any more, as in `make demo | head`; Python is not to try once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
