"""/v1/chat/completions, to the letter."""

import pytest
from server.conftest import MODEL, InProcess, chat_body, prompt_text
from server.envelopes import check_envelope
from server.fake_engine import REPLY, scripted
from server.paths import CHAT


def test_answer_has_every_field(server: InProcess) -> None:
    answer = server.chat("Hi")
    [choice] = answer.pop("choices")
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": REPLY, "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
        "stop_reason": None,
    }
    num_prompt, num_completion = len("<user>Hi<assistant>"), len(REPLY.encode()) + 1
    assert answer.pop("usage") == {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_completion,
        "total_tokens": num_prompt + num_completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert answer.pop("id").startswith("chatcmpl-")
    assert isinstance(answer.pop("created"), int)
    assert answer.pop("system_fingerprint").startswith("fp_")
    assert answer == {"object": "chat.completion", "model": MODEL}


def test_max_tokens_default_to_what_is_left(server: InProcess) -> None:
    answer = server.chat("Hi", ignore_eos=True)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] == server.engine.info.max_model_len


@pytest.mark.parametrize(
    "fields",
    [{"max_tokens": 3}, {"max_completion_tokens": 3}, {"max_tokens": 3, "max_completion_tokens": 3}],
)
def test_max_tokens_by_either_name(server: InProcess, fields: dict[str, int]) -> None:
    assert server.chat("Hi", **fields)["choices"][0]["message"]["content"] == "Hel"


def test_template_writes_all_of_the_prompt(server: InProcess) -> None:
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "U"}]}]
    server.post(CHAT, {"model": MODEL, "messages": messages, "max_tokens": 1})
    assert prompt_text(server) == "<system>S<user>U<assistant>"
    server.chat("U", max_tokens=1, add_generation_prompt=False)
    assert prompt_text(server) == "<user>U"
    server.chat("U", max_tokens=1, chat_template_kwargs={"enable_thinking": True})
    assert prompt_text(server) == "<user>U<think><assistant>"


def test_an_answer_can_be_sent_back_as_it_came(server: InProcess) -> None:
    sent_back = {
        "role": "assistant",
        "content": "A",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    messages = [sent_back, {"role": "user", "content": "U", "name": "Ann"}]
    reply = server.post(CHAT, {"model": MODEL, "messages": messages, "max_tokens": 1})
    assert reply.status_code == 200, reply.text
    assert prompt_text(server) == "<assistant>A<user>U<assistant>"


def test_stream_has_the_role_in_the_first_delta_alone(server: InProcess) -> None:
    chunks = server.stream(CHAT, chat_body("Hi"))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert all(delta.keys() == {"content"} and delta["content"] for delta in deltas[1:-1])
    assert deltas[-1] == {}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert "".join(delta.get("content", "") for delta in deltas) == REPLY
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"]) for chunk in chunks}) == 1
    assert all(chunk["id"].startswith("chatcmpl-") for chunk in chunks)


@pytest.mark.parametrize("tokens_per_step", [1, 4])
@pytest.mark.parametrize("stop", [None, "日本"])
def test_samples_stream_what_they_answer_whole(server: InProcess, tokens_per_step: int, stop: str | None) -> None:
    server.engine.tokens_per_step = tokens_per_step
    server.engine.reply = lambda prompt, sample: REPLY[sample:]
    body = chat_body("Hi", n=4, stop=stop)
    whole = server.post(CHAT, body).json()
    chunks = server.stream(CHAT, body)
    roles = [choice["index"] for chunk in chunks for choice in chunk["choices"] if "role" in choice["delta"]]
    assert roles == [0, 1, 2, 3]
    assert [chunk["choices"][0]["index"] for chunk in chunks[:4]] == roles
    for index in range(4):
        text = "".join(
            choice["delta"].get("content", "")
            for chunk in chunks
            for choice in chunk["choices"]
            if choice["index"] == index
        )
        assert text == whole["choices"][index]["message"]["content"]
        assert text == REPLY[index:].partition(stop or "\0")[0]


def test_usage_chunk(server: InProcess) -> None:
    *chunks, last = server.stream(CHAT, chat_body("Hi", max_tokens=3, stream_options={"include_usage": True}))
    assert all(chunk["usage"] is None and len(chunk["choices"]) == 1 for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 3


def test_logprobs(server: InProcess) -> None:
    [choice] = server.chat("Hi", max_tokens=3, logprobs=True, top_logprobs=2)["choices"]
    start = len(server.engine.calls[0][0])
    content = choice["logprobs"]["content"]
    assert [entry["token"] for entry in content] == list("Hel")
    for at, (token, entry) in enumerate(zip(b"Hel", content, strict=True)):
        expected = scripted(token, start + at, 2)
        assert entry["logprob"] == expected.logprob
        assert entry["bytes"] == [token]
        assert [(top["bytes"], top["logprob"]) for top in entry["top_logprobs"]] == [
            ([other], logprob) for other, logprob in zip(expected.top_token_ids, expected.top_logprobs, strict=True)
        ]
        assert entry["top_logprobs"][0].keys() == {"token", "logprob", "bytes"}


@pytest.mark.parametrize("num_top", [-1, 21])
def test_top_logprobs_out_of_range(server: InProcess, num_top: int) -> None:
    error = check_envelope(server.post(CHAT, chat_body(logprobs=True, top_logprobs=num_top)), 400, "top_logprobs")
    assert error["message"].startswith(f"top_logprobs={num_top} ")


def test_a_token_among_the_top_ones_is_there_once(server: InProcess) -> None:
    server.engine.reply = lambda prompt, sample: chr((1 - len(prompt)) % 256)  # the likeliest token but one
    content = "x" * (200 - len("<user><assistant>"))
    [choice] = server.chat(content, max_tokens=1, logprobs=True, top_logprobs=3)["choices"]
    [entry] = choice["logprobs"]["content"]
    assert (entry["token"], entry["logprob"]) == ("9", -2 / 8)
    assert [top["logprob"] for top in entry["top_logprobs"]] == [-1 / 8, -2 / 8, -3 / 8]
    assert entry["top_logprobs"][1]["token"] == "9"


def test_logprobs_without_top_ones(server: InProcess) -> None:
    [entry] = server.chat("Hi", max_tokens=1, logprobs=True)["choices"][0]["logprobs"]["content"]
    assert entry["top_logprobs"] == []


def test_streamed_logprobs_are_those_of_the_whole(server: InProcess) -> None:
    body = chat_body("Hi", logprobs=True, top_logprobs=1, stop="zzz")
    whole = server.post(CHAT, body).json()["choices"][0]["logprobs"]["content"]
    chunks = server.stream(CHAT, body)
    streamed = [
        entry
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["logprobs"]
        for entry in choice["logprobs"]["content"]
    ]
    assert streamed == whole
    assert bytes(byte for entry in whole[:-1] for byte in entry["bytes"]).decode() == REPLY


def test_prompt_logprobs(server: InProcess) -> None:
    answer = server.chat("Hi", max_tokens=1, prompt_logprobs=0)
    assert answer["prompt_logprobs"][0] is None
    assert len(answer["prompt_logprobs"]) == answer["usage"]["prompt_tokens"]
    assert "prompt_logprobs" not in server.chat("Hi", max_tokens=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "u", "metadata": {"a": "b"}, "service_tier": "auto", "store": False, "safety_identifier": "x"},
        {"tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "parallel_tool_calls": None},
        {"temperature": None, "n": None, "stop": None, "seed": None, "stream": None, "logit_bias": None, "max_tokens": None},
        {"modalities": ["text"], "prompt_cache_key": "k", "stream": False},
    ],
)  # fmt: skip
def test_fields_that_change_nothing_are_accepted(server: InProcess, fields: dict[str, object]) -> None:
    assert server.chat("Hi", **fields)["choices"][0]["message"]["content"] == REPLY
