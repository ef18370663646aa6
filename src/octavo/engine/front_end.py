"""What the front end reads of a model, without its weights: tokenizer, chat template, sampling defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.config import EngineConfig
from octavo.core.errors import ConfigError, InvalidRequestError, ModelFileError
from octavo.core.sampling_params import SamplingParams
from octavo.engine.info import EngineInfo
from octavo.engine.input_processor import InputProcessor
from octavo.loader.checkpoint import Checkpoint, CheckpointKind, open_checkpoint
from octavo.tokenizer.chat_template import ChatTemplate
from octavo.tokenizer.tokenizer import Tokenizer

_SAMPLING_DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
MAX_TEMPLATE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """The text side of a model."""

    tokenizer: Tokenizer | None
    chat_template: ChatTemplate | None
    eos_token_ids: frozenset[int]
    sampling_defaults: Mapping[str, Any]
    """What generation_config.json sets, for requests that are silent on it."""

    def input_processor(self, info: EngineInfo) -> InputProcessor:
        """The gate for requests to the engine that `info` describes."""
        return InputProcessor(
            self.tokenizer,
            vocab_size=info.vocab_size,
            max_model_len=info.max_model_len,
            eos_token_ids=self.eos_token_ids,
            has_priorities=info.has_priorities,
            seed=info.seed,
        )

    def render_chat(self, messages: Any, **options: Any) -> str:
        """The conversation as the model's prompt. Raises `InvalidRequestError`."""
        if self.chat_template is None:
            raise InvalidRequestError(
                "this model has no chat template; use completions, or start with --chat-template FILE",
                param="messages",
            )
        return self.chat_template.render(messages, **options)


def load_front_end(config: EngineConfig, path: Path, cache_dir: Path) -> FrontEnd:
    """Open the model's text side. Raises `ModelFileError`, `UnsupportedModelError` or `ConfigError`."""
    checkpoint = open_checkpoint(path)
    try:
        eos_token_ids = _eos_token_ids(checkpoint)
        defaults = {
            name: checkpoint.generation_config[name]
            for name in _SAMPLING_DEFAULTS
            if name in checkpoint.generation_config
        }
        tokenizer = None
        if not config.skip_tokenizer_init:
            tokenizer = _load_tokenizer(checkpoint, cache_dir)
            eos_token_ids |= tokenizer.eos_token_ids
    finally:
        checkpoint.close()
    return FrontEnd(tokenizer, _chat_template(config, tokenizer), eos_token_ids, _checked(defaults, path))


def load_tokenizer(path: Path, cache_dir: Path) -> Tokenizer:
    """The tokenizer of the model there. Raises `ModelFileError` or `UnsupportedModelError`."""
    checkpoint = open_checkpoint(path)
    try:
        return _load_tokenizer(checkpoint, cache_dir)
    finally:
        checkpoint.close()


def _load_tokenizer(checkpoint: Checkpoint, cache_dir: Path) -> Tokenizer:
    if checkpoint.kind is CheckpointKind.GGUF:
        return Tokenizer.from_gguf(checkpoint.metadata, cache_dir=cache_dir / "tokenizers")
    return Tokenizer.from_directory(checkpoint.path)


def check_chat_template(config: EngineConfig) -> None:
    """Raises `ConfigError` where the option names a file that cannot be read."""
    _given_template(config)


def _given_template(config: EngineConfig) -> str | None:
    if config.chat_template is None:
        return None
    file = Path(config.chat_template)
    try:
        if file.stat().st_size > MAX_TEMPLATE_BYTES:
            raise ConfigError(f"chat_template={file} is larger than {MAX_TEMPLATE_BYTES} bytes", param="chat_template")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"chat_template={file} cannot be read: {reason}; name a Jinja file", param="chat_template"
        ) from error


def _chat_template(config: EngineConfig, tokenizer: Tokenizer | None) -> ChatTemplate | None:
    if tokenizer is None:
        return None
    source = _given_template(config)
    if source is None:
        source = tokenizer.chat_template
    if source is None:
        return None
    return ChatTemplate(source, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token)


def _eos_token_ids(checkpoint: Checkpoint) -> frozenset[int]:
    """Ids that end an answer, as far as the configuration says."""
    if checkpoint.kind is CheckpointKind.GGUF:
        ids = checkpoint.metadata.get("tokenizer.ggml.eos_token_id")
    else:
        ids = checkpoint.generation_config.get("eos_token_id") or checkpoint.config.get("eos_token_id")
    found = ids if isinstance(ids, list) else [ids]
    return frozenset(token for token in found if isinstance(token, int))


def _checked(defaults: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The defaults, without those that are null. Raises `ModelFileError` for a value out of range."""
    present = {name: value for name, value in defaults.items() if value is not None}
    try:
        SamplingParams(**present)
    except InvalidRequestError as error:
        raise ModelFileError(f"{path / 'generation_config.json'}: {error.message}; correct or remove it") from error
    return present
