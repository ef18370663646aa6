"""The arithmetic, on times made by hand."""

import pytest

from octavo.bench.serve.chunks import Usage
from octavo.bench.serve.client_load import ClientLimit, ClientLoad
from octavo.bench.serve.goodput import Metric, Objective, num_good, parse_objectives
from octavo.bench.serve.load import LoadRun
from octavo.bench.serve.record import Failure, FailureKind, RequestRecord
from octavo.bench.serve.result import ServeResult, result_of
from octavo.core.errors import ConfigError


def record(
    sent_s: float,
    *output_s: float,
    end_s: float | None = None,
    num_tokens: int | None = None,
    num_prompt_tokens: int | None = 10,
    failure: Failure | None = None,
    is_finished: bool = True,
) -> RequestRecord:
    """`num_tokens`: as the server counted them."""
    return RequestRecord(
        scheduled_s=sent_s,
        released_s=sent_s,
        sent_s=sent_s,
        output_s=list(output_s),
        end_s=end_s if end_s is not None else (output_s[-1] if output_s else sent_s),
        num_prompt_tokens=num_prompt_tokens,
        usage=None if num_tokens is None else Usage(prompt_tokens=10, completion_tokens=num_tokens),
        max_tokens=3,
        failure=failure,
        is_finished=is_finished,
    )


def result(*records: RequestRecord, num_unsent: int = 0, goodput: str | None = None, lag_s: float = 0.0) -> ServeResult:
    client = ClientLoad(cpu_s=0.1, core_share=0.01, machine_share=0.005, lag_p99_s=lag_s, lateness_p99_s=0.0)
    run = LoadRun(records=list(records), num_unsent=num_unsent, duration_s=4.0, client=client)
    return result_of(run, parse_objectives(goodput) if goodput else (), shares_machine=True)


def test_latencies() -> None:
    got = result(record(1.0, 1.5, 1.75, 2.5, num_tokens=3), record(0.0, 1.0, 2.0, num_tokens=2))
    assert got.ttft_s is not None and got.ttft_s.samples == [0.5, 1.0]
    assert got.tpot_s is not None and got.tpot_s.samples == [0.5, 1.0]  # (2.5 - 1.5) / 2, (2 - 1) / 1
    assert got.itl_s is not None and got.itl_s.samples == [0.25, 0.75, 1.0]
    assert got.e2e_s is not None and got.e2e_s.samples == [1.5, 2.0]
    assert got.tokens_per_chunk == 1.0


def test_rates_and_totals() -> None:
    got = result(record(0.0, 1.0, 2.0, num_tokens=3), record(0.0, 1.0, num_tokens=1))
    assert (got.num_input_tokens, got.num_output_tokens) == (20, 4)
    assert (got.requests_per_s, got.output_tokens_per_s, got.total_tokens_per_s) == (0.5, 1.0, 6.0)
    assert got.num_short == 1


def test_chunks_of_several_tokens() -> None:
    """Two chunks hold five tokens: the time per output token is by token, that between chunks stays what it is."""
    got = result(record(0.0, 1.0, 3.0, num_tokens=5))
    assert got.tpot_s is not None and got.tpot_s.samples == [0.5]
    assert got.itl_s is not None and got.itl_s.samples == [2.0]
    assert got.tokens_per_chunk == 2.5


def test_the_end_may_come_after_the_last_text() -> None:
    got = result(record(0.0, 1.0, 2.0, end_s=3.0, num_tokens=3))
    assert got.e2e_s is not None and got.e2e_s.samples == [3.0]
    assert got.tpot_s is not None and got.tpot_s.samples == [1.0]
    assert got.itl_s is not None and got.itl_s.samples == [1.0]


def test_answers_that_the_server_did_not_count() -> None:
    got = result(record(0.0, 1.0, 2.0, 3.0), record(0.0, 1.0, num_tokens=7, num_prompt_tokens=None))
    assert got.num_uncounted == 1
    assert got.num_output_tokens == 10
    assert got.num_input_tokens is None
    assert got.total_tokens_per_s is None


def test_one_token_has_no_time_per_output_token() -> None:
    got = result(record(0.0, 1.0, num_tokens=1))
    assert got.tpot_s is None
    assert got.itl_s is None
    assert got.ttft_s is not None


def test_failures_are_counted_by_reason_and_measured_by_nothing_else() -> None:
    busy = Failure(kind=FailureKind.STATUS, message="the queue is full", status=503)
    broken = Failure(kind=FailureKind.STREAM, message="the step failed")
    got = result(
        record(0.0, 1.0, 2.0, num_tokens=2),
        record(0.0, failure=busy),
        record(0.0, 1.0, failure=broken, num_tokens=9),
        record(0.0, failure=busy),
    )
    assert (got.num_requests, got.num_successful, got.num_failed) == (4, 1, 3)
    assert [(counted.failure, counted.count) for counted in got.failures] == [(busy, 2), (broken, 1)]
    assert got.num_output_tokens == 2
    assert got.requests_per_s == 0.25
    assert got.ttft_s is not None and got.ttft_s.samples == [1.0]


def test_a_run_that_was_stopped() -> None:
    got = result(record(0.0, 1.0, 2.0, num_tokens=2), record(0.0, 1.0, is_finished=False), num_unsent=3)
    assert (got.num_requests, got.num_successful, got.num_failed, got.num_interrupted) == (5, 1, 0, 4)
    assert got.num_output_tokens == 2


def test_nothing_that_succeeded_has_no_latencies() -> None:
    got = result(record(0.0, failure=Failure(kind=FailureKind.TIMEOUT, message="no end")), goodput="ttft:1")
    assert (got.ttft_s, got.tpot_s, got.itl_s, got.e2e_s, got.tokens_per_chunk) == (None,) * 5
    assert got.goodput is not None and got.goodput.num_good == 0
    assert (got.num_input_tokens, got.output_tokens_per_s) == (0, 0.0)


def test_goodput_counts_requests_that_keep_every_objective() -> None:
    quick, slow_first = record(0.0, 0.1, 0.2, num_tokens=2), record(0.0, 0.9, 1.0, num_tokens=2)
    slow_later = record(0.0, 0.1, 0.9, num_tokens=2)
    failed = record(0.0, 0.1, failure=Failure(kind=FailureKind.STREAM, message="x"))
    got = result(quick, slow_first, slow_later, failed, goodput="ttft:500 tpot:200")
    assert got.goodput is not None
    assert (got.goodput.num_good, got.goodput.requests_per_s) == (1, 0.25)
    assert result(quick, slow_first).goodput is None


@pytest.mark.parametrize(
    ("objective", "is_kept"),
    [
        *(("ttft:1000", True), ("ttft:999", False), ("tpot:500", True), ("tpot:499", False)),
        *(("itl:750", True), ("itl:749", False), ("e2e:2000", True), ("e2e:1999", False)),
    ],
)
def test_each_objective_at_its_limit(objective: str, is_kept: bool) -> None:
    one = record(0.0, 1.0, 1.25, 2.0, num_tokens=3)
    assert num_good([one], parse_objectives(objective)) == is_kept


def test_an_answer_of_one_token_keeps_what_it_does_not_have() -> None:
    assert num_good([record(0.0, 1.0, num_tokens=1)], parse_objectives("tpot:0.001 itl:0.001")) == 1


def test_objectives() -> None:
    expected = (Objective(metric=Metric.TTFT, max_ms=500), Objective(metric=Metric.TPOT, max_ms=0.5))
    assert parse_objectives("ttft:500 tpot:0.5") == parse_objectives("ttft:500,tpot:0.5") == expected


@pytest.mark.parametrize("text", ["", "ttft", "ttft:", "ttft:fast", "ttfb:5", "ttft:-1", "TTFT:5", "ttft:5 tpot"])
def test_objectives_that_are_wrong(text: str) -> None:
    with pytest.raises(ConfigError, match="allowed are ttft, tpot, itl, e2e"):
        parse_objectives(text)


def test_an_objective_twice() -> None:
    with pytest.raises(ConfigError, match="names a latency twice"):
        parse_objectives("ttft:5 ttft:6")


def test_the_client_is_warned_of_by_the_latency_it_measured() -> None:
    slow = record(0.0, 1.0, 2.0, num_tokens=2)
    assert result(slow, lag_s=0.4).warnings == []
    assert [warning.limit for warning in result(slow, lag_s=0.6).warnings] == [ClientLimit.EVENT_LOOP]
