"""What models say when asked for a letter: thousands of responses, systematic ones and random compositions."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

LETTERS = "ABCDE"

_MARKS = [
    *("{}", "({})", "[{}]", "{{{}}}", "<{}>", "({}", "{})", "({}).", "{}.", "{}:", "{},", "{};", "{}!", "{}?", "{}/"),
    *("'{}'", '"{}"', "`{}`", "*{}*", "**{}**", "**({})**", "__{}__", "_{}_", "${}$", "\\boxed{{{}}}", "\\text{{{}}}"),
    *(
        "（{}）",
        "【{}】",
        "「{}」",
        "“{}”",
        "«{}»",
        "#{}",
        "{}\n",
        "\n{}\n",
        "\t{}",
        " {} ",
        "{}\u200b",
        "{}\u00a0",
        "-{}-",
    ),
]
_SENTENCES = [
    *("{}", "The answer is {}", "the answer is {}.", "Answer: {}", "answer:{}", "The option is {}", "Option {}"),
    *(
        "The best answer is: {}",
        "The correct option is {}",
        "Best option: {}",
        "I choose {}",
        "I PICK {}",
        "My choice is {}",
    ),
    *("I think {} is right.", "It is {}, I believe", "Final answer: {}", "### Answer\n{}", "- {}", "1. {}", "Sure! {}"),
    *(
        "答案是{}",
        "答案：{}",
        "正确答案是 {}。",
        "选{}",
        "我认为选项{}是正确的",
        "答えは{}です",
        "正解は{}です",
        "정답은 {}",
        "답: {}",
    ),
    *(
        "옵션 {} 입니다",
        "Ответ: {}",
        "La réponse est {}.",
        "Die Antwort ist {}",
        "La respuesta correcta es la {}",
        "الجواب {}",
    ),
    "Let me think. The lady sits down; A man waves. So the answer must be {}",
    "<think>A man runs. It could be (B) or C. Wait, D?</think>{}",
    "<think>\nOption A looks wrong.\n</think>\n\nThe answer is {}.",
    "<analysis>C, surely.</analysis> {}",
]
# {l} is a letter, {n} another one, {t} and {u} their options' texts.
_WITH_OPTIONS = [
    *("{t}", "{t}.", "{l}. {t}", "({l}) {t}", "{l}) {t}", "{l}: {t}", "{t} ({l})", "It seems to me that it is {t}"),
    *("My choice is {t}", "The answer is {t}", "{t} or {u}", "{l}. {t}\n{n}. {u}", "The correct option is {l}: {t}"),
    *(
        "I would rule out ({n}), so ({l}).",
        "({l}) rather than ({n}) I think",
        "{l} or {n}?",
        "{l}/{n}",
        "{l}{n}",
        "{l},{n}",
    ),
    *(
        "Both {l} and {n} fit",
        "Not {n}. It must be {l}.",
        "{n}. is wrong. {l}. is right",
        "Is it {n}? No: {l}!",
        "{l} {l} {n}",
    ),
    *("{l}. {t}\n\nThe others are wrong.", "{l}\n\n{n}", "<think>{n}</think>{l}", "<think>{n}", "{n}</think>{l}"),
    *("</think>{l}<think>{n}", "<think>a<think>{n}</think>{l}</think>", "<THINK>{n}</THINK>{l}", "<think></think>"),
    *(
        "First {n}: {u}. Then {l}: {t}. I take {l}",
        "The man does {u} before {t}, so that the answer is not {n} but {l}",
    ),
    "Let me think step by step. In the video a person cooks. Hence I believe that {t} is what was asked for",
]
_LOOSE = [
    *(
        "",
        " ",
        "\n",
        "\t \n",
        ".",
        "...",
        "?!",
        "''",
        '""',
        "()",
        "12",
        "1,000",
        "3.5",
        "none",
        "None of the above.",
        "N/A",
    ),
    *(
        "no",
        "yes",
        "E",
        "F",
        "G.",
        "Z",
        "(F)",
        "e.",
        "a",
        "A",
        "(b)",
        "c)",
        "the answer is d",
        "DONE",
        "CD.",
        "Big dog",
    ),
    *("I cannot determine the answer from the video.", "Sorry, but I can't help with that.", "As an AI, I see nothing"),
    *(
        "A man is walking.",
        "I do not know the answer to this question",
        "No idea at all, sorry, none",
        "ABBA, NASA or USA",
    ),
    *(
        "不知道",
        "视频中没有答案",
        "すみません、わかりません",
        "모르겠습니다",
        "Кот",
        "لا أعرف",
        "É B",
        "Ａ",
        "А",
        "Ⓐ",
        "𝐀",
        "ⒷB",
        "ß",
        "İA",
        "ǅ A",
    ),
    *(
        "the answer is the answer is",
        "the answer is",
        "answer:",
        "答案是",
        "옵션",
        "to me all of the people look happy, really",
    ),
    *(
        "A man, a plan",
        "The answer is: B;",
        "x/B",
        "x /B",
        "B_",
        "B-C",
        "no-B",
        "no- B",
        "1,000 (B)",
        "1,000-B",
        "((B))",
    ),
    *(
        "（B）",
        "Ｂ．",
        "🅱️",
        "①",
        "Ⅽ",
        "ב",
        "В",
        "B\r\n",
        "\x00B",
        "B\x1b[0m",
        "B\u2028C",
        "\u3000B\u3000",
        '{"answer": "B"}',
    ),
    *("<|begin_of_box|>B<|end_of_box|>", "◁think▷C◁/think▷B", "[THINK]C[/THINK]B", "</think>" * 20 + "B", "|B|yes|"),
    *("B.C", "B.5", "3.B", "Yes.B", "e.g. C", "ABC D", "{B}>C<", "A.\nwalk", "B. one\ntwo", "F. six", "f", "\tB\t"),
    *(
        "." * 32 + "B",
        "." * 33 + "B",
        "." * 40 + " x.B",
        "first. " * 40 + "so.B or C",
        "A " * 400,
        "word " * 3000 + "C",
    ),
]
_PIECES = [
    *(
        *"ABCDEabcdeFf",
        "(A)",
        "(b)",
        "C.",
        "D:",
        "E)",
        "A ",
        "B,",
        "[C]",
        "**D**",
        "the answer is",
        "The answer is",
        "Answer:",
    ),
    *(
        "answer:",
        "The best answer is",
        "The answer",
        "Best option:",
        "the option is",
        "i choose",
        "My choice is",
        "答案是",
        "选",
    ),
    *(
        "정답은",
        "답:",
        "옵션",
        "答えは",
        "<think>",
        "</think>",
        "<analysis>",
        "</analysis>",
        "\n",
        "\n\n",
        "\t",
        ".",
        ",",
        "!",
    ),
    *(
        "?",
        ";",
        ":",
        "'",
        '"',
        "(",
        ")",
        "-",
        "/",
        "_",
        "1,0",
        "3.",
        "..",
        "é",
        "İ",
        "ß",
        "\u0307",
        "\u200b",
        "视频",
        "a man walks",
    ),
    *("a dog", "No", "not", "x" * 30, "because the woman in red sits down before the others do"),
]


def systematic() -> Iterator[str]:
    """Letters in every case and bracket, in every sentence."""
    for sentence in _SENTENCES:
        for mark in _MARKS:
            for letter in "ABCDEFabce":
                yield sentence.format(mark.format(letter))
    yield from _LOOSE


def about(options: Sequence[str]) -> Iterator[str]:
    """Letters beside options' texts, in full, in part and in other cases."""
    letters = LETTERS[: len(options)]
    for i, (letter, option) in enumerate(zip(letters, options, strict=False)):
        j = (i + 1) % len(letters)
        for form in _WITH_OPTIONS:
            yield form.format(l=letter, n=letters[j], t=option, u=options[j])
            yield form.format(l=letter.lower(), n=letters[j].lower(), t=option.upper(), u=options[j][:3])
            yield form.format(l=letter, n=letters[i - 1], t=option[: len(option) // 2 + 1], u=option.lower())


def composed(seed: int, count: int, options: Sequence[str] = ()) -> Iterator[str]:
    """Random compositions of what tells one rule from another."""
    rng = random.Random(seed)
    pieces = [*_PIECES, *options]
    for _ in range(count):
        chosen = rng.choices(pieces, k=rng.randint(1, 7))
        yield "".join(piece + rng.choice(("", "", " ")) for piece in chosen)
