"""`docs/api.md` names every route, field and error code there is, with the ranges that are checked."""

import re
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from server.conftest import InProcess
from server.fake_engine import FakeEngine

from octavo.config.server_config import MOST_SECONDS
from octavo.core import json_limits, sampling_params, structured_outputs
from octavo.core.errors import InvalidRequestError
from octavo.core.sampling_params import SamplingParams
from octavo.engine.grammar_check import TIME_LIMIT_S
from octavo.engine.input_processor import MAX_CHARS_A_TOKEN, MAX_COUNTED_BYTES, MAX_LISTED_TOKENS
from octavo.server import fields, prompts, sampling
from octavo.server.messages.schema import CountTokensRequest, MessagesRequest
from octavo.server.responses import store
from octavo.server.responses.schema import ResponsesRequest
from octavo.server.schemas import (
    MAX_TOOLS,
    ChatCompletionRequest,
    CompletionRequest,
    DetokenizeRequest,
    StreamOptions,
    TokenizeRequest,
)
from octavo.server.tools.tool_use import MAX_TOOLS_BYTES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text()
RANGE = re.compile(r"^\| `(\w+)` \| (\S+) \| (-?[\d.]+) … (-?[\d.]+)", re.MULTILINE)


@dataclass(frozen=True)
class Range:
    name: str
    default: str
    low: float
    high: float


RANGES = [Range(name, default, float(low), float(high)) for name, default, low, high in RANGE.findall(PAGE)]


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_route_is_there() -> None:
    paths = InProcess(FakeEngine()).get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        row = next((line for line in PAGE.splitlines() if re.search(rf" {re.escape(path)}`", line)), "")
        assert all(method.upper() in row for method in methods), path


def named(*titles: str) -> set[str]:
    """What stands between backticks in these sections."""
    return set(re.findall(r"`(?:stream_options\.)?(\w+)`", "".join(map(section, titles))))


@pytest.mark.parametrize(
    ("schema", "titles"),
    [
        (CompletionRequest, ["Sampling", "Completions"]),
        (ChatCompletionRequest, ["Sampling", "Chat completions"]),
        (StreamOptions, ["Streams"]),
        (ResponsesRequest, ["/v1/responses"]),
        (MessagesRequest, ["/v1/messages"]),
        (CountTokensRequest, ["/v1/messages"]),
        (TokenizeRequest, ["Tokens"]),
        (DetokenizeRequest, ["Tokens"]),
    ],
)
def test_every_field_is_in_its_section(schema: type[msgspec.Struct], titles: list[str]) -> None:
    assert set(schema.__struct_fields__) - {"model"} <= named(*titles)


def test_what_all_have_is_there() -> None:
    assert {"model", *fields.UNREAD_FIELDS} <= named("What differs from OpenAI's")


def test_numbers_of_the_sections_are_those_of_the_schemas() -> None:
    """Their limits stand in the schemas themselves."""
    document = msgspec.json.schema(ResponsesRequest)["$defs"]["ResponsesRequest"]["properties"]
    assert f"up to {document['metadata']['anyOf'][0]['maxProperties']} texts by name" in section("/v1/responses")
    assert document["max_output_tokens"]["anyOf"][0]["minimum"] == 1
    stops = f"| `stop_sequences` | up to {sampling_params.MAX_STOP_STRINGS} of up to {sampling_params.MAX_STOP_CHARS:,} characters, "
    assert stops + f"{sampling_params.MAX_STOP_TOTAL_CHARS:,} in all |" in section("/v1/messages")


def number(name: str, value: float) -> float:
    return int(value) if name in ("n", "prompt_logprobs") else value


@pytest.mark.parametrize("stated", RANGES, ids=lambda stated: stated.name)
def test_ranges_are_those_that_are_checked(stated: Range) -> None:
    for value in (stated.low, stated.high):
        SamplingParams(**{stated.name: number(stated.name, value)})
    for value in (stated.low - 1, stated.high + 1):
        with pytest.raises(InvalidRequestError):
            SamplingParams(**{stated.name: number(stated.name, value)})
    default = getattr(SamplingParams(), stated.name)
    assert (default is None and stated.default == "none") or float(stated.default) == default


def test_the_ranges_were_found() -> None:
    assert len(RANGES) == 7


def test_every_code_is_there_and_no_other() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src" / "octavo" / "server").rglob("*.py"))
    made = set(re.findall(r'code="([a-z_]+)"', source))
    listed = set(re.findall(r"`([a-z_]+)`", section("Errors"))) - {"code"}
    assert made <= listed
    assert all(f'"{code}"' in source for code in listed)


def test_limits_are_those_of_the_code() -> None:
    for limit, words in (
        (json_limits.MAX_JSON_DEPTH, "{} levels"),
        (json_limits.MAX_JSON_CONTAINERS, "{} objects, lists and fields"),
        (json_limits.MAX_JSON_VALUES, "{} values"),
        (structured_outputs.MAX_GRAMMAR_CHARS, "at most {} characters"),
        (structured_outputs.MAX_GRAMMAR_CHARS, "{} characters as a grammar"),
        (structured_outputs.MAX_CHOICES, "{} choices"),
        (structured_outputs.MAX_JSON_DEPTH, "{} levels; what takes"),
        (TIME_LIMIT_S, "more than {} s to compile"),
        (MAX_TOOLS, "up to {} functions"),
        (MAX_TOOLS_BYTES >> 10, "of {} KiB together"),
        (prompts.MAX_CHOICES, "prompts × `n` at most {}"),
        (MAX_CHARS_A_TOKEN, "up to {} characters for each token"),
        (MAX_COUNTED_BYTES, "take texts of up to {}\nbytes of UTF-8"),
        (MAX_LISTED_TOKENS, "lists up to {} ids"),
        (sampling.MAX_LISTED, "`bad_words`, × prompts × `n`, at most {} |"),
        (sampling.MAX_SALT_CHARS, "1 to {} characters: prefixes"),
        (sampling_params.MAX_STOP_STRINGS, "up to {} of up to 1,024 characters"),
        (sampling_params.MAX_STOP_CHARS, "up to 64 of up to {} characters"),
        (sampling_params.MAX_STOP_TOTAL_CHARS, "a text, or up to 64 of up to 1,024 characters, {} in all"),
        (MOST_SECONDS, "or {} without it"),
        (store.MAX_RESPONSES, "at most {} and 64 MiB of them"),
        (store.MAX_BYTES >> 20, "at most 4,096 and {} MiB of them"),
        (sampling_params.MAX_BIAS_ENTRIES, "up to {} ids with"),
        (sampling_params.MAX_BAD_WORD_CHARS, "up to 1,024 of up to {} characters, never"),
    ):
        assert words.format(f"{limit:,g}" if isinstance(limit, float) else f"{limit:,}") in PAGE


def test_the_pages_links_lead_somewhere() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
