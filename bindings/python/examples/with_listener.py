"""Start a server on listening sockets that another process hands over.

Usage: python with_listener.py PORT COMMAND...

Waits at PORT (0 to 29, RTMIN+n, or a signal) for one message with listening sockets, and becomes
COMMAND, which has them from descriptor 3 on. {fd} in COMMAND stands for 3, {fd1} for 4, and so on.
Where COMMAND names none, it is told by LISTEN_FDS and LISTEN_PID in its environment, as systemd
does. So every server can take over from another process, on a port that it could not open itself,
or without a moment in which nobody listens:

    python with_listener.py 3 uvicorn hello:asgi --fd {fd}
    python with_listener.py 3 hypercorn hello:asgi --bind fd://{fd} --bind fd://{fd1}
    python with_listener.py 3 gunicorn hello:wsgi

(gunicorn reads LISTEN_FDS, and then leaves the path of a unix socket alone when it stops.) The
other side is one call: sendfd.send(pid, sendfd.port(3), [listener, ...], timeout=10).
"""

import fcntl
import os
import sys

import sendfd

FIRST = 3


def main() -> None:
    """Wait for the descriptors and start the command."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    port, *command = sys.argv[1:]
    with sendfd.Receiver(sendfd.parse_port(port)) as receiver, receiver.recv() as message:
        others = [fd for fd in message.fds if not sendfd.detect(fd or 0).listening]
        if others:
            sys.exit(f"{len(others)} of the descriptors that arrived are no listening sockets")
        fds = message.detach_all()
    # Above where they are to be, so that none overwrites another.
    above = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST + len(fds)) for fd in fds]
    for place, fd in enumerate(above, FIRST):
        os.dup2(fd, place, inheritable=True)
    names = {"{fd}": str(FIRST)} | {f"{{fd{i}}}": str(FIRST + i) for i in range(len(fds))}
    if not any(name in word for name in names for word in command):
        os.environ["LISTEN_FDS"] = str(len(fds))
        os.environ["LISTEN_PID"] = str(os.getpid())
    for name, number in names.items():
        command = [word.replace(name, number) for word in command]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
