"""The requests that wait, in the policy's order."""

import heapq
from collections.abc import Iterator

from octavo.core.request import Request
from octavo.scheduler.policy import SchedulingPolicy


class WaitingQueue:
    """A priority queue with removal: push and pop O(log n), peek and remove O(1) amortised."""

    def __init__(self, policy: SchedulingPolicy) -> None:
        self._policy = policy
        self._heap: list[tuple[tuple[int, ...], str]] = []
        self._requests: dict[str, Request] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, request: Request) -> bool:
        return request.id in self._requests

    def __iter__(self) -> Iterator[Request]:
        """In order. O(n log n)."""
        return iter(sorted(self._requests.values(), key=self._policy.order))

    def push(self, request: Request) -> None:
        assert request.id not in self._requests
        self._requests[request.id] = request
        heapq.heappush(self._heap, (self._policy.order(request), request.id))

    def peek(self) -> Request:
        while self._heap[0][1] not in self._requests:  # removed since it was pushed
            heapq.heappop(self._heap)
        return self._requests[self._heap[0][1]]

    def pop(self) -> Request:
        request = self.peek()
        heapq.heappop(self._heap)
        del self._requests[request.id]
        return request

    def remove(self, request: Request) -> None:
        del self._requests[request.id]
