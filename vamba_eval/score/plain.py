"""A response in plain characters: without the marks of Markdown, HTML and TeX, and with one alphabet's letters.

What set a single letter apart from its text (bold type, code, a formula) is kept as a mark of its own:
``OPEN``, ``CLOSE``.
"""

from __future__ import annotations

import html
import re
import unicodedata

from vamba_eval.contracts import LETTERS

OPEN, CLOSE = "\ue000", "\ue001"

_INVISIBLE = dict.fromkeys([*range(0x200B, 0x2010), 0x2060, 0xFEFF, 0xFE0E, 0xFE0F, 0x20E3, 0xAD, 0x0307])
# Letters in squares and circles that NFKC leaves, and regional indicators; İ has a lower case of two characters.
_PICTURED = {
    **{first + n: f" {letter} " for first in (0x1F150, 0x1F170, 0x1F1E6) for n, letter in enumerate(LETTERS)},
    ord("İ"): "I",
}
# Single letters of other alphabets that can mean but one option, by their looks and by their place in the alphabet
# alike. A Cyrillic В looks like B and comes third: it is left as it is.
_OTHER_ALPHABETS = dict(zip("АСЕΑΒΕאבגדהأبجد甲乙丙丁", "ACEABEABCDEABCDABCD", strict=True))
_OTHER_LETTER = re.compile(rf"(?<!\w)[{''.join(_OTHER_ALPHABETS)}](?=\s*(?:$|[^\w\s]))", re.MULTILINE)

_COLOUR = re.compile(r"\\(?:textcolor|colorbox|color)\s*\{[^{}]*\}")
_MACRO = re.compile(
    r"\\(?:text|math|operator|bold)[a-z]*\s*\{([^{}]*)\}|\{\s*\\(?:bf|rm|it|sf)(?:series)?\s+([^{}]*)\}"
)
_SPACING = re.compile(r"\\[,;:! ]|\\quad|\\displaystyle|\\(?=[()\[\]])")
_NEW_LINE = re.compile(r"\\n(?![a-z])")  # as in a string that was escaped twice
_BOLD = re.compile(r"<(b|strong|i|em|u|code|mark|span|center|font)\b[^<>]*>([^<]*)</\1\s*>", re.IGNORECASE)
_BLOCK = re.compile(
    r"</?(?:br|p|div|li|ul|ol|t[rdh]|table|tbody|thead|html|body|section|h[1-6])(?:\s[^<>]*)?/?>", re.IGNORECASE
)
_CONTRACTED = re.compile(r"\b(answer|choice|option|pick|guess)['’]s\b", re.IGNORECASE)
_STRUCK_OUT = re.compile(r"~~[^~\n]{1,200}~~")
# In a run of type marks: the letter, with brackets or a mark, and what may follow in the same type.
_SET_APART = re.compile(
    r"(\*{1,3}|(?<![^\W_])_{1,3}|`{1,3}|\${1,2})\s?([(\[]?)([A-Za-z])([)\]]?[.:)]?)(\s[^\n*`$]{0,400})?\s?\1(?!\w)"
)
_TYPE_MARKS = re.compile(r"[*`$]+|__+|^[ \t]*#+[ \t]*|^[ \t]*>[ \t]*", re.MULTILINE)
_ORDINALS = (("first", "1st"), ("second", "2nd"), ("third", "3rd"), ("fourth", "4th"), ("fifth", "5th"))
_ORDINAL = re.compile(
    rf"\b({'|'.join(word for words in _ORDINALS for word in words)}) (?:option|choice)\b", re.IGNORECASE
)


def _set_apart(match: re.Match[str]) -> str:
    _, opening, letter, mark, more = match.groups()
    if more and not mark:
        return match.group()  # "**A man**" is no letter
    return f"{opening}{OPEN}{letter}{CLOSE}{mark}{more or ''}"


def _counted(match: re.Match[str]) -> str:
    word = match.group(1).lower()
    return f"option {next(letter for letter, words in zip(LETTERS, _ORDINALS, strict=False) if word in words)}"


def plain(text: str) -> str:
    """``text`` in the characters and with the marks that patterns know; ``lower()`` keeps its length."""
    if "&" in text:
        text = html.unescape(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_INVISIBLE).translate(_PICTURED))
        text = _OTHER_LETTER.sub(lambda match: _OTHER_ALPHABETS[match.group()], text)
        text = "".join(char if len(char.lower()) == 1 else "?" for char in text)
    if "\\" in text:
        text = _NEW_LINE.sub("\n", _COLOUR.sub("", text))
        for _ in range(3):
            text = _MACRO.sub(lambda match: match.group(1) or f"{{{match.group(2)}}}", text)
        text = _SPACING.sub("", text)
    if "<" in text:
        text = _BLOCK.sub("\n", _BOLD.sub(r"**\2**", text))
    text = _CONTRACTED.sub(r"\1 is", text)
    text = _ORDINAL.sub(_counted, _STRUCK_OUT.sub("", text))
    return _TYPE_MARKS.sub("", _SET_APART.sub(_set_apart, text))
