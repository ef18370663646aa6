"""An `AsyncEngine` whose model is a script: real input and output processing around chosen tokens.

Tokens are bytes, so a script is a text. Log-probabilities follow from token and position alone:
rank = (token + position) mod 256 + 1, logprob = -rank / 8, in a prompt as in an answer.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import msgspec
from server.fake_model import EOS, TEMPLATE, ByteTokenizer, FakeFrontEnd, FakeInfo
from server.fake_texts import FakeTexts

from octavo.cache.block_map import map_unused
from octavo.core.errors import EngineDeadError, EngineStalledError
from octavo.core.messages import EngineStats, OutputBatch, SequenceEvent, TokenLogprobs
from octavo.core.outputs import RequestDelta
from octavo.core.request import FinishReason, RequestFailure
from octavo.core.sampling_params import SamplingParams
from octavo.engine.admission import Admission, Places
from octavo.engine.input_processor import InputProcessor
from octavo.engine.liveness import EngineState, Pulse
from octavo.engine.output_processor import OutputProcessor
from octavo.tokenizer.chat_template import ChatTemplate

REPLY = "Hello, wörld! 👋🏽 日本 <end>"


def scripted(token: int, position: int, num_top: int) -> TokenLogprobs:
    rank = (token + position) % 256 + 1
    top = [(r - 1 - position) % 256 for r in range(1, num_top + 1)]
    return TokenLogprobs(token, -rank / 8, rank, top, [-r / 8 for r in range(1, num_top + 1)])


class FakeEngine:
    """`reply(prompt_token_ids, sample)` is the text that a sample says, then EOS."""

    def __init__(self, *, sampling_defaults: dict[str, Any] | None = None, **info: Any) -> None:
        self.info = FakeInfo(**info)
        self.tokenizer = ByteTokenizer()
        self.front_end = FakeFrontEnd(
            self.tokenizer, ChatTemplate(TEMPLATE), frozenset((EOS,)), sampling_defaults or {}
        )
        self.stats: EngineStats | None = None
        self.block_map = map_unused(self.info.num_blocks)
        self.state = EngineState.RUNNING
        self.pulse = Pulse(60.0)
        self.pid = os.getpid()
        self.reply: Callable[[list[int], int], str] = lambda prompt, sample: REPLY
        self.tokens_per_step = 1
        self.fails_after: int | None = None
        """Every request fails when it has this many tokens."""
        self.is_held = False
        """Requests wait before their first token; with `hold_after`, after so many."""
        self.hold_after = 0
        self.num_cached_tokens = 0
        self.calls: list[tuple[list[int], SamplingParams, int, str]] = []
        self.clients: list[str] = []
        self.admission = Admission(
            max_num_seqs=self.info.max_num_seqs,
            max_num_queued_reqs=self.info.max_num_queued_reqs,
            is_fair=self.info.options.get("scheduling_policy") == "fair",
        )
        self.open_ids: set[str] = set()
        self.aborted: list[str] = []
        self.has_request = asyncio.Event()
        self.has_aborted = asyncio.Event()
        self._observers: list[Any] = []
        self._step = 0
        self._ended = asyncio.Event()
        self._input = InputProcessor(
            self.tokenizer,  # type: ignore[arg-type]
            vocab_size=self.info.vocab_size,
            max_model_len=self.info.max_model_len,
            eos_token_ids=[EOS],
            has_priorities=self.info.has_priorities,
            seed=self.info.seed,
        )
        self.texts = FakeTexts(lambda: self.front_end, self._input)

    def subscribe(self, observer: Any) -> None:
        self._observers.append(observer)

    @property
    def is_healthy(self) -> bool:
        return not self._ended.is_set()

    def die(self) -> None:
        self._end(EngineState.DEAD)

    async def shutdown(self) -> None:
        if self.is_healthy:
            self._end(EngineState.STOPPING)

    async def wait_until_dead(self) -> None:
        await self._ended.wait()
        if self.state is not EngineState.DEAD:
            await asyncio.Event().wait()

    def _end(self, state: EngineState) -> None:
        self.state = state
        self._ended.set()

    def check_open(self) -> None:
        if self.state is EngineState.STALLED:
            raise EngineStalledError("the engine has given no sign of life; send the request again later")
        if not self.is_healthy:
            raise EngineDeadError("the engine has died; restart the server")

    async def generate(
        self,
        prompt_token_ids: list[int],
        params: SamplingParams,
        *,
        request_id: str,
        priority: int = 0,
        cache_salt: str = "",
        client: str = "",
        places: Places | None = None,
    ) -> AsyncIterator[RequestDelta]:
        self.check_open()
        places = places or self.admission.take(params.n)
        request = self._input.process(
            request_id, prompt_token_ids, params, priority=priority, cache_salt=cache_salt, client=client
        )
        self.clients.append(client)
        self.calls.append((prompt_token_ids, request.params, priority, cache_salt))
        assert request_id not in self.open_ids
        self.open_ids.add(request_id)
        self.has_request.set()
        output = OutputProcessor(self.tokenizer)  # type: ignore[arg-type]
        output.add(request)
        is_finished = False
        num_steps = 0
        try:
            for events in self._steps(request_id, request.params, prompt_token_ids, request.max_tokens):
                await self._wait_turn(num_steps)
                num_steps += 1
                batch = self._batch(events)
                if not self.is_healthy:
                    deltas = [output.fail(request_id, "the engine process died with code -9")]
                else:
                    deltas, _ = output.process(batch)
                    self.stats = batch.stats
                    for observe in self._observers:
                        observe(batch, deltas)
                for delta in deltas:
                    assert delta is not None
                    is_finished = delta.is_finished
                    yield delta
                if is_finished:
                    return
            raise AssertionError("the script did not finish")
        finally:
            places.give_back(params.n)
            self.open_ids.discard(request_id)
            if not is_finished:
                self.aborted.append(request_id)
                self.has_aborted.set()

    async def _wait_turn(self, num_steps: int) -> None:
        await asyncio.sleep(0)
        while self.is_held and num_steps >= self.hold_after and self.is_healthy:
            await asyncio.sleep(0.002)

    def _steps(
        self, request_id: str, params: SamplingParams, prompt: list[int], max_tokens: int
    ) -> Iterator[list[SequenceEvent]]:
        """One step a token of each sample; first, where they are wanted, one with half of the prompt's logprobs."""
        prompt_logprobs = None
        if params.prompt_logprobs is not None:
            num_top = params.prompt_logprobs
            entries = [scripted(token, at, num_top) for at, token in enumerate(prompt)][1:]
            half = len(entries) // 2
            yield [SequenceEvent(request_id, 0, [], prompt_logprobs=entries[:half])]
            prompt_logprobs = entries[half:]
        scripts = [
            [*self.reply(prompt, sample).encode(), *([EOS] if not params.ignore_eos else [EOS] * max_tokens)]
            for sample in range(params.n)
        ]
        for at in range(0, max(map(len, scripts)), self.tokens_per_step):
            events = []
            for sample, script in enumerate(scripts):
                if at < min(len(script), max_tokens):
                    events.append(self._event(request_id, sample, script, at, params, len(prompt), max_tokens))
            if events and prompt_logprobs is not None:
                events[0] = msgspec.structs.replace(events[0], prompt_logprobs=prompt_logprobs)
                prompt_logprobs = None
            yield events

    def _event(
        self,
        request_id: str,
        sample: int,
        script: list[int],
        at: int,
        params: SamplingParams,
        num_prompt: int,
        max_tokens: int,
    ) -> SequenceEvent:
        tokens: list[int] = []
        reason: FinishReason | None = None
        stop_reason: int | None = None
        for token in script[at : at + self.tokens_per_step]:
            tokens.append(token)
            count = at + len(tokens)
            if token == EOS and not params.ignore_eos and count >= params.min_tokens:
                reason = FinishReason.STOP
            elif token in params.stop_token_ids:
                reason, stop_reason = FinishReason.STOP, token
            elif count >= max_tokens:
                reason = FinishReason.LENGTH
            if reason is not None:
                break
        if self.fails_after is not None and at + len(tokens) >= self.fails_after:
            return SequenceEvent(
                request_id,
                sample,
                [],
                finish_reason=FinishReason.ERROR,
                error=RequestFailure("the step failed: RuntimeError: scripted"),
            )
        logprobs = None
        if params.logprobs is not None:
            logprobs = [scripted(token, num_prompt + at + i, params.logprobs) for i, token in enumerate(tokens)]
        return SequenceEvent(
            request_id,
            sample,
            tokens,
            logprobs=logprobs,
            finish_reason=reason,
            stop_reason=stop_reason,
            num_cached_tokens=self.num_cached_tokens,
            scheduled_s=time.time(),
        )

    def _batch(self, events: Sequence[SequenceEvent]) -> OutputBatch:
        self._step += 1
        num_open = len(self.open_ids)
        stats = EngineStats(
            step=self._step,
            num_running=num_open,
            num_waiting=0,
            num_blocks=self.info.num_blocks,
            num_free_blocks=self.info.num_blocks - num_open,
            num_cached_blocks=0,
            num_held_blocks=num_open,
            num_preemptions=0,
            prefix_cache_queries=10 * self._step,
            prefix_cache_hits=self._step,
            num_step_requests=len(events),
            num_decode_tokens=len(events),
            num_prefill_tokens=0,
        )
        return OutputBatch(list(events), stats)
