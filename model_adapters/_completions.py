"""What an OpenAI-compatible endpoint says: a completion as an answer, an error as what it means for a run."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from vamba_eval.completions import completion_in, moved_to, shortened
from vamba_eval.contracts import Answer, UserError
from vamba_eval.reasoning import split_thinking

# An option that the endpoint does not take, in the words of OpenAI, vLLM, SGLang, FastAPI and pydantic.
_NOT_TAKEN = re.compile(
    r"unsupported|not supported|does not support|unexpected|unknown|unrecognized|not permitted|extra_forbidden"
    r"|invalid value|disabled|not allowed|not enabled",
    re.IGNORECASE,
)
_ADVICE = {
    "max_tokens": "give max_tokens_as=max_completion_tokens",
    "max_completion_tokens": "give max_tokens_as=max_tokens",
    "temperature": "ask with another --temperature (those that do not take 0 mostly take 1)",
    "top_p": "leave out --top-p",
    "top_k": "leave out --top-k",
    "seed": "it samples without a seed, which nobody can repeat; ask greedily (--temperature 0)",
    "chat_template_kwargs": "leave out thinking=",
    "reasoning_effort": "leave out reasoning_effort=, or give one that it knows",
    "media_io_kwargs": "start vLLM with --trust-request-mm-kwargs, or use frames_as=images",
    "video_url": "use frames_as=images",
}


class NoAnswer(Exception):
    """There is none to this question, for the reason given; ``price`` is what it cost all the same, in dollars."""

    def __init__(self, reason: str, price: float | None = None) -> None:
        super().__init__(reason)
        self.price = price


@dataclass(frozen=True)
class Prices:
    """Dollars for a million tokens: of the prompt, of the answer, and of the prompt where it was in the cache."""

    prompt: float
    answer: float
    cached: float

    @classmethod
    def parse(cls, text: str) -> Prices:
        """``"0.5/1.5"`` or ``"0.5/1.5/0.1"``; cached tokens cost what others cost where nothing else is said.

        Raises ValueError for anything else.
        """
        prices = [float(price) for price in text.split("/")]
        if len(prices) not in (2, 3) or not all(0 <= price < float("inf") for price in prices):
            raise ValueError(text)
        return cls(prices[0], prices[1], prices[-1 if len(prices) == 3 else 0])

    def of(self, prompt_tokens: int, answer_tokens: int, cached_tokens: int) -> float:
        uncached = prompt_tokens - cached_tokens
        return (uncached * self.prompt + cached_tokens * self.cached + answer_tokens * self.answer) / 1e6


def answer_in(content: bytes, prices: Prices | None, *, thinks: bool) -> Answer:
    """The answer in the body of a response; ``thinks`` if the model was asked to.

    Raises NoAnswer where there is none: what was cut off before the answer began, refused, withheld, empty or is no
    chat completion.
    """
    try:
        completion = completion_in(content)
    except ValueError as error:
        raise NoAnswer(str(error)) from None
    prompt_tokens, cached_tokens = completion.prompt_tokens, completion.cached_tokens
    # Gemini counts thoughts, which it asks money for, in the total alone.
    num_tokens = max(completion.completion_tokens, completion.total_tokens - prompt_tokens)
    price = prices.of(prompt_tokens, num_tokens, cached_tokens) if prices and completion.counted else None

    def none(reason: str) -> NoAnswer:
        return NoAnswer(reason, price)

    finish = completion.finish_reason or "stop"
    marked, answer = split_thinking(completion.text)
    thinking = "\n".join(thought for thought in (completion.thinking, marked) if thought)
    if completion.refusal:
        raise none(f"the model refused: {shortened(completion.refusal)}")
    if finish == "content_filter":
        raise none("the answer was withheld by a content filter")
    # Where thinking was asked for and nothing marks any, its opening mark was in the prompt and its end never came.
    still_thinking = not answer.strip() or (thinks and not thinking)
    if finish == "length" and still_thinking:
        raise none(
            f"cut off after {num_tokens:,} tokens, before its thinking ended and its answer began: raise "
            "--max-new-tokens, or ask without (thinking=false)"
        )
    if not answer.strip():
        behind = ", after its thinking" if thinking else ""
        raise none(f"the answer is empty{behind} (finish_reason {finish!r})")
    return Answer(
        text=answer,
        num_tokens=num_tokens,
        finish_reason="length" if finish == "length" else "stop",
        prompt_tokens=prompt_tokens,
        thinking=thinking,
        cached_tokens=cached_tokens,
        price=price,
        served_by=completion.model,
    )


def failure_of(
    error: Any, said: str, about: str, key_env: str, sent: Collection[str], *, answered: bool
) -> NoAnswer | UserError:
    """What an error of the client library means: a UserError where every other request would meet it as well.

    said      its words, without anything secret
    about     the model and its endpoint
    sent      the names of the options that were sent, and of parts of the messages that not all know
    answered  whether it has answered before, so that 403 (moderation) or a redirect is about this question alone
    """
    status, code = getattr(error, "status_code", None), getattr(error, "code", None)
    if status == 401 or (status == 403 and not answered):
        return UserError(
            f"{about} does not accept the key in {key_env} ({said}): set another, or name its variable with key_env="
        )
    if status == 404 or code == "model_not_found":
        return UserError(f"{about} cannot be found ({said}): check model= and url= (which usually ends in /v1)")
    if status == 402 or code == "insufficient_quota":
        return UserError(f"{about}: the account's quota is used up ({said}); the same command goes on from here")
    if (target := moved_to(error)) is not None:
        moved = f"sends requests on to {target}, where neither the frames nor the key are sent"
        if answered:
            return NoAnswer(f"the endpoint {moved}")
        return UserError(f"{about} {moved}: if that is where they should go, give it as url=")
    if status in (400, 422) and _NOT_TAKEN.search(said):
        for name in sent:
            if re.search(rf"\b{name}\b", said):
                return UserError(f"{about} does not take {name} ({said}): {_ADVICE[name]}")
    return NoAnswer(said)
