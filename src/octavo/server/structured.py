"""The shape that a request wants its answer to have, by whichever of the two fields says so."""

from collections.abc import Iterator
from typing import Any

from octavo.core.errors import InvalidRequestError
from octavo.core.structured_outputs import StructuredOutputs
from octavo.server.field_names import rename_shape
from octavo.server.schemas import GenerationRequest, JsonObjectFormat, JsonSchema, JsonSchemaFormat
from octavo.tokenizer.grammar import JSON_OPTIONS

_NOTES = frozenset(
    ("$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly")
)
_SCHEMA_OF = frozenset(("additionalProperties", "items"))
_SCHEMAS_BY_NAME = frozenset(("$defs", "definitions", "properties", "patternProperties"))
_LISTS_OF_SCHEMAS = frozenset(("anyOf", "allOf", "oneOf", "prefixItems"))
_HELD_TO = frozenset(
    (
        "$ref", "type", "enum", "const", "required", "minProperties", "maxProperties", "minItems", "maxItems",
        "minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
        "multipleOf",
    )
)  # fmt: skip
_KEYWORDS = _NOTES | _SCHEMA_OF | _SCHEMAS_BY_NAME | _LISTS_OF_SCHEMAS | _HELD_TO


def structured_outputs(request: GenerationRequest) -> StructuredOutputs | None:
    """None for any text. Raises `InvalidRequestError`."""
    form = request.response_format
    if isinstance(form, JsonObjectFormat):
        asked = StructuredOutputs(json_object=True)
    elif isinstance(form, JsonSchemaFormat):
        asked = _of_schema(form.json_schema)
    else:
        return request.structured_outputs
    if request.structured_outputs is not None:
        raise InvalidRequestError(
            "response_format and structured_outputs both say what shape the answer has; leave one out",
            param="structured_outputs",
        )
    return asked


def shape_field(request: GenerationRequest) -> str:
    """The field that says the shape, or would."""
    is_form = isinstance(request.response_format, (JsonObjectFormat, JsonSchemaFormat))
    return "response_format" if is_form else "structured_outputs"


def _of_schema(given: JsonSchema) -> StructuredOutputs:
    if given.schema is None:
        return StructuredOutputs(json_object=True)
    try:
        outputs = StructuredOutputs(json=guided(given.schema, is_strict=bool(given.strict)))  # bounds its depth
    except InvalidRequestError as error:
        rename_shape(error, "response_format")
        raise
    if given.strict:
        refuse_unknown_keywords(given.schema, "response_format.json_schema.schema", param="response_format")
    return outputs


def guided(schema: dict[str, Any], *, is_strict: bool) -> dict[str, Any]:
    """`schema` for llguidance: blanks bounded; where it is not strict, keywords that cannot be enforced are passed over."""
    return {**schema, "x-guidance": {**JSON_OPTIONS, "lenient": not is_strict}}


def refuse_unknown_keywords(schema: dict[str, Any], where: str, *, param: str) -> None:
    """What `strict` asks for. Raises `InvalidRequestError` for a keyword that answers cannot be held to."""
    for name in schema:
        if name not in _KEYWORDS:
            raise InvalidRequestError(
                f"{where} has the keyword {name[:200]!r}, which strict=true does not allow; "
                "leave it out, or set strict=false to have it taken for a note",
                param=param,
            )
    for part in _parts(schema):
        refuse_unknown_keywords(part, where, param=param)


def _parts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas directly inside."""
    for name, value in schema.items():
        if name in _SCHEMA_OF:
            parts = [value]
        elif name in _SCHEMAS_BY_NAME and isinstance(value, dict):
            parts = list(value.values())
        elif name in _LISTS_OF_SCHEMAS and isinstance(value, list):
            parts = value
        else:
            continue
        yield from (part for part in parts if isinstance(part, dict))
