"""Replies as they go out: their JSON, and where it is written."""

import asyncio
import json
from typing import Any

import pytest
from server.conftest import InProcess

from octavo.core.outputs import Logprob
from octavo.core.pieces import PIECE_LEN
from octavo.server import wire
from octavo.server.wire import to_json, written, written_list

HALF_A_PAIR = "\ud83d"


@pytest.mark.parametrize(
    "value", [{"a": 'wörld \u2028 👋🏽 \x7f\x00"\\/'}, [1.5, None, True, 1 << 70], {"a": HALF_A_PAIR}, {}]
)
def test_it_is_ascii_and_the_same(value: Any) -> None:
    assert json.loads(to_json(value).decode("ascii")) == value


def test_parts_are_as_they_would_be_in_the_whole() -> None:
    part = {"text": "日本"}
    for more in ("", HALF_A_PAIR):
        assert json.loads(to_json([written(part), more])) == [part, more]


@pytest.mark.parametrize("length", [0, 1, PIECE_LEN, PIECE_LEN + 1, 3 * PIECE_LEN])
def test_a_list_in_pieces_is_as_in_one(length: int) -> None:
    values = [f"{number} 日本" for number in range(length)]
    assert json.loads(to_json({"values": written_list(iter(values))})) == {"values": values}


@pytest.mark.parametrize("length", [4095, 4096, 4097, 9000])
def test_long_runs_of_other_scripts_are_escaped_alike(length: int) -> None:
    text = "👋日" * length
    assert to_json(text) == json.dumps(text).encode()


def test_what_a_model_cannot_mean_is_null() -> None:
    assert to_json([float("nan"), float("inf")]) == b"[null,null]"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "Hi", "n": 2, "logprobs": 2, "echo": True, "prompt_logprobs": 1}),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "Hi"}], "logprobs": True, "prompt_logprobs": 1},
        ),
        ("/v1/responses", {"input": "Hi"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whole_replies_are_written_off_the_event_loop(
    server: InProcess, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    on_loop: dict[str, bool] = {}

    def watched(value: Any) -> bytes:
        on_loop[type(value).__name__] = asyncio._get_running_loop() is not None
        return to_json(value)

    monkeypatch.setattr(wire, "to_json", watched)
    assert server.post(path, {"model": "fake-model", **body}).status_code == 200
    large = {"Completion", "ChatCompletion", "ModelResponse", "ModelMessage", "list"}  # the list is of prompt_logprobs
    assert [name for name in large & on_loop.keys() if on_loop[name]] == []
    assert ("list" in on_loop) == ("prompt_logprobs" in body)
    assert len(large & on_loop.keys()) == 1 + ("prompt_logprobs" in body)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "Hi"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
    ],
    ids=["completions", "chat"],
)
def test_prompt_logprobs_are_made_readable_off_the_event_loop(
    server: InProcess, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    on_loop: list[bool] = []

    def watched(logprob: float, rank: int, text: str | None) -> Logprob:
        on_loop.append(asyncio._get_running_loop() is not None)
        return Logprob(logprob, rank, text)

    monkeypatch.setattr("octavo.engine.logprobs.Logprob", watched)
    assert server.post(path, {"model": "fake-model", **body, "prompt_logprobs": 3}).status_code == 200
    assert on_loop
    assert not any(on_loop)
