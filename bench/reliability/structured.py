"""Figure 14: answers at temperature 1 to random schemas; every one that stops by itself is valid."""

import asyncio
import json
import random

import jsonschema
from client import CHAT, serving
from finding import Effort, Finding
from sampling.random_schemas import random_schema

NUM_AT_ONCE = 8


def measure(effort: Effort) -> Finding:
    async def main() -> Finding:
        rng = random.Random(14)
        schemas = [
            {**random_schema(rng), "$defs": {"leaf": {"type": "integer"}}} for _ in range(effort.of(500, NUM_AT_ONCE))
        ]
        ended, invalid = 0, []
        gate = asyncio.Semaphore(NUM_AT_ONCE)
        async with serving() as client:

            async def ask(number: int) -> None:
                nonlocal ended
                form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schemas[number]}}
                messages = [{"role": "user", "content": "Answer in short JSON."}]
                body = {"messages": messages, "response_format": form, "temperature": 1, "seed": number}
                async with gate:
                    reply = (await client.post(CHAT, {**body, "max_tokens": 200})).raise_for_status().json()
                [choice] = reply["choices"]
                if choice["finish_reason"] != "stop":
                    return
                ended += 1
                try:
                    jsonschema.validate(
                        json.loads(choice["message"]["content"]), schemas[number], cls=jsonschema.Draft202012Validator
                    )
                except (ValueError, jsonschema.ValidationError) as error:
                    invalid.append(f"{schemas[number]}: {choice['message']['content'][:200]}: {str(error)[:200]}")

            await asyncio.gather(*(ask(number) for number in range(len(schemas))))
        return Finding(
            asked="500 schemas at temperature 1: every answer that stops is valid",
            measured={"schemas": len(schemas), "stopped": ended, "invalid": invalid},
            is_met=not invalid and ended > len(schemas) // 2,
        )

    return asyncio.run(main())
