"""/docs: the routes and their fields on one page, without a script and without anything from outside."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from starlette.responses import HTMLResponse, Response

from octavo.server.fields import UNREAD_FIELDS
from octavo.server.web.headers import INERT_HEADERS
from octavo.server.web.page_header import page_head, page_header

Document = Mapping[str, Any]


def docs_page(document: Document) -> Response:
    """The OpenAPI document as a page."""
    title = f"{document['info']['title']} {document['info']['version']}"
    sections = "".join(_sections(document))
    passed_over = ", ".join(f"<code>{name}</code>" for name in sorted(UNREAD_FIELDS))
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head>{page_head(title, "docs.css")}</head>'
        f'<body>{page_header("/docs")}<main id="main" class="docs"><h1>{escape(title)}</h1>'
        '<p>For programs: <a href="/openapi.json">openapi.json</a>.</p>'
        f"<p>Every body may also have {passed_over}: the answer is the same.</p>"
        f"{sections}</main></body></html>",
        headers=INERT_HEADERS,
    )


def _sections(document: Document) -> Iterator[str]:
    """The routes, each with the fields of its body, then the objects that these fields hold."""
    schemas = document["components"]["schemas"]
    bodies = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation.get('description', ''))}</p>"
            body = operation.get("requestBody")
            if body is not None:
                name = _name(body["content"]["application/json"]["schema"]["$ref"])
                bodies.append(name)
                yield _field_table(schemas[name])
    yield "<h2>Objects</h2>"
    for name in _held_objects(schemas, bodies):
        promise = schemas[name].get("description", "").partition("\n\n")[0]
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{escape(promise)}</p>'
        yield _field_table(schemas[name])


def _held_objects(schemas: Document, bodies: Sequence[str]) -> list[str]:
    """The schemas that `bodies` lead to, by name, each once."""
    found = list(bodies)
    for name in found:
        found += [inner for inner in dict.fromkeys(_references(schemas[name])) if inner not in found]
    return found[len(bodies) :]


def _references(schema: Any) -> Iterator[str]:
    """The names of the schemas that one refers to."""
    if isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
        yield _name(schema["$ref"])
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _references(part)


def _field_table(schema: Document) -> str:
    if not schema["properties"]:
        return ""
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{_type(field)}</td>"
        f"<td>{'required' if name in required else ''}</td></tr>"
        for name, field in schema["properties"].items()
    )
    return f"<table><tr><th>Field</th><th>Type</th><th></th></tr>{rows}</table>"


def _type(field: Document) -> str:
    """A JSON schema in words, as HTML: «array of integer or null»."""
    if "anyOf" in field:
        return " or ".join(_type(choice) for choice in field["anyOf"])
    if "$ref" in field:
        name = escape(_name(field["$ref"]))
        return f'<a href="#{name}">{name}</a>'
    if "enum" in field:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in field["enum"])
    name = str(field.get("type", "anything"))
    return f"array of {_type(field['items'])}" if name == "array" and "items" in field else escape(name)


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]
