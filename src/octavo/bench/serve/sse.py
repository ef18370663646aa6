"""Server-sent events out of a stream of bytes, however the bytes are cut."""


class EventReader:
    """Holds what has come of an event that is not complete."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, part: bytes) -> list[bytes]:
        """The data of the events that `part` completes. Carriage returns go: JSON has none, and lines may end in CRLF."""
        self._rest += part.replace(b"\r", b"")
        *events, rest = self._rest.split(b"\n\n")
        self._rest = rest
        return [data for event in events if (data := _data(event))]


def _data(event: bytearray) -> bytes:
    """Its data lines, joined; empty for a comment, which keeps a connection alive."""
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return bytes(b"\n".join(lines))
