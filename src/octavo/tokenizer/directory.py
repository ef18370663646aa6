"""A Hugging Face model directory's tokenizer: tokenizer.json and the small files beside it."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from octavo.core.errors import ModelFileError, ModelNotFoundError, UnsupportedModelError

_LOG = logging.getLogger(__name__)
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_EXTRA = ("additional_special_tokens", "extra_special_tokens")
_MAX_SMALL_FILE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryTokenizer:
    """What was found: the backend with all added tokens, and the ids and template beside it."""

    backend: Tokenizer
    bos_token_id: int | None
    eos_token_id: int | None
    generation_eos_token_ids: tuple[int, ...]
    """From generation_config.json; where it names any, they are the model's end tokens."""
    chat_template: str | None


def read_directory(path: Path) -> DirectoryTokenizer:
    """Read the tokenizer of the model in `path`.

    Raises `ModelNotFoundError` where there is no tokenizer at all, `UnsupportedModelError` where
    only a SentencePiece file is, `ModelFileError` for files that are malformed.
    """
    file = path / "tokenizer.json"
    if not file.is_file():
        raise _without_tokenizer_json(path)
    try:
        backend = Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelFileError(f"{file} cannot be read: {error}") from error
    # Either would change the ids of a prompt behind the caller's back.
    backend.no_truncation()
    backend.no_padding()
    config = _read_json(path / "tokenizer_config.json")
    named = _named_tokens(config, _read_json(path / "special_tokens_map.json"))
    _add_listed_tokens(backend, config)
    _add_special_tokens(backend, config, named)
    bos, eos = (_id_of(backend, named.get(name)) for name in ("bos_token", "eos_token"))
    _compare_bos_eos_flags(backend, config, bos, eos)
    return DirectoryTokenizer(
        backend=backend,
        bos_token_id=bos,
        eos_token_id=eos,
        generation_eos_token_ids=_generation_eos(path / "generation_config.json"),
        chat_template=_chat_template(path, config),
    )


def _without_tokenizer_json(path: Path) -> Exception:
    for other in ("tokenizer.model", "spiece.model", "tiktoken.model", "vocab.json"):
        if (path / other).is_file():
            return UnsupportedModelError(
                f"{path} has {other} but no tokenizer.json, and Octavo reads tokenizer.json only; make one with "
                f"transformers: AutoTokenizer.from_pretrained({str(path)!r}).save_pretrained({str(path)!r})"
            )
    return ModelNotFoundError(f"{path} has no tokenizer.json; name a model directory that has one, or a GGUF file")


def _read_json(file: Path) -> dict[str, Any]:
    """The object in `file`, empty where there is no such file."""
    if not file.is_file():
        return {}
    if file.stat().st_size > _MAX_SMALL_FILE_BYTES:
        raise ModelFileError(f"{file} has {file.stat().st_size} bytes; at most {_MAX_SMALL_FILE_BYTES} are allowed")
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{file} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{file} holds a {type(value).__name__}, not an object")
    return value


def _added_token(value: Any, *, special: bool) -> AddedToken | None:
    """A token as these files write it: its text, or an object with its text and flags."""
    if isinstance(value, str):
        return AddedToken(value, normalized=False, special=special)
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        flags = {name: bool(value.get(name, False)) for name in ("single_word", "lstrip", "rstrip", "normalized")}
        return AddedToken(value["content"], special=special or bool(value.get("special", False)), **flags)
    return None


def _named_tokens(config: dict[str, Any], special_tokens_map: dict[str, Any]) -> dict[str, AddedToken]:
    """bos_token, eos_token, …; tokenizer_config.json has the word, special_tokens_map.json fills in."""
    found = ((name, config[name] if name in config else special_tokens_map.get(name)) for name in _NAMED)
    tokens = ((name, _added_token(value, special=True)) for name, value in found)
    return {name: token for name, token in tokens if token is not None}


def _add_listed_tokens(backend: Tokenizer, config: dict[str, Any]) -> None:
    """Add what `added_tokens_decoder` lists beyond tokenizer.json; the ids must come out as listed."""
    listed = config.get("added_tokens_decoder") or {}
    try:
        entries = sorted((int(token_id), value) for token_id, value in listed.items())
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelFileError(f"tokenizer_config.json: added_tokens_decoder is malformed ({error})") from error
    known = backend.get_added_tokens_decoder()
    for token_id, value in entries:
        token = _added_token(value, special=False)
        if token is None:
            raise ModelFileError(f"tokenizer_config.json: added_tokens_decoder[{token_id}] is {value!r}, not a token")
        if token_id in known:
            continue
        backend.add_tokens([token])
        if backend.token_to_id(token.content) != token_id:
            raise ModelFileError(
                f"tokenizer_config.json gives {token.content!r} the id {token_id}, "
                f"tokenizer.json {backend.token_to_id(token.content)}; they must agree"
            )


def _add_special_tokens(backend: Tokenizer, config: dict[str, Any], named: dict[str, AddedToken]) -> None:
    """Make sure the named and the extra special tokens are matched whole, and count as special."""
    wanted = list(named.values())
    for key in _EXTRA:
        values = config.get(key) or ()
        for value in values.values() if isinstance(values, dict) else values:
            token = _added_token(value, special=True)
            if token is not None:
                wanted.append(token)
    added = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    for token in wanted:
        known = added.get(token.content)
        if known is None:
            backend.add_special_tokens([token])
        elif not known.special:
            known.special = True
            backend.add_special_tokens([known])


def _id_of(backend: Tokenizer, token: AddedToken | None) -> int | None:
    return None if token is None else backend.token_to_id(token.content)


def _compare_bos_eos_flags(backend: Tokenizer, config: dict[str, Any], bos: int | None, eos: int | None) -> None:
    """Tell where `add_bos_token` / `add_eos_token` contradict tokenizer.json, whose own rule is used.

    So does transformers 5 wherever there is a tokenizer.json.
    """
    added = backend.encode("").ids
    for name, token_id in (("add_bos_token", bos), ("add_eos_token", eos)):
        flag = config.get(name)
        if isinstance(flag, bool) and token_id is not None and flag != (token_id in added):
            _LOG.warning(
                "tokenizer_config.json says %s=%s, tokenizer.json does otherwise: tokenizer.json is followed",
                name,
                flag,
            )


def _generation_eos(file: Path) -> tuple[int, ...]:
    value = _read_json(file).get("eos_token_id")
    if value is None:
        return ()
    ids = value if isinstance(value, list) else [value]
    if not all(isinstance(token_id, int) and not isinstance(token_id, bool) and token_id >= 0 for token_id in ids):
        raise ModelFileError(f"{file}: eos_token_id is {value!r}, not a token id or a list of them")
    return tuple(ids)


def _chat_template(path: Path, config: dict[str, Any]) -> str | None:
    """chat_template.jinja, else chat_template.json, else tokenizer_config.json; of several named ones «default»."""
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = _read_json(path / "chat_template.json").get("chat_template", config.get("chat_template"))
    if isinstance(template, list):
        template = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
    if isinstance(template, dict):
        if "default" not in template:
            _LOG.warning("%s has chat templates %s but no «default»: none is used", path, sorted(template))
        template = template.get("default")
    if template is None or isinstance(template, str):
        return template
    raise ModelFileError(f"{path}: chat_template is a {type(template).__name__}, not a string")
