"""What is done with texts before the engine sees them: in threads, off the event loop, a turn for each client in turn."""

from collections.abc import Callable, Mapping, Sequence, Sized
from functools import partial
from typing import Any, TypeVar

from octavo.core.messages import EngineRequest
from octavo.core.sampling_params import SamplingParams
from octavo.engine.front_end import FrontEnd
from octavo.engine.info import EngineInfo
from octavo.engine.input_processor import Prompt
from octavo.engine.turn_threads import TurnThreads

SHORT_TEXT_THREADS = 2
LONG_TEXT_THREADS = 1
"""Beside those: whoever has a short text never waits behind long ones."""
LONG_TEXT_LEN = 1 << 17
"""Characters, or token ids, from which on a text is long."""
_PART_LEN = 16
"""What each message, field and item of a conversation counts as, beside its characters."""

Result = TypeVar("Result")


class TextWork:
    """Tokenises, renders and checks. `check_open` is asked before each piece of work, and raises where none is done
    any more. Used from one event loop.
    """

    def __init__(self, front_end: FrontEnd, info: EngineInfo, check_open: Callable[[], None]) -> None:
        self._front_end = front_end
        self._input = front_end.input_processor(info)
        self._check_open = check_open
        self._short = TurnThreads(SHORT_TEXT_THREADS, "octavo-texts")
        self._long = TurnThreads(LONG_TEXT_THREADS, "octavo-long-texts")

    @property
    def num_jobs(self) -> int:
        """Those that run or wait for a thread."""
        return self._short.num_jobs + self._long.num_jobs

    async def tokenize(self, prompt: Prompt, *, add_special_tokens: bool = True, client: str = "") -> list[int]:
        """The prompt's token ids. Raises `InvalidRequestError` or `ContextLengthError`."""
        work = partial(self._input.tokenize, prompt, add_special_tokens=add_special_tokens)
        return await self._run(client, work, is_long=_is_long(prompt))

    async def list_tokens(self, text: str, *, add_special_tokens: bool = True, client: str = "") -> list[int]:
        """As `tokenize`, of a text that may be longer than any prompt."""
        work = partial(self._input.list_tokens, text, add_special_tokens=add_special_tokens)
        return await self._run(client, work, is_long=_is_long(text))

    async def count_tokens(self, text: str, *, add_special_tokens: bool = True, client: str = "") -> int:
        """How many they are."""
        work = partial(self._input.count_tokens, text, add_special_tokens=add_special_tokens)
        return await self._run(client, work, is_long=_is_long(text))

    async def render_chat(self, messages: Any, *, client: str = "", **options: Any) -> str:
        """The conversation as a prompt. Raises `InvalidRequestError`."""
        work = partial(self._front_end.render_chat, messages, **options)
        return await self._run(client, work, is_long=_is_long_conversation([messages, *options.values()]))

    async def read_chat(self, read: Callable[[Any], Result], messages: Any, *, client: str = "") -> Result:
        """`read(messages)`, for what walks over all of a conversation. Raises what it raises."""
        result: Result = await self._run(client, partial(read, messages), is_long=_is_long_conversation(messages))
        return result

    async def process(
        self, request_id: str, prompt_token_ids: list[int], params: SamplingParams, *, client: str = "", **options: Any
    ) -> EngineRequest:
        """As `InputProcessor.process`, and raises as it does."""
        work = partial(self._input.process, request_id, prompt_token_ids, params, client=client, **options)
        return await self._run(client, work, is_long=_is_long(prompt_token_ids))

    def close(self) -> None:
        """Who waits for a thread is told that there will be none. Idempotent."""
        self._short.close()
        self._long.close()

    async def _run(self, client: str, work: Callable[[], Any], *, is_long: bool) -> Any:
        """Its result, from a thread. Who waits for one while the engine ends is told so."""

        def unless_closed() -> Any:
            self._check_open()
            return work()

        return await (self._long if is_long else self._short).run(client, unless_closed)


def _is_long(prompt: Prompt) -> bool:
    return isinstance(prompt, Sequence) and len(prompt) >= LONG_TEXT_LEN


def _is_long_conversation(conversation: Any) -> bool:
    """Whether all its parts are as long as a long text; looks at no more of them than decides that."""
    room = LONG_TEXT_LEN
    parts = [conversation]
    while parts and room > 0:
        part = parts.pop()
        room -= _PART_LEN + (len(part) if isinstance(part, Sized) else 0)
        if room > 0 and isinstance(part, Mapping):
            parts.extend(part.values())
        elif room > 0 and isinstance(part, (list, tuple)):
            parts.extend(part)
    return room <= 0
