"""Which option a response chooses, however a model says it: the reading of the protocol ``flexible``.

Plain functions on plain values; no torch, no benchmark, never a language model. Unlike the rules in ``letters``, which
follow other people's code, these are our own, and where a response can be understood in two ways they read nothing.

Reasoning is taken off first (``final_text``). What is left is read by the first of these that applies: the last
explicit answer ("The answer is B", a box, a tag); a letter that stands alone, or at the start or the end; the last
conclusion ("so B"); a letter that is marked as one and the only one so marked ("(B)"); the one option whose text is
said. Every pattern is searched in one pass and looks ahead a bounded way, so that time grows with the length alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from vamba_eval.contracts import LETTERS, CutOff, Question, Score
from vamba_eval.reasoning import final_text
from vamba_eval.score.letters import score_choice
from vamba_eval.score.options import option_begun, option_of, texts_of, words_of
from vamba_eval.score.phrases import (
    ANSWER_NOUNS,
    CONCLUSIONS,
    COPULAS,
    CORRECTIONS,
    FILLERS,
    KEYS,
    OPTION_NOUNS,
    QUALIFIERS,
    VERBS,
)
from vamba_eval.score.plain import CLOSE, OPEN, plain

_NEGATED = re.compile(
    r"(?:\b(?:not|no|never|neither|nor|none|without|cannot|unable|rather\s+than|instead\s+of|unlike|except|all\s+but|anything\s+but)\b|doubt|unlikely|nothing|n['’]t\b)"
    r"[^.,;:!?\n]{0,60}$"
)
_CLAUSE = re.compile(r"[.,;:!?\n]|\b(?:but|because|since|so|and|while|hence|therefore|thus|whereas)\b")


def _negated(lowered: str, at: int) -> bool:
    """Whether the clause that leads to ``at`` denies what follows."""
    before = lowered[max(0, at - 60) : at]
    starts = [end.end() for end in _CLAUSE.finditer(before)]
    return _NEGATED.search(before, starts[-1] if starts else 0) is not None


# ------------------------------------------------------------------------------------------------ one letter

# What may stand before a letter, beside spaces: marks, brackets and quotes.
_MARKS = r"\s:、=→⇒⟹▶►➡•~|,\-–—\"'“”„‘’«»‹›「」『』【】〔〕《》〈〉<>\[\](){}\ue000\ue001✅☑✔👉"
_WORD = "0-9a-zß-öø-ɏͰ-ϿЀ-ӿ"
_LETTER = re.compile(rf"[{_MARKS}]*([a-z])(?![{_WORD}_])")
_CLOSED = re.compile(
    rf"\s*(?:$|[(\[](?!s\))|[)\]}}>\n\"”»」』】,;:!|\ue001]|\.(?![{_WORD}]\.)|[-–—]+\s|['’](?![a-z])|[^\x00-\u02ff\s])"
)
# Words after which "a" is no article and "i" no pronoun.
_LETTER_WORDS = re.compile(
    r"\s+(?:because|since|as|due|based|given|which|where|with|and|or|for|from|but|is|do|does|did|not|rather|instead|over|according|here|are|were|both|matches|fits|"
    r"although|though|when|if|on|at|by|to|in\s+(?:this|my|the|all)|seçene\w*|şık\w*|şıkk\w*)\b"
)
_REFUSED = re.compile(
    r"[)\]}\"'”’\ue001]*(?:\.\s*(?=[-–—✗✘❌(]|wrong|incorrect|false)|:)?\s*(?:[-–—]+|\((?=wrong|incorrect))?\s*"
    r"(?:(?:is|are|was|were|do|does|did|seems|looks|can|could|would|should|be|ist|est|es)\s+)*(?:\w+ly\s+|also\s+)?"
    r"(?:not|\w*n['’]t|cant|wrong|incorrect|false|ruled|eliminated|excluded|unlikely|impossible|no(?=\s*(?:[.,;\n]|$))|"
    r"falsch|faux|incorrecta|incorreta|sbagliata)\b|[)\]}\"'”’\ue001.:\s]*(?:[✗✘❌]|(?:选?项)?(?:是|为)?(?:不|错|錯)|"
    r"(?:이|가)\s*아[니닙]|では(?:な|あり)|じゃな)"
)
_AND = re.compile(
    r"[)\]}\"'”’\ue001.:\s]*(?:,\s*(?:and|or)\b|[,/+;&|]|\b(?:and/or|and|or|as\s+well\s+as|oder|und|ou|et|o|y|e|или|и)\b|和|或者|或|、|及|与|と|또는|와|과)"
    rf"\s*(?:(?:option|choice|answer|maybe|perhaps|possibly|even|also)\s+)*[(\[\ue000\"'“]*([a-z])(?![{_WORD}_'’])"
)
# What is said of one letter, not of those before it too.
_ONE = re.compile(r"[)\]\ue001]*\s+(?:is|was|does|did|has|isn['’]t|wasn['’]t|doesn['’]t|only|appears)\b")
# Nothing but brackets or a space between two letters.
_BESIDE = re.compile(r"[)\]}\ue001]* ?[(\[\ue000]*([a-z])[)\]}\ue001.]*\s*(?:$|\n)")


_BRACKETS = ("()", "[]", "{}", "<>", "【】", "「」", "『』", '""', "“”", "''", "‘’", OPEN + CLOSE)


class _Response:
    """What is left of a response, as the patterns read it, and its question's options."""

    def __init__(self, text: str, options: tuple[str, ...], lettered: set[str]) -> None:
        self.text = text
        self.lowered = text.lower()
        self.lettered = lettered  # options whose letter and text are said together
        self.options = options
        self.letters = LETTERS[: len(options)]
        self.reach = (
            2 * max(map(len, options), default=0) + 20
        )  # so far an option's text goes, with its spaces and marks

    def known(self, letter: str) -> str:
        return letter if letter in self.letters else ""

    def letter_at(self, at: int, *, capital: bool = False) -> tuple[str, int] | None:
        """The letter that stands at ``at``, behind marks, and where it ends; None where a word or nothing does.

        The letter is "" where several are named together, or one that no option has. ``capital``: in lower case
        it counts only in brackets.
        """
        match = _LETTER.match(self.lowered, at)
        if match is None:
            return None
        place, after = match.start(1), match.end(1)
        letter = self.text[place]
        before, behind = self.text[place - 1 : place], self.text[after : after + 1]
        bracketed = before + behind in _BRACKETS
        if self.text[after : after + 3].lstrip(f")]}} .*{CLOSE}").startswith("?"):
            return None
        if self.are_refused(after) if capital else self.is_refused(after):
            return None
        if not bracketed:
            if letter.islower() and capital:
                return None
            if behind in ("-", "'", "’", "+", "#", "&", "_") and re.match(r"\S[^\s.]", self.text[after : after + 2]):
                if not re.match(r"['’][dt][iıuü]r", self.lowered[after : after + 4]):  # Turkish "is"
                    return None
            elif not _CLOSED.match(self.lowered, after):
                doubtful = letter.islower() or letter in "AI"
                joined = self.joined(after)
                if doubtful and joined is None and not _LETTER_WORDS.match(self.lowered, after):
                    return None
        own, other = letter.upper(), self.joined(after)
        return ("" if other not in (None, own) else self.known(own)), after

    def is_refused(self, after: int) -> bool:
        """Whether the letter that ends there is said to be wrong."""
        return _REFUSED.match(self.lowered, after) is not None

    def are_refused(self, after: int) -> bool:
        """The same, by itself or with others that are named with it: "A, C and D are wrong"."""
        _, end = self._named_with(after)
        with_others = end != after and self.is_refused(end) and not _ONE.match(self.lowered, end)
        return with_others or self.is_refused(after)

    def joined(self, after: int) -> str | None:
        """Another option's letter that is named in one breath with the one that ends there."""
        other, end = self._named_with(after)
        return None if end != after and self.is_refused(end) else other

    def _named_with(self, after: int) -> tuple[str | None, int]:
        """The next letter that is named in one breath with the one that ends there, and where the last of them ends."""
        first, end = None, after
        for _ in self.letters:
            match = _AND.match(self.lowered, end) or _BESIDE.match(self.lowered, end)
            if match is None:
                break
            place, next_end = match.span(1)
            letter = self.text[place]
            if self.known(letter.upper()) == "" or letter.islower() != self.text[after - 1].islower():
                break
            is_word = (
                self.text[next_end : next_end + 1] != "?"
                and not _CLOSED.match(self.lowered, next_end)
                and not _LETTER_WORDS.match(self.lowered, next_end)
            )
            if is_word and letter in "AIai":
                break
            if (
                option_begun(self.text[place : place + self.reach], self.options)
                and self.text[place + 1 : place + 2].isspace()
            ):
                break  # "A, C major": the letter and its text
            if match.group().strip(" )")[0] in ",;" and _ONE.match(self.lowered, next_end):
                break  # "B; A is only mentioned"
            first, end = first or letter.upper(), next_end
        return first, end


# ------------------------------------------------------------------------------------------- explicit answers


def _any(words: Iterable[str]) -> str:
    return "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in sorted(set(words), key=len, reverse=True))


# Scripts whose words are not set apart by spaces, or hold signs that a pattern does not take for letters.
_UNSPACED = re.compile("[\u0900-\u1dff\u2e80-\uffff]")


def _word(words: Iterable[str]) -> str:
    """One of ``words`` as a whole word; in scripts without spaces anywhere."""
    spaced = [word for word in words if not _UNSPACED.search(word)]
    parts = [rf"(?:{_any(spaced)})(?![a-zß-öø-ɏͰ-ϿЀ-ӿ])"] if spaced else []
    joined = [word for word in words if _UNSPACED.search(word)]
    return "|".join([*parts, *([_any(joined)] if joined else [])])


_KINDS = {
    "answer": ANSWER_NOUNS,
    "option": OPTION_NOUNS,
    "qualifier": QUALIFIERS,
    "verb": VERBS,
    "correction": CORRECTIONS,
    "conclusion": CONCLUSIONS,
}
_HEAD = {word: kind for kind, words in _KINDS.items() for word in words if " " not in word}
_PHRASES: dict[str, dict[str, str]] = {}
for _kind, _words_of in _KINDS.items():
    for _phrase in _words_of:
        if " " in _phrase:
            _PHRASES.setdefault(_phrase.split(" ")[0], {})[_phrase] = _kind
_HEAD_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_HEAD_UNSPACED = re.compile(_any(word for words in _KINDS.values() for word in words if _UNSPACED.search(word)))
_STEP = re.compile(
    rf"(?P<copula>{_word(COPULAS)}|[:=→⇒⟹➡])|\s+|\.{{2,}}|…|(?<=\bans)\.|[\"“][^\"”\n]{{2,300}}[\"”]|[{_MARKS}]|(?P<filler>{_word(FILLERS)})"
)
# From a noun over what is said of it to its verb: "the answer that fits best is".
_FURTHER = re.compile(r"\s(?:is|are|be|would be|must be)\s")
_CLAUSE_END = re.compile(
    r"[.;:!?\n]|\b(?:not|no|none|cannot|neither|if|whether|depends?|unclear|unknown|first|initial)\b|n['’]t\b"
)
_QUALIFIED = re.compile(rf"(?:{_word(QUALIFIERS)})[\s:]*$")
# What may lead from a denial, a doubt, a condition or somebody else's opinion to an answer that is therefore none.
_DENIED = re.compile(
    r"(?:\b(?:not|never|cannot|neither|doubt|unlikely|nothing|no\s+evidence|unable\s+to|if|whether|suppose|assume|"
    r"assuming|unless|than|otherwise|first|initial|naive|tempting|(?:wrong|incorrect|tempting)\s+to|option\s+by|"
    r"(?:each|every)(?:\s+(?:answer|possible|given|of))?|"
    r"(?:people|some|many)(?:\s+\w+)?\s+(?:often|usually|may|might|would|will)|"
    r"(?:one|you|some|people|many)\s+(?:might|may|could|would)\s+(?:think|expect|say|argue|assume|guess|believe)|"
    r"if\s+(?!i\b|we\b|you\b|one\b|forced|only|any|necessary)[^.;:!?\n]{1,60},(?:\s+then)?)|n['’]t|不|非|没|如果|有人(?:可能)?会?)"
    r"(?:\s+(?:think|believe|say|saying|sure|certain|mean|imply|know|claim|determine|tell|that|whether|if|be|really|it|"
    r"necessarily|confidently|the|a|an|give|provide|any|answer|correct|right|best|final|to|i|we|would|of|my|exact)\b)"
    r"{0,7}\s*$"
)
# "At first, A seems right", "although A is correct in part": what follows weighs more.
_CONCEDED = re.compile(
    r"\b(?:(?:at\s+first(?:\s+\w+)?|initially|originally),?|although|though|while|even\s+if)\s+"
    r"(?:options?\s+)?[(\[\"'\ue000]*$"
)
_IS_RIGHT = re.compile(
    rf"(?<![{_WORD}_])(?P<letter>[a-z])(?!['’][^\W_])[)\]\"'”’\ue001]*[.:]?\s*(?:"
    r"(?:is|seems|appears|looks|must be|would be|should be|has to be)\s+(?:(?:the|to|be|most|clearly|definitely|indeed|"
    r"likely|therefore|thus|only|my|probably|obviously|also|final)\s+){0,4}"
    r"(?:correct|right|best|better|true|accurate|answer|appropriate|choice|closest|one(?=\W*$)|chosen|selected)\b|"
    r"(?:was|can\s+be|could\s+only\s+be)\s+(?:chosen|selected|correct|right)\b|it\s+is(?=\W*$)|is\s+the\s+(?:case|most|only)\b|(?:fits|matches)\s+best|makes\s+(?:the\s+)?most\s+sense|(?:fits|remains)(?=\W*$)|"
    r"(?:(?:as|to\s+be)\s+)?the\s+(?:(?:most|only)\s+)?(?:\w+\s+)?(?:answer|choice|option)\b|correct(?=\W*$)|"
    r"\?\s*(?:yes|correct|exactly)\b|"
    r"(?:best|most\s+\w+ly|correctly|accurately|\w+ly)\s+(?:describes|matches|fits|reflects|captures|answers|summarizes)\b|"
    r"(?:es|est|ist|é|è)\s+(?:(?:la|le|die|a|el|il)\s+)?(?:correct[aeo]?|bonne|richtig\w*|korrekt\w*|corret[ao]|certa|"
    r"corretta|giusta|respuesta|réponse|antwort|resposta|risposta)|"
    r"(?:选?项|選項)?\s*(?:是|为|為)?(?:正确|正確|对的|最佳|最?符合|答案)|が(?:正解|正し|最|適切)|を選|です|だ(?:$|。|と思)|"
    r"번?(?:[가이]\s*(?:정답|맞)|[를을]\s*(?:선택|고르)|입니다|이다|이에요|예요)|верн|правильн|सही)"
)
_NOT_ALONE = re.compile(
    r"\b(?:if|whether|why|assuming|suppose|supposing|and|or|neither|all|both|better than)\s+(?:options?\s+)?[(\[]?$|"
    r"(?<![a-z])([a-z])[\"'\ue001)\]]*\s*[,/;&]\s*[\"'\ue000(\[]*$|(?:と|와|과|和|或|또는|、|및)\s*$"
)
# In a string of JSON "\\b" is one character, and lost.
_BOX = re.compile(r"(?:\\(?:frame|f)?b|\x08|\bb)ox(?:ed)?\s*\{+([^{}]*)\}")
_MORE_BOXES = re.compile(r"\}\s*\$*\s*(and|or|,|&)\s*\$*\s*\\boxed\s*\{")
_TAG_NAME = (
    r"(?:[a-z]+[_ -])?(?:answer|option|choice|conclusion|final|response|result|ans|solution|prediction|letter|correct|"
    r"output)"
)
_TAG = re.compile(
    rf"[<\[]\s*({_TAG_NAME}(?:[_ -](?:answer|option|letter|choice))?)(?:\s[^<>]{{0,200}})?[>\]]([^<]*?)(?=<|\[/|$)"
)
_LAST_TAG = re.compile(rf"[<\[]/\s*{_TAG_NAME}\s*[>\]]\s*$", re.IGNORECASE)
_FIELD = re.compile(
    rf"[\"'](?:{_any(KEYS)})[\"']\s*:\s*(?:\"([^\"\n]{{0,1000}})\"|'([^'\n]{{0,1000}})'|(\[[^\]\n]{{0,1000}}\]|[^,}}\n]{{0,200}}))"
)
_NOT = re.compile(r"\bnot[ $\\(\[*:\"']*$")


def _containers(this: _Response, depth: int) -> Iterator[tuple[int, str]]:
    """Answers in boxes, tags and fields of JSON, with where they end; "" where what is inside is no option."""
    for pattern in (_BOX, _TAG, _FIELD):
        for match in pattern.finditer(this.lowered):
            group = match.lastindex or 0
            if _NOT.search(this.lowered, max(0, match.start() - 20), match.start()):
                continue
            if pattern is _TAG and match.group(1) in ("option", "choice") and this.text[match.end(1) :][:1] != ">":
                continue
            if group:
                start, end = match.span(group)
                if this.lowered[start:end].strip() or pattern is not _TAG:
                    yield match.end(), _read(this.text[start:end], this.options, depth + 1)


def _heads(this: _Response) -> Iterator[tuple[int, int, str]]:
    """Words after which an answer may stand: start, end and kind."""
    lowered = this.lowered
    for match in _HEAD_WORD.finditer(lowered):
        word, at = match.group().replace("’", "'"), match.start()
        for phrase, kind in _PHRASES.get(word, {}).items():
            if lowered.startswith(phrase, at):
                yield at, at + len(phrase), kind
                break
        else:
            elided = word.partition("'")[2]  # French and Italian articles
            if known := _HEAD.get(word) or _HEAD.get(elided):
                yield at, match.end(), known
    if not lowered.isascii():
        for match in _HEAD_UNSPACED.finditer(lowered):
            kind = next(kind for kind, words in _KINDS.items() if match.group() in words)
            yield match.start(), match.end(), kind


def _after(this: _Response, end: int, kind: str) -> tuple[str | None, int, bool]:
    """What is said after a head: a letter ("" for several), or None; where it ends; whether a verb or colon leads."""
    at, linked, first = end, False, -1
    if kind == "correction" and this.text[end : end + 1] == ".":
        at = end + 1
    capital = kind in ("correction", "conclusion")
    for _ in range(24):
        found = this.letter_at(at, capital=capital)
        if found is not None:
            place = found[1] - 1
            if letter := _text_that_begins_with_a_letter(this, place):  # "C major"
                return letter, found[1], True
            linked = linked or re.search("[:=\n]", this.text[at : found[1]]) is not None
            return found[0], found[1], linked
        step = _STEP.match(this.lowered, at)
        if step is None:
            break
        if step.group("copula"):
            linked, first = True, step.end() if first < 0 else first
        at = step.end()
    if (linked or kind == "verb") and not capital and kind != "qualifier":
        for start in dict.fromkeys((first if first >= 0 else end, at)):
            if letter := option_begun(this.text[start : start + this.reach], this.options):
                return letter, start, True
    if kind in ("answer", "option", "qualifier"):
        reach = _CLAUSE_END.search(this.lowered, end, end + 120)
        for verb in _FURTHER.finditer(this.lowered, end, reach.start() if reach else end + 120):
            if (found := this.letter_at(verb.end(), capital=True)) is not None:
                return found[0], found[1], True
    return None, at, linked


def _text_that_begins_with_a_letter(this: _Response, place: int) -> str:
    """The option whose text, of several words, begins with the letter at ``place``, if its text is said there."""
    start = place - 1 if this.text[place - 1 : place] in tuple("([") else place
    for option, letter in zip(this.options, this.letters, strict=True):
        if re.match(r"[(\[]?\w\W+\w", option) and this.lowered.startswith(option.lower(), start):
            return option_begun(this.text[place : place + this.reach], this.options) and letter
    return ""


@dataclass
class _Said:
    """What a response says of its choice: answers and conclusions, each with where it ends ("": several, or no option),
    and options that it mentions, at a sentence's end or in the course of one."""

    answers: list[tuple[int, str]] = field(default_factory=list)
    conclusions: list[tuple[int, str]] = field(default_factory=list)
    revisions: list[tuple[int, str]] = field(default_factory=list)  # conclusions that end their sentence: "So, B."
    at_an_end: set[str] = field(default_factory=set)
    within: set[str] = field(default_factory=set)


_NO_CORRECTION = re.compile(r"\s+(?:of|than)\b")
_ALL_BUT = ("all ", "anything ", "everything ", "nothing ", "any ")
_AT_AN_END = re.compile(
    r"[)\]\ue001\"']*:?\s*(?:[.!。]|\n|$|it is\b|şık|seçene|"
    r"(?:best |closely |clearly )?(?:match|fit|align|describe|agree|correspond)\w*\b)"
)
_THEREFORE = re.compile(r"(?:so|therefore|thus|hence|consequently|ergo|所以|因此)")
_THIS = re.compile(r"(?:^|[.;!?\n])\W*(?:this|that|in fact,)\s+$")  # "This corresponds to B."
_DOUBTED = re.compile(r"\?|\s+(?:only\s+)?(?:if|had|were)\b")
# A line of a list, or a row of a table, that says of its letter that it is right.
_TICKED = re.compile(
    r"^[^\w\n]*(?:option\s+)?([a-z])\ue001?(?:[)\].:|]|\s*[-–—|✅✓✔☑])(?:"
    r"\W{0,6}(?:correct|right|true|yes)(?=\s*[.,;:!(–—-])|"
    r"(?:(?!\bnot\b|n['’]t\b|partial|incorrect|wrong|false|[✗✘❌?])[^\n]){0,300}?"
    r"(?:(?<=[✅✓✔☑])|[✅✓✔☑]|(?<![^\W_])(?:correct|right|true|yes))[^\w\n]*$)",
    re.MULTILINE,
)


def _other_before(before: str, letter: str) -> bool:
    """Whether ``before`` ends with what leads from another letter to ``letter``, or with a condition."""
    match = _NOT_ALONE.search(before)
    return match is not None and match.group(1) != letter.lower()


# So many words that may lead to an answer are looked at, the last ones.
_MOST_HEADS = 1000


def _said(this: _Response, depth: int) -> _Said:
    said = _Said(answers=list(_containers(this, depth)) if depth < 3 else [])
    for start, end, kind in reversed(sorted(_heads(this))[-_MOST_HEADS:]):
        letter, at, linked = _after(this, end, kind)
        before = this.lowered[max(0, start - 80) : start]
        if letter is None or before.endswith("</"):
            continue
        if kind in ("answer", "option") and not linked:
            linked = _QUALIFIED.search(before) is not None
        if kind == "correction":
            word, mark = this.lowered[start:end], this.lowered[end : end + 2].strip()[:1]
            firm = word not in ("no", "yes", "wait", "sorry") or mark in tuple(",.:;!-–—")
            if firm and not _NO_CORRECTION.match(this.lowered, end) and not before.endswith(_ALL_BUT):
                said.answers.append((at, letter))
        elif _DENIED.search(before):
            continue
        elif kind == "conclusion":
            said.conclusions.append((at, letter))
            concludes = _THEREFORE.match(this.lowered, start) or _THIS.search(before)
            if concludes and _AT_AN_END.match(this.lowered, at):
                said.revisions.append((at, letter))
        elif kind == "verb" or linked:
            said.answers.append((at, letter))
        elif kind != "qualifier":
            ends = _AT_AN_END.match(this.lowered, at)
            (said.at_an_end if ends else said.within).add(letter)
        if said.answers and said.answers[-1] == (at, letter):
            break  # what stands before it is no later answer
    for match in _IS_RIGHT.finditer(this.lowered):
        at = match.start("letter")
        letter = this.text[at]
        shown = letter.isupper() or this.text[at - 1 : at] in tuple("([" + OPEN)
        asked = _DOUBTED.match(this.lowered, match.end()) is not None
        before = this.lowered[max(0, at - 80) : at]
        doubted = asked or _negated(this.lowered, at) or _CONCEDED.search(before) or _DENIED.search(before)
        if shown and not doubted and not _other_before(before, letter):
            one_more = re.search(r"\b(?:also|equally)\b", match.group()) and said.answers
            said.answers.append((match.end(), "" if one_more else this.known(letter.upper())))
    ticked = {this.known(match.group(1).upper()): match.end() for match in _TICKED.finditer(this.lowered)}
    if len(ticked) == 1 and "" not in ticked:
        said.answers.extend((at, letter) for letter, at in ticked.items())
    return said


def _at_last(this: _Response) -> Iterator[tuple[int, str]]:
    """A letter that is the last paragraph."""
    _, parted, last = this.text.rstrip().rpartition("\n\n")
    if parted and (match := _LONE.fullmatch(last.lower())):
        yield len(this.text), this.known(match.group(1).upper())


def _last(this: _Response, answers: Sequence[tuple[int, str]]) -> str:
    """The last answer, unless it is taken back afterwards."""
    at, letter = max(answers, key=lambda answer: answer[0])
    for denial in re.finditer(r"(?:\bnot|n['’]t)\s+(?:the\s+answer\s+)?(?:option\s+)?", this.lowered[at:]):
        found = this.letter_at(at + denial.end(), capital=True)
        if found is not None and found[0] == letter:
            return ""
    return letter


# ------------------------------------------------------------------------- letters by their place, and texts

# What says nothing of a letter that is else alone: who speaks, how sure, a number; "번", "项" and "です" follow one.
_LONE = re.compile(
    r"(?![^\n]*[✗✘❌])(?:\d{1,3}[.):])?[\W_]*(?:a:\s*(?=[a-z]\W*$))?"
    r"(?:(?:option|choice|letter|answer|probably|likely|most|maybe|perhaps|definitely|clearly|obviously|certainly|only|"
    r"答|解|答案|letra|lettre|buchstabe)[\W_]+)*([a-z])(?![+#])[\W_]*(?:(?:번|项|項|です|입니다)[\W_]*)?"
)
# "Sure! B", "Verdict: B", "According to the video, B."
_AT_LAST = re.compile(r"[^.?!\n]{0,80}[:,!→⇒]\s?[(\[\"'\ue000]*([A-Z])[)\]\"'\ue001]*[.!:]?\s*")
# "He leaves the room. B."
_SENTENCE = re.compile(r"(?<=[^\W_]{3}[.!?])\s+[(\[\ue000]*([A-Z])[)\]\ue001]*[.!]?\s*$")
_FIRST = re.compile(
    rf"[^\w]*([a-z])(?!['’][^\W_])"
    rf"(?:[)\]\ue001\"'”’]*[)\].:,;\ue001\"'”。](?![{_WORD}]\.)|\s+[-–—=]|\s+(?:because|since|rather\s+than|over|is\s+what)\b|\s+\()"
)
_LINE = re.compile(r"^[^\w\n]{0,10}([A-Z])[)\].:\ue001]", re.MULTILINE)
_MARKED = re.compile(r"(?<![^\W_])([A-Z])[)\]\ue001]*:")
_SHOWN = re.compile(r"[(\[\ue000]([A-Za-z])[)\]\ue001]")
_LETTERED = re.compile(rf"(?<![{_WORD}])([a-z])[)\]\ue001.:\s]{{1,5}}$")
_VERDICT = re.compile(r"[✅✓✔☑✗✘❌]|\b(?:(?:in)?correct|wrong|right|true|false|yes|no)\b")


def _without_list(text: str, options: tuple[str, ...]) -> str:
    """``text`` without a list of all options with their letters, in order: a repetition of the question. One option
    with its letter is an answer."""
    if len(options) < 2:
        return text
    lowered = text.lower()
    at, first = 0, -1
    for letter, option in zip(LETTERS.lower(), options, strict=False):
        wanted = " ".join(plain(option).lower().split()).rstrip(".")
        place = lowered.find(wanted, at)
        mark = _LETTERED.search(lowered, max(at, place - 8), place) if wanted and place >= 0 else None
        judged = mark and first >= 0 and _VERDICT.search(lowered, at, mark.start())
        if mark is None or mark.group(1) != letter or judged or (first >= 0 and place - at > 30):
            return text
        first, at = (mark.start(1) if first < 0 else first), place + len(wanted)
    return f"{text[:first]}\n\n{text[at:].lstrip('.')}"


@lru_cache(maxsize=4096)
def _lettered(letter: str, option: str) -> re.Pattern[str] | None:
    """The option's letter and text together, in either order."""
    words = plain(option).strip().rstrip(".").split()
    if not words:
        return None
    said = r"\s+".join(map(re.escape, words))
    between = r"[\W_]{0,6}?[^\w\s][\W_]{0,6}?" if letter in "AI" else r"[\W_]{1,8}?"
    closers = r"[)\]\"'”’»」\ue001]*"
    return re.compile(
        rf"(?<![^\W_])(?<!=[\"'])({letter}(?:[)\]\ue001]*)){between}(?:{said})(?:\.(?=\s|$))?{closers}(?![^\W_])|"
        rf"(?<![^\W_])(?:{said}){closers}\.?\s*[-–—,(\[]\s*(?:(?:i\.e\.|which\s+is),?\s+)?(?:option\s+)?[(\[]?"
        rf"({letter})[)\]]*(?=\W*$|\W*\n|[.,;])",
        re.IGNORECASE,
    )


def _may_hold(text: str, option: str) -> bool:
    """False only where the option's text is not in ``text``: an expression takes long to compile. Beyond ASCII, letters
    have more than two cases."""
    if not (text.isascii() and option.isascii()):
        return True
    lowered = text.lower()
    return all(word in lowered for word in plain(option).strip().rstrip(".").lower().split())


def _without_own_texts(text: str, options: tuple[str, ...]) -> tuple[str, set[str]]:
    """``text`` with the letter alone where it stands with its option's text, and these letters."""
    found = set()
    for letter, option in zip(LETTERS, options, strict=False):
        if not _may_hold(text, option):
            continue
        pattern = _lettered(letter, option)
        if pattern is not None:
            text, count = pattern.subn(
                lambda match: f"{match.group(1)}:" if match.group(1) else f"({match.group(2)})", text
            )
            if count:
                found.add(letter)
    return text, found


def _by_place(this: _Response) -> str | None:
    """The letter that is the first or last line, or that begins the response with a mark; "" if these differ."""
    rows = [row for row in this.text.strip().split("\n") if row.strip()]
    first, last = rows[0], rows[-1]
    lines = {match.group(1) for match in _LINE.finditer(this.text) if not this.are_refused(match.end(1))}
    alone = [
        (number, this.known(match.group(1).upper()))
        for number, row in enumerate(rows)
        if len(row) < 60 and (match := _LONE.fullmatch(row.lower()))
    ]
    at_an_edge = {letter for number, letter in alone if number in (0, len(rows) - 1)}
    if at_an_edge and not (len(lines) > 1 and alone[-1][0] < len(rows) - 1 and rows[0].strip()[1:]):
        return at_an_edge.pop() if len(at_an_edge) == 1 else ""
    if len(alone) == 1 and len(lines) < 2:
        return alone[0][1]
    for line in dict.fromkeys((re.split(r"[.?!]\s+(?=\S{3})", last)[-1], first)):
        ends = _AT_LAST.fullmatch(line) if len(line) < 100 else None
        if (
            ends
            and not _other_before(line.lower()[: ends.start(1)], ends.group(1))
            and not _NEGATED.search(line.lower())
        ):
            return this.known(ends.group(1))
    if len(lines) < 2 and (ends := _SENTENCE.search(last)):
        return this.known(ends.group(1))
    for match in _MARKED.finditer(this.text):
        if match.group(1) in this.lettered and not this.are_refused(match.end(1)):
            lines.add(match.group(1))
    if len(lines & set(this.letters)) > 1:
        return None
    offset = len(this.text) - len(this.text.lstrip())
    for line in dict.fromkeys((first, last)):
        at = offset if line is first else len(this.text.rstrip()) - len(last)
        if match := _FIRST.match(line.lower()):
            end = at + match.end(1)
            letter = line[match.start(1)]
            if this.are_refused(end) or (letter in "Ii" and line[match.end(1) : match.end()] == ","):
                continue
            if line is last and line is not first and not option_begun(line[match.end() :], this.options):
                continue
            other = this.joined(end)
            return "" if other not in (None, letter.upper()) else this.known(letter.upper())
        begun = re.match(r"[^\w]*([A-Z])\s+", line)
        if begun and begun.group(1) not in "AI" and option_begun(line[begun.end() :], this.options) == begun.group(1):
            return begun.group(1)
    return None


# "No, he" answers, and "no idea" does not.
_SAYS_YES = re.compile(r"\s*(?:[^\w\s]|$|(?:or|and|he|she|it|they)\b)|[ \t]*\n")
_COUNTED = re.compile(r"\b(?:option|choice)\s$")  # "option 3" may be the third


def _by_text(this: _Response) -> str:
    """The only option whose text is said as whole words, and not denied; within a longer option's text it is not."""
    words = words_of(this.text)
    joined = f" {' '.join(word for word, _, _ in words)} "
    starts, length = [], 1
    for word, _, _ in words:
        starts.append(length)
        length += len(word) + 1
    place_of = {start: number for number, start in enumerate(starts)}
    found: list[tuple[str, int, int]] = []  # letter, start and end
    for own, letter in sorted(texts_of(this.options).items(), key=lambda each: len(" ".join(each[0])), reverse=True):
        wanted = f" {' '.join(own)} "
        at = joined.find(wanted) if own else -1
        while at >= 0:
            number = place_of[at + 1]
            found.append((letter, words[number][1], words[number + len(own) - 1][2]))
            joined = f"{joined[:at]} {'_' * (len(wanted) - 2)} {joined[at + len(wanted) :]}"
            at = joined.find(wanted, at + len(wanted) - 1)
            if len(found) > 100:  # said over and over: nothing more is to be learnt
                break
    # A "no" or "not" within an option denies nothing.
    told = list(this.lowered)
    for _, start, end in found:
        told[start:end] = "_" * (end - start)
    around = "".join(told)
    named = {
        letter
        for letter, start, end in found
        if (this.lowered[start:end] not in ("yes", "no") or _SAYS_YES.match(this.lowered, end))
        and this.text[end : end + 1] != "?"
        and not _negated(around, start)
        and not _REFUSED.match(around, end)
        and not _COUNTED.search(around, max(0, start - 10), start)
    }
    return named.pop() if len(named) == 1 else ""


# Where a response stops in the midst of a sentence, or of what it said it would do.
_IN_A_SENTENCE = re.compile(
    r"(?:[,(]|\b(?:the|an|and|or|but|is|are|was|were|that|which|because|with|to|of|then|says|shows|while|since|if|as|by|"
    r"for|from|his|her|their|its))\s*$",
    re.IGNORECASE,
)
_ANNOUNCED = re.compile(
    r"\W*(?:(?:okay|ok|alright|sure|so)\W*)?(?:let me|let's|let us|first,|to (?:answer|determine|solve)|"
    r"i(?: will|'ll| need to| have to))\b",
    re.IGNORECASE,
)


def _unfinished(text: str) -> bool:
    return _IN_A_SENTENCE.search(text[-40:]) is not None or (
        text[-1:].isalnum() and "\n" not in text and _ANNOUNCED.match(text) is not None
    )


def _read(text: str, options: tuple[str, ...], depth: int = 0, *, cut_off: bool = False) -> str:
    text = text.strip()
    if match := _LONE.fullmatch(text[:80].lower()) if len(text) <= 80 else None:
        letter = match.group(1).upper()
        return letter if letter in LETTERS[: len(options)] else ""
    if not text:
        return ""
    if len(text) <= 1000 and (letter := option_of(text, options)):
        return letter
    text, lettered = _without_own_texts(_without_list(text, options), options)
    if not text.strip():
        return ""
    this = _Response(text, options, lettered)
    said = _said(this, depth)
    if said.answers:
        return _last(this, said.answers if cut_off else [*said.answers, *said.revisions, *_at_last(this)])
    if cut_off or _unfinished(text):  # its prose weighs what it has not decided yet
        begun = _LONE.fullmatch(this.text.lower().partition("\n")[0])
        return this.known(begun.group(1).upper()) if begun and "\n" in this.text and not lettered else ""
    placed = _by_place(this)
    if placed is not None:
        return placed
    if said.conclusions:
        return _last(this, said.conclusions)
    shown = said.at_an_end
    for match in _SHOWN.finditer(this.text):
        denied = _negated(this.lowered, match.start()) or this.are_refused(match.end(1))
        if not denied and this.text[match.end() : match.end() + 1] != "?":
            shown.add(this.known(match.group(1).upper()))
    if shown or said.within:
        return shown.pop() if len(shown) == 1 and said.within <= shown else ""
    return _by_text(this)


def _whole_json(text: str) -> object:
    """The answer in a response that is one JSON object; None where it is none, or has no such field."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start or len(text) - (end - start) > 40:
        return None
    try:
        value = json.loads(text[start : end + 1], strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    fields = {str(key).lower(): each for key, each in value.items()}
    return next((fields[key] for key in KEYS if key in fields), None)


def read_choice(response: str, options: Sequence[str], *, cut_off: bool = False) -> str:
    """The letter of the option that ``response`` chooses, or "" where it chooses none, or several.

    ``options`` are their texts, 1 to 26 of them. A letter beyond them is no choice. Of a response that was ``cut_off``
    only an explicit answer counts, or a letter that it began with.
    """
    text = final_text(response)
    value = _whole_json(text)
    if isinstance(value, str | int | float):
        text = str(value)
    return _read(plain(_MORE_BOXES.sub(r" \1 ", _LAST_TAG.sub("", text))), tuple(options), cut_off=cut_off)


def score_flexible(question: Question, response: str) -> Score:
    """Score a multiple-choice response by ``read_choice``."""
    cut_off = isinstance(response, CutOff)
    return score_choice(question, response, lambda text: read_choice(text, question.options, cut_off=cut_off))
