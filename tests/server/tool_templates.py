"""Short chat templates that read tools, calls and results as the models' own do."""

QWEN3 = """{%- if tools -%}
<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}
{% endif %}<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools>
Write <tool_call>{"name": <name>, "arguments": <object>}</tool_call>.<|im_end|>
{% elif messages[0].role == 'system' -%}
<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}
<|im_start|>user
{{ message.content }}<|im_end|>
{% elif message.role == 'assistant' -%}
<|im_start|>assistant
{% if message.reasoning_content is string -%}
<think>
{{ message.reasoning_content }}
</think>

{% endif -%}
{{ message.content if message.content is string else '' }}
{%- for tool_call in message.tool_calls or [] -%}
{%- if tool_call.function %}{% set tool_call = tool_call.function %}{% endif %}
<tool_call>
{"name": "{{ tool_call.name }}", "arguments": {{ tool_call.arguments if tool_call.arguments is string else tool_call.arguments | tojson }}}
</tool_call>
{%- endfor -%}<|im_end|>
{% elif message.role == 'tool' -%}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}
<|im_start|>user
{% endif -%}
<tool_response>
{{ message.content }}
</tool_response>
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>
{% endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{%- endif -%}"""

LLAMA3 = """{%- if not tools is defined %}{% set tools = none %}{% endif -%}
{{ bos_token }}
{%- for message in messages -%}
{%- if not (message.role == 'tool' or message.role == 'ipython' or 'tool_calls' in message) -%}
<|start_header_id|>{{ message.role }}<|end_header_id|>

{% if loop.first and tools is not none %}Write {"name": function name, "parameters": its arguments}.
{% for t in tools %}{{ t | tojson }}{% endfor %}

{% endif %}{{ message.content | trim }}<|eot_id|>
{%- elif 'tool_calls' in message -%}
{%- if message.tool_calls | length != 1 %}{{ raise_exception('one call at a time') }}{% endif -%}
{%- set tool_call = message.tool_calls[0].function -%}
<|start_header_id|>assistant<|end_header_id|>

{"name": "{{ tool_call.name }}", "parameters": {{ tool_call.arguments | tojson }}}<|eot_id|>
{%- else -%}
<|start_header_id|>ipython<|end_header_id|>

{% if message.content is mapping or message.content is iterable %}{{ message.content | tojson }}
{%- else %}{{ message.content }}{% endif %}<|eot_id|>
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif -%}"""

_MISTRAL_HEAD = """{{ bos_token }}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{%- if tools is not none and loop.first %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif -%}
[INST] {{ message['content'] }}[/INST]
{%- elif message.tool_calls is defined and message.tool_calls is not none -%}
{%- for tool_call in message.tool_calls -%}
{%- if tool_call.id is not defined or tool_call.id | length != 9 -%}
{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif -%}
"""
_MISTRAL_TAIL = """{%- endfor -%}
CLOSING{{ eos_token }}
{%- elif message['role'] == 'assistant' %} {{ message['content'] | trim }}{{ eos_token }}
{%- elif message['role'] == 'tool' -%}
[TOOL_RESULTS] {"content": {{ message.content | string }}, "call_id": "{{ message.tool_call_id }}"}[/TOOL_RESULTS]
{%- endif -%}
{%- endfor -%}"""
MISTRAL = (
    _MISTRAL_HEAD
    + """{%- set out = tool_call.function | tojson -%}
{{ '[TOOL_CALLS] [' if loop.first else ', ' }}{{ out[:-1] }}{{ ', "id": "' + tool_call.id + '"}' }}
"""
    + _MISTRAL_TAIL.replace("CLOSING", "]")
)
MISTRAL_ARGS = (
    _MISTRAL_HEAD
    + """[TOOL_CALLS]{{ tool_call.function.name }}[ARGS]{{ tool_call.function.arguments | tojson }}
"""
    + _MISTRAL_TAIL.replace("CLOSING", "")
)
PLAIN = """{% if messages[0].role != 'system' %}<|im_start|>system
You are helpful.<|im_end|>
{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""SmolLM2's: no tools."""
R1 = PLAIN.replace(
    "<|im_start|>assistant\n{% endif %}",
    "<|im_start|>assistant\n<think>\n{% endif %}",
)
"""Its answers begin within their reasoning."""
EFFORT = PLAIN + "{{ reasoning_effort }}"
QWEN3_CODER = QWEN3.replace('{"name": <name>, "arguments": <object>}', "<function=name>")
