"""Sleeping without stopping the event loop, in asyncio or trio, whichever runs."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def running_trio() -> Any:
    """Return the module trio if the caller is one of its tasks, or None."""
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            trio.lowlevel.current_task()
        except (RuntimeError, AttributeError):
            return None
    return trio


async def sleep(seconds: float) -> None:
    """Let other tasks run for so long, at least once."""
    trio = running_trio()
    if trio is not None:
        await trio.sleep(seconds)
    else:
        import asyncio

        await asyncio.sleep(seconds)
