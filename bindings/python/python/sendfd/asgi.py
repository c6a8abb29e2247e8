"""An ASGI application on connections that are handed over: a worker behind a front, with uvicorn.

    python -m sendfd.asgi hello:app --port 3

serves what arrives at port 3 (or at the signal in SENDFD_PORT) with uvicorn's own protocol classes,
so with its keep-alive, WebSockets, limits and timeouts. In a program, run() does the same, and
Server is a uvicorn.Server for those who run the event loop themselves. It needs uvicorn.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import uvicorn

from . import aio
from ._message import Message
from ._receiver import Receiver
from ._signals import parse_port

_logger = logging.getLogger("uvicorn.error")


class Server(uvicorn.Server):
    """A uvicorn server that gets its connections at the real-time signal sig.

    Each message carries a connected stream socket, and as data what was read from it already. The
    receiver is opened when the application has started, so that senders with a timeout wait for
    it. uids are those of Receiver.

    When it is told to stop, it lets nobody send any more, serves what was sent before, and then
    stops as uvicorn does, with timeout_graceful_shutdown. Connections on which no request came yet
    are given timeout_keep_alive seconds for it.
    """

    def __init__(self, config: uvicorn.Config, sig: int, *, uids: Sequence[int] = ()) -> None:
        """Prepare. Nothing is opened yet."""
        super().__init__(config)
        self._sig, self._uids = sig, uids
        self._receiver: Receiver | None = None
        self._taking: asyncio.Task[None] | None = None
        self._adopting: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, and then to receive; listen on sockets, too, if there are any."""
        await super().startup(sockets=sockets or [])
        if self.started and not self.should_exit:
            self._receiver = Receiver(self._sig, uids=self._uids)
            self._taking = asyncio.create_task(self._take(self._receiver))
            _logger.info("Serving connections that arrive at signal %d", self._sig)

    async def _take(self, receiver: Receiver) -> None:
        try:
            async for message in receiver:
                task = asyncio.create_task(self._adopt(message))
                self._adopting.add(task)
                task.add_done_callback(self._adopting.discard)
        except OSError as error:
            _logger.error("%s", error.strerror)
            self.should_exit = True

    async def _adopt(self, message: Message) -> None:
        config = self.config

        def protocol() -> asyncio.Protocol:
            make: Any = config.http_protocol_class
            made: asyncio.Protocol = make(
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        # A client that went away, or something that is no connection, is no reason to stop.
        with message:
            try:
                await aio.adopt(message, protocol, data=message.data, ssl=config.ssl)
            except (OSError, ValueError) as error:
                _logger.debug("what process %d sent is not served: %s", message.pid, error)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Receive what was sent, and stop gracefully."""
        if self._receiver is not None and self._taking is not None:
            self._receiver.retire()
            await self._taking
            while self._adopting:
                await asyncio.sleep(0)
            await self._hear_first_requests()
            self._receiver.close()
        await super().shutdown(sockets=sockets)

    async def _hear_first_requests(self) -> None:
        """Wait for those that uvicorn would close unheard: it takes them for idle."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.config.timeout_keep_alive
        while loop.time() < end and not self.force_exit:
            connections = self.server_state.connections
            if all(getattr(one, "cycle", self) is not None for one in connections):
                return
            await asyncio.sleep(0.05)


def run(app: Any, sig: int, *, uids: Sequence[int] = (), **options: Any) -> None:
    """Serve app on what arrives at sig until SIGTERM or SIGINT, gracefully; then return.

    app is an ASGI application, or "module:name"; options are those of uvicorn.Config. Raises
    OSError like Receiver, and SystemExit if the application cannot start.
    """
    server = Server(uvicorn.Config(app, **options), sig, uids=uids)
    # When it has stopped, uvicorn raises the signal that it was told to stop by once more.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.run()
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> None:
    """Be a worker, by the command line."""
    parser = argparse.ArgumentParser(prog="python -m sendfd.asgi", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("app", metavar="MODULE:APP")
    parser.add_argument(
        "--port",
        type=parse_port,
        default=os.environ.get("SENDFD_PORT"),
        help="0 to 29, RTMIN+n, RTMAX-n, or a signal; default: SENDFD_PORT",
    )
    parser.add_argument("--factory", action="store_true", help="APP makes the application")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--no-access-log", action="store_true")
    parser.add_argument("--limit-concurrency", type=int, metavar="N")
    parser.add_argument("--limit-max-requests", type=int, metavar="N")
    parser.add_argument("--timeout-keep-alive", type=int, default=5, metavar="SECONDS")
    parser.add_argument("--timeout-graceful-shutdown", type=int, metavar="SECONDS")
    options = vars(parser.parse_args())
    sig = options.pop("port")
    if sig is None:
        parser.error("say --port, or set SENDFD_PORT")
    options["access_log"] = not options.pop("no_access_log")
    sys.path.insert(0, os.getcwd())
    run(options.pop("app"), sig, **options)


if __name__ == "__main__":
    main()
