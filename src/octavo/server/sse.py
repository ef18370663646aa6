"""A stream of chunks as server-sent events, and what ends it: its form's end, an error, or a client that goes away."""

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from octavo.server.disconnect import until_disconnect
from octavo.server.errors import ApiError, as_api_error
from octavo.server.field_names import FieldNames, rename_field
from octavo.server.request_record import current_record
from octavo.server.wire import DONE, to_event

_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


@dataclass(frozen=True, slots=True)
class StreamForm:
    """How an endpoint writes its stream: each chunk, what an error becomes, and what follows the last chunk."""

    write: Callable[[Any], bytes]
    fail: Callable[[ApiError], bytes]
    end: bytes = b""


CHUNKS = StreamForm(to_event, lambda error: to_event(error.body()), DONE)
"""As completions and chat completions are streamed."""


async def event_stream(
    batches: AsyncGenerator[Sequence[Any], None], form: StreamForm, names: FieldNames
) -> "EventStream":
    """The response that streams `batches` of chunks in `form`; an error in it has `names` for fields.

    It is made when the first batch is there, so that what fails before is raised here and gets a
    status of its own.
    """
    events = _events(batches, form, names)
    first = await anext(events)
    return EventStream(first, events)


async def _events(
    batches: AsyncGenerator[Sequence[Any], None], form: StreamForm, names: FieldNames
) -> AsyncGenerator[bytes, None]:
    """Each batch's events; then the end, or the error that ended the stream after it had begun."""
    has_begun = False
    async with contextlib.aclosing(batches):
        try:
            async for batch in batches:
                yield b"".join(map(form.write, batch))
                has_begun = True
        except Exception as error:
            if not has_begun:
                raise
            known = as_api_error(error)
            rename_field(known, names)
            current_record.get().error_code = known.code
            yield form.fail(known)
            return
    if form.end:
        yield form.end


class EventStream(Response):
    """A response that is sent as it is made. It owns `events`, and closes it however the sending ends."""

    def __init__(self, first: bytes, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers=_HEADERS, media_type="text/event-stream")
        del self.headers["content-length"]
        self._first = first
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with contextlib.aclosing(self._events):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await until_disconnect(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        await send(_part(self._first))
        async for event in self._events:
            await send(_part(event))
        await send(_part(b"", is_last=True))


def _part(body: bytes, *, is_last: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": not is_last}
