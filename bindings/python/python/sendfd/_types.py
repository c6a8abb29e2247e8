"""What the functions of this package take."""

from typing import Literal, Protocol, TypeAlias

PathName: TypeAlias = Literal["syscall", "pidfd", "name"]
"""A way to a target."""


class HasFileno(Protocol):
    """Sockets, files, and whatever else has a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...


class HasPid(Protocol):
    """Process objects: subprocess.Popen, multiprocessing.Process, ..."""

    @property
    def pid(self) -> int | None:
        """The process id; None if it has not been started."""
