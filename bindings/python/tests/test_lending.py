"""Descriptors for tasks whose process nobody knows: the examples, with the real pools."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

from conftest import need

POOLS = Path(__file__).parents[1] / "examples/pools"
COUNT = 8


def ask_all(front: subprocess.Popen[str]) -> set[int]:
    """Connect until all is answered; by which processes."""
    assert front.stdout is not None
    port = int(front.stdout.readline().split()[-1])
    clients = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(COUNT)]
    pids = set()
    for client in clients:
        with client, client.makefile() as answer:
            pids.add(int(answer.read().removeprefix("answered by ")))
    assert front.pid not in pids
    return pids


def run(*words: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=POOLS,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | (env or {}),
    )


def test_process_pool_executor() -> None:
    with run("executor.py", "0", str(COUNT)) as front:
        try:
            pids = ask_all(front)
            assert front.communicate(timeout=60)[0] == f"processes: {len(pids)}\n"
            assert front.returncode == 0
        finally:
            front.kill()


def test_celery(tmp_path: Path) -> None:
    need("celery", importlib.util.find_spec("celery") is not None)
    (tmp_path / "queue").mkdir()
    (tmp_path / "settings.py").write_text(
        "broker_transport_options = {'data_folder_in': %r, 'data_folder_out': %r}\n"
        % ((str(tmp_path / "queue"),) * 2)
    )
    env = {
        "CELERY_BROKER_URL": "filesystem://",
        "CELERY_CONFIG_MODULE": "settings",
        "PYTHONPATH": str(tmp_path),
    }
    worker = ["-m", "celery", "-A", "tasks", "worker", "--concurrency", "2", "--without-gossip"]
    with (
        run(*worker, "--loglevel", "ERROR", env=env) as workers,
        run("tasks.py", "0", str(COUNT), env=env) as front,
    ):
        try:
            pids = ask_all(front)
            assert front.wait(60) == 0
            assert workers.pid not in pids
        finally:
            front.kill()
            workers.terminate()
            workers.communicate(timeout=60)


def test_xdist() -> None:
    need("xdist", importlib.util.find_spec("xdist") is not None)
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]
    for processes in ([], ["-n", "2"]):
        done = subprocess.run(
            [*pytest_, "-c", "/dev/null", *processes],
            cwd=POOLS / "shared",
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "4 passed" in done.stdout
