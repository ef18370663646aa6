"""HTTP/1.1 as uvicorn speaks it, for clients that may be slow, hostile or too many."""

import asyncio
import logging
import re
from typing import Any

import h11

from octavo.server.errors import ApiError
from octavo.server.middleware import IS_CROWDED
from octavo.server.send_timeout import SendTimeoutProtocol
from octavo.server.wire import to_json

logger = logging.getLogger(__name__)

MAX_HEADER_BYTES = 1 << 16
CROWDED_HEADER_TIMEOUT_S = 1.0
"""A connection beyond the cap may not stay open for long without asking for anything."""
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(rb"\n[ \t]")
_TLS_HANDSHAKE = b"\x16\x03"
_OVERLAP_BYTES = 3
"""Of an end or a fold, so many may have been there when it was searched for last."""


class StrictConnection(h11.Connection):
    """h11 without the two leniencies that a proxy in front may read differently: who disagrees on where a request
    ends can be made to smuggle one. RFC 9112, sections 5.2 and 6.1.
    """

    fault: str | None = None
    _num_searched_bytes = 0
    """Of the head that is arriving: each byte is looked at about once, however it comes in."""

    def next_event(self) -> Any:
        if self.their_state is h11.IDLE:
            self._refuse_folds()
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._num_searched_bytes = 0
            names = {name for name, _ in event.headers}
            if b"content-length" in names and b"transfer-encoding" in names:
                raise self._refuse("Content-Length and Transfer-Encoding are both there; send one")
        return event

    def _refuse_folds(self) -> None:
        waiting = self.trailing_data[0]
        begin = max(0, self._num_searched_bytes - _OVERLAP_BYTES)
        end = _HEAD_END.search(waiting, begin)
        if _FOLD.search(waiting, begin, end.start() if end else len(waiting)):
            raise self._refuse("a header is folded over two lines; write it in one")
        self._num_searched_bytes = len(waiting)

    def _refuse(self, fault: str) -> h11.RemoteProtocolError:
        self.fault = fault
        return h11.RemoteProtocolError(fault)


class BoundedH11Protocol(SendTimeoutProtocol):
    """Cuts connections that stay idle, and those whose headers or body do not arrive in time, marks requests on
    connections beyond `max_connections`, and words its own errors as the API does.

    A body that is too slow is first refused by whoever reads it; here is where one ends that nobody
    reads any more. Limits are set by `bounded_protocol`.
    """

    keep_alive_s: float
    """Until the first request begins; between requests uvicorn's own timer runs."""
    header_timeout_s: float
    body_timeout_s: float
    max_connections: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn: StrictConnection = StrictConnection(h11.SERVER, MAX_HEADER_BYTES)
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_state: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self.app_state = {**self.app_state, IS_CROWDED: True}
            self.keep_alive_s = min(self.keep_alive_s, CROWDED_HEADER_TIMEOUT_S)
            self.header_timeout_s = min(self.header_timeout_s, CROWDED_HEADER_TIMEOUT_S)
        self._deadline = self.loop.call_later(self.keep_alive_s, self._cut)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """A request that is not HTTP."""
        hint = "; it speaks TLS, which this port does not" if self.conn.trailing_data[0][:2] == _TLS_HANDSHAKE else ""
        address, fault = (self.client or ("",))[0], self.conn.fault or msg
        logger.debug("400 invalid_http to a connection from %s: %s%s", address, fault.rstrip("."), hint)
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # an answer is on its way already
            return
        body = to_json(ApiError(400, self.conn.fault or msg, code="invalid_http").body())
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


def bounded_protocol(
    *, keep_alive_s: float, header_timeout_s: float, body_timeout_s: float, max_connections: int
) -> type[BoundedH11Protocol]:
    """The protocol class with these limits: uvicorn makes its instances itself."""
    limits = {
        "keep_alive_s": keep_alive_s,
        "header_timeout_s": header_timeout_s,
        "body_timeout_s": body_timeout_s,
        "max_connections": max_connections,
    }
    return type("BoundedH11Protocol", (BoundedH11Protocol,), limits)
