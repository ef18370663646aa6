"""Attack classes, of what a request says: numbers, shapes, images, adapters, tensors.

One test a class, at its strongest point, named after it.
"""

import ast
import asyncio
import base64
import json
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from server.attack_classes.limits import HANG_S, bounded
from server.bad_inputs import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from server.conftest import MODEL, InProcess, chat_body
from server.envelopes import check_envelope, check_refusal
from server.fake_engine import FakeEngine
from source import imported, modules

from octavo import AsyncEngine, SamplingParams
from octavo.config import EngineConfig
from octavo.core.errors import InvalidRequestError, OctavoError
from octavo.core.json_limits import MAX_JSON_DEPTH
from octavo.engine.grammar_check import TIME_LIMIT_S

# ── unbounded or odd parameters ──────────────────────────────────────────────────────────────────

SHARED = ("temperature", "top_p", "top_k", "priority", "timeout")
OPENAI = (*SHARED, "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "n", "seed", "max_tokens")
OPENAI += ("max_completion_tokens", "min_tokens", "prompt_logprobs")
HELLO = [{"role": "user", "content": "Hi"}]
SOUND: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    COMPLETIONS: ({"model": MODEL, "prompt": "Hi"}, OPENAI),
    CHAT: ({"model": MODEL, "messages": HELLO}, OPENAI),
    RESPONSES: ({"model": MODEL, "input": "Hi"}, (*SHARED, "max_output_tokens")),
    MESSAGES: ({"model": MODEL, "messages": HELLO, "max_tokens": 4}, (*SHARED, "max_tokens")),
}
"""What each way in takes, and its parameters that are numbers."""
BEYOND_63_BITS = [str(2**63), str(-(2**63))]
ODD = ["NaN", "Infinity", "1e400", str(2**64), str(-(2**64)), '"1"', "true", "[]", "{}", "9" * 5000]
OUT_OF_VOCABULARY: list[dict[str, Any]] = [
    {"logit_bias": {"260": 1}},
    {"stop_token_ids": [260]},
    {"allowed_token_ids": [260]},
]
PROMPTS_OUT_OF_VOCABULARY: list[dict[str, Any]] = [{"prompt": [260]}, {"prompt": [2**63]}, {"prompt": [-1]}]


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, (_, names) in SOUND.items() for name in names])
def test_unbounded_or_odd_parameters(path: str, name: str, server: InProcess) -> None:
    sound = {field: value for field, value in SOUND[path][0].items() if field != name}
    for value in ODD + (BEYOND_63_BITS if name != "seed" else []):
        content = f'{json.dumps(sound)[:-1]}, "{name}": {value}}}'.encode()
        reply = server.request("POST", path, content=content, headers={"content-type": "application/json"})
        assert reply.status_code == 400, (value, reply.text)
        check_refusal(reply, path)
    assert not server.engine.calls


@pytest.mark.parametrize("path", SOUND)
def test_null_where_a_field_is_required(path: str, server: InProcess) -> None:
    """Null means that a field is left out, as the API has it; what is required cannot be."""
    sound, _ = SOUND[path]
    for required in sound:
        reply = server.post(path, {**sound, required: None})
        assert reply.status_code == 400 and required in reply.text
        check_refusal(reply, path)
    assert not server.engine.calls


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
def test_ids_out_of_the_vocabulary(path: str, server: InProcess) -> None:
    for fields in OUT_OF_VOCABULARY + (PROMPTS_OUT_OF_VOCABULARY if path == COMPLETIONS else []):
        check_envelope(server.post(path, {**SOUND[path][0], **fields}), 400, next(iter(fields)))
    assert not server.engine.calls


# ── grammar, regex, schema bombs ─────────────────────────────────────────────────────────────────

BOMB = {"allOf": [{"type": "string", "pattern": f"(a|b)*a(a|b){{{count}}}"} for count in range(1, 40)]}


def test_grammar_regex_and_schema_bombs(tiny_with_tokenizer: Path) -> None:
    """Limits on time, size and nesting; a neighbour's answer is the same beside one; what is kept is bounded."""

    async def main() -> None:
        config = EngineConfig(model=str(tiny_with_tokenizer), kv_cache_memory="4M", threads=1)
        engine = await AsyncEngine.start(config)

        async def ask(name: str, **params: Any) -> list[int]:
            stream = engine.generate([5, 6], SamplingParams(seed=1, max_tokens=40, **params), request_id=name)
            return [token async for delta in stream for piece in delta.outputs for token in piece.token_ids]

        try:
            alone = await ask("alone", ignore_eos=True)
            bomb = asyncio.create_task(ask("bomb", structured_outputs={"json": BOMB}))
            beside = [await ask(f"beside-{number}", ignore_eos=True) for number in range(3)]
            assert not bomb.done(), "the neighbours waited for it"
            with pytest.raises(InvalidRequestError, match="took more than"):
                await asyncio.wait_for(bomb, TIME_LIMIT_S + HANG_S)
            assert beside == [alone] * 3
        finally:
            await engine.shutdown()

    asyncio.run(main())
    server = InProcess(FakeEngine())
    nested: dict[str, Any] = {}
    for _ in range(MAX_JSON_DEPTH):
        nested = {"not": nested}
    for shape in ({"regex": "a" * (1 << 18)}, {"choice": ["a"] * 2000}, {"json": nested}):
        check_envelope(server.post(CHAT, chat_body(structured_outputs=shape)), 400)


# ── server-side fetch, image bombs ───────────────────────────────────────────────────────────────


def image_body(url: str) -> dict[str, Any]:
    return chat_body([{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}])


def test_server_side_fetch(server: InProcess, tmp_path: Path) -> None:
    """A text model refuses images by name, and nothing is fetched to find that out."""
    secret = tmp_path / "secret.png"
    secret.write_text("secret words")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        local = [f"http://127.0.0.1:{port}/x.png", f"http://localhost:{port}/x.png", f"http://0x7f000001:{port}/"]
        remote = ["http://169.254.169.254/latest/meta-data", "ftp://127.0.0.1/x", "//127.0.0.1/x", secret.as_uri()]
        for url in (*local, *remote, str(secret), "data:image/png;base64,AAAA"):
            reply = server.post(CHAT, image_body(url))
            assert "text only" in check_envelope(reply, 400, "messages[0].content[1]")["message"]
            assert "secret words" not in reply.text
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert not server.engine.calls


def _png(width: int, height: int) -> str:
    """A PNG's header, which promises more than follows."""
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return "data:image/png;base64," + base64.b64encode(header).decode()


@pytest.mark.parametrize("size", [(1, 1), (1, 1 << 20), (1 << 31, 1 << 31)])
def test_image_bombs(size: tuple[int, int], server: InProcess) -> None:
    """No image is decoded at all: a text model refuses it by name, and no decoder is imported."""
    with bounded():
        check_envelope(server.post(CHAT, image_body(_png(*size))), 400, "messages[0].content[1]")
    decoders = {"PIL", "cv2", "imageio", "torchvision"}
    assert not [name for path in modules() for name in imported_by(path) if name.split(".")[0] in decoders]


def imported_by(path: Path) -> list[str]:
    return list(imported(ast.parse(path.read_text())))


# ── path traversal through adapters, logits-changing tensors ─────────────────────────────────────


def test_path_traversal_through_adapters(server: InProcess) -> None:
    """There are no adapters: each way of asking for one is refused by name, and a model's name is no path."""
    for name in ("../../etc/passwd", "/etc/passwd", "..%2f..%2fetc%2fpasswd", f"{MODEL}/../x", f"{MODEL}\0"):
        for path, body in ((CHAT, chat_body()), (COMPLETIONS, {"prompt": "Hi"})):
            check_envelope(server.post(path, {**body, "model": name}), 404, "model", "model_not_found")
    check_envelope(server.get("/v1/models/../../etc/passwd"), 404)
    check_envelope(server.get("/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd"), 404)
    check_envelope(server.post(CHAT, chat_body(lora="x")), 400, "lora", "not_built")
    for route in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
        reply = server.post(route, {"lora_name": "x", "lora_path": "/etc"})
        check_envelope(reply, 501, code="not_built")
    for options in ({"enable_lora": True}, {"lora_modules": "x=/etc"}):
        with pytest.raises(OctavoError, match="not built"):
            EngineConfig(model=MODEL, **options)  # type: ignore[arg-type]
    assert not server.engine.calls


@pytest.mark.parametrize("value", ["AAAA", ["AAAA"], {"a": 1}, [], "", False])
def test_tensors_from_outside(value: Any, server: InProcess) -> None:
    check_envelope(server.post(CHAT, chat_body(prompt_embeds=value)), 400, "prompt_embeds", "not_built")
    body = {"model": MODEL, "prompt": "Hi", "prompt_embeds": value}
    check_envelope(server.post(COMPLETIONS, body), 400, "prompt_embeds", "not_built")
    assert not server.engine.calls
