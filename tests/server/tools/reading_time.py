"""How long readers of answers take."""

import time

from octavo.server.reasoning import ReasoningParser
from octavo.server.tools.parser import ToolCallParser


def fastest_s(reader: ToolCallParser | ReasoningParser) -> float:
    """Of five readings of 500 characters."""
    times = []
    for _ in range(5):
        start_s = time.thread_time()
        assert reader.push(" " * 500) == []
        times.append(time.thread_time() - start_s)
    return min(times)
