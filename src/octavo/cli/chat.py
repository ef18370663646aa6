"""`octavo chat`: a conversation in the terminal."""

import dataclasses
import select
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli.failures import print_error
from octavo.cli.interrupts import interrupt_flag
from octavo.cli.options import engine_options, with_options
from octavo.cli.sampling_options import SamplingOptions
from octavo.cli.terminal import figures, loading_progress, stderr
from octavo.config import EngineConfig
from octavo.core.errors import ContextLengthError, OctavoError
from octavo.core.outputs import RequestDelta, RequestMetrics
from octavo.core.sampling_params import SamplingParams

if TYPE_CHECKING:
    from octavo.engine.llm import LLM

_COMMANDS = MappingProxyType(
    {
        "/reset": "forget the conversation",
        "/system TEXT": "start again with a system message; without TEXT: with none",
        "/stats": "tokens and times of the last answer and of this session",
        "/help": "this list",
        "/exit": "leave, as does Ctrl-D",
    }
)
_PASTE_PAUSE_S = 0.02
"""Lines that follow one another faster than this were pasted, and are one message."""

SystemMessage = Annotated[
    str | None,
    typer.Option(metavar="TEXT", rich_help_panel="Conversation", help="A system message to begin with."),
]


@with_options(
    sampling=SamplingOptions(
        defaults=MappingProxyType({"max_tokens": None}),
        notes=MappingProxyType({"max_tokens": "what the context leaves"}),
        left_out=("n", "logprobs", "prompt_logprobs"),
    ),
    config=engine_options(
        has_model_argument=True,
        left_out=("seed", "max_num_queued_reqs", "max_num_seqs", "scheduling_policy", "skip_tokenizer_init"),
    ),
)
def chat(
    system: SystemMessage = None,
    *,
    sampling: dict[str, Any],
    config: EngineConfig,
) -> None:
    """Talk to a model. Ctrl-C stops an answer, Ctrl-D leaves; /help lists what else can be typed.

    From a pipe, each line is a message, and stdout has the answers alone.
    """
    from octavo.engine.llm import LLM

    with loading_progress() as on_phase:
        llm = LLM(on_phase=on_phase, **dataclasses.asdict(config))
    with llm:
        conversation = Conversation(llm, sampling, system)
        if sys.stdin.isatty() and sys.stdout.isatty():
            _talk(conversation)
        else:
            _answer_lines(conversation)


class Conversation:
    """A model, the messages so far, and figures of the answers.

    Raises `InvalidRequestError` where the model has no chat template.
    """

    def __init__(self, llm: "LLM", sampling: dict[str, Any], system: str | None) -> None:
        self._llm = llm
        self._params = SamplingParams(**{**llm.front_end.sampling_defaults, **sampling})
        self._messages: list[dict[str, str]] = []
        self._answers: list[_Answer] = []
        self.restart(system)
        llm.front_end.render_chat(
            [{"role": "user", "content": "Hello"}]
        )  # better refused now than at the first message

    def restart(self, system: str | None) -> None:
        """Forget every message; begin with `system`, where there is one."""
        self._messages = [{"role": "system", "content": system}] if system else []

    def forget(self) -> None:
        """Forget every message but the system's."""
        self._messages = [message for message in self._messages if message["role"] == "system"]

    def answer(self, text: str) -> None:
        """Write the answer to `text` as it is generated; both join the messages, unless the request fails.

        Ctrl-C ends the answer where it is. Raises `OctavoError` where it fails, or is refused.
        """
        messages = [*self._messages, {"role": "user", "content": text}]
        prompt = self._llm.front_end.render_chat(messages)
        said, is_stopped = "", False
        answer = _Answer(start_s=time.perf_counter())
        with (
            suppress(KeyboardInterrupt),
            interrupt_flag() as is_interrupted,
            closing(self._llm.stream(prompt, self._params, add_special_tokens=False)) as deltas,  # type: ignore[type-var]
        ):
            for delta in deltas:
                for piece in delta.outputs:
                    said += piece.text
                    sys.stdout.write(piece.text)
                sys.stdout.flush()
                answer.take(delta)
                is_stopped = is_interrupted()
                if is_stopped:
                    break
        sys.stdout.write("\n")
        sys.stdout.flush()
        if answer.error is not None:
            raise OctavoError(f"the answer failed: {answer.error}")
        if is_stopped:
            stderr().print("(stopped)", style="dim")
        self._messages = [*messages, {"role": "assistant", "content": said}]
        self._answers.append(answer)

    def stats(self) -> list[str]:
        """Lines of figures; empty before the first answer."""
        if not self._answers:
            return []
        num_tokens = sum(answer.num_tokens for answer in self._answers)
        busy_s = sum(answer.metrics.e2e_s for answer in self._answers)
        last = self._answers[-1]
        figures_of_last = figures(
            last.metrics,
            num_tokens=last.num_tokens,
            num_samples=1,
            num_prompt_tokens=last.num_prompt_tokens,
            num_cached_tokens=last.num_cached_tokens,
        )
        return [
            f"last answer   {figures_of_last}",
            f"this session  {len(self._answers)} answers · {num_tokens} tokens · {busy_s:.1f} s of computing",
        ]


@dataclass(slots=True, kw_only=True)
class _Answer:
    """Figures of one answer, also of one that was stopped and so has no metrics from the engine."""

    start_s: float
    num_tokens: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    error: str | None = None
    metrics: RequestMetrics = field(default_factory=lambda: RequestMetrics(arrival_s=0.0))

    def take(self, delta: RequestDelta) -> None:
        elapsed_s = time.perf_counter() - self.start_s
        if self.num_tokens == 0:
            self.metrics.ttft_s = elapsed_s
        self.metrics.e2e_s = elapsed_s
        self.num_tokens += sum(len(piece.token_ids) for piece in delta.outputs)
        self.num_prompt_tokens, self.num_cached_tokens = delta.num_prompt_tokens, delta.num_cached_tokens
        self.error = None if delta.error is None else delta.error.message


def _talk(conversation: Conversation) -> None:
    """The conversation on a terminal."""
    with suppress(ImportError):  # a Python without it: input() still works
        import readline  # noqa: F401
    stderr().print("Ctrl-C stops an answer, Ctrl-D leaves, /help lists the commands.", style="dim")
    while True:
        try:
            text = _read_message()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            continue
        if text in ("/exit", "/quit"):
            return
        try:
            if text.startswith("/"):
                _obey(conversation, text)
            elif text:
                conversation.answer(text)
                print()
        except ContextLengthError as error:
            print_error(f"{error.message} (/reset forgets the conversation)")
        except OctavoError as error:
            print_error(error.message)


def _read_message() -> str:
    """A line, or several that were pasted at once."""
    lines = [input("› ")]
    while select.select([sys.stdin], [], [], _PASTE_PAUSE_S)[0]:
        lines.append(input())
    return "\n".join(lines).strip()


def _obey(conversation: Conversation, text: str) -> None:
    word, _, rest = text.partition(" ")
    console = stderr()
    if word == "/reset":
        conversation.forget()
        console.print("the conversation is forgotten", style="dim")
    elif word == "/system":
        conversation.restart(rest.strip() or None)
        console.print("a new conversation " + ("with this system message" if rest.strip() else "without"), style="dim")
    elif word == "/stats":
        for line in conversation.stats() or ["nothing was answered yet"]:
            console.print(line, style="dim", soft_wrap=True)
    elif word == "/help":
        for name, meaning in _COMMANDS.items():
            console.print(f"[cyan]{name:<14}[/]{meaning}")
    else:
        print_error(f"there is no command {word}; /help lists them")


def _answer_lines(conversation: Conversation) -> None:
    """Answer each line of stdin, and leave at the first error."""
    for line in sys.stdin:
        text = line.strip()
        if text in ("/exit", "/quit"):
            return
        if text.startswith("/"):
            _obey(conversation, text)
        elif text:
            conversation.answer(text)
