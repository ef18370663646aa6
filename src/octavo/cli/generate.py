"""`octavo generate`: one prompt, its answer on stdout as it is generated."""

import dataclasses
import json
import signal
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from octavo.cli.failures import EXIT_FAILURE, print_error
from octavo.cli.interrupts import exit_on
from octavo.cli.options import engine_options, with_options
from octavo.cli.sampling_options import SamplingOptions
from octavo.cli.terminal import figures, loading_progress, stderr
from octavo.config import EngineConfig
from octavo.core.errors import ConfigError, InvalidRequestError
from octavo.core.outputs import RequestDelta
from octavo.core.request import FinishReason
from octavo.core.sampling_params import SamplingParams

if TYPE_CHECKING:
    from octavo.engine.llm import LLM

DEFAULT_MAX_TOKENS = 256
_PANEL = "Prompt and answer"


@with_options(
    sampling=SamplingOptions(
        defaults=MappingProxyType({"max_tokens": None}),
        notes=MappingProxyType({"max_tokens": f"{DEFAULT_MAX_TOKENS}; with --chat what the context leaves"}),
    ),
    config=engine_options(left_out=("seed", "max_num_queued_reqs", "scheduling_policy")),
)
def generate(
    text: Annotated[str | None, typer.Argument(metavar="PROMPT", show_default=False, hidden=True)] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_PANEL, metavar="TEXT", help="What to answer or go on with; -: read it from stdin."
        ),
    ] = None,
    prompt_token_ids: Annotated[
        str | None, typer.Option(rich_help_panel=_PANEL, metavar="IDS", help="The prompt as token ids, «1 2 3».")
    ] = None,
    chat: Annotated[
        bool,
        typer.Option("--chat", rich_help_panel=_PANEL, help="Put the prompt as a message, through the chat template."),
    ] = False,
    system: Annotated[
        str | None, typer.Option(rich_help_panel=_PANEL, metavar="TEXT", help="A system message; with --chat.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", rich_help_panel=_PANEL, help="Print the whole output as JSON, at the end.")
    ] = False,
    *,
    sampling: dict[str, Any],
    config: EngineConfig,
) -> None:
    """Answer one prompt. The answer goes to stdout as it is generated, everything else to stderr."""
    messages = _messages(chat, system)
    given = _one_prompt(text, prompt, prompt_token_ids)
    if messages is not None and not isinstance(given, str):
        raise ConfigError("--chat takes text, and the prompt is token ids; give --prompt", param="chat")
    for name in ("logprobs", "prompt_logprobs"):
        if sampling.get(name) is not None and not as_json:
            raise ConfigError(f"--{name.replace('_', '-')} has no place in text; add --json", param=name)
    from octavo.engine.llm import LLM

    with loading_progress() as on_phase:
        llm = LLM(on_phase=on_phase, **dataclasses.asdict(config))
    with llm, exit_on(signal.SIGINT):
        token_ids = _token_ids(llm, given, messages)
        limit = sampling["max_tokens"]
        if limit is None and not chat:
            limit = max(1, min(DEFAULT_MAX_TOKENS, llm.info.max_model_len - len(token_ids)))
        params = SamplingParams(**{**llm.front_end.sampling_defaults, **sampling, "max_tokens": limit})
        if as_json:
            _print_json(llm, given, token_ids, params)
        else:
            _stream(llm, token_ids, params)


def _one_prompt(text: str | None, prompt: str | None, ids: str | None) -> str | list[int]:
    """The prompt, given in exactly one of three ways. Raises `ConfigError`."""
    ways = [way for way in (text, prompt, ids) if way is not None]
    if len(ways) != 1:
        got = "two are given" if ways else "none is given"
        raise ConfigError(
            f"one prompt is needed, {got}; use --prompt TEXT, --prompt - (stdin) or --prompt-token-ids «1 2 3»",
            param="prompt",
        )
    if ids is not None:
        words = ids.replace(",", " ").split()
        if not all(word.isdecimal() for word in words):
            raise ConfigError(f"prompt_token_ids={ids!r} is not a list of token ids; write «1 2 3»", param="prompt")
        return [int(word) for word in words]
    return sys.stdin.read() if ways[0] == "-" else ways[0]


def _messages(is_chat: bool, system: str | None) -> list[dict[str, str]] | None:
    """The messages before the prompt; None without a chat."""
    if not is_chat:
        if system is not None:
            raise ConfigError("--system needs --chat", param="system")
        return None
    return [] if system is None else [{"role": "system", "content": system}]


def _token_ids(llm: "LLM", prompt: str | list[int], messages: list[dict[str, str]] | None) -> list[int]:
    """The prompt, after the messages before it where there is a chat. Raises `InvalidRequestError`."""
    if isinstance(prompt, list):
        return prompt
    if llm.tokenizer is None:
        raise InvalidRequestError(
            "skip_tokenizer_init leaves no tokenizer for text; use --prompt-token-ids", param="prompt"
        )
    if messages is not None:
        prompt = llm.front_end.render_chat([*messages, {"role": "user", "content": prompt}])
    ids: list[int] = llm.tokenizer.encode(prompt, add_special_tokens=messages is None)  # a chat template writes them
    return ids


def _stream(llm: "LLM", token_ids: list[int], params: SamplingParams) -> None:
    """Write the first sample as it comes, and the others after it. A failed request ends the command."""
    waiting = [""] * params.n
    num_tokens, last, reasons = 0, None, set()
    is_text = llm.tokenizer is not None
    for delta in llm.stream(token_ids, params):
        for piece in delta.outputs:
            num_tokens += len(piece.token_ids)
            text = piece.text if is_text else "".join(f"{token} " for token in piece.token_ids)
            if piece.index == 0:
                sys.stdout.write(text)
                sys.stdout.flush()
            else:
                waiting[piece.index] += text
            if piece.finish_reason is not None:
                reasons.add(piece.finish_reason)
        last = delta
    for text in waiting[1:]:
        sys.stdout.write(f"\n{text}")
    sys.stdout.write("\n")
    sys.stdout.flush()
    assert last is not None, "a request ends with a delta"
    if last.error is not None:
        print_error(last.error.message)
        raise typer.Exit(EXIT_FAILURE)
    if FinishReason.LENGTH in reasons:
        limit = f"at {params.max_tokens} tokens (--max-tokens)" if params.max_tokens else "by the end of the context"
        stderr().print(f"cut off {limit}", style="yellow", soft_wrap=True)
    if sys.stderr.isatty():
        _print_figures(last, num_tokens, params.n)


def _print_figures(last: RequestDelta, num_tokens: int, num_samples: int) -> None:
    assert last.metrics is not None, "the last delta has the metrics"
    line = figures(
        last.metrics,
        num_tokens=num_tokens,
        num_samples=num_samples,
        num_prompt_tokens=last.num_prompt_tokens,
        num_cached_tokens=last.num_cached_tokens,
    )
    stderr().print(line, style="dim", soft_wrap=True)


def _print_json(llm: "LLM", prompt: str | list[int], token_ids: list[int], params: SamplingParams) -> None:
    [output] = llm.generate(token_ids, params)
    output.prompt = prompt if isinstance(prompt, str) else None
    print(json.dumps(msgspec.to_builtins(output), ensure_ascii=False, indent=2))
    if output.error is not None:
        print_error(output.error)
        raise typer.Exit(EXIT_FAILURE)
