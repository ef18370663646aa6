"""Attack classes, of what comes with a model: files and chat templates.

One test a class, at its strongest point, named after it.
"""

import json
import pickle
import struct
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from loader.conftest import ARRAY, STRING, GGUFBuilder, gguf_string
from safetensors.torch import save_file
from server.attack_classes.limits import HANG_S, bounded
from server.conftest import InProcess, chat_body
from server.envelopes import check_envelope
from server.fake_engine import FakeEngine
from server.fake_model import FakeFrontEnd
from server.paths import CHAT

from octavo.config import EngineConfig
from octavo.core.errors import ConfigError, ModelFileError, UnsupportedModelError
from octavo.loader.checkpoint import open_checkpoint
from octavo.tokenizer.chat_template import ChatTemplate

# ── pickle, torch.load, code in model files ──────────────────────────────────────────────────────


class _Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickle_and_code_in_model_files(name: str, tmp_path: Path) -> None:
    """That the source holds no pickle, torch.load, eval or exec is kept by `tests/test_architecture.py`."""
    marker, model = tmp_path / "was-run", tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["X"], "auto_map": {"AutoModel": "modeling_x.X"}}')
    (model / "modeling_x.py").write_text(f"open({str(marker)!r}, 'w')")
    (model / name).write_bytes(pickle.dumps(_Bomb(marker)))
    with pytest.raises(UnsupportedModelError, match=r"pickle.*safetensors"):
        open_checkpoint(model)
    (model / name).unlink()
    save_file({"a": torch.ones(2)}, model / "model.safetensors")
    open_checkpoint(model).close()
    assert not marker.exists()
    with pytest.raises(ConfigError, match="never run"):
        EngineConfig(model=str(model), trust_remote_code=True)


# ── chat templates ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{{ messages[0].content * 10000000000 }}",
    ],
    ids=["escape", "mutation", "range", "output"],
)
def test_chat_templates(source: str) -> None:
    """Sandboxed and bounded; its arguments are allow-listed."""
    server = InProcess(FakeEngine())
    sound: FakeFrontEnd = server.engine.front_end
    server.engine.front_end = FakeFrontEnd(sound.tokenizer, ChatTemplate(source), sound.eos_token_ids, {})
    start_s = time.monotonic()
    check_envelope(server.post(CHAT, chat_body()), 400, "messages")
    assert time.monotonic() - start_s < HANG_S
    server.engine.front_end = sound
    for name in ("chat_template", "messages", "raise_exception", "__class__"):
        reply = server.post(CHAT, chat_body(chat_template_kwargs={name: "{{ 1 }}"}))
        check_envelope(reply, 400, "chat_template_kwargs")
    check_envelope(server.post(CHAT, chat_body(chat_template="{{ 1 }}")), 400, "chat_template")


# ── model-file parsing ───────────────────────────────────────────────────────────────────────────

MOST = (1 << 64) - 1


def _gguf(**fields: Any) -> bytes:
    builder = GGUFBuilder(**fields).entry("general.architecture", STRING, gguf_string("llama"))
    return builder.tensor("a", [8], 0, 0).build() + bytes(32)


def _gguf_with(*tensors: tuple[str, list[int], int], extra: bytes = b"") -> bytes:
    builder = GGUFBuilder(data=bytes(64)).entry("general.architecture", STRING, gguf_string("llama"))
    if extra:
        builder.entries.append(extra)
    for name, shape, offset in tensors:
        builder.tensor(name, shape, 0, offset)
    return builder.build()


def _safetensors(header: bytes, declared: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if declared is None else declared) + header + bytes(8)


def _tensor(begin: int, end: int, shape: list[int]) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


HOSTILE_FILES = {
    "m.gguf": [
        _gguf(num_tensors=MOST),
        _gguf(num_entries=MOST),
        _gguf_with(("a", [1 << 33, 1 << 33], 0)),
        _gguf_with(("a", [1 << 62], 0)),
        _gguf_with(("a", [16], 32)),
        _gguf_with(("a", [8], MOST - 31)),
        _gguf_with(("a", [8], 0), ("a", [8], 32)),
        _gguf_with(("a", [8], 0), ("b", [8], 0)),
        _gguf_with(("a", [8], 0), extra=struct.pack("<Q", MOST)),
        _gguf_with(("a", [8], 0), extra=gguf_string("k") + struct.pack("<IIQ", ARRAY, STRING, MOST)),
    ],
    "model.safetensors": [
        _safetensors(b"{}", declared=MOST),
        _safetensors(json.dumps({"a": _tensor(0, 8, [1 << 62, 4])}).encode()),
        _safetensors(json.dumps({"a": _tensor(0, 1 << 62, [1 << 60])}).encode()),
        _safetensors(json.dumps({"a": _tensor(0, 8, [2]), "b": _tensor(0, 8, [2])}).encode()),
        _safetensors(b'{"a": %b, "a": %b}' % ((json.dumps(_tensor(0, 8, [2])).encode(),) * 2)),
        _safetensors(b"[" * 100_000),
    ],
}


@pytest.mark.parametrize(
    ("name", "content"), [(name, content) for name, contents in HOSTILE_FILES.items() for content in contents]
)
def test_model_file_parsing(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["X"]}')
    (tmp_path / name).write_bytes(content)
    with bounded(most_s=1.0), pytest.raises(ModelFileError):
        open_checkpoint(tmp_path / name if name.endswith(".gguf") else tmp_path)
