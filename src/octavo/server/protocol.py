"""HTTP/1.1 as uvicorn speaks it, for clients that may be slow, hostile or too many."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from octavo.server.errors import ApiError
from octavo.server.held_flow import HeldFlow
from octavo.server.http10 import Http10Cycle
from octavo.server.http_rules import checked_length, invalid_http, worded
from octavo.server.middleware import IS_CROWDED
from octavo.server.phase import Phase, PhaseClock
from octavo.server.receive_buffer import PIECE_BYTES, ReceiveBuffer
from octavo.server.send_timeout import SendTimeoutProtocol
from octavo.server.unread_body import LINGER_S
from octavo.server.wire import to_json

logger = logging.getLogger(__name__)

MAX_HEADER_BYTES = 1 << 16
"""Of headers, a chunk's extensions, or trailers."""
CROWDED_HEADER_TIMEOUT_S = 1.0
"""A connection beyond the cap may not stay open for long without asking for anything."""
TURN_BYTES = PIECE_BYTES
TURN_PIECES = 128
"""Of one connection, and no more than one that is a body's or a chunk's data: about a millisecond. Then the event loop
turns to others.
"""
MAX_WAITING_BYTES = 1 << 14
"""Of what is asked next, while an answer is made: beyond, nothing is read, not even that the client has left."""
NUM_FREE_CHUNKS = 1024
MIN_MEAN_CHUNK_BYTES = 64
"""Of a body with more chunks than those: each costs as much as a kilobyte does, however small it is."""
_TLS_HANDSHAKE = b"\x16\x03"
_REFUSAL = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
)


class BoundedHttpProtocol(SendTimeoutProtocol):
    """Cuts connections that stay idle, and those whose headers or body do not arrive in time, refuses what is not
    HTTP/1.1 and bodies of crumbs, marks requests on connections beyond `max_connections`, and words its own errors as
    the API does. One request at a time, and what arrives at once is handled in turns of `TURN_BYTES`.

    A body that is too slow is first refused by whoever reads it; here is where one ends that nobody
    reads any more. Limits are set by `bounded_protocol`.
    """

    keep_alive_s: float
    header_timeout_s: float
    body_timeout_s: float
    max_connections: int
    report_refusal: Callable[[], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = httptools.HttpRequestParser(self)  # without the leniency that uvicorn sets
        self._received = ReceiveBuffer()
        self._num_line_bytes = 0
        """Since headers, a chunk's first line or bytes of a body were there last."""
        self._num_chunks = 0
        self._num_chunked_bytes = 0
        self._is_turn_due = False
        self._is_crowded = False
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow: HeldFlow = HeldFlow(transport)
        self._is_crowded = len(self.connections) > self.max_connections
        seconds = {Phase.IDLE: self.keep_alive_s, Phase.HEAD: self.header_timeout_s, Phase.BODY: self.body_timeout_s}
        if self._is_crowded:
            self.app_state = {**self.app_state, IS_CROWDED: True}
            for phase in (Phase.IDLE, Phase.HEAD):
                seconds[phase] = min(seconds[phase], CROWDED_HEADER_TIMEOUT_S)
        self._clock = PhaseClock(seconds, self._cut)
        self._clock.enter(Phase.IDLE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._clock.set_deadline(None)
        super().connection_lost(exc)

    # ── what arrives, in turns ───────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._received.add(data)
        if self._clock.phase is Phase.ANSWER:
            if len(self._received) > MAX_WAITING_BYTES:
                self.flow.pause_reading()
        elif not self._is_turn_due:
            self._take_turn()

    def _take_turn(self) -> None:
        """Handle some of what waits; what is left has to wait until the event loop has been round."""
        self._is_turn_due = False
        if self.transport.is_closing():
            return
        num_bytes = num_pieces = 0
        while self._has_work and num_bytes < TURN_BYTES and num_pieces < TURN_PIECES:
            piece = self._received.take()
            num_bytes += len(piece)
            num_pieces += 1
            if self._clock.phase is Phase.IDLE:
                self._clock.enter(Phase.HEAD)
            self._parse(piece)
        if self._has_work:
            self._take_turn_later()
        else:
            self.flow.release()

    @property
    def _has_work(self) -> bool:
        return bool(self._received) and self._clock.phase is not Phase.ANSWER and not self._is_refused

    def _take_turn_later(self) -> None:
        self.flow.hold()
        self._is_turn_due = True
        self.loop.call_soon(self._take_turn)

    def _parse(self, piece: bytearray) -> None:
        self._num_line_bytes += len(piece)
        try:
            self._feed(piece)
            if self._num_line_bytes > MAX_HEADER_BYTES:
                what = "headers" if self._clock.phase is Phase.HEAD else "a chunk's extensions, or trailers,"
                raise invalid_http(f"{what} of more than {MAX_HEADER_BYTES} bytes are there; send fewer")
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, ApiError):
                self.transport.abort()
                raise
            self._refuse(error.__context__, piece)
        except httptools.HttpParserError as error:
            self._refuse(worded(str(error)), piece)
        except ApiError as error:
            self._refuse(error, piece)

    def _feed(self, piece: bytearray) -> None:
        """To a parser of its own where a request asks for another protocol beside its answer: whoever asks may be
        answered in this one, and llhttp would take what follows for the other.
        """
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            line = b"%b %b HTTP/%b" % (
                self.parser.get_method(),
                self.url,
                self.parser.get_http_version().encode("ascii"),
            )
            headers = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.feed_data(b"\r\n".join((line, *headers, b"", b"")))

    # ── what the parser says ─────────────────────────────────────────────────────────────────────

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._clock.phase is Phase.HEAD:  # what a chunked body has behind it is nobody's
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        assert self._clock.phase is Phase.HEAD
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            raise invalid_http("CONNECT asks for a tunnel, which this server does not open; use GET or POST")
        length = checked_length(version, self.url, self.headers)
        if length is None:
            self._received.expect_chunks()
        else:
            self._received.expect_body(length)
        if self.parser.should_upgrade():
            return  # and read it again: see `_feed`
        self._num_line_bytes = self._num_chunks = self._num_chunked_bytes = 0
        self._clock.enter(Phase.BODY)
        raw_path, _, query = self.url.partition(b"?")
        self.scope["method"] = method.decode("ascii")
        self.scope["http_version"] = version
        self.scope["raw_path"] = raw_path
        self.scope["path"] = unquote(raw_path.decode("ascii"))
        self.scope["query_string"] = query
        self._answer(version)

    def _answer(self, version: str) -> None:
        kind = Http10Cycle if version == "1.0" else RequestResponseCycle
        self.cycle = kind(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue and version != "1.0",
            keep_alive=version != "1.0" and self.parser.should_keep_alive() and not self._is_crowded,
            on_response=self.on_response_complete,
        )
        task = self.loop.create_task(self.cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_chunk_header(self) -> None:
        if self._num_chunks > NUM_FREE_CHUNKS and self._num_chunked_bytes < self._num_chunks * MIN_MEAN_CHUNK_BYTES:
            raise invalid_http(
                f"the body has more than {NUM_FREE_CHUNKS} chunks, of less than {MIN_MEAN_CHUNK_BYTES} bytes on average; "
                "send fewer and larger ones"
            )
        self._received.expect_chunk()
        self._num_chunks += 1
        self._num_line_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._num_chunked_bytes += len(body)
        self._num_line_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._clock.phase is Phase.HEAD:
            return  # it is read again: see `_feed`
        super().on_message_complete()
        self._num_line_bytes = 0
        self._clock.enter(Phase.IDLE if self.cycle.response_complete else Phase.ANSWER)

    def on_response_complete(self) -> None:
        """Not uvicorn's: it would set a timer of its own."""
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._clock.phase is Phase.ANSWER:
            self._clock.enter(Phase.IDLE)
            if self._has_work:
                self._take_turn_later()

    # ── what is refused ──────────────────────────────────────────────────────────────────────────

    def _refuse(self, error: ApiError, piece: bytearray) -> None:
        """Look at no more of what arrives, but let the client finish: closed while it sends, it might never see why."""
        hint = "; it speaks TLS, which this port does not" if piece.startswith(_TLS_HANDSHAKE) else ""
        address = (self.client or ("",))[0]
        logger.debug("400 invalid_http to a connection from %s: %s%s", address, error.message, hint)
        self._is_refused = True
        self.report_refusal()
        if self._clock.phase is Phase.BODY and self.cycle.response_started:
            self.transport.close()  # an answer is on its way already
            return
        if self.cycle is not None:
            self.cycle.disconnected = True  # whoever was to answer need not any more
            self.cycle.waiting_for_100_continue = False
            self.cycle.message_event.set()
        body = to_json(error.body())
        self.transport.write(_REFUSAL % (len(body), body))
        self.transport.write_eof()
        self.flow.resume_reading()
        self._clock.set_deadline(LINGER_S)

    def _cut(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def bounded_protocol(
    *,
    keep_alive_s: float,
    header_timeout_s: float,
    body_timeout_s: float,
    max_connections: int,
    report_refusal: Callable[[], None],
) -> type[BoundedHttpProtocol]:
    """The protocol class with these limits: uvicorn makes its instances itself."""
    limits = {
        "keep_alive_s": keep_alive_s,
        "header_timeout_s": header_timeout_s,
        "body_timeout_s": body_timeout_s,
        "max_connections": max_connections,
        "report_refusal": staticmethod(report_refusal),
    }
    return type("BoundedHttpProtocol", (BoundedHttpProtocol,), limits)
