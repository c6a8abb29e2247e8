"""What all tests share: every one counts the descriptors of its process before and after."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sendfd

SIG = signal.SIGRTMIN + 4


class Child:
    """A second process that runs a piece of Python and talks over its standard streams."""

    def __init__(self, code: str, *arguments: object) -> None:
        prelude = (
            "import errno, os, resource, signal, socket, sys, sendfd\nSIG = int(sys.argv[1])\n"
        )
        command = [sys.executable, "-X", "dev", "-W", "error", "-c"]
        command += [prelude + textwrap.dedent(code), str(SIG), *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ready(self) -> None:
        assert self.line() == "ready"

    def sleeps(self) -> None:
        """Wait until its main thread waits for something."""
        while "\nState:\tS" not in Path(f"/proc/{self.pid}/status").read_text():
            assert self.process.poll() is None
            time.sleep(0.001)

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """Wait for it to end well, and return the rest of what it printed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        # communicate() would lose what line() has read ahead.
        watchdog = threading.Timer(60, self.process.kill)
        watchdog.start()
        with self.process.stdout as stdout:
            output = stdout.read()
        code = self.process.wait()
        watchdog.cancel()
        assert code == 0
        return output.strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


MakeChild = Callable[..., Child]


@pytest.fixture
def child() -> Iterator[MakeChild]:
    children: list[Child] = []

    def make(code: str, *arguments: object) -> Child:
        children.append(Child(code, *arguments))
        return children[-1]

    yield make
    for one in children:
        one.kill()


@pytest.fixture
def receiver() -> Iterator[sendfd.Receiver]:
    with sendfd.Receiver(SIG) as opened:
        yield opened


@pytest.fixture
def null() -> Iterator[int]:
    """A descriptor to send."""
    fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.fixture(autouse=True)
def no_descriptor_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    before = open_descriptors()
    yield
    after = open_descriptors()
    if after != before:
        # Something that is not reachable any more may still be collected.
        gc.collect()
        after = open_descriptors()
    assert after == before, f"{request.node.nodeid}: {before} descriptors before, {after} after"


def open_descriptors() -> int:
    fill_cache()
    return len(os.listdir("/proc/self/fd"))


def fill_cache() -> None:
    """send() keeps the last 16 targets open. They are the same number each time we count."""
    for sig in range(signal.SIGRTMAX - 16, signal.SIGRTMAX):
        with sendfd.Receiver(sig) as receiver:
            sendfd.send(os.getpid(), sig, 0)
            receiver.recv().close()


def need(what: str, have: bool) -> None:
    """Skip by name; a failure where SENDFD_TEST_REQUIRE lists the need."""
    if have:
        return
    if what in os.environ.get("SENDFD_TEST_REQUIRE", "").split(","):
        pytest.fail(f"needs {what}, which SENDFD_TEST_REQUIRE asks for")
    pytest.skip(f"needs {what}")


def need_root() -> None:
    need("root", os.geteuid() == 0)
