"""What is kept, for whom, and what makes room."""

import pytest

from octavo.server.errors import ApiError
from octavo.server.responses.store import KeptResponse, ResponseStore


def holds(store: ResponseStore, client: str, response_id: str) -> bool:
    try:
        store.get(client, response_id)
    except ApiError as error:
        assert error.status == 404
        return False
    return True


def test_the_count_is_bounded_and_the_oldest_makes_room() -> None:
    store = ResponseStore(max_responses=2)
    for name in ("r1", "r2", "r3"):
        store.put("a", name, KeptResponse(b"x", b"y"))
    assert [holds(store, "a", name) for name in ("r1", "r2", "r3")] == [False, True, True]


def test_the_bytes_are_bounded_and_the_fullest_client_makes_room() -> None:
    small = KeptResponse(b"x", b"")
    store = ResponseStore(max_bytes=small.num_bytes + 2 * KeptResponse(bytes(9000), b"").num_bytes)
    store.put("quiet", "old", small)
    for number in range(10):
        store.put("loud", f"r{number}", KeptResponse(b"", bytes(9000)))
    assert holds(store, "quiet", "old")
    assert [holds(store, "loud", f"r{number}") for number in range(10)] == [False] * 8 + [True] * 2


def test_many_small_ones_do_not_push_out_another_clients_large_ones() -> None:
    store = ResponseStore(max_responses=10)
    for number in range(4):
        store.put("few", f"r{number}", KeptResponse(bytes(9000), b""))
    for number in range(20):
        store.put("many", f"m{number}", KeptResponse(b"x", b""))
    assert all(holds(store, "few", f"r{number}") for number in range(4))
    assert [holds(store, "many", f"m{number}") for number in range(20)] == [False] * 14 + [True] * 6


def test_one_that_has_no_room_is_not_kept() -> None:
    store = ResponseStore(max_bytes=10_000)
    store.put("a", "small", KeptResponse(b"x", b""))
    store.put("b", "huge", KeptResponse(bytes(20_000), b""))
    assert holds(store, "a", "small") and not holds(store, "b", "huge")


def test_deleted_ones_give_their_room_back() -> None:
    store = ResponseStore(max_responses=1)
    store.put("a", "r1", KeptResponse(b"x", b""))
    with pytest.raises(ApiError):
        store.delete("b", "r1")
    store.delete("a", "r1")
    store.put("b", "r2", KeptResponse(b"x", b""))
    assert holds(store, "b", "r2") and not holds(store, "a", "r1")
