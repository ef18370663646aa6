"""The progress bar of a batch."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from octavo.core.outputs import RequestDelta


@contextmanager
def generation_progress(num_requests: int, is_shown: bool | None) -> Iterator[Callable[[RequestDelta], None]]:
    """A bar of finished requests with tokens/s, on a terminal and for several requests unless told otherwise."""
    if is_shown is None:
        is_shown = num_requests > 1 and sys.stderr.isatty()
    if not is_shown:
        yield lambda delta: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    start, num_tokens = time.perf_counter(), 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f} tokens/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=5) as progress:
        task = progress.add_task("generating", total=num_requests, rate=0.0)

        def advance(delta: RequestDelta) -> None:
            nonlocal num_tokens
            num_tokens += sum(len(piece.token_ids) for piece in delta.outputs)
            rate = num_tokens / (time.perf_counter() - start)
            progress.update(task, advance=int(delta.is_finished), rate=rate)

        yield advance
