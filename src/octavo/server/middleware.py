"""What every request passes before its route: an id, the key, the gate; and the last resort for errors."""

import logging
import re
import secrets
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo.server.auth import KeyCheck
from octavo.server.clients import ClientNames
from octavo.server.context import Gate
from octavo.server.disconnect import ClientDisconnectedError
from octavo.server.errors import ApiError, as_api_error, overloaded
from octavo.server.visit import Visit, attach_visit

logger = logging.getLogger(__name__)

OPEN_PATHS = ("/health",)
"""Answered without a key, and while the server ends."""
_REQUEST_ID = re.compile(r"[!-~]{1,256}")


class FrontDoor:
    """Stands before all routes. Every reply has `X-Request-Id`: the client's, or one made here."""

    def __init__(
        self,
        app: ASGIApp,
        key_check: KeyCheck,
        client_names: ClientNames,
        gate: Gate,
        open_paths: Sequence[str] = OPEN_PATHS,
    ) -> None:
        self._app = app
        self._client_names = client_names
        self._key_check = key_check
        self._gate = gate
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = _Reply(send)
        try:
            headers = Headers(scope=scope)
            reply.request_id = _request_id(headers)
            if scope["path"] in self._open_paths:
                await self._app(scope, receive, reply.send)
                return
            key_number = self._key_check.require(headers)
            if self._gate.is_closed:
                raise overloaded("the server is ending; send the request again later", code="shutting_down")
            address = (scope.get("client") or ("",))[0]
            visit = Visit(self._client_names.name(key_number, headers, address))
            attach_visit(scope, visit)
            self._gate.num_inside += 1
            try:
                await self._app(scope, receive, reply.send)
            finally:
                self._gate.num_inside -= 1
                visit.leave()
        except ClientDisconnectedError:
            logger.debug("request %s: the client went away", reply.request_id)
        except Exception as error:  # noqa: BLE001  (what is not a typed error is logged where it becomes a reply)
            await self._fail(error, reply, scope, receive)

    async def _fail(self, error: Exception, reply: "_Reply", scope: Scope, receive: Receive) -> None:
        known = as_api_error(error)
        if reply.has_begun:
            raise error  # too late for a reply: the connection is cut, so that this is not taken for success
        await known.response()(scope, receive, reply.send)


class _Reply:
    """Passes a response on, with the request's id added to its headers."""

    def __init__(self, send: Send) -> None:
        self.request_id = f"req-{secrets.token_hex(16)}"
        self.has_begun = False
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            MutableHeaders(scope=message)["x-request-id"] = self.request_id
        await self._send(message)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id")
    if given is None:
        return f"req-{secrets.token_hex(16)}"
    if not _REQUEST_ID.fullmatch(given):
        raise ApiError(
            400,
            "X-Request-Id must be 1 … 256 visible ASCII characters; change it or leave it out",
            code="invalid_value",
            param="X-Request-Id",
        )
    return given
