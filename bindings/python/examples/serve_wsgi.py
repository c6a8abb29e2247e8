"""A WSGI application on connections that are handed over, with the standard library's server.

Usage: python serve_wsgi.py PORT

Each connection that arrives at PORT (0 to 29, RTMIN+n, or a signal) is answered in a thread of its
own. SIGTERM ends it, after it has answered what was sent before. A client that says nothing is let
go after ten seconds.
"""

import signal
import socketserver
import sys
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import sendfd
from hello import wsgi


class Handler(WSGIRequestHandler):
    """The standard library's, with a timeout."""

    timeout = 10


class Server(socketserver.ThreadingMixIn, WSGIServer):
    """One that does not listen, and waits for its threads when it is closed."""

    daemon_threads = False

    def __init__(self) -> None:
        """Bind nothing."""
        super().__init__(("", 0), Handler, bind_and_activate=False)
        self.server_name, self.server_port = "localhost", 80
        self.setup_environ()
        self.set_app(wsgi)


def main() -> None:
    """Serve what arrives."""
    with Server() as server, sendfd.Receiver(sendfd.parse_port(sys.argv[1])) as receiver:
        signal.signal(signal.SIGTERM, lambda *_: receiver.retire())
        for message in receiver:
            with message:
                connection = message.socket(timeout=None)
            try:
                address = connection.getpeername()
            except OSError:
                # The client has gone.
                connection.close()
                continue
            server.process_request(connection, address or ("", 0))


if __name__ == "__main__":
    main()
