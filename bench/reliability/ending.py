"""Figures 7 and 8: a server that is asked to end, one whose engine is killed, one whose engine stalls."""

import asyncio
import os
import signal
import time
from typing import Any

import httpx
from client import COMPLETIONS, Client
from finding import Effort, Finding
from server.served import Served, is_running

MAX_UNHEALTHY_S, MAX_ERROR_S = 2.0, 5.0
_NUM_OPEN = 8
_STARTED = ["grammar_check", "process"]
_BODY = {"prompt": "Once upon a time", "ignore_eos": True}


def _is_whole(last: dict[str, Any]) -> bool:
    """Whether a stream's last chunk is that of an answer."""
    return "choices" in last and bool(last["choices"][0]["finish_reason"])


async def _open(client: Client, max_tokens: int) -> list["asyncio.Task[dict[str, Any]]"]:
    """Streams that have begun; each ends with its last chunk."""

    async def last_chunk(stream: Any, first: dict[str, Any]) -> dict[str, Any]:
        last = first
        try:
            async for chunk in stream:
                last = chunk
        except (RuntimeError, httpx.TransportError) as error:  # it ended with its error, not with [DONE]
            last = last if "error" in last else {"broken": repr(error)}
        return last

    streams = [client.stream(COMPLETIONS, {**_BODY, "max_tokens": max_tokens}) for _ in range(_NUM_OPEN)]
    firsts = await asyncio.gather(*(anext(stream) for stream in streams))
    return [asyncio.create_task(last_chunk(stream, first)) for stream, first in zip(streams, firsts, strict=True)]


def terminated(effort: Effort) -> Finding:
    async def main() -> Finding:
        served = await asyncio.to_thread(Served)
        try:
            async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
                client = Client(served, http)
                await client.choices({"prompt": "Hi", "structured_outputs": {"regex": "a"}})
                children = served.children()
                streams = await _open(client, effort.of(200, 40))
                whole = asyncio.create_task(client.post(COMPLETIONS, {**_BODY, "max_tokens": 40}))
                await client.until("vllm:num_requests_running", _NUM_OPEN + 1, 10)
                served.process.send_signal(signal.SIGTERM)
                while (await http.get("/health/ready")).status_code == 200:
                    await asyncio.sleep(0.005)
                refused = await client.post(COMPLETIONS, {**_BODY, "max_tokens": 1})
                lasts = await asyncio.gather(*streams)
                num_finished = sum(map(_is_whole, lasts)) + ((await whole).status_code == 200)
            code = await asyncio.to_thread(served.process.wait, 30)
        finally:
            served.process.kill()
        measured = {
            "accepted": _NUM_OPEN + 1,
            "finished": num_finished,
            "refused_with": refused.status_code,
            "exit_code": code,
            "processes_started": sorted(children),
            "processes_left": [name for name, pid in children.items() if is_running(pid)],
        }
        return Finding(
            asked="SIGTERM: accepted requests finish, new ones refused, no orphan process",
            measured=measured,
            is_met=list(measured.values()) == [_NUM_OPEN + 1, _NUM_OPEN + 1, 503, 0, _STARTED, []],
        )

    return asyncio.run(main())


async def _until_unhealthy(http: httpx.AsyncClient, since_s: float) -> float:
    while (await http.get("/health")).status_code == 200:
        await asyncio.sleep(0.005)
    return time.monotonic() - since_s


async def _stalled_s(stall_timeout_s: float) -> float:
    """From the moment when a step may be called stalled to the 503; the engine then goes on and is healthy again."""
    served = await asyncio.to_thread(Served, "--stall-timeout-s", str(stall_timeout_s))
    engine = served.engine_pid()
    try:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            streams = await _open(Client(served, http), 100)
            stopped_s = time.monotonic()
            os.kill(engine, signal.SIGSTOP)
            unhealthy_s = await _until_unhealthy(http, stopped_s) - stall_timeout_s
            os.kill(engine, signal.SIGCONT)
            lasts = await asyncio.gather(*streams)
            if (await http.get("/health")).status_code != 200 or not all(map(_is_whole, lasts)):
                raise RuntimeError(
                    "the engine went on, but the server is not healthy or has left streams without their end"
                )
            return unhealthy_s
    finally:
        served.process.kill()


def killed(effort: Effort) -> Finding:
    async def main() -> Finding:
        served = await asyncio.to_thread(Served)
        try:
            async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
                client = Client(served, http)
                streams = await _open(client, 900)
                whole = asyncio.create_task(client.post(COMPLETIONS, {**_BODY, "max_tokens": 900}))
                await client.until("vllm:num_requests_running", _NUM_OPEN + 1, 10)
                killed_s = time.monotonic()
                os.kill(served.engine_pid(), signal.SIGKILL)
                unhealthy_s = await _until_unhealthy(http, killed_s)
                lasts = await asyncio.gather(*streams)
                status = (await whole).status_code
                error_s = time.monotonic() - killed_s
            code = await asyncio.to_thread(served.process.wait, 30)
        finally:
            served.process.kill()
        stalled_s = await _stalled_s(2.0)
        num_told = sum("error" in last for last in lasts) + (status == 503)
        return Finding(
            asked="kill −9 of the engine: /health 503 in ≤ 2 s, open requests error in ≤ 5 s; a stalled step is "
            "unhealthy too",
            measured={
                "unhealthy_after_s": round(unhealthy_s, 3),
                "open_requests": _NUM_OPEN + 1,
                "told_of_it": num_told,
                "all_told_after_s": round(error_s, 3),
                "exit_code": code,
                "stall_seen_after_its_timeout_s": round(stalled_s, 3),
            },
            is_met=unhealthy_s <= MAX_UNHEALTHY_S
            and error_s <= MAX_ERROR_S
            and num_told == _NUM_OPEN + 1
            and stalled_s <= MAX_UNHEALTHY_S,
        )

    return asyncio.run(main())
