"""A model that is not there: its tokenizer, whose tokens are bytes, its chat template, and what is known of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from octavo.tokenizer.chat_template import ChatTemplate

BOS, EOS = 256, 257
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
    "{% if enable_thinking %}<think>{% endif %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


class ByteTokenizer:
    """Token i is byte i; 256 is BOS and 257 EOS."""

    name = "bytes"
    vocab_size = 258
    special_token_ids = frozenset((BOS, EOS))
    bos_token_id, eos_token_id = BOS, EOS
    bos_token, eos_token = "<bos>", "<eos>"
    eos_token_ids = frozenset((EOS,))

    def encode(
        self,
        text: str,
        *,
        add_special_tokens: bool = True,
        parse_special: bool = True,
        max_tokens: int | None = None,
    ) -> list[int]:
        token_ids = ([BOS] if add_special_tokens else []) + list(text.encode())
        assert max_tokens is None or len(token_ids) <= max_tokens
        return token_ids

    def count(self, text: str, *, add_special_tokens: bool = True) -> int:
        return len(self.encode(text, add_special_tokens=add_special_tokens))

    def decode(
        self, token_ids: Iterable[int], *, skip_special_tokens: bool = True, is_continuation: bool = False
    ) -> str:
        skipped = self.special_token_ids if skip_special_tokens else frozenset()
        return b"".join(self.token_bytes(token) for token in token_ids if token not in skipped).decode(
            "utf-8", "replace"
        )

    def token_bytes(self, token_id: int) -> bytes:
        if token_id < 256:
            return bytes([token_id])
        return {BOS: b"<bos>", EOS: b"<eos>"}.get(token_id, b"")

    def token_to_id(self, token: str) -> int | None:
        return {"<bos>": BOS, "<eos>": EOS}.get(token)

    def id_to_token(self, token_id: int) -> str | None:
        return self.token_bytes(token_id).decode("latin-1") or None


@dataclass(frozen=True)
class FakeFrontEnd:
    tokenizer: Any
    chat_template: ChatTemplate
    eos_token_ids: frozenset[int]
    sampling_defaults: dict[str, Any]

    def render_chat(self, messages: Any, **options: Any) -> str:
        return self.chat_template.render(messages, **options)


@dataclass(frozen=True, kw_only=True)
class FakeInfo:
    """The fields of `EngineInfo` that the server reads."""

    model: str = "fake-model"
    model_path: str = "/nowhere"
    architecture: str = "fake"
    vocab_size: int = 260
    num_parameters: int = 1000
    weight_bytes: int = 4000
    max_model_len: int = 512
    max_num_seqs: int = 8
    max_num_queued_reqs: int = 8
    max_num_batched_tokens: int = 512
    num_blocks: int = 64
    block_size: int = 16
    seed: int | None = 0
    isa: str = "baseline"
    options: dict[str, Any] = field(
        default_factory=lambda: {
            "scheduling_policy": "fcfs",
            "kv_cache_dtype": "fp32",
            "dtype": "float32",
            "enable_prefix_caching": True,
        }
    )

    @property
    def has_priorities(self) -> bool:
        return self.options.get("scheduling_policy") == "priority"
