"""Figure 10: the whole matrix of bad inputs through the socket of a real server."""

import asyncio
import time
from collections import Counter

from client import MODEL, serving
from finding import Effort, Finding, milliseconds
from server.bad_inputs import bad_inputs
from server.envelopes import check_refusal

MAX_S = 0.1


def measure(effort: Effort) -> Finding:
    async def main() -> Finding:
        inputs = list(bad_inputs(MODEL))
        inputs = inputs[:: max(1, round(1 / effort.share))]
        statuses: Counter[str] = Counter()
        faults, times_s = [], []
        async with serving() as client:
            for bad in inputs:
                headers = {"content-type": bad.media_type} if bad.media_type else {}
                start_s = time.monotonic()
                reply = await client.http.post(bad.path, content=bad.content, headers=headers)
                times_s.append(time.monotonic() - start_s)
                statuses[str(reply.status_code)] += 1
                try:
                    check_refusal(reply, bad.path, bad.place)
                except AssertionError:
                    faults.append(f"{bad.path} {bad.content[-200:]!r}: {reply.status_code} {reply.text[:200]}")
        return Finding(
            asked="bad-input matrix ≥ 1,500 cases: all 4xx with the error envelope, each in ≤ 100 ms",
            measured={
                "cases": len(inputs),
                "statuses": dict(statuses),
                "answered_ms": milliseconds(times_s),
                "faults": faults[:10],
            },
            is_met=not faults and max(times_s) <= MAX_S and len(inputs) >= 1500 * min(1.0, effort.share),
        )

    return asyncio.run(main())
