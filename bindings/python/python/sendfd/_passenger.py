"""What must not be handed over, because bytes that belong to it would stay behind."""

from __future__ import annotations

import io
import sys
from typing import Any


def check(thing: Any) -> None:
    """Raise TypeError for an object that holds more than its descriptor says.

    Called for every object that is no plain socket.
    """
    if isinstance(thing, io.TextIOWrapper):
        _check_text(thing)
    elif isinstance(thing, io.BufferedReader | io.BufferedWriter | io.BufferedRandom):
        _check_buffered(thing)
    elif type(thing).__name__ == "_TemporaryFileWrapper":
        check(thing.file)
    elif (ssl := sys.modules.get("ssl")) and isinstance(thing, ssl.SSLSocket):
        raise TypeError(
            "an SSLSocket cannot be handed over: its keys and what it has decrypted stay in this "
            "process. Hand over the connection before the handshake, or after unwrap() the socket "
            "that it returns"
        )
    elif (trsock := sys.modules.get("asyncio.trsock")) and isinstance(
        thing, trsock.TransportSocket
    ):
        _check_transport(thing.fileno())


def _check_buffered(file: io.BufferedReader | io.BufferedWriter | io.BufferedRandom) -> None:
    raw: Any = file.raw
    if file.seekable():
        here, there = file.tell(), raw.tell()
        if here < there:
            raise _read_ahead(there - here)
        if here > there:
            raise _unflushed()
    elif isinstance(file, io.BufferedReader):
        # peek() answers from what was read ahead, and reads only if that is nothing.
        with _Without(raw, "readinto"):
            ahead = len(file.peek())
        if ahead:
            raise _read_ahead(ahead)
    else:
        with _Without(raw, "write"):
            try:
                file.flush()
            except BlockingIOError:
                raise _unflushed() from None


def _check_text(file: io.TextIOWrapper) -> None:
    buffer: Any = file.buffer
    if file.writable():
        # What the text layer holds back goes to the layer below, and no further.
        with _Without(buffer, "flush"):
            file.flush()
    if isinstance(buffer, io.BufferedReader | io.BufferedWriter | io.BufferedRandom):
        _check_buffered(buffer)
    if not file.readable():
        return
    if not file.seekable():
        raise TypeError(
            "a text file that cannot seek may have read ahead without saying so: if nothing was "
            "read from it yet, pass its fileno(); if something was, read on from its binary buffer "
            "only, and pass that"
        )
    try:
        here = file.tell()
    except OSError:
        # In the middle of an iteration it does not say.
        raise _read_ahead(None) from None
    if here != buffer.tell():
        raise _read_ahead(None)


class _Without:
    """Takes a method of a file out of service for a moment: it answers that it would block."""

    def __init__(self, file: Any, method: str) -> None:
        self.file, self.method = file, method

    def __enter__(self) -> None:
        setattr(self.file, self.method, lambda *_: None)

    def __exit__(self, *_: object) -> None:
        delattr(self.file, self.method)


def _check_transport(fd: int) -> None:
    """Find the transport that asyncio has for fd, and what it and its reader hold."""
    asyncio: Any = sys.modules["asyncio"]
    loop = asyncio._get_running_loop()
    transport = getattr(loop, "_transports", {}).get(fd)
    if transport is None:
        return
    unsent = transport.get_write_buffer_size()
    if unsent:
        raise TypeError(
            f"the transport of this socket has {unsent} bytes not sent yet: await its drain() first"
        )
    reader = getattr(transport.get_protocol(), "_stream_reader", None)
    ahead = len(getattr(reader, "_buffer", b""))
    if ahead:
        raise TypeError(
            f"the StreamReader of this socket has {ahead} bytes that were read already: take "
            "socket and bytes with sendfd.aio.release(reader, writer), and send the bytes "
            "along as data"
        )


def _read_ahead(count: int | None) -> TypeError:
    some = "bytes" if count is None else f"{count} bytes"
    return TypeError(
        f"the file has read {some} ahead, which the receiver would not get: open it with "
        "buffering=0, or read them and send them along as data"
    )


def _unflushed() -> TypeError:
    return TypeError("the file has bytes that were not flushed yet: call its flush() first")
