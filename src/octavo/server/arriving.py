"""Bodies that are arriving: bounded together, as each alone may be large and as slow as the time for it allows."""

from octavo.server.errors import overloaded

FREE_BYTES = 1 << 16
"""Of each body, which do not count: who sends little is not kept out by who sends much."""
MAX_BYTES = 1 << 28
"""Of all bodies beyond that."""


class ArrivingBodies:
    """Counts what has arrived of bodies that are not whole yet. Used on the event loop only."""

    def __init__(self) -> None:
        self._num_bytes = 0

    def begin(self) -> "ArrivingBody":
        return ArrivingBody(self)

    def _charge(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        if self._num_bytes > MAX_BYTES:
            raise overloaded(
                f"bodies of more than {MAX_BYTES} bytes are arriving; send the request again later",
                code="too_many_bodies",
            )


class ArrivingBody:
    """One of them; a context that ends when it is whole, or given up."""

    def __init__(self, all_bodies: ArrivingBodies) -> None:
        self.data = bytearray()
        self._all = all_bodies
        self._num_charged = 0

    def __enter__(self) -> "ArrivingBody":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._all._num_bytes -= self._num_charged
        self._num_charged = 0

    def add(self, piece: bytes) -> None:
        """Raises `ApiError` (503) where too much is arriving."""
        self.data += piece
        num_new = max(0, len(self.data) - FREE_BYTES) - self._num_charged
        if num_new > 0:
            self._num_charged += num_new
            self._all._charge(num_new)
