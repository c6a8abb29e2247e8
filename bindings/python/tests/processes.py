"""What the children of multiprocessing run."""

from __future__ import annotations

import sendfd


def upper(sig: int) -> None:
    """Receive a socket and write the message's data to it in capitals."""
    with sendfd.Receiver(sig) as receiver, receiver.recv(60) as message, message.socket() as socket:
        socket.sendall(message.data.upper())
