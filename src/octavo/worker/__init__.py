"""Executes a step: packs the batch, runs the model over the KV cache, samples."""

from octavo.worker.model_runner import ModelRunner, RunnerLimits
from octavo.worker.program_report import ProgramReport

__all__ = ["ModelRunner", "ProgramReport", "RunnerLimits"]
