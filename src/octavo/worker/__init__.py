"""Executes a step: packs the batch, runs the model over the KV cache, samples."""

from octavo.worker.model_runner import ModelRunner, RunnerLimits

__all__ = ["ModelRunner", "RunnerLimits"]
