"""What is refused: always with the error envelope, naming the field."""

import json
from typing import Any

import pytest
from server.conftest import MODEL, InProcess, chat_body, sse_events
from server.fake_engine import FakeEngine

from octavo.core.errors import OctavoError
from octavo.server.body import MAX_JSON_DEPTH
from octavo.server.fields import NOT_BUILT_FIELDS, NOT_BUILT_ROUTES

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
DEEP = "[" * (MAX_JSON_DEPTH + 1) + "]" * (MAX_JSON_DEPTH + 1)


def check_envelope(reply: Any, status: int, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    body = reply.json()
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["message"]
    assert isinstance(error["type"], str)
    if param is not None:
        assert error["param"] == param, error
    if code is not None:
        assert error["code"] == code, error
    return error


NUMBERS = {
    "temperature": [-1, 101, 1e300],
    "top_p": [0, -0.1, 1.5],
    "min_p": [-0.1, 1.1],
    "presence_penalty": [-3, 3],
    "frequency_penalty": [-3, 3],
    "repetition_penalty": [0, -1, 101],
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


def case_id(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:30]}…{len(text)}"


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


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
@pytest.mark.parametrize("name", sorted(NOT_BUILT_FIELDS))
def test_fields_not_built_are_refused_by_name(refusing: InProcess, path: str, name: str) -> None:
    body = {"model": MODEL, "prompt": "Hi"} if path == COMPLETIONS else chat_body()
    error = check_envelope(refusing.post(path, {**body, name: {"a": 1}}), 400, name, "not_built")
    assert "not built yet" in error["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"tool_choice": "auto"},
        {"tool_choice": "required"},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"guided_json": "{}"},
        {"store": True},
        {"use_beam_search": True},
    ],
)
def test_features_not_built_are_refused_by_name(refusing: InProcess, fields: dict[str, Any]) -> None:
    check_envelope(refusing.post(CHAT, chat_body(**fields)), 400, next(iter(fields)), "not_built")


@pytest.mark.parametrize("num_top", [21, -1, 2**63])
def test_top_logprobs_out_of_range(refusing: InProcess, num_top: int) -> None:
    check_envelope(refusing.post(CHAT, chat_body(logprobs=True, top_logprobs=num_top)), 400, "top_logprobs")


def test_an_unknown_field_is_refused_with_the_nearest_name(refusing: InProcess) -> None:
    error = check_envelope(refusing.post(CHAT, chat_body(temprature=1)), 400, "temprature", "unknown_parameter")
    assert "did you mean temperature?" in error["message"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b" ", b"{", b"[]", b"1", b'"x"', b"null", b"true", b"not json", b"\xff\xfe", b'{"a":}', b"{}{}",
        b'{"model": "\xff"}', b'{"model": "\\ud800"}', b"\xef\xbb\xbf{}", b"NaN",
        b'{"temperature": NaN}', b'{"temperature": Infinity}', b'{"temperature": -Infinity}',
        b'{"temperature": 1e400}', b'{"temperature": 1e999999999}', b'{"n": ' + b"9" * 5000 + b"}",
        b'{"temperature": ' + b"9" * 5000 + b"}", b"[" * 100_000, b'{"a":' * 100_000,
        b'{"a": ' + DEEP.encode() + b"}", b'{"metadata": ' + DEEP.encode() + b"}", b'{"a": "\x00"}',
    ],
    ids=lambda content: repr(content[:24]) + str(len(content)),
)  # fmt: skip
@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, "/tokenize", "/detokenize"])
def test_bodies_that_are_not_a_json_object(refusing: InProcess, path: str, content: bytes) -> None:
    reply = refusing.request("POST", path, content=content, headers={"content-type": "application/json"})
    check_envelope(reply, 400)


def test_odd_numbers_in_every_place(refusing: InProcess) -> None:
    for digits in ("9" * 400, "9" * 5000, "-" + "9" * 5000):
        for name in ("n", "seed", "max_tokens", "temperature", "top_k", "logprobs", "priority"):
            content = f'{{"model": "{MODEL}", "prompt": "Hi", "{name}": {digits}}}'.encode()
            reply = refusing.request("POST", COMPLETIONS, content=content, headers={"content-type": "application/json"})
            check_envelope(reply, 400)


def test_nesting_within_the_limit_is_accepted(server: InProcess) -> None:
    inner: Any = 1
    for _ in range(MAX_JSON_DEPTH - 2):
        inner = [inner]
    server.chat("brackets in a string do not count: " + "[{" * 100, metadata={"a": inner}, max_tokens=1)


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_json_must_be_declared(refusing: InProcess, media_type: str | None) -> None:
    headers = {} if media_type is None else {"content-type": media_type}
    reply = refusing.request("POST", CHAT, content=json.dumps(chat_body()).encode(), headers=headers)
    check_envelope(reply, 415, code="unsupported_media_type")


def test_compressed_bodies_are_refused(refusing: InProcess) -> None:
    headers = {"content-type": "application/json; charset=utf-8", "content-encoding": "gzip"}
    check_envelope(refusing.request("POST", CHAT, content=b"x", headers=headers), 415)


@pytest.mark.parametrize("is_declared", [True, False])
def test_large_bodies_are_refused(is_declared: bool) -> None:
    server = InProcess(FakeEngine(), max_body_bytes=2048)
    body = json.dumps(chat_body("x" * 4000)).encode()

    async def pieces() -> Any:
        yield body[:1000]
        yield body[1000:]

    content = body if is_declared else pieces()
    reply = server.request("POST", CHAT, content=content, headers={"content-type": "application/json"})
    check_envelope(reply, 413, code="request_too_large")


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, "/tokenize", "/detokenize"])
def test_a_wrong_model_is_not_found(refusing: InProcess, path: str) -> None:
    bodies = {
        COMPLETIONS: {"prompt": "Hi"},
        CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
        "/tokenize": {"prompt": "Hi"},
        "/detokenize": {"tokens": [1]},
    }
    reply = refusing.post(path, {**bodies[path], "model": "other"})
    error = check_envelope(reply, 404, "model", "model_not_found")
    assert MODEL in error["message"]


def test_the_context_is_named_where_it_is_too_short(refusing: InProcess) -> None:
    body = {"model": MODEL, "prompt": "x" * 600}
    check_envelope(refusing.post(COMPLETIONS, body), 400, "prompt", "context_length_exceeded")
    check_envelope(refusing.post(CHAT, chat_body("x" * 600)), 400, "messages", "context_length_exceeded")
    reply = refusing.post(CHAT, chat_body("Hi", max_tokens=500))
    check_envelope(reply, 400, "max_tokens", "context_length_exceeded")


def test_messages_quote_only_so_much(refusing: InProcess) -> None:
    error = check_envelope(refusing.post(COMPLETIONS, {"model": "m" * 100_000, "prompt": "Hi"}), 404)
    assert len(error["message"]) < 3000
    error = check_envelope(refusing.post(COMPLETIONS, {"model": MODEL, "prompt": "Hi", "x" * 100_000: 1}), 400)
    assert len(error["message"]) < 3000 and len(error["param"]) < 300


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v2/models", "/health/", "/v1/models/other", "/v1/chat", "/%2e%2e/x"])  # fmt: skip
def test_unknown_paths(refusing: InProcess, path: str) -> None:
    check_envelope(refusing.get(path), 404)


@pytest.mark.parametrize("path", [route.replace("{rest:path}", "resp_1/cancel") for route in NOT_BUILT_ROUTES])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_routes_not_built_are_refused_by_name(refusing: InProcess, method: str, path: str) -> None:
    reply = refusing.request(method, path)
    assert path in check_envelope(reply, 501, code="not_built")["message"]
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", CHAT), ("GET", COMPLETIONS), ("DELETE", "/v1/models"), ("PUT", CHAT), ("POST", "/health"), ("POST", "/metrics")],
)  # fmt: skip
def test_wrong_methods(refusing: InProcess, method: str, path: str) -> None:
    reply = refusing.request(method, path)
    check_envelope(reply, 405, code="method_not_allowed")
    assert reply.headers["allow"]


# ── the engine fails ─────────────────────────────────────────────────────────────────────────────


def test_a_full_queue_asks_to_retry() -> None:
    server = InProcess(FakeEngine(max_num_seqs=1, max_num_queued_reqs=0))
    server.engine.open_ids.add("other")
    for path, body in ((CHAT, chat_body()), (COMPLETIONS, {"model": MODEL, "prompt": "Hi", "stream": True})):
        reply = server.post(path, body)
        check_envelope(reply, 503, code="queue_full")
        assert int(reply.headers["retry-after"]) >= 1
        assert "x-should-retry" not in reply.headers


def test_one_prompt_too_many_ends_them_all() -> None:
    server = InProcess(FakeEngine(max_num_seqs=2, max_num_queued_reqs=0))
    server.engine.open_ids.add("other")
    reply = server.post(COMPLETIONS, {"model": MODEL, "prompt": ["a", "b"]})
    check_envelope(reply, 503, code="queue_full")
    assert server.engine.open_ids == {"other"}


def test_a_dead_engine_is_503_and_not_to_be_retried(server: InProcess) -> None:
    server.engine.die()
    reply = server.post(CHAT, chat_body())
    check_envelope(reply, 503, code="engine_dead")
    assert reply.headers["x-should-retry"] == "false"
    check_envelope(server.get("/health"), 503)


@pytest.mark.parametrize("num_tokens", [1, 5])
@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
def test_a_request_that_fails_is_500(server: InProcess, path: str, num_tokens: int) -> None:
    server.engine.fails_after = num_tokens
    reply = server.post(path, {"model": MODEL, "prompt": "Hi"} if path == COMPLETIONS else chat_body())
    error = check_envelope(reply, 500, code="internal_error")
    assert "scripted" in error["message"]
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
def test_a_stream_that_fails_ends_with_the_error(server: InProcess, path: str) -> None:
    server.engine.fails_after = 5
    body = {"model": MODEL, "prompt": "Hi"} if path == COMPLETIONS else chat_body()
    reply = server.post(path, {**body, "stream": True, "stream_options": {"include_usage": True}})
    assert reply.status_code == 200
    *chunks, last = [json.loads(event) for event in sse_events(reply.content)]
    assert last.keys() == {"error"} and last["error"]["code"] == "internal_error"
    assert all(choice["finish_reason"] is None for chunk in chunks for choice in chunk["choices"])


def test_a_stream_that_fails_before_its_first_token_has_a_status(server: InProcess) -> None:
    server.engine.fails_after = 1
    check_envelope(server.post(CHAT, chat_body(stream=True)), 500)


def test_an_error_nobody_foresaw_has_an_id_that_is_in_the_log(
    server: InProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*args: Any, **options: Any) -> str:
        raise ZeroDivisionError("secret detail")

    server.engine.render_chat = broken  # type: ignore[method-assign]
    reply = server.post(CHAT, chat_body())
    error = check_envelope(reply, 500, code="internal_error")
    assert "secret" not in reply.text
    error_id = error["message"].rpartition(" ")[2]
    assert error_id.startswith("err-") and error_id in caplog.text


def test_a_template_that_refuses_is_400(server: InProcess) -> None:
    async def refuse(*args: Any, **options: Any) -> str:
        raise OctavoError("x")

    server.engine.render_chat = refuse  # type: ignore[method-assign]
    check_envelope(server.post(CHAT, chat_body()), 500)
