"""What would lose bytes is not sent: an error says what to do instead."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any

import pytest
import sendfd
from conftest import SIG


@pytest.fixture(autouse=True)
def listening(receiver: sendfd.Receiver) -> sendfd.Receiver:
    return receiver


def refused(thing: Any, match: str) -> None:
    with pytest.raises(TypeError, match=match):
        sendfd.send(os.getpid(), SIG, [0, thing])


def taken(receiver: sendfd.Receiver, thing: Any) -> None:
    sendfd.send(os.getpid(), SIG, thing)
    receiver.recv(0).close()


def test_tls(receiver: sendfd.Receiver) -> None:
    near, far = socket.socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with far, context.wrap_socket(near, do_handshake_on_connect=False, server_hostname="a") as tls:
        refused(tls, "an SSLSocket cannot be handed over.*before the handshake")
        taken(receiver, far)


def test_files_that_can_seek(receiver: sendfd.Receiver, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\nthree\n")
    with path.open("rb") as file:
        taken(receiver, file)
        assert file.readline() == b"one\n"
        refused(file, "has read 10 bytes ahead")
        file.read()
        taken(receiver, file)
    with path.open("rb", buffering=0) as raw:
        raw.read(2)
        taken(receiver, raw)
    with path.open() as text:
        taken(receiver, text)
        assert text.readline() == "one\n"
        refused(text, "read bytes ahead|read 10 bytes ahead|some")
        text.read()
        taken(receiver, text)
        text.seek(0)
        for _ in text:
            refused(text, "ahead")
            break
    with path.open("wb") as out:
        taken(receiver, out)
        out.write(b"x")
        refused(out, "not flushed")
        out.flush()
        taken(receiver, out)
    with path.open("w") as written:
        written.write("x")
        refused(written, "not flushed")
        # To look has not written it.
        assert path.read_bytes() == b""
        written.flush()
        taken(receiver, written)
    with path.open("r+b") as both:
        both.write(b"yy")
        refused(both, "not flushed")
        both.flush()
        taken(receiver, both)
    with tempfile.NamedTemporaryFile() as temporary:
        taken(receiver, temporary)
        temporary.write(b"x")
        refused(temporary, "not flushed")


def test_pipes_and_sockets(receiver: sendfd.Receiver) -> None:
    read, write = os.pipe()
    with open(read, "rb") as reader, open(write, "wb") as writer:
        taken(receiver, [reader, writer])
        writer.write(b"line\nrest")
        refused(writer, "not flushed")
        writer.flush()
        # What has not been read from the pipe is in nobody's buffer, and stays where it is.
        taken(receiver, [reader, writer])
        assert reader.readline() == b"line\n"
        refused(reader, "has read 4 bytes ahead")
        assert reader.read(4) == b"rest"
        taken(receiver, reader)
    near, far = socket.socketpair()
    with near, far, near.makefile("rb") as lines:
        far.sendall(b"GET /\r\nmore")
        taken(receiver, lines)
        assert lines.readline() == b"GET /\r\n"
        refused(lines, "has read 4 bytes ahead")
    with near:
        pass
    read, write = os.pipe()
    with open(read) as text, open(write, "w") as out:
        refused(text, "a text file that cannot seek")
        taken(receiver, text.buffer)
        out.write("x")
        refused(out, "not flushed")
        out.flush()
        taken(receiver, out)
        assert text.read(1) == "x"


def test_a_stream_of_asyncio(receiver: sendfd.Receiver) -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        with far:
            far.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=near)
            connection = writer.get_extra_info("socket")
            taken(receiver, connection)
            refused(writer, "release")
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(far, b"head\nbody")
            assert await reader.readline() == b"head\n"
            refused(connection, "has 4 bytes that were read already.*release")
            got, data = sendfd.aio.release(reader, writer)
            with got:
                assert data == b"body"
                sendfd.send(os.getpid(), SIG, got, data=data)
            # The connection is the receiver's alone, and lives.
            await asyncio.sleep(0)
            with receiver.recv(0) as message:
                reader, writer = await sendfd.aio.adopt_streams(message, data=message.data)
                await loop.sock_sendall(far, b" and more")
                assert await reader.readexactly(13) == b"body and more"
                writer.write(b"answer")
                writer.close()
                await writer.wait_closed()
            assert await loop.sock_recv(far, 100) == b"answer"
            assert await loop.sock_recv(far, 100) == b""

    asyncio.run(main())


def test_what_was_not_sent_yet_stays(receiver: sendfd.Receiver) -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=near)
        writer.write(bytes(10_000_000))
        refused(writer.get_extra_info("socket"), "not sent yet")
        with pytest.raises(ValueError, match="not sent yet"):
            sendfd.aio.release(reader, writer)
        far.close()
        writer.transport.abort()

    asyncio.run(main())


def test_a_file_that_is_what_it_seems(receiver: sendfd.Receiver) -> None:
    with pytest.raises(io.UnsupportedOperation):
        sendfd.send(os.getpid(), SIG, io.BytesIO(b"x"))
