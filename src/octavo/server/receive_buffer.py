"""What has arrived on a connection, in pieces that a parser takes in little time and that end where a request does."""

PIECE_BYTES = 4096
_EMPTY_LINE = b"\r\n\r\n"
"""Headers end with one, and so do the trailers of a chunked body."""
_LINE_END = b"\r\n"


class ReceiveBuffer:
    """Bytes that wait. No piece has the end of one request and the begin of another: what is asked next is not looked
    at before what was asked first is answered.

    It is told what comes next by whoever parses the pieces, and has found them sound.
    """

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._seen = b""
        """The last bytes taken: an empty line may have begun with them."""
        self._num_data_bytes = 0
        self._chunk_line: bytearray | None = None
        """What has been taken of the line that says how long a chunk is, where one comes next."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, data: bytes) -> None:
        self._waiting += data

    def expect_body(self, num_bytes: int) -> None:
        """So many bytes come next that have no lines: they are taken as they come."""
        self._num_data_bytes = num_bytes

    def expect_chunks(self) -> None:
        """A chunk's line comes next."""
        self._chunk_line = bytearray()

    def expect_chunk(self) -> None:
        """The chunk's line has been taken; behind its data comes another. Behind the last come trailers."""
        assert self._chunk_line is not None
        size = int(self._chunk_line.partition(b";")[0], 16)
        self._num_data_bytes = size and size + len(_LINE_END)
        self._chunk_line = bytearray() if size else None
        self._seen = _LINE_END

    def take(self) -> bytearray:
        """The next piece. O(its length), and that of what is looked through: at most `PIECE_BYTES`."""
        num_bytes = self._num_data_bytes or self._to_line_end()
        piece = self._waiting[:num_bytes]
        del self._waiting[:num_bytes]
        if self._num_data_bytes:
            self._num_data_bytes -= len(piece)
        elif self._chunk_line is not None:
            self._chunk_line += piece
        else:
            last = (self._seen + piece[-len(_EMPTY_LINE) :])[-len(_EMPTY_LINE) :]
            self._seen = b"" if last == _EMPTY_LINE else last[1 - len(_EMPTY_LINE) :]
        return piece

    def _to_line_end(self) -> int:
        """How many bytes to take: to the end of a chunk's line, or else of an empty one, and at most `PIECE_BYTES`."""
        if self._chunk_line is not None:
            return self._waiting.find(b"\n", 0, PIECE_BYTES) + 1 or PIECE_BYTES
        begin = (self._seen + self._waiting[: len(_EMPTY_LINE) - 1]).find(_EMPTY_LINE)
        if begin >= 0:
            return begin + len(_EMPTY_LINE) - len(self._seen)
        begin = self._waiting.find(_EMPTY_LINE, 0, PIECE_BYTES)
        return PIECE_BYTES if begin < 0 else begin + len(_EMPTY_LINE)
