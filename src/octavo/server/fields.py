"""Fields of requests that are known but not answered: passed over where that is safe, refused by name where not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from octavo.server.errors import not_built

UNREAD_FIELDS = frozenset(
    (
        "user",
        "metadata",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
    )
)
"""Notes for the provider's books: whatever they say, the answer is the same."""


@dataclass(frozen=True, slots=True)
class NotBuilt:
    """A field that is known, but not answered."""

    harmless: tuple[Any, ...] = ()
    """Values that ask for nothing; null always does."""
    remedy: str = ""
    """What there is in its place."""

    def check(self, name: str, value: Any) -> None:
        """Raises `ApiError` (400) for a value that asks for something."""
        if value is None or any(_same(value, harmless) for harmless in self.harmless):
            return
        ways_out = ["leave it out", *(f"send {msgspec.json.encode(value).decode()}" for value in self.harmless)]
        raise not_built(400, f"{name} is not built yet; {self.remedy or ' or '.join(ways_out)}", param=name)


NotBuiltFields = Mapping[str, NotBuilt]

GENERATION_NOT_BUILT: NotBuiltFields = {
    # OpenAI
    "functions": NotBuilt(([],), "use tools of /v1/chat/completions"),
    "function_call": NotBuilt(("none",), "use tool_choice of /v1/chat/completions"),
    "modalities": NotBuilt((["text"],)),
    "audio": NotBuilt(),
    "prediction": NotBuilt(),
    "verbosity": NotBuilt(),
    "web_search_options": NotBuilt(),
    "store": NotBuilt((False,), "use /v1/responses, which keeps answers"),
    "moderation": NotBuilt(),
    # Other servers
    "guided_json": NotBuilt((), "use structured_outputs.json"),
    "guided_regex": NotBuilt((), "use structured_outputs.regex"),
    "guided_choice": NotBuilt((), "use structured_outputs.choice"),
    "guided_grammar": NotBuilt((), "use structured_outputs.grammar"),
    "guided_decoding_backend": NotBuilt(),
    "guided_whitespace_pattern": NotBuilt(),
    "use_beam_search": NotBuilt((False,)),
    "length_penalty": NotBuilt((1.0, 1)),
    "early_stopping": NotBuilt((False,)),
    "truncate_prompt_tokens": NotBuilt(),
    "truncation_side": NotBuilt(),
    "spaces_between_special_tokens": NotBuilt((True,)),
    "add_special_tokens": NotBuilt(),
    "continue_final_message": NotBuilt((False,)),
    "chat_template": NotBuilt((), "start the server with --chat-template FILE"),
    "documents": NotBuilt(([],)),
    "mm_processor_kwargs": NotBuilt(),
    "media_io_kwargs": NotBuilt(),
    "prompt_embeds": NotBuilt(),
    "return_token_ids": NotBuilt((False,)),
    "return_tokens_as_token_ids": NotBuilt((False,)),
    "return_token_strs": NotBuilt((False,)),
    "logits_processors": NotBuilt(),
    "kv_transfer_params": NotBuilt(),
    "vllm_xargs": NotBuilt(),
    "request_id": NotBuilt((), "use the header X-Request-Id"),
    "dimensions": NotBuilt(),
    "typical_p": NotBuilt((1.0, 1)),
    "mirostat": NotBuilt((0,)),
    "grammar": NotBuilt((), "use structured_outputs.grammar"),
    "json_schema": NotBuilt((), "use structured_outputs.json"),
    "lora": NotBuilt(),
}
COMPLETIONS_NOT_BUILT: NotBuiltFields = {**GENERATION_NOT_BUILT, "suffix": NotBuilt(("",))}
RESPONSES_NOT_BUILT: NotBuiltFields = {
    "background": NotBuilt((False,)),
    "include": NotBuilt(([],)),
    "truncation": NotBuilt(("disabled",)),
    "conversation": NotBuilt((), "use previous_response_id"),
    "context_management": NotBuilt(([],)),
    "max_tool_calls": NotBuilt(),
    "moderation": NotBuilt(),
    "prompt": NotBuilt((), "use instructions and input"),
    "stream_options": NotBuilt(({}, {"include_obfuscation": False})),
    "top_logprobs": NotBuilt((0,)),
}
MESSAGES_NOT_BUILT: NotBuiltFields = {
    "container": NotBuilt(),
    "mcp_servers": NotBuilt(([],)),
    "inference_geo": NotBuilt(),
    "speed": NotBuilt(("standard",)),
}
TOKENIZE_NOT_BUILT: NotBuiltFields = {
    name: GENERATION_NOT_BUILT[name] for name in ("chat_template", "continue_final_message", "mm_processor_kwargs")
}


def _same(value: Any, harmless: Any) -> bool:
    """Equality that tells true from 1."""
    return type(value) is type(harmless) and value == harmless


POOLING_ROUTES = (
    "/v1/embeddings",
    "/v1/rerank",
    "/v2/rerank",
    "/rerank",
    "/score",
    "/v1/score",
    "/pooling",
    "/classify",
)
"""Routes of models that make vectors and scores of texts, refused with 400: no model that is built has pooling."""

NOT_BUILT_ROUTES = (
    "/v1/responses/{response_id}/{rest:path}",
    "/v1/moderations",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/files",
    "/v1/files/{rest:path}",
    "/v1/batches",
    "/v1/batches/{rest:path}",
    "/v1/messages/batches",
    "/v1/messages/batches/{rest:path}",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
)
"""Routes that servers of this kind have, answered with 501."""
