"""How a byte-level BPE cuts text into words before it merges, by the name GGUF files give (`tokenizer.ggml.pre`).

Each entry rebuilds what the family's own tokenizer.json holds: normaliser, splits, and whether
a word that is a token skips the merges. A wrong split changes tokens without any error, so an
unknown name is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Punctuation, Sequence, Split

from octavo.core.errors import UnsupportedModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class BytePairStyle:
    """What distinguishes one byte-level BPE family from another."""

    pre_tokenizer: Callable[[], PreTokenizer]
    ignores_merges: bool = False
    """A whole word that is in the vocabulary is taken as it is."""
    is_nfc: bool = False
    """Text is brought into Unicode normal form C first."""
    adds_bos: bool = False
    """Where the file does not say."""


_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_WORD_TAIL}"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_WORD_TAIL}"
_QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_SLASH_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*"
    rf"|\p{{N}}|{_SLASH_TAIL}"
)
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_CONTRACTIONS}?|\p{{N}}{{1,3}}|{_SLASH_TAIL}"
)
# Greek and letterlike characters are escaped where Unicode normalisation would turn them into others.
_DEEPSEEK_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿ\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481"
    "Ҋ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚ\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57"
    "\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3"
    "\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124"
    "\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184"
    "Ⰰ-ⱻⱾ-ⳤⳫ-ⳮⲳⳲꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿ\ufb00-\ufb06\ufb13-\ufb17Ａ-Ｚａ-ｚ"
    "𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
_CJK = "[一-龥ࠀ-一가-퟿]+"
_DEEPSEEK_V3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"


def _splits(*patterns: str) -> Callable[[], PreTokenizer]:
    """Cut at each pattern in turn, every match a word of its own; then spell bytes as letters."""

    def build() -> PreTokenizer:
        cuts: list[PreTokenizer] = [Split(Regex(pattern), "isolated") for pattern in patterns]
        return Sequence([*cuts, ByteLevel(add_prefix_space=False, use_regex=False)])

    return build


def _gpt2() -> PreTokenizer:
    return ByteLevel(add_prefix_space=False, use_regex=True)


def _single_digits_then_gpt2() -> PreTokenizer:
    return Sequence([Digits(individual_digits=True), _gpt2()])


def _falcon() -> PreTokenizer:
    # Digits are cut after bytes are spelled as letters, as Falcon's own tokenizer.json does.
    digits = [Digits(individual_digits=False), Split(Regex("[0-9][0-9][0-9]"), "isolated")]
    return Sequence([Punctuation("contiguous"), _gpt2(), *digits])


_PLAIN = BytePairStyle(pre_tokenizer=_gpt2)
_GPT2_NFC = BytePairStyle(pre_tokenizer=_gpt2, is_nfc=True)
_SINGLE_DIGITS = BytePairStyle(pre_tokenizer=_single_digits_then_gpt2)
_LLAMA3_STYLE = BytePairStyle(pre_tokenizer=_splits(_LLAMA3), ignores_merges=True, adds_bos=True)
_CL100K_STYLE = BytePairStyle(pre_tokenizer=_splits(_LLAMA3))
_QWEN2_STYLE = BytePairStyle(pre_tokenizer=_splits(_QWEN2))
_GPT4O_STYLE = BytePairStyle(pre_tokenizer=_splits(_GPT4O), ignores_merges=True)
_BLOOM_STYLE = BytePairStyle(pre_tokenizer=_splits(_BLOOM))

_STYLES: dict[str, BytePairStyle] = {
    "default": BytePairStyle(pre_tokenizer=_splits(r"[\p{P}$+<=>^~|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
    "gpt-2": _PLAIN,
    "phi-2": _PLAIN,
    "exaone4": _PLAIN,
    "mpt": _GPT2_NFC,
    "olmo": _GPT2_NFC,
    "smollm": _SINGLE_DIGITS,
    "starcoder": _SINGLE_DIGITS,
    "refact": _SINGLE_DIGITS,
    "codeshell": _SINGLE_DIGITS,
    "exaone": _SINGLE_DIGITS,
    "minerva-7b": _SINGLE_DIGITS,
    "command-r": BytePairStyle(pre_tokenizer=_single_digits_then_gpt2, is_nfc=True),
    "falcon": BytePairStyle(pre_tokenizer=_falcon),
    "llama3": _LLAMA3_STYLE,
    "llama-v3": _LLAMA3_STYLE,
    "llama-bpe": _LLAMA3_STYLE,
    "falcon3": _LLAMA3_STYLE,
    "falcon-h1": _LLAMA3_STYLE,
    "pixtral": _LLAMA3_STYLE,
    "lfm2": _LLAMA3_STYLE,
    "dbrx": _CL100K_STYLE,
    "smaug-bpe": _CL100K_STYLE,
    "chatglm-bpe": _CL100K_STYLE,
    "glm4": _CL100K_STYLE,
    "qwen2": BytePairStyle(pre_tokenizer=_splits(_QWEN2), is_nfc=True),
    "qwen35": BytePairStyle(pre_tokenizer=_splits(_QWEN35), is_nfc=True),
    "deepseek-r1-qwen": _QWEN2_STYLE,
    "stablelm2": _QWEN2_STYLE,
    "megrez": _QWEN2_STYLE,
    "tekken": BytePairStyle(pre_tokenizer=_splits(_TEKKEN), ignores_merges=True, adds_bos=True),
    "gpt-4o": _GPT4O_STYLE,
    "llama4": _GPT4O_STYLE,
    "deepseek-llm": BytePairStyle(
        pre_tokenizer=_splits(
            r"[\r\n]", rf"\s?[{_DEEPSEEK_LETTERS}]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", _CJK, r"\p{N}+"
        )
    ),
    "deepseek-coder": BytePairStyle(pre_tokenizer=_splits(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, r"\p{N}")),
    "deepseek-v3": BytePairStyle(pre_tokenizer=_splits(r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", _DEEPSEEK_V3)),
    "bloom": _BLOOM_STYLE,
    "gpt3-finnish": _BLOOM_STYLE,
    "poro-chat": _BLOOM_STYLE,
}


def byte_pair_style(name: str) -> BytePairStyle:
    """The style GGUF calls `name`. Raises `UnsupportedModelError` naming the known ones."""
    style = _STYLES.get(name)
    if style is None:
        raise UnsupportedModelError(
            f"tokenizer.ggml.pre={name!r} is not a pre-tokenizer Octavo knows; known are {', '.join(sorted(_STYLES))}; "
            "use the model's original files with tokenizer.json"
        )
    return style
