"""Which tokens attend to which blocks in one step."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttentionPlan:
    """The rows of a step, grouped by request (R requests), and where each request's keys lie.

    query_starts   int32 (R + 1,): request r owns rows query_starts[r] … query_starts[r + 1] − 1
    seq_lens       int32 (R,): keys of the request, this step's included; its last row is at position seq_lens − 1
    block_tables   int32 (R, max_blocks): token p of request r is at slot block_tables[r, p // block_size]·block_size
                   + p % block_size; entries behind the window are 0, the null block, and are not read
    """

    query_starts: Tensor
    seq_lens: Tensor
    block_tables: Tensor
    block_size: int

    @property
    def num_requests(self) -> int:
        return self.seq_lens.shape[0]
