"""A body that its request's answer did not wait for, where it cannot be passed over: in chunks, each would cost work that
nobody wants done; announced with Expect: 100-continue, nobody knows whether it comes (RFC 9110, section 10.1.1).
"""

import asyncio

from starlette.types import Message, Receive, Scope

LINGER_S = 2.0
"""How long who still sends may take to read the answer, before the connection is closed under it."""

_HEADERS = (b"transfer-encoding", b"expect")
"""Requests with one of these may have such a body."""


class BodyWatch:
    """Passes on what is received, and knows whether such a body is left. Another of a declared length is passed over for
    next to nothing, so it never counts as left.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.is_left = any(name in _HEADERS for name, _ in scope["headers"])
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
