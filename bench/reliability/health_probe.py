"""Asks for /health of HOST:PORT until standard input ends, then prints how many seconds each answer took.

A process of its own: whoever makes the load is too busy to measure.
"""

import http.client
import json
import sys
import threading
import time

PAUSE_S = 0.02


def main() -> None:
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    times: list[float] = []
    connection = http.client.HTTPConnection(sys.argv[1], timeout=60)
    while not ended.wait(PAUSE_S):
        start_s = time.monotonic()
        connection.request("GET", "/health")
        reply = connection.getresponse()
        reply.read()
        times.append(time.monotonic() - start_s)
        if reply.status != 200:
            raise SystemExit(f"/health said {reply.status}")
    print(json.dumps(times))


if __name__ == "__main__":
    main()
