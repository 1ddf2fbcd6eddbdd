"""The protocol ``flexible``: however a model says its choice it is read, and what chooses nothing is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmark_files import (
    hourvideo_annotations,
    longvideobench_rows,
    lvbench_videos,
    mlvu_rows,
    nextqa_rows,
    videomme_rows,
    write_hourvideo,
    write_longvideobench,
    write_lvbench,
    write_mlvu,
    write_mvbench,
    write_nextqa,
    write_videomme,
)
from flexible_forms import BEFORE, BEHIND, CHOICE, LETTER, NONE, TEXT

from vamba_eval import Question, load_task
from vamba_eval.contracts import CutOff
from vamba_eval.reasoning import final_text, split_thinking
from vamba_eval.score.flexible import read_choice, score_flexible
from vamba_eval.score.scored import scored_record
from vamba_eval.store.records import Record

OPTIONS = ("a red car", "a dog", "nothing", "the dog runs away", "two women", "an old house", "rain", "it is not shown")

# {l}: the letter, {s}: the same in lower case, {t}: the option's text, {n}: another option's letter, {u}: its text.
LETTER_FORMS = [
    *(
        "{l}",
        "{s}",
        "({l})",
        "({s})",
        "[{l}]",
        "{l}.",
        "{s}.",
        "{l})",
        "{s})",
        "{l}:",
        '"{l}"',
        "'{l}'",
        "“{l}”",
        "<{l}>",
    ),
    *(
        "**{l}**",
        "__{l}__",
        "*{l}*",
        "`{l}`",
        "**({l})**",
        "**{l}.**",
        "### {l}",
        "${l}$",
        "$\\text{{{l}}}$",
        "【{l}】",
    ),
    *("\\boxed{{{l}}}", "$\\boxed{{{l}}}$", "\\boxed{{\\text{{{l}}}}}", "\\boxed{{({l})}}", "\\fbox{{{l}}}"),
    *("$$\\boxed{{\\mathbf{{{l}}}}}$$", "\\boxed{{{l}. {t}}}", "So we have \\boxed{{{l}}}."),
    *("<answer>{l}</answer>", "<Answer> {l} </Answer>", "<final_answer>{l}</final_answer>", "<choice>{l}</choice>"),
    *("<answer>({l}) {t}</answer>", "<answer>\\boxed{{{l}}}</answer>", "<answer>{l}", "<answer>**{l}**</answer>"),
    *('{{"answer": "{l}"}}', '```json\n{{"answer": "{l}"}}\n```', '{{"choice": "{l}"}}', "{{'answer': '{l}'}}"),
    *(
        '{{"reasoning": "{n} is wrong", "answer": "{l}"}}',
        '{{"answer": "{l}", "why": "Option {n} is correct in part"}}',
    ),
    *("Answer: {l}", "answer: {s}", "Answer:{l}", "ANSWER: {l}", "Answer: ({l})", "Answer - {l}", "Final answer: {l}"),
    *("**Answer:** {l}", "**Answer**: {l}", "**Answer: {l}**", "### Answer\n{l}", "## Final Answer\n\n**{l}. {t}**"),
    *("Final Answer: $\\boxed{{{l}}}$", "The answer is {l}", "The answer is {l}.", "the answer is ({s})", "Ans: {l}"),
    *("The answer is **{l}**.", "The answer is: {l}. {t}", "The answer is {l} because of the light.", "Answer:\n\n{l}"),
    *("The correct answer is {l}", "The correct answer is ({l}).", "The correct option is {l}.", "Correct: {l}"),
    *(
        "The correct choice is **{l}. {t}**.",
        "The best answer is: {l}",
        "The best option is {l}: {t}",
        "The option is: {l}",
    ),
    *(
        "The most likely answer is {l}",
        "The answer would be {l}",
        "The right answer must be {l}.",
        "Best option: ({l})",
    ),
    *(
        "I choose {l}",
        "I pick ({l}).",
        "I select option {l}",
        "I would go with {l}.",
        "I'll go with {l}",
        "I'd opt for {l}.",
    ),
    *("My answer is {l}", "My final answer is: {l}", "My choice is {l}.", "Option {l}", "Option {l}.", "Choice {l}"),
    *("Option {l} is correct.", "{l} is the correct answer.", "Option ({l}) is the best choice.", "Only {l} is right."),
    *(
        "I think it is {l}",
        "I believe the answer is {l}.",
        "It must be {l}.",
        "So, {l}.",
        "Therefore, ({l}).",
        "Hence {l}.",
    ),
    *("{l}. {t}", "({l}) {t}", "{l}) {t}", "{l}: {t}", "{l} - {t}", "**{l}. {t}**", "{l}, because one sees it"),
    *("{l}\nA man walks past.", "A man walks past.\n{l}", "A man walks past.\n\n**{l}**", "{l} because one sees it"),
    *("Based on the video, ({l}) is shown.", "One sees {t}, which is ({l}).", "The answer is {l}, not {n}."),
    *("The answer is {n}. Wait, no: the answer is {l}", "The answer is {n}. Wait, {l}.", "Is it {n}? No, {l}."),
    *("Answer: {l}\n\nOption {n} is wrong because {u} is not seen.", "Answer: {l}\n\n{u} cannot be seen."),
    *(
        "答案是{l}",
        "答案：{l}",
        "答案：{l}。",
        "选{l}",
        "我选{l}",
        "选项{l}",
        "正确答案为（{l}）",
        "正确答案是 {l}。",
        "应选{l}",
    ),
    *(
        "我认为选项{l}是正确的",
        "因此，答案是 **{l}**。",
        "答えは{l}",
        "答えは{l}です。",
        "正解は{l}",
        "정답은 {l}",
        "답: {l}",
    ),
    *("정답은 {l}입니다.", "정답: ({l})", "La respuesta correcta es {l}", "La respuesta correcta es la opción {l}."),
    *("Respuesta: {l}", "La réponse est {l}", "La bonne réponse est la {l}.", "Réponse : {l}", "Die Antwort ist {l}"),
    *("Antwort: {l}", "Die richtige Antwort ist ({l}).", "A resposta correta é {l}", "Resposta: {l}"),
    *("A resposta correta é a letra {l}.", "La risposta corretta è {l}", "Risposta: {l}", "Ответ: {l}"),
    *("Правильный ответ: {l}", "Đáp án đúng là {l}", "Đáp án: {l}", "Cevap: {l}", "Doğru cevap {l}", "الإجابة هي {l}"),
    *("الإجابة الصحيحة هي {l}", "सही उत्तर {l} है", "उत्तर: {l}", "Jawaban: {l}", "Antwoord: {l}"),
]
TEXT_FORMS = [
    *(
        "{t}",
        "{t}.",
        "The answer is {t}.",
        "\\boxed{{{t}}}",
        "<answer>{t}</answer>",
        "Answer: {t}",
        '{{"answer": "{t}"}}',
    ),
    *("The correct answer is **{t}**.", "One sees {t} in it.", "Answer: {t}, because the video shows it.", "答案是{t}"),
]
NONE_FORMS = [
    *("", " \n", ".", "I cannot answer", "I can't help with that.", "I don't know", "Unable to determine", "N/A", "42"),
    *(
        "None of the above",
        "The answer is none of the above.",
        "Sorry, I cannot see the video.",
        "The answer is",
        "Answer:",
    ),
    *(
        "A man is walking",
        "I think he walks",
        "I am an AI",
        "A video cannot be seen by me",
        "The answer is A man walks by",
    ),
    *("Answer: {l} or {n}", "{l} and {n}", "{l} or {n}", "either {l} or {n}", "<answer>{l}, {n}</answer>", "{l}, {n}"),
    *(
        "{l}/{n}",
        "Both ({l}) and ({n})",
        "The answer is either {l} or {n}.",
        "Both {l} and {n} are correct.",
        "\\boxed{{{l}, {n}}}",
    ),
    *(
        "The answer is not {l}",
        "It isn't {l}.",
        "The answer is not ({l}).",
        "Neither {l} nor {n} is correct.",
        "{l} is wrong.",
    ),
    *(
        "Is the answer {l}?",
        "I am not sure the answer is {l}",
        "If the answer is {l}, it rains.",
        "not {t}",
        "It isn't {t}.",
    ),
    *(
        "Let me think. Option {l} says one thing. Option {n} says",
        "Respond with {l} or {n}.",
        "It shows {t} or {u}",
        "{l}{n}",
    ),
    *(
        "Z",
        "(Z)",
        "Answer: Z",
        "The answer is Z.",
        "\\boxed{{Z}}",
        "<answer>Z</answer>",
        '{{"answer": "Z"}}',
        "Z. something",
    ),
    *("<think>{l}", "<think>The answer is {l}.", "◁think▷Answer: {l}", "<reasoning>{l}.</think>", "analysisIt is {l}"),
    *("<|channel|>analysis<|message|>The answer is {l}.<|end|>", "<think>It is {l}</think>", "Ответ: Б", "A\nB\nC"),
]
REASONING = [
    "{}",
    "<think>It may be {n}. No, {u}. The answer is {n}?</think>{}",
    "<think>\nThe answer is {n}\n</think>\n\n{}",
    "<THINKING depth='2'>Answer: {n}</THINKING>{}",
    "<thought>{n}</thought> {}",
    "<reasoning>\\boxed{{{n}}}</reasoning>{}",
    "<reflection>{n}</reflection>\n{}",
    "<analysis>{n}, surely.</analysis>{}",
    "The answer is {n}, or not.</think>{}",
    "{n}</think>{n}</think>\n{}",
    "<think>a <think> within</think>{}",
    "<seed:think>Answer: {n}</seed:think>{}",
    "◁think▷Answer: {n}◁/think▷{}",
    "[THINK]Answer: {n}[/THINK]{}",
    "<unused94>thought\nAnswer: {n}<unused95>{}",
    "<|channel|>analysis<|message|>Is it {n}?<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>",
    "analysisWe see {u}. Answer: {n}.assistantfinal{}",
]


def filled(form: str, options: tuple[str, ...], right: int) -> str:
    """``form`` with the option ``right`` as what is chosen, and the next as another one."""
    other = (right + 1) % len(options)
    letter, text = chr(65 + right), options[right]
    return form.format(l=letter, s=letter.lower(), t=text, n=chr(65 + other), u=options[other])


@pytest.mark.parametrize("form", LETTER_FORMS)
def test_a_letter_is_read_however_it_is_said(form: str) -> None:
    for count in (4, 5, 8):
        options = OPTIONS[:count]
        for right in range(count):
            assert read_choice(filled(form, options, right), options) == chr(65 + right), (count, right)


@pytest.mark.parametrize("form", TEXT_FORMS)
def test_an_options_text_is_read_as_its_letter(form: str) -> None:
    for count in (4, 5, 8):
        for right in range(count):
            for case in (str, str.upper, str.capitalize):
                options = OPTIONS[:count]
                response = filled(form, (*options[:right], case(options[right]), *options[right + 1 :]), right)
                assert read_choice(response, options) == chr(65 + right), response


@pytest.mark.parametrize("form", NONE_FORMS)
def test_what_chooses_nothing_is_no_answer(form: str) -> None:
    for count in (2, 4, 5, 8):
        for right in range(count):
            assert read_choice(filled(form, OPTIONS[:count], right), OPTIONS[:count]) == "", (count, right)


@pytest.mark.parametrize("around", REASONING)
def test_reasoning_is_no_answer(around: str) -> None:
    for form in (
        "{l}",
        "({l})",
        "The answer is {l}.",
        "**{l}. {t}**",
        "\\boxed{{{l}}}",
        "<answer>{l}</answer>",
        "答案是{l}",
    ):
        for right in range(4):
            response = filled(around.replace("{}", form), OPTIONS[:4], right)
            assert read_choice(response, OPTIONS[:4]) == chr(65 + right), response


@pytest.mark.parametrize(
    ("response", "left"),
    [
        *(("B", "B"), ("<think>A</think> B ", "B"), ("A</think>B", "B"), ("<think>A", ""), ("<think>A</think>", "")),
        *(("x<think>A</think>y", "xy"), ("<think>a</think><analysis>b</analysis>c", "c"), ("<b>B</b>", "<b>B</b>")),
        *(("<think>a<reflection>b</reflection>c</think>d", "d"), ("<thinker>B", "<thinker>B"), ("a < b", "a < b")),
        *(("<|begin_of_box|>B<|end_of_box|>", "<answer>B</answer>"), ("B<|im_end|>", "B"), ("B</s>", "B")),
        *(("In the final analysis: B", "In the final analysis: B"), ("analysis of B", "analysis of B")),
    ],
)
def test_what_is_left_without_reasoning(response: str, left: str) -> None:
    assert final_text(response) == left


@pytest.mark.parametrize(
    ("response", "thinking", "answer"),
    [
        (" B, <b>surely</b>\n", "", " B, <b>surely</b>\n"),  # as it is, where nothing marks reasoning
        ("<think>It is A.\n</think>\n\nB", "It is A.", "B"),
        ("It is A.</think>B", "It is A.", "B"),
        ("<think></think>B", "", "B"),
        ("x<think>1</think>y<reflect>2</reflect>z", "1\n2", "xyz"),
        ("<think>a<reflection>b</reflection>c</think>d", "a<reflection>b</reflection>c", "d"),
        ("◁think▷why◁/think▷B", "why", "B"),
        ("<|channel>thought\nwhy<channel|>B", "why", "B"),  # Gemma 4
        ("<unused94>why<unused95>B", "why", "B"),
        ("<|channel>thought\nwhy", "why", ""),
        ("<think>I have not yet", "I have not yet", ""),
        ("Well, <think>I have not yet", "Well,\nI have not yet", ""),
        ("analysisIt is A.assistantfinalB", "analysisIt is A.", "B"),
        ("analysisIt is", "analysisIt is", ""),
        (
            "<|channel|>analysis<|message|>Is it A?<|end|><|start|>assistant<|channel|>final<|message|>B<|return|>",
            "Is it A?",
            "B",
        ),
        ("<|channel|>analysis<|message|>Is it A?", "Is it A?", ""),
    ],
)
def test_reasoning_and_answer_apart(response: str, thinking: str, answer: str) -> None:
    assert split_thinking(response) == (thinking, answer)
    assert final_text(response) == answer.strip()


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("🅱️", "B"),
        ("Ⓑ", "B"),
        ("⒝", "B"),
        ("Ｂ", "B"),
        ("（Ｂ）", "B"),
        ("答案：Ｂ", "B"),
        ("𝐁", "B"),
        ("🅑", "B"),
        ("B️⃣", "B"),
    ],
)
def test_letters_in_other_characters(response: str, letter: str) -> None:
    assert read_choice(response, OPTIONS[:4]) == letter


@pytest.mark.parametrize(
    ("response", "options", "letter"),
    [
        *(("Yes", ("Yes", "No"), "A"), ("no.", ("Yes", "No"), "B"), ("The answer is yes.", ("Yes", "No"), "A")),
        *(
            ("The answer is 3.", ("2", "3", "3.5"), "B"),
            ("3.5", ("2", "3", "3.5"), "C"),
            ("It is 3.5 m", ("2", "3"), ""),
        ),
        *(("-5", ("5", "-5"), "B"), ("C#", ("C++", "C#"), "B"), ("no", ("no", "yes", "no"), "")),
        *(("The dog runs away", OPTIONS[:4], "D"), ("Here the dog runs away fast", OPTIONS[:4], "D")),
        *(
            ("It is not a dog but a red car", OPTIONS[:4], "A"),
            ("A DOG", OPTIONS[:4], "B"),
            ("red  car!", OPTIONS[:4], "A"),
        ),
        *(("The answer is A dog.", OPTIONS[:4], "B"), ("None of the above", ("x", "None of the above"), "B")),
        *(("I", OPTIONS, ""), ("I", tuple("stuvwxyzpq"), "I"), ("Answer: I", tuple("stuvwxyzpq"), "I")),
        *(("I think it shows a cat", tuple("stuvwxyzpq"), ""), ("Z", tuple(f"x{n}" for n in range(26)), "Z")),
        *(("The answer is D", tuple("DCBA"), "D"), ("答案是一只狗", ("一只猫", "一只狗"), "B")),
        *(("视频中有一只狗在跑", ("一只猫", "一只狗"), "B"), ("The answer: B-roll footage", OPTIONS[:4], "")),
        *(("In front one sees the count and a dog", OPTIONS[:4], "B"), ("She does want a dog", OPTIONS[:4], "B")),
        *(("a cat or so", ("cat", "category"), "A"), ("it is in a category", ("cat", "category"), "B")),
    ],
)
def test_options_of_other_kinds(response: str, options: tuple[str, ...], letter: str) -> None:
    assert read_choice(response, options) == letter


# As models say it, about the first four options.
SAID = {
    "B": [
        "The video shows a dog. Option A is incorrect because no car is visible. "
        "Option C is incorrect. Option D is incorrect. Therefore, option B is the answer.",
        "Let's analyze each option:\n\nA. a red car - Not shown.\nB. a dog - Clearly shown in the video.\n"
        "C. nothing - Incorrect.\nD. the dog runs away - Not shown.\n\nThe correct answer is B.",
        "**Analysis**\n- **A**: wrong\n- **B**: right\n- **C**: wrong\n\n**Answer: B**",
        "The best answer is (B) a dog. It can be seen at 0:32. A man then walks in.",
        "B\n\nExplanation: The dog appears in the scene. A man is holding the leash.",
        "Answer: B. Not A because of the color.",
        "The answer is B since option A and C are wrong.",
        "It could be A or B, but I would go with B.",
        "It is hard to say; my best guess is B.",
        "The correct answer is not explicitly shown, but B is the most likely.",
        "The answer isn't A, C or D, so it must be B.",
        "Based on the elimination of A, C, and D, the answer is B",
        "Sure! The answer is B. Let me know if you need anything else!",
        'I would say that the answer is "B. a dog".',
        "The final answer is $\\boxed{\\text{B. a dog}}$. I hope it is correct.",
        "Thus the answer: $\\text{(B)}$",
        "Final answer: Option B",
        "Selected option: B",
        "Correct Option: B) a dog",
        'Therefore, the best answer to the question "What is it?" is B.',
        "Among the options, B (a dog) best matches the video.",
        "Option B best describes the video.",
        "The video best matches option B.",
        "So the answer should be option **B**: *a dog*",
        "The answer to the question is B: a dog.",
        'The answer to "What is seen?" is (B).',
        "Answer is option B",
        "Ans is (B)",
        "Answer：B",
        "**Final Answer:**\n**B**",
        "**Correct answer: B. a dog**",
        "<answer>\nB\n</answer>",
        "<answer>The answer is B</answer>",
        "B</answer>",
        '{"answer": "B. a dog", "confidence": 0.9}',
        '{"question": 1, "answer": ["B"]}',
        '[{"answer": "B"}]',
        '{"option": "B", "evidence": "The answer is A?"}',
        "The choice is clear: B.",
        "My answer: B (a dog)",
        "The answer is B) a dog",
        "答案：B. a dog",
        "答案为B",
        "正确答案是：B",
        "正确选项是B",
        "因此选择B。",
        "所以答案选B",
        "不选A，选B",
        "选项A错误，选项B正确。",
        "A不正确，B正确。",
        "正解はBです。",
        "Bです。",
        "Bが正解です",
        "答えは「B」です",
        "정답은 (B)입니다",
        "B입니다.",
        "정답: B. a dog",
        "La respuesta es la B)",
        "La opción correcta es B.",
        "L'option correcte est B.",
        "La réponse correcte est (B).",
        "Die richtige Option ist B.",
        "A alternativa correta é B",
        "L'opzione corretta è B",
        "Правильный вариант: B",
        "Chọn B",
        "Câu trả lời là B",
        "Yanıt: B",
        "الجواب الصحيح هو B",
        "सही विकल्प B है",
        "Jawaban yang benar adalah B",
        "Unfortunately, I can't view the video. If I had to guess, B.",
        "If I had to choose, I would choose B.",
        "If I must choose one, the answer is B.",
        "I am not able to see it, so I guess B",
        "I see nothing wrong; the answer is B.",
        "An answer is B",
        "Yes, B",
        "B!",
        "B??",
        "B...",
        "-> B",
        "1. B",
        "B (a dog)",
        "B/ a dog",
        "b a dog",
        "B a dog",
        "B_a dog",
        "B. A dog.",
        "The answer is (b) a dog.",
        "choice (b)",
        "option b",
    ],
    "": [
        "The question asks what is seen. The answer can be found in the video.",
        "I'm choosing between A and B.",
        '{"answer": ["A", "B"]}',
        '{"answer": null}',
        "I'd rate A as 3/10, B as 9/10.",
        "A vs B",
        "Looking at the video, I see A man and B roll.",
        "Plan B was followed.",
        "Vitamin C is in it.",
        "The answer is a mystery.",
        "The answer depends on A.",
        "答案不是A",
        "根据视频，选项A提到，选项B提到",
        "I cannot determine the answer from the video.",
        "The correct answer cannot be determined. A man walks.",
        "None of the options is correct.",
        "None of these (A, B, C, D) is right.",
        "There is not enough information to choose A, B, C or D.",
        "The answer is B?",
        "The car is red. A dog is not seen.",
        "A cat",
    ],
    "A": [
        "The person chooses a red car in the video.",
        "A.",
        "A: a red car",
        "A\n",
        '"A"',
        "A is the answer.",
        "The answer is A",
        "The answer is A, a red car",
        "Answer A",
        "answer: a",
        "I choose A because the car is red",
        "a) a red car",
        "(A) A red car.",
        "A red car is seen, and so the answer is (A).",
    ],
    "C": [
        "In the video a person picks a dog up. The answer is C.",
        "nothing",
        "There is nothing in it",
    ],
    "D": [
        "D.",
        "the dog runs away",
        "One sees that the dog runs away.",
    ],
}


@pytest.mark.parametrize(("letter", "response"), [(letter, each) for letter, said in SAID.items() for each in said])
def test_what_models_say(letter: str, response: str) -> None:
    assert read_choice(response, OPTIONS[:4]) == letter


@pytest.mark.parametrize("mark", ["{}. {}", "({}) {}", "{}) {}", "**{}.** {}", "{}: {}"])
@pytest.mark.parametrize("between", ["\n", " "])
def test_options_said_again_choose_nothing(mark: str, between: str) -> None:
    for count in (2, 4, 5, 8):
        options = OPTIONS[:count]
        listed = between.join(mark.format(chr(65 + n), option) for n, option in enumerate(options))
        assert read_choice(listed, options) == ""
        assert read_choice(f"The options are:\n{listed}", options) == ""
        for right in range(count):
            for ending in (
                "The answer is {l}",
                "{l}",
                "{l}. {t}",
                "**{l}**",
                "\\boxed{{{l}}}",
                "So the answer is ({l}).",
            ):
                assert read_choice(f"{listed}\n\n{filled(ending, options, right)}", options) == chr(65 + right), ending


# As the benchmarks have them: with articles, names of notes, texts within texts, lists of letters, five of them.
SETS = (
    ("A man in a red shirt", "A woman in a blue dress", "A boy with a dog", "A girl on a bike"),
    ("C major", "A minor", "G major", "D minor"),
    ("red", "dark red", "red and blue", "blue"),
    ("left, right", "right, left", "left, left", "right, right"),
    ("(a)(c)(b)(d)", "(a)(b)(c)(d)", "(d)(c)(b)(a)", "(c)(a)(b)(d)"),
    ("To show the beauty of nature.", "To advertise a product.", "To teach viewers how to cook.", "None of the above."),
    ("walk away", "hold the baby", "laugh at the boy", "sit on the chair", "point at the toy"),
    ("3", "4", "5", "6"),
    ("The boy is holding a B", "The boy is holding an A", "The girl is holding a C", "The girl is holding a B"),
    ("Yes", "No", "Not mentioned", "Cannot be determined"),
)


def _said_of(form: str, options: tuple[str, ...], right: int) -> str:
    other, third = (right + 1) % len(options), (right + 2) % len(options)
    named = {"l": chr(65 + right), "s": chr(97 + right), "t": options[right], "T": options[right].upper()}
    named |= {"n": chr(65 + other), "u": options[other], "m": chr(65 + third), "v": options[third]}
    return form.format(*options, **named, o=("first", "second", "third", "fourth", "fifth")[right])


@pytest.mark.parametrize("form", LETTER)
def test_every_form_of_a_letter_is_read_about_every_set_of_options(form: str) -> None:
    for options in SETS:
        if "{0}" in form and len(options) != 4:
            continue
        for right in range(len(options)):
            said = _said_of(form, options, right)
            assert read_choice(said, options) == chr(65 + right), said


@pytest.mark.parametrize("before", BEFORE)
def test_a_choice_is_read_between_what_else_is_said(before: str) -> None:
    for number, (choice, behind) in enumerate(itertools.product(CHOICE, ["", *BEHIND])):
        options = SETS[number % 4]
        right = (number // 4) % 4
        said = _said_of(before + choice + behind, options, right)
        assert read_choice(said, options) == chr(65 + right), said


@pytest.mark.parametrize("form", TEXT)
def test_every_form_of_a_text_is_read_about_every_set_of_options(form: str) -> None:
    for options in SETS:
        for right in range(len(options)):
            said = _said_of(form, options, right)
            assert read_choice(said, options) == chr(65 + right), said


@pytest.mark.parametrize("form", NONE)
def test_a_form_without_an_answer_is_none_about_every_set_of_options(form: str) -> None:
    for options in SETS:
        for right in range(len(options)):
            said = _said_of(form, options, right)
            assert read_choice(said, options) == "", said


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        *(
            ("Answer: B", "B"),
            ("The answer is B. It can be seen that the", "B"),
            ("<answer>B</answer>", "B"),
            ("B", "B"),
        ),
        *(("B\nExplanation: the dog is", "B"), ("The video shows a dog. It runs to the", ""), ("A man.\n\nB", "")),
        *(
            ("So it must be B", ""),
            ("One sees a dog.", ""),
            ("Let me see (B) once more.", ""),
            ("<think>Answer: B", ""),
        ),
    ],
)
def test_of_a_response_that_was_cut_off_only_an_explicit_answer_counts(response: str, letter: str) -> None:
    question = Question("q", "?", OPTIONS[:4], "B")
    task = load_task("videomme")
    assert (task.score(question, CutOff(response), "flexible").extracted or "") == letter
    record = Record("q", "v", list(OPTIONS[:4]), "B", {}, 0, response=response, finish_reason="length", error=None)
    assert (scored_record(task, record, "flexible").score.extracted or "") == letter
    for protocol in task.protocols[:-1]:
        assert scored_record(task, record, protocol).score == task.score(question, response, protocol)


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        *(
            ("ב. B", "B"),
            ("Ответ: В", ""),
            ("Ответ: А", "A"),
            ("Ответ: С", "C"),
            ("Απάντηση: Β", "B"),
            ("תשובה: ב", "B"),
        ),
        *(("الإجابة: ج", "C"), ("答案：乙", "B"), ("Ⅽ", "C"), ("Ответ: Б", ""), ("Option 3", ""), ("3", "")),
    ],
)
def test_letters_of_other_alphabets_count_where_they_can_mean_one_option_alone(response: str, letter: str) -> None:
    assert read_choice(response, OPTIONS[:4]) == letter


# ---------------------------------------------------------------------------------------------- benchmarks


def _videomme(root: Path) -> None:
    write_videomme(root, videomme_rows(4))


def _mlvu(root: Path) -> None:
    write_mlvu(root, 4)
    assert mlvu_rows("4_count", 1)


def _longvideobench(root: Path) -> None:
    write_longvideobench(root, longvideobench_rows(12))


def _lvbench(root: Path) -> None:
    write_lvbench(root, lvbench_videos(3, 12))


def _nextqa(root: Path) -> None:
    write_nextqa(root, nextqa_rows(3, {"CW": 12}))


def _hourvideo(root: Path) -> None:
    write_hourvideo(root, hourvideo_annotations(2, 20))


def _mvbench(root: Path) -> None:
    write_mvbench(root, 2)


BENCHMARKS = [_videomme, _mlvu, _longvideobench, _lvbench, _nextqa, _hourvideo, _mvbench]


@pytest.mark.parametrize("write", BENCHMARKS)
def test_a_right_model_is_right_however_it_says_so(write: Callable[[Path], None], tmp_path: Path) -> None:
    name = write.__name__.removeprefix("_")
    write(tmp_path)
    task = load_task(name)
    asked = [question for video in task.load(tmp_path) for question in video.questions if question.answer]
    assert len(asked) >= 12
    for question in asked:
        right = ord(question.answer or "") - 65
        for form in LETTER_FORMS:
            response = filled(form, question.options, right)
            assert task.score(question, response, "flexible").correct == 1, (response, question.options)
        for form in ("{t}", "The answer is {t}", "\\boxed{{{t}}}", "<answer>{t}</answer>"):
            response = filled(form, question.options, right)
            assert task.score(question, response, "flexible").correct == 1, (response, question.options)
        for form in NONE_FORMS:
            response = filled(form, question.options, right)
            score = task.score(question, response, "flexible")
            assert (score.correct, score.parsed, score.extracted) == (0, False, None), (response, question.options)


@pytest.mark.parametrize("write", BENCHMARKS)
def test_it_asks_as_the_authors_do(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path)
    task = load_task(write.__name__.removeprefix("_"))
    source = "official" if "official" in task.protocols else "vamba"
    assert task.protocols[-1] == "flexible"
    for video in task.load(tmp_path):
        for question in video.questions:
            assert task.prompt(video, question, "flexible", None) == task.prompt(video, question, source, None)
    assert task.sampling_under("flexible") == task.sampling_under(source)
    settings, own = task.generation("flexible"), task.generation(source)
    assert settings.max_new_tokens == 16384 and settings.until == ()
    assert (settings.do_sample, settings.temperature, settings.top_p) == (own.do_sample, own.temperature, own.top_p)


def test_a_withheld_answer_is_neither_right_nor_wrong() -> None:
    score = score_flexible(Question("q", "?", OPTIONS[:4], None), "The answer is B")
    assert score.values == {} and score.extracted == "B" and score.parsed


# ----------------------------------------------------------------------------------------- long responses

PIECES = [
    *("a", "A ", "B. ", "(", "((A)", "<think", "<think>", "</think>", "\\boxed{", "\\text{", '"answer": "', "answer: "),
    *("the answer is ", "not ", "option A ", "**", "**A", "$", "_", "* ", "`", "\n", " ", "<answer>", "<b>", "B is "),
    *("选", "答案", "é", "a dog ", "A and ", "A, ", "-", "n't ", "<|channel|>", "[", "A. a red car ", "so ", "no, "),
]


def test_what_cannot_hold_an_options_text_is_not_searched_and_reads_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [OPTIONS, ("Kelvin", "K", "a. b", "café", "it's", "&amp; co"), ("12", "1", "The  Dog", "dog.", "", "ſo")]
    texts = [
        form.format(l=letter, s=letter.lower(), t=option, n="C", u=options[1])
        for form in [*LETTER_FORMS, *TEXT_FORMS, "{t} {l}", "({l}) {u}", "{u} ({l})", "Kelvin (B) K: {t}"]
        for options in sets
        for letter, option in zip("ABCD", options, strict=False)
    ]
    quick = [read_choice(text, options) for text in texts for options in sets]
    monkeypatch.setattr("vamba_eval.score.flexible._may_hold", lambda text, option: True)
    assert quick == [read_choice(text, options) for text in texts for options in sets]
    assert len(quick) > 3000 and len(set(quick)) > 4


@pytest.mark.parametrize("piece", PIECES)
def test_a_pattern_repeated_without_end_does_not_hang(piece: str) -> None:
    """A pattern that backtracks would take hours for each of these; none takes a second."""
    assert read_choice(piece * (100_000 // len(piece)), OPTIONS[:4]) in ("", *"ABCD")


@pytest.mark.parametrize("piece", ["-", ". ", "{", "-\n"])
def test_marks_without_end_before_a_letter_do_not_hang(piece: str) -> None:
    """As of a model that repeats itself; the square of their number would take minutes."""
    assert read_choice(piece * (400_000 // len(piece)) + "q", OPTIONS[:4]) in ("", *"ABCD")
