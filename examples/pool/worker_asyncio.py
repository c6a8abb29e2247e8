"""A worker of the pool, in Python with asyncio. What it has to do is in README.md."""

import asyncio
import contextlib
import os
import signal
import socket

import sendfd


async def main() -> None:
    """Answer on every connection that arrives, all at the same time, until SIGTERM."""
    answers: set[asyncio.Task[None]] = set()

    with sendfd.Receiver(int(os.environ["SENDFD_PORT"])) as receiver:
        # What was sent is still received, and then the iteration ends.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, receiver.retire)
        async for message in receiver:
            with contextlib.suppress(OSError), message:
                task = asyncio.create_task(answer(message.socket()))
                answers.add(task)
                task.add_done_callback(answers.discard)
    await asyncio.gather(*answers)


async def answer(connection: socket.socket) -> None:
    """Read the request to its empty line, and say who we are."""
    # A client that went away, or says nothing, is no reason to stop.
    with connection, contextlib.suppress(OSError, EOFError, ValueError, asyncio.TimeoutError):
        reader, writer = await asyncio.open_connection(sock=connection)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        body = f"python-asyncio {os.getpid()}\n"
        head = (
            f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(f"HTTP/1.1 200 OK\r\n{head}{body}".encode())
        writer.close()
        await writer.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
