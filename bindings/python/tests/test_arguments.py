"""Whatever is given as an argument: an answer, or an exception that says so; nothing else.

SENDFD_TEST_EXAMPLES is how many calls each test makes up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sendfd
from conftest import SIG
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

settings.register_profile(
    "sendfd",
    max_examples=int(os.environ.get("SENDFD_TEST_EXAMPLES", "100")),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("sendfd")

# What a caller can be expected to catch, and what a strange object itself raised.
REFUSALS = (
    TypeError,
    ValueError,
    OverflowError,
    OSError,
    AttributeError,
    IndexError,
    ZeroDivisionError,
    # Of Python itself, which the tests make an error.
    DeprecationWarning,
)


class Strange:
    """Has every method that is asked for, and each answers what it was made with, or raises."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __repr__(self) -> str:
        return f"Strange({self.answer!r})"

    def _say(self, *_: object) -> Any:
        if self.answer is None:
            raise ZeroDivisionError
        return self.answer

    fileno = __index__ = __int__ = __float__ = __len__ = __getitem__ = __iter__ = __bytes__ = _say
    pid = property(_say)


numbers = st.one_of(
    st.sampled_from([0, 1, -1, 2**31 - 1, 2**31, 2**32, 2**63, 2**64, -(2**63), 10**40]),
    st.integers(),
)
plain = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.binary(max_size=5).map(lambda some: memoryview(some + b"1234")[::2]),
)
strange = st.one_of(plain, plain.map(Strange))
anything = st.recursive(
    strange,
    lambda some: st.one_of(
        st.lists(some, max_size=4),
        st.tuples(some, some),
        st.dictionaries(st.text(max_size=3), some, max_size=2),
        st.frozensets(st.integers(), max_size=3),
        some.map(lambda value: iter([value])),
    ),
    max_leaves=6,
)
# Nothing that would wait for long.
timeouts = st.one_of(
    st.sampled_from([0, 0.0, 1e-9, -1, -1.5, float("nan"), float("-inf"), True]),
    strange.filter(lambda some: some is not None and not isinstance(some, (int, float, Strange))),
)
signals = st.one_of(st.sampled_from([SIG, SIG + 1]), anything)
pids = st.one_of(st.just(os.getpid()), st.sampled_from([0, -1, 2**22 + 1, 2**31, 2**64]), strange)
descriptors = st.one_of(st.sampled_from([0, 1, [0], [0, 1], (0,), -1, 10**6]), anything)
paths = st.one_of(st.none(), st.sampled_from(["name", ["name"], ["pidfd", "name"], []]), anything)
tags = st.one_of(st.integers(0, 2**64 - 1), anything)
data = st.one_of(st.binary(max_size=40), st.just(b"x" * 5000), anything)


def attempt(call: Callable[[], Any]) -> Any:
    """What it returns, or None if it was refused."""
    try:
        return call()
    except REFUSALS:
        return None


@contextmanager
def listening() -> Iterator[sendfd.Receiver]:
    with sendfd.Receiver(SIG) as receiver:
        yield receiver


def drain(receiver: sendfd.Receiver) -> None:
    while True:
        try:
            receiver.recv(0).close()
        except BlockingIOError:
            return


@given(pids, signals, descriptors, paths, timeouts, tags, data)
def test_send(pid: Any, sig: Any, fds: Any, path: Any, wait: Any, tag: Any, some: Any) -> None:
    with listening() as receiver:
        attempt(lambda: sendfd.send(pid, sig, fds, paths=path, timeout=wait, tag=tag, data=some))
        drain(receiver)


@given(pids, signals, paths, timeouts, descriptors, tags, data)
def test_target(pid: Any, sig: Any, path: Any, wait: Any, fds: Any, tag: Any, some: Any) -> None:
    with listening() as receiver:
        target = attempt(lambda: sendfd.Target(pid, sig, paths=path, timeout=wait))
        if target is not None:
            with target:
                attempt(lambda: target.send(fds, timeout=wait, tag=tag, data=some))
        drain(receiver)


@given(signals, anything, anything)
def test_receiver(sig: Any, uids: Any, queue_bytes: Any) -> None:
    receiver = attempt(lambda: sendfd.Receiver(sig, uids=uids, queue_bytes=queue_bytes))
    if receiver is not None:
        receiver.close()


@given(timeouts, anything)
def test_recv(wait: Any, count: Any) -> None:
    with listening() as receiver:
        sendfd.send(os.getpid(), SIG, 0)
        for message in attempt(lambda: receiver.recv_many(count, wait)) or []:
            message.close()
        message = attempt(lambda: receiver.recv(wait))
        if message is not None:
            message.close()
        drain(receiver)


@given(anything)
@pytest.mark.parametrize("verb", ["socket", "open", "detach"])
def test_message(verb: str, index: Any) -> None:
    with listening() as receiver:
        sendfd.send(os.getpid(), SIG, 0)
        with receiver.recv(0) as message:
            got = attempt(lambda: getattr(message, verb)(index))
            if isinstance(got, int):
                os.close(got)
            elif got is not None:
                got.close()


@given(anything, pids, signals)
def test_questions(what: Any, pid: Any, sig: Any) -> None:
    attempt(lambda: sendfd.detect(what))
    attempt(lambda: sendfd.probe(pid, sig))
    attempt(lambda: sendfd.port(what))
    attempt(lambda: sendfd.unlisten(what))
