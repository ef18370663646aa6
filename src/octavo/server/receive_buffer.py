"""What has arrived on a connection, in pieces that a parser takes in little time and that end where a request does."""

PIECE_BYTES = 4096
_EMPTY_LINE = b"\r\n\r\n"
"""Headers end with one, and so does a chunked body. A chunk may have one too: a piece more, then."""


class ReceiveBuffer:
    """Bytes that wait. No piece has the end of one request and the begin of another: what is asked next is not looked
    at before what was asked first is answered.
    """

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._seen = b""
        """The last bytes taken: an empty line may have begun with them."""
        self._num_body_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, data: bytes) -> None:
        self._waiting += data

    def expect_body(self, num_bytes: int) -> None:
        """So many bytes come next that have no lines: they are taken as they come."""
        self._num_body_bytes = num_bytes

    def take(self) -> bytearray:
        """The next piece. O(its length)."""
        num_bytes = self._num_body_bytes or self._to_empty_line()
        piece = self._waiting[:num_bytes]
        del self._waiting[:num_bytes]
        if self._num_body_bytes:
            self._num_body_bytes -= len(piece)
        return piece

    def _to_empty_line(self) -> int:
        """How many bytes to take: to the end of an empty line, and at most `PIECE_BYTES`."""
        looked_at = self._seen + self._waiting[:PIECE_BYTES]
        begin = looked_at.find(_EMPTY_LINE)
        end = len(looked_at) if begin < 0 else begin + len(_EMPTY_LINE)
        num_bytes = end - len(self._seen)
        self._seen = looked_at[1 - len(_EMPTY_LINE) :] if begin < 0 else b""
        return num_bytes
