"""Octavo: LLM inference and serving. `LLM` runs a model here; `octavo serve` puts it behind the OpenAI API."""

from typing import TYPE_CHECKING

from octavo.core.outputs import CompletionOutput, Logprob, RequestMetrics, RequestOutput
from octavo.core.sampling_params import SamplingParams
from octavo.core.structured_outputs import StructuredOutputs

if TYPE_CHECKING:
    from octavo.engine.async_engine import AsyncEngine
    from octavo.engine.llm import LLM

__version__ = "0.1.0"
__all__ = [
    "LLM",
    "AsyncEngine",
    "CompletionOutput",
    "Logprob",
    "RequestMetrics",
    "RequestOutput",
    "SamplingParams",
    "StructuredOutputs",
    "__version__",
]


def __getattr__(name: str) -> object:
    """`LLM` and `AsyncEngine` bring torch with them, so they are imported when first named."""
    if name == "LLM":
        from octavo.engine.llm import LLM

        return LLM
    if name == "AsyncEngine":
        from octavo.engine.async_engine import AsyncEngine

        return AsyncEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
