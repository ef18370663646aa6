"""response_format and structured_outputs: what the engine is asked for, and what is refused."""

from typing import Any

import pytest
from server.conftest import MODEL, InProcess, chat_body

from octavo.core.structured_outputs import StructuredOutputs
from octavo.server.structured import guided
from octavo.tokenizer.grammar import check_grammar

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "description": "a note"}}, "required": ["a"]}
PATHS = ("/v1/completions", "/v1/chat/completions")


def body(path: str, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": "Hi", **fields} if path == PATHS[0] else chat_body(**fields)


def json_schema(**fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", **fields}}


def held_to(schema: dict[str, Any], *, is_strict: bool = False) -> StructuredOutputs:
    return StructuredOutputs(json=guided(schema, is_strict=is_strict))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({}, None),
        ({"response_format": None, "structured_outputs": None}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, StructuredOutputs(json_object=True)),
        ({"response_format": json_schema()}, StructuredOutputs(json_object=True)),
        ({"response_format": json_schema(schema=SCHEMA)}, held_to(SCHEMA)),
        ({"response_format": json_schema(schema=SCHEMA, strict=True)}, held_to(SCHEMA, is_strict=True)),
        ({"response_format": json_schema(schema={"note": 1})}, held_to({"note": 1})),
        ({"structured_outputs": {"json": SCHEMA}}, StructuredOutputs(json=SCHEMA)),
        ({"structured_outputs": {"choice": ["a", "b"]}}, StructuredOutputs(choice=("a", "b"))),
        ({"structured_outputs": {"regex": "a+"}}, StructuredOutputs(regex="a+")),
    ],
)
def test_what_the_engine_is_asked_for(server: InProcess, path: str, fields: dict[str, Any], want: Any) -> None:
    reply = server.post(path, body(path, **fields))
    assert reply.status_code == 200, reply.text
    [(_, params, _, _)] = server.engine.calls
    assert params.structured_outputs == want


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("keyword", ["uniqueItems", "not", "if", "dependentRequired", "x-guidance", "oops"])
def test_without_strict_what_cannot_be_enforced_is_a_note(server: InProcess, path: str, keyword: str) -> None:
    schema = {**SCHEMA, keyword: {}}
    reply = server.post(path, body(path, response_format=json_schema(schema=schema)))
    assert reply.status_code == 200, reply.text
    [(_, params, _, _)] = server.engine.calls
    check_grammar(params.structured_outputs)
    reply = server.post(path, body(path, response_format=json_schema(schema=schema, strict=True)))
    assert reply.status_code == 400 and keyword in reply.json()["error"]["message"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type", "xml"),
        ({"response_format": "json"}, "response_format", "expected"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format.json_schema.name",
            "missing",
        ),
        ({"response_format": json_schema(name="a b")}, "response_format.json_schema.name", "64 letters"),
        ({"response_format": json_schema(name="a\n")}, "response_format.json_schema.name", "64 letters"),
        ({"response_format": json_schema(schema=[])}, "response_format.json_schema.schema", "expected"),
        ({"response_format": json_schema(schema={"oops": 1}, strict=True)}, "response_format", "oops"),
        (
            {"response_format": json_schema(schema={"properties": {"a": {"x": 1}}}, strict=True)},
            "response_format",
            "'x'",
        ),
        (
            {"response_format": json_schema(schema={"anyOf": [{"items": {"x": 1}}]}, strict=True)},
            "response_format",
            "'x'",
        ),
        (
            {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
            "structured_outputs",
            "both",
        ),
        ({"structured_outputs": {}}, "structured_outputs", "exactly one of"),
        ({"structured_outputs": {"regex": "a", "json_object": True}}, "structured_outputs", "json_object and regex"),
        ({"structured_outputs": {"whitespace_pattern": "a"}}, "structured_outputs.whitespace_pattern", "unknown"),
        ({"guided_regex": "a"}, "guided_regex", "not built"),
    ],
)
def test_what_is_refused(server: InProcess, path: str, fields: dict[str, Any], param: str, says: str) -> None:
    reply = server.post(path, body(path, **fields))
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == param
    assert says in reply.json()["error"]["message"]
    assert not server.engine.calls
