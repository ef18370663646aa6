"""Values that fields must not have."""

import json
from typing import Any


def case_id(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:30]}…{len(text)}"
