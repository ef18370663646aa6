"""/v1/completions, to the letter."""

import pytest
from server.conftest import MODEL, InProcess
from server.fake_engine import REPLY, FakeEngine, scripted
from server.fake_model import BOS, EOS

PATH = "/v1/completions"


def test_answer_has_every_field(server: InProcess) -> None:
    answer = server.complete("Hi")
    usage = answer.pop("usage")
    [choice] = answer.pop("choices")
    assert choice == {"index": 0, "text": REPLY, "logprobs": None, "finish_reason": "stop", "stop_reason": None}
    num_tokens = len(REPLY.encode()) + 1
    assert usage == {
        "prompt_tokens": 3,
        "completion_tokens": num_tokens,
        "total_tokens": 3 + num_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert answer.pop("id").startswith("cmpl-")
    assert isinstance(answer.pop("created"), int)
    assert answer.pop("system_fingerprint").startswith("fp_")
    assert answer == {"object": "text_completion", "model": MODEL}


def test_max_tokens_defaults_to_16_and_ends_with_length(server: InProcess) -> None:
    reply = server.post(PATH, {"model": MODEL, "prompt": "Hi"}).json()
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_by_either_name(server: InProcess, name: str) -> None:
    reply = server.post(PATH, {"model": MODEL, "prompt": "Hi", name: 5}).json()
    assert reply["choices"][0]["text"] == "Hello"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("ab", [[BOS, 97, 98]]),
        (["ab", "c"], [[BOS, 97, 98], [BOS, 99]]),
        ([97, 98], [[97, 98]]),
        ([[97, 98], [99]], [[97, 98], [99]]),
    ],
)
def test_prompt_forms(server: InProcess, prompt: object, expected: list[list[int]]) -> None:
    answer = server.complete(prompt, max_tokens=1)
    assert [call[0] for call in server.engine.calls] == expected
    assert [choice["index"] for choice in answer["choices"]] == list(range(len(expected)))
    assert answer["usage"]["prompt_tokens"] == sum(map(len, expected))


def test_prompts_times_n_have_dense_global_indexes(server: InProcess) -> None:
    server.engine.reply = lambda prompt, sample: f"{prompt[-1] - 97}/{sample}"
    answer = server.complete(["a", "b", "c"], n=2)
    assert [(c["index"], c["text"]) for c in answer["choices"]] == [
        (0, "0/0"), (1, "0/1"), (2, "1/0"), (3, "1/1"), (4, "2/0"), (5, "2/1"),
    ]  # fmt: skip


def test_streamed_first_chunks_are_in_index_order(server: InProcess) -> None:
    server.engine.reply = lambda prompt, sample: f"{prompt[-1] - 97}/{sample}"
    body = {"model": MODEL, "prompt": ["a", "b"], "n": 2, "max_tokens": 9}
    chunks = server.stream(PATH, body)
    seen, texts = [], {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            if choice["index"] not in seen:
                seen.append(choice["index"])
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    assert seen == [0, 1, 2, 3]
    assert texts == {0: "0/0", 1: "0/1", 2: "1/0", 3: "1/1"}


@pytest.mark.parametrize("tokens_per_step", [1, 3, 1000])
@pytest.mark.parametrize("stop", [None, "<end>", ["d! ", "nothing"], "👋"])
def test_stream_joins_to_the_whole_text(server: InProcess, tokens_per_step: int, stop: object) -> None:
    server.engine.tokens_per_step = tokens_per_step
    body = {"model": MODEL, "prompt": "Hi", "max_tokens": 100, "stop": stop, "n": 2}
    whole = server.post(PATH, body).json()
    chunks = server.stream(PATH, body)
    for index in (0, 1):
        pieces = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
        assert "".join(piece["text"] for piece in pieces) == whole["choices"][index]["text"]
        assert [piece["finish_reason"] for piece in pieces if piece["finish_reason"]] == ["stop"]
        assert pieces[-1]["finish_reason"] == "stop"
        assert pieces[-1]["stop_reason"] == whole["choices"][index]["stop_reason"]
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"]) for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)


def test_stop_string_ends_the_text_and_is_named(server: InProcess) -> None:
    [choice] = server.complete("Hi", stop=["wör", "zzz"])["choices"]
    assert choice["text"] == "Hello, "
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "wör")
    [choice] = server.complete("Hi", stop="wör", include_stop_str_in_output=True)["choices"]
    assert choice["text"] == "Hello, wör"


def test_stop_token_id_is_named(server: InProcess) -> None:
    [choice] = server.complete("Hi", stop_token_ids=[ord(",")])["choices"]
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == ("Hello", "stop", ord(","))


def test_stream_is_ascii_and_never_has_a_broken_character(server: InProcess) -> None:
    reply = server.post(PATH, {"model": MODEL, "prompt": "Hi", "max_tokens": 100, "stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.content.isascii()
    assert b"\\ufffd" not in reply.content


def test_usage_chunk(server: InProcess) -> None:
    server.engine.num_cached_tokens = 2
    body = {"model": MODEL, "prompt": "Hi", "max_tokens": 4, "stream_options": {"include_usage": True}}
    *chunks, last = server.stream(PATH, body)
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2},
    }


@pytest.mark.parametrize("has_last", [True, False])
def test_continuous_usage(server: InProcess, has_last: bool) -> None:
    options = {"include_usage": has_last, "continuous_usage_stats": True}
    chunks = server.stream(PATH, {"model": MODEL, "prompt": "Hi", "max_tokens": 4, "stream_options": options})
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [1, 2, 3, 4, 4][: 4 + has_last]


def expected_logprobs(tokens: list[int], start: int, num_top: int) -> tuple[list[float], list[dict[str, float]]]:
    entries = [scripted(token, start + i, num_top) for i, token in enumerate(tokens)]
    text = FakeEngine().tokenizer
    tops = []
    for entry in entries:
        top = {text.token_bytes(entry.token_id).decode("utf-8", "replace"): entry.logprob}
        for token, logprob in zip(entry.top_token_ids, entry.top_logprobs, strict=True):
            top.setdefault(text.token_bytes(token).decode("utf-8", "replace"), logprob)
        tops.append(top)
    return [entry.logprob for entry in entries], tops


def test_logprobs(server: InProcess) -> None:
    [choice] = server.complete([97, 98], max_tokens=5, logprobs=3)["choices"]
    values, tops = expected_logprobs(list(b"Hello"), 2, 3)
    assert choice["logprobs"] == {
        "tokens": list("Hello"),
        "token_logprobs": values,
        "top_logprobs": tops,
        "text_offset": [0, 1, 2, 3, 4],
    }


def test_logprobs_of_zero_tops_are_the_tokens_own(server: InProcess) -> None:
    [choice] = server.complete([97, 98], max_tokens=2, logprobs=0)["choices"]
    values, _ = expected_logprobs(list(b"He"), 2, 0)
    assert choice["logprobs"]["top_logprobs"] == [{"H": values[0]}, {"e": values[1]}]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_echo_with_logprobs(server: InProcess, is_streamed: bool) -> None:
    body = {"model": MODEL, "prompt": "aé", "max_tokens": 2, "logprobs": 1, "echo": True, "n": 2}
    if is_streamed:
        pieces = [choice for chunk in server.stream(PATH, body) for choice in chunk["choices"] if choice["index"] == 1]
        text = "".join(piece["text"] for piece in pieces)
        parts = [piece["logprobs"] for piece in pieces if piece["logprobs"]]
        logprobs = {key: [item for part in parts for item in part[key]] for key in parts[0]}
    else:
        choice = server.post(PATH, body).json()["choices"][1]
        text, logprobs = choice["text"], choice["logprobs"]
    tokens = [BOS, *"aé".encode(), *b"He"]
    values, tops = expected_logprobs(tokens, 0, 1)
    assert text == "aéHe"
    assert logprobs["tokens"] == ["<bos>", "a", "\ufffd", "\ufffd", "H", "e"]
    assert logprobs["token_logprobs"] == [None, *values[1:]]
    assert logprobs["top_logprobs"] == [None, *tops[1:]]
    assert logprobs["text_offset"] == [0, 0, 1, 1, 2, 3]


def test_prompt_and_generated_entries_are_the_same_floats(server: InProcess) -> None:
    generated = server.complete([97, 98], max_tokens=3, logprobs=2)["choices"][0]["logprobs"]
    echoed = server.complete([97, 98, *b"Hel"], max_tokens=1, logprobs=2, echo=True)["choices"][0]["logprobs"]
    assert echoed["token_logprobs"][2:5] == generated["token_logprobs"]
    assert echoed["top_logprobs"][2:5] == generated["top_logprobs"]


def test_echo_of_token_ids_is_their_text(server: InProcess) -> None:
    assert server.complete([BOS, 97, 98], max_tokens=2, echo=True)["choices"][0]["text"] == "abHe"


def test_one_token_is_one_entry_even_if_it_is_eos(server: InProcess) -> None:
    server.engine.reply = lambda prompt, sample: ""
    answer = server.complete("ab", max_tokens=1, logprobs=1, echo=True)
    [choice] = answer["choices"]
    assert len(choice["logprobs"]["tokens"]) == 4
    assert (choice["text"], choice["finish_reason"]) == ("ab", "stop")
    assert choice["logprobs"]["tokens"][-1] == "<eos>"
    assert answer["usage"]["completion_tokens"] == 1


@pytest.mark.parametrize("reply", ["", "Hello"])
def test_no_tokens_with_echo_is_the_prompt_alone(server: InProcess, reply: str) -> None:
    server.engine.reply = lambda prompt, sample: reply
    answer = server.complete("ab", max_tokens=0, logprobs=1, echo=True)
    [choice] = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("ab", "length")
    assert choice["logprobs"]["tokens"] == ["<bos>", "a", "b"]
    assert answer["usage"]["completion_tokens"] == 0


def test_prompt_logprobs(server: InProcess) -> None:
    [choice] = server.complete([97, 98, 99], max_tokens=1, prompt_logprobs=1)["choices"]
    first, second, third = choice["prompt_logprobs"]
    assert first is None
    entry = scripted(98, 1, 1)
    assert second["98"] == {"logprob": entry.logprob, "rank": entry.rank, "decoded_token": "b"}
    assert third.keys() == {"99", str(entry.top_token_ids[0] - 1)}


def test_defaults_of_the_model_hold_only_where_the_request_is_silent() -> None:
    server = InProcess(FakeEngine(sampling_defaults={"temperature": 0.6, "top_k": 20}))
    server.complete("Hi")
    server.complete("Hi", temperature=0, top_k=None)
    first, second = (call[1] for call in server.engine.calls)
    assert (first.temperature, first.top_k) == (0.6, 20)
    assert (second.temperature, second.top_k) == (0.0, 20)


def test_every_sampling_field_reaches_the_engine(server: InProcess) -> None:
    fields = {
        "n": 2,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "presence_penalty": 0.2,
        "frequency_penalty": -0.3,
        "repetition_penalty": 1.1,
        "seed": 7,
        "include_stop_str_in_output": True,
        "ignore_eos": True,
        "min_tokens": 3,
        "skip_special_tokens": False,
        "prompt_logprobs": 2,
        "logprobs": 4,
        "max_tokens": 9,
    }
    lists = {"stop": ["x"], "stop_token_ids": [1], "allowed_token_ids": [2, 3], "bad_words": ["y"]}
    server.complete("Hi", **fields, **lists, logit_bias={"5": -1.5}, best_of=2)
    params = server.engine.calls[0][1]
    assert {name: getattr(params, name) for name in fields} == fields
    assert {name: list(getattr(params, name)) for name in lists} == lists
    assert params.logit_bias == {5: -1.5}
    assert params.bad_word_token_ids == ((121,), (32, 121))


def test_cache_salt_and_priority() -> None:
    server = InProcess(FakeEngine(options={"scheduling_policy": "priority"}))
    server.complete("Hi", cache_salt="tenant", priority=-3)
    assert server.engine.calls[0][2:] == (-3, "tenant")


@pytest.mark.parametrize("skip", [True, False])
def test_special_tokens_in_the_text(server: InProcess, skip: bool) -> None:
    [choice] = server.complete("Hi", ignore_eos=True, max_tokens=100, skip_special_tokens=skip)["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["text"] == REPLY + ("" if skip else "<eos>" * (100 - len(REPLY.encode())))
    assert EOS == 257
