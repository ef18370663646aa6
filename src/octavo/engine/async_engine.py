"""`AsyncEngine`: the engine in a process of its own, for servers and asyncio programs."""

import asyncio
import contextlib
import itertools
import logging
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path

import zmq
import zmq.asyncio
from msgspec.structs import replace

from octavo.cache.block_map import map_unused
from octavo.config import EngineConfig
from octavo.config.engine_config import STALL_TIMEOUT_S
from octavo.config.env import cache_directory
from octavo.core.errors import EngineDeadError, EngineStalledError, ShuttingDownError
from octavo.core.messages import AbortRequest, BlockMap, EngineStats, OutputBatch
from octavo.core.outputs import RequestDelta
from octavo.core.sampling_params import SamplingParams
from octavo.engine.admission import Admission, Places
from octavo.engine.front_end import FrontEnd, check_chat_template, load_front_end
from octavo.engine.grammar_check import GrammarChecker
from octavo.engine.info import EngineInfo, OnPhase
from octavo.engine.input_processor import check_text
from octavo.engine.liveness import EngineState, Pulse, log_stalls
from octavo.engine.output_processor import OutputProcessor
from octavo.engine.spawn import give_options, socket_directory, spawn_engine, until_ready
from octavo.engine.streams import Streams
from octavo.engine.text_work import TextWork
from octavo.engine.wire import (
    Abort,
    Add,
    Beat,
    Blocks,
    Output,
    Shutdown,
    ToEngine,
    encoder,
    from_engine_decoder,
)

logger = logging.getLogger(__name__)

Observer = Callable[[OutputBatch, list[RequestDelta]], None]
"""Told of each step: what the engine published, and what became of it under the callers' ids."""

SAY_GOODBYE_S = 1.0
"""For the engine's socket to take the word that it is to end."""
STOP_TIMEOUT_S = 10.0


class AsyncEngine:
    """An engine process and the front end that feeds it. Made by `start`; used from one event loop.

    Every accepted request ends: with its last delta, with `EngineDeadError` if the process dies, or
    because the caller closes the iterator, which aborts it in the engine.
    """

    info: EngineInfo
    front_end: FrontEnd
    texts: TextWork
    admission: Admission
    block_map: BlockMap
    """The KV blocks as the engine showed them last: see `octavo.engine.block_maps`."""

    def __init__(
        self,
        config: EngineConfig,
        directory: "tempfile.TemporaryDirectory[str]",
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        self.config = config
        self.stats: EngineStats | None = None
        self.pulse = Pulse(stall_timeout_s)
        self._directory = directory
        self._context = zmq.asyncio.Context()
        self._inbox: zmq.asyncio.Socket = self._context.socket(zmq.PULL)
        self._outbox: zmq.asyncio.Socket = self._context.socket(zmq.PUSH)
        self._process: asyncio.subprocess.Process
        self._observers: list[Observer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._numbers = itertools.count()
        self._grammar_checker = GrammarChecker()
        self._state = EngineState.STARTING
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
        Raises what `build_engine` and `load_front_end` raise, and `EngineDeadError` if the process ends without a word.
        """
        engine = cls(config, socket_directory(), stall_timeout_s)
        try:
            await engine._start(on_phase, log_level, log_format)
        except BaseException:
            await engine.shutdown()
            raise
        return engine

    async def _start(self, on_phase: OnPhase, log_level: str, log_format: str) -> None:
        check_chat_template(self.config)  # rather than when the model has been fetched
        addresses = [f"ipc://{self._directory.name}/{name}" for name in ("requests", "outputs")]
        for socket, address in zip((self._outbox, self._inbox), addresses, strict=True):
            socket.set_hwm(0)
            socket.bind(address)
        self._process = await spawn_engine(addresses)
        options = {**asdict(self.config), "log_level": log_level, "log_format": log_format}
        await give_options(self._process, options)
        await self._load(on_phase)
        self.block_map = map_unused(self.info.num_blocks)
        self.admission = Admission(
            max_num_seqs=self.info.max_num_seqs,
            max_num_queued_reqs=self.info.max_num_queued_reqs,
            is_fair=self.info.options["scheduling_policy"] == "fair",
        )
        self.texts = TextWork(self.front_end, self.info, self._check_alive)
        self._streams = Streams(OutputProcessor(self.front_end.tokenizer))
        self._state = EngineState.RUNNING
        self.pulse.beat(is_busy=False)
        self._tasks = [asyncio.create_task(life) for life in (self._receive(), self._watch(), log_stalls(self.pulse))]

    async def _load(self, on_phase: OnPhase) -> None:
        """The front end beside the engine, from when that has found the model; the first error ends both."""
        found: asyncio.Future[Path] = asyncio.get_running_loop().create_future()

        async def load_beside() -> FrontEnd:
            return await asyncio.to_thread(load_front_end, self.config, await found, cache_directory())

        starting = asyncio.create_task(until_ready(self._process, self._inbox, on_phase, found.set_result))
        loading = asyncio.create_task(load_beside())
        try:
            self.info, self.front_end = await asyncio.gather(starting, loading)
        finally:
            starting.cancel()
            loading.cancel()

    async def shutdown(self) -> None:
        """End the process; what is still open ends with an error. Idempotent."""
        has_started = self._state is not EngineState.STARTING
        if self._state is not EngineState.DEAD:
            self._state = EngineState.STOPPING
        if has_started:
            self._streams.fail(
                "the server was shut down before the request had finished; send it again elsewhere or later"
            )
        for task in self._tasks:
            task.cancel()
        process = getattr(self, "_process", None)
        if process is not None and process.returncode is None:
            if has_started:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(self._send(Shutdown()), SAY_GOODBYE_S)
            else:
                process.kill()  # a process that still loads reads no messages
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            except asyncio.TimeoutError:
                process.kill()
                await process.wait()
        await self._grammar_checker.close()
        if has_started:
            self.texts.close()
        self._context.destroy(linger=0)
        self._directory.cleanup()

    @property
    def state(self) -> EngineState:
        is_silent = self._state is EngineState.RUNNING and self.pulse.is_stalled
        return EngineState.STALLED if is_silent else self._state

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
        self.check_open()
        places = places or self.admission.take(params.n, client)
        engine_id = f"{next(self._numbers)}#{request_id}"  # its own, should a caller use an id again
        try:
            check_text("request_id", request_id)
            if params.structured_outputs is not None:
                shape = await self._grammar_checker.check(params.structured_outputs, client)
                if shape is not params.structured_outputs:
                    params = await asyncio.to_thread(replace, params, structured_outputs=shape)
            request = await self.texts.process(
                engine_id, prompt_token_ids, params, priority=priority, cache_salt=cache_salt, client=client
            )
            self.check_open()
            message = encoder.encode(Add.of(request))
            deltas = self._streams.open(request, request_id)
            await self._outbox.send(message)
            is_finished = False
            while not is_finished:
                delta = await deltas.get()
                is_finished = delta.is_finished
                yield delta
        finally:
            places.give_back(params.n)
            if self._streams.close(engine_id) and self._state is EngineState.RUNNING:
                await self._send(Abort(AbortRequest(engine_id)))

    def check_open(self) -> None:
        """Raises `EngineDeadError`, `ShuttingDownError` or `EngineStalledError` where no request is taken."""
        self._check_alive()
        if self.state is EngineState.STALLED:
            raise EngineStalledError(
                f"the engine has given no sign of life for {self.pulse.silence_s:.0f} s; send the request again later"
            )

    def _check_alive(self) -> None:
        if self._state is EngineState.DEAD:
            raise EngineDeadError("the engine has died; restart the server")
        if self._state is EngineState.STOPPING:
            raise ShuttingDownError

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
            if isinstance(message, Blocks):
                self.block_map = message.map
                continue
            assert isinstance(message, Output)
            self.pulse.beat(is_busy=message.is_busy)
            self.stats = message.batch.stats
            deltas, aborts = self._streams.take_in(message.batch)
            for abort in aborts:
                await self._send(Abort(abort))
            for observe in self._observers:
                observe(message.batch, deltas)
            await asyncio.sleep(0)  # where many have piled up, others get their turn between them

    async def _watch(self) -> None:
        """When the process dies, say so to everyone who waits."""
        code = await self._process.wait()
        if self._state is not EngineState.STOPPING:
            logger.error("the engine process died with code %s", code)
        self._end(f"the engine process died with code {code}; restart the server")

    def _end(self, message: str) -> None:
        if self._state is not EngineState.STOPPING:
            self._state = EngineState.DEAD
            self._has_died.set()
        self._streams.fail(message)

    async def _send(self, message: ToEngine) -> None:
        await self._outbox.send(encoder.encode(message))
