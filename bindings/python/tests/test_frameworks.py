"""The lines that the README gives for single frameworks, each in a process of its own."""

from __future__ import annotations

import importlib.util
import socket

import pytest
import sendfd
from conftest import SIG, MakeChild, need

AIOHTTP = """
import asyncio
from aiohttp import web

async def hello(request):
    return web.Response(text="hello", headers={"Connection": "close"})

async def main():
    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application)
    await runner.setup()
    with sendfd.Receiver(SIG) as receiver:
        async for message in receiver:
            with message:
                if message.tag: break
                await sendfd.aio.adopt(message, runner.server, data=message.data)
    await runner.cleanup()

asyncio.run(main())
"""

TORNADO = """
import asyncio, tornado.httpserver, tornado.iostream, tornado.web

class Hello(tornado.web.RequestHandler):
    def get(self):
        self.set_header("Connection", "close")
        self.write("hello")

async def main():
    http_server = tornado.httpserver.HTTPServer(tornado.web.Application([("/", Hello)]))
    with sendfd.Receiver(SIG) as receiver:
        async for message in receiver:
            with message:
                if message.tag: break
                connection = message.socket(timeout=0)
            stream = tornado.iostream.IOStream(connection)
            http_server.handle_stream(stream, connection.getpeername())
    await http_server.close_all_connections()

asyncio.run(main())
"""

TWISTED = """
import contextlib, warnings
warnings.simplefilter("ignore")
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

class Hello(Resource):
    isLeaf = True
    def render_GET(self, request):
        request.setHeader(b"connection", b"close")
        return b"hello"

factory = Site(Hello())
receiver = sendfd.Receiver(SIG)

class Reader:
    def fileno(self): return receiver.fileno()
    def logPrefix(self): return "sendfd"
    def connectionLost(self, reason): pass
    def doRead(self):
        with contextlib.suppress(BlockingIOError):
            for message in receiver.recv_many(16, timeout=0):
                with message:
                    if message.tag: return reactor.stop()
                    reactor.adoptStreamConnection(message.fd, socket.AF_INET, factory)

reader = Reader()
reactor.callWhenRunning(reactor.addReader, reader)
reactor.run()
receiver.close()
"""

GEVENT = """
import warnings
warnings.simplefilter("ignore")
import contextlib, gevent, gevent.socket

def hello(message):
    with message:
        fd = message.detach()
    with gevent.socket.socket(fileno=fd) as connection:
        while b"\\r\\n\\r\\n" not in connection.recv(1000): pass
        connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\nhello")

def main():
    with sendfd.Receiver(SIG) as receiver:
        while True:
            gevent.socket.wait_read(receiver.fileno())
            with contextlib.suppress(BlockingIOError):
                for message in receiver.recv_many(16, timeout=0):
                    if message.tag:
                        return message.close()
                    gevent.spawn(hello, message)

ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0.001)

ticking = gevent.spawn(tick)
main()
assert ticks > 1
ticking.kill()
"""

EVENTLET = """
import warnings
warnings.simplefilter("ignore")
import contextlib, eventlet, eventlet.green.socket, eventlet.hubs

def hello(message):
    with message:
        fd = message.detach()
    with eventlet.green.socket.socket(fileno=fd) as connection:
        while b"\\r\\n\\r\\n" not in connection.recv(1000): pass
        connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\nhello")

with sendfd.Receiver(SIG) as receiver:
    end = False
    while not end:
        eventlet.hubs.trampoline(receiver, read=True)
        with contextlib.suppress(BlockingIOError):
            for message in receiver.recv_many(16, timeout=0):
                if message.tag:
                    message.close()
                    end = True
                else:
                    eventlet.spawn_n(hello, message)
"""


@pytest.mark.parametrize(
    ("framework", "code"),
    [
        ("aiohttp", AIOHTTP),
        ("tornado", TORNADO),
        ("twisted", TWISTED),
        ("gevent", GEVENT),
        ("eventlet", EVENTLET),
    ],
)
def test_it_serves_connections_that_arrive(framework: str, code: str, child: MakeChild) -> None:
    need(framework, importlib.util.find_spec(framework) is not None)
    peer = child(code)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        sendfd.Target(peer, SIG, timeout=60) as target,
    ):
        for _ in range(20):
            with socket.create_connection(listener.getsockname()) as client:
                client.settimeout(60)
                connection, _ = listener.accept()
                with connection:
                    target.send(connection, timeout=60)
                client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
                with client.makefile("rb") as response:
                    answer = response.read()
                assert answer.startswith(b"HTTP/1.1 200 OK"), answer
                assert answer.endswith(b"hello"), answer
        target.send(0, tag=1)
    peer.end()
