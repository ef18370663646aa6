"""What every request passes before its route: an id, the host, the key, the gate; and the last resort for errors."""

import logging
import re
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo.core.logs import current_request_id
from octavo.server.auth import BASIC, BEARER, KeyCheck
from octavo.server.clients import ClientNames
from octavo.server.context import Gate
from octavo.server.disconnect import ClientDisconnectedError
from octavo.server.errors import ApiError, as_api_error, overloaded
from octavo.server.hosts import HostCheck
from octavo.server.messages.errors import error_response
from octavo.server.request_record import Reporter, RequestRecord, current_record
from octavo.server.unread_body import BodyWatch
from octavo.server.visit import Visit, attach_visit
from octavo.server.web.paths import is_for_browsers

logger = logging.getLogger(__name__)

OPEN_PATHS = ("/health", "/health/ready")
"""Answered without a key, and while the server ends."""
IS_CROWDED = "octavo.is_crowded"
"""In the state of a scope: the request came on a connection beyond the cap, which is closed behind the answer."""
_REQUEST_ID = re.compile(r"[!-~]{1,256}")


class FrontDoor:
    """Stands before all routes. Every reply to what is HTTP has `X-Request-Id`: the client's, or one made here.

    `reporters` are told of each request at its end.
    """

    def __init__(
        self,
        app: ASGIApp,
        key_check: KeyCheck,
        client_names: ClientNames,
        gate: Gate,
        host_check: HostCheck | None = None,
        reporters: Sequence[Reporter] = (),
    ) -> None:
        self._app = app
        self._client_names = client_names
        self._key_check = key_check
        self._gate = gate
        self._host_check = host_check
        self._reporters = reporters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = RequestRecord.of(scope)
        current_record.set(record)
        current_request_id.set(record.id)
        body = BodyWatch(scope, receive)
        receive = body.receive
        reply = _Reply(record, send, body)
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # answered as GET is; `_Reply` leaves the body out
        try:
            await self._let_in(record, scope, receive, reply)
        except ClientDisconnectedError:
            record.is_disconnected = True
        except Exception as error:  # noqa: BLE001  (what is not a typed error is logged where it becomes a reply)
            await self._fail(error, reply, scope, receive)
        finally:
            record.end()
            for report in self._reporters:
                report(record)
        await reply.end()

    async def _let_in(self, record: RequestRecord, scope: Scope, receive: Receive, reply: "_Reply") -> None:
        headers = Headers(scope=scope)
        _take_request_id(headers, record)
        current_request_id.set(record.id)
        if self._host_check is not None:
            self._host_check.require(headers)
        if scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, reply.send)
            return
        if IS_CROWDED in scope.get("state", {}):
            raise _crowded()
        record.key_number = self._key_check.require(headers, _challenge(scope))
        if self._gate.is_closed:
            raise overloaded("the server is ending; send the request again later", code="shutting_down")
        address = (scope.get("client") or ("",))[0]
        visit = Visit(self._client_names.name(record.key_number, headers, address))
        attach_visit(scope, visit)
        self._gate.num_inside += 1
        try:
            await self._app(scope, receive, reply.send)
        finally:
            self._gate.num_inside -= 1
            visit.leave()

    async def _fail(self, error: Exception, reply: "_Reply", scope: Scope, receive: Receive) -> None:
        known = as_api_error(error)
        reply.record.error_code = known.code
        if reply.record.status is not None:
            raise error  # too late for a reply: the connection is cut, so that this is not taken for success
        await error_response(known, scope["path"], reply.record.id)(scope, receive, reply.send)


class _Reply:
    """Passes a response on, with the request's id added to its headers, and without its body where none is wanted.

    The connection is closed behind one that leaves a body unread that cannot be passed over.
    """

    def __init__(self, record: RequestRecord, send: Send, body: BodyWatch) -> None:
        self.record = record
        self._send = send
        self._body = body
        self._is_held_open = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.record.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = headers["request-id"] = (
                self.record.id
            )  # OpenAI's clients read one, Anthropic's the other
            if self._body.is_left:
                headers["connection"] = "close"
        else:
            if self.record.method == "HEAD":
                message = {**message, "body": b""}
            if self._body.is_left and not message.get("more_body", False):
                self._is_held_open = True
                message = {**message, "more_body": True}
        await self._send(message)

    async def end(self) -> None:
        """Close what was held open for the client to read."""
        if self._is_held_open:
            await self._body.linger()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _challenge(scope: Scope) -> str:
    """How whoever lacks the key is asked for it: people by their browser, programs as OpenAI's API does."""
    return BASIC if is_for_browsers(scope["method"], scope["path"]) else BEARER


def _crowded() -> ApiError:
    return overloaded(
        "more connections are open than --max-connections allows; send the request again later",
        code="too_many_connections",
    )


def _take_request_id(headers: Headers, record: RequestRecord) -> None:
    given = headers.get("x-request-id")
    if given is None:
        return
    if not _REQUEST_ID.fullmatch(given):
        raise ApiError(
            400,
            "X-Request-Id must be 1 … 256 visible ASCII characters; change it or leave it out",
            code="invalid_value",
            param="X-Request-Id",
        )
    record.id = given
