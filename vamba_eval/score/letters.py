"""Responses to answers, answers to accuracy, with uncertainty.

Plain functions on plain values; imports no torch, knows no benchmark. The extraction rules are facts of
their protocols and are followed to the letter, oddities included: a kinder parser gives other numbers.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence

from vamba_eval.contracts import LETTERS, Question, Score

# Phrases after which lmms-eval 0.7 looks for a letter (lmms_eval/tasks/_task_utils/mcq_extract.py).
_LMMS_ANSWER_PHRASES = (
    *("the answer is", "answer is", "the correct answer is", "correct answer is", "the best answer is"),
    *("best answer is", "the correct option is", "correct option is", "the best option is", "best option is"),
    *("the choice is", "choice is", "the correct choice is", "correct choice is", "i choose", "i select"),
    *("i pick", "my answer is", "my choice is", "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)


# Tags whose content the command of lmms-eval 0.7 removes first (--reasoning_tags of lmms_eval/__main__.py).
_LMMS_REASONING_TAGS = (("<think>", "</think>"), ("<analysis>", "</analysis>"))


# Phrases that Video-MME's authors remove before they look for a letter (eval_your_results.py of 23 June 2024). Two of
# them each run two phrases together, for want of a comma, and so remove neither.
_VIDEOMME_REMOVED_PHRASES = (
    *("The best answer is", "The correct answer is", "The answer is", "The answer"),
    *("The best option isThe correct option is", "Best answer:Best option:", "Answer:", "Option:"),
    *("The correct answer", "The correct option"),
)


# Phrases that lmms-eval 0.7 removes before it looks for a letter in LongVideoBench responses.
_LMMS_REMOVED_PHRASES = (
    *("The best answer is", "The correct answer is", "The answer is", "The answer", "The best option is"),
    *("The correct option is", "Best answer:", "Best option:"),
)


def extract_vamba(response: str) -> str:
    """The Vamba scripts' answer: the first alphabetic character after the last answer phrase, upper-cased.

    Empty if nothing is alphabetic. It need not be an option's letter: "I think B" gives "I". After "the option is"
    the scripts cut only where a space follows, so that "The option is: B" gives "T".
    """
    text = response.lower()
    cuts = {"the answer is": "the answer is", "answer:": "answer:", "the option is": "the option is "}
    for phrase, cut in cuts.items():
        if phrase in text:
            text = text.split(cut)[-1]
            break
    return next((char for char in text if char.isalpha()), "").upper()


def without_reasoning(response: str) -> str:
    """lmms-eval's ``strip_reasoning_tags``: the response without its reasoning; that which follows a lone closing tag.

    Its command does so by default before any task sees a response. An opening tag that is never closed stays.
    """
    text = response
    for opening, closing in _LMMS_REASONING_TAGS:
        while True:
            before, opened, rest = text.partition(opening)
            _, closed, after = rest.partition(closing)
            if not (opened and closed):
                break
            text = before + after
        if opening not in text:
            text = text.rpartition(closing)[2]
    return text.strip()


def extract_lmms(response: str, letters: str = "ABCD") -> str:
    """lmms-eval's ``extract_mcq_answer``: the last letter in the most telling format, or "".

    Formats from most to least telling: at the start, at the end, after an answer phrase, "(A)", "A.",
    "A:", "A)", "A ", anywhere.
    """
    stripped = without_reasoning(response)
    if not stripped:
        return ""
    for mark in ",.!?;:'\"":
        stripped = stripped.strip(mark)
    text = f" {stripped} "
    lowered = text.lower()
    found: list[tuple[int, int, str]] = []  # (how telling, position, letter)
    for letter in letters:
        for rank, form in (
            (6, f"({letter})"),
            (5, f"{letter}."),
            (4, f"{letter}:"),
            (3, f"{letter})"),
            (2, f"{letter} "),
        ):
            if form in text:
                found.append((rank, text.rfind(form), letter))
        for phrase in _LMMS_ANSWER_PHRASES:
            if (at := lowered.find(phrase)) >= 0 and (position := text.find(letter, at + len(phrase))) >= 0:
                found.append((7, position, letter))
        edge = stripped.strip()
        if edge.startswith(letter) and not edge[1:2].isalpha():
            found.append((10, 0, letter))
        if edge.endswith(letter) and not edge[-2:-1].isalpha():
            found.append((9, len(text) - 1, letter))
    if not found:
        found = [(0, text.rfind(letter), letter) for letter in letters if letter in text]
    return max(found, key=lambda item: item[:2])[2] if found else ""


def extract_lmms_first(response: str, letters: str = "ABCDE", removed: Iterable[str] = _LMMS_REMOVED_PHRASES) -> str:
    """lmms-eval's ``parse_multi_choice_response`` for LongVideoBench: the first of A to E, or "" (where it draws).

    Some of its tasks have other ``letters``, and other phrases that are ``removed`` before.
    """
    return _first_capital(without_reasoning(response), f"[{letters}]", removed)


def extract_videomme(response: str) -> str:
    """The answer by Video-MME's authors: the first of the capitals A to D, in whichever word, or ""."""
    return _first_capital(response, "[ABCD]", _VIDEOMME_REMOVED_PHRASES)


def _first_capital(response: str, letters: str, removed: Iterable[str]) -> str:
    text = response.strip()
    for phrase in removed:
        text = text.replace(phrase, "")
    match = re.search(letters, text)
    return match.group() if match else ""


def extract_lmms_choice(response: str, options: Sequence[str]) -> str:
    """lmms-eval's ``parse_multi_choice_response`` for NExT-QA, which is MMMU's: a letter, or "" (where it draws).

    The letters in the first of the forms "(A)", "A ", "A." that occurs at all; failing those, in a response
    of more than five words, the options whose text occurs. Of several, the last.
    """
    response = without_reasoning(response)
    for mark in ",.!?;:'":
        response = response.strip(mark)
    text = f" {response} "
    letters = LETTERS[: len(options)]
    # It looks for " A " to tell which "A." is the last; where none stands so, the first option counts.
    for form, place in (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} ")):
        if found := [letter for letter in letters if form.format(letter) in text]:
            return max(found, key=lambda letter: text.rfind(place.format(letter)))
    lowered = text.lower()
    texts = dict(zip(letters, (option.lower() for option in options), strict=True))
    named = [letter for letter in letters if texts[letter] in lowered]
    if len(text.split()) > 5 and named:
        return max(named, key=lambda letter: lowered.rfind(texts[letter]))
    return ""


def extract_lmms_word(response: str) -> str:
    """lmms-eval's ``mcq_acc`` for MVBench: the letter of a response "A. ...", else the first of A to E that stands
    alone, the word "a" included; failing that, a response of one other character. Otherwise "".
    """
    response = without_reasoning(response)
    if match := re.match(r"([A-E])\.\s*.+$", response, re.IGNORECASE):
        return match.group(1).upper()
    text = response.replace("\n", " ").replace("\t", " ").strip()
    spaced_digits = re.search(r"\d,\d", text) is not None
    cleaned = text
    for mark in ';/[]"{}()=+\\_-><@`,?!':
        # Beside a space a mark vanishes and can join words; elsewhere it separates them.
        joins = f"{mark} " in text or f" {mark}" in text or spaced_digits
        cleaned = cleaned.replace(mark, "" if joins else " ")
    # It means to pass a flag there and passes a count, so that the 33rd period stays.
    cleaned = re.sub(r"\.(?!\d)", "", cleaned, count=int(re.UNICODE))
    cleaned = cleaned.strip("'").strip('"').strip(")").strip("(").strip().lower()
    if match := re.search(r"\b[A-E]\b", cleaned, re.IGNORECASE):
        return match.group().upper()
    return cleaned.upper() if len(cleaned) == 1 else ""


def score_choice(
    question: Question, response: str, extract: Callable[[str], str], *, draw_if_unparsed: bool = False
) -> Score:
    """Score a multiple-choice response.

    A letter beyond the question's options is no answer: wrong, and counted as unparsed. With
    ``draw_if_unparsed`` an option is drawn where ``extract`` finds nothing, seeded by the question's id.
    """
    letters = LETTERS[: len(question.options)]
    extracted = extract(response)
    drawn = draw_if_unparsed and not extracted and bool(letters)
    if drawn:
        extracted = random.Random(question.id).choice(letters)
    valid = len(extracted) == 1 and extracted in letters
    right = valid and extracted == (question.answer or "").upper()
    values = {} if question.answer is None else {"correct": float(right)}  # withheld: neither right nor wrong
    return Score(values, extracted or None, parsed=valid and not drawn, drawn=drawn)
