"""Tests that use the socket that all share."""

from __future__ import annotations

import socket

import pytest


@pytest.mark.parametrize("nth", range(4))
def test_it_listens(listener: socket.socket, nth: int) -> None:
    """Connect to it; who accepts is one of those that share it."""
    with socket.create_connection(listener.getsockname()) as client:
        assert client.getpeername() == listener.getsockname()
