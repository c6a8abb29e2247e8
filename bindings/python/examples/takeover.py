"""A server whose next release takes its listening socket, while clients keep coming.

Usage: python takeover.py SERVER PORT ADDRESS [OLD_PID]

SERVER is uvicorn, hypercorn, aiohttp, gunicorn, waitress, cheroot or twisted. ADDRESS is HOST:PORT
or the path of a unix socket. PORT (0 to 29, RTMIN+n) is where the next release asks:

    python takeover.py uvicorn 3 127.0.0.1:8000         # answers from then on
    python takeover.py uvicorn 3 127.0.0.1:8000 PID     # takes over; PID finishes and exits

Each function below is what one server needs. They are called with the listening socket, and with
serving(leave), to be called as soon as the server serves. leave() is called in another thread, when
the next release serves: it stops accepting, and sees to it that the server ends when what it has
accepted is answered.

To stop accepting is not to stop. A connection that was accepted, and on which the request is still
to come, looks idle, and servers close idle connections at once when they are told to stop. So each
first stops accepting only, and a second later stops.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import sendfd
from hello import asgi, wsgi
from sendfd import takeover

Leave = Callable[[], object]
Serving = Callable[["Leave | None"], object]

GRACE = 1.0


def in_loop(listener: socket.socket | int, stop: Callable[[], object]) -> Leave:
    """Leave in asyncio: the loop no longer watches the listening socket; stop() is called later."""
    loop = asyncio.get_running_loop()

    async def leave() -> None:
        sendfd.aio.stop_accepting(listener)
        loop.call_later(GRACE, stop)

    return lambda: asyncio.run_coroutine_threadsafe(leave(), loop).result()


def run_uvicorn(listener: socket.socket, serving: Serving) -> None:
    """uvicorn: stops when should_exit is set."""
    import uvicorn

    async def main() -> None:
        server = uvicorn.Server(uvicorn.Config(asgi, log_level="warning"))
        running = asyncio.create_task(server.serve([listener]))
        while not server.started and not running.done():
            await asyncio.sleep(0.01)
        if server.started:
            serving(in_loop(listener, lambda: setattr(server, "should_exit", True)))
        await running

    asyncio.run(main())


def run_hypercorn(listener: socket.socket, serving: Serving) -> None:
    """hypercorn: its trigger of shutdown starts when it serves."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    # It owns the number that it is given, and removes no path.
    fd = listener.dup().detach()
    config.bind = [f"fd://{fd}"]
    config.loglevel = "warning"

    async def main() -> None:
        left = asyncio.Event()

        async def until_left() -> None:
            serving(in_loop(fd, left.set))
            await left.wait()

        await serve(asgi, config, shutdown_trigger=until_left)  # type: ignore[arg-type]

    asyncio.run(main())


def run_aiohttp(listener: socket.socket, serving: Serving) -> None:
    """aiohttp: a SockSite."""
    import os

    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=f"aiohttp {os.getpid()}\n")

    async def main() -> None:
        application = web.Application()
        application.router.add_get("/", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        left = asyncio.Event()
        serving(in_loop(listener, left.set))
        await left.wait()
        await runner.cleanup()

    asyncio.run(main())


def run_gunicorn(listener: socket.socket, serving: Serving) -> None:
    """gunicorn: SIGTERM, which is what an Offer without leave sends, ends it gracefully."""
    from gunicorn.app.base import BaseApplication

    def when_ready(arbiter: Any) -> None:
        # Else it removes the path of a unix socket when it stops.
        arbiter.systemd = True
        serving(None)

    class Application(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            # It closes the number that it is given.
            self.cfg.set("bind", f"fd://{listener.dup().detach()}")
            self.cfg.set("workers", 2)
            self.cfg.set("loglevel", "warning")
            self.cfg.set("when_ready", when_ready)

        def load(self) -> Any:
            return wsgi

    Application().run()


def run_waitress(listener: socket.socket, serving: Serving) -> None:
    """waitress: it has no graceful stop, so what is open is waited for here."""
    import waitress.server
    from waitress import wasyncore

    server: Any = waitress.server.create_server(wsgi, sockets=[listener])

    def finish() -> None:
        time.sleep(GRACE)
        end = time.monotonic() + 10
        while server.active_channels and time.monotonic() < end:
            time.sleep(0.05)
        # In the thread of its loop, which ends when nothing is left to watch.
        server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map))

    def leave() -> None:
        server.accepting = False
        server.pull_trigger()
        threading.Thread(target=finish).start()

    serving(leave)
    server.run()
    server.task_dispatcher.shutdown()


def run_cheroot(listener: socket.socket, serving: Serving) -> None:
    """cheroot: it would bind by itself, and gets the socket instead."""
    from cheroot import wsgi as cheroot

    class Server(cheroot.Server):
        def bind(self, *_: object) -> None:
            self.socket = listener

        def bind_unix_socket(self, *_: object) -> None:
            self.socket = listener

    server: Any = Server(listener.getsockname(), wsgi)
    server.prepare()

    def leave() -> None:
        # It waits for the requests that are under way.
        threading.Thread(target=server.stop).start()

    serving(leave)
    server.serve()


def run_twisted(listener: socket.socket, serving: Serving) -> None:
    """Twisted: adopts a duplicate of the socket. Of TCP: it removes the path of a unix socket."""
    from twisted.internet import reactor
    from twisted.internet.threads import blockingCallFromThread
    from twisted.web.resource import Resource
    from twisted.web.server import Site

    class Hello(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            import os

            request.setHeader(b"connection", b"close")
            return b"twisted %d\n" % os.getpid()

    loop: Any = reactor
    site = Site(Hello())  # type: ignore[no-untyped-call]
    port = loop.adoptStreamPort(listener.fileno(), listener.family, site)

    def leave() -> None:
        blockingCallFromThread(loop, port.stopListening)
        loop.callFromThread(loop.callLater, GRACE, loop.stop)

    loop.callWhenRunning(serving, leave)
    loop.run()


SERVERS: dict[str, Callable[[socket.socket, Serving], None]] = {
    "uvicorn": run_uvicorn,
    "hypercorn": run_hypercorn,
    "aiohttp": run_aiohttp,
    "gunicorn": run_gunicorn,
    "waitress": run_waitress,
    "cheroot": run_cheroot,
    "twisted": run_twisted,
}


def main() -> None:
    """Take the socket or open it, serve, and offer it to the next."""
    if len(sys.argv) not in (4, 5) or sys.argv[1] not in SERVERS:
        sys.exit(__doc__)
    logging.basicConfig(level=logging.WARNING)
    run, sig, where = SERVERS[sys.argv[1]], sendfd.parse_port(sys.argv[2]), sys.argv[3]
    old = int(sys.argv[4]) if len(sys.argv) == 5 else None
    host, _, number = where.rpartition(":")
    address = where if where.startswith("/") else (host, int(number))
    with takeover.take_or_listen({"http": address}, old=old, sig=sig) as taken:
        listener = taken.sockets["http"]
        offers = []

        def serving(leave: Leave | None) -> None:
            # Offered before it says so: whoever reads that it serves may come right away.
            offers.append(takeover.Offer(sig, {"http": listener}, leave))
            taken.serving()

        run(listener, serving)


if __name__ == "__main__":
    main()
