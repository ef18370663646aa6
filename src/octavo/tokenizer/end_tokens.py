"""Which special tokens end an answer, by their text, where a model's files name only one."""

from collections.abc import Mapping

_END_TEXTS = frozenset(
    (
        "</s>",
        "<eos>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<end_of_turn>",
        "<end_of_utterance>",
        "<EOT>",
        "<｜end▁of▁sentence｜>",
    )
)


def end_of_turn_ids(special_tokens: Mapping[str, int]) -> frozenset[int]:
    """Ids of the end-of-text, end-of-turn and end-of-message tokens among `special_tokens` (text → id).

    Where «<|return|>» and «<|call|>» exist, «<|end|>» only separates an answer's messages.
    """
    ends = {text: token_id for text, token_id in special_tokens.items() if text in _END_TEXTS}
    if "<|return|>" in ends and "<|call|>" in ends:
        ends.pop("<|end|>", None)
    return frozenset(ends.values())
