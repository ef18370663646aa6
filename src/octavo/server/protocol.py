"""HTTP/1.1 as uvicorn speaks it, for clients that may be slow, hostile or too many."""

import asyncio
import logging
import re
from typing import Any

import h11
from uvicorn.protocols.http.flow_control import FlowControl

from octavo.server.errors import ApiError
from octavo.server.middleware import IS_CROWDED
from octavo.server.send_timeout import SendTimeoutProtocol
from octavo.server.unread_body import LINGER_S
from octavo.server.wire import to_json

logger = logging.getLogger(__name__)

MAX_HEADER_BYTES = 1 << 16
CROWDED_HEADER_TIMEOUT_S = 1.0
"""A connection beyond the cap may not stay open for long without asking for anything."""
MAX_EVENTS_A_TURN = 64
"""Of one connection; about a millisecond. Then the event loop turns to others."""
NUM_FREE_CHUNKS = 1024
MIN_MEAN_CHUNK_BYTES = 64
"""Of a body with more chunks than those: each costs as much as a kilobyte does, however small it is."""
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(rb"\n[ \t]")
_TLS_HANDSHAKE = b"\x16\x03"
_OVERLAP_BYTES = 3
"""Of an end or a fold, so many may have been there when it was searched for last."""


class StrictConnection(h11.Connection):
    """h11 without the two leniencies that a proxy in front may read differently: who disagrees on where a request
    ends can be made to smuggle one (RFC 9112, sections 5.2 and 6.1). And without crumbs: what arrives is handled in
    turns of `MAX_EVENTS_A_TURN`, and a body may not be cut into many small chunks.
    """

    fault: str | None = None
    _num_searched_bytes = 0
    """Of the head that is arriving: each byte is looked at about once, however it comes in."""
    _num_turn_events = 0
    _num_chunks = 0
    _num_chunked_bytes = 0

    def begin_turn(self) -> None:
        self._num_turn_events = 0

    @property
    def is_turn_over(self) -> bool:
        """Whether `next_event` has nothing more to say before the next turn, whatever has arrived."""
        return self._num_turn_events >= MAX_EVENTS_A_TURN

    def next_event(self) -> Any:
        if self.is_turn_over:
            return h11.NEED_DATA
        if self.their_state is h11.IDLE:
            self._refuse_folds()
        event = super().next_event()
        if isinstance(event, h11.Event):
            self._num_turn_events += 1
        if isinstance(event, h11.Request):
            self._num_searched_bytes = self._num_chunks = self._num_chunked_bytes = 0
            names = {name for name, _ in event.headers}
            if b"content-length" in names and b"transfer-encoding" in names:
                raise self._refuse("Content-Length and Transfer-Encoding are both there; send one")
        elif isinstance(event, h11.Data):
            self._refuse_crumbs(event)
        return event

    def _refuse_crumbs(self, data: h11.Data) -> None:
        self._num_chunked_bytes += len(data.data)
        self._num_chunks += data.chunk_end
        if self._num_chunks > NUM_FREE_CHUNKS and self._num_chunked_bytes < self._num_chunks * MIN_MEAN_CHUNK_BYTES:
            raise self._refuse(
                f"the body has more than {NUM_FREE_CHUNKS} chunks, of less than {MIN_MEAN_CHUNK_BYTES} bytes on average; "
                "send fewer and larger ones"
            )

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


class HeldFlow(FlowControl):
    """Reading stays paused while what has arrived is still being handled, whoever would have it resumed."""

    _is_held = False
    _is_full = False

    def pause_reading(self) -> None:
        self._is_full = True
        super().pause_reading()

    def resume_reading(self) -> None:
        self._is_full = False
        if not self._is_held:
            super().resume_reading()

    def hold(self) -> None:
        self._is_held = True
        super().pause_reading()

    def release(self) -> None:
        self._is_held = False
        if not self._is_full:
            super().resume_reading()


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
        self._next_turn: asyncio.Handle | None = None
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow: HeldFlow = HeldFlow(transport)
        if len(self.connections) > self.max_connections:
            self.app_state = {**self.app_state, IS_CROWDED: True}
            self.keep_alive_s = min(self.keep_alive_s, CROWDED_HEADER_TIMEOUT_S)
            self.header_timeout_s = min(self.header_timeout_s, CROWDED_HEADER_TIMEOUT_S)
        self._deadline = self.loop.call_later(self.keep_alive_s, self._cut)

    def data_received(self, data: bytes) -> None:
        if not self._is_refused:
            super().data_received(data)
            self._set_deadline()

    def handle_events(self) -> None:
        """One turn; what is left has to wait until the event loop has been round."""
        self.conn.begin_turn()
        super().handle_events()
        if self._is_refused or not self.conn.is_turn_over:
            self.flow.release()
        elif self._next_turn is None:
            self.flow.hold()
            self._next_turn = self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._next_turn = None
        if not self.transport.is_closing():
            self.handle_events()
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
        self._refuse_the_rest()

    def _refuse_the_rest(self) -> None:
        """Look at no more of what arrives, but let the client finish: closed while it sends, it might never see why."""
        self._is_refused = True
        if self.cycle is not None:
            self.cycle.disconnected = True  # whoever was to answer need not any more
            self.cycle.message_event.set()
        self.transport.write_eof()
        self.flow.resume_reading()
        self._clear_deadline()
        self._deadline = self.loop.call_later(LINGER_S, self._cut)

    def _set_deadline(self) -> None:
        """One deadline for each phase of a request: it does not move while data trickles in."""
        state = self.conn.their_state
        if state is self._deadline_state or self._is_refused:
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
