"""Answers to HTTP/1.0, which knows no chunks."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Http10Cycle(RequestResponseCycle):
    """An answer of no declared length ends with its connection."""

    _is_length_known = True

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._is_length_known = any(name.lower() == b"content-length" for name, _ in message["headers"])
            self.chunked_encoding = None if self._is_length_known else False
        elif not self._is_length_known:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)
