"""A GGUF vocabulary rebuilt as a `tokenizers.Tokenizer`: byte-level BPE, SentencePiece BPE, or Unigram.

GGUF keeps the vocabulary but not the pipeline around it, so each builder supplies the normaliser,
pre-tokeniser and decoder that the family's own tokenizer.json has.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE, Unigram

from octavo.core.errors import ModelFileError, UnsupportedModelError
from octavo.tokenizer.gguf_vocabulary import GGUFVocabulary, TokenType
from octavo.tokenizer.pre_tokenizers import byte_pair_style
from octavo.tokenizer.sentencepiece_merges import cached_merges

_LOG = logging.getLogger(__name__)

SPACE = "▁"
"""How SentencePiece spells a space (U+2581)."""
_SPACES = "▁ "
_USER_DEFINED_SCORE = 0.0
"""What SentencePiece trains with; GGUF converters overwrite it with a marker."""


def build_backend(vocabulary: GGUFVocabulary, cache_dir: Path | None) -> Tokenizer:
    """The tokenizer of `vocabulary`, with its special tokens and BOS/EOS rule.

    Raises `UnsupportedModelError` for a model or pre-tokenizer that is not known, `ModelFileError`
    for a vocabulary that cannot be built.
    """
    build = _BUILDERS.get(vocabulary.model)
    if build is None:
        raise UnsupportedModelError(
            f"tokenizer.ggml.model={vocabulary.model!r} is not a tokenizer Octavo knows; known are "
            f"{', '.join(sorted(_BUILDERS))}; use the model's original files with tokenizer.json"
        )
    try:
        return build(vocabulary, cache_dir)
    except (ModelFileError, UnsupportedModelError):
        raise
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelFileError(f"the GGUF file's {vocabulary.model} vocabulary cannot be built: {error}") from error


def _byte_level_bpe(vocabulary: GGUFVocabulary, _: Path | None) -> Tokenizer:
    if vocabulary.pre is None:
        _LOG.warning("The GGUF file names no tokenizer.ggml.pre: text is split by «default», which may not be right")
    style = byte_pair_style(vocabulary.pre if vocabulary.pre is not None else "default")
    if vocabulary.merges is None:
        raise ModelFileError("tokenizer.ggml.merges is missing; a gpt2 vocabulary needs its merges")
    ids = _ids(vocabulary.tokens)
    merges = _split_merges(vocabulary.merges, ids)
    backend = Tokenizer(BPE(vocab=ids, merges=merges, ignore_merges=style.ignores_merges))
    if style.is_nfc:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = style.pre_tokenizer()
    backend.decoder = decoders.ByteLevel()
    _add_marked_tokens(backend, vocabulary, vocabulary.tokens)
    _add_bos_eos(backend, vocabulary, adds_bos=style.adds_bos, adds_eos=False)
    return backend


def _sentencepiece_bpe(vocabulary: GGUFVocabulary, cache_dir: Path | None) -> Tokenizer:
    tokens = _respelled(vocabulary)
    ids = _ids(tokens)
    listed = vocabulary.merges
    merges = _merges_by_score(vocabulary, tokens, cache_dir) if listed is None else _split_merges(listed, ids)
    unknown = vocabulary.unknown_token_id
    backend = Tokenizer(
        BPE(
            vocab=ids,
            merges=merges,
            unk_token=tokens[unknown] if unknown is not None else None,
            fuse_unk=True,
            byte_fallback=bool(vocabulary.ids_of(TokenType.BYTE)),
        )
    )
    backend.normalizer = normalizers.Sequence(_space_spelling(vocabulary))
    backend.decoder = _sentencepiece_decoder(vocabulary)
    _add_marked_tokens(backend, vocabulary, tokens)
    _add_bos_eos(backend, vocabulary, adds_bos=True, adds_eos=False)
    return backend


def _unigram(vocabulary: GGUFVocabulary, _: Path | None) -> Tokenizer:
    if vocabulary.scores is None:
        raise ModelFileError("tokenizer.ggml.scores is missing; a t5 (Unigram) vocabulary needs its scores")
    pieces = list(zip(vocabulary.tokens, vocabulary.scores.tolist(), strict=True))
    has_bytes = bool(vocabulary.ids_of(TokenType.BYTE))
    backend = Tokenizer(Unigram(pieces, unk_id=vocabulary.unknown_token_id, byte_fallback=has_bytes))
    steps: list[normalizers.Normalizer] = []
    if vocabulary.precompiled_charsmap:
        steps.append(normalizers.Precompiled(vocabulary.precompiled_charsmap))
    if vocabulary.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex("^ +| +$"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    backend.normalizer = normalizers.Sequence([*steps, *_space_spelling(vocabulary)])
    backend.decoder = _sentencepiece_decoder(vocabulary)
    _add_marked_tokens(backend, vocabulary, vocabulary.tokens)
    _add_bos_eos(backend, vocabulary, adds_bos=False, adds_eos=True)
    return backend


_BUILDERS: dict[str, Callable[[GGUFVocabulary, Path | None], Tokenizer]] = {
    "gpt2": _byte_level_bpe,
    "llama": _sentencepiece_bpe,
    "t5": _unigram,
}


def _ids(tokens: list[str]) -> dict[str, int]:
    return {token: index for index, token in enumerate(tokens)}


def _split_merges(merges: list[str], ids: dict[str, int]) -> list[tuple[str, str]]:
    """Each merge is «left right»; a part may itself begin with a space."""
    pairs: list[tuple[str, str]] = []
    for merge in merges:
        cut = merge.find(" ", 1)
        left, right = merge[:cut], merge[cut + 1 :]
        if cut < 0 or left not in ids or right not in ids or left + right not in ids:
            raise ModelFileError(f"tokenizer.ggml.merges holds {merge!r}, which does not join two tokens into a third")
        pairs.append((left, right))
    return pairs


def _respelled(vocabulary: GGUFVocabulary) -> list[str]:
    """The tokens, with Gemma's runs of spaces spelled as its merges know them.

    Converters write a user-defined «▁▁» as two spaces. Gemma reaches these tokens by merging, in the
    order of the merges and not longest first, so they are spelled back. Other families match such
    tokens in the raw text. A file that names no architecture is judged by its missing space prefix.
    """
    family = vocabulary.architecture
    is_merged = vocabulary.add_space_prefix is False if family is None else family.startswith("gemma")
    if not is_merged:
        return vocabulary.tokens
    tokens = list(vocabulary.tokens)
    for index in vocabulary.ids_of(TokenType.USER_DEFINED):
        if tokens[index] and not tokens[index].strip(_SPACES):
            tokens[index] = SPACE * len(tokens[index])
    if len(set(tokens)) != len(tokens):
        raise ModelFileError("tokenizer.ggml.tokens holds the same run of spaces as « » and as «▁»; a token has one id")
    return tokens


def _merges_by_score(vocabulary: GGUFVocabulary, tokens: list[str], cache_dir: Path | None) -> list[tuple[str, str]]:
    """Merges between normal and user-defined pieces; control and byte tokens are never made from text."""
    if vocabulary.scores is None:
        raise ModelFileError("tokenizer.ggml.scores is missing; a llama (SentencePiece) vocabulary needs its scores")
    scores = vocabulary.scores.copy()
    scores[vocabulary.ids_of(TokenType.USER_DEFINED)] = _USER_DEFINED_SCORE
    taking_part = vocabulary.ids_of(TokenType.UNDEFINED, TokenType.NORMAL, TokenType.USER_DEFINED)
    pairs = cached_merges({tokens[index]: index for index in taking_part}, scores, cache_dir)
    spelled = np.array(tokens, dtype=object)
    return list(zip(spelled[pairs[:, 0]].tolist(), spelled[pairs[:, 1]].tolist(), strict=True))


def _adds_space(vocabulary: GGUFVocabulary) -> bool:
    return vocabulary.add_space_prefix is not False


def _space_spelling(vocabulary: GGUFVocabulary) -> list[normalizers.Normalizer]:
    """Spell spaces as «▁», one more before the text and after each special token if the file wants that.

    As in the format's reference implementation and in these models' tokenizer.json («legacy»).
    """
    prefix: list[normalizers.Normalizer] = [normalizers.Prepend(SPACE)] if _adds_space(vocabulary) else []
    return [*prefix, normalizers.Replace(" ", SPACE)]


def _sentencepiece_decoder(vocabulary: GGUFVocabulary) -> decoders.Decoder:
    strip: list[decoders.Decoder] = [decoders.Strip(" ", 1, 0)] if _adds_space(vocabulary) else []
    return decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip])


def _add_marked_tokens(backend: Tokenizer, vocabulary: GGUFVocabulary, tokens: list[str]) -> None:
    """Control, unknown and user-defined tokens are matched whole in the text; the first two are special."""
    marked = vocabulary.ids_of(TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED)
    backend.add_tokens(
        [
            AddedToken(
                tokens[index],
                normalized=False,
                special=vocabulary.token_types[index] != TokenType.USER_DEFINED,
            )
            for index in marked
            if tokens[index]
        ]
    )


def _add_bos_eos(backend: Tokenizer, vocabulary: GGUFVocabulary, *, adds_bos: bool, adds_eos: bool) -> None:
    """Put BOS before and EOS after a text as the file says, else as its model does by default."""
    bos, eos = vocabulary.bos_token_id, vocabulary.eos_token_id
    wants_bos = vocabulary.add_bos if vocabulary.add_bos is not None else adds_bos and bos is not None
    wants_eos = vocabulary.add_eos if vocabulary.add_eos is not None else adds_eos and eos is not None
    for wanted, token_id, name in ((wants_bos, bos, "bos"), (wants_eos, eos, "eos")):
        if wanted and token_id is None:
            raise ModelFileError(f"tokenizer.ggml.add_{name}_token is true but {name}_token_id is missing")
    _set_bos_eos(backend, bos if wants_bos else None, eos if wants_eos else None)


def _set_bos_eos(backend: Tokenizer, bos_token_id: int | None, eos_token_id: int | None) -> None:
    """Make `backend` put these ids around a text when asked to add special tokens; None adds nothing."""
    named = {"bos": bos_token_id, "eos": eos_token_id}
    special = [
        {"id": name, "ids": [token_id], "tokens": [backend.id_to_token(token_id)]}
        for name, token_id in named.items()
        if token_id is not None
    ]
    single = [
        *(["bos:0"] if bos_token_id is not None else []),
        "$A:0",
        *(["eos:0"] if eos_token_id is not None else []),
    ]
    backend.post_processor = processors.TemplateProcessing(
        single=single, pair=[*single, "$B:0"], special_tokens=special
    )
