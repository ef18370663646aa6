"""litellm: an answer, a stream, a function call and an error. Arguments: base URL, model."""

import json
import sys

import litellm

url, model = sys.argv[1:]
options = {"model": f"openai/{model}", "api_base": url, "api_key": "none", "num_retries": 0}
messages = [{"role": "user", "content": "What is the capital of France?"}]
schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
tools = [{"type": "function", "function": {"name": "go_to", "parameters": schema}}]

answer = litellm.completion(messages=messages, temperature=0, max_tokens=30, **options)
assert "Paris" in answer.choices[0].message.content
chunks = litellm.completion(messages=messages, temperature=0, max_tokens=30, stream=True, **options)
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == answer.choices[0].message.content
called = litellm.completion(
    messages=messages, tools=tools, tool_choice="required", parallel_tool_calls=False, **options
)
assert json.loads(called.choices[0].message.tool_calls[0].function.arguments)["city"] in ("Paris", "Rome")
form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
typed = litellm.completion(messages=messages, response_format=form, **options)
assert json.loads(typed.choices[0].message.content)["city"] in ("Paris", "Rome")
try:
    litellm.completion(messages=messages, temperature=-1, **options)
except litellm.BadRequestError:
    pass
else:
    raise AssertionError("temperature=-1 was not refused")
