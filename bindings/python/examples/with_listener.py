"""Start a server on a listening socket that another process hands over.

Usage: python with_listener.py SIG COMMAND...

Waits at the real-time signal SIG for a descriptor and becomes COMMAND, in which {fd} stands for its
number. So every server with an option for that can take over from another process, on a port that
it could not open itself, or without a moment in which nobody listens:

    python with_listener.py 40 uvicorn hello:asgi --fd {fd}
    python with_listener.py 40 gunicorn hello:wsgi --bind fd://{fd}

The other side is one call: sendfd.send(pid, 40, listener, timeout=10).
"""

import os
import sys

import sendfd


def main() -> None:
    """Wait for the descriptor and start the command."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sig, *command = sys.argv[1:]
    with sendfd.Receiver(int(sig)) as receiver, receiver.recv() as message:
        if not sendfd.detect(message.fd).listening:
            sys.exit("what arrived is no listening socket")
        fd = message.detach()
    os.set_inheritable(fd, True)
    command = [word.replace("{fd}", str(fd)) for word in command]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
