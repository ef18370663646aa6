"""The options of `octavo bench serve` as a person gives them; light, because every command's help is made with them."""

from dataclasses import dataclass, fields
from typing import Any

from octavo.bench.serve.request_form import Endpoint, PromptForm
from octavo.config.options import check_option, option_field
from octavo.config.server_config import check_keys
from octavo.core.errors import ConfigError

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_CLIENTS = 8
DEFAULT_INPUT_LEN, DEFAULT_OUTPUT_LEN = 512, 128
DEFAULT_PREFIX_LEN, DEFAULT_NUM_PREFIXES = 512, 1
DEFAULT_VOCAB_SIZE = 32_000
_MOST = 1 << 24


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetConfig:
    """The server, and what every request to it has. Raises `ConfigError`."""

    endpoint: str = option_field(
        "completions", "Which of /v1/completions and /v1/chat/completions.", choices=tuple(map(str, Endpoint))
    )
    model: str | None = option_field(None, "The model's name there; default: the first of /v1/models.")
    api_key: str | None = option_field(None, "Sent as «Authorization: Bearer KEY».", is_secret=True)
    ignore_eos: bool = option_field(
        True, "Ask for answers of exactly the length wanted, past the model's end token; off: max_tokens is a limit."
    )
    extra_body: str | None = option_field(
        None, 'JSON object of fields for every request, such as {"temperature": 1}; they replace the client\'s own.'
    )
    timeout: float = option_field(600.0, "Seconds a request may take; it has failed then.")

    def __post_init__(self) -> None:
        _check(self, "timeout")
        if self.api_key is not None:
            check_keys("api_key", (self.api_key,))


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadConfig:
    """When requests are sent. Raises `ConfigError`, also for an option that the pattern has no use for."""

    arrival: str = option_field(
        "closed",
        "Pattern: closed (clients that wait for their answers), burst (all at once), constant or poisson (at a rate), "
        "cameras (sources that send periodically).",
        choices=("closed", "burst", "constant", "poisson", "cameras"),
    )
    clients: int | None = option_field(None, f"closed: how many clients; default {DEFAULT_CLIENTS}.")
    request_rate: float | None = option_field(None, "constant, poisson: requests a second.")
    sources: int | None = option_field(None, "cameras: how many sources.")
    period: float | None = option_field(None, "cameras: seconds between two requests of one source.")
    max_concurrency: int | None = option_field(None, "Requests in flight at most; others wait in the client.")
    num_prompts: int | None = option_field(None, "Requests; default 64, or all of a file.")
    warmup: int = option_field(2, "Requests before, unmeasured, of random prompts.")

    def __post_init__(self) -> None:
        _check(self, "clients", "request_rate", "sources", "period", "max_concurrency", "num_prompts")
        if not 0 <= self.warmup <= _MOST:
            raise ConfigError(f"warmup={self.warmup} is not in 0 … {_MOST}", param="warmup")
        uses = {
            "closed": ("clients",),
            "burst": ("max_concurrency",),
            "constant": ("request_rate", "max_concurrency"),
            "poisson": ("request_rate", "max_concurrency"),
            "cameras": ("sources", "period", "max_concurrency"),
        }
        _check_use(self, f"--arrival {self.arrival}", uses, uses[self.arrival])


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptConfig:
    """What is sent. Raises `ConfigError`, also for an option that the dataset has no use for."""

    dataset: str = option_field(
        "random",
        "Prompts: random tokens, random after a shared prefix, or those of a file.",
        choices=("random", "shared-prefix", "jsonl"),
    )
    input_len: int | None = option_field(
        None, f"Random tokens a prompt, after the prefix; default {DEFAULT_INPUT_LEN}."
    )
    output_len: int | None = option_field(
        None, f"Tokens an answer; default {DEFAULT_OUTPUT_LEN}. jsonl: where a line has no max_tokens."
    )
    range_ratio: float | None = option_field(None, "Random lengths vary uniformly by ± this share; default 0.")
    prefix_len: int | None = option_field(None, f"shared-prefix: tokens; default {DEFAULT_PREFIX_LEN}.")
    num_prefixes: int | None = option_field(None, f"shared-prefix: how many; default {DEFAULT_NUM_PREFIXES}.")
    dataset_path: str | None = option_field(
        None, "jsonl: the file; each line an object with prompt or messages, and optionally max_tokens."
    )
    prompt_form: str = option_field(
        "auto",
        "Random prompts as token ids or as text of common words; auto: token ids where the server takes them.",
        choices=("auto", *map(str, PromptForm)),
    )
    vocab_size: int | None = option_field(
        None, f"Random token ids are below this; default {DEFAULT_VOCAB_SIZE}, which most models have."
    )
    seed: int = option_field(0, "Of the random prompts and arrivals.")

    def __post_init__(self) -> None:
        _check(self, "input_len", "output_len", "prefix_len", "num_prefixes", "vocab_size")
        if not 0 <= self.seed < 1 << 31:
            raise ConfigError(f"seed={self.seed} is not in 0 … {(1 << 31) - 1}", param="seed")
        random = ("input_len", "range_ratio", "vocab_size")
        uses = {"random": random, "shared-prefix": (*random, "prefix_len", "num_prefixes"), "jsonl": ("dataset_path",)}
        _check_use(self, f"--dataset {self.dataset}", uses, uses[self.dataset])


def _check(config: Any, *positive: str) -> None:
    """Each option's type and choices; those named, where given, are above 0 and of a size that a machine can hold."""
    for option in fields(config):
        check_option(option, getattr(config, option.name))
    for name in positive:
        value = getattr(config, name)
        if value is not None and not 0 < value <= _MOST:
            raise ConfigError(f"{name}={value} is not above 0 and at most {_MOST}", param=name)


def _check_use(config: Any, choice: str, uses: dict[str, tuple[str, ...]], used: tuple[str, ...]) -> None:
    for name in sorted({name for names in uses.values() for name in names}):
        if name not in used and getattr(config, name) is not None:
            users = ", ".join(other for other, names in uses.items() if name in names)
            raise ConfigError(f"{name} has no meaning with {choice}, only with {users}; leave one out", param=name)
