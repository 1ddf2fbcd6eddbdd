"""The answer in a response that also holds the model's reasoning, as the families of models mark it.

Plain functions on plain values. A server that separates the two itself leaves nothing to do here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_REASONING_NAMES = (
    *("think", "thinking", "thought", "thoughts", "thought_process", "reasoning", "reason", "reflection", "reflect"),
    *("analysis", "rationale", "scratchpad", "deliberation", "cot", "chain_of_thought", "inner_monologue"),
    *("internal_monologue", "seed:think", "seed:cot_budget_reflect"),
)
_REASONING = re.compile(
    rf"[<\[]\|?\s*(/?)\s*({'|'.join(sorted(_REASONING_NAMES, key=len, reverse=True))})(?:\s[^<>\[\]]*|\s*/)?\|?[>\]]",
    re.IGNORECASE,
)
# What opens and closes a model's thinking.
THINKING_MARKS = (
    ("<think>", "</think>"),  # Qwen, GLM and most others
    ("◁think▷", "◁/think▷"),  # Kimi
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<unused94>", "<unused95>"),  # Gemma 3, MedGemma
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
# Marks of single model families, as the tags that they mean.
_FAMILY_MARKS = (
    *((opening, "<think>") for opening, _ in THINKING_MARKS),
    *((closing, "</think>") for _, closing in THINKING_MARKS),
    *(("<|begin_of_solution|>", ""), ("<|end_of_solution|>", "")),
    *(("<|begin_of_box|>", "<answer>"), ("<|end_of_box|>", "</answer>")),  # GLM
)
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s*final\b[^<]{0,40}(?:<\|constrain\|>[^<]{0,40})?<\|message\|>")
_END_OF_CHANNEL = re.compile(r"<\|(?:return|end|call|start|channel)\|>")
# gpt-oss where a tokenizer has dropped the special tokens.
_FINAL_WITHOUT_MARKS = re.compile(r"assistant\s{0,3}final(?![a-z])")
_ANALYSIS_WITHOUT_MARKS = re.compile(r"\s*analysis(?=[A-Z])")
_CHANNEL = re.compile(r"<\|start\|>\s*assistant|<\|channel\|>\s*\w+[^<]{0,40}<\|message\|>")
_SPECIAL_TOKEN = re.compile(r"<[|｜][^<>|｜]{1,40}[|｜]>|</?s>|<eos>|<end_of_turn>|<end_of_utterance>")


def final_text(response: str) -> str:
    """``response`` without its reasoning; "" where the reasoning never ends, so that the answer never came."""
    _, answer = _split(response)
    return answer


def split_thinking(response: str) -> tuple[str, str]:
    """The reasoning in ``response``, and its answer: "" where the reasoning never ends.

    Without any mark of reasoning the answer is the response as it is.
    """
    thinking, answer = _split(response)
    return ("", response) if thinking is None else (thinking, answer)


def _split(response: str) -> tuple[str | None, str]:
    """The reasoning (None where nothing marks any) and the answer."""
    text = response
    thinking: str | None = None
    if "<|channel|>" in text:
        finals = list(_FINAL_CHANNEL.finditer(text))
        if not finals:
            return _bare(text), ""
        thinking = _bare(text[: finals[-1].start()])
        text = text[finals[-1].end() :]
        closing = _END_OF_CHANNEL.search(text)
        text = text[: closing.start()] if closing else text
    elif finals := list(_FINAL_WITHOUT_MARKS.finditer(text)):
        thinking = text[: finals[-1].start()].strip()
        text = text[finals[-1].end() :]
    elif _ANALYSIS_WITHOUT_MARKS.match(text):
        return text.strip(), ""
    for mark, meaning in _FAMILY_MARKS:
        text = text.replace(mark, meaning)
    if "<" not in text and "[" not in text:
        return thinking, text.strip()
    thoughts = [thinking] if thinking is not None else []
    kept: list[str] = []
    start, opened = 0, ""
    for tag in _REASONING.finditer(text):
        name = tag.group(2).lower()[:5]  # think and thinking close each other
        if tag.group().rstrip(">]").endswith("/"):
            continue
        if not tag.group(1):
            if not opened:
                kept.append(text[start : tag.start()])
                start, opened = tag.end(), name
        elif not opened:  # opened in the prompt, or once more before
            thoughts += [*kept, text[start : tag.start()]]
            kept, start = [], tag.end()
        elif name == opened or {name, opened} == {"think", "thoug"}:
            thoughts.append(text[start : tag.start()])
            start, opened = tag.end(), ""
    if opened:
        return _joined([*thoughts, *kept, text[start:]]), ""
    answer = _SPECIAL_TOKEN.sub("", "".join([*kept, text[start:]])).strip()
    return (_joined(thoughts) if thoughts else None), answer


def _joined(thoughts: Sequence[str]) -> str:
    return "\n".join(thought.strip() for thought in thoughts if thought.strip())


def _bare(text: str) -> str:
    """Reasoning in channels, without the marks of the channels."""
    return _SPECIAL_TOKEN.sub("", _CHANNEL.sub("\n", text)).strip()
