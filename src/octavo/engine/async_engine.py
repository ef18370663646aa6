"""`AsyncEngine`: the engine in a process of its own, for servers and asyncio programs."""

import asyncio
import contextlib
import itertools
import logging
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, NamedTuple

import zmq
import zmq.asyncio

from octavo.config import EngineConfig
from octavo.config.env import cache_directory
from octavo.config.server_config import STALL_TIMEOUT_S
from octavo.core.errors import EngineDeadError, EngineStalledError, ShuttingDownError
from octavo.core.messages import AbortRequest, EngineStats, OutputBatch
from octavo.core.outputs import RequestDelta
from octavo.core.sampling_params import SamplingParams
from octavo.engine.admission import Admission, Places
from octavo.engine.front_end import FrontEnd, load_front_end
from octavo.engine.grammar_check import GrammarChecker
from octavo.engine.info import EngineInfo, OnPhase
from octavo.engine.input_processor import Prompt, check_text
from octavo.engine.liveness import EngineState, Pulse, log_stalls
from octavo.engine.output_processor import OutputProcessor
from octavo.engine.spawn import give_options, socket_directory, spawn_engine, until_ready
from octavo.engine.wire import (
    Abort,
    Add,
    Beat,
    Output,
    Shutdown,
    ToEngine,
    encoder,
    from_engine_decoder,
)
from octavo.loader.fetch import resolve_model

logger = logging.getLogger(__name__)

Observer = Callable[[OutputBatch, list[RequestDelta]], None]
"""Told of each step: what the engine published, and what became of it under the callers' ids."""

TOKENIZER_THREADS = 2
STOP_TIMEOUT_S = 10.0


class _Reader(NamedTuple):
    """Who waits for a request's deltas, and what it calls the request."""

    request_id: str
    queue: "asyncio.Queue[RequestDelta]"


class AsyncEngine:
    """An engine process and the front end that feeds it. Made by `start`; used from one event loop.

    Every accepted request ends: with its last delta, with `EngineDeadError` if the process dies, or
    because the caller closes the iterator, which aborts it in the engine.
    """

    info: EngineInfo
    front_end: FrontEnd
    admission: Admission

    def __init__(
        self,
        config: EngineConfig,
        directory: "tempfile.TemporaryDirectory[str]",
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        self.config = config
        self.stats: EngineStats | None = None
        self.pulse = Pulse(stall_timeout_s)
        self.num_tokenizer_jobs = 0
        """Tokenisations and renderings that run or wait for a thread."""
        self._directory = directory
        self._context = zmq.asyncio.Context()
        self._inbox: zmq.asyncio.Socket = self._context.socket(zmq.PULL)
        self._outbox: zmq.asyncio.Socket = self._context.socket(zmq.PUSH)
        self._process: asyncio.subprocess.Process
        self._readers: dict[str, _Reader] = {}
        self._observers: list[Observer] = []
        self._executor = ThreadPoolExecutor(TOKENIZER_THREADS, thread_name_prefix="octavo-tokenizer")
        self._tasks: list[asyncio.Task[None]] = []
        self._numbers = itertools.count()
        self._grammar_checker = GrammarChecker()
        self._is_ready = False
        self._is_dead = False
        self._is_stopping = False
        self._has_died = asyncio.Event()

    # ── life ─────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    async def start(
        cls,
        config: EngineConfig,
        on_phase: OnPhase = lambda phase, share: None,
        *,
        log_level: str = "WARNING",
        log_format: str = "text",
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> "AsyncEngine":
        """Start the engine process and wait until it is ready.

        A step that takes longer than `stall_timeout_s` makes it `EngineState.STALLED`.
        Raises what `build_engine` raises, and `EngineDeadError` if the process ends without a word.
        """
        engine = cls(config, socket_directory(), stall_timeout_s)
        try:
            await engine._start(on_phase, log_level, log_format)
        except BaseException:
            await engine._stop()
            raise
        return engine

    async def _start(self, on_phase: OnPhase, log_level: str, log_format: str) -> None:
        on_phase("find model", 0.0)
        path = await asyncio.to_thread(resolve_model, self.config.model, cache_dir=cache_directory())
        on_phase("find model", 1.0)
        addresses = [f"ipc://{self._directory.name}/{name}" for name in ("requests", "outputs")]
        for socket, address in zip((self._outbox, self._inbox), addresses, strict=True):
            socket.set_hwm(0)
            socket.bind(address)
        self._process = await spawn_engine(addresses)
        options = {**asdict(self.config), "log_level": log_level, "log_format": log_format}
        await give_options(self._process, options)
        loading = asyncio.get_running_loop().run_in_executor(
            self._executor, load_front_end, self.config, path, cache_directory()
        )
        self.info = await until_ready(self._process, self._inbox, on_phase)
        self.front_end = await loading
        self.admission = Admission(
            max_num_seqs=self.info.max_num_seqs, max_num_queued_reqs=self.info.max_num_queued_reqs
        )
        self._input = self.front_end.input_processor(self.info)
        self._output = OutputProcessor(self.front_end.tokenizer)
        self._is_ready = True
        self.pulse.beat(is_busy=False)
        self._tasks = [asyncio.create_task(life) for life in (self._receive(), self._watch(), log_stalls(self.pulse))]

    async def shutdown(self, *, drain_s: float = 0.0) -> None:
        """Let open requests finish for up to `drain_s` seconds, then end the process. Idempotent."""
        self._is_stopping = True
        deadline = asyncio.get_running_loop().time() + drain_s
        while self._readers and not self._is_dead and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        await self._stop()

    async def _stop(self) -> None:
        self._fail_open("the server was shut down before the request had finished; send it again elsewhere or later")
        for task in self._tasks:
            task.cancel()
        process = getattr(self, "_process", None)
        if process is not None and process.returncode is None:
            if self._is_ready:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(self._send(Shutdown()), 1.0)
            elif process.stdin is not None:
                process.stdin.close()  # a process that still loads reads no messages, but sees this
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            except asyncio.TimeoutError:
                process.kill()
                await process.wait()
        await self._grammar_checker.close()
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._context.destroy(linger=0)
        self._directory.cleanup()
        self._is_dead = True

    @property
    def is_healthy(self) -> bool:
        return not self._is_dead and self._process.returncode is None

    @property
    def state(self) -> EngineState:
        if self._has_died.is_set():
            return EngineState.DEAD
        if self._is_stopping:
            return EngineState.STOPPING
        if not self.is_healthy:
            return EngineState.DEAD
        return EngineState.STALLED if self.pulse.is_stalled else EngineState.RUNNING

    @property
    def pid(self) -> int:
        """The engine process's."""
        return self._process.pid

    async def wait_until_dead(self) -> None:
        """Returns when the engine has ended without having been asked to."""
        await self._has_died.wait()

    def subscribe(self, observer: Observer) -> None:
        """Call `observer` after each step, on the event loop; it must be quick and must not raise."""
        self._observers.append(observer)

    # ── requests ─────────────────────────────────────────────────────────────────────────────────

    async def tokenize(self, prompt: Prompt, *, add_special_tokens: bool = True) -> list[int]:
        """The prompt's token ids, off the event loop. Raises `InvalidRequestError`."""
        return await self._off_loop(lambda: self._input.tokenize(prompt, add_special_tokens=add_special_tokens))

    async def render_chat(self, messages: Any, **options: Any) -> str:
        """The conversation as a prompt, off the event loop. Raises `InvalidRequestError`."""
        return await self._off_loop(lambda: self.front_end.render_chat(messages, **options))

    async def generate(
        self,
        prompt_token_ids: list[int],
        params: SamplingParams,
        *,
        request_id: str,
        priority: int = 0,
        cache_salt: str = "",
        client: str = "",
        places: Places | None = None,
    ) -> AsyncIterator[RequestDelta]:
        """Deltas until the request ends; closing the iterator before that aborts it.

        `client` is whose it is, for the policy that is fair between clients. `places` are what was
        taken of `admission` for it; it takes its own otherwise, and gives them back when it ends.

        Raises, before the first delta, `InvalidRequestError`, `ContextLengthError`, `QueueFullError`,
        `EngineStalledError`, `ShuttingDownError` or `EngineDeadError`. An engine that dies later, or
        is shut down, gives a last delta with `error`.
        """
        self._check_open()
        places = places or self.admission.take(params.n)
        engine_id = f"{request_id}#{next(self._numbers)}"  # its own, should a caller use an id again
        is_finished = True
        try:
            check_text("request_id", request_id)
            if params.structured_outputs is not None:
                await self._grammar_checker.check(params.structured_outputs)
            request = await self._off_loop(
                lambda: self._input.process(
                    engine_id, prompt_token_ids, params, priority=priority, cache_salt=cache_salt, client=client
                )
            )
            self._check_open()
            message = encoder.encode(Add(request))
            queue: asyncio.Queue[RequestDelta] = asyncio.Queue()
            self._readers[engine_id] = _Reader(request_id, queue)
            is_finished = False
            self._output.add(request)
            await self._outbox.send(message)
            while not is_finished:
                delta = await queue.get()
                is_finished = delta.is_finished
                yield delta
        finally:
            places.give_back(params.n)
            self._readers.pop(engine_id, None)
            if not is_finished:
                await self._abort(engine_id)

    async def _abort(self, engine_id: str) -> None:
        self._output.fail(engine_id, "aborted")
        if self.is_healthy:
            await self._send(Abort(AbortRequest(engine_id)))

    def _check_open(self) -> None:
        state = self.state
        if state is EngineState.DEAD:
            raise EngineDeadError("the engine has died; restart the server")
        if state is EngineState.STOPPING:
            raise ShuttingDownError("the server is shutting down; send the request again elsewhere or later")
        if state is EngineState.STALLED:
            raise EngineStalledError(
                f"the engine has given no sign of life for {self.pulse.silence_s:.0f} s; send the request again later"
            )

    # ── the socket ───────────────────────────────────────────────────────────────────────────────

    async def _receive(self) -> None:
        """Take in what the engine publishes; should that fail, nobody is left waiting."""
        try:
            await self._receive_outputs()
        except Exception:
            logger.exception("the engine's output could not be read")
            self._end("the engine's output could not be read; restart the server")

    async def _receive_outputs(self) -> None:
        while True:
            message = from_engine_decoder.decode(await self._inbox.recv())
            if isinstance(message, Beat):
                self.pulse.beat(is_busy=message.is_busy)
                continue
            assert isinstance(message, Output)
            self.pulse.beat(is_busy=message.is_busy)
            self.stats = message.batch.stats
            deltas, aborts = self._output.process(message.batch)
            for abort in aborts:
                await self._send(Abort(abort))
            self._publish(deltas)
            for observe in self._observers:
                observe(message.batch, deltas)

    async def _watch(self) -> None:
        """When the process dies, say so to everyone who waits."""
        code = await self._process.wait()
        if not self._is_stopping:
            logger.error("the engine process died with code %s", code)
        self._end(f"the engine process died with code {code}; restart the server")

    def _end(self, message: str) -> None:
        self._is_dead = True
        if not self._is_stopping:
            self._has_died.set()
        self._fail_open(message)

    def _fail_open(self, message: str) -> None:
        for engine_id in list(self._readers):
            delta = self._output.fail(engine_id, message)
            if delta is not None:
                self._publish([delta])

    def _publish(self, deltas: list[RequestDelta]) -> None:
        """Hand each delta to who reads it, under the id that the reader has given; what nobody reads keeps the engine's."""
        for delta in deltas:
            reader = self._readers.get(delta.request_id)
            if reader is not None:
                delta.request_id = reader.request_id
                reader.queue.put_nowait(delta)

    async def _send(self, message: ToEngine) -> None:
        await self._outbox.send(encoder.encode(message))

    async def _off_loop(self, work: Callable[[], Any]) -> Any:
        self.num_tokenizer_jobs += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self.num_tokenizer_jobs -= 1
