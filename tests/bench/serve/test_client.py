"""One streamed request, against servers that do well and badly."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from octavo.bench.serve.client import prepare
from octavo.bench.serve.datasets import Prompt
from octavo.bench.serve.http import Address
from octavo.bench.serve.record import FailureKind, RequestRecord
from octavo.bench.serve.request_form import Endpoint
from octavo.core.errors import ConfigError

from .conftest import DONE, HEAD, LAST, Asked, answering, event, options, part, record_of, sent, text, usage


def body(content: Any, **changes: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(
        prepare(Prompt(content=content, max_tokens=7), options(**changes)).body
    )
    return decoded


def test_bodies() -> None:
    assert body([1, 2]) == {
        "model": "m",
        "prompt": [1, 2],
        "max_tokens": 7,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert body("Hi")["prompt"] == "Hi"
    assert body("Hi", endpoint=Endpoint.CHAT)["messages"] == [{"role": "user", "content": "Hi"}]
    messages = [{"role": "system", "content": "a", "name": "b"}]
    assert body(messages, endpoint=Endpoint.CHAT)["messages"] == messages
    assert body("Hi", ignores_eos=True)["ignore_eos"] is True
    extra = body("Hi", ignores_eos=True, extra_body={"temperature": 1, "ignore_eos": False, "cache_prompt": False})
    assert (extra["temperature"], extra["ignore_eos"], extra["cache_prompt"]) == (1, False, False)


def test_prompts_that_an_endpoint_does_not_take() -> None:
    with pytest.raises(ConfigError, match="use --endpoint chat"):
        body([{"role": "user", "content": "a"}])
    with pytest.raises(ConfigError, match="use --endpoint completions"):
        body([1, 2], endpoint=Endpoint.CHAT)


def test_an_answer() -> None:
    record = record_of(
        HEAD,
        part(text("a")),
        part(text("b")),
        part(text("c", "length")),
        part(usage(5, 3, 2)),
        part(DONE) + LAST,
    )
    assert record.is_successful
    assert (record.num_prompt_tokens, record.num_output_tokens, record.num_cached_tokens) == (5, 3, 2)
    assert len(record.output_s) == 3
    assert 0 < record.sent_s < record.output_s[0] <= record.output_s[-1] == record.end_s


def test_an_answer_cut_anywhere_is_the_same() -> None:
    events = text("a") + text("b") + usage(5, 2) + DONE
    stream = HEAD + b"".join(part(events[at : at + 9]) for at in range(0, len(events), 9)) + LAST
    record = record_of(*(stream[at : at + 5] for at in range(0, len(stream), 5)))
    assert record.is_successful
    assert (len(record.output_s), record.num_output_tokens) == (2, 2)


def test_chunks_without_output_are_no_tokens() -> None:
    """A role, text held back, an empty end, keep-alive comments; reasoning and tool calls are output."""
    deltas = [{"role": "assistant", "content": ""}, {"content": "a"}, {"content": None}, {"reasoning_content": "b"}]
    deltas += [{"reasoning": "c"}, {"tool_calls": [{"index": 0}]}, {}]
    chunks = [part(event(choices=[{"index": 0, "delta": delta}])) for delta in deltas]
    end = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    record = record_of(HEAD, *chunks, part(b": ping\n\n"), part(end), part(DONE), LAST)
    assert record.is_successful
    assert len(record.output_s) == 4
    assert record.end_s >= record.output_s[-1]


def test_without_usage_the_chunks_are_counted() -> None:
    record = record_of(HEAD, part(text("a") + text("b")), part(DONE), LAST)
    assert record.is_successful
    assert record.usage is None
    assert record.num_output_tokens == 2
    assert record.num_prompt_tokens is None


def test_tokens_without_text_have_come_with_the_last_chunk() -> None:
    record = record_of(HEAD, part(text("")), part(text("", "length")), part(usage(5, 3)), part(DONE), LAST)
    assert record.is_successful
    assert record.output_s == [record.end_s]
    assert record.num_output_tokens == 3


def test_a_stream_may_end_without_done_after_its_finish_reason() -> None:
    assert record_of(HEAD, part(text("a", "stop")), LAST).is_successful


@pytest.mark.parametrize(
    ("parts", "kind", "message"),
    [
        (
            [HEAD, part(text("a")), part(event(error={"message": "the step\nfailed"})), LAST],
            "stream",
            "the step failed",
        ),
        ([HEAD, part(text("a")), LAST], "stream", "ended without a finish_reason"),
        ([HEAD, part(b"data: nonsense\n\n"), LAST], "stream", "not a chunk"),
        ([HEAD, part(b'data: {"choices": 5}\n\n'), LAST], "stream", "not a chunk"),
        ([HEAD, part(text("a"))], "connection", "closed"),
        ([HEAD], "connection", "closed"),
        ([], "connection", "closed"),
        ([HEAD, part(usage(5, 0)), part(DONE), LAST], "empty", "no token"),
        ([HEAD, part(DONE), LAST], "empty", "no token"),
    ],
)
def test_failures(parts: list[bytes], kind: str, message: str) -> None:
    record = record_of(*parts)
    assert record.is_finished
    assert not record.is_successful
    assert record.failure is not None
    assert record.failure.kind == kind
    assert message in record.failure.message
    assert record.end_s > record.sent_s


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (json.dumps({"error": {"message": "the queue is full", "type": "x"}}), "the queue is full"),
        (json.dumps({"error": "full"}), "full"),
        (json.dumps({"detail": "full"}), "{'detail': 'full'}"),
        ("<html>\nfull", "<html> full"),
    ],
)
def test_a_refusal_is_a_failure_of_its_status(reply: str, message: str) -> None:
    head = f"HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: {len(reply)}\r\n\r\n{reply}"
    record = record_of(head.encode())
    assert record.failure is not None
    assert (record.failure.kind, record.failure.status, record.failure.message) == (FailureKind.STATUS, 503, message)


def test_no_server() -> None:
    record = asyncio.run(sent(Address(host="127.0.0.1", port=1, path="", is_secure=False)))
    assert record.failure is not None
    assert record.failure.kind is FailureKind.CONNECTION


def test_a_server_that_is_too_slow() -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + part(text("a")))
        await asyncio.Event().wait()

    async def main() -> RequestRecord:
        async with answering(answer) as address:
            return await sent(address, timeout_s=0.05)

    record = asyncio.run(main())
    assert record.failure is not None
    assert record.failure.kind is FailureKind.TIMEOUT
    assert "0.05 s" in record.failure.message


def test_a_cancelled_request_is_not_finished_and_its_connection_is_closed() -> None:
    async def main() -> None:
        has_begun, has_gone = asyncio.Event(), asyncio.Event()

        async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
            writer.write(HEAD + part(text("a")))
            has_begun.set()
            await asked.until_gone()
            has_gone.set()

        async with answering(answer) as address:
            task = asyncio.create_task(sent(address))
            await has_begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(has_gone.wait(), 5)

    asyncio.run(main())
