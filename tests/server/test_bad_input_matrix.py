"""Figure 10: whatever is wrong with a request, the answer is 4xx in the error envelope, by name, and nothing reaches the engine."""

import asyncio

import httpx
from server.bad_inputs import bad_inputs
from server.conftest import MODEL, InProcess
from server.envelopes import check_refusal
from server.fake_engine import FakeEngine


def test_every_bad_input_is_refused_in_the_envelope() -> None:
    server = InProcess(FakeEngine())

    async def main() -> tuple[int, list[object]]:
        transport = httpx.ASGITransport(server.app, raise_app_exceptions=False)
        faults: list[object] = []
        inputs = list(bad_inputs(MODEL))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for bad in inputs:
                headers = {"content-type": bad.media_type} if bad.media_type else {}
                reply = await client.post(bad.path, content=bad.content, headers=headers)
                try:
                    check_refusal(reply, bad.path, bad.place)
                except AssertionError:
                    faults.append((bad.path, bad.content[-200:], reply.status_code, bad.place, reply.text[:200]))
        return len(inputs), faults

    count, faults = asyncio.run(main())
    assert not faults
    assert count >= 1500 and not server.engine.calls
