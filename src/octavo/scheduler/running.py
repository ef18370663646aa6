"""The requests that run: each has a seat, and holds blocks."""

import logging
import time
from collections.abc import Iterator

from octavo.cache import KVCacheManager, PrefixMatch
from octavo.core.logs import of_request
from octavo.core.request import Request, RequestStatus
from octavo.scheduler.limits import SchedulerLimits
from octavo.scheduler.policy import SchedulingPolicy
from octavo.scheduler.waiting_queue import WaitingQueue

logger = logging.getLogger(__name__)


class Running:
    """In the order in which they came; who is preempted waits in `waiting` again."""

    def __init__(
        self, limits: SchedulerLimits, cache: KVCacheManager, policy: SchedulingPolicy, waiting: WaitingQueue
    ) -> None:
        self.num_preemptions = 0
        self._limits = limits
        self._cache = cache
        self._policy = policy
        self._waiting = waiting
        self._requests: list[Request] = []

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    @property
    def num_free_seats(self) -> int:
        return self._limits.max_num_seqs - len(self._requests)

    def has_blocks_for(self, request: Request, match: PrefixMatch) -> bool:
        """Whether all of it fits beside what is held now and what running prompts are yet to take."""
        most_tokens = self._limits.max_num_batched_tokens
        num_promised = sum(
            self._cache.num_missing_blocks(running, most_tokens)
            for running in self._requests
            if running.num_uncomputed_tokens > 1
        )
        return self._cache.can_admit(request, match, most_tokens, num_promised=num_promised)

    def start(self, request: Request) -> None:
        """Give a seat to a request that has its blocks."""
        request.status = RequestStatus.RUNNING
        self._requests.append(request)
        if request.num_cached_tokens < 0:
            request.num_cached_tokens = min(request.num_computed_tokens, request.num_prompt_tokens)
            request.scheduled_s = time.monotonic()

    def fork(self, leader: Request, follower: Request) -> None:
        """Start a follower on the blocks of the leader's prompt, of which it computes the last token again."""
        self._cache.fork(leader, follower, leader.num_prompt_tokens)
        follower.num_computed_tokens = leader.num_prompt_tokens - 1
        follower.num_cached_tokens = leader.num_cached_tokens
        follower.scheduled_s = leader.scheduled_s
        self.start(follower)

    def preempt(self) -> Request:
        """The policy's victim, which waits from now on."""
        victim = self._policy.victim(self._requests)
        logger.debug("preempted at %d tokens", victim.num_computed_tokens, extra=of_request(victim.id))
        self.remove(victim)
        victim.num_preemptions += 1
        self.num_preemptions += 1
        self.give_up(victim)
        return victim

    def give_up(self, request: Request) -> None:
        """Have a request without a seat wait, with nothing computed."""
        self._cache.free(request)
        request.num_computed_tokens = 0
        request.status = RequestStatus.WAITING
        self._waiting.push(request)

    def remove(self, request: Request) -> None:
        self._requests.remove(request)
