"""Which paths lead to a target, and in words why the others do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from . import _sendfd

if TYPE_CHECKING:
    from ._sendfd import _HasPid, _PathName


class Report(NamedTuple):
    """What a probe found."""

    pid: int
    """The process that was probed."""
    sig: int
    """At which signal."""
    chosen: _PathName | None
    """The path that a send would take now, the environment's SENDFD_PATHS considered."""
    errors: dict[_PathName, OSError | None]
    """Each path, in the order in which they are tried, with what a send over it would raise; None
    if it leads to the target."""

    @property
    def working(self) -> tuple[_PathName, ...]:
        """The paths that lead to the target."""
        return tuple(path for path, error in self.errors.items() if error is None)


def probe(pid: int | _HasPid | None = None, sig: int | None = None) -> Report:
    """Try each path to process pid at sig, sending nothing.

    Without arguments, try the paths from this process to itself: what this machine, with its kernel
    and sandbox, offers at all. For that, a receiver is opened for a moment, on a free signal.

    Does not block and leaves nothing open. That a path does not lead there is no error of the
    probe. Raises ProcessLookupError if there is no such process, OSError (EINVAL) for what is no
    pid or no real-time signal, OSError as the kernel says (EMFILE, ...).
    """
    number, sig, chosen, errors = _sendfd.probe(pid, sig)
    return Report(number, sig, chosen, dict(errors))
