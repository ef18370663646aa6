"""A chunked body that its request's answer did not wait for: each chunk of it would cost work that nobody wants done."""

import asyncio

from starlette.types import Message, Receive, Scope

LINGER_S = 2.0
"""How long who still sends may take to read the answer, before the connection is closed under it."""


class BodyWatch:
    """Passes on what is received, and knows whether a chunked body is left. One of a declared length is passed over
    for next to nothing, so it never counts as left.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.is_left = any(name == b"transfer-encoding" for name, _ in scope["headers"])
        self._receive = receive

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body", False):  # its end, or the client's
            self.is_left = False
        return message

    async def linger(self) -> None:
        """Pass over what still arrives, for a while: a client whose bytes are refused may never see the answer."""
        try:
            await asyncio.wait_for(self._pass_over(), LINGER_S)
        except asyncio.TimeoutError:
            self.is_left = False

    async def _pass_over(self) -> None:
        while self.is_left:
            await self.receive()
