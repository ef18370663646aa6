"""CPU time a chunk of HTTP clients that could drive `octavo bench serve`, against a server in another process.

    python bench/http_clients.py [--json bench/results/http-clients.json]

32 streams of 100 events each, 15 ms apart, as from a server under load; every client parses each chunk alike. In turn; the
median of the rounds. aiohttp and httpx are there where they happen to be installed: Octavo itself needs neither.
"""

import argparse
import asyncio
import json
import multiprocessing
import shlex
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import httpx

from octavo.bench.circumstances import circumstances
from octavo.bench.serve.chunks import read_chunk
from octavo.bench.serve.http import Address, exchange
from octavo.bench.serve.sse import EventReader

NUM_STREAMS, NUM_EVENTS, GAP_S, ROUNDS = 32, 100, 0.015, 5
EVENT = (
    b'data: {"id":"cmpl-0123456789abcdef0123456789abcdef","object":"text_completion","created":1790000000,"model":"m",'
    b'"system_fingerprint":"fp_0123456789","choices":[{"index":0,"text":" word","logprobs":null,"finish_reason":null,'
    b'"stop_reason":null}],"usage":null}\n\n'
)
Parts = Callable[[str], AsyncIterator[bytes]]


async def with_h11(url: str) -> AsyncIterator[bytes]:
    async with exchange(Address.parse(url), "POST", "/", {}, b"{}") as reply:
        async for part in reply.parts():
            yield part


async def with_aiohttp(url: str) -> AsyncIterator[bytes]:
    async with aiohttp.ClientSession() as session, session.post(url, data=b"{}") as reply:
        async for part in reply.content.iter_any():
            yield part


async def with_httpx(url: str) -> AsyncIterator[bytes]:
    async with httpx.AsyncClient(verify=False) as client, client.stream("POST", url, content=b"{}") as reply:
        async for part in reply.aiter_bytes():
            yield part


CLIENTS: Mapping[str, Parts] = {"h11 over asyncio streams": with_h11, "aiohttp": with_aiohttp, "httpx": with_httpx}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE")
    target = parser.parse_args().json
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}"
    samples: dict[str, list[float]] = {name: [] for name in CLIENTS}
    for _ in range(ROUNDS):
        for name, parts in CLIENTS.items():
            samples[name].append(1e6 * asyncio.run(cpu_s_a_chunk(parts, url)))
    server.terminate()
    for name, values in samples.items():
        spread = f"{min(values):.0f}–{max(values):.0f}"
        print(f"{name:<26} {statistics.median(values):6.1f} µs a chunk ({spread})")
    if target:
        command = shlex.join(["python", "bench/http_clients.py", *sys.argv[1:]])
        shape = {"streams": NUM_STREAMS, "events": NUM_EVENTS, "gap_s": GAP_S, "rounds": ROUNDS}
        report = {"benchmark": "http-clients", "cpu_us_a_chunk": samples, "shape": shape, **circumstances(command)}
        Path(target).write_text(json.dumps(report, indent=1) + "\n")


async def cpu_s_a_chunk(parts: Parts, url: str) -> float:
    start = time.process_time()
    counts = await asyncio.gather(*(count_chunks(parts(url)) for _ in range(NUM_STREAMS)))
    assert counts == [NUM_EVENTS] * NUM_STREAMS, counts
    return (time.process_time() - start) / sum(counts)


async def count_chunks(parts: AsyncIterator[bytes]) -> int:
    events, count = EventReader(), 0
    async for part in parts:
        for data in events.feed(part):
            count += read_chunk(data).has_output
    return count


def serve(port: Connection) -> None:
    """Answer every request with the events, until terminated."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(NUM_EVENTS):
            await asyncio.sleep(GAP_S)
            writer.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    main()
