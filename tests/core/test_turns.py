"""Clients are served by turns, each in its own order."""

import pytest

from octavo.core.turns import Turns


def test_who_comes_later_waits_for_one_of_each_other_client() -> None:
    turns: Turns[str] = Turns()
    for item in ("a1", "a2", "a3", "b1"):
        turns.put(item[0], item)
    assert turns.take() == "a1"
    assert turns.take() == "b1"
    turns.put("c", "c1")
    turns.put("b", "b2")
    assert [turns.take() for _ in range(4)] == ["a2", "c1", "b2", "a3"]
    assert not turns
    turns.put("a", "a4")
    assert turns.take() == "a4"
    with pytest.raises(KeyError):
        turns.take()
