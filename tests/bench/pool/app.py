"""The same handler for every server: who it is; at /mixed, one in ten takes 20 ms."""

import os
import time
from typing import Any

count = 0
body = str(os.getpid()).encode() + b"\n"


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """Answer with the pid."""
    global count
    if scope["type"] != "http":
        return
    if scope["path"].startswith("/mixed"):
        count += 1
        if count % 10 == 0:
            # Work, not waiting: nothing else gets on in this process meanwhile.
            time.sleep(0.02)
    headers = [(b"content-length", str(len(body)).encode()), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
