"""Loaded by schemathesis, which calls it before each request."""

from typing import Any

import schemathesis
from server.generated import fit
from server.served import MODEL


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    fit(case, MODEL)
