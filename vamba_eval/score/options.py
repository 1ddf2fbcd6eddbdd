"""The texts of a question's options, and where a response says one of them: word by word, without articles."""

from __future__ import annotations

import re
from functools import lru_cache

from vamba_eval.contracts import LETTERS
from vamba_eval.score.plain import plain

_CJK = "\u3040-\u30ff\u3400-\u9fff"
_TOKEN = re.compile(rf"\d+(?:[.,:]\d+)+|[{_CJK}]|[^\W_{_CJK}]+(?:['’][^\W_{_CJK}]+)*")
# "A and B" and "Vitamin A" have no articles.
_ARTICLE = re.compile(r"(?:a|an|the)\s+(?!(?:and|or)\b)[^\W_]", re.IGNORECASE)


@lru_cache(maxsize=4096)
def texts_of(options: tuple[str, ...]) -> dict[tuple[str, ...], str]:
    """Letters by the words of their options; "" where several options have the same words, or where there are none."""
    known: dict[tuple[str, ...], str] = {}
    for letter, option in zip(LETTERS, options, strict=False):
        words = tuple(word for word, _, _ in words_of(plain(option)))
        known[words] = "" if words in known or not words else letter
    return known


def words_of(text: str) -> list[tuple[str, int, int]]:
    """The words in lower case, without articles, with where they stand; articles where there is nothing else."""
    every = [(token.group().lower().replace("’", "'"), *token.span()) for token in _TOKEN.finditer(text)]
    return [word for word in every if not _ARTICLE.match(text, word[1])]


def option_of(text: str, options: tuple[str, ...]) -> str:
    """The letter of the option that ``text`` is."""
    same = [
        letter
        for letter, option in zip(LETTERS, options, strict=False)
        if option.strip() and option.strip().lower() == text.strip().lower()
    ]
    if len(same) == 1:
        return same[0]
    return texts_of(options).get(tuple(word for word, _, _ in words_of(text)), "")


_GOES_ON = re.compile(
    r"\s*(?:[.,;:!)\]}\n\"'”’»」』】|\ue001]|[-–—]\s|$)|\s+(?:because|since|as|which|based|due|given)\b"
)


def option_begun(text: str, options: tuple[str, ...]) -> str:
    """The letter of the longest option with whose whole text ``text`` begins, up to a mark or a reason."""
    words = words_of(text)
    texts = texts_of(options)
    for own in sorted(texts, key=len, reverse=True):
        if own and tuple(word for word, _, _ in words[: len(own)]) == own:
            return texts[own] if _GOES_ON.match(text, words[len(own) - 1][2]) else ""
    return ""
