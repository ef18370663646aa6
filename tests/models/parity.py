"""What parity with `transformers` means: the same tokens and, within rounding, the same logits."""

from typing import Any

import torch

from octavo.core.outputs import Logprob, RequestOutput

GAP = 1e-4
"""Where the reference's own best two logits are this close, either may be taken."""
TOLERANCE = 1e-4
"""Of the spread (standard deviation) of the reference's logits."""


@torch.inference_mode()
def reference_logits(model: Any, token_ids: list[int]) -> torch.Tensor:
    """(tokens, vocabulary) in fp32."""
    logits: torch.Tensor = model(torch.tensor([token_ids])).logits[0]
    return logits.float()


def assert_greedy_equal(output: RequestOutput, logits: torch.Tensor) -> None:
    """Each sampled token is the reference's largest logit after the tokens before it."""
    first = len(output.prompt_token_ids) - 1
    for index, token in enumerate(output.outputs[0].token_ids):
        row = logits[first + index]
        best = int(row.argmax())
        if token != best:
            gap = float(row[best] - row[token])
            assert gap < GAP, f"token {index} is {token}; the reference takes {best} by {gap}"


def assert_logprobs_close(found: list[dict[int, Logprob] | None], logits: torch.Tensor) -> None:
    """Every reported log-probability of position i + 1 is the reference's after token i."""
    for position, entries in enumerate(found):
        if entries is None:
            continue
        row = logits[position - 1]
        expected = row.log_softmax(-1)
        bound = TOLERANCE * float(row.std())
        for token, entry in entries.items():
            error = abs(entry.logprob - float(expected[token]))
            assert error < bound, f"position {position}, token {token}: off by {error}, allowed {bound}"
