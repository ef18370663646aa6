"""Tool calls and reasoning through /v1/chat/completions, to the letter."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server import tool_templates
from server.conftest import MODEL, InProcess, chat_body, prompt_text
from server.envelopes import check_envelope
from server.paths import CHAT
from server.tool_calls import (
    ARGUMENTS,
    ONE_CALL,
    TIME,
    TWO_CALLS,
    WEATHER,
    as_put_together,
    make_engine,
    put_together,
    serving,
    without_ids,
)

from octavo.core.structured_outputs import MAX_GRAMMAR_CHARS

CONVERSATION: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "abcdefghi", "type": "function", "function": {"name": "get_weather", "arguments": '{"place": "Köln"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "abcdefghi", "content": "Rain"},
]  # fmt: skip


def test_an_answer_that_calls() -> None:
    server = serving(tool_templates.QWEN3, TWO_CALLS)
    [choice] = server.chat("Hi", tools=[WEATHER, TIME])["choices"]
    ids = [call.pop("id") for call in choice["message"]["tool_calls"]]
    assert len(set(ids)) == 2 and all(each.startswith("call_") for each in ids)
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {"type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}},
            {"type": "function", "function": {"name": "get_time", "arguments": "{}"}},
        ],
    }
    assert choice["finish_reason"] == "tool_calls"
    assert "# " not in prompt_text(server) and json.dumps(WEATHER, ensure_ascii=False) in prompt_text(server)


def test_a_streamed_call_begins_with_its_name_and_goes_on_as_it_is_written() -> None:
    server = serving(tool_templates.QWEN3, TWO_CALLS)
    chunks = server.stream(CHAT, chat_body("Hi", tools=[WEATHER, TIME]))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": None}
    assert deltas[1].keys() == {"tool_calls"}
    [begin] = deltas[1]["tool_calls"]
    assert begin["function"] == {"name": "get_weather", "arguments": ""} and begin["index"] == 0
    fragments = [call["function"]["arguments"] for delta in deltas[2:-1] for call in delta["tool_calls"]]
    assert "".join(fragments) == ARGUMENTS + "{}"
    assert len(fragments) > len(ARGUMENTS)
    assert put_together(chunks)["finish_reason"] == "tool_calls"


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    data=st.data(),
    arguments=st.dictionaries(
        st.text(max_size=4), st.text(max_size=8) | st.lists(st.integers(), max_size=2), max_size=3
    ),
    before=st.sampled_from(
        ("", "Let me see. 👋🏽\n\n", "<think>\nHm, 日本.\n</think>\n\n", "<think>Hm</think>Well <tool_")
    ),
    after=st.sampled_from(("", "\n", " done", "\n<tool_call>\nnothing")),
    num_calls=st.integers(0, 3),
)
def test_streamed_is_whole(
    data: st.DataObject, arguments: dict[str, Any], before: str, after: str, num_calls: int
) -> None:
    text = json.dumps(arguments, ensure_ascii=data.draw(st.booleans()))
    call = f'<tool_call>\n{{"name": "f", "arguments": {text}}}\n</tool_call>'
    server = serving(tool_templates.QWEN3, before + "\n".join([call] * num_calls) + after)
    server.engine.tokens_per_step = data.draw(st.integers(1, 7))
    max_tokens = data.draw(st.sampled_from((None, 5, 20, 40)))
    body = chat_body("Hi", tools=[TIME], n=2, max_tokens=max_tokens, logprobs=data.draw(st.booleans()))
    whole = server.post(CHAT, body).json()["choices"]
    chunks = server.stream(CHAT, body)
    for index in range(2):
        assert without_ids(put_together(chunks, index)) == without_ids(as_put_together(whole[index]))


def test_an_answer_cut_off_is_length_and_keeps_the_call() -> None:
    server = serving(tool_templates.QWEN3, ONE_CALL)
    max_tokens = ONE_CALL.index(ARGUMENTS) + 7
    [choice] = server.chat("Hi", tools=[WEATHER], max_tokens=max_tokens)["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == ARGUMENTS[:7]
    [choice] = server.chat("Hi", tools=[WEATHER], max_tokens=4)["choices"]
    assert choice["message"]["content"] == "<too" and "tool_calls" not in choice["message"]


@pytest.mark.parametrize("num_calls", [0, 1])
def test_what_is_cut_off_of_a_call_that_had_to_be_is_no_text(num_calls: int) -> None:
    calls = ['{"name": "get_time", "arguments": {}}', '{"name": "get_weather", "arguments": {}}']
    text = '{"tool_calls": [' + ", ".join(calls)
    server = serving(tool_templates.PLAIN, text)
    max_tokens = len(text) - len(calls[1]) + 7 if num_calls else 12
    body = chat_body("Hi", tools=[WEATHER, TIME], tool_choice="required", max_tokens=max_tokens)
    [choice] = server.post(CHAT, body).json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "length")
    assert len(choice["message"].get("tool_calls", ())) == num_calls
    assert without_ids(put_together(server.stream(CHAT, body))) == without_ids(as_put_together(choice))
    [free] = server.post(CHAT, {**body, "tool_choice": "auto"}).json()["choices"]
    assert free["message"]["content"] == (None if num_calls else text[:12])
    tools = [{"name": "get_time", "input_schema": {}}, {"name": "get_weather", "input_schema": {}}]
    message = server.post(
        "/v1/messages",
        {
            "model": MODEL,
            "messages": body["messages"],
            "max_tokens": max_tokens,
            "tools": tools,
            "tool_choice": {"type": "any"},
        },
    ).json()
    assert [block["type"] for block in message["content"]] == ["tool_use"] * num_calls
    flat = [{"type": "function", **tool["function"]} for tool in (WEATHER, TIME)]
    asked = {"model": MODEL, "input": "Hi", "max_output_tokens": max_tokens, "tools": flat, "tool_choice": "required"}
    response = server.post("/v1/responses", asked).json()
    shown = [item for item in response["output"] if item["type"] == "message"]
    assert all(item["content"][0]["text"] == "" for item in shown) and len(response["output"]) == max(1, num_calls)


def test_one_call_where_parallel_calls_are_off() -> None:
    server = serving(tool_templates.QWEN3, f"So: {TWO_CALLS} ok")
    [choice] = server.chat("Hi", tools=[WEATHER, TIME], parallel_tool_calls=False)["choices"]
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["get_weather"]
    assert choice["message"]["content"] == "So: ok"


@pytest.mark.parametrize("fields", [{}, {"tools": [WEATHER], "tool_choice": "none"}, {"tools": []}])
def test_without_tools_nothing_is_parsed(fields: dict[str, Any]) -> None:
    server = serving(tool_templates.QWEN3, ONE_CALL)
    [choice] = server.chat("Hi", **fields)["choices"]
    assert choice["message"] == {"role": "assistant", "content": ONE_CALL, "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert "get_weather" not in prompt_text(server)


def test_logprobs_are_of_all_tokens() -> None:
    answer = f"<think>Hm</think>So\n{ONE_CALL}"
    server = serving(tool_templates.QWEN3, answer)
    body = chat_body("Hi", tools=[WEATHER], logprobs=True)
    whole = server.post(CHAT, body).json()["choices"][0]["logprobs"]["content"]
    assert bytes(byte for entry in whole[:-1] for byte in entry["bytes"]).decode() == answer
    streamed = [
        entry
        for chunk in server.stream(CHAT, body)
        for choice in chunk["choices"]
        if choice["logprobs"]
        for entry in choice["logprobs"]["content"]
    ]
    assert streamed == whole


@pytest.mark.parametrize(
    ("template", "reply"),
    [
        (tool_templates.LLAMA3, f'{{"name": "get_weather", "parameters": {ARGUMENTS}}}'),
        (tool_templates.MISTRAL, f'[TOOL_CALLS] [{{"name": "get_weather", "arguments": {ARGUMENTS}}}]'),
        (tool_templates.MISTRAL_ARGS, f"[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}"),
        (tool_templates.PLAIN, f'{{"tool_calls": [{{"name": "get_weather", "arguments": {ARGUMENTS}}}]}}'),
        (tool_templates.QWEN3, ONE_CALL),
    ],
    ids=["llama3", "mistral", "mistral_args", "json", "hermes"],
)
def test_every_model_calls_and_reads_the_result(template: str, reply: str) -> None:
    """The call goes back to the model through its own template, with the result."""
    server = serving(template, reply)
    chunks = server.stream(CHAT, chat_body("Weather?", tools=[WEATHER]))
    [call] = put_together(chunks)["calls"]
    assert (call["name"], call["arguments"]) == ("get_weather", ARGUMENTS)
    assert "The weather of a place." in prompt_text(server)
    sent_back = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}],
    }  # fmt: skip
    result = {"role": "tool", "tool_call_id": call["id"], "content": "Rain"}
    messages = [{"role": "user", "content": "Weather?"}, sent_back, result]
    reply_back = server.post(CHAT, {**chat_body(), "messages": messages, "tools": [WEATHER], "max_tokens": 1})
    assert reply_back.status_code == 200, reply_back.text
    prompt = prompt_text(server)
    assert "Köln" in prompt and "Rain" in prompt and "None" not in prompt
    assert prompt.index("Köln") < prompt.index("Rain")


def test_what_a_client_made_of_a_call_is_not_shown_to_the_model() -> None:
    server = serving(tool_templates.MISTRAL)
    user, call, result = CONVERSATION
    [parsed] = call["tool_calls"]
    parsed = {**parsed, "function": {**parsed["function"], "parsed_arguments": {"place": "Bonn"}}}
    prompts = []
    for calls in (call["tool_calls"], [parsed]):
        body = {**chat_body(), "messages": [user, {**call, "tool_calls": calls, "parsed": None}, result]}
        assert server.post(CHAT, body).status_code == 200
        prompts.append(prompt_text(server))
    assert prompts[0] == prompts[1] and "Köln" in prompts[0]


def test_a_model_without_tools_is_told_in_words() -> None:
    server = serving(tool_templates.PLAIN, "Rain.")
    body = {**chat_body(), "messages": [{"role": "system", "content": "Be brief."}, *CONVERSATION], "tools": [WEATHER]}
    assert server.post(CHAT, body).status_code == 200
    prompt = prompt_text(server)
    assert prompt.startswith("<|im_start|>system\nBe brief.\n\nYou can call these functions")
    assert '{"tool_calls": [{"name": "get_weather", "arguments": {"place": "Köln"}}]}<|im_end|>' in prompt
    assert '<|im_start|>user\n{"tool_results": [{"name": "get_weather", "content": "Rain"}]}<|im_end|>' in prompt
    server.post(CHAT, {**body, "tools": None})
    assert "You can call" not in prompt_text(server) and "tool_results" in prompt_text(server)


def test_turns_alternate_where_tools_are_told_in_words() -> None:
    """Whatever the user says after results; Gemma's template refuses two messages of the user in a row."""
    alternating = "{% if message.role != ('user' if loop.index0 is even else 'assistant') %}{{ raise_exception(loop.index) }}{% endif %}"
    server = serving(tool_templates.PLAIN.replace("<|im_start|>{{", alternating + "<|im_start|>{{"), "Rain.")
    two_results = [CONVERSATION[0], *CONVERSATION[1:] * 2]
    for messages in (CONVERSATION, two_results, [*CONVERSATION, CONVERSATION[2]]):
        for more in ([], [{"role": "user", "content": "Well?"}], [{"role": "assistant", "content": "Rain."}]):
            reply = server.post(CHAT, {**chat_body(), "messages": [*messages, *more]})
            assert reply.status_code == 200, reply.text
        said = {"role": "user", "content": [{"type": "text", "text": "Well?"}]}
        assert server.post(CHAT, {**chat_body(), "messages": [*messages, said]}).status_code == 200
        assert prompt_text(server).endswith('"content": "Rain"}]}\n\nWell?<|im_end|>\n<|im_start|>assistant\n')


def test_tools_in_words_are_written_off_the_event_loop() -> None:
    """By who renders: a long conversation's writing is no short work."""
    server = serving(tool_templates.PLAIN)
    render, given = server.engine.texts.render_chat, []

    async def record(messages: Any, **options: Any) -> str:
        given.append([message["role"] for message in messages])
        return await render(messages, **options)

    server.engine.texts.render_chat = record  # type: ignore[method-assign]
    assert server.post(CHAT, {**chat_body(), "messages": CONVERSATION, "tools": [WEATHER]}).status_code == 200
    assert given == [["user", "assistant", "tool"]] and "tool_results" in prompt_text(server)


def test_a_named_parser_needs_a_template_that_knows_tools() -> None:
    server = serving(tool_templates.PLAIN, tool_call_parser="hermes")
    check_envelope(server.post(CHAT, chat_body("Hi", tools=[WEATHER])), 400, "tools")
    server = serving(tool_templates.QWEN3, '{"tool_calls": [{"name": "f", "arguments": {}}]}', tool_call_parser="json")
    [choice] = server.chat("Hi", tools=[WEATHER])["choices"]
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "f"
    assert "<tools>" not in prompt_text(server)


def test_reasoning() -> None:
    server = serving(tool_templates.QWEN3, "<think>\nHm.\n</think>\n\nYes.")
    [choice] = server.chat("Hi")["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": "Yes.",
        "refusal": None,
        "reasoning": "Hm.",
        "reasoning_content": "Hm.",
    }
    chunks = server.stream(CHAT, chat_body("Hi"))
    assert put_together(chunks) == {"content": "Yes.", "calls": [], "reasoning": "Hm.", "finish_reason": "stop"}
    for message in (server.chat("Hi", include_reasoning=False)["choices"][0]["message"],):
        assert message == {"role": "assistant", "content": "Yes.", "refusal": None}
    chunks = server.stream(CHAT, chat_body("Hi", include_reasoning=False))
    assert put_together(chunks) == {"content": "Yes.", "calls": [], "finish_reason": "stop"}


def test_reasoning_that_the_prompt_has_opened() -> None:
    server = serving(tool_templates.R1, "Hm.\n</think>\n\nYes.")
    [choice] = server.chat("Hi")["choices"]
    assert (choice["message"]["reasoning"], choice["message"]["content"]) == ("Hm.", "Yes.")
    [choice] = server.chat("Hi", max_tokens=2)["choices"]
    assert (choice["message"]["reasoning"], choice["message"]["content"]) == ("Hm", "")
    server = serving(tool_templates.QWEN3, "Yes.")
    [choice] = server.chat("Hi", chat_template_kwargs={"enable_thinking": False})["choices"]
    assert choice["message"]["content"] == "Yes." and "reasoning" not in choice["message"]


@pytest.mark.parametrize(
    ("template", "option", "is_split"),
    [
        (tool_templates.PLAIN, "auto", False),
        (tool_templates.PLAIN, "think", True),
        (tool_templates.QWEN3, "none", False),
    ],
)
def test_reasoning_parser_option(template: str, option: str, is_split: bool) -> None:
    text = "<think>Hm</think>Yes"
    [choice] = serving(template, text, reasoning_parser=option).chat("Hi")["choices"]
    assert choice["message"]["content"] == ("Yes" if is_split else text)
    assert ("reasoning" in choice["message"]) is is_split


def test_reasoning_effort_goes_to_the_template() -> None:
    server = serving(tool_templates.EFFORT)
    server.chat("Hi", reasoning_effort="high")
    assert prompt_text(server).endswith("high")
    server.chat("Hi", reasoning_effort="low", chat_template_kwargs={"reasoning_effort": "low"})
    body = chat_body("Hi", reasoning_effort="low", chat_template_kwargs={"reasoning_effort": "high"})
    check_envelope(server.post(CHAT, body), 400, "reasoning_effort")


def test_reasoning_sent_back_reaches_the_template() -> None:
    server = serving(tool_templates.QWEN3)
    assistant = {"role": "assistant", "content": "A", "reasoning": "Hm", "reasoning_content": "Hm"}
    messages = [{"role": "user", "content": "U"}, assistant, {"role": "user", "content": "V"}]
    assert server.post(CHAT, {**chat_body(), "messages": messages}).status_code == 200
    assert "<think>\nHm\n</think>\n\nA<|im_end|>" in prompt_text(server)


def test_forced_calls_are_held_to_a_grammar() -> None:
    server = serving(tool_templates.R1, "Hm.</think>" + '{"tool_calls": [{"name": "get_time", "arguments": {}}]}')
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    [choice] = server.chat("Hi", tools=[strict, TIME], tool_choice="required")["choices"]
    assert choice["message"]["reasoning"] == "Hm." and choice["finish_reason"] == "tool_calls"
    grammar = server.engine.calls[-1][1].structured_outputs.grammar
    assert grammar.startswith("start: reasoning") and "(" in grammar.partition("call:")[0].partition("calls:")[2]
    assert "TEXT" not in grammar
    named = {"type": "function", "function": {"name": "get_time"}}
    server.chat("Hi", tools=[WEATHER, TIME], tool_choice=named)
    grammar = server.engine.calls[-1][1].structured_outputs.grammar
    assert "get_weather" not in grammar and "(" not in grammar.partition("call:")[0].partition("calls:")[2]
    server.chat("Hi", tools=[WEATHER, TIME])
    assert server.engine.calls[-1][1].structured_outputs is None


@pytest.mark.parametrize(("is_strict", "choice"), [(True, "auto"), (False, "required")])
def test_tools_that_no_grammar_can_hold_are_refused_as_tools(is_strict: bool, choice: str) -> None:
    server = InProcess(make_engine(tool_templates.QWEN3, max_model_len=1 << 20))

    def body(num_chars: int, choice: str) -> dict[str, Any]:
        parameters = {"type": "object", "properties": {"é" * num_chars: {"type": "string"}}}
        function = {"name": "f", "parameters": parameters, "strict": is_strict}
        return chat_body(tools=[{"type": "function", "function": function}], tool_choice=choice)

    fits = server.post(CHAT, body(MAX_GRAMMAR_CHARS - 2000, choice))
    assert fits.status_code == 200, fits.text
    error = check_envelope(server.post(CHAT, body(MAX_GRAMMAR_CHARS - 200, choice)), 400, "tools")
    assert error["message"].startswith("the tools that calls are held to")
    assert server.post(CHAT, body(MAX_GRAMMAR_CHARS - 200, "none")).status_code == 200


def test_strict_functions_are_held_to_their_schemas_where_the_model_decides() -> None:
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    loose = {"type": "function", "function": {**WEATHER["function"], "name": "look"}}
    server = serving(tool_templates.QWEN3, f"So:\n{TWO_CALLS}")
    [choice] = server.chat("Hi", tools=[strict, loose, TIME], tool_choice="auto")["choices"]
    assert choice["message"]["content"] == "So:" and len(choice["message"]["tool_calls"]) == 2
    grammar = server.engine.calls[-1][1].structured_outputs.grammar
    assert '"place"' in grammar.partition("arguments_1: ")[0] and "place" not in grammar.partition("arguments_1: ")[2]
    assert "framed* TEXT" in grammar and "opening reasoning answer" in grammar
    server.chat("Hi", tools=[strict], parallel_tool_calls=False)
    assert "framed | TEXT" in server.engine.calls[-1][1].structured_outputs.grammar
    server.chat("Hi", tools=[strict, loose], tool_choice={"type": "function", "function": {"name": "look"}})
    assert '"place"' in server.engine.calls[-1][1].structured_outputs.grammar
    server.chat("Hi", tools=[strict], tool_choice="none")
    assert server.engine.calls[-1][1].structured_outputs is None


def test_an_answer_held_to_a_shape_does_not_begin_with_reasoning() -> None:
    server = serving(tool_templates.R1, '{"a": 1}')
    [choice] = server.chat("Hi", response_format={"type": "json_object"})["choices"]
    assert choice["message"]["content"] == '{"a": 1}' and "reasoning" not in choice["message"]
