"""The kernels that the library may run on."""

from collections.abc import Iterator

import pytest
import torch

from octavo.ops import table
from octavo.ops.dispatch import NATIVE, Op

REFERENCE = "reference"
OPS = ("PAGED_ATTENTION", "ATTENTION_BACKWARD", "STORE_KV")


def attention_paths() -> list[str]:
    """Instruction sets and the paths of attention on each: "avx2 vector"."""
    if NATIVE is None:
        return []
    before, found = NATIVE.isa(), []
    for isa in NATIVE.available_isas():
        NATIVE.force_isa(isa)
        found += [f"{isa} {path}" for path in NATIVE.attention_paths()]
    NATIVE.force_isa(before)
    return found


@pytest.fixture(params=[*attention_paths(), REFERENCE])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once a path of attention, and with the reference."""
    if request.param == REFERENCE:
        with pytest.MonkeyPatch.context() as patch:
            for name in OPS:
                patch.setattr(table, name, Op(getattr(table, name).kernels[-1:]))
            yield request.param
        return
    assert NATIVE is not None
    before = NATIVE.isa()
    isa, _, path = request.param.partition(" ")
    NATIVE.force_isa(isa)
    NATIVE.force_attention_path(path)
    yield request.param
    NATIVE.force_isa(before)


@pytest.fixture(autouse=True)
def one_thread_of_torch() -> Iterator[None]:
    """Its threads cost more than they save on tensors as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
