"""Two tools, the calls of them that a model writes, and chat's answers and streams put into one form."""

from typing import Any

from server.conftest import InProcess
from server.fake_engine import FakeEngine
from server.fake_model import EOS, FakeFrontEnd

from octavo.tokenizer.chat_template import ChatTemplate

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
TIME = {"type": "function", "function": {"name": "get_time"}}
ARGUMENTS = '{"place": "Köln 🌧️ } \\"日本\\"", "days": [1, {"x": null}]}'
ONE_CALL = f'<tool_call>\n{{"name": "get_weather", "arguments": {ARGUMENTS}}}\n</tool_call>'
TWO_CALLS = f'{ONE_CALL}\n<tool_call>\n{{"name": "get_time", "arguments": {{}}}}\n</tool_call>'


def make_engine(template: str, max_model_len: int = 8192) -> FakeEngine:
    """A model that has that chat template."""
    engine = FakeEngine(max_model_len=max_model_len)
    engine.front_end = FakeFrontEnd(engine.tokenizer, ChatTemplate(template, "<s>", "</s>"), frozenset((EOS,)), {})
    return engine


def serving(template: str, reply: str = "Hello", **options: Any) -> InProcess:
    """A server of a model that has that chat template and always says `reply`."""
    engine = make_engine(template)
    engine.reply = lambda prompt, sample: reply
    return InProcess(engine, **options)


def put_together(chunks: list[dict[str, Any]], index: int = 0) -> dict[str, Any]:
    """The message that a client makes of a choice's deltas, and how it ended; checks each delta's form."""
    message: dict[str, Any] = {"content": "", "calls": []}
    mine = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    assert mine[0]["delta"]["role"] == "assistant"
    assert all("role" not in choice["delta"] for choice in mine[1:])
    assert [choice["finish_reason"] is None for choice in mine] == [True] * (len(mine) - 1) + [False]
    for choice in mine:
        delta = choice["delta"]
        message["content"] += delta.get("content") or ""
        assert delta.get("reasoning") == delta.get("reasoning_content")
        if "reasoning" in delta:
            message["reasoning"] = message.get("reasoning", "") + delta["reasoning"]
        for call in delta.get("tool_calls", ()):
            if call["index"] == len(message["calls"]):
                assert call.keys() == {"index", "id", "type", "function"} and call["type"] == "function"
                message["calls"].append({"id": call["id"], "name": call["function"]["name"], "arguments": ""})
            else:
                assert call.keys() == {"index", "function"} and call["function"].keys() == {"arguments"}
            assert call["index"] == len(message["calls"]) - 1
            message["calls"][-1]["arguments"] += call["function"]["arguments"]
    return {**message, "finish_reason": mine[-1]["finish_reason"]}


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "calls": [(call["name"], call["arguments"]) for call in message["calls"]]}


def as_put_together(choice: dict[str, Any]) -> dict[str, Any]:
    """A whole answer's choice in the same form."""
    message = choice["message"]
    calls = [{"id": call["id"], **call["function"]} for call in message.get("tool_calls", ())]
    made = {"content": message["content"] or "", "calls": calls, "finish_reason": choice["finish_reason"]}
    if "reasoning" in message:
        made["reasoning"] = message["reasoning"]
    return made
