"""`LLM`: the engine in the caller's process, for batches of prompts."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from octavo.config import EngineConfig
from octavo.config.engine_config import DEFAULT_MODEL
from octavo.config.env import cache_directory
from octavo.core.errors import ConfigError, EngineDeadError, InvalidRequestError
from octavo.core.messages import AbortRequest, EngineRequest
from octavo.core.outputs import CompletionOutput, RequestDelta, RequestOutput
from octavo.core.sampling_params import SamplingParams
from octavo.engine.build import build_engine
from octavo.engine.core import EngineCore
from octavo.engine.front_end import check_chat_template, load_front_end
from octavo.engine.info import OnPhase
from octavo.engine.input_processor import Prompt
from octavo.engine.logprobs import readable_prompt
from octavo.engine.output_processor import OutputProcessor
from octavo.engine.progress import generation_progress
from octavo.tokenizer.grammar import check_grammar
from octavo.tokenizer.tokenizer import Tokenizer

Message = Mapping[str, Any]


class _Call:
    """One call's requests and their news; calls may interleave, as an open stream and a `generate` do."""

    def __init__(self, request_ids: set[str]) -> None:
        self.open_ids = request_ids
        self.deltas: list[RequestDelta] = []

    @property
    def num_open(self) -> int:
        """Requests that have not ended, or whose end was not taken yet."""
        return len(self.open_ids) + len(self.deltas)

    def take(self) -> list[RequestDelta]:
        deltas, self.deltas = self.deltas, []
        return deltas


def _check_policy(config: EngineConfig) -> None:
    """Raises `ConfigError` for one that would be ignored."""
    if config.scheduling_policy == "fair":
        raise ConfigError(
            "scheduling_policy=fair shares a server between its clients, and an LLM has one; use fcfs or priority",
            param="scheduling_policy",
        )


class LLM:
    """A model, ready to answer batches of prompts.

    >>> with LLM("smollm2") as llm:
    ...     [answer] = llm.generate("The capital of France is", SamplingParams(temperature=0))

    `options` are the engine's, in snake_case (`EngineConfig`); an unknown one raises `ConfigError`.
    Not thread-safe. Everything is freed by `close`, or at the end of a `with` block.
    """

    def __init__(
        self, model: str = DEFAULT_MODEL, *, on_phase: OnPhase = lambda phase, share: None, **options: Any
    ) -> None:
        self.config = EngineConfig.from_options({"model": model, **options})
        _check_policy(self.config)
        check_chat_template(self.config)  # rather than when the model is loaded
        core, self.info = build_engine(self.config, on_phase)
        self._core: EngineCore | None = core
        on_phase("load tokenizer", 0.0)
        self.front_end = load_front_end(self.config, Path(self.info.model_path), cache_directory())
        on_phase("load tokenizer", 1.0)
        self._input = self.front_end.input_processor(self.info)
        self._output = OutputProcessor(self.front_end.tokenizer)
        self._request_numbers = itertools.count()
        self._calls: dict[str, _Call] = {}
        self._process_id = os.getpid()

    @property
    def tokenizer(self) -> Any:
        """The model's `Tokenizer`; None with `skip_tokenizer_init`."""
        return self.front_end.tokenizer

    def default_params(self) -> SamplingParams:
        """What `generate` uses without parameters: the defaults, changed by the model's generation_config."""
        return SamplingParams(**self.front_end.sampling_defaults)

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        priorities: Sequence[int] | None = None,
        show_progress: bool | None = None,
    ) -> list[RequestOutput]:
        """Answer every prompt, text or token ids; the outputs stand in the prompts' order.

        `params` is one for all or one a prompt. A progress bar is shown for several prompts on a
        terminal, or as `show_progress` says. All prompts are checked before any runs: the first bad one raises
        `InvalidRequestError` (or `ContextLengthError`). A request that fails while running has
        `finish_reason` "error" and `error`; the others are not touched.
        """
        prompt_list = _as_prompts(prompts)
        params_list = self._as_params(params, len(prompt_list))
        if priorities is not None and len(priorities) != len(prompt_list):
            raise InvalidRequestError(f"{len(priorities)} priorities for {len(prompt_list)} prompts; give one each")
        requests = [
            self._input.process(
                str(next(self._request_numbers)),
                self._input.tokenize(prompt),
                each,
                priority=0 if priorities is None else priorities[index],
            )
            for index, (prompt, each) in enumerate(zip(prompt_list, params_list, strict=True))
        ]
        texts = [prompt if isinstance(prompt, str) else None for prompt in prompt_list]
        return self._run(requests, texts, show_progress)

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        show_progress: bool | None = None,
        **template_options: Any,
    ) -> list[RequestOutput]:
        """Answer a conversation, or several, through the model's chat template.

        A message is {"role": …, "content": …}. `template_options` go to the template
        (`add_generation_prompt`, `tools`, `chat_template_kwargs`).
        """
        if not isinstance(messages, Sequence) or not messages:
            raise InvalidRequestError("messages must be a list of at least one {role, content}", param="messages")
        conversations: Any = [messages] if isinstance(messages[0], Mapping) else messages
        prompts = [self.front_end.render_chat(conversation, **template_options) for conversation in conversations]
        params_list = self._as_params(params, len(prompts))
        requests = [
            self._input.process(
                str(next(self._request_numbers)), self._input.tokenize(prompt, add_special_tokens=False), each
            )
            for prompt, each in zip(prompts, params_list, strict=True)
        ]
        return self._run(requests, list(prompts), show_progress)

    def stream(self, prompt: Prompt, params: SamplingParams | None = None, **chat: Any) -> Iterator[RequestDelta]:
        """Answer one prompt piece by piece, a delta a step (empty while the prompt is computed).

        Leaving the loop early ends the request.
        """
        token_ids = self._input.tokenize(prompt, **chat)
        request = self._input.process(str(next(self._request_numbers)), token_ids, params or self.default_params())
        call = self._admit([request])
        try:
            while call.num_open:
                self._step(call)
                yield from call.take() or [RequestDelta(request.id, [], len(token_ids))]
        finally:
            self._abandon(call)

    def close(self) -> None:
        """Free the weights and the KV cache. Idempotent."""
        if self._core is not None:
            self._core.close()
        self._core = None

    def __enter__(self) -> "LLM":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ── running ──────────────────────────────────────────────────────────────────────────────────

    def _run(
        self, requests: Sequence[EngineRequest], texts: Sequence[str | None], show_progress: bool | None
    ) -> list[RequestOutput]:
        outputs = {
            request.id: RequestOutput(
                request.id,
                text,
                request.prompt_token_ids,
                [_empty_output(index, request.params) for index in range(request.params.n)],
            )
            for request, text in zip(requests, texts, strict=True)
        }
        call = self._admit(requests)
        try:
            with generation_progress(len(requests), show_progress) as advance:
                while call.num_open:
                    self._step(call)
                    for delta in call.take():
                        _accumulate(outputs[delta.request_id], delta, self.tokenizer)
                        advance(delta)
        finally:
            self._abandon(call)
        return [outputs[request.id] for request in requests]

    def _admit(self, requests: Sequence[EngineRequest]) -> "_Call":
        shapes = {id(shape): shape for request in requests if (shape := request.params.structured_outputs)}
        for shape in shapes.values():
            check_grammar(shape)
        core = self._running_core()
        call = _Call({request.id for request in requests})
        for request in requests:
            self._calls[request.id] = call
            self._output.add(request)
            core.add(request)
        return call

    def _step(self, call: "_Call") -> None:
        """One step of the engine, unless an interleaved call has already brought this one news."""
        if call.deltas:
            return
        core = self._running_core()
        if not core.has_work():
            core.wait_for_grammar()
        deltas, aborts = self._output.process(core.step())
        for abort in aborts:
            core.abort(abort)
        for delta in deltas:
            owner = self._calls[delta.request_id]
            owner.deltas.append(delta)
            if delta.is_finished:
                owner.open_ids.discard(delta.request_id)
                del self._calls[delta.request_id]

    def _abandon(self, call: "_Call") -> None:
        """Whatever made the caller leave (Ctrl-C, an early `break`), none of its requests stays behind."""
        if self._core is None:
            return
        for request_id in call.open_ids:
            self._core.abort(AbortRequest(request_id))
        while call.open_ids:
            call.deltas.clear()
            self._step(call)

    def _running_core(self) -> EngineCore:
        if self._core is None:
            raise EngineDeadError("this LLM was closed; make a new one")
        if os.getpid() != self._process_id:
            raise EngineDeadError(
                "this LLM was made before a fork, whose child has none of its threads; make a new one"
            )
        return self._core

    def _as_params(
        self, params: SamplingParams | Sequence[SamplingParams] | None, count: int
    ) -> Sequence[SamplingParams]:
        if params is None:
            return [self.default_params()] * count
        if isinstance(params, SamplingParams):
            return [params] * count
        if not isinstance(params, Sequence) or not all(isinstance(each, SamplingParams) for each in params):
            raise InvalidRequestError(
                f"params has type {type(params).__name__}; give SamplingParams, or a list of them"
            )
        if len(params) != count:
            raise InvalidRequestError(f"{len(params)} sampling params for {count} prompts; give one, or one each")
        return params


def _as_prompts(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt or several: a string and a flat list of token ids are one."""
    if isinstance(prompts, str):
        return [prompts]
    if not isinstance(prompts, Sequence) or isinstance(prompts, bytes):
        raise InvalidRequestError(
            f"prompts has type {type(prompts).__name__}; give a string, a list of token ids, or a list of either",
            param="prompt",
        )
    if len(prompts) > 0 and isinstance(prompts[0], int):
        return [prompts]  # type: ignore[list-item]
    return list(prompts)  # type: ignore[arg-type]


def _empty_output(index: int, params: SamplingParams) -> CompletionOutput:
    if params.logprobs is None:
        return CompletionOutput(index)
    return CompletionOutput(index, logprobs=[], cumulative_logprob=0.0)


def _accumulate(output: RequestOutput, delta: RequestDelta, tokenizer: Tokenizer | None) -> None:
    for piece in delta.outputs:
        sample = output.outputs[piece.index]
        sample.text += piece.text
        sample.token_ids += piece.token_ids
        if sample.logprobs is not None and piece.logprobs is not None:
            sample.logprobs += piece.logprobs
            chosen = zip(piece.token_ids, piece.logprobs, strict=True)
            sample.cumulative_logprob = (sample.cumulative_logprob or 0.0) + sum(
                entry[token].logprob for token, entry in chosen
            )
        if piece.finish_reason is not None:
            sample.finish_reason, sample.stop_reason = piece.finish_reason, piece.stop_reason
    if delta.prompt_logprobs is not None:
        output.prompt_logprobs = readable_prompt(tokenizer, delta.prompt_logprobs)
    output.num_cached_tokens = delta.num_cached_tokens
    output.is_finished = delta.is_finished
    output.metrics = delta.metrics or output.metrics
    output.error = None if delta.error is None else delta.error.message
