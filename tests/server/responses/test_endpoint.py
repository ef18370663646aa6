"""/v1/responses, to the letter: answers, events, what is kept and who may read it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server import tool_templates
from server.conftest import MODEL, InProcess, prompt_text
from server.envelopes import check_envelope
from server.fake_engine import REPLY, FakeEngine
from server.responses.requests import PATH, TIME, WEATHER, body, respond, stream, without_ids
from server.tool_calls import ARGUMENTS, ONE_CALL, TWO_CALLS, serving

from octavo.server.structured import guided


def test_an_answer(server: InProcess) -> None:
    server.engine.num_cached_tokens = 3
    answer = respond(server, instructions="Be brief.", metadata={"a": "b"}, temperature=0.5, max_output_tokens=100)
    assert prompt_text(server) == "<system>Be brief.<user>Hi<assistant>"
    assert answer.pop("id").startswith("resp_") and answer.pop("created_at") > 1_700_000_000
    assert answer.pop("system_fingerprint").startswith("fp_")
    [item] = answer.pop("output")
    assert item.pop("id").startswith("msg_")
    part = {"type": "output_text", "text": REPLY, "annotations": [], "logprobs": []}
    assert item == {"type": "message", "status": "completed", "role": "assistant", "content": [part]}
    num_prompt, num_output = len(prompt_text(server).encode()), len(REPLY.encode()) + 1
    assert answer == {
        "object": "response",
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": "Be brief.",
        "max_output_tokens": 100,
        "metadata": {"a": "b"},
        "model": MODEL,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": True,
        "temperature": 0.5,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": num_prompt,
            "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
            "output_tokens": num_output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": num_prompt + num_output,
        },
    }


def test_events_of_a_text(server: InProcess) -> None:
    events = stream(server)
    kinds = [event["type"] for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"} and len(kinds) > 20
    assert events[0]["response"]["status"] == "in_progress" and events[0]["response"]["output"] == []
    assert "".join(event["delta"] for event in events[4:-4]) == REPLY == events[-4]["text"]
    item_id = events[2]["item"]["id"]
    assert {event["item_id"] for event in events if "item_id" in event} == {item_id}
    assert all((event["output_index"], event["content_index"]) == (0, 0) for event in events[3:-2])
    assert events[-1]["response"]["output"] == [events[-2]["item"]]
    assert server.get(f"{PATH}/{events[0]['response']['id']}").json() == events[-1]["response"]


def test_events_of_reasoning_and_calls() -> None:
    server = serving(tool_templates.QWEN3, f"<think>\nHm.\n</think>\n\nSo:\n{TWO_CALLS}")
    events = stream(server, tools=[WEATHER, TIME])
    kinds = [event["type"].removeprefix("response.") for event in events if not event["type"].endswith(".delta")]
    part = ["output_item.added", "content_part.added"]
    call = ["output_item.added", "function_call_arguments.done", "output_item.done"]
    assert kinds == [
        *("created", "in_progress"),
        *(*part, "reasoning_text.done", "content_part.done", "output_item.done"),
        *(*part, "output_text.done", "content_part.done", "output_item.done"),
        *(*call, *call, "completed"),
    ]
    [first, second] = [event for event in events if event["type"] == "response.function_call_arguments.done"]
    assert (first["name"], first["arguments"], first["output_index"]) == ("get_weather", ARGUMENTS, 2)
    assert (second["name"], second["arguments"], second["output_index"]) == ("get_time", "{}", 3)
    fragments = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
    assert "".join(fragments) == ARGUMENTS + "{}" and len(fragments) > len(ARGUMENTS)
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "function_call"]
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "Hm."}] and output[0]["summary"] == []
    assert output[2]["call_id"].startswith("call_") and output[2]["id"].startswith("fc_")
    usage = events[-1]["response"]["usage"]
    assert usage["output_tokens_details"]["reasoning_tokens"] == len("<think>\nHm.\n</think>")


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    data=st.data(),
    before=st.sampled_from(
        ("", "Let me see. 👋🏽\n\n", "<think>\nHm, 日本.\n</think>\n\n", "<think>Hm</think>A <tool_")
    ),
    after=st.sampled_from(("", "\n", " done", "\n<tool_call>\nnothing")),
    num_calls=st.integers(0, 3),
)
def test_streamed_is_whole(data: st.DataObject, before: str, after: str, num_calls: int) -> None:
    server = serving(tool_templates.QWEN3, before + "\n".join([ONE_CALL] * num_calls) + after)
    fields = {"tools": [WEATHER], "max_output_tokens": data.draw(st.sampled_from((None, 1, 5, 40, 100)))}
    whole = respond(server, **fields)
    server.engine.tokens_per_step = data.draw(st.integers(1, 7))
    streamed = stream(server, **fields)[-1]["response"]
    for response in (whole, streamed):
        response["usage"]["output_tokens_details"] = None  # of steps with several tokens, one may be half reasoning
    assert without_ids(streamed) == without_ids(whole)


def test_an_answer_cut_off_is_incomplete(server: InProcess) -> None:
    answer = respond(server, max_output_tokens=3)
    assert answer["status"] == "incomplete" and answer["incomplete_details"] == {"reason": "max_output_tokens"}
    assert answer["output"][0]["status"] == "incomplete" and answer["output"][0]["content"][0]["text"] == REPLY[:3]
    events = stream(server, max_output_tokens=3)
    assert events[-1]["type"] == "response.incomplete" and events[-1]["response"]["status"] == "incomplete"


def test_an_empty_answer_is_an_empty_message(server: InProcess) -> None:
    server.engine.reply = lambda prompt, sample: ""
    [item] = respond(server)["output"]
    assert item["content"][0]["text"] == ""
    assert [event["type"] for event in stream(server)][2:4] == [
        "response.output_item.added",
        "response.content_part.added",
    ]


def test_a_failure_in_the_stream_ends_it(server: InProcess) -> None:
    server.engine.fails_after = 3
    events = stream(server)
    assert events[-2]["type"] == "error" and events[-2]["code"] == "internal_error" and events[-2]["message"]
    assert events[-1]["type"] == "response.failed" and events[-1]["response"]["status"] == "failed"
    assert events[-1]["response"]["error"]["code"] == "internal_error"
    check_envelope(server.get(f"{PATH}/{events[0]['response']['id']}"), 404, code="response_not_found")


def test_items_are_a_conversation() -> None:
    server = serving(tool_templates.QWEN3, "Rain.")
    call = {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": '{"place": "Köln"}'}
    items = [
        {"role": "system", "content": "S"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "U"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "HMM"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "A", "annotations": []}], "id": "msg_1"},
        {**call, "id": "fc_1", "status": "completed"},
        {**call, "call_id": "c2", "arguments": '{"place": "Bonn"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "Rain"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "Sun"}]},
    ]
    respond(server, items, tools=[WEATHER])
    prompt = prompt_text(server)
    assert "HMM" not in prompt and prompt.count("<|im_start|>assistant") == 2
    places = [prompt.index(text) for text in ("\nS\n", "\nU<", "\nA", "Köln", "Bonn", "Rain", "Sun")]
    assert places == sorted(places)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_going_on_is_sending_it_all(is_streamed: bool) -> None:
    """The prompt after `previous_response_id` is that of the conversation sent as items, instructions apart."""
    server = serving(tool_templates.QWEN3, f"<think>Hm</think>So\n{ONE_CALL}")
    first = {"tools": [WEATHER], "instructions": "First."}
    answer = stream(server, "U", **first)[-1]["response"] if is_streamed else respond(server, "U", **first)
    [call] = [item for item in answer["output"] if item["type"] == "function_call"]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "Rain"}
    again = respond(server, [result], previous_response_id=answer["id"], tools=[WEATHER])
    assert again["previous_response_id"] == answer["id"] and again["instructions"] is None
    by_id = prompt_text(server)
    respond(server, [{"role": "user", "content": "U"}, *answer["output"], result], tools=[WEATHER])
    assert by_id == prompt_text(server)
    assert "First." not in by_id and "So" in by_id and "Rain" in by_id
    server.engine.reply = lambda prompt, sample: "Done."
    respond(server, "Thanks", previous_response_id=again["id"])
    assert "Rain" in prompt_text(server) and "Thanks" in prompt_text(server)


@pytest.mark.parametrize(
    ("reply", "max_tokens"),
    [(ONE_CALL, ONE_CALL.index(ARGUMENTS) + 7), (ONE_CALL.replace(ARGUMENTS, '{"place":}'), 100)],
)
def test_going_on_from_a_call_whose_arguments_are_no_json(reply: str, max_tokens: int) -> None:
    server = serving(tool_templates.QWEN3, reply)
    answer = respond(server, "U", tools=[WEATHER], max_output_tokens=max_tokens)
    [call] = answer["output"]
    assert call["name"] == "get_weather" and call["arguments"].startswith('{"place')
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "No such place"}
    for more in ("Again?", [result]):
        respond(server, more, tools=[WEATHER], previous_response_id=answer["id"])
        assert '{"name": "get_weather", "arguments": {}}' in prompt_text(server)


def test_kept_until_deleted(server: InProcess) -> None:
    answer = respond(server)
    path = f"{PATH}/{answer['id']}"
    assert server.get(path).json() == answer
    check_envelope(server.get(f"{path}?stream=true"), 400, "stream")
    assert server.request("DELETE", path).json() == {"id": answer["id"], "object": "response", "deleted": True}
    for reply in (server.get(path), server.request("DELETE", path)):
        check_envelope(reply, 404, code="response_not_found")
    refused = server.post(PATH, body(previous_response_id=answer["id"]))
    check_envelope(refused, 404, "previous_response_id", "response_not_found")
    not_stored = respond(server, store=False)
    assert not_stored["store"] is False
    check_envelope(server.get(f"{PATH}/{not_stored['id']}"), 404)


def test_one_client_never_reads_anothers() -> None:
    server = InProcess(FakeEngine(), api_key=("key-a", "key-b"))
    mine, other = ({"authorization": f"Bearer {key}"} for key in ("key-a", "key-b"))
    answer = server.post(PATH, body(), headers=mine).json()
    path = f"{PATH}/{answer['id']}"
    for reply in (
        server.get(path, headers=other),
        server.request("DELETE", path, headers=other),
        server.post(PATH, body(previous_response_id=answer["id"]), headers=other),
    ):
        check_envelope(reply, 404, code="response_not_found")
    assert server.get(path, headers=mine).json() == answer


def test_shapes_and_forced_calls() -> None:
    server = serving(tool_templates.PLAIN, '{"a": 1}')
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    form = {"type": "json_schema", "name": "x", "schema": schema, "strict": True}
    answer = respond(server, text={"format": form})
    assert json.loads(server.engine.calls[-1][1].structured_outputs.json) == guided(schema, is_strict=True)
    assert answer["text"]["format"]["schema"] == schema
    respond(server, text={"format": {"type": "json_object"}})
    assert server.engine.calls[-1][1].structured_outputs.json_object
    server.engine.reply = lambda prompt, sample: '{"tool_calls": [{"name": "get_time", "arguments": {}}]}'
    named = {"type": "function", "name": "get_time"}
    answer = respond(server, tools=[WEATHER, TIME], tool_choice=named)
    assert answer["tool_choice"] == named and answer["tools"] == [WEATHER, TIME]
    assert "get_weather" not in server.engine.calls[-1][1].structured_outputs.grammar


def test_fields_reach_the_engine(server: InProcess) -> None:
    respond(server, temperature=0.3, top_p=0.4, top_k=5, max_output_tokens=7, cache_salt="s")
    params, salt = server.engine.calls[-1][1], server.engine.calls[-1][3]
    assert (params.temperature, params.top_p, params.top_k, params.max_tokens, salt) == (0.3, 0.4, 5, 7, "s")
    respond(serving(tool_templates.EFFORT), reasoning={"effort": "low"})
