"""Every field with values it must not have: 400, the envelope, the field's name."""

from typing import Any

import pytest
from server.bad_values import case_id
from server.conftest import MODEL, InProcess, chat_body
from server.envelopes import check_envelope
from server.fake_engine import FakeEngine
from server.paths import CHAT, COMPLETIONS

NUMBERS = {
    "temperature": [-1, 101, 1e300],
    "top_p": [0, -0.1, 1.5],
    "min_p": [-0.1, 1.1],
    "presence_penalty": [-3, 3],
    "frequency_penalty": [-3, 3],
    "repetition_penalty": [0, -1, 101],
    "timeout": [0, -1, 1e300, 86_401],
}
INTEGERS = {
    "n": [0, -1, 129, 2**63, -(2**63), 1.0, 1.5],
    "top_k": [-2, 2**63, 1.5],
    "seed": [2**64, -(2**63) - 1, 0.5],
    "max_tokens": [-1, 0, 2**63, 1.5],
    "min_tokens": [-1, 2**63, 0.5, 17],
    "prompt_logprobs": [-1, 21, 2**63, 1.5],
    "priority": [1, 2**63, -(2**63), 0.5],
}
BOOLEANS = ("include_stop_str_in_output", "ignore_eos", "skip_special_tokens", "stream")
WRONG_FOR_ALL = ["1", True, [], {}, [1]]
CASES: list[tuple[str, Any, str]] = [
    *((name, value, name) for name, values in (NUMBERS | INTEGERS).items() for value in [*values, *WRONG_FOR_ALL]),
    *((name, value, name) for name in BOOLEANS for value in ["true", 1, 0, [], {}]),
    ("stop", 1, "stop"),
    ("stop", True, "stop"),
    ("stop", "", "stop"),
    ("stop", [""], "stop"),
    ("stop", [1], "stop[0]"),
    ("stop", ["a", None], "stop[1]"),
    ("stop", {}, "stop"),
    ("stop", ["a"] * 65, "stop"),
    ("stop", "x" * 1025, "stop"),
    ("stop_token_ids", [-1], "stop_token_ids"),
    ("stop_token_ids", [260], "stop_token_ids"),
    ("stop_token_ids", [2**63], "stop_token_ids"),
    ("stop_token_ids", [True], "stop_token_ids[0]"),
    ("stop_token_ids", ["1"], "stop_token_ids[0]"),
    ("stop_token_ids", 1, "stop_token_ids"),
    ("stop_token_ids", [1] * 300, "stop_token_ids"),
    ("allowed_token_ids", [], "allowed_token_ids"),
    ("allowed_token_ids", [260], "allowed_token_ids"),
    ("allowed_token_ids", [-1], "allowed_token_ids"),
    ("allowed_token_ids", [1.5], "allowed_token_ids[0]"),
    ("allowed_token_ids", "1", "allowed_token_ids"),
    ("allowed_token_ids", [1] * 300, "allowed_token_ids"),
    ("logit_bias", {"x": 1}, "logit_bias"),
    ("logit_bias", {"1": "1"}, "logit_bias[...]"),
    ("logit_bias", {"1": 101}, "logit_bias"),
    ("logit_bias", {"1": -101}, "logit_bias"),
    ("logit_bias", {"1": None}, "logit_bias[...]"),
    ("logit_bias", {"-1": 1}, "logit_bias"),
    ("logit_bias", {"260": 1}, "logit_bias"),
    ("logit_bias", {"1.5": 1}, "logit_bias"),
    ("logit_bias", [1], "logit_bias"),
    ("logit_bias", {str(i): 1 for i in range(1025)}, "logit_bias"),
    ("bad_words", [""], "bad_words"),
    ("bad_words", "x", "bad_words"),
    ("bad_words", [1], "bad_words[0]"),
    ("bad_words", ["x" * 257], "bad_words"),
    ("cache_salt", "", "cache_salt"),
    ("cache_salt", 1, "cache_salt"),
    ("cache_salt", "x" * 1025, "cache_salt"),
    ("stream_options", {"include_usage": True}, "stream_options"),
    ("stream_options", True, "stream_options"),
    ("model", None, "model"),
    ("model", 1, "model"),
    ("model", [], "model"),
]
COMPLETION_CASES: list[tuple[str, Any, str]] = [
    ("prompt", None, "prompt"),
    ("prompt", 1, "prompt"),
    ("prompt", {}, "prompt"),
    ("prompt", [], "prompt"),
    ("prompt", [[]], "prompt"),
    ("prompt", [None], "prompt[0]"),
    ("prompt", [True], "prompt[0]"),
    ("prompt", [1.5], "prompt[0]"),
    ("prompt", ["a", 1], "prompt"),
    ("prompt", ["a", [1]], "prompt"),
    ("prompt", [1, [1]], "prompt"),
    ("prompt", [["a"]], "prompt[0][0]"),
    ("prompt", [[[1]]], "prompt[0][0]"),
    ("prompt", [-1], "prompt"),
    ("prompt", [260], "prompt"),
    ("prompt", [2**63], "prompt"),
    ("prompt", [[97], [260]], "prompt"),
    ("prompt", [97] * 512, "prompt"),
    ("prompt", "a" * 511, "prompt"),
    ("prompt", ["a"] * 17, "prompt"),
    ("logprobs", -1, "logprobs"),
    ("logprobs", 21, "logprobs"),
    ("logprobs", True, "logprobs"),
    ("logprobs", "1", "logprobs"),
    ("logprobs", 1.5, "logprobs"),
    ("best_of", 2, "best_of"),
    ("best_of", "1", "best_of"),
    ("echo", "true", "echo"),
    ("echo", 1, "echo"),
    ("max_tokens", 512, "max_tokens"),
    ("max_completion_tokens", 17, "max_completion_tokens"),
    ("suffix", "x", "suffix"),
    ("messages", [], "messages"),
    ("top_logprobs", 1, "top_logprobs"),
]
CHAT_CASES: list[tuple[str, Any, str]] = [
    ("messages", None, "messages"),
    ("messages", "Hi", "messages"),
    ("messages", [], "messages"),
    ("messages", {}, "messages"),
    ("messages", ["Hi"], "messages[0]"),
    ("messages", [None], "messages[0]"),
    ("messages", [{}], "messages[0].role"),
    ("messages", [{"role": "user"}], "messages[0].content"),
    ("messages", [{"role": "user", "content": None}], "messages[0].content"),
    ("messages", [{"role": "user", "content": 1}], "messages[0].content"),
    ("messages", [{"role": "user", "content": {}}], "messages[0].content"),
    ("messages", [{"role": "owner", "content": "x"}], "messages[0].role"),
    ("messages", [{"role": 1, "content": "x"}], "messages[0].role"),
    ("messages", [{"content": "x"}], "messages[0].role"),
    ("messages", [{"role": "user", "content": "x", "colour": 1}], "messages[0].colour"),
    ("messages", [{"role": "assistant", "content": "x", "audio": {}}], "messages[0].audio"),
    ("messages", [{"role": "assistant", "function_call": {}}], "messages[0].function_call"),
    ("messages", [{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
    ("messages", [{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0]"),
    ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}], "messages[0].content[0]"),
    ("messages", [{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0]"),
    ("messages", [{"role": "user", "content": [{"type": "poem"}]}], "messages[0].content[0]"),
    ("messages", [{"role": "user", "content": "x" * 512}], "messages"),
    ("logprobs", 1, "logprobs"),
    ("logprobs", "true", "logprobs"),
    ("top_logprobs", 1, "top_logprobs"),
    ("max_completion_tokens", 17, "max_completion_tokens"),
    ("max_tokens", 512, "max_tokens"),
    ("add_generation_prompt", "true", "add_generation_prompt"),
    ("chat_template_kwargs", {"messages": []}, "chat_template_kwargs"),
    ("chat_template_kwargs", {"self": 1}, "chat_template_kwargs"),
    ("chat_template_kwargs", {"tools": []}, "chat_template_kwargs"),
    ("chat_template_kwargs", {"add_generation_prompt": True}, "chat_template_kwargs"),
    ("chat_template_kwargs", {"thinking_budget": 1}, "chat_template_kwargs"),
    ("chat_template_kwargs", [], "chat_template_kwargs"),
    ("prompt", "x", "prompt"),
    ("echo", True, "echo"),
    ("best_of", 1, "best_of"),
]  # fmt: skip


@pytest.fixture(scope="module")
def refusing() -> InProcess:
    return InProcess(FakeEngine())


@pytest.mark.parametrize(("name", "value", "param"), CASES + COMPLETION_CASES, ids=case_id)
def test_completions_refuse(refusing: InProcess, name: str, value: Any, param: str) -> None:
    body = {"model": MODEL, "prompt": "Hi", "max_tokens": 16, name: value}
    error = check_envelope(refusing.post(COMPLETIONS, body), 400, param)
    assert error["type"] == "invalid_request_error"
    assert not refusing.engine.calls


@pytest.mark.parametrize(("name", "value", "param"), CASES + CHAT_CASES, ids=case_id)
def test_chat_refuses(refusing: InProcess, name: str, value: Any, param: str) -> None:
    body = {**chat_body(), "max_tokens": 16, name: value}
    check_envelope(refusing.post(CHAT, body), 400, param)
    assert not refusing.engine.calls


@pytest.mark.parametrize(
    ("fields", "is_allowed"),
    [
        ({"prompt": ["a"] * 4}, True),
        ({"n": 4}, True),
        ({"prompt": ["a"] * 5}, False),
        ({"n": 5}, False),
        ({"prompt": ["a"] * 2, "n": 2, "stop_token_ids": [1]}, False),
    ],
)
def test_long_lists_times_choices_are_bounded(server: InProcess, fields: dict[str, Any], is_allowed: bool) -> None:
    """The engine works on a list once for each choice: a short request must not ask for a lot of that."""
    body = {"model": MODEL, "prompt": "Hi", "bad_words": ["x" * 256] * 1024, "max_tokens": 1, **fields}
    reply = server.post(COMPLETIONS, body)
    if is_allowed:
        assert reply.status_code == 200
    else:
        assert check_envelope(reply, 400)["param"] == "bad_words"
        assert not server.engine.calls
