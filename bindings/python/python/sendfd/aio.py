"""Connections of asyncio, received or given away, with what was read of them already."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from ssl import SSLContext

    from ._message import Message

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


async def adopt(
    message: Message,
    protocol_factory: Callable[[], _P],
    *,
    index: int = 0,
    data: bytes = b"",
    ssl: SSLContext | None = None,
) -> tuple[asyncio.Transport, _P]:
    """Serve a connection that was received, as loop.create_server() serves one that it accepted.

    Takes descriptor `index` of the message, a connected stream socket, and returns its transport
    and the protocol that protocol_factory made. data is what others have read from the connection
    already, often message.data: the protocol gets it first, before anything that is read here. ssl
    makes this the server's end of TLS, which is for connections of which nothing was read.

    Raises what message.socket() and loop.connect_accepted_socket() raise, ValueError for data
    together with ssl. When it raises or is cancelled, the connection is closed, except where
    message.socket() failed: then the message keeps it.
    """
    if data and ssl is not None:
        raise ValueError("what was read before the handshake cannot be given to TLS")
    connection = message.socket(index, timeout=0)

    def factory() -> _P:
        protocol = protocol_factory()
        return _with_head(protocol, data) if data else protocol

    try:
        transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(
            factory, connection, ssl=ssl
        )
    except BaseException:
        connection.close()
        raise
    return transport, protocol


async def adopt_streams(
    message: Message,
    *,
    index: int = 0,
    data: bytes = b"",
    ssl: SSLContext | None = None,
    limit: int = 2**16,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Like adopt(), for streams: return reader and writer, as asyncio.open_connection() does."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    transport, protocol = await adopt(
        message,
        lambda: asyncio.StreamReaderProtocol(reader, loop=loop),
        index=index,
        data=data,
        ssl=ssl,
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def release(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[socket.socket, bytes]:
    """Take a connection away from asyncio, to send it: its socket, and what was read of it.

    From here on the loop reads and writes nothing of it. The socket is a duplicate, the caller's to
    close; the bytes belong to whoever serves the connection next: send them along as data.

    Raises ValueError if the connection is TLS, is closing, or has something that was not sent yet
    (await writer.drain() is not enough then: it returns with a buffer that is merely low).
    """
    transport = writer.transport
    if transport.get_extra_info("ssl_object") is not None:
        raise ValueError("a TLS connection cannot be handed over: its keys stay in this process")
    if transport.is_closing():
        raise ValueError("the connection is closing")
    unsent = transport.get_write_buffer_size()
    if unsent:
        raise ValueError(f"{unsent} bytes were not sent yet")
    # It may be paused already, or have seen the end.
    with contextlib.suppress(RuntimeError):
        cast(asyncio.Transport, transport).pause_reading()
    connection = socket.socket(fileno=_duplicate(transport))
    # asyncio has no public way to see how much a reader holds.
    held = cast(Any, reader)._buffer
    data = bytes(held)
    held.clear()
    # close(2) leaves the connection alone while there is a duplicate; nothing calls shutdown(2).
    transport.abort()
    return connection, data


def _duplicate(transport: asyncio.WriteTransport) -> int:
    import fcntl

    fd = transport.get_extra_info("socket").fileno()
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)


def _with_head(protocol: _P, data: bytes) -> _P:
    """Have the protocol get data as soon as it is connected, before the transport reads."""
    connected = protocol.connection_made

    def connection_made(transport: asyncio.BaseTransport) -> None:
        connected(transport)
        if isinstance(protocol, asyncio.BufferedProtocol):
            rest = memoryview(data)
            while rest:
                room = protocol.get_buffer(len(rest))
                count = min(len(room), len(rest))  # type: ignore[arg-type]
                room[:count] = rest[:count]  # type: ignore[index]
                protocol.buffer_updated(count)
                rest = rest[count:]
        else:
            cast(asyncio.Protocol, protocol).data_received(data)

    protocol.connection_made = connection_made  # type: ignore[method-assign]
    return protocol


def stop_accepting(*listeners: socket.socket | int) -> None:
    """Have the running loop accept no more from listening sockets that a server of it has.

    asyncio's Server.close() loses a connection that was accepted in the same moment, and a
    server's graceful stop closes those that were accepted and have sent nothing yet. So, in a
    takeover, call this first, and stop the server a little later. The sockets stay open, and what
    is connected already is served. Under uvloop, which accepts by itself, it does nothing.
    """
    loop = asyncio.get_running_loop()
    for listener in listeners:
        loop.remove_reader(listener)
