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
    return await unless(work, _disconnected(receive))


async def unless(work: Awaitable[Result], other: Awaitable[Exception]) -> Result:
    """The result of `work`, cancelled and awaited to its end if `other` ends first, whose result is raised then."""
    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(other)
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise waiting.result()
        return working.result()
    finally:
        for task in (working, waiting):
            task.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)


async def _disconnected(receive: Receive) -> Exception:
    while (await receive())["type"] != "http.disconnect":
        pass
    return ClientDisconnectedError()
