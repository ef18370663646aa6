"""Engines whose model follows a script, for clients that are not ours."""

import pydantic
from server import tool_templates
from server.fake_engine import REPLY, FakeEngine
from server.tool_calls import TWO_CALLS, make_engine


class Place(pydantic.BaseModel):
    name: str
    days: list[int]


PLACE = '{"name": "Köln", "days": [1, 2]}'
"""A place as the model writes it."""


def answering_engine() -> FakeEngine:
    """Calls where it has tools, speaks when it has a result, writes a place where that is wanted."""
    engine = make_engine(tool_templates.QWEN3)

    def reply(prompt: list[int], sample: int) -> str:
        text = bytes(prompt).decode()
        if "<tool_response>" in text:
            return "<think>Hm</think>Rain."
        if "<tools>" in text:
            return f"<think>\nHm\n</think>\n\n{TWO_CALLS}"
        return PLACE if "Place?" in text else REPLY

    engine.reply = reply
    return engine


def failing_engine() -> FakeEngine:
    """Each request fails at its third token."""
    engine = FakeEngine()
    engine.fails_after = 3
    return engine
