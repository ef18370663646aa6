"""What the commands share on a terminal: consoles, the loading bar, a line of figures."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from octavo.core.outputs import RequestMetrics

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

OnPhase = Callable[[str, float], None]


def stdout() -> Console:
    """For tables. Made anew, so that it follows what `sys.stdout` is now."""
    return Console(highlight=False)


def stderr() -> Console:
    """For everything that is not the answer."""
    return Console(stderr=True, highlight=False)


def plain_table(*columns: str, right: bool = False, title: str | None = None) -> Table:
    """A table of a heading, a rule and rows, the first column left, the others as `right` says."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title=title, title_justify="left")
    table.title_style = table.header_style = "bold"
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if right and number else "left", no_wrap=right or number == 0)
    return table


@contextmanager
def loading_progress() -> Iterator[OnPhase]:
    """What to pass as `on_phase`: a bar on stderr while the model loads, gone when it is loaded; terminals only."""
    if not sys.stderr.isatty():
        yield lambda phase, share: None
        return
    bar = _LoadingBar()
    try:
        yield bar.update
    finally:
        bar.stop()


class _LoadingBar:
    """Starts with the first phase, after any download has drawn its own bar."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID

    def update(self, phase: str, share: float) -> None:
        if self._progress is None:
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (SpinnerColumn(), TextColumn("{task.description:<15}"), BarColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, console=stderr(), transient=True)
            self._task = self._progress.add_task(phase, total=1.0)
            self._progress.start()
        self._progress.update(self._task, description=phase, completed=share)

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()


def figures(
    metrics: RequestMetrics, *, num_tokens: int, num_samples: int, num_prompt_tokens: int, num_cached_tokens: int
) -> str:
    """«23 tokens · 49.1 tokens/s · first after 25 ms · prompt 5 tokens (0 cached)»; the rate is of decoding alone."""
    decode_s = metrics.e2e_s - metrics.ttft_s
    num_decoded = num_tokens - num_samples
    parts = [f"{num_tokens} tokens"]
    if num_decoded > 0 and decode_s > 0:
        parts.append(f"{num_decoded / decode_s:,.1f} tokens/s")
    parts.append(f"first after {duration(metrics.ttft_s)}")
    parts.append(f"prompt {num_prompt_tokens} tokens ({num_cached_tokens} cached)")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """25 ms, 1.23 s."""
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def rate(value: float) -> str:
    """1,234, 56.7, 8.9."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"
