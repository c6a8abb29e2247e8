"""uvicorn, serving on listening sockets that are handed to it while it runs.

Usage: python serve_uvicorn.py SIG

Each listening socket that arrives at the real-time signal SIG is served from then on, beside those
that came before. Try it from another terminal:

    >>> import sendfd, socket
    >>> sendfd.send(PID, 40, socket.create_server(("127.0.0.1", 8000)))

SIGTERM and SIGINT end it, after the requests that are under way.
"""

import asyncio
import os
import sys

import sendfd
import uvicorn
from hello import asgi


async def serve(fd: int) -> None:
    """Serve on one listening socket until uvicorn is told to end."""
    server = uvicorn.Server(uvicorn.Config(asgi, fd=fd, lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    # uvicorn has a duplicate of its own by now.
    os.close(fd)
    await serving


async def main() -> None:
    """Take listening sockets as they come."""
    servers: set[asyncio.Task[None]] = set()
    with sendfd.Receiver(int(sys.argv[1])) as receiver:
        async for message in receiver:
            with message:
                if sendfd.detect(message.fd).listening:
                    task = asyncio.create_task(serve(message.detach()))
                    servers.add(task)
                    # uvicorn handles the signals, and is done when one came.
                    task.add_done_callback(lambda _: receiver.close())
    await asyncio.gather(*servers)


if __name__ == "__main__":
    asyncio.run(main())
