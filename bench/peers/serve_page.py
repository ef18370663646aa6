"""The section of `docs/performance.md` about servers under load, from `bench/results/serve-*.json`."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Round = Mapping[str, Any]
FIGURES: Mapping[str, Callable[[Round], float | None]] = {
    "output tok/s": lambda one: one["output_tokens_per_s"],
    "TTFT median ms": lambda one: _ms(one, "ttft_s", "median"),
    "TTFT P95 ms": lambda one: _ms(one, "ttft_s", "p95"),
    "TTFT P99 ms": lambda one: _ms(one, "ttft_s", "p99"),
    "ITL median ms": lambda one: _ms(one, "itl_s", "median"),
    "ITL P95 ms": lambda one: _ms(one, "itl_s", "p95"),
    "ITL P99 ms": lambda one: _ms(one, "itl_s", "p99"),
    "goodput req/s": lambda one: one["goodput"]["requests_per_s"],
}
DISTURBED_CORES = 0.05


def section(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of Markdown; none where nothing was measured."""
    if not reports:
        return []
    first = reports[0]
    goodput = " and ".join(first["goodput"])
    lines = [
        "## Servers under load",
        "",
        f"Written by `make compare-serve`: each server as a user starts it, all on {first['threads']} threads of this machine, in turn "
        f"under the same load of random token ids from `octavo bench serve`, {first['rounds']} rounds with new prompts; "
        f"medians over the rounds, (minimum–maximum) for the throughput. Goodput counts requests that keep {goodput}. "
        "\\* marks figures during which other programs took CPU time, † those of which the client warns.",
    ]
    for report in reports:
        for key, load in report["loads"].items():
            lengths = f"{load['input_len']} tokens in, {load['output_len']} out"
            lines += ["", f"### {report['model']}: {load['name']}, {load['num_prompts']} requests, {lengths}", ""]
            lines += _table(report["servers"], key)
        lines += ["", *_servers(report["servers"])]
    return [*lines, ""]


def _table(servers: Mapping[str, Any], load: str) -> list[str]:
    lines = [f"| | {' | '.join(FIGURES)} | failed |", "|---" * (len(FIGURES) + 2) + "|"]
    for server in servers.values():
        rounds = server["rounds"].get(load, [])
        if rounds:
            cells = [_cell(name, [figure(one) for one in rounds]) for name, figure in FIGURES.items()]
            cells[0] += _marks(rounds)
            lines.append(f"| {server['name']} | {' | '.join(cells)} | {sum(one['num_failed'] for one in rounds)} |")
    return [*lines, *_ratio(servers, load)]


def _ratio(servers: Mapping[str, Any], load: str) -> list[str]:
    """Octavo's throughput and P95 TTFT against the peer that has the best throughput."""
    rounds = {server["name"]: server["rounds"][load] for server in servers.values() if server["rounds"].get(load)}
    peers = {name: _middle(each, "output tok/s") for name, each in rounds.items() if not name.startswith("Octavo")}
    if not peers or "Octavo" not in rounds:
        return []
    best = max(peers, key=lambda name: peers[name])
    throughput = _middle(rounds["Octavo"], "output tok/s") / peers[best]
    ttft = _middle(rounds["Octavo"], "TTFT P95 ms") / _middle(rounds[best], "TTFT P95 ms")
    return ["", f"Octavo ÷ {best}, the best peer: throughput {throughput:.2f}, P95 TTFT {ttft:.2f}."]


def _middle(rounds: Sequence[Round], name: str) -> float:
    return statistics.median(value for one in rounds if (value := FIGURES[name](one)) is not None)


def _cell(name: str, values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    middle = _number(statistics.median(known))
    return f"{middle} ({_number(min(known))}–{_number(max(known))})" if name == "output tok/s" else middle


def _marks(rounds: Sequence[Round]) -> str:
    disturbed = any(one["foreign_cores"] > DISTURBED_CORES for one in rounds)
    return ("\\*" if disturbed else "") + ("†" if any(one["warnings"] for one in rounds) else "")


def _servers(servers: Mapping[str, Any]) -> list[str]:
    lines = ["| server | file | weights | command |", "|---|---|---|---|"]
    for server in servers.values():
        command = f"refused: {server['refused']}" if server["refused"] else f"`{' '.join(server['command'])}`"
        lines.append(f"| {server['name']} | {server['file']} | {server['weights']} | {command} |")
    return lines


def _ms(one: Round, latency: str, figure: str) -> float | None:
    return None if one[latency] is None else 1e3 * one[latency][figure]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
