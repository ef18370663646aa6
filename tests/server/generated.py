"""Requests that schemathesis generates to be answered: given what no schema can tell, so that they are."""

from typing import Any


def fit(case: Any, model: str) -> None:
    """Ask a sound request for the model that is served, with a message where there is none."""
    body = case.body
    if not isinstance(body, dict) or not case.meta.generation.mode.is_positive:
        return
    if "model" in body:
        body["model"] = model
    if body.get("messages") == []:
        body["messages"] = [{"role": "user", "content": "Hi"}]
    if isinstance(body.get("timeout"), float) and 0.0 < body["timeout"] < 60.0:
        body["timeout"] = 60.0  # that less time is not enough is no fault of the answer
