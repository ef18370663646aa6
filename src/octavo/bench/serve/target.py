"""The server that is measured: whether it is there, which model it has, and in which form it takes prompts."""

import asyncio
import ipaddress
from dataclasses import dataclass
from typing import Any

import h11
import msgspec

from octavo.bench.serve.chunks import error_message
from octavo.bench.serve.client import BenchClient, RequestOptions, prepare
from octavo.bench.serve.datasets import Prompt
from octavo.bench.serve.http import Address, exchange
from octavo.bench.serve.record import Failure, FailureKind, RequestRecord
from octavo.bench.serve.request_form import Endpoint, PromptForm
from octavo.core.errors import OctavoError

_TIMEOUT_S = 30.0
_OK = 200
_NEED_KEY = (401, 403)


class TargetError(OctavoError, RuntimeError):
    """The server is not there, or refuses what it is asked, so there is nothing to measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenForm:
    """How prompts are sent, and why not as token ids where that was wanted."""

    form: PromptForm
    why_text: str | None = None


def is_local(address: Address) -> bool:
    """Whether the server runs on this machine, as far as its name tells."""
    if address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False


async def find_model(address: Address, api_key: str | None, wanted: str | None) -> str:
    """`wanted`, or else the first model of /v1/models. Raises `TargetError`, also where the server is not there."""
    headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    try:
        status, body = await asyncio.wait_for(_get(address, "/v1/models", headers), _TIMEOUT_S)
    except (OSError, h11.RemoteProtocolError, asyncio.TimeoutError) as error:
        reason = str(error) or f"no answer within {_TIMEOUT_S:g} s"
        raise TargetError(
            f"there is no server at {address.url}: {reason}; start one with «octavo serve», or give the URL of yours"
        ) from error
    if status in _NEED_KEY:
        raise TargetError(f"{address.url} answers {status}: it wants a key; give it with --api-key")
    if wanted is not None:
        return wanted
    names = _names(body) if status == _OK else []
    if not names:
        raise TargetError(f"{address.url}/v1/models answers {status} and names no model; give one with --model")
    return names[0]


async def find_form(client: BenchClient, options: RequestOptions, wanted: PromptForm | None) -> TakenForm:
    """`wanted`; or token ids if a prompt of a few is answered, else text. Raises `TargetError`.

    A request of one token is sent in any case, so that what refuses every request is known before the run.
    """
    is_chat = options.endpoint is Endpoint.CHAT
    form = (PromptForm.TEXT if is_chat else PromptForm.TOKEN_IDS) if wanted is None else wanted
    failure = await _try(client, options, form)
    if failure is None:
        return TakenForm(form=form)
    may_be_form = wanted is None and not is_chat and failure.kind is FailureKind.STATUS
    if may_be_form and await _try(client, options, PromptForm.TEXT) is None:
        return TakenForm(form=PromptForm.TEXT, why_text=f"HTTP {failure.status}: {failure.message}")
    status = f"HTTP {failure.status}, " if failure.status else ""
    raise TargetError(
        f"the server refuses a first request of one token: {status}{failure.message}; correct the options, with "
        "--no-ignore-eos where it is that field"
    )


async def _try(client: BenchClient, options: RequestOptions, form: PromptForm) -> Failure | None:
    content: Any = [1, 2, 3, 4] if form is PromptForm.TOKEN_IDS else "One two three"
    record = RequestRecord(scheduled_s=0.0, released_s=0.0)
    await client.send(prepare(Prompt(content=content, max_tokens=1), options), record)
    is_answered = record.failure is None or record.failure.kind is FailureKind.EMPTY
    return None if is_answered else record.failure


async def _get(address: Address, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    async with exchange(address, "GET", path, headers) as reply:
        return reply.status, await reply.body()


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model] = []


def _names(body: bytes) -> list[str]:
    try:
        return [model.id for model in msgspec.json.decode(body, type=_Models).data]
    except msgspec.DecodeError as error:
        raise TargetError(f"/v1/models is not a list of models ({error_message(str(error))}); give --model") from error
