"""Runs one step: SchedulerOutput in, ModelOutput out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo import ops
from octavo.cache import CacheLayout
from octavo.core.errors import OctavoError
from octavo.core.logs import of_request
from octavo.core.messages import (
    ModelOutput,
    NewRequest,
    RequestResult,
    ScheduledRequest,
    SchedulerOutput,
    TokenLogprobs,
    split_sequence_id,
)
from octavo.core.request import RequestFailure
from octavo.models.decoder import Decoder
from octavo.sampling import GrammarState, SampledToken, Sampler, SamplingRow, token_logprobs
from octavo.tokenizer.grammar import Grammars
from octavo.worker.forward_pass import RecordedPass, make_pass
from octavo.worker.input_batch import RequestRow, SharedArrays, pack_step
from octavo.worker.kv_cache import KVCache
from octavo.worker.program_report import ProgramReport, report_program

logger = logging.getLogger(__name__)

LOGPROB_ROWS = 64
"""Prompt positions whose logits are held at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerLimits:
    """What a runner is made for."""

    max_num_batched_tokens: int
    max_num_seqs: int
    num_threads: int
    enforce_eager: bool = False
    """Compute op by op where a recorded pass could be replayed."""


class ModelRunner:
    """Owns the weights, the KV tensors and the rows of the requests it was told of.

    One request's failure is reported in its own result; only a failure of the pass itself raises.
    """

    def __init__(
        self,
        model: Decoder,
        layout: CacheLayout,
        num_blocks: int,
        device: torch.device,
        limits: RunnerLimits,
        grammars: Grammars,
    ) -> None:
        self.model = model
        """Bound to the runner's cache: another pass over it reads and writes the same memory."""
        self._grammars = grammars
        self._num_threads = limits.num_threads
        self.layout = layout
        self._device = device
        self._sampler = Sampler(model.spec.vocab_size)
        self._rows: dict[str, RequestRow] = {}
        self._arrays = SharedArrays()
        self._num_blocks = num_blocks
        self._cache = KVCache(layout, num_blocks, device)
        for index, layer in enumerate(model.layers):
            layer.mixer.cache = self._cache.layers[index]
        self._pass = make_pass(
            model,
            layout,
            device,
            max_tokens=limits.max_num_batched_tokens,
            max_sampled=limits.max_num_seqs,
            is_eager=limits.enforce_eager,
        )

    @torch.inference_mode()
    def execute(self, batch: SchedulerOutput) -> ModelOutput:
        """Compute the step's tokens and sample where a request's last known token was among them."""
        if ops.num_threads() != self._num_threads:  # process-wide: another engine may have set its own
            ops.set_num_threads(self._num_threads)
        failures = self._take_in(batch)
        scheduled = [request for request in batch.scheduled if request.request_id not in failures]
        results = {request_id: RequestResult(request_id, [], error=failure) for request_id, failure in failures.items()}
        self._cache.copy_blocks(batch.block_copies)
        if scheduled:
            rows = [self._rows[request.request_id] for request in scheduled]
            step = pack_step(rows, scheduled, self.layout, self._device)
            indices = [index for index, request in enumerate(scheduled) if request.is_sampled]
            last_R = torch.from_numpy(step.starts[1:][indices] - 1).to(self._device)
            output = self._pass(step, last_R)
            sampled = self._sample(output.logits_RV, indices, rows)
            for index, (request, row) in enumerate(zip(scheduled, rows, strict=True)):
                prompt_logprobs = self._prompt_logprobs(output.hidden_TC, request, row, int(step.starts[index]))
                results[request.request_id] = _result(request.request_id, sampled.get(index), prompt_logprobs)
        return ModelOutput([results[request.request_id] for request in batch.scheduled])

    def report_program(self, *, num_requests: int, context_tokens: int, new_tokens: int = 1) -> ProgramReport | None:
        """The recorded pass and a step's time in it; None where passes are not recorded. For an idle runner."""
        if not isinstance(self._pass, RecordedPass):
            return None
        return report_program(
            self._pass,
            self.layout,
            self._num_blocks,
            num_requests=num_requests,
            context_tokens=context_tokens,
            new_tokens=new_tokens,
        )

    def _take_in(self, batch: SchedulerOutput) -> dict[str, RequestFailure]:
        """Update the rows; request id → why, for those that cannot be."""
        failures: dict[str, RequestFailure] = {}
        for request_id in batch.finished_ids:
            self._rows.pop(request_id, None)
        for request in batch.new_requests:
            try:
                grammar = self._grammar(request)
                self._rows[request.request_id] = RequestRow(request, len(self.layout.groups), grammar, self._arrays)
            except Exception as error:  # noqa: BLE001  (logged by `_failure`)
                failures[request.request_id] = _failure(request.request_id, error)
        for scheduled in batch.scheduled:
            if scheduled.request_id in failures:
                continue
            try:
                self._rows[scheduled.request_id].advance(scheduled)
            except Exception as error:  # noqa: BLE001  (logged by `_failure`)
                failures[scheduled.request_id] = _failure(scheduled.request_id, error)
        return failures

    def _grammar(self, request: NewRequest) -> GrammarState | None:
        if request.params.structured_outputs is None:
            return None
        owner, _ = split_sequence_id(request.request_id)
        return GrammarState(self._grammars.of(owner))

    def _sample(self, logits_RV: Tensor, indices: list[int], rows: Sequence[RequestRow]) -> dict[int, SampledToken]:
        """Index among the scheduled → its sampled token, for those whose last known token was computed."""
        if not indices:
            return {}
        sampling_rows = [
            SamplingRow(
                params=row.params,
                seed=row.seed,
                position=row.num_tokens,
                prompt_token_ids=row.prompt_token_ids,  # type: ignore[arg-type]  # an int64 array serves as a sequence
                output_token_ids=row.output_token_ids,  # type: ignore[arg-type]
                stop_token_ids=row.stop_token_ids,  # type: ignore[arg-type]
                allowed_token_ids=row.allowed_token_ids,  # type: ignore[arg-type]
                grammar=row.grammar,
            )
            for row in (rows[index] for index in indices)
        ]
        return dict(zip(indices, self._sampler.sample(logits_RV, sampling_rows), strict=True))

    def _prompt_logprobs(
        self, hidden_TC: Tensor, request: ScheduledRequest, row: RequestRow, first_row: int
    ) -> list[TokenLogprobs] | None:
        """Of the prompt tokens after positions start, start + 1 …, as far as this chunk predicts them."""
        num_top = row.params.prompt_logprobs
        if num_top is None:
            return None
        end = min(request.start + len(request.token_ids), row.num_prompt_tokens - 1)
        logprobs: list[TokenLogprobs] = []
        for start in range(request.start, end, LOGPROB_ROWS):
            count = min(LOGPROB_ROWS, end - start)
            offset = first_row + start - request.start
            rows_R = torch.arange(offset, offset + count, device=self._device)
            logits_RV = self.model.logits(hidden_TC, rows_R)
            targets = row.prompt_token_ids[start + 1 : start + 1 + count].tolist()
            logprobs += token_logprobs(logits_RV, targets, [num_top] * count)
        return logprobs


def _failure(request_id: str, error: Exception) -> RequestFailure:
    if not isinstance(error, OctavoError):
        logger.error("it failed", exc_info=error, extra=of_request(request_id))
    return RequestFailure.of(error)


def _result(
    request_id: str, sampled: SampledToken | None, prompt_logprobs: list[TokenLogprobs] | None
) -> RequestResult:
    if sampled is None:
        return RequestResult(request_id, [], prompt_logprobs=prompt_logprobs)
    if sampled.token_id is None:
        return RequestResult(request_id, [], error=sampled.error)
    logprobs = None if sampled.logprobs is None else [sampled.logprobs]
    return RequestResult(request_id, [sampled.token_id], logprobs, prompt_logprobs, is_complete=sampled.is_complete)
