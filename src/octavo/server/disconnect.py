"""Work that is done only while someone waits for it."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.types import Receive

Result = TypeVar("Result")


class ClientDisconnectedError(Exception):
    """The client closed its connection; nobody is there to be answered."""


async def until_disconnect(receive: Receive, work: Awaitable[Result]) -> Result:
    """The result of `work`, cancelled and awaited to its end if the client goes away first.

    The request's body must have been read: whatever still arrives is dropped.
    Raises `ClientDisconnectedError`, and what `work` raises.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnectedError
        return working.result()
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
