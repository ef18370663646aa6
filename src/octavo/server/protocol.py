"""HTTP/1.1 as uvicorn speaks it, for clients that may be slow or hostile."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from octavo.server.errors import ApiError
from octavo.server.wire import to_json


class BoundedH11Protocol(H11Protocol):
    """Cuts connections whose headers or body do not arrive in time, and words its own errors as the API does.

    A body that is too slow is first refused by whoever reads it; here is where one ends that nobody
    reads any more. Limits are set by `bounded_protocol`.
    """

    header_timeout_s: float
    body_timeout_s: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_state: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_deadline()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """A request that is not HTTP."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # an answer is on its way already
            return
        body = to_json(ApiError(400, msg, code="invalid_http").body())
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        for event in (h11.Response(status_code=400, headers=headers, reason=b"Bad Request"), h11.Data(data=body)):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.write(self.conn.send(h11.EndOfMessage()) or b"")
        self.transport.close()

    def _set_deadline(self) -> None:
        """One deadline for each phase of a request: it does not move while data trickles in."""
        state = self.conn.their_state
        if state is self._deadline_state:
            return
        self._clear_deadline()
        seconds = {h11.IDLE: self.header_timeout_s, h11.SEND_BODY: self.body_timeout_s}.get(state)
        if seconds is not None:
            self._deadline_state = state
            self._deadline = self.loop.call_later(seconds, self._cut)

    def _clear_deadline(self) -> None:
        self._deadline_state = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def bounded_protocol(*, header_timeout_s: float, body_timeout_s: float) -> type[BoundedH11Protocol]:
    """The protocol class with these limits: uvicorn makes its instances itself."""
    limits = {"header_timeout_s": header_timeout_s, "body_timeout_s": body_timeout_s}
    return type("BoundedH11Protocol", (BoundedH11Protocol,), limits)
