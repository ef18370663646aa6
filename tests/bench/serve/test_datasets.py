"""What is sent."""

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.bench.serve.datasets import WORDS, JsonlDataset, RandomDataset, SharedPrefixDataset
from octavo.bench.serve.request_form import PromptForm
from octavo.core.errors import ConfigError


def random_dataset(**changes: Any) -> RandomDataset:
    return RandomDataset(**{"input_len": 10, "output_len": 6, "range_ratio": 0.0, "vocab_size": 500, **changes})


def test_random_token_ids() -> None:
    prompts = random_dataset().prompts(5, PromptForm.TOKEN_IDS, 0)
    assert [prompt.num_tokens for prompt in prompts] == [10] * 5
    assert {prompt.max_tokens for prompt in prompts} == {6}
    assert all(0 <= token < 500 for prompt in prompts for token in prompt.content)
    assert prompts == random_dataset().prompts(5, PromptForm.TOKEN_IDS, 0)
    assert prompts != random_dataset().prompts(5, PromptForm.TOKEN_IDS, 1)
    assert len(random_dataset().prompts(None, PromptForm.TOKEN_IDS, 0)) == 64


def test_random_text_has_a_word_for_a_token() -> None:
    prompts = random_dataset().prompts(5, PromptForm.TEXT, 0)
    for prompt in prompts:
        assert isinstance(prompt.content, str)
        assert prompt.num_tokens is None
        assert len(prompt.content.split()) == 10
        assert set(prompt.content.split()) <= set(WORDS)
    assert len({str(prompt.content) for prompt in prompts}) == 5


def test_lengths_vary() -> None:
    prompts = random_dataset(range_ratio=0.5).prompts(40, PromptForm.TOKEN_IDS, 0)
    lengths = {len(prompt.content) for prompt in prompts}
    assert len(lengths) > 3
    assert lengths <= set(range(5, 16))


@pytest.mark.parametrize("form", list(PromptForm))
def test_prompts_share_as_many_beginnings_as_asked_for(form: PromptForm) -> None:
    dataset = SharedPrefixDataset(rest=random_dataset(), prefix_len=20, num_prefixes=3)
    prompts = dataset.prompts(9, form, 0)
    parts = [prompt.content if form is PromptForm.TOKEN_IDS else str(prompt.content).split() for prompt in prompts]
    assert {len(tokens) for tokens in parts} == {30}
    assert len({tuple(tokens[:20]) for tokens in parts}) == 3
    assert parts[0][:20] == parts[3][:20] == parts[6][:20]
    assert len({tuple(tokens[20:]) for tokens in parts}) == 9


def test_a_prefix_differs_from_the_prompts_of_the_same_seed() -> None:
    dataset = SharedPrefixDataset(rest=random_dataset(), prefix_len=10, num_prefixes=1)
    [prompt] = dataset.prompts(1, PromptForm.TOKEN_IDS, 0)
    assert prompt.content[:10] != prompt.content[10:]


def jsonl(tmp_path: Path, *lines: Any) -> JsonlDataset:
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n\n")
    return JsonlDataset(file=file, output_len=9)


def test_lines_of_a_file(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    dataset = jsonl(tmp_path, {"prompt": "Höllo"}, {"messages": messages, "max_tokens": 3}, {"prompt": [1, 2]})
    prompts = dataset.prompts(None, PromptForm.TEXT, 0)
    assert [prompt.content for prompt in prompts] == ["Höllo", messages, [1, 2]]
    assert [prompt.max_tokens for prompt in prompts] == [9, 3, 9]
    assert [prompt.num_tokens for prompt in prompts] == [None, None, 2]
    assert dataset.prompts(2, PromptForm.TEXT, 0) == prompts[:2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 of .* is not a request"),
        ("[]", "is not a request"),
        ({"prompt": 5}, "is not a request"),
        ({"prompt": "a", "max_token": 5}, "unknown field `max_token`"),
        ({}, "needs either prompt or messages"),
        ({"prompt": ""}, "needs either prompt or messages"),
        ({"prompt": "a", "messages": [{"role": "user"}]}, "needs either prompt or messages"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens 0; write at least 1"),
    ],
)
def test_lines_that_are_wrong(tmp_path: Path, line: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        jsonl(tmp_path, {"prompt": "fine"}, line).prompts(None, PromptForm.TEXT, 0)


def test_files_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        JsonlDataset(file=tmp_path / "none", output_len=1).prompts(None, PromptForm.TEXT, 0)
    with pytest.raises(ConfigError, match="has no lines"):
        jsonl(tmp_path, "").prompts(None, PromptForm.TEXT, 0)
    with pytest.raises(ConfigError, match="num_prompts=3 is more than the 1 lines"):
        jsonl(tmp_path, {"prompt": "a"}).prompts(3, PromptForm.TEXT, 0)
    (tmp_path / "latin").write_bytes(b'{"prompt": "\xff"}')
    with pytest.raises(ConfigError, match="cannot be read"):
        JsonlDataset(file=tmp_path / "latin", output_len=1).prompts(None, PromptForm.TEXT, 0)
