"""The bounded queue: places all or none, given back once, and when to come back."""

import contextlib
import random

import pytest

from octavo.core.errors import InvalidRequestError, QueueFullError
from octavo.engine import admission as admission_module
from octavo.engine.admission import MAX_RETRY_AFTER_S, UNKNOWN_RETRY_AFTER_S, Admission, Places


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its entry is the time."""
    now = [1000.0]
    monkeypatch.setattr(admission_module.time, "monotonic", lambda: now[0])
    return now


def retry_after(admission: Admission, num_seqs: int) -> int:
    with pytest.raises(QueueFullError) as raised:
        admission.take(num_seqs)
    return raised.value.retry_after_s


def test_sequences_are_counted_all_or_none() -> None:
    admission = Admission(max_num_seqs=4, max_num_queued_reqs=4)
    admission.take(6)
    retry_after(admission, 3)
    assert admission.num_taken == 6
    admission.take(2)
    retry_after(admission, 1)


def test_places_are_given_back_once() -> None:
    admission = Admission(max_num_seqs=4, max_num_queued_reqs=4)
    other, places = admission.take(1), admission.take(5)
    places.give_back(2)
    assert admission.num_taken == 4
    places.give_back(9)
    places.close()
    assert admission.num_taken == 1
    other.close()
    other.close()
    assert admission.num_taken == 0


def test_what_never_fits_is_not_to_be_retried() -> None:
    with pytest.raises(InvalidRequestError, match="at most 8") as raised:
        Admission(max_num_seqs=4, max_num_queued_reqs=4).take(9)
    assert raised.value.param == "n"


def test_a_client_that_refills_leaves_places_to_others() -> None:
    admission = Admission(max_num_seqs=256, max_num_queued_reqs=512, is_fair=True)

    def fill(client: str) -> int:
        count = 0
        with pytest.raises(QueueFullError, match="no client may hold more"):
            for _ in range(admission.limit):
                admission.take(1, client)
                count += 1
        return count

    assert fill("a") == 384
    assert fill("b") == 192
    assert fill("c") == 96
    admission.take(50, "late")


def test_clients_that_always_ask_hold_the_same() -> None:
    admission = Admission(max_num_seqs=20, max_num_queued_reqs=20, is_fair=True)
    held: dict[str, list[Places]] = {"a": [], "b": [], "c": []}
    rng = random.Random(0)
    for _ in range(500):
        for client, places in held.items():  # the same one always asks first
            with contextlib.suppress(QueueFullError):
                while True:
                    places.append(admission.take(1, client))
        rng.choice([places for places in held.values() if places]).pop().close()
    assert all(8 <= len(places) <= 11 for places in held.values())
    for places in held.values():
        for place in places:
            place.close()
    assert admission.num_taken == 0 and not admission._held


def test_who_holds_none_may_take_all_that_are_left() -> None:
    admission = Admission(max_num_seqs=4, max_num_queued_reqs=4, is_fair=True)
    places = admission.take(8, "a")
    retry_after(admission, 1)
    places.close()
    admission.take(1, "a")
    with pytest.raises(QueueFullError):
        admission.take(7, "a")
    admission.take(7, "b")


def test_in_other_policies_whose_a_place_is_does_not_matter() -> None:
    admission = Admission(max_num_seqs=4, max_num_queued_reqs=4)
    for _ in range(8):
        admission.take(1, "a")
    with pytest.raises(QueueFullError):
        admission.take(1, "b")


def test_the_pace_tells_when_to_come_back(clock: list[float]) -> None:
    admission = Admission(max_num_seqs=50, max_num_queued_reqs=50)
    places = admission.take(100)
    assert retry_after(admission, 1) == UNKNOWN_RETRY_AFTER_S
    for _ in range(20):  # one every half second
        places.give_back(1)
        admission.take(1)
        clock[0] += 0.5
    assert retry_after(admission, 1) == 1
    assert retry_after(admission, 10) == 5
    assert retry_after(admission, 40) == 20
    clock[0] += 30.0  # stalled: the pace falls
    assert retry_after(admission, 10) == 20
    assert retry_after(admission, 90) == MAX_RETRY_AFTER_S
    clock[0] += 100.0
    assert retry_after(admission, 1) == UNKNOWN_RETRY_AFTER_S
