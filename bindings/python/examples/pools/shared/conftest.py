"""One listening socket for all tests, in whichever of xdist's processes they run.

Usage: pytest -n 2
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sendfd

sys.path.insert(0, str(Path(__file__).parents[1]))

from lending import Lender, borrow

LENDER = pytest.StashKey[Lender]()


def pytest_configure(config: Any) -> None:
    """Keep the socket, in the process that starts the others."""
    if not hasattr(config, "workerinput"):
        config.stash[LENDER] = lender = Lender(sendfd.port(4))
        listener = socket.create_server(("127.0.0.1", 0))
        config.shared_listener = lender.keep(listener, once=False)


def pytest_configure_node(node: Any) -> None:
    """Tell a process that is started whom to ask."""
    node.workerinput["shared_listener"] = node.config.shared_listener


def pytest_unconfigure(config: Any) -> None:
    """Close it."""
    lender = config.stash.get(LENDER, None)
    if lender is not None:
        lender.close()


@pytest.fixture(scope="session")
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """Borrow the listening socket."""
    told: dict[str, Any] = getattr(request.config, "workerinput", vars(request.config))
    with borrow(tuple(told["shared_listener"])) as borrowed:
        yield borrowed
