"""What an answer is held to, as it goes between processes."""

import msgspec

from octavo.core.structured_outputs import StructuredOutputs


def test_a_schema_is_kept_as_its_text_with_integers_of_any_size() -> None:
    given = {"type": "object", "properties": {"b": {}, "a": {"const": 10**30}}, "default": -(10**20)}
    outputs = StructuredOutputs(json=given)
    assert msgspec.json.decode(str(outputs.json)) == given
    assert outputs == StructuredOutputs(json=outputs.json)
    assert len({outputs, StructuredOutputs(json=given)}) == 1
    for code in (msgspec.msgpack, msgspec.json):
        assert code.decode(code.encode(outputs), type=StructuredOutputs) == outputs
