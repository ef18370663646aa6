"""`TextWork` without its threads."""

import asyncio
from collections.abc import Callable
from typing import Any

from octavo.engine.front_end import FrontEnd
from octavo.engine.input_processor import InputProcessor


class FakeTexts:
    """Does the work, of the front end that there is then, where it is asked for it, and notes for whom."""

    def __init__(self, front_end: Callable[[], FrontEnd], input_processor: InputProcessor) -> None:
        self.num_jobs = 0
        self.clients: list[str] = []
        self._front_end = front_end
        self._input = input_processor

    async def tokenize(self, prompt: Any, *, add_special_tokens: bool = True, client: str = "") -> list[int]:
        self.clients.append(client)
        return self._input.tokenize(prompt, add_special_tokens=add_special_tokens)

    async def list_tokens(self, text: str, *, add_special_tokens: bool = True, client: str = "") -> list[int]:
        self.clients.append(client)
        return self._input.list_tokens(text, add_special_tokens=add_special_tokens)

    async def count_tokens(self, text: str, *, add_special_tokens: bool = True, client: str = "") -> int:
        self.clients.append(client)
        return self._input.count_tokens(text, add_special_tokens=add_special_tokens)

    async def render_chat(self, messages: Any, *, client: str = "", **options: Any) -> str:
        self.clients.append(client)
        return await asyncio.to_thread(lambda: self._front_end().render_chat(messages, **options))

    async def read_chat(self, read: Callable[[Any], Any], messages: Any, *, client: str = "") -> Any:
        self.clients.append(client)
        return await asyncio.to_thread(read, messages)
