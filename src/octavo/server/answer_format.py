"""How a model's answers are read: settled once, from its chat template, its tokenizer and the options."""

from collections.abc import Mapping
from dataclasses import dataclass

from octavo.config.server_config import ServerConfig
from octavo.server.answer_parser import AnswerParser
from octavo.server.reasoning import CLOSING, OPENING, ReasoningParser
from octavo.server.tools.answer_grammar import forced_answer, free_answer
from octavo.server.tools.format import ToolFormat
from octavo.server.tools.grammar import CallRules
from octavo.server.tools.registry import find_format
from octavo.server.tools.tool_use import ToolUse
from octavo.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFormat:
    """The model's way to write tool calls, and whether it reasons between `<think>` and `</think>`."""

    tools: ToolFormat
    has_reasoning: bool
    special_token_ids: Mapping[str, int]
    """Markers that are special tokens, which detokenising would skip."""

    def is_reasoning_open(self, prompt: str) -> bool:
        """Whether an answer to `prompt` begins within its reasoning."""
        return self.has_reasoning and prompt.rstrip().endswith(OPENING)

    def parser(self, use: ToolUse | None, *, is_reasoning_open: bool, shows_reasoning: bool) -> AnswerParser:
        """A parser of one sample."""
        return AnswerParser(
            reasoning=ReasoningParser(is_open=is_reasoning_open) if self.has_reasoning else None,
            tools=None if use is None else self.tools.parser(is_forced=bool(use.forced)),
            shows_reasoning=shows_reasoning,
            is_parallel=use is None or use.is_parallel,
        )

    def shown_special_token_ids(self, use: ToolUse | None) -> tuple[int, ...]:
        """Special tokens whose text the parser must see."""
        markers: tuple[str, ...] = (OPENING, CLOSING) if self.has_reasoning else ()
        if use is not None:
            markers += self.tools.markers
        return tuple(self.special_token_ids[text] for text in markers if text in self.special_token_ids)

    def call_grammar(self, use: ToolUse | None, *, is_reasoning_open: bool) -> str | None:
        """The Lark grammar of an answer that has to be a call, or may be one of a strict function; None for any answer."""
        if use is None or not (use.forced or use.has_strict):
            return None
        rules = CallRules(functions=use.held(), is_parallel=use.is_parallel, special_token_ids=self.special_token_ids)
        if use.forced:
            return forced_answer(self.tools, rules, is_reasoning_open=is_reasoning_open)
        return free_answer(self.tools, rules, has_reasoning=self.has_reasoning, is_reasoning_open=is_reasoning_open)


def read_answer_format(config: ServerConfig, tokenizer: Tokenizer, template_source: str) -> AnswerFormat:
    """The format that the options name; where they say `auto`, the one that template and tokenizer show."""
    tools = find_format(config.tool_call_parser, template_source)
    knows_reasoning = any(
        text in template_source or tokenizer.token_to_id(text) is not None for text in (OPENING, CLOSING)
    )
    found = {text: tokenizer.token_to_id(text) for text in (*tools.markers, OPENING, CLOSING)}
    return AnswerFormat(
        tools=tools,
        has_reasoning=config.reasoning_parser == "think" or (config.reasoning_parser == "auto" and knows_reasoning),
        special_token_ids={
            text: token_id
            for text, token_id in found.items()
            if token_id is not None and token_id in tokenizer.special_token_ids
        },
    )
