"""Chat templates: the prompt transformers renders, and nothing a hostile template wants."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from octavo.core.errors import InvalidRequestError, ModelFileError
from octavo.core.json_limits import MAX_JSON_CONTAINERS
from octavo.tokenizer.chat_template import MAX_SOURCE_CHARS, ChatTemplate
from octavo.tokenizer.content_format import ContentFormat
from octavo.tokenizer.render_budget import RenderLimits
from octavo.tokenizer.tokenizer import Tokenizer

MANY = settings(max_examples=120, deadline=None, derandomize=True, database=None)

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
EITHER = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first = messages[0]['content'] if messages[0]['content'] is string else messages[0]['content'][0]['text'] -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set first = "" -%}
    {%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Roles must alternate") }}
    {%- endif -%}
    <start_of_turn>{{ "model" if message['role'] == "assistant" else message['role'] }}
{{ first if loop.first else "" }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- endif -%}
    <end_of_turn>
{% endfor %}
{%- if add_generation_prompt %}<start_of_turn>model
{% endif -%}
"""
TOOLS = """{%- macro parts(content) -%}{% for part in content %}[{{ part.text }}]{% endfor %}{%- endmacro -%}
{%- set ns = namespace(calls=0, text='') -%}
{%- if tools %}{{ tools | tojson(indent=2) }}
{% for tool in tools | map(attribute='function') %}{{ loop.index }}/{{ loop.length }} {{ tool.name ~ ':' ~ tool | tojson }}
{% endfor %}{% endif -%}
{%- for message in messages -%}
    {%- if message.role == 'system' %}{% continue %}{% endif -%}
    {{ message.role | upper }}: {{ parts(message.content) if message.content }}{{ loop.last }}
    {%- for call in message.tool_calls or [] -%}
        {%- set ns.calls = ns.calls + 1 -%}
        {%- for key, value in call.function.arguments.items() %}{{ key }}={{ value | tojson }};{% endfor -%}
        {{ '%s(%d)' % (call.function.name, ns.calls) }} {{ '{} {}'.format(call.function.name, ns.calls) }}
    {%- endfor -%}
    {% generation %}{{ message.reasoning_content or '' }}{% endgeneration %}
    {%- if enable_thinking is defined and not enable_thinking %}<no think>{% endif %}
{{ ['a', 'b'] | join('-') }} {{ 'x\ny' | indent(2) }} {{ 'aXa' | replace('X', message.role) }}
{% endfor -%}
{{ eos_token }}{% for i in range(3) %}{{ i }}{% if i == 1 %}{% break %}{% endif %}{% endfor %}
"""
CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hi <b> & 'é' \"x\" 😀"}],
    [{"role": "system", "content": "S"}, {"role": "user", "content": " a "}, {"role": "assistant", "content": "b\n"},
     {"role": "user", "content": "c"}],
]  # fmt: skip
PART_CONVERSATION: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": " two"}]},
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": [1, "é<"], "b": None}}}],
    },
    {"role": "tool", "content": [{"type": "text", "text": "3"}], "tool_call_id": "1"},
]
A_TOOL = {"type": "function", "function": {"name": "f", "description": "<d>", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def reference(byte_level_backend: Backend) -> Any:
    """`apply_chat_template` of transformers with BOS «<s>» and EOS «<|im_end|>»."""
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_level_backend, bos_token="<s>", eos_token="<|im_end|>"
    )

    def apply(source: str, messages: Any, **options: Any) -> str:
        return tokenizer.apply_chat_template(messages, chat_template=source, tokenize=False, **options)

    return apply


def template(source: str | None, **limits: Any) -> ChatTemplate:
    return ChatTemplate(source, "<s>", "<|im_end|>", limits=RenderLimits(**limits) if limits else None)


@pytest.mark.parametrize("source", [CHATML, EITHER], ids=["chatml", "either"])
@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("opens_answer", [True, False])
def test_strings_equal_transformers(
    reference: Any, source: str, messages: list[dict[str, Any]], opens_answer: bool
) -> None:
    expected = reference(source, messages, add_generation_prompt=opens_answer)
    assert template(source).render(messages, add_generation_prompt=opens_answer) == expected


def test_parts_equal_transformers(reference: Any) -> None:
    messages = PART_CONVERSATION[:1]
    expected = reference(EITHER, messages, add_generation_prompt=True)
    assert template(EITHER).render(messages) == expected
    assert "one" in expected and "two" in expected


@pytest.mark.parametrize("tools", [None, [A_TOOL, A_TOOL]])
@pytest.mark.parametrize("kwargs", [{}, {"enable_thinking": False}])
def test_tools_equal_transformers(reference: Any, tools: Any, kwargs: dict[str, Any]) -> None:
    expected = reference(TOOLS, PART_CONVERSATION, tools=tools, add_generation_prompt=True, **kwargs)
    assert template(TOOLS).render(PART_CONVERSATION, tools=tools, chat_template_kwargs=kwargs) == expected


def test_the_model_s_own_template(smollm2: Tokenizer) -> None:
    own = ChatTemplate(smollm2.chat_template, smollm2.bos_token, smollm2.eos_token)
    prompt = own.render([{"role": "user", "content": "Hi"}])
    ids = smollm2.encode(prompt, add_special_tokens=False)
    assert ids[0] == 1 and ids.count(2) == 2
    assert smollm2.decode(ids, skip_special_tokens=False) == prompt


@MANY
@given(text=st.text(max_size=50))
def test_any_text_passes_unchanged(text: str) -> None:
    assert template("{{ messages[0].content }}").render([{"role": "user", "content": text}]) == text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (CHATML, ContentFormat.STRING),
        (EITHER, ContentFormat.EITHER),
        ("{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}", ContentFormat.PARTS),
        ("{% for m in messages %}{% for p in m['content'] | list %}{{ p.text }}{% endfor %}{% endfor %}", "parts"),
        ("{% for m in messages[1:] %}{% set c = m.content %}{% for p in c %}{{ p }}{% endfor %}{% endfor %}", "parts"),
        (
            "{% set ms = messages %}{% for m in ms %}{% for p in m.content[:2] %}{{ p }}{% endfor %}{% endfor %}",
            "parts",
        ),
        ("{% macro r(c) %}{% for p in c %}{{ p }}{% endfor %}{% endmacro %}{{ r(messages[0].content) }}", "parts"),
        ("{% for m in messages %}{% for c in m.tool_calls %}{{ c }}{% endfor %}{{ m.content }}{% endfor %}", "string"),
        ("{% for m in messages %}{% for w in m.content.split(' ') %}{{ w }}{% endfor %}{% endfor %}", "string"),
    ],
)
def test_content_format(source: str, expected: str) -> None:
    assert template(source).content_format == expected


def test_content_is_brought_into_the_template_s_form() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    string_only = template("{{ messages[0].content }}")
    assert string_only.render([{"role": "user", "content": parts}]) == "a\nb"
    parts_only = template("{% for p in messages[0].content %}<{{ p.text }}>{% endfor %}")
    assert parts_only.render([{"role": "user", "content": "a"}]) == "<a>"


def test_content_is_none_only_where_there_are_calls() -> None:
    source = "{{ messages[0].content is none }} {{ 'tool_calls' in messages[0] }}"
    call = {"id": "1", "function": {"name": "f"}}
    for calls, expected in (([call], "True True"), ([], "False False"), (None, "False False")):
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        assert template(source).render([message]) == expected


def test_tool_arguments_are_parsed() -> None:
    call = {"function": {"name": "f", "arguments": '{"a": 1}'}}
    source = "{{ messages[0].tool_calls[0].function.arguments.a + 1 }}"
    assert template(source).render([{"role": "assistant", "content": None, "tool_calls": [call]}]) == "2"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ("hi", "messages"),
        (["hi"], "messages[0]"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": "hacker\n", "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}],
            "messages[0].content[0]",
        ),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": "x", "extra": object()}], "messages[0].extra"),
        ([{"role": "assistant", "tool_calls": [{"id": "1"}]}], "messages[0].tool_calls[0]"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_malformed_messages_are_refused(messages: Any, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        template(CHATML).render(messages)
    assert caught.value.param == param


def test_messages_nested_too_deep() -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    with pytest.raises(InvalidRequestError, match="nested"):
        template(CHATML).render([{"role": "user", "content": "x", "extra": deep}])


@pytest.mark.parametrize("num_calls", [1, 4])
@pytest.mark.parametrize("num_messages", [1, 4])
def test_arguments_are_bounded_together_before_they_are_parsed(
    monkeypatch: pytest.MonkeyPatch, num_calls: int, num_messages: int
) -> None:
    """A text holds values that no other bound counts: «[],» five million times is 16 MiB."""

    def conversation(num_lists: int) -> list[dict[str, Any]]:
        arguments = "[" + "[]," * (num_lists // (num_calls * num_messages) - 2) + "[]]"
        call = {"id": "1", "function": {"name": "f", "arguments": arguments}}
        return [{"role": "assistant", "tool_calls": [call] * num_calls}] * num_messages

    template("{{ messages[0].role }}").render(conversation(MAX_JSON_CONTAINERS))
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(InvalidRequestError, match=f"arguments .* more than {MAX_JSON_CONTAINERS}") as caught:
        template("{{ messages[0].role }}").render(conversation(MAX_JSON_CONTAINERS + num_calls * num_messages))
    assert caught.value.param == "messages"


def test_messages_are_rewritten_as_text_and_brought_into_the_template_s_form() -> None:
    def rewrite(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"role": "user", "content": f"{messages[0]['content']}!"}]

    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    for source in ("{{ messages[0].content }}", "{% for part in messages[0].content %}{{ part.text }}{% endfor %}"):
        assert template(source).render([{"role": "user", "content": parts}], rewrite=rewrite) == "a\nb!"


def test_arguments_the_template_cannot_use_are_refused() -> None:
    messages = CONVERSATIONS[0]
    with pytest.raises(InvalidRequestError, match="'bos_token'; allowed are"):
        template(CHATML).render(messages, chat_template_kwargs={"bos_token": "x"})
    with pytest.raises(InvalidRequestError, match="does not read 'enable_thinking'"):
        template(CHATML).render(messages, chat_template_kwargs={"enable_thinking": True})
    with pytest.raises(InvalidRequestError, match="does not know tools"):
        template(CHATML).render(messages, tools=[A_TOOL])


def test_no_template() -> None:
    with pytest.raises(InvalidRequestError, match="--chat-template FILE"):
        template(None).render(CONVERSATIONS[0])


def test_the_template_s_own_refusal() -> None:
    with pytest.raises(InvalidRequestError, match="Roles must alternate"):
        template(EITHER).render([{"role": "assistant", "content": "x"}])


@pytest.mark.parametrize(
    "source", ["{% for x in messages %}", "{{ 'x' | nosuchfilter }}", "{% include 'x' %}{{", "{{ 1 +"]
)
def test_a_template_that_does_not_compile(source: str) -> None:
    with pytest.raises(ModelFileError, match="does not compile"):
        template(source)


def test_a_template_too_long() -> None:
    with pytest.raises(ModelFileError, match="at most"):
        template("x" * (MAX_SOURCE_CHARS + 1))


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ dict.update(messages[0], {'role': 'x'}) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ namespace(__class__=1) }}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
        "{{ '{0.__class__.__mro__}'.format(messages) }}",
        "{{ (messages | map(attribute='__class__') | list)[0].__mro__ }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_sandbox_escapes_are_refused(source: str) -> None:
    with pytest.raises((InvalidRequestError, ModelFileError)):
        template(source).render(CONVERSATIONS[0])


def test_no_context_key_leads_out() -> None:
    assert template("{{ self }}{{ context }}{{ environment }}{{ budget }}").render(CONVERSATIONS[0]).count("0x") == 0


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
        "{% for a in messages[0].content * 9999 %}{% for b in messages[0].content * 9999 %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='aaaa') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='aaaa') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='aaaa') %}{% for i in range(9) %}{% set ns.s = ns.s | replace('a', ns.s) %}{% endfor %}",
        "{% set ns = namespace(s='aaaa') %}{% for i in range(9) %}{% set ns.s = ns.s.replace('a', ns.s) %}{% endfor %}",
        "{% set ns = namespace(s='aaaa') %}{% for i in range(9) %}{% set ns.s = ns.s.join(ns.s) %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}{{ ns.l }}",
        "{% set s = 'a' * 1000000 %}{{ [s] * 1000 }}",
        "{% set s = 'a' * 1000000 %}{{ ([0] * 9999) | map('default', s, true) | map('upper') | list | length }}",
        "{{ ('a' * 10000) | list | map('replace', 'a', 'b' * 10000) | join }}",
        "{% set ns = namespace(x=9) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x }}",
        "{{ 10 ** 10000000000 }}",
        "{{ 'a' * 10000000000 }}",
        "{{ 'a'.ljust(10000000000) }}",
        "{{ 'a' | center(10000000000) }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ '%10000000000d' | format(1) }}",
        "{{ '{:10000000000}'.format(1) }}",
        "{{ 'a\nb' | indent(10000000000) }}",
        "{{ messages | tojson(indent=10000000000) }}",
        "{{ messages | batch(10000000000, 'x') | list }}",
        "{{ lipsum(n=100000000) }}",
        "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}",
        "{% for m in messages recursive %}{{ loop(messages) }}{{ loop(messages) }}{% endfor %}",
    ],
)
def test_endless_work_is_refused(source: str) -> None:
    began = time.monotonic()
    with pytest.raises((InvalidRequestError, ModelFileError)):
        template(source, max_chars=1 << 22, max_total_chars=1 << 24, max_steps=200_000).render(CONVERSATIONS[0])
    assert time.monotonic() - began < 5


def test_the_output_is_bounded() -> None:
    with pytest.raises(InvalidRequestError, match="characters"):
        template("{{ messages[0].content }}" * 3, max_chars=100).render([{"role": "user", "content": "x" * 50}])


def test_the_time_is_bounded() -> None:
    with pytest.raises(InvalidRequestError, match=r"more than 0\.0 s"):
        template("{% for m in messages %}{% endfor %}", max_seconds=0.0).render(CONVERSATIONS[0])


def test_a_long_conversation_is_within_the_limits() -> None:
    roles = ["user", "assistant"]
    messages = [{"role": roles[index % 2], "content": "word " * 1000} for index in range(2001)]
    assert len(template(EITHER).render(messages)) > 9_000_000
