"""vLLM's AsyncLLM in an event loop of its own, in an engine process that is started as large as what it is asked.

A benchmark is asked in an event loop that ends with it; the engine outlives that. How much a video takes is known when
there is one, so the engine is started for the first, and anew, once nothing is in flight, for one that does not fit.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from vamba_eval.contracts import UserError, first_line

_LEAST = 4096  # tokens: fewer save nothing


class Engine:
    """Starts nothing until it is asked.

    arguments       of vLLM's AsyncEngineArgs
    max_model_len   tokens of a prompt with its answer, where the user says so; None grows with what is asked
    limit           how many tokens the model can take
    """

    def __init__(self, arguments: Mapping[str, Any], max_model_len: int | None, limit: int) -> None:
        self.limit = min(limit, max_model_len or limit)
        self._arguments, self._fixed = dict(arguments), max_model_len
        self._room, self._items = 0, dict[str, int]()
        self._llm: Any = None
        self._failed: UserError | None = None  # why it cannot be started
        self._numbers = itertools.count()
        self._running, self._changed = 0, asyncio.Condition()
        self._turn = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def generate(
        self, inputs: Any, params: Any, tokens: int, items: Mapping[str, int], on_first: Callable[[], object]
    ) -> tuple[Any, float]:
        """vLLM's whole output for rendered ``inputs``, and the seconds it took once there was an engine for it.

        tokens      of the prompt with its longest answer
        items       how many pictures or videos the prompt has, by modality
        on_first    called, in any thread, when the first token is there: the prompt is in the prefix cache then

        Raises UserError where the engine cannot be started or has died, and what vLLM raises of this request.
        """
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
            self._thread.start()
        work = self._generate(inputs, params, tokens, items, on_first)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def close(self) -> None:
        if self._loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None

    # --------------------------------------------------------------------------------- in the loop of the engine

    async def _generate(
        self, inputs: Any, params: Any, tokens: int, items: Mapping[str, int], on_first: Callable[[], object]
    ) -> tuple[Any, float]:
        output = None
        async with self._started(tokens, items) as llm:
            sent = time.monotonic()
            try:
                async for output in llm.generate(inputs, params, str(next(self._numbers))):  # noqa: B007 - the last one
                    on_first()
            except Exception as error:
                if llm.errored:
                    raise UserError(
                        f"vLLM's engine has died ({first_line(error)}): what it printed says why. Answers are kept: "
                        "the same command goes on from here"
                    ) from error
                raise error.__cause__ or error from None  # vLLM hides the reason behind an error without words
            return output, time.monotonic() - sent

    @asynccontextmanager
    async def _started(self, tokens: int, items: Mapping[str, int]) -> AsyncIterator[Any]:
        """An engine that takes so much, which is not replaced meanwhile."""
        async with self._turn:
            if self._llm is None or tokens > self._room or any(n > self._items.get(m, 0) for m, n in items.items()):
                async with self._changed:
                    await self._changed.wait_for(lambda: not self._running)
                self._start(tokens, items)
            self._running += 1
        try:
            yield self._llm
        finally:
            async with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _start(self, tokens: int, items: Mapping[str, int]) -> None:
        """Blocks the loop, in which nothing else runs. Sizes are powers of two, so that few videos need another."""
        from vllm.v1.engine.async_llm import AsyncLLM

        if self._failed is not None:  # what waits meanwhile need not wait for it to fail again
            raise self._failed
        self._shut_down()
        room = self._fixed or min(self.limit, max(self._room, _LEAST, _power_of_two(tokens)))
        larger = {
            modality: max(self._items.get(modality, 0), _power_of_two(count)) for modality, count in items.items()
        }
        self._items = {"video": 0, "image": 0, **self._items, **larger}
        try:
            self._llm = AsyncLLM.from_vllm_config(self._config(room), disable_log_stats=True)
        except Exception as error:
            self._failed = UserError(
                f"vLLM cannot be started for {room:,} tokens: {first_line(error)}. What it printed above says more; of "
                "memory it needs less with fewer frames or a smaller max_model_len=, and has more with a larger "
                "gpu_memory_utilization= or tensor_parallel_size="
            )
            raise self._failed from error
        self._room = room

    def _config(self, room: int) -> Any:
        given = {**self._arguments, "max_model_len": room, "limit_mm_per_prompt": self._items}
        config = engine_config(given)
        scheduler = config.scheduler_config
        if scheduler.disable_chunked_mm_input and "max_num_batched_tokens" not in given:
            config = engine_config({**given, "max_num_batched_tokens": room})  # a video is not taken in parts
            scheduler = config.scheduler_config
        # vLLM refuses an item with more tokens than these, whose default is one step's tokens.
        scheduler.encoder_cache_size = max(scheduler.encoder_cache_size, room)
        scheduler.max_num_encoder_input_tokens = max(scheduler.max_num_encoder_input_tokens, room)
        return config

    def _shut_down(self) -> None:
        if self._llm is not None:
            self._llm.shutdown()
            self._llm = None

    async def _stop(self) -> None:
        self._shut_down()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def engine_config(arguments: Mapping[str, Any]) -> Any:
    """vLLM's configuration of an engine. Raises what vLLM raises of arguments that do not go together."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    # This process has threads, and may have looked for a GPU: a fork of it would not see one.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    return AsyncEngineArgs(**arguments).create_engine_config()


def _power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()
