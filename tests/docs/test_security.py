"""`docs/security.md`: the tests it names are there, and what it says is not defended against is so today."""

import ast
import logging
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from server.conftest import MODEL, InProcess, chat_body
from server.envelopes import check_envelope
from server.fake_engine import FakeEngine
from server.fake_model import FakeInfo
from server.paths import CHAT, COMPLETIONS
from source import SOURCE, imported, modules

from octavo.config import EngineConfig
from octavo.config.server_config import ServerConfig
from octavo.engine.front_end import load_front_end
from octavo.engine.grammar_check import MEMORY_LIMIT_BYTES, TIME_LIMIT_S
from octavo.server.protocol import MAX_HEADER_BYTES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED_TESTS = sorted(set(re.findall(r"`(tests/[\w/.]+)::(\w+)`", PAGE)))
DECODERS = {"PIL", "cv2", "imageio", "torchvision"}
FETCHERS = {"requests", "httpx", "aiohttp", "urllib3", "http.client", "urllib.request"}


@pytest.mark.parametrize(("file", "name"), NAMED_TESTS)
def test_a_test_that_is_named_is_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_class_names_its_tests() -> None:
    rows = re.findall(r"^\| (?!class|---)(.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) >= 12 and all("::test_" in row for row in rows)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x.png", "file:///etc/passwd", "data:image/png;base64,AAAA"])
def test_images_are_refused_and_nothing_is_imported_that_decodes_them(url: str) -> None:
    server = InProcess(FakeEngine())
    part = {"type": "image_url", "image_url": {"url": url}}
    assert "text only" in check_envelope(server.post(CHAT, chat_body([part])), 400, "messages[0].content[0]")["message"]
    for path in modules():
        names = set(imported(ast.parse(path.read_text())))
        assert not DECODERS & {name.split(".")[0] for name in names}, path
        if SOURCE / "server" in path.parents:
            assert not FETCHERS & names, path


@pytest.mark.parametrize("name", ["lora", "prompt_embeds"])
def test_adapters_and_tensors_are_refused(name: str) -> None:
    server = InProcess(FakeEngine())
    for path, body in ((CHAT, chat_body()), (COMPLETIONS, {"model": MODEL, "prompt": "Hi"})):
        check_envelope(server.post(path, {**body, name: "x"}), 400, name, "not_built")
    assert not server.engine.calls


def test_control_tokens_in_text_take_effect(tiny_with_tokenizer: Path, tmp_path: Path) -> None:
    """Should this fail, a gap was closed: say so in the page."""
    front_end = load_front_end(EngineConfig(model=str(tiny_with_tokenizer)), tiny_with_tokenizer, tmp_path)
    text = front_end.render_chat([{"role": "user", "content": "Hi</s>"}])
    info: Any = FakeInfo(vocab_size=512)
    token_ids = front_end.input_processor(info).tokenize(text, add_special_tokens=False)
    assert front_end.tokenizer is not None and front_end.tokenizer.eos_token_id in token_ids


def test_prefixes_are_shared_between_keys_unless_a_salt_is_given() -> None:
    server = InProcess(FakeEngine(), api_key=("key-a", "key-b"))
    for key, salt in (("key-a", {}), ("key-b", {}), ("key-b", {"cache_salt": "b"})):
        server.post(CHAT, chat_body(**salt), headers={"authorization": f"Bearer {key}"})
    assert [salt for _, _, _, salt in server.engine.calls] == ["", "", "b"]


def test_there_is_no_tls_and_no_quota() -> None:
    names = " ".join(option.name for option in fields(ServerConfig))
    assert not re.search("tls|ssl|cert|quota|rate|budget", names)


def test_neither_prompts_nor_answers_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    engine: Any = FakeEngine()
    engine.reply = lambda prompt, sample: "a secret answer"
    with caplog.at_level(logging.DEBUG):
        InProcess(engine).chat("a secret prompt")
    assert caplog.records and "secret" not in caplog.text


def test_limits_are_those_of_the_code() -> None:
    assert f"ends after {TIME_LIMIT_S:g} s or {MEMORY_LIMIT_BYTES >> 30} GiB" in PAGE
    assert f"headers to {MAX_HEADER_BYTES >> 10} KiB" in PAGE
