"""What `octavo bench serve` prints of a measurement that is made by hand."""

from typing import Any

import pytest

from octavo.bench.serve.chunks import Usage
from octavo.bench.serve.client_load import ClientLoad
from octavo.bench.serve.load import LoadRun
from octavo.bench.serve.measure import Measurement
from octavo.bench.serve.options import LoadConfig, PromptConfig, TargetConfig
from octavo.bench.serve.plan import make_plan
from octavo.bench.serve.record import Failure, FailureKind, RequestRecord
from octavo.bench.serve.request_form import PromptForm
from octavo.bench.serve.result import result_of
from octavo.bench.serve.target import TakenForm
from octavo.cli.bench_serve_table import print_result

PLAN = make_plan("host:1", TargetConfig(), LoadConfig(), PromptConfig(), "ttft:5")


def record(*, num_tokens: int | None = 3, **changes: Any) -> RequestRecord:
    fields = {"scheduled_s": 0.0, "released_s": 0.0, "output_s": [0.5, 1.0, 1.5], "end_s": 1.5, "max_tokens": 3}
    usage = None if num_tokens is None else Usage(prompt_tokens=10, completion_tokens=num_tokens)
    return RequestRecord(**{**fields, "num_prompt_tokens": 10, "usage": usage, "is_finished": True, **changes})


def printed(
    capsys: pytest.CaptureFixture[str],
    *records: RequestRecord,
    num_unsent: int = 0,
    core_share: float = 0.1,
    form: TakenForm | None = None,
    num_failed_warmup: int = 0,
) -> str:
    client = ClientLoad(cpu_s=1, core_share=core_share, machine_share=0.01, lag_p99_s=0.0, lateness_p99_s=0.0)
    run = LoadRun(records=list(records), num_unsent=num_unsent, duration_s=2.0, client=client)
    measurement = Measurement(
        result=result_of(run, PLAN.objectives, shares_machine=False),
        records=run.records,
        model="a[bold]model",
        form=form or TakenForm(form=PromptForm.TOKEN_IDS),
        num_failed_warmup=num_failed_warmup,
    )
    print_result(PLAN, measurement)
    return capsys.readouterr().out


def test_a_run_without_anything_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, record())
    assert text.startswith("a[bold]model at http://host:1/v1/completions\n")
    assert "goodput (ttft:5), requests/s" in text
    assert "time per output token" in text
    for absent in ("note:", "warning:", "failed:", "stopped"):
        assert absent not in text


def test_what_is_not_as_it_seems_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    text_form = TakenForm(form=PromptForm.TEXT, why_text="HTTP 400: no [ids]")
    text = printed(
        capsys,
        record(num_tokens=None, num_prompt_tokens=None),
        record(num_tokens=2),
        form=text_form,
        num_failed_warmup=2,
        num_unsent=4,
        core_share=0.9,
    )
    flat = " ".join(text.split())
    assert "sent as text, about a token a word, because the server takes no token ids (HTTP 400: no [ids])" in flat
    assert "of 1 answers the server did not count the tokens" in flat
    assert "1 answers are shorter than asked for" in flat
    assert "0.83 tokens" in flat
    assert "2 requests of the warm-up failed" in flat
    assert "the run was stopped" in flat
    assert "warning: the client kept a core busy for 90% of the time" in flat
    assert "input tokens not known" in flat


def test_nothing_that_succeeded(capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure(kind=FailureKind.STATUS, status=503, message="the [queue] is full")
    text = printed(capsys, record(failure=failure), record(failure=failure))
    assert "failed: 2 × status 503: the [queue] is full" in text
    assert "time to first token" not in text
