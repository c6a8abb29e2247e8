import socket
from collections.abc import Coroutine, Iterable, Sequence
from types import TracebackType
from typing import IO, Any, Final, Literal, Protocol, TypeAlias, final

from _typeshed import ReadableBuffer
from typing_extensions import Self, disjoint_base

from ._message import Message as _Received

_WaitFor: TypeAlias = Literal["listening", "room"]
_PathName: TypeAlias = Literal["syscall", "pidfd", "name"]
_KindName: TypeAlias = Literal[
    "socket", "file", "directory", "pipe", "character-device", "block-device", "anonymous"
]

class _HasFileno(Protocol):
    def fileno(self) -> int: ...

class _HasPid(Protocol):
    @property
    def pid(self) -> int | None: ...

__all__ = [
    "MAX_DATA",
    "MAX_FDS",
    "SI_SENDFD",
    "VERSION",
    "Held",
    "Message",
    "Outbound",
    "Receiver",
    "Target",
    "asend",
    "detect",
    "hold",
    "listen",
    "probe",
    "send",
    "signalfd",
    "sigtimedwait",
    "unlisten",
]

MAX_DATA: Final[int]
MAX_FDS: Final[int]
SI_SENDFD: Final[int]
VERSION: Final[str]

def send(
    pid: int | _HasPid,
    sig: int,
    fd: int | _HasFileno | Iterable[int | _HasFileno],
    *,
    data: ReadableBuffer = b"",
    tag: int = 0,
    timeout: float | None = 0,
    wait_for: _WaitFor = "listening",
    paths: str | Iterable[_PathName] | None = None,
) -> None: ...
def asend(
    pid: int | _HasPid,
    sig: int,
    fd: int | _HasFileno | Iterable[int | _HasFileno],
    *,
    data: ReadableBuffer = b"",
    tag: int = 0,
    timeout: float | None = None,
    wait_for: _WaitFor = "listening",
    paths: str | Iterable[_PathName] | None = None,
) -> Coroutine[Any, Any, None]: ...
def hold(
    fd: int | _HasFileno | Iterable[int | _HasFileno], data: ReadableBuffer, tag: int
) -> Held: ...

@final
class Held:
    def send_to(self, target: Target) -> None: ...
    def release(self) -> None: ...

@final
class Outbound:
    def attempt(self) -> bool: ...
    def last_attempt(self, waited: bool) -> None: ...
    def release(self) -> None: ...

@final
class Target:
    def __new__(
        cls,
        pid: int | _HasPid,
        sig: int,
        *,
        paths: str | Iterable[_PathName] | None = None,
        timeout: float | None = 0,
        wait_for: _WaitFor = "listening",
    ) -> Self: ...
    @property
    def pid(self) -> int: ...
    @property
    def sig(self) -> int: ...
    @property
    def path(self) -> _PathName: ...
    @property
    def closed(self) -> bool: ...
    def send(
        self,
        fd: int | _HasFileno | Iterable[int | _HasFileno],
        *,
        data: ReadableBuffer = b"",
        tag: int = 0,
        timeout: float | None = 0,
        wait_for: _WaitFor = "listening",
    ) -> None: ...
    def asend(
        self,
        fd: int | _HasFileno | Iterable[int | _HasFileno],
        *,
        data: ReadableBuffer = b"",
        tag: int = 0,
        timeout: float | None = None,
        wait_for: _WaitFor = "listening",
    ) -> Coroutine[Any, Any, None]: ...
    def queued(self) -> int: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        *_exception: type[BaseException] | BaseException | TracebackType | None,
    ) -> None: ...

@disjoint_base
class Message:
    def __new__(cls) -> Self: ...
    @property
    def fds(self) -> tuple[int | None, ...]: ...
    @property
    def fd(self) -> int: ...
    @property
    def data(self) -> bytes: ...
    @property
    def tag(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def path(self) -> _PathName: ...
    def socket(self, index: int = 0, *, timeout: float | None = ...) -> socket.socket: ...
    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        index: int = 0,
    ) -> IO[Any]: ...
    def detach(self, index: int = 0) -> int: ...
    def detach_all(self) -> list[int]: ...
    def _finalize(self) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        *_exception: type[BaseException] | BaseException | TracebackType | None,
    ) -> None: ...

@disjoint_base
class Receiver:
    def __new__(cls, sig: int, *, uids: Sequence[int] = (), queue_bytes: int = 0) -> Self: ...
    @property
    def sig(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    @property
    def dropped(self) -> int: ...
    def recv(self, timeout: float | None = None) -> _Received: ...
    def recv_many(self, count: int, timeout: float | None = None) -> list[_Received]: ...
    def _recv_nowait(self) -> _Received | None: ...
    def fileno(self) -> int: ...
    def retire(self) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        *_exception: type[BaseException] | BaseException | TracebackType | None,
    ) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> _Received: ...

def detect(fd: int | _HasFileno) -> tuple[_KindName, tuple[int, int, int, bool] | None]: ...
def listen(sig: int) -> None: ...
def unlisten(sig: int) -> None: ...
def sigtimedwait(
    signals: list[int], timeout: float | None = None
) -> tuple[int, int, int, int, int] | None: ...
def signalfd(signals: list[int]) -> int: ...
def probe(
    pid: int | _HasPid | None = None, sig: int | None = None
) -> tuple[int, int, _PathName | None, list[tuple[_PathName, OSError | None]]]: ...
