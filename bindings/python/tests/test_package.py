"""The package as such: versions, documentation, the command line."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sendfd
from conftest import SIG, MakeChild

TOP = Path(__file__).parents[3]


def test_one_version() -> None:
    text = (TOP / "Cargo.toml").read_text()
    section = text.partition("[workspace.package]")[2].partition("[workspace.dependencies]")[0]
    assert f'version = "{sendfd.__version__}"' in section
    assert importlib.metadata.version("sendfd") == sendfd.__version__


def test_everything_public_is_documented() -> None:
    def check(name: str, thing: object) -> None:
        assert inspect.getdoc(thing), f"{name} has no docstring"
        if inspect.isclass(thing):
            for attribute, member in vars(thing).items():
                if not attribute.startswith("_") and not isinstance(member, int):
                    check(f"{name}.{attribute}", member)

    for name in sendfd.__all__:
        thing = getattr(sendfd, name)
        if not isinstance(thing, int | str):
            check(name, thing)
            assert thing.__module__.startswith("sendfd")
    check("sendfd", sendfd)


def test_it_is_typed_and_licensed() -> None:
    files = [str(file) for file in importlib.metadata.files("sendfd") or ()]
    assert "sendfd/py.typed" in files
    assert "sendfd/_sendfd.pyi" in files
    assert sum("LICENSE" in file for file in files) == 2


def test_it_is_never_unloaded() -> None:
    from sendfd import _sendfd

    assert _sendfd.__file__ is not None
    headers = subprocess.run(
        ["readelf", "-d", _sendfd.__file__], capture_output=True, text=True, check=True
    )
    assert "NODELETE" in headers.stdout


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sendfd", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_line() -> None:
    done = command()
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == f"sendfd {sendfd.__version__}"
    assert [line.split()[0] for line in lines[2:5]] == ["syscall", "pidfd", "name"]
    report = sendfd.probe()
    assert lines[5] == f"a send takes: {report.chosen}"
    for line, error in zip(lines[2:5], report.errors.values(), strict=True):
        assert (line.split()[1:] == ["works"]) == (error is None)


def test_the_command_line_for_a_target(child: MakeChild) -> None:
    peer = child(
        "r = sendfd.Receiver(SIG); print('ready', flush=True); sys.stdin.read(); r.close()"
    )
    peer.ready()
    done = command(peer.pid, int(SIG))
    assert done.returncode == 0
    assert f"to process {peer.pid} at signal {int(SIG)}:" in done.stdout
    idle = command(os.getpid(), int(SIG))
    assert idle.returncode == 1
    assert "does not listen there" in idle.stdout
    peer.end()
    gone = command(peer.pid, int(SIG))
    assert gone.returncode == 1
    assert "there is no such process" in gone.stderr
    for bad in ([1], ["one", 40], [1, 2, 3], [1, "RTMIN+99"], [1, 30]):
        assert command(*bad).returncode == 2
    for port in ("SIGRTMIN+4", "RTMIN+4", 64 - int(SIG)):
        assert f"at signal {int(SIG)}" in command(os.getpid(), port).stdout


def test_a_closed_pipe_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "sendfd"], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


def test_ports() -> None:
    assert (sendfd.port(0), sendfd.port(29)) == (64, 35)
    for number in (-1, 30):
        with pytest.raises(ValueError, match="0 to 29"):
            sendfd.port(number)
    signals = {"3": 61, "SIGRTMAX-3": 61, "rtmax": 64, "RTMIN+2": signal.SIGRTMIN + 2, "40": 40}
    for text, sig in signals.items():
        assert sendfd.parse_port(text) == sig
    for text in ("", "x", "-1", "30", "65", "RTMIN-1", "RTMAX+1", "RTMIN+31", "RTMINx"):
        with pytest.raises(ValueError, match=r"port|invalid"):
            sendfd.parse_port(text)


def test_importing_is_light() -> None:
    code = "import sys; before = set(sys.modules); import sendfd; print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {
        "asyncio",
        "typing",
        "logging",
        "multiprocessing",
        "ssl",
        "subprocess",
        "socket",
        "inspect",
    }
    assert heavy & set(done.stdout.split()) == set()


def test_probe_names_the_reason(child: MakeChild) -> None:
    report = sendfd.probe(os.getpid(), SIG)
    assert (report.pid, report.sig, report.chosen, report.working) == (os.getpid(), SIG, None, ())
    assert isinstance(report.errors["name"], ConnectionRefusedError)
    with sendfd.Receiver(SIG):
        assert set(sendfd.probe(os.getpid(), SIG).working) == set(sendfd.probe().working)


def test_the_readme_names_what_there_is() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(block, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    # The modules for single frameworks need those.
    names = set(re.findall(r"sendfd\.([A-Za-z_]+)", text)) - sendfd._MODULES
    assert names
    assert [name for name in names if not hasattr(sendfd, name)] == []
    methods = set(re.findall(r"(?<!sendfd\.)\b(?:message|receiver|target)\.([a-z_]+)\(", text))
    classes = (sendfd.Message, sendfd.Receiver, sendfd.Target)
    assert [name for name in methods if not any(hasattr(c, name) for c in classes)] == []
