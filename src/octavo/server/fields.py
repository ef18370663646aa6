"""Fields of requests that are known but not answered: passed over where that is safe, refused by name where not."""

from typing import Any

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

NOT_BUILT_FIELDS: dict[str, tuple[Any, ...]] = {
    # OpenAI
    "functions": ([],),
    "function_call": ("none",),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "verbosity": (),
    "web_search_options": (),
    "store": (False,),
    "moderation": (),
    # OpenAI, responses
    "background": (False,),
    "include": ([],),
    "truncation": ("disabled",),
    "conversation": (),
    "context_management": ([],),
    "max_tool_calls": (),
    "prompt": (),
    "stream_options": ({}, {"include_obfuscation": False}),
    "top_logprobs": (0,),
    # Anthropic
    "container": (),
    "mcp_servers": ([],),
    "inference_geo": (),
    "speed": ("standard",),
    "suffix": ("",),
    # vLLM
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_decoding_backend": (),
    "guided_whitespace_pattern": (),
    "use_beam_search": (False,),
    "length_penalty": (1.0, 1),
    "early_stopping": (False,),
    "truncate_prompt_tokens": (),
    "truncation_side": (),
    "spaces_between_special_tokens": (True,),
    "add_special_tokens": (),
    "continue_final_message": (False,),
    "chat_template": (),
    "documents": ([],),
    "mm_processor_kwargs": (),
    "media_io_kwargs": (),
    "prompt_embeds": (),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "return_token_strs": (False,),
    "logits_processors": (),
    "kv_transfer_params": (),
    "vllm_xargs": (),
    "request_id": (),
    "dimensions": (),
    "typical_p": (1.0, 1),
    "mirostat": (0,),
    "grammar": (),
    "json_schema": (),
    "lora": (),
}
"""Field → the values that ask for nothing; null always does. Any other value is refused as not built yet."""

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
    "/v1/batches",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
)
"""Routes that servers of this kind have, answered with 501."""
