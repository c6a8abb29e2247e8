"""The peer in Python: see tests/PEER.md."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time

import sendfd

receivers: dict[int, sendfd.Receiver] = {}
targets: list[sendfd.Target] = []
messages: list[sendfd.Message] = []
taken: list[int] = []


def send(words: dict[str, str], over: sendfd.Target | None) -> str:
    """Send one message, or several with tags that count up."""
    fds = [int(fd) for fd in words.get("fds", "").split(",") if fd]
    data = words.get("data", "").encode()
    timeout = int(words.get("ms", 0)) / 1000
    paths = words["paths"].split(",") if "paths" in words else None
    first = int(words.get("tag", 0))
    for tag in range(first, first + int(words.get("times", 1))):
        if over is not None:
            over.send(fds, data=data, tag=tag, timeout=timeout)
        else:
            pid, sig = int(words["pid"]), int(words["sig"])
            sendfd.send(pid, sig, fds, data=data, tag=tag, timeout=timeout, paths=paths)
    return ""


def receive(words: dict[str, str], sig: int) -> str:
    """Receive one message, and keep its descriptors open."""
    message = receivers[sig].recv(int(words.get("ms", 0)) / 1000)
    messages.append(message)
    at = ",".join(str(fd) for fd in message.fds)
    return (
        f"pid={message.pid} uid={message.uid} gid={message.gid} tag={message.tag} "
        f"path={message.path} at={at} data={message.data.decode()}"
    )


def take(words: dict[str, str], sig: int) -> str:
    """Take one signal of signal mode."""
    info = sendfd.sigtimedwait({sig}, int(words.get("ms", 0)) / 1000)
    if info is None:
        raise BlockingIOError(errno.EAGAIN, "no signal came")
    if info.fd < 0:
        raise OSError(errno.EPROTO, "a signal without a value")
    taken.append(info.fd)
    return f"pid={info.pid} uid={info.uid} at={info.fd}"


def fork_child(seconds: float) -> None:
    """Fork a child that only exits, after so long, and wait until it runs.

    Until then it holds what it inherited: its end of the pipe tells.
    """
    reader, writer = os.pipe()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    child = os.fork()
    os.close(writer)
    if child == 0:
        time.sleep(seconds)
        os._exit(0)
    os.read(reader, 1)
    os.close(reader)


def act(verb: str, words: dict[str, str]) -> str:
    """Do one command and return the words of the answer."""
    sig = int(words.get("sig", 0))
    match verb:
        case "self":
            return "language=python signals=yes"
        case "open":
            receivers[sig] = sendfd.Receiver(sig)
        case "recv":
            return receive(words, sig)
        case "close":
            receivers.pop(sig).close()
        case "retire":
            if not hasattr(sendfd.Receiver, "retire"):
                raise OSError(errno.ENOSYS, "no retire")
            receivers[sig].retire()
        case "fork":
            fork_child(int(words["ms"]) / 1000)
        case "exec":
            print("ok", flush=True)
            os.execv(sys.executable, [sys.executable, *sys.argv])
        case "listen":
            signal.pthread_sigmask(signal.SIG_BLOCK, {sig})
            sendfd.listen(sig)
        case "take":
            return take(words, sig)
        case "unlisten":
            sendfd.unlisten(sig)
        case "forget":
            while messages:
                messages.pop().close()
            while taken:
                os.close(taken.pop())
        case "send":
            return send(words, None)
        case "target":
            paths = words["paths"].split(",") if "paths" in words else None
            timeout = int(words.get("ms", 0)) / 1000
            target = sendfd.Target(int(words["pid"]), sig, paths=paths, timeout=timeout)
            targets.append(target)
            return f"path={target.path}"
        case "tsend":
            return send(words, targets[-1])
        case "untarget":
            targets.pop().close()
        case _:
            raise SystemExit(f"peer.py: unknown command {verb}")
    return ""


def main() -> None:
    """Do what each line says."""
    for line in sys.stdin:
        verb, *rest = line.split()
        words = dict(word.split("=", 1) for word in rest)
        try:
            print("ok", act(verb, words), flush=True)
        except OSError as error:
            print("error", error.errno, error.strerror, flush=True)


main()
