"""The routes."""

from collections.abc import Sequence
from typing import Any, NoReturn

from fastapi import FastAPI, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.routing import Match

import octavo
from octavo.config.server_config import ServerConfig
from octavo.core.near_names import did_you_mean
from octavo.server.answer import json_response
from octavo.server.auth import KeyCheck, load_keys
from octavo.server.chat import chat
from octavo.server.clients import ClientNames
from octavo.server.completions import complete
from octavo.server.context import Gate, ServerContext
from octavo.server.dashboard.endpoint import newest_snapshot, watch
from octavo.server.dashboard.schema import Snapshot
from octavo.server.docs_page import docs_page
from octavo.server.errors import ApiError, not_built
from octavo.server.fields import NOT_BUILT_ROUTES, POOLING_ROUTES
from octavo.server.health import liveness, readiness
from octavo.server.hosts import host_check
from octavo.server.messages.endpoint import count_tokens, create_message
from octavo.server.messages.replies import MessageEndEvent, MessagesErrorReply, MessagesEvent, ModelMessage, TokenCount
from octavo.server.messages.schema import CountTokensRequest, MessagesRequest
from octavo.server.middleware import FrontDoor
from octavo.server.models import find_model, list_models
from octavo.server.openapi import describe, endless_events, request_body, responses
from octavo.server.pooling import no_pooling
from octavo.server.replies import (
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    DetokenizeReply,
    ErrorReply,
    Health,
    ModelCard,
    ModelList,
    TokenizeReply,
    TokenizerInfo,
    Version,
)
from octavo.server.request_record import Reporter
from octavo.server.responses.endpoint import delete_response, fetch_response, respond
from octavo.server.responses.replies import ModelResponse, ResponseDeleted, ResponseEvent
from octavo.server.responses.schema import ResponsesRequest
from octavo.server.schemas import ChatCompletionRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest
from octavo.server.tokenize import detokenize, tokenize, tokenizer_info
from octavo.server.web.routes import add_pages

_ANY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_BODY_ERRORS = (400, 401, 404, 408, 413, 415)


def build_app(context: ServerContext) -> FastAPI:
    """The ASGI application."""
    app = FastAPI(
        title="Octavo",
        version=octavo.__version__,
        description="LLM inference behind the OpenAI API, and Anthropic's Messages.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    _add_generation(app, context)
    _add_responses(app, context)
    _add_messages(app, context)
    _add_tokens(app, context)
    _add_models(app, context)
    _add_status(app, context)
    _add_dashboard(app, context)
    _add_documentation(app)
    add_pages(app)
    _add_refused(app, context)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_middleware(FrontDoor, **front_door_options(context.config, context.gate, context.reporters))
    return app


def front_door_options(config: ServerConfig, gate: Gate, reporters: Sequence[Reporter]) -> dict[str, Any]:
    """What stands before the routes, as `FrontDoor` takes it."""
    keys = load_keys(config)
    return {
        "key_check": KeyCheck(keys),
        "client_names": ClientNames(len(keys), config.client_header),
        "gate": gate,
        "host_check": host_check(config),
        "reporters": reporters,
    }


def _add_generation(app: FastAPI, context: ServerContext) -> None:
    @app.post(
        "/v1/completions",
        openapi_extra=request_body(CompletionRequest),
        responses=responses(Completion, *_BODY_ERRORS, 500, 503, 504, chunks=(Completion, ErrorReply)),
    )
    async def create_completion(request: Request) -> Response:
        """Continue prompts."""
        return await complete(context, request)

    @app.post(
        "/v1/chat/completions",
        openapi_extra=request_body(ChatCompletionRequest),
        responses=responses(ChatCompletion, *_BODY_ERRORS, 500, 503, 504, chunks=(ChatCompletionChunk, ErrorReply)),
    )
    async def create_chat_completion(request: Request) -> Response:
        """Answer a conversation."""
        return await chat(context, request)


def _add_responses(app: FastAPI, context: ServerContext) -> None:
    @app.post(
        "/v1/responses",
        openapi_extra=request_body(ResponsesRequest),
        responses=responses(ModelResponse, *_BODY_ERRORS, 500, 503, 504, chunks=(ResponseEvent,)),
    )
    async def create_response(request: Request) -> Response:
        """Answer a conversation, and keep it."""
        return await respond(context, request)

    @app.get("/v1/responses/{response_id}", responses=responses(ModelResponse, 400, 401, 404))
    async def response_by_id(request: Request, response_id: str) -> Response:
        """An answer that was kept."""
        return fetch_response(context, request, response_id)

    @app.delete("/v1/responses/{response_id}", responses=responses(ResponseDeleted, 401, 404))
    async def forget_response(request: Request, response_id: str) -> Response:
        """Keep it no longer."""
        return delete_response(context, request, response_id)


def _add_messages(app: FastAPI, context: ServerContext) -> None:
    @app.post(
        "/v1/messages",
        openapi_extra=request_body(MessagesRequest),
        responses=responses(
            ModelMessage,
            *_BODY_ERRORS,
            500,
            503,
            504,
            chunks=(MessagesEvent, MessageEndEvent, MessagesErrorReply),
            error=MessagesErrorReply,
        ),
    )
    async def message(request: Request) -> Response:
        """Answer a conversation in Anthropic's form."""
        return await create_message(context, request)

    @app.post(
        "/v1/messages/count_tokens",
        openapi_extra=request_body(CountTokensRequest),
        responses=responses(TokenCount, *_BODY_ERRORS, 500, 503, 504, error=MessagesErrorReply),
    )
    async def message_tokens(request: Request) -> Response:
        """How many tokens its prompt has."""
        return await count_tokens(context, request)


def _add_tokens(app: FastAPI, context: ServerContext) -> None:
    @app.post(
        "/tokenize",
        openapi_extra=request_body(TokenizeRequest),
        responses=responses(TokenizeReply, *_BODY_ERRORS, 500, 503, 504),
    )
    async def tokenize_text(request: Request) -> Response:
        """Text or conversation to token ids."""
        return await tokenize(context, request)

    @app.post(
        "/detokenize",
        openapi_extra=request_body(DetokenizeRequest),
        responses=responses(DetokenizeReply, *_BODY_ERRORS, 500, 503, 504),
    )
    async def detokenize_ids(request: Request) -> Response:
        """Token ids to text."""
        return await detokenize(context, request)

    @app.get("/tokenizer_info", responses=responses(TokenizerInfo, 401))
    async def describe_tokenizer() -> Response:
        """The tokenizer's special texts, and the chat template."""
        return json_response(tokenizer_info(context))


def _add_models(app: FastAPI, context: ServerContext) -> None:
    @app.get("/v1/models", responses=responses(ModelList, 401))
    async def models() -> Response:
        """The names of the model that is served."""
        return json_response(list_models(context))

    @app.get("/v1/models/{model:path}", responses=responses(ModelCard, 401, 404))
    async def model_by_name(model: str) -> Response:
        """One of them."""
        return json_response(find_model(context, model))


def _add_status(app: FastAPI, context: ServerContext) -> None:
    @app.get("/health", responses=responses(Health, 503))
    async def health() -> Response:
        """200 while the server lives, also while it ends; 503 while it loads, and where its engine stalls or died."""
        return json_response(liveness(context))

    @app.get("/health/ready", responses=responses(Health, 503))
    async def ready() -> Response:
        """200 while requests are taken."""
        return json_response(readiness(context))

    @app.get("/version", responses=responses(Version, 401))
    async def version() -> Response:
        """Octavo's version."""
        return json_response(Version(version=octavo.__version__))

    @app.get(
        "/metrics",
        responses={200: {"description": "Prometheus exposition text", "content": {"text/plain": {}}}},
    )
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(context.metrics.render(), media_type=CONTENT_TYPE_LATEST)


def _add_dashboard(app: FastAPI, context: ServerContext) -> None:
    @app.get("/dashboard/snapshot", responses=responses(Snapshot, 401))
    async def dashboard_snapshot() -> Response:
        """What the engine does: requests, steps, KV blocks, throughput, latencies."""
        return newest_snapshot(context)

    @app.get("/dashboard/events", responses=endless_events(Snapshot, 401, 403, 503))
    async def dashboard_events(request: Request) -> Response:
        """The snapshots of the last minute, or those behind the header Last-Event-ID, then each new one."""
        return await watch(context, request)


def _add_documentation(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        """The routes, for people."""
        return docs_page(app.openapi())


def _add_refused(app: FastAPI, context: ServerContext) -> None:
    async def refuse(request: Request) -> Response:
        raise not_built(501, f"{request.url.path} is not built yet; see /docs for the routes there are")

    async def refuse_pooling(request: Request) -> Response:
        raise no_pooling(context, request.url.path)

    for path in NOT_BUILT_ROUTES:
        app.add_api_route(path, refuse, methods=_ANY_METHOD, include_in_schema=False)
    for path in POOLING_ROUTES:
        app.add_api_route(path, refuse_pooling, methods=["POST"], include_in_schema=False)


def _methods_of_path(request: Request) -> set[str]:
    """Of all the routes that have the request's path: one has one method of it."""
    found: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            found |= route.methods or set()
    return found


async def _on_http_exception(request: Request, error: Exception) -> NoReturn:
    """What the router raises, no such route or not with this method, as an error like all others."""
    assert isinstance(error, HTTPException)
    headers: dict[str, Any] = {name.title(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 404:
        path = request.url.path[:200]
        hint = did_you_mean(path, request.app.openapi()["paths"]) or "see /docs for those there are"
        message, code = f"there is no route {path}; {hint}", "not_found"
    elif error.status_code == 405:
        allowed = headers["Allow"] = ", ".join(sorted(_methods_of_path(request)))
        message, code = (
            f"{request.method} is not allowed on {request.url.path[:200]}; use {allowed}",
            "method_not_allowed",
        )
    else:
        message, code = str(error.detail), "http_error"
    raise ApiError(error.status_code, message, code=code, headers=headers) from error
