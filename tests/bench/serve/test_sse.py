"""Server-sent events, however their bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.bench.serve.sse import EventReader

STREAM = 'data: {"a": "é"}\n\n: ping\n\nevent: x\ndata: b\ndata:c\n\ndata:\n\ndata: [DONE]\n\n'.encode()
EVENTS = ['{"a": "é"}'.encode(), b"b\nc", b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8), st.booleans())
def test_events_do_not_depend_on_the_cuts(cuts: list[int], has_crlf: bool) -> None:
    stream = STREAM.replace(b"\n", b"\r\n") if has_crlf else STREAM
    reader = EventReader()
    ends = [*sorted(cuts), len(stream)]
    parts = [stream[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    assert [event for part in parts for event in reader.feed(part)] == EVENTS


@pytest.mark.parametrize("size", [1, 2, 3])
def test_byte_by_byte(size: int) -> None:
    reader = EventReader()
    parts = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert [event for part in parts for event in reader.feed(part)] == EVENTS


def test_what_is_not_complete_is_no_event() -> None:
    reader = EventReader()
    assert reader.feed(b"data: half\n") == []
    assert reader.feed(b"\n") == [b"half"]
