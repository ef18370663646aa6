"""Clients that ask and do not read: a reply that nobody takes does not stay in memory."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

SEND_TIMEOUT_S = 30.0


class SendTimeoutProtocol(HttpToolsProtocol):
    """Ends a connection whose client has taken nothing of what waits for it for `send_timeout_s`."""

    send_timeout_s = SEND_TIMEOUT_S
    _send_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # however little waits, it is known that it does

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_send_deadline()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        self._clear_send_deadline()
        super().resume_writing()

    def _await_taking(self) -> None:
        num_waiting = self.transport.get_write_buffer_size()
        self._send_deadline = self.loop.call_later(self.send_timeout_s, self._end_unless_taken, num_waiting)

    def _end_unless_taken(self, num_waiting: int) -> None:
        if self.transport.get_write_buffer_size() < num_waiting:
            self._await_taking()
        else:
            self.transport.abort()

    def _clear_send_deadline(self) -> None:
        if self._send_deadline is not None:
            self._send_deadline.cancel()
            self._send_deadline = None
