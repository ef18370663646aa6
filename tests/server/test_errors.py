"""What is refused: always with the error envelope, naming the field."""

import dataclasses
import json
from typing import Any

import pytest
from server.bad_inputs import BODIES
from server.conftest import MODEL, InProcess, chat_body, sse_events
from server.envelopes import check_envelope, check_error
from server.fake_engine import FakeEngine
from server.paths import CHAT, COMPLETIONS, DETOKENIZE, TOKENIZE

from octavo.core.errors import InvalidRequestError
from octavo.core.json_limits import MAX_JSON_CONTAINERS, MAX_JSON_DEPTH, MAX_JSON_VALUES, check_json_limits
from octavo.engine import input_processor
from octavo.engine.input_processor import MAX_CHARS_A_TOKEN
from octavo.server.fields import NOT_BUILT_ROUTES
from octavo.server.schemas import ChatCompletionRequest, CompletionRequest
from octavo.tokenizer.chat_template import ChatTemplate


@pytest.fixture(scope="module")
def refusing() -> InProcess:
    return InProcess(FakeEngine())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (path, name)
        for path, schema in ((COMPLETIONS, CompletionRequest), (CHAT, ChatCompletionRequest))
        for name in sorted(schema.not_built)
    ],
)
def test_fields_not_built_are_refused_by_name(refusing: InProcess, path: str, name: str) -> None:
    body = {"model": MODEL, "prompt": "Hi"} if path == COMPLETIONS else chat_body()
    error = check_envelope(refusing.post(path, {**body, name: {"a": 1}}), 400, name, "not_built")
    assert "not built yet" in error["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"functions": [{"name": "f"}]},
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


@pytest.mark.parametrize("content", BODIES, ids=lambda content: repr(content[:24]) + str(len(content)))
@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, TOKENIZE, DETOKENIZE])
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


@pytest.mark.parametrize("padding", [0, (1 << 20) - 5, (1 << 20) - 1, 1 << 20])
@pytest.mark.parametrize(
    "text",
    ['"\\\\"', '"\\""', '"[[[["', '"\\\\\\"[[["', '{"a": [1, "]"]}', '"é\\u0022[["'],
)
def test_shape_is_read_as_json_reads_it(padding: int, text: str) -> None:
    """Just within each limit, whatever the strings hold and wherever the chunks are cut."""
    spaces = " " * padding
    depth = 1 + (text[0] == "{") * 2
    fits = "[" * (MAX_JSON_DEPTH - depth) + f"[{spaces}{text}]" + "]" * (MAX_JSON_DEPTH - depth)
    json.loads(fits)
    check_json_limits(fits.encode())
    with pytest.raises(InvalidRequestError, match="nested"):
        check_json_limits(f"[{fits}]".encode())


@pytest.mark.parametrize(
    ("piece", "most"), [("[],", MAX_JSON_CONTAINERS), ('{"a":1},', MAX_JSON_CONTAINERS // 2), ("1,", MAX_JSON_VALUES)]
)
def test_number_of_values_is_bounded(refusing: InProcess, piece: str, most: int) -> None:
    check_json_limits(f"[{piece * (most - 1)}1]".encode())
    body = b'{"prompt": [' + piece.encode() * (most + 1) + b"1]}"
    reply = refusing.request("POST", COMPLETIONS, content=body, headers={"content-type": "application/json"})
    assert "more than" in check_envelope(reply, 400)["message"]


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


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, TOKENIZE, DETOKENIZE])
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


def test_a_text_that_is_far_too_long_is_not_tokenised(server: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 characters a token of the context for a prompt; for what is only counted, a bound of its own."""
    longest = server.engine.info.max_model_len * MAX_CHARS_A_TOKEN
    monkeypatch.setattr(input_processor, "MAX_COUNTED_BYTES", longest + 100)
    tokenised: list[int] = []
    encode = server.engine.tokenizer.encode
    monkeypatch.setattr(
        server.engine.tokenizer,
        "encode",
        lambda text, **options: (tokenised.append(len(text)), encode(text, **options))[1],
    )
    code, count = "context_length_exceeded", "/v1/messages/count_tokens"
    long = "-" * (longest + 1)
    check_envelope(server.post(COMPLETIONS, {"model": MODEL, "prompt": long}), 400, "prompt", code)
    check_envelope(server.post(CHAT, chat_body(long)), 400, "messages", code)
    assert server.post("/tokenize", {"prompt": long + "-" * 99}).json()["count"] == longest + 101
    assert server.post("/tokenize", chat_body(long)).json()["count"] == len(f"<user>{long}<assistant>")
    assert server.post(count, chat_body(long)).json() == {"input_tokens": len(f"<user>{long}<assistant>")}
    assert min(tokenised) > longest and len(tokenised) == 3
    longer = long + "-" * 100
    check_envelope(server.post("/tokenize", {"prompt": longer}), 400, "prompt", code)
    check_envelope(server.post("/tokenize", chat_body(longer)), 400, "messages", code)
    counted = server.post(count, chat_body(longer))
    assert counted.status_code == 400 and f"at most {longest + 100} are counted" in counted.json()["error"]["message"]
    assert len(tokenised) == 3


def test_messages_quote_only_so_much(refusing: InProcess) -> None:
    error = check_envelope(refusing.post(COMPLETIONS, {"model": "m" * 100_000, "prompt": "Hi"}), 404)
    assert len(error["message"]) < 3000
    error = check_envelope(refusing.post(COMPLETIONS, {"model": MODEL, "prompt": "Hi", "x" * 100_000: 1}), 400)
    assert len(error["message"]) < 3000 and len(error["param"]) < 300


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v2/models", "/health/", "/v1/models/other", "/v1/chat", "/%2e%2e/x"])  # fmt: skip
def test_unknown_paths(refusing: InProcess, path: str) -> None:
    check_envelope(refusing.get(path), 404)


@pytest.mark.parametrize("path", [route.replace("{rest:path}", "resp_1/cancel") for route in NOT_BUILT_ROUTES])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_routes_not_built_are_refused_by_name(refusing: InProcess, method: str, path: str) -> None:
    reply = refusing.request(method, path)
    assert path in reply.json()["error"]["message"]
    if path.startswith("/v1/messages"):
        check_error(reply, 501, "api_error")
    else:
        check_envelope(reply, 501, code="not_built")
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
    server.engine.admission.take(1)
    for path, body in ((CHAT, chat_body()), (COMPLETIONS, {"model": MODEL, "prompt": "Hi", "stream": True})):
        reply = server.post(path, body)
        check_envelope(reply, 503, code="queue_full")
        assert int(reply.headers["retry-after"]) >= 1
        assert "x-should-retry" not in reply.headers


def test_one_prompt_too_many_ends_them_all() -> None:
    server = InProcess(FakeEngine(max_num_seqs=2, max_num_queued_reqs=0))
    server.engine.admission.take(1)
    reply = server.post(COMPLETIONS, {"model": MODEL, "prompt": ["a", "b"]})
    check_envelope(reply, 503, code="queue_full")
    assert not server.engine.calls
    assert server.engine.admission.num_taken == 1


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

    server.engine.texts.render_chat = broken  # type: ignore[method-assign]
    reply = server.post(CHAT, chat_body())
    error = check_envelope(reply, 500, code="internal_error")
    assert "secret" not in reply.text
    error_id = error["message"].rpartition(" ")[2]
    assert error_id.startswith("err-") and error_id in caplog.text


def test_a_template_that_refuses_is_400(server: InProcess) -> None:
    server.engine.front_end = dataclasses.replace(
        server.engine.front_end, chat_template=ChatTemplate("{{ raise_exception('roles must alternate') }}")
    )
    error = check_envelope(server.post(CHAT, chat_body()), 400, "messages", "invalid_value")
    assert "roles must alternate" in error["message"]
