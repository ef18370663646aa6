"""The bounded queue: how many sequences may run and wait, whose, and when to come back if they are too many."""

import math
import time
from collections import Counter, deque

from octavo.core.errors import InvalidRequestError, QueueFullError

MAX_RETRY_AFTER_S = 60
UNKNOWN_RETRY_AFTER_S = 5
"""What to say before anything has ended from which a pace could be known."""
_PACE_PLACES = 64
_PACE_WINDOW_S = 60.0


class Admission:
    """Counts the sequences of every request from its arrival to its end, tokenising included. One event loop's.

    `is_fair`: a client that holds places is given more only while it then holds no more than are left
    free. So one client alone gets half of them, k that ask for all they can get limit / (k + 1) each, and
    whoever holds none finds some (Choudhury and Hahne 1998, Dynamic Queue Length Thresholds for
    Shared-Memory Packet Switches, IEEE/ACM Transactions on Networking 6(2), section III, with α = 1).
    """

    def __init__(self, *, max_num_seqs: int, max_num_queued_reqs: int, is_fair: bool = False) -> None:
        self.num_taken = 0
        self.limit = max_num_seqs + max_num_queued_reqs
        self._max_num_queued_reqs = max_num_queued_reqs
        self._is_fair = is_fair
        self._held: Counter[str] = Counter()
        """Client → places."""
        self._given_back_s: deque[float] = deque(maxlen=_PACE_PLACES)

    def take(self, num_seqs: int, client: str = "") -> "Places":
        """Places for so many sequences of a client, all or none. Raises as `check` does."""
        self.check(num_seqs, client)
        self.num_taken += num_seqs
        self._held[client] += num_seqs
        return Places(self, num_seqs, client)

    def check(self, num_seqs: int, client: str = "") -> None:
        """Whether they can be taken now.

        Raises `InvalidRequestError` where so many are never let in, and `QueueFullError` where they
        are too many now.
        """
        if num_seqs > self.limit:
            raise InvalidRequestError(
                f"{num_seqs} answers are asked for, and this server takes at most {self.limit} at a time; send fewer",
                param="n",
            )
        num_left = self.limit - self.num_taken - num_seqs
        if num_left < 0:
            raise QueueFullError(
                f"{self.num_taken} of {self.limit} places are taken, and --max-num-queued-reqs "
                f"{self._max_num_queued_reqs} may wait; send the request again later",
                retry_after_s=self._retry_after_s(-num_left),
            )
        num_held = self._held[client]
        if self._is_fair and num_held and num_held + num_seqs > num_left:
            raise QueueFullError(
                f"this client holds {num_held} of {self.limit} places, {self.num_taken} are taken, and with "
                "--scheduling-policy fair no client may hold more than it leaves free; send the request again later",
                retry_after_s=self._retry_after_s(num_held + num_seqs - num_left),
            )

    def _give_back(self, num_seqs: int, client: str) -> None:
        self.num_taken -= num_seqs
        self._held[client] -= num_seqs
        if not self._held[client]:
            del self._held[client]
        self._given_back_s.extend([time.monotonic()] * num_seqs)

    def _retry_after_s(self, num_missing: int) -> int:
        """When so many places will be free, at the pace at which the last ones were given back."""
        now = time.monotonic()
        recent = [when for when in self._given_back_s if now - when <= _PACE_WINDOW_S]
        if not recent:
            return UNKNOWN_RETRY_AFTER_S
        seconds = num_missing * (now - recent[0]) / len(recent)
        return min(MAX_RETRY_AFTER_S, max(1, math.ceil(seconds)))


class Places:
    """Places that one request holds."""

    def __init__(self, admission: Admission, count: int, client: str) -> None:
        self._admission = admission
        self._count = count
        self._client = client

    def give_back(self, count: int) -> None:
        """As many of them as are left, up to `count`."""
        count = min(count, self._count)
        self._count -= count
        self._admission._give_back(count, self._client)

    def close(self) -> None:
        """Give back what is left. Idempotent."""
        self.give_back(self._count)
