"""OpenAI: any OpenAI-compatible endpoint (vLLM, SGLang, OpenAI, Gemini, a server of your own); docs/served.md.

A video is encoded once, however much is asked about it. The client library waits and tries again where the endpoint is
busy (429, with its Retry-After up to two minutes), failing (5xx), silent or unreachable; all else is a failed question
at once, or ends the run where no other request could do better. The key comes from an environment variable, and no
file, message or record holds it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from vamba_eval.completions import open_client, words_of
from vamba_eval.contracts import Answer, BudgetSpent, Clip, GenerationSettings, Seen, ServedModel, UserError
from vamba_eval.endpoint import needs_key, shown_url
from vamba_eval.machine import how_to_install
from vamba_eval.secrets import keep_secret, keep_secrets_of, without_secrets

from . import _pictures
from ._completions import NoAnswer, Prices, answer_in, failure_of

_DEFAULT_URL = "https://api.openai.com/v1"


class OpenAIEndpoint(ServedModel):
    """A chat model that is asked over HTTP.

    model, url          its name there, and the base URL (default: OPENAI_BASE_URL, or OpenAI's own)
    key_env             the environment variable that holds the key; an endpoint of your own may need none
    frames_as           "images", each frame a picture of its own; "video", one video of JPEGs with its metadata; or
                        "file", the video's file, of which the service chooses frames by itself
    image, quality      "jpeg" of that quality, or "png", which loses nothing and is three times as large
    times               write each frame's time before it
    system              a system message
    thinking            whether the chat template is told to let the model think (vLLM, SGLang); None leaves it to it
    reasoning_effort    as the endpoint knows it: "low", "medium", ...
    max_tokens_as       what the endpoint calls the longest answer: "max_tokens" or "max_completion_tokens"
    price               IN/OUT or IN/OUT/CACHED, in dollars for a million tokens
    budget              dollars that may be spent, failed questions included; what is in flight then is still paid
    concurrency         requests that are out at once, over all videos
    timeout             seconds for a whole response, after which a request is tried again
    retries             how often
    """

    name = "openai"
    takes_captions = True

    def __init__(
        self,
        model: str = "",
        url: str = "",
        key_env: str = "OPENAI_API_KEY",
        frames_as: str = "images",
        image: str = "jpeg",
        quality: int | str | None = None,
        times: bool | str = False,
        system: str = "",
        thinking: bool | str | None = None,
        reasoning_effort: str = "",
        max_tokens_as: str = "max_tokens",
        price: str = "",
        budget: float | str | None = None,
        concurrency: int | str = 8,
        timeout: float | str = 600.0,
        retries: int | str = 5,
    ) -> None:
        try:
            import openai
        except ImportError:
            raise UserError(f"asking an endpoint needs a library: {how_to_install('openai')}") from None
        self._openai = openai
        if not model:
            raise UserError("which model? give its name at the endpoint, as --model-args openai:model=NAME,url=URL")
        self._base_url = url or os.environ.get("OPENAI_BASE_URL") or _DEFAULT_URL
        self.model, self.url = model, shown_url(self._base_url, "the endpoint")
        self._key_env, self._key = key_env, os.environ.get(key_env, "").strip()
        keep_secret(self._key)
        keep_secrets_of(self._base_url)
        if not self._key and (key_env != "OPENAI_API_KEY" or needs_key(self._base_url)):
            raise UserError(f"{self.url} needs a key: set {key_env}, or name another variable with key_env=")
        self.frames_as = _one_of("frames_as", frames_as, ("images", "video", "file"))
        self.image = _one_of("image", image, ("jpeg", "png"))
        if self.image == "png" and (quality is not None or self.frames_as != "images"):
            other = "quality= is for JPEGs" if quality is not None else f"frames_as={frames_as} sends no PNGs"
            raise UserError(f"{other}, so image=png has no place beside it: leave one of them out")
        if self.frames_as == "file" and quality is not None:
            raise UserError("frames_as=file sends the file as it is, so quality= has no effect: leave one of them out")
        self.quality = int(_number("quality", 95 if quality is None else quality, 1, 100))
        self.times = _flag("times", times)
        if self.times and self.frames_as != "images":
            raise UserError(f"times=true writes between pictures, and frames_as={frames_as} sends none: leave it out")
        self.system, self.reasoning_effort = system, reasoning_effort
        self.thinking = None if thinking is None else _flag("thinking", thinking)
        self.max_tokens_as = _one_of("max_tokens_as", max_tokens_as, ("max_tokens", "max_completion_tokens"))
        try:
            self._prices = Prices.parse(price) if price else None
        except ValueError:
            raise UserError(
                f"price={price}: write IN/OUT or IN/OUT/CACHED in dollars per million tokens, such as 0.5/1.5/0.1"
            ) from None
        self._budget = None if budget is None else _number("budget", budget, 0)
        if self._budget is not None and self._prices is None:
            raise UserError("budget= needs to know what tokens cost: give price=IN/OUT, in dollars per million tokens")
        self.concurrency = int(_number("concurrency", concurrency, 1))
        self._timeout_s = _number("timeout", timeout, 0.001)
        self._retries = int(_number("retries", retries, 0))
        self._spent, self._in_flight, self._answered = 0.0, 0, False
        self._ended: UserError | None = None  # why no further request is sent
        self._loop: asyncio.AbstractEventLoop | None = None
        self._places = asyncio.Semaphore(self.concurrency)

    def describe(self) -> dict[str, Any]:
        """Prices, budget and concurrency change no answer."""
        about: dict[str, Any] = {"model": self.model, "url": self.url, "frames_as": self.frames_as}
        about |= {"samples_itself": True} if self.frames_as == "file" else {"image": self.image}
        about |= {"quality": self.quality} if about.get("image") == "jpeg" else {}
        given: dict[str, Any] = {"system": self.system, "reasoning_effort": self.reasoning_effort, "times": self.times}
        about |= {name: value for name, value in given.items() if value}
        return about | ({} if self.thinking is None else {"thinking": self.thinking})

    def seen(self, clip: Clip) -> Seen | None:
        if self.frames_as == "file":
            return None
        frames, height, width = clip.frames.shape[:3]
        if self.frames_as == "video":
            return Seen(frames, height, width, kind="video", times=True)
        return Seen(frames, height, width, kind="images", times=self.times)

    async def answer(
        self, clip: Clip | None, prompts: Sequence[str], settings: GenerationSettings
    ) -> AsyncIterator[tuple[int, Answer | Exception]]:
        options = self._options(settings)
        shown: list[dict[str, Any]] = []
        if clip is not None:
            if clip.captions and self.frames_as != "images":
                raise UserError(
                    "text between the frames, or pictures in place of a video: only frames_as=images can show it"
                )
            options |= _pictures.video_metadata(clip) if self.frames_as == "video" else {}
            shown = await asyncio.to_thread(self._shown, clip)
        async with self._client() as client:
            asked = [
                asyncio.create_task(self._ask(client, place, self._messages(shown, prompt), options))
                for place, prompt in enumerate(prompts)
            ]
            try:
                for done in asyncio.as_completed(asked):
                    place, answer = await done
                    if not isinstance(answer, UserError):
                        yield place, answer
            finally:
                for task in asked:
                    task.cancel()
                await asyncio.gather(*asked, return_exceptions=True)
        if self._ended is not None and any(isinstance(task.result()[1], UserError) for task in asked):
            raise self._ended

    # ---------------------------------------------------------------------------------------------- what is sent

    def _shown(self, clip: Clip) -> list[dict[str, Any]]:
        if self.frames_as == "file":
            return [_pictures.file_part(clip)]
        pictures = _pictures.encoded(clip.frames, self.image, self.quality)
        if self.frames_as == "video":
            return [_pictures.video_part(pictures)]
        return list(_pictures.image_parts(clip, pictures, self.image, times=self.times))

    def _messages(self, shown: list[dict[str, Any]], prompt: str) -> list[dict[str, Any]]:
        # str: a Prompt knows more than its text.
        content = [*shown, _pictures.text_part(str(prompt))] if shown else str(prompt)
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": content}]

    def _options(self, settings: GenerationSettings) -> dict[str, Any]:
        """What is sent beside the messages. Raises UserError for what no endpoint can be told."""
        if settings.min_new_tokens:
            raise UserError("an endpoint cannot be told how many tokens to generate at least")
        options: dict[str, Any] = {self.max_tokens_as: settings.max_new_tokens, "temperature": 0}
        if settings.do_sample:
            options |= {"temperature": settings.temperature, "seed": settings.seed}
            options |= {"top_p": settings.top_p} if settings.top_p not in (None, 1) else {}
            options |= {"top_k": settings.top_k} if settings.top_k is not None else {}
        if self.thinking is not None:
            options["chat_template_kwargs"] = {"enable_thinking": self.thinking}
        return options | ({"reasoning_effort": self.reasoning_effort} if self.reasoning_effort else {})

    def _client(self) -> Any:
        """A client of this event loop."""
        return open_client(
            self._base_url.partition("?")[0],
            self._key or "none",
            timeout_s=self._timeout_s,
            retries=self._retries,
            default_query=dict(parse_qsl(urlsplit(self._base_url).query)),  # such as Azure's api-version
        )

    # ------------------------------------------------------------------------------------------- what comes of it

    async def _ask(
        self, client: Any, place: int, messages: list[dict[str, Any]], options: dict[str, Any]
    ) -> tuple[int, Answer | Exception]:
        """Never raises; a UserError is why no further request is sent."""
        async with self._place():
            if self._ended is None and self._budget is not None and self._spent >= self._budget:
                self._ended = BudgetSpent(
                    f"the budget of ${self._budget:g} for {self.model} is spent (${self._spent:.4f}). Answers are "
                    "kept: the same command goes on from here, with as much again (budget= says with how much)"
                )
            if self._ended is not None:
                return place, self._ended
            self._in_flight += 1
            in_flight = self._in_flight
            try:
                answer: Answer | Exception = await self._post(client, messages, options)
            except (NoAnswer, UserError) as error:
                answer = error
            finally:
                self._in_flight -= 1
        if isinstance(answer, Answer):
            answer.in_flight, self._answered = in_flight, True
        price = getattr(answer, "price", None)
        self._spent += price or 0.0
        if isinstance(answer, Answer) and self._budget is not None and not answer.prompt_tokens:
            self._ended = UserError(f"{self.url} does not say how many tokens it took, so no budget= can be kept")
        if isinstance(answer, UserError) and self._ended is None:
            self._ended = answer
        return place, answer

    async def _post(self, client: Any, messages: list[dict[str, Any]], options: dict[str, Any]) -> Answer:
        """Raises NoAnswer, or a UserError where every other request would meet the same."""
        create = client.chat.completions.with_raw_response.create
        try:
            # As extra_body, since not all of it is in the library's vocabulary.
            response = await create(model=self.model, messages=[], extra_body={"messages": messages, **options})
        except self._openai.APITimeoutError:
            tried = f", tried {self._retries + 1} times" if self._retries else ""
            raise NoAnswer(f"no whole response in {self._timeout_s:g} s{tried} (timeout=)") from None
        except Exception as error:
            sent = [*options, *(["video_url"] if self.frames_as != "images" else [])]
            about = f"{self.model} at {self.url}"
            said = self._hidden(words_of(error))[:300]
            raise failure_of(error, said, about, self._key_env, sent, answered=self._answered) from None
        try:
            answer = answer_in(response.content, self._prices, thinks=self.thinking is True)
        except NoAnswer as error:
            raise NoAnswer(self._hidden(str(error)), error.price) from None
        answer.latency_s = response.elapsed.total_seconds()
        return answer

    def _hidden(self, text: str) -> str:
        """``text`` without what must stay secret: some endpoints repeat it."""
        parts = urlsplit(self._base_url)
        values = [value for _, value in parse_qsl(parts.query) if len(value) > 3]
        for secret in (self._key, parts.password, unquote(parts.password or ""), parts.query, *values):
            text = text.replace(secret, "***") if secret else text
        return without_secrets(text)

    def _place(self) -> asyncio.Semaphore:
        """A place among the requests in flight. Each benchmark is asked in an event loop of its own."""
        if (loop := asyncio.get_running_loop()) is not self._loop:
            self._loop, self._places, self._in_flight = loop, asyncio.Semaphore(self.concurrency), 0
        return self._places


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UserError(f"{name}={value}: it is one of {', '.join(known)}")
    return value


def _flag(name: str, value: bool | str) -> bool:
    if isinstance(value, bool):
        return value
    return _one_of(name, value.lower(), ("true", "false")) == "true"


def _number(name: str, value: float | str, least: float, most: float = float("inf")) -> float:
    """Raises UserError unless it is a finite number from ``least`` to ``most``."""
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not (least <= number <= most and number < float("inf")):
        most_text = f" to {most:g}" if most < float("inf") else ""
        raise UserError(f"{name}={value}: it is a number from {least:g}{most_text}")
    return number
