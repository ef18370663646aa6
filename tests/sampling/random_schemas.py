"""JSON schemas drawn at random, of every kind that grammars know."""

import random
from typing import Any


def random_schema(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    kinds = ["string", "integer", "number", "boolean", "null", "enum", "pattern", "const", "format"]
    kind = rng.choice(kinds + ["object", "array", "anyOf", "ref"] * (3 if depth < 3 else 0))
    if kind == "object":
        names = [f"k{i}" for i in range(rng.randrange(5))]
        return {
            "type": "object",
            "properties": {name: random_schema(rng, depth + 1) for name in names},
            "required": [name for name in names if rng.random() < 0.6],
            "additionalProperties": rng.choice([False, {"type": "integer"}]),
        }
    if kind == "array":
        most = rng.randrange(1, 4)
        return {
            "type": "array",
            "items": random_schema(rng, depth + 1),
            "minItems": rng.randrange(most),
            "maxItems": most,
        }
    if kind == "anyOf":
        return {"anyOf": [random_schema(rng, depth + 1) for _ in range(rng.randrange(1, 4))]}
    if kind == "ref":
        return {"$ref": "#/$defs/leaf"}
    leaves: dict[str, dict[str, Any]] = {
        "string": {"type": "string", "minLength": rng.randrange(3), "maxLength": rng.randrange(3, 12)},
        "integer": {"type": "integer", "minimum": -rng.randrange(1000), "maximum": rng.randrange(1000)},
        "number": {"type": "number", "exclusiveMinimum": -1.5, "maximum": rng.randrange(100)},
        "enum": {"enum": ["a", 1, None, "é", [1], {"x": 2}]},
        "pattern": {"type": "string", "pattern": rng.choice(["^[a-c]{2,4}$", "^(ab|cd)+$", r"^\d{4}-\d{2}$"])},
        "const": {"const": rng.choice([1, "x", [True]])},
        "format": {"type": "string", "format": rng.choice(["date", "uuid", "ipv4"])},
    }
    return leaves.get(kind, {"type": kind})
