"""The installed package, in one hand-off: a child receives a pipe from its parent, and writes into it."""

import os
import subprocess
import sys

import sendfd

CHILD = """
import os, sendfd
with sendfd.Receiver(sendfd.port(3)) as receiver:
    with receiver.recv(timeout=30) as message:
        os.write(message.fds[0], b"received from %d" % message.pid)
"""

ours, theirs = os.pipe()
child = subprocess.Popen([sys.executable, "-c", CHILD])
sendfd.send(child.pid, sendfd.port(3), theirs, timeout=30)
os.close(theirs)
with os.fdopen(ours) as pipe:
    text = pipe.read()
assert child.wait() == 0
assert text == f"received from {os.getpid()}", text
print(f"sendfd {sendfd.__version__}, Python {sys.version.split()[0]}: {text}")
