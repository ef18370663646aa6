"""Write `docs/options.md`: every option of `octavo serve`, from the tables that define them, and when to change it.

    python docs/options.py

What an option is, its default and its values are its field's own; here is only when to change it.
"""

from collections.abc import Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from octavo.cli.options import PANELS, flag
from octavo.config import EngineConfig
from octavo.config.server_config import ServerConfig

PAGE = Path(__file__).parent / "options.md"

ENGINE: Mapping[str, str] = {
    "model": "Always. A path or a repository id for what has no alias; `octavo models` lists those.",
    "device": "`cpu` where a GPU is there that something else uses; `cuda` to be refused where there is none.",
    "dtype": "`float32` on a CPU for the most exact cache. Other types are for GPUs.",
    "linear_activations": "`native` to compare results with another engine's; leave `auto` otherwise.",
    "quantization": "`int8` for a float checkpoint that is too slow or too large for this machine.",
    "threads": "Lower, to leave cores to other programs. Results stay the same.",
    "enforce_eager": "When looking for a fault: slower, and the same results.",
    "chat_template": "The model has no template, or a wrong one.",
    "skip_tokenizer_init": "Never with `octavo serve`, which refuses it; for programs that have token ids.",
    "trust_remote_code": "Never: it is refused, and is here for command lines written for other engines.",
    "max_model_len": "The start says that a request does not fit the KV cache: `auto`, or what your requests need.",
    "kv_cache_memory": "More, when `vllm:num_preemptions_total` grows; less, where other programs need the memory.",
    "kv_cache_dtype": "`fp32` for the most exact results at twice the memory.",
    "block_size": "Rarely. Larger blocks mean less bookkeeping, and prefixes that are shared in coarser steps.",
    "enable_prefix_caching": "Off to measure without it. Tenants are kept apart by `cache_salt`, not by this.",
    "gpu_memory_utilization": "Lower, where other programs share the GPU.",
    "max_num_seqs": "Lower, when each answer must be fast rather than all together.",
    "max_num_batched_tokens": "Lower for smoother streams beside long prompts. On a CPU more makes prompts slower, not faster.",
    "max_num_queued_reqs": "Lower, to refuse early rather than let clients wait; higher for batch work without retries.",
    "enable_chunked_prefill": "Off to measure without it; a long prompt then holds every stream up.",
    "batching": "Only to measure what continuous batching gains.",
    "scheduling_policy": "`fair` where several clients share the server; `priority` where requests carry one.",
    "seed": "Tests that must repeat; a request's own `seed` comes first.",
}
SERVER: Mapping[str, str] = {
    "host": "Other machines are to connect; then give a key. Behind a proxy on this machine, leave it.",
    "port": "8000 is taken. 0 for tests: the start says which it took.",
    "api_key": "Trials. It is seen in the list of processes: prefer `--api-key-file`.",
    "api_key_file": "Whenever the server is not on loopback. The file is read at start: restart after a change.",
    "client_header": "`fair` scheduling behind a proxy, which must set this header and drop the client's own.",
    "request_timeout": "Always, in front of people: an answer that comes too late is work for nothing.",
    "served_model_name": "Clients ask for a name of their own, such as that of a model they used before.",
    "log_level": "`debug` shows preemptions, probes, and clients that went away.",
    "tool_call_parser": "The start's log names the wrong format: name the right one.",
    "reasoning_parser": "`none` to have the markers in the text; `think` for a model that is not recognised.",
    "log_format": "`json` where a program reads the logs.",
    "otlp_traces_endpoint": "A collector is there.",
    "allowed_hosts": "A proxy on this machine passes its own name on; or to answer to nothing but known names.",
    "max_connections": "Together with the limit on open files, for more clients that wait or stream.",
    "max_body_bytes": "Lower, where prompts are short; a proxy's limit should be the same.",
    "header_timeout_s": "Rarely: slow clients belong behind a proxy.",
    "body_timeout_s": "Higher for large prompts over slow lines.",
    "keep_alive_s": "Longer than the proxy keeps idle connections, so that it is the one to close them.",
    "drain_timeout_s": "As long as your longest answers. What stops the server must wait longer than this.",
    "stall_timeout_s": "Higher, where one step takes longer than this; lower, where steps are short.",
}


def main() -> None:
    PAGE.write_text(page())


def page() -> str:
    """The page. Raises `KeyError` for an option that has no «when»."""
    engine = {option.name: option for option in fields(EngineConfig)}
    lines = [
        "# Options of `octavo serve`",
        "",
        "Written by `python docs/options.py` from the tables that define them; `octavo serve --help` shows the same. `LLM(…)` takes",
        'the engine\'s by name: `--max-model-len 4K` is `max_model_len="4K"`. Whole numbers may end in K, M, G (of 1,024) or k, m, g (of',
        "1,000). What is on can be switched off: `--no-enable-prefix-caching`. «auto» and «—» are decided at start; `octavo info`, with",
        "the engine's options, shows every decision and its reason. An option that is unknown is refused, with the nearest that is known.",
    ]
    for panel, names in PANELS.items():
        lines += _section(panel, [engine[name] for name in names], ENGINE)
    lines += _section("Server", fields(ServerConfig), SERVER)
    lines += ["", "## Not built yet", "", "Known, and refused by name:", "", "| option | |", "|---|---|"]
    lines += [f"| `{flag(option.name)}` | {option.metadata['help']} |" for option in not_built(engine.values())]
    values = [option for option in engine.values() if option.metadata["not_built_values"]]
    lines += [
        f"| `{flag(option.name)} {value}` | |" for option in values for value in option.metadata["not_built_values"]
    ]
    return "\n".join(lines) + "\n"


def not_built(options: Any) -> list[Field[Any]]:
    return [option for option in options if option.metadata["not_built"]]


def _section(title: str, options: Any, when: Mapping[str, str]) -> list[str]:
    head = ["", f"## {title}", "", "| option | default | what it does | when to change it |", "|---|---|---|---|"]
    return head + [_row(option, when[option.name]) for option in options]


def _row(option: Field[Any], when: str) -> str:
    values = [value for value in option.metadata["choices"] if value not in option.metadata["not_built_values"]]
    what = option.metadata["help"] + (f" One of {', '.join(f'`{value}`' for value in values)}." if values else "")
    return f"| `{flag(option.name)}` | {_default(option)} | {_escaped(what)} | {when} |"


def _default(option: Field[Any]) -> str:
    if isinstance(option.default, bool):
        return "on" if option.default else "off"
    return "—" if option.default in (None, ()) else f"{option.default}"


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("|", "\\|")


if __name__ == "__main__":
    main()
