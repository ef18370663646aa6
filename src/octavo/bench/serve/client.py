"""The client of an OpenAI-compatible server: one streamed request, and what came of it and when."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import h11
import msgspec

from octavo.bench.serve.chunks import Chunk, error_message, read_chunk
from octavo.bench.serve.datasets import Prompt
from octavo.bench.serve.http import Address, Reply, exchange
from octavo.bench.serve.record import Failure, FailureKind, RequestRecord
from octavo.bench.serve.request_form import Endpoint
from octavo.bench.serve.sse import EventReader
from octavo.core.errors import ConfigError

_DONE = b"[DONE]"
_OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """What all requests have in common."""

    endpoint: Endpoint
    model: str
    ignores_eos: bool
    """Ask for answers of exactly `max_tokens`."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the body; they take the place of the client's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """Encoded before the run, so that the run does not wait for it."""

    path: str
    body: bytes
    num_prompt_tokens: int | None
    max_tokens: int


def prepare(prompt: Prompt, options: RequestOptions) -> PreparedRequest:
    """Raises `ConfigError` for a prompt that the endpoint does not take."""
    body = {
        "model": options.model,
        **_input(prompt, options.endpoint),
        "max_tokens": prompt.max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        **({"ignore_eos": True} if options.ignores_eos else {}),
        **options.extra_body,
    }
    return PreparedRequest(
        path=options.endpoint.path,
        body=msgspec.json.encode(body),
        num_prompt_tokens=prompt.num_tokens,
        max_tokens=prompt.max_tokens,
    )


def _input(prompt: Prompt, endpoint: Endpoint) -> dict[str, Any]:
    content = prompt.content
    is_text, has_ids = isinstance(content, str), prompt.num_tokens is not None
    if endpoint is Endpoint.COMPLETIONS:
        if not is_text and not has_ids:
            raise ConfigError(
                "a prompt has messages, which completions do not take; use --endpoint chat", param="endpoint"
            )
        return {"prompt": content}
    if has_ids:
        raise ConfigError(
            "a prompt has token ids, which a chat does not take; use --endpoint completions", param="endpoint"
        )
    return {"messages": [{"role": "user", "content": content}] if is_text else content}


class BenchClient:
    """Sends requests to one server. A failure is never tried again: it belongs to the result."""

    def __init__(self, address: Address, *, api_key: str | None, timeout_s: float, clock: Callable[[], float]) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._clock = clock
        self._headers = {"content-type": "application/json", "accept": "text/event-stream"}
        if api_key is not None:
            self._headers["authorization"] = f"Bearer {api_key}"

    async def send(self, request: PreparedRequest, record: RequestRecord) -> None:
        """Fill `record`; a failure is written there too. What cancels it leaves `record` unfinished."""
        record.max_tokens = request.max_tokens
        record.num_prompt_tokens = request.num_prompt_tokens
        record.sent_s = self._clock()
        try:
            await asyncio.wait_for(self._send(request, record), self._timeout_s)
        except asyncio.TimeoutError:
            record.failure = Failure(kind=FailureKind.TIMEOUT, message=f"no end within {self._timeout_s:g} s")
        except (OSError, h11.RemoteProtocolError) as error:
            record.failure = Failure(kind=FailureKind.CONNECTION, message=str(error) or type(error).__name__)
        if record.failure is not None:
            record.end_s = self._clock()
        record.is_finished = True

    async def _send(self, request: PreparedRequest, record: RequestRecord) -> None:
        async with exchange(self._address, "POST", request.path, self._headers, request.body) as reply:
            if reply.status == _OK:
                record.failure = await self._read_stream(reply, record)
            else:
                record.failure = await _refusal(reply)

    async def _read_stream(self, reply: Reply, record: RequestRecord) -> Failure | None:
        """Until [DONE]. Chunks that come together have one time: the reader of a screen sees them at once, too."""
        events, has_end = EventReader(), False
        async for part in reply.parts():
            now_s = self._clock()
            for data in events.feed(part):
                if data == _DONE:
                    return _verdict(record)
                try:
                    chunk = read_chunk(data)
                except msgspec.DecodeError as error:
                    return Failure(kind=FailureKind.STREAM, message=f"not a chunk of a completion: {error}")
                if chunk.error is not None:
                    return Failure(kind=FailureKind.STREAM, message=error_message(chunk.error))
                _note(chunk, now_s, record)
                has_end = has_end or chunk.is_last_of_answer
        if has_end:
            return _verdict(record)
        return Failure(kind=FailureKind.STREAM, message="the stream ended without a finish_reason and without [DONE]")


def _note(chunk: Chunk, now_s: float, record: RequestRecord) -> None:
    if chunk.choices:
        record.end_s = now_s
    if chunk.has_output:
        record.output_s.append(now_s)
    if chunk.usage is not None:
        record.usage = chunk.usage
        record.num_prompt_tokens = chunk.usage.prompt_tokens


def _verdict(record: RequestRecord) -> Failure | None:
    """An answer whose tokens have no text (special ones) has come when its last chunk has."""
    if not record.output_s and record.num_output_tokens > 0:
        record.output_s.append(record.end_s)
    return None if record.output_s else Failure(kind=FailureKind.EMPTY, message="the answer had no token")


async def _refusal(reply: Reply) -> Failure:
    body = await reply.body()
    try:
        message = error_message(msgspec.json.decode(body))
    except msgspec.DecodeError:
        message = error_message(body.decode("utf-8", "replace"))
    return Failure(kind=FailureKind.STATUS, message=message, status=reply.status)
