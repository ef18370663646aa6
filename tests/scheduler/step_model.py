"""A scheduler run without a model, on a clock of tokens: when each request gets its first token, and who was served."""

from collections import Counter

from scheduler.traffic import make_samples

from octavo.core.messages import ModelOutput, RequestResult, SchedulerOutput, split_sequence_id
from octavo.core.sampling_params import SamplingParams
from octavo.scheduler import Scheduler


class StepModel:
    """Each step takes the time of the tokens in it; every sampled token is 0."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.now = 0
        self.num_steps = 0
        self.arrival: dict[str, tuple[int, int]] = {}
        self.wait_tokens: dict[str, int] = {}
        self.wait_steps: dict[str, int] = {}
        self.served: Counter[str] = Counter()
        """Client → prompt tokens computed + 2 · output tokens."""
        self._clients: dict[str, str] = {}

    def add(
        self, request_id: str, num_prompt: int, max_tokens: int = 1, *, token: int = 1, n: int = 1, **fields: object
    ) -> None:
        """`token` fills the prompt: requests with the same one share their prefixes."""
        params = SamplingParams(max_tokens=max_tokens, ignore_eos=True, n=n)
        samples = make_samples(request_id, [token] * num_prompt, params, **fields)
        self.arrival[request_id] = (self.now, self.num_steps)
        self._clients[request_id] = samples[0].client
        self.scheduler.add(samples)

    def step(self) -> SchedulerOutput:
        batch = self.scheduler.schedule()
        self.now += batch.num_tokens
        self.num_steps += 1
        results = [RequestResult(each.request_id, [0] * each.is_sampled) for each in batch.scheduled]
        for each in batch.scheduled:
            client = self._clients[split_sequence_id(each.request_id)[0]]
            self.served[client] += len(each.token_ids) + each.is_sampled
        for event in self.scheduler.update(batch, ModelOutput(results)):
            if event.token_ids and event.request_id not in self.wait_tokens:
                begin, begin_step = self.arrival[event.request_id]
                self.wait_tokens[event.request_id] = self.now - begin
                self.wait_steps[event.request_id] = self.num_steps - begin_step
        self.scheduler.cache.pool.check_conserved()
        return batch

    def drain(self) -> None:
        while self.scheduler.has_work():
            self.step()

    def computed(self, batch: SchedulerOutput) -> dict[str, int]:
        """Request → tokens of a step."""
        return {split_sequence_id(each.request_id)[0]: len(each.token_ids) for each in batch.scheduled}
