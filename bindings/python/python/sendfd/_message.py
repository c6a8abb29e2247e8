"""A received message, with what it says when it is forgotten."""

from __future__ import annotations

import warnings

from . import _sendfd


class Message(_sendfd.Message):
    """A received message. It owns its descriptors, close-on-exec, until they are taken.

    Take them with socket(), open(), detach() or detach_all(). As a context manager it closes those
    that were not taken; if it is forgotten, they are closed with a ResourceWarning.

    pid, uid and gid say who sent it, vouched for by the kernel. Threads may share a message.
    """

    __slots__ = ()

    # Not written here: a Python function for each message would cost a sixth of receiving it.
    __del__ = _sendfd.Message._finalize

    def _forgotten(self) -> None:
        """Close what was forgotten, and say so."""
        left = [fd for fd in self.fds if fd is not None]
        warnings.warn(
            f"unclosed descriptors {left} of a sendfd.Message from process {self.pid}",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )
        self.close()
