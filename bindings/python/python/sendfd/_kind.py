"""What arrived: a listener or a connection, TCP or unix, a file or a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from . import _sendfd

if TYPE_CHECKING:
    import socket

    from ._sendfd import _HasFileno, _KindName


class Kind(NamedTuple):
    """What a descriptor refers to. Of what is no socket, all but the name is None."""

    name: _KindName
    """'socket', 'file' (a memfd, too), 'directory', 'pipe', 'character-device', 'block-device',
    or 'anonymous': an eventfd, a pidfd, an epoll instance, ..."""
    family: int | None = None
    """socket.AF_INET, socket.AF_UNIX, ..."""
    type: int | None = None
    """socket.SOCK_STREAM, socket.SOCK_DGRAM, ..."""
    protocol: int | None = None
    """socket.IPPROTO_TCP, ..."""
    listening: bool | None = None
    """Whether connections are to be accepted from it."""


def detect(fd: int | _HasFileno) -> Kind:
    """Tell what kind of open file fd refers to. Does not block and changes nothing.

    fd is a descriptor or an object with fileno(); it is only borrowed. Raises OSError (EBADF) if it
    is not open.
    """
    name, of_socket = _sendfd.detect(fd)
    if of_socket is None:
        return Kind(name)
    import socket

    family, kind, protocol, listening = of_socket
    return Kind(
        name,
        _known(socket.AddressFamily, family),
        _known(socket.SocketKind, kind),
        protocol,
        listening,
    )


def _known(names: type[socket.AddressFamily] | type[socket.SocketKind], number: int) -> int:
    """Give the number its name, as socket.socket does, if it has one."""
    try:
        return names(number)
    except ValueError:
        return number
