"""Models, tokens, status, keys and request ids."""

import base64
import re
import threading

import pytest
from server.conftest import MODEL, InProcess, chat_body
from server.envelopes import check_envelope
from server.fake_engine import FakeEngine
from server.fake_model import BOS, TEMPLATE

import octavo
from octavo.server import chat_prompt, tokenize
from octavo.server.fields import UNREAD_FIELDS
from octavo.tokenizer.chat_messages import ROLES

KEY = "sk-octavo-123"
ROUTES = [
    ("GET", "/v1/models"),
    ("GET", f"/v1/models/{MODEL}"),
    ("GET", "/v1/models/other"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/responses"),
    ("GET", "/v1/responses/resp_1"),
    ("DELETE", "/v1/responses/resp_1"),
    ("POST", "/v1/embeddings"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("GET", "/tokenizer_info"),
    ("GET", "/metrics"),
    ("GET", "/version"),
    ("GET", "/"),
    ("GET", "/web/base.css"),
    ("POST", "/"),
    ("GET", "/docs"),
    ("GET", "/dashboard"),
    ("GET", "/dashboard/snapshot"),
    ("GET", "/openapi.json"),
    ("GET", "/nowhere"),
    ("GET", "/health/"),
    ("GET", "http://localhost//health"),
    ("GET", "/Health"),
    ("OPTIONS", "/v1/models"),
    ("DELETE", "/v1/models"),
]
WRONG_KEYS = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Bearer "},
    {"authorization": KEY},
    {"authorization": f"Basic {KEY}"},
    {"authorization": f"Basic {base64.b64encode(f'{KEY}:other'.encode()).decode()}"},
    {"authorization": "Basic %"},
    {"authorization": f"Bearer {KEY}x"},
    {"authorization": f"Bearer {KEY[:-1]}"},
    {"authorization": f"Bearer {KEY.upper()}"},
    {"x-api-key": f"{KEY}x"},
    {"x-api-key": f"Bearer {KEY}"},
    {"x-api-key": KEY, "authorization": f"Bearer {KEY}x"},
]


def test_models() -> None:
    engine = FakeEngine(sampling_defaults={"temperature": 0.6, "top_k": 20})
    server = InProcess(engine, served_model_name=("small", "org/small"))
    listed = server.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [card["id"] for card in listed["data"]] == ["small", "org/small"]
    card = server.get("/v1/models/org/small").json()
    assert card == listed["data"][1]
    assert card.pop("created") > 1_700_000_000
    assert card == {
        "id": "org/small",
        "object": "model",
        "owned_by": "octavo",
        "root": "fake-model",
        "parent": None,
        "max_model_len": 512,
        "sampling_defaults": {
            "temperature": 0.6,
            "top_p": 1.0,
            "top_k": 20,
            "min_p": 0.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "repetition_penalty": 1.0,
        },
    }
    check_envelope(server.get("/v1/models/fake-model"), 404, "model", "model_not_found")
    assert server.post("/v1/chat/completions", {**chat_body(), "model": "org/small"}).json()["model"] == "org/small"


def test_tokenize_and_back(server: InProcess) -> None:
    answer = server.post("/tokenize", {"prompt": "aé", "model": MODEL, "return_token_strs": True}).json()
    assert answer == {
        "count": 4,
        "max_model_len": 512,
        "tokens": [BOS, 97, 0xC3, 0xA9],
        "token_strs": ["<bos>", "a", "Ã", "©"],
    }
    assert server.post("/detokenize", {"tokens": answer["tokens"]}).json() == {"prompt": "<bos>aé"}
    plain = server.post("/tokenize", {"prompt": "a", "add_special_tokens": False}).json()
    assert (plain["tokens"], plain["token_strs"]) == ([97], None)
    assert server.post("/detokenize", {"tokens": []}).json() == {"prompt": ""}


def test_tokenizer_info(server: InProcess) -> None:
    info = server.get("/tokenizer_info").json()
    assert info == {"bos_token": "<bos>", "eos_token": "<eos>", "chat_template": TEMPLATE}


@pytest.mark.parametrize("has_texts", [True, False])
def test_a_long_reply_is_not_written_on_the_event_loop(
    has_texts: bool, server: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def reply(context: object, *arguments: object) -> object:
        threads.append(threading.get_ident())
        return write(context, *arguments)  # type: ignore[arg-type]

    write = tokenize._reply
    monkeypatch.setattr(tokenize, "_reply", reply)
    server.post("/tokenize", {"prompt": "a", "return_token_strs": has_texts})
    assert threads and threading.get_ident() not in threads


def test_tokenize_a_conversation(server: InProcess) -> None:
    body = {"messages": chat_body("U")["messages"]}
    assert bytes(server.post("/tokenize", body).json()["tokens"]).decode() == "<user>U<assistant>"
    reply = server.post("/tokenize", {**body, "add_generation_prompt": False, "chat_template_kwargs": {}})
    assert bytes(reply.json()["tokens"]).decode() == "<user>U"


def test_what_is_longer_than_the_context_is_counted_all_the_same(server: InProcess) -> None:
    """It is how clients learn that they must shorten it."""
    text = "x" * 600
    length = len(f"<user>{text}<assistant>")
    conversation = chat_body(text)
    reply = server.post("/tokenize", {"messages": conversation["messages"]}).json()
    assert reply["count"] == length > reply["max_model_len"]
    assert server.post("/v1/messages/count_tokens", conversation).json() == {"input_tokens": length}
    check_envelope(server.post("/v1/chat/completions", conversation), 400, "messages", "context_length_exceeded")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": []}, "prompt"),
        ("/tokenize", {"prompt": ["a"]}, "prompt"),
        ("/tokenize", {"prompt": "a", "add_generation_prompt": True}, "add_generation_prompt"),
        ("/tokenize", {"prompt": "a", "colour": True}, "colour"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/detokenize", {"tokens": [1.0]}, "tokens[0]"),
        ("/detokenize", {"tokens": [True]}, "tokens[0]"),
        ("/detokenize", {"tokens": [260]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/detokenize", {"tokens": [2**64]}, "tokens"),
    ],
)
def test_tokenize_refuses(server: InProcess, path: str, body: dict[str, object], param: str) -> None:
    check_envelope(server.post(path, body), 400, param)


def test_status(server: InProcess) -> None:
    assert server.get("/health").json() == {"status": "ok"}
    assert server.get("/version").json() == {"version": octavo.__version__}
    assert server.get("/health/ready").json() == {"status": "ok"}


def test_the_documentation_needs_nothing_from_outside_and_runs_nothing(server: InProcess) -> None:
    page = server.get("/docs")
    assert "POST /v1/chat/completions" in page.text and "max_tokens" in page.text
    assert "<script" not in page.text and "<style" not in page.text and "//" not in page.text.replace("<!doctype", "")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self';") and "script-src" not in policy


def test_the_documentation_shows_the_fields_of_objects_too(server: InProcess) -> None:
    page = server.get("/docs").text
    linked = set(re.findall(r'<a href="#(\w+)">', page))
    assert (
        {"StructuredOutputs", "StreamOptions", "Tool", "Function"}
        <= linked
        == set(re.findall(r'<h3 id="(\w+)">', page))
    )
    assert "<code>continuous_usage_stats</code>" in page and "Raises" not in page and "AllowedTools" not in page
    assert all(f"<code>{name}</code>" in page for name in UNREAD_FIELDS)


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/metrics", "/docs", "/nowhere"])
def test_head_is_get_without_a_body(server: InProcess, path: str) -> None:
    head, get = server.request("HEAD", path), server.get(path)
    assert (head.status_code, head.headers["content-type"]) == (get.status_code, get.headers["content-type"])
    assert head.content == b"" and get.content


def test_head_of_a_route_that_has_no_get_is_refused(server: InProcess) -> None:
    assert server.request("HEAD", "/v1/chat/completions").status_code == 405


def test_openapi_document_describes_every_route(server: InProcess) -> None:
    document = server.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/responses/{response_id}",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/models",
        "/v1/models/{model}",
        "/tokenize",
        "/tokenizer_info",
        "/detokenize",
        "/health",
        "/health/ready",
        "/version",
        "/metrics",
        "/dashboard/snapshot",
        "/dashboard/events",
    }
    schemas = document["components"]["schemas"]
    assert schemas["ChatCompletionRequest"]["required"] == ["model", "messages"]
    references = {text.split('"')[0] for text in str(document).replace("'", '"').split("#/components/schemas/")[1:]}
    assert references <= set(schemas)
    assert "422" not in document["paths"]["/v1/models/{model}"]["get"]["responses"]


@pytest.fixture(scope="module")
def locked() -> InProcess:
    return InProcess(FakeEngine(), api_key=(KEY,))


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("headers", WRONG_KEYS, ids=str)
def test_without_the_key_every_route_is_401(locked: InProcess, method: str, path: str, headers: dict[str, str]) -> None:
    reply = locked.request(method, path, headers=headers)
    check_envelope(reply, 401, code="invalid_api_key")
    is_page = method == "GET" and path in ("/", "/dashboard", "/docs", "/web/base.css")
    assert reply.headers["www-authenticate"] == ('Basic realm="Octavo", charset="UTF-8"' if is_page else "Bearer")
    assert KEY not in reply.text


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_key_no_route_is_401(locked: InProcess, method: str, path: str, scheme: str) -> None:
    assert locked.request(method, path, headers={"authorization": f"{scheme} {KEY}"}).status_code != 401


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("name", ["", "anybody", "é"])
def test_the_key_as_a_browser_sends_it(locked: InProcess, method: str, path: str, name: str) -> None:
    credentials = base64.b64encode(f"{name}:{KEY}".encode()).decode()
    assert locked.request(method, path, headers={"authorization": f"Basic {credentials}"}).status_code != 401


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_the_key_as_anthropics_clients_send_it(locked: InProcess, method: str, path: str) -> None:
    assert locked.request(method, path, headers={"x-api-key": KEY}).status_code != 401


@pytest.mark.parametrize("other", [f"Bearer {KEY}x", KEY, f"Basic {KEY}"])
def test_two_keys_are_none(locked: InProcess, other: str) -> None:
    headers = [("authorization", f"Bearer {KEY}"), ("authorization", other)]
    check_envelope(locked.request("GET", "/v1/models", headers=headers), 401)


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
def test_health_needs_no_key(locked: InProcess, path: str) -> None:
    assert locked.get(path).status_code == 200


def test_request_id_is_echoed_or_made(server: InProcess) -> None:
    assert server.get("/health", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    made = {server.get(path).headers["x-request-id"] for path in ("/health", "/nowhere", "/v1/models")}
    assert len(made) == 3
    streamed = server.post("/v1/chat/completions", chat_body(stream=True), headers={"x-request-id": "mine-2"})
    assert streamed.headers["x-request-id"] == "mine-2"


@pytest.mark.parametrize("given", ["", "a b", "x" * 257])
def test_odd_request_ids_are_refused(server: InProcess, given: str) -> None:
    check_envelope(server.get("/v1/models", headers={"x-request-id": given}), 400, "X-Request-Id")


def test_a_closed_gate_refuses_all_but_what_is_inside(server: InProcess) -> None:
    server.context.gate.is_closed = True
    reply = server.post("/v1/chat/completions", chat_body())
    check_envelope(reply, 503, code="shutting_down")
    assert "retry-after" in reply.headers
    check_envelope(server.get("/health/ready"), 503, code="shutting_down")
    assert server.get("/health").json() == {"status": "draining"}


def test_fingerprint_follows_weights_types_and_isa(tmp_path) -> None:  # type: ignore[no-untyped-def]
    def fingerprint(**info: object) -> str:
        return InProcess(FakeEngine(**info)).context.fingerprint

    file = tmp_path / "a.gguf"
    file.write_bytes(bytes(3 << 20))
    first = fingerprint(model_path=str(file))
    assert first == fingerprint(model_path=str(file), model="other-name")
    assert first == fingerprint(model_path=str(file), max_model_len=100)
    content = bytearray(3 << 20)
    content[-1] = 1
    file.write_bytes(content)
    others = [
        fingerprint(model_path=str(file)),
        fingerprint(model_path=str(file), isa="avx2"),
        fingerprint(model_path=str(file), options={"dtype": "bfloat16"}),
    ]
    assert len({first, *others}) == 4


def test_the_documentation_shows_what_messages_items_and_blocks_hold(server: InProcess) -> None:
    schemas = server.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["ChatInputMessage"]["properties"].keys() == chat_prompt._KNOWN
    assert schemas["ChatInputCall"]["properties"].keys() == chat_prompt._CALL_FIELDS
    assert tuple(schemas["ChatInputMessage"]["properties"]["role"]["enum"]) == tuple(sorted(ROLES))
    page = server.get("/docs").text
    linked = set(re.findall(r'<a href="#(\w+)">', page))
    assert {
        "ChatInputMessage",
        "ChatInputCall",
        "InputMessage",
        "InputFunctionCallOutput",
        "MessageParam",
        "ToolUseBlock",
    } <= linked
    assert {"FlatFunction", "ClientTool"} <= linked and "array of object" not in page
