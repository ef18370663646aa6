"""Every field with values it must not have: 400, the envelope, the field's name."""

import json
from typing import Any

import httpx
import pytest
from server.bad_inputs import SOUND, VALUES, of_places
from server.conftest import MODEL, InProcess
from server.envelopes import check_envelope, check_error
from server.fake_engine import FakeEngine
from server.paths import CHAT, COMPLETIONS, MESSAGES, RESPONSES

LONG_CHAT = [{"role": "user", "content": "x" * 512}]
BEYOND_LIMITS: list[tuple[str, dict[str, Any]]] = [
    *(
        (path, fields)
        for path in (COMPLETIONS, CHAT)
        for fields in (
            {"stop_token_ids": [260]},
            {"stop_token_ids": [1] * 300},
            {"allowed_token_ids": [260]},
            {"allowed_token_ids": [1] * 300},
            {"logit_bias": {"260": 1}},
            {"max_tokens": 512},
            {"max_tokens": 16, "min_tokens": 17},
            {"max_tokens": 16, "max_completion_tokens": 17},
            {"stream_options": {"include_usage": True}},
        )
    ),
    *((COMPLETIONS, {"prompt": prompt}) for prompt in ([260], [[97], [260]], [97] * 512, "a" * 511, ["a"] * 17)),
    (CHAT, {"messages": LONG_CHAT}),
    (RESPONSES, {"max_output_tokens": 512}),
    (RESPONSES, {"input": "x" * 512}),
    (MESSAGES, {"max_tokens": 512}),
]
"""What this engine has no room for, or what does not go together: the last field is to blame."""


@pytest.fixture(scope="module")
def refusing() -> InProcess:
    return InProcess(FakeEngine())


def check_refused(reply: httpx.Response, path: str, status: int, place: str | None) -> None:
    if path.startswith(MESSAGES):
        check_error(reply, status, "not_found_error" if status == 404 else "invalid_request_error", place or "")
    else:
        assert check_envelope(reply, status, place)["type"] == "invalid_request_error"


@pytest.mark.parametrize(("path", "place"), [(path, place) for path, places in VALUES.items() for place in places])
def test_refused_by_name(refusing: InProcess, path: str, place: str) -> None:
    for bad in of_places(path, MODEL, {place: VALUES[path][place]}):
        reply = refusing.request("POST", path, content=bad.content, headers={"content-type": bad.media_type})
        check_refused(reply, path, bad.status, bad.place)
    assert not refusing.engine.calls


def case_id(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:50]}…{len(text)}"


@pytest.mark.parametrize(("path", "fields"), BEYOND_LIMITS, ids=case_id)
def test_what_is_beyond_limits_is_refused_by_name(refusing: InProcess, path: str, fields: dict[str, Any]) -> None:
    reply = refusing.post(path, {"model": MODEL, **SOUND[path], **fields})
    check_refused(reply, path, 400, list(fields)[-1])
    assert not refusing.engine.calls


def test_a_prompt_beyond_the_context_is_refused_with_its_length(refusing: InProcess) -> None:
    reply = refusing.post(MESSAGES, {"model": MODEL, "max_tokens": 4, "messages": LONG_CHAT})
    check_error(reply, 400, "invalid_request_error", "the prompt has")
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
