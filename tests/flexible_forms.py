"""What models say, in the forms that they say it in: read by test_flexible.py about several sets of options.

{l}, {s} are the letter of what is chosen, {t}, {T} its text, {o} its place among the options; {n}, {u} and {m}, {v}
are letters and texts of two other options; {0} to {3} all texts. "⏎" is a new line, "␣" a space at an end, "⇥" a tab.
"""

from __future__ import annotations


def _forms(lines: str) -> list[str]:
    return [line.replace("⏎", "\n").replace("⇥", "\t").replace("␣", " ") for line in lines.strip().split("\n")]


# The letter is read.
LETTER = _forms("""
Final Answer: **{l}**
**Final Answer**: {l}) {t}
**{l}**
# Answer: {l}
The final answer is: $\\boxed{{{l}}}$.
\\[\\boxed{{\\text{{{l}}}}}\\]
\\(\\boxed{{{l}}}\\)
$$\\boxed{{\\textbf{{({l})}}}}$$
\\boxed{{\\mathrm{{{l}}}}}
\\boxed{{\\text{{{l}. {t}}}}}
\\boxed{{\\text{{Option {l}}}}}
\\boxed{{\\text{{({l}) }} \\text{{{t}}}}}
\\boxed{{ {l} }}
\\boxed{{Answer: {l}}}
$\\mathbf{{{l}}}$
\\textbf{{{l}}}
\\textbf{{Answer: {l}}}
答案:{l}
答案是：{l}。
答案为（{l}）{t}
【答案】{l}
正确答案：{l}
正确答案是选项{l}
正确选项为：{l}
选项{l}是正确的。
综上所述，应选择{l}选项。
故答案为{l}
故选：{l}
因此正确的选项是{l}。
根据视频内容，我选择{l}。
根据视频，正确答案是 **{l}. {t}**。
本题选{l}
我的答案是{l}
最佳答案是{l}
所以，答案应该是{l}。
答え：{l}
答えは{l}
答えは {l} です。
正しい答えは{l}です。
正解は、{l}です。
正解：{l}
選択肢{l}が正しいです。
回答: {l}
정답은 {l}입니다
정답은 {l}번입니다.
정답: {l}번
답은 {l}입니다.
따라서 정답은 **{l}**입니다.
올바른 답은 {l}입니다.
Ответ: {l}
Правильный ответ — {l}.
Правильный ответ: {l}) {t}
Верный ответ: {l}
Правильным является вариант {l}.
Я выбираю вариант {l}.
الإجابة: {l}
الإجابة الصحيحة: {l}
الإجابة هي: ({l})
الجواب هو {l}.
उत्तर: {l}
सही उत्तर: ({l})
सही उत्तर {l} है।
সঠিক উত্তর: {l}
คำตอบคือ {l}
คำตอบ: {l}
คำตอบที่ถูกต้องคือ {l}
התשובה היא {l}
תשובה: {l}
התשובה הנכונה היא {l}.
Απάντηση: {l}
Η σωστή απάντηση είναι {l}
La respuesta correcta es la {l}.
La respuesta correcta es la letra {l}
Respuesta: {l}) {t}
Respuesta final: {l}
La opción correcta es la {l}) {t}
La bonne réponse est {l}.
La réponse correcte est l'option {l}.
La réponse est : {l}
Réponse finale : {l}
Die richtige Antwort lautet {l}.
Die Antwort ist: {l}
Richtig ist Antwort {l}.
Option {l} ist richtig.
Antwort {l} ist korrekt.
A resposta certa é a {l}.
A opção correta é {l}
Resposta correta: {l}
La risposta giusta è la {l}.
La risposta corretta è l'opzione {l}.
Doğru cevap: {l}
Doğru cevap {l}'dir.
Cevap {l} şıkkıdır.
Đáp án: {l}
Đáp án đúng là: {l}. {t}
Câu trả lời đúng là {l}
Jawaban yang benar adalah {l}.
Jawaban: {l}
Het juiste antwoord is {l}.
Prawidłowa odpowiedź to {l}.
Odpowiedź: {l}
Rätt svar är {l}.
Správná odpověď je {l}.
Правильна відповідь: {l}
{l}) {t}
{l}] {t}
{l} : {t}
{l} – {t}
{l} — {t}
{l}、{t}
{l}．{t}
{l}）{t}
（{l}）
「{l}」
({l}).
[{l}].
`{l}`
`{l}. {t}`
**`{l}`**
***{l}***
~~{n}~~ {l}
> {l}
- {l}
* {l}
1. {l}
• {l}. {t}
- **{l}. {t}**
**{l}: {t}**
__{l}. {t}__
*{l}. {t}*
**Option {l}: {t}**
**{l}) {t}** is the correct answer.
{{"answer": "{l}"}}
{{"answer": "({l})"}}
{{"answer":"{s}"}}
{{"final_answer": "{l}", "confidence": 0.93}}
{{"answer": {{"letter": "{l}", "text": "{t}"}}}}
{{"Answer": "{l}. {t}"}}
{{"correct_option": "{l}"}}
{{"predicted_answer": "{l}"}}
{{"selected_answer": "{l}"}}
{{"answer_choice": "{l}"}}
{{"reasoning": "Option {n} is not shown: {u}.", "final_answer": "{l}"}}
␣␣"answer":␣"{l}"
{{"thought": "{u}", "choice": "{l}"}}
{l}
Answer: {l}
answer: {l}
answer: "{l}"
<option>{l}</option>
<choice>{l}</choice>
<answer>{l}. {t}</answer>
<answer>{l}</answer>
<answer>Option {l}</answer>
<final>{l}</final>
<ANSWER>{l}</ANSWER>
<answer> {s} </answer>
<answer>\\boxed{{{l}}}</answer>
<answer>$\\boxed{{\\text{{{l}}}}}$</answer>
<ans>{l}</ans>
<answer>{{"answer": "{l}"}}</answer>
[ANSWER]{l}[/ANSWER]
[[{l}]]
[Answer: {l}]
<b>{l}</b>
<b>Answer:</b> {l}
<p>The answer is <strong>{l}</strong>.</p>
<div>Answer: {l}</div>
<h3>Answer</h3><p>{l}</p>
<html><body>{l}</body></html>
{l}<|im_end|>
{l}<|endoftext|>
{l}</s>
{l}<|eot_id|>
{l}<end_of_turn>
Answer: {l}<|im_end|>
Assistant: {l}
ASSISTANT: {l}. {t}
AI: {l}
A: {l}
The answer is {l} because {t} is what the video shows, unlike {u}.
The answer is {l}, as {t} appears.
The answer is {l} – {t}.
The answer's {l}.
The answer: {l}
The answer is ({l}): {t}
The answer is "{l}".
The answer is '{l}'.
The answer is “{l}. {t}”.
The answer is option {l}.
The answer is choice ({l}).
The answer is letter {l}.
The answer is the letter "{l}".
The answer to this question is {l}.
The answer that best fits is {l}.
The answer should therefore be {l}.
The answer, based on the video, is {l}.
The correct answer, therefore, is {l}.
The correct answer is: **{l}) {t}**
**{l}. {t}**
The correct answer is option **{l}**: {t}.
The correct answer is indeed {l}.
The correct answer here is {l}.
The correct response is {l}.
The correct letter is {l}.
The best match is {l}.
The best choice is option {l}.
The most accurate answer is **{l}**.
The most appropriate option is {l}.
The most suitable answer would be ({l}) {t}.
The most probable answer is {l}.
The right choice is {l}.
Correct answer: {l}
Correct Answer: Option {l}
Correct option - {l}
Best answer: {l}
Selected answer: {l}
Selected Option: **{l}**
My choice: {l}
My pick: {l}
My pick is {l}.
My guess is {l}.
My best guess would be {l}.
My selection is {l}.
Final choice: {l}
Final selection: {l}
Final decision: {l}.
Verdict: {l}
Result: {l}
Conclusion: {l}
Conclusion: The answer is {l}.
In conclusion, the correct answer is {l}.
In conclusion, {l} is correct.
In summary, option {l} is the best answer.
Thus, the answer is {l}.
Thus the correct option is ({l}).
({l}) {t}
Therefore option {l} is correct.
Hence, option ({l}) is the answer.
So the answer is {l}
So it's {l}.
So I'd say {l}.
So the final answer is {l}!
Ergo, {l}.
I would choose {l}.
I would choose option {l}.
I would select ({l}).
I'd pick {l}.
I'd go with {l}
I'm going with {l}.
I will go with option {l}.
I'll choose {l}.
I'll answer {l}.
I answer {l}.
I choose the option {l}.
I have chosen {l}.
I've selected {l}.
I am confident that the answer is {l}.
I am fairly sure it's {l}.
I'm sure it is ({l}).
I believe {l} is the correct answer.
I think the correct answer is {l}, {t}.
I think option {l} is right.
I conclude that {l} is correct.
I guess {l}.
Let's go with {l}.
Let me go with option {l}.
We choose {l}.
We pick option ({l}).
You should choose {l}.
Choose {l}.
Choosing {l}.
Select {l}
Pick: {l}
Option {l} it is.
It's {l}.
It is option {l}.
That would be {l}.
That is option {l}.
This corresponds to option {l}.
This matches option {l}.
This matches ({l}) {t}.
This aligns with option {l}.
This is consistent with option {l}.
This best matches **{l}**.
which corresponds to option {l}.
The video shows this clearly, which corresponds to answer {l}.
The video supports option {l}.
Evidence in the video points to {l}.
Only option {l} matches the video.
Only {l} fits.
Only ({l}) is consistent with the video.
Option {l} is the best description.
Option {l} is accurate.
Option {l} fits best.
Option {l} matches the content of the video.
Option {l} correctly describes the scene.
Option {l}, "{t}", is correct.
Option {l} ({t}) is the right one.
{l} is correct.
{l} is right.
{l} is the best answer.
{l} is the right choice
{l} is the most accurate choice.
{l} seems correct.
{l} would be the best answer.
{l} is what the video shows.
{l} it is.
{l} fits best.
{l}, definitely.
{l}!
{l}.
{l}. {t}
{l}. {t}. The other options are wrong.
{l}. Because of the last scene.
{l} (since the video shows it)
{l}, since the video shows it
({l}) because {n} and {m} are not shown.
{l}; the others are not shown.
Answer: {l} (90% confident)
Answer: {l} [high confidence]
Answer = {l}
Answer → {l}
Answer is: {l}
ANSWER IS {l}
ANS: ({l})
Ans. {l}
Question 1: {l}
Q1: {l}
1) {l}
1: {l}
**1.** {l}
Answer 1: {l}
Answer - Option {l}
Answer: Option {l}: {t}
Answer: **{l}**
Answer: [{l}]
Answer: <{l}>
Answer:  `{l}`
Answer: "{l}"
Answer: {s}
Answer: {s}) {t}
*Answer:* {l}
***Answer: {l}***
**Answer: ({l}) {t}**
**Correct Answer: {l}**
## {l}
### {l}. {t}
✅ {l}
✅ **{l}. {t}**
👉 {l}
➡️ {l}
→ {l}
=> {l}
✔ Answer: {l}
{n} → no. {m} → no. Final: {l}
{n} → {m}, final: {l}
{n} is wrong. {m} is wrong. So {l}.
{n} is wrong because it is not seen, so {l}
Not {n}, not {m}. It's {l}.
Not {n} or {m} but {l}.
not {n}, {m} but {l}
It's not {n}; it's {l}.
It is not {n}, it is {l}.
The answer isn't {n}. It's {l}.
The answer isn't {n}, it's {l}.
The answer is not {n} but {l}.
The answer is not {n}, but rather {l}.
The answer is {l} rather than {n}.
The answer is {l}, and not {n}.
The answer is {l} instead of {n}.
I first thought {n}, but the answer is {l}.
At first I thought it was {n}, but it is {l}.
Initially {n} seems right, but {l} is correct.
Answer: {n} ... wait, let me look again ... Answer: {l}
The answer is {n}. Hmm, actually the answer is {l}.
The answer is {n}. Actually, {l}.
{n}. Actually no, it's {l}.
Answer: {n}. Correction: {l}
Answer: {n}. Correction: the answer is {l}.
I said {n}, but I meant {l}. The answer is {l}.
My initial answer was {n}, but my final answer is {l}.
Scratch that: the answer is {l}.
- {l}: correct
- {l}: {t} ✅
{l}. {t} - Correct
| {l} | correct |
**Answer: {l}**
Therefore the answer is {l}.
Option {n} is incorrect. Option {m} is incorrect. Option {l} is correct.
Option {n} can be eliminated. Option {m} can be eliminated. That leaves {l}.
By elimination, {l}.
By process of elimination, the answer is {l}.
This leaves option {l}.
This leaves us with {l}.
We are left with {l}.
{n}, {m} are wrong; {l} is right.
While {n} is tempting, {l} is the better answer.
Although option {n} looks plausible, the correct one is {l}.
Between {n} and {l}, I choose {l}.
Between {n} and {l}, {l} is better.
It is either {n} or {l}; I'd go with {l}.
{n} or {l}? I would say {l}.
Step 3: choose {l}.
Final: {l}
Choice: {l}
Explanation: The man goes. So the answer is ({l})
The question asks about it. The options are {n}, {m} and {l}. The answer is {l}.
Based on the frames provided, the answer is **{l}. {t}**.
Based on the video content, the best answer is ({l}).
Based on the video: {l}
According to the video, {l}.
According to the video, the correct option is **{l}**.
From the video, it is clear that the answer is {l}.
Looking at the video, I can see that option {l} is correct.
Sure! {l}
Sure, here's the answer: {l}
Certainly! The correct option is {l}.
Okay, the answer is {l}
Great question! The answer is **{l}**. Let me know if you need more.
Here is the answer: {l}
Here's my answer: **{l}**
Without seeing the video it is hard to know, but I would guess {l}.
I can't be certain, but the most likely answer is {l}.
I cannot determine it with certainty, but {l} is the most likely answer.
It's difficult to say; the closest is {l}.
Unfortunately the video is blurry. Answer: {l}
The option that best matches is {l}.
The option which fits is ({l}).
The correct option among these is {l}.
Of the four options, {l} is best.
Among the given options, ({l}) is correct.
Among the options, {l}.
The one that is right is {l}.
Therefore: {l}
Thus: **{l}**
Hence the answer: ({l})
∴ {l}
The choice is {l}.
The choice would be {l}
the correct option is ({s})
option ({s})
{s}
{s}) {t}
({s}) {t}
{s}: {t}
{s}. {t}
option {s}
the answer is {s}
the answer is {s}.
ans: {s}
**{s}**
\\boxed{{{s}}}
<answer>{s}</answer>
␣{l}␣
{l},
{l};
{l}_
{l}/
"{l}. {t}"
'{l}'.
"{l}".
('{l}')
['{l}']
["{l}"]
The answer is ['{l}'].
{l}: "{t}"
{l}. "{t}"
{l} "{t}"
{l}={t}
{l} {t}
{l}.{t}
{l}){t}
({l}){t}
{l}-{t}
The answer is {l}: {t}. Option {n}, {u}, is not seen.
{t} ({l})
{t} - {l}
"{t}" ({l})
It shows "{t}", so the answer is {l}.
The answer is {t} ({l}).
The answer is {t}, which is option {l}.
The answer is {t}, i.e. {l}.
**{t}** (Option {l})
({l}) {t} is the correct answer.
The {o} option is correct.
The answer is the {o} option.
I choose the {o} option.
### Final Answer⏎⏎**{l}**
```json⏎{{⏎  "reasoning": "The answer could be {n}, but it is not.",⏎  "answer": "{l}"⏎}}⏎```
```json⏎{{"thought": "{u}", "choice": "{l}"}}⏎```
Here is my answer:⏎```json⏎{{"answer": "{l}"}}⏎```
```⏎{l}⏎```
```text⏎Answer: {l}⏎```
reasoning: the video shows it⏎answer: {l}
```yaml⏎answer: {l}⏎explanation: it is {t}⏎```
<answer>{l}</answer>⏎<|im_end|>
<answer>⏎{l}⏎</answer>⏎⏎This is since {u} is never seen.
assistant⏎{l}
The correct answer is: ⏎⏎**{l}. {t}**
The correct answer is:⏎{l}) {t}
Therefore, the correct answer is:⏎⏎({l}) {t}
{l}.⏎⏎{t}
{l}⏎⏎{t}
{l}⏎Reason: {t} can be seen, {u} cannot.
{l}. {t}⏎⏎Explanation: Option {n} shows {u}, which does not occur.
Answer: {l}⏎⏎Explanation: option {n} shows {u}.
Answer: {l}⏎⏎Explanation: Option {n} is incorrect, option {m} is incorrect.
Answer: {l}⏎⏎Explanation:⏎- {n}. {u}: not seen.⏎- {m}. {v}: not seen.
Answer: {l}⏎Confidence: 90%
Q: What is it?⏎A: {l}
Answer: **{l}**⏎⏎**{l}. {t}**
**Answer:**⏎{l}
**Answer**⏎⏎{l}. {t}
Answer: {n}⏎⏎Wait, the second scene shows something else.⏎⏎Answer: {l}
- {n}: incorrect⏎- {m}: incorrect⏎- {l}: correct
- {n}: {u} ❌⏎- {m}: {v} ❌⏎- {l}: {t} ✅
{n}. {u} - Incorrect⏎{m}. {v} - Incorrect⏎{l}. {t} - Correct
- **{n}. {u}**: This is not shown.⏎- **{m}. {v}**: This is not shown.⏎- **{l}. {t}**: This is correct.
**{n}**: {u} is never visible. ✗⏎**{m}**: {v} is never visible. ✗⏎**{l}**: {t} is visible. ✓
| Option | Verdict |⏎|---|---|⏎| {n} | wrong |⏎| {l} | correct |⏎⏎**Answer: {l}**
| Option | Verdict |⏎|---|---|⏎| {n} | incorrect |⏎| {m} | incorrect |⏎| {l} | correct |
* Option {n} is ruled out.⏎* Option {m} is ruled out.⏎⏎Therefore the answer is {l}.
Step 1: look at the video.⏎Step 2: {u} is not shown.⏎Step 3: choose {l}.
Step 1: I looked at it.⏎Final: {l}
Reasoning: {u} is never shown.⏎Answer: {l}
Rationale: it shows it.⏎⏎Choice: {l}
Based on the video, the correct answer is:⏎⏎{l}. {t}
{t}⏎⏎Answer: {l}
<think>Maybe {n}.</think>⏎⏎**{l}**
<think>⏎Option {n}? \\boxed{{{n}}}⏎</think>⏎⏎The video shows {t}.⏎⏎\\boxed{{{l}}}
So {n}... no.</think><|begin_of_box|>{l}<|end_of_box|>
<think>{n}</think>The answer is <|begin_of_box|>{l}<|end_of_box|>.
<think>{n}</think><answer><|begin_of_box|>{l}<|end_of_box|></answer>
◁think▷Is it {n}? Answer: {n}◁/think▷The answer is **{l}**.
<|channel|>analysis<|message|>We need to choose. {n}? {m}?<|end|><|start|>assistant<|channel|>final<|message|>**{l}. {t}**
<|channel|>final<|message|>{l}<|return|>
<|start|>assistant<|channel|>analysis<|message|>{n}<|end|><|start|>assistant<|channel|>commentary<|message|>{m}<|end|><|start|>assistant<|channel|>final<|message|>Answer: {l}
<|start|>assistant<|channel|>final<|message|>{l}
analysisThe user asks. Likely {n}.assistantfinal**Answer: {l}**
analysis The user asks. Likely {n}. assistantfinal {l}
<|thinking|>{n}<|/thinking|>{l}
<thinking>{n} is seen</thinking>⏎<answer>{l}</answer>
<analysis>Option {n} is right?</analysis>⏎⏎Answer: {l}
<reasoning>{n}</reasoning>⏎<conclusion>{l}</conclusion>
<SUMMARY>I will look.</SUMMARY><CAPTION>{u} is there.</CAPTION><REASONING>{n}</REASONING><CONCLUSION>{l}</CONCLUSION>
<conclusion>The answer is {l}.</conclusion>
<observation>{u}</observation><think>{n}</think><answer>{l}</answer>
<think>{n}</think><answer>{l}</answer><think>{m}</think>
<|im_start|>assistant⏎{l}<|im_end|>
<tool_call>{{"name": "look"}}</tool_call>⏎Answer: {l}
A. {0}⏎B. {1}⏎C. {2}⏎D. {3}⏎⏎Answer: {l}
A. {0}⏎B. {1}⏎C. {2}⏎D. {3}⏎{l}
A) {0}⏎B) {1}⏎C) {2}⏎D) {3}⏎⏎The correct answer is {l}) {t}.
(A) {0} (B) {1} (C) {2} (D) {3}. Answer: ({l})
Question: What is seen?⏎A. {0}⏎B. {1}⏎C. {2}⏎D. {3}⏎Answer: {l}
Options: A. {0}; B. {1}; C. {2}; D. {3}. I choose {l}.
Let's go through the options:⏎A. {0}: no.⏎B. {1}: perhaps.⏎C. {2}: perhaps.⏎D. {3}: no.⏎⏎The best answer is {l}.
**Analysis of options:**⏎1. **A. {0}** – unclear.⏎2. **B. {1}** – unclear.⏎3. **C. {2}** – unclear.⏎4. **D. {3}** – unclear.⏎⏎**Conclusion:** {l}
The man walks in and looks at A and B.⏎⏎So the answer is {l}.⏎⏎I hope this helps!
First I look at the start. Then at the end.⏎⏎{l}. {t}
First I look at the start. Then at the end.⏎⏎({l})
First I look at the start. Then at the end.⏎{l}.
A long description of everything that goes on. A man, a dog, a car.⏎⏎**Answer: {l}. {t}**
I looked at it.⏎⏎### Conclusion⏎The video best supports **{l}**.
I looked at it.⏎⏎---⏎⏎{l}
I looked at it. ⏎⏎Option {l}
The video shows a street.⏎⏎**{l}. {t}**⏎⏎This is because the street is seen.
The video shows a street.⏎⏎{l}. {t}⏎⏎This is because the street is seen.
{l}⏎{l}
{l}⏎{l}. {t}
{l}. {t}⏎{l}. {t}
{l}. {t}⏎Answer: {l}
Answer: {l}⏎Answer: {l}
\\boxed{{{n}}} was my first idea, but \\boxed{{{l}}} is right.
{{"answer": "{l}"}}⏎{{"answer": "{l}"}}
The answer is {l}.⏎⏎(A) is the first option, as listed.
The answer is {l}. The video opens with A man and B roll.
{l}. {t} A man is also seen, and I think he runs.
{l}. {t}⏎I cannot see the rest of the video.
Although I can't watch the video, I think the answer is {l}.
As an AI I cannot see it, but if I had to guess: {l}
Not sure, but I'd say {l}.
I'm not sure, but probably {l}.
Probably {l}.
Most likely {l}.
Likely ({l}).
Maybe {l}.
Perhaps {l}
Definitely {l}!
Clearly, {l}.
Obviously {l}.
Yes, {l}.
Okay: {l}
The answer must be {l}; {n} and {m} are impossible.
{l} (not {n})
{l}, not {n}.
{l} rather than {n}
The answer is {l}, although {n} is close.
The answer is {l}. {n} is close, but wrong.
The answer is {l}. Option {n} would be correct if {u} were shown.
The answer is {l}. If it were {n}, one would see {u}.
The answer is {l}. It can't be {n}.
The answer is {l}. The answer is not {n}.
The answer is {l}? Yes, {l}.
Could it be {n}? No, it is {l}.
Do I believe {n}? No. The answer is {l}.
Answer: {l} ({t}), not {n} ({u}).
Answer: {l} since {n} and {m} do not fit
the answer is option {s}) {t}
My final answer is option ({l}).
Final answer⏎{l}
FINAL ANSWER: {l}
Final Answer - ({l})
Final Answer⏎⏎{l}. {t}
Final answer is {l}
So my final answer: {l}.
The final choice is {l}.
**{l}** is the correct option.
**{l}** – because it is shown.
**{l}**: {t} is shown, {u} is not.
**{l}**⏎⏎**Why:** {u} is not shown.
The answer is **{l}**: *{t}*.
The answer is _{l}_.
Answer: \\({l}\\)
Answer: $({l})$
Answer: \\text{{{l}}}
$$ \\text{{Answer: }} {l} $$
$$\\boxed{{\\text{{{l}}}}}$$⏎⏎Explanation: {u} is not shown.
The final answer is $\\boxed{{\\text{{{l}) {t}}}}}$
$\\boxed{{{l}}}$⏎$\\boxed{{{l}}}$
\\boxed {{{l}}}
\\boxed{{\\(\\text{{{l}}}\\)}}
boxed{{{l}}}
$\\fbox{{\\text{{{l}}}}}$
\\framebox{{{l}}}
\\boxed{{\\displaystyle {l}}}
\\boxed{{\\bf {l}}}
\\boxed{{{{\\bf {l}}}}}
\\boxed{{\\textcolor{{red}}{{{l}}}}}
\\colorbox{{yellow}}{{{l}}}
\\boxed{{'{l}'}}
\\boxed{{**{l}**}}
The best option is ({l}), i.e. {t}.
Thus option {l} ({t}) is the answer.
Correct option is {l}.
correct answer {l}
Correct! {l}
The correct one is {l}.
The correct one: {l}
The right one is {l}.
This is {l}.
This is ({l}).
This means {l}.
This means option {l} is correct.
This makes {l} the correct answer.
This makes option {l} the best choice.
making {l} the correct answer.
making option {l} the right choice.
which makes {l} correct.
It has to be {l}.
It should be {l}
It would be {l}.
It looks like {l}.
It appears to be {l}.
It seems that {l} is correct.
It seems to be {l}.
Seems like {l}
Looks like {l}.
Going with {l}.
Leaning towards {l}.
I lean toward {l}.
I'm leaning toward option {l}.
I am inclined to choose {l}.
I have to pick {l}.
I must choose {l}.
I vote {l}.
My vote goes to {l}.
My vote is for {l}.
I'll take {l}.
I'd take ({l}).
I will say {l}.
I suggest {l}.
I settle on {l}.
I settled for {l}.
I decided on {l}.
I decide on ({l}).
I determine the answer to be {l}.
I find {l} to be correct.
I consider {l} to be the correct answer.
I identified {l} as the correct answer.
{l} was chosen because it is shown.
{l} is chosen.
{l} is selected as the answer.
{l} is my answer.
{l} is my final answer.
{l} is the one.
({l}) is the answer.
({l}) is correct, since it is shown.
Only {l} can be correct.
Only {l} remains.
Option {l} remains.
All other options are wrong, so {l}.
Everything but {l} is wrong, so the answer is {l}.
Everything points to {l}.
The evidence suggests {l}.
The evidence supports ({l}).
The video confirms {l}.
The video indicates option {l}.
The clip shows that option {l} is the case.
The answer, I believe, is {l}.
The answer, then, is {l}.
The answer would most likely be {l}.
The answer is likely {l}.
The answer is probably {l}.
The answer is clearly {l}.
The answer is definitely ({l}).
The answer is indeed {l}.
The answer is actually {l}.
The answer is again {l}.
The answer is still {l}.
The answer is simply {l}.
The answer is obviously {l}!
The answer is, of course, {l}.
The answer is thus {l}.
The answer is:{l}
The answer is:  {l}.
The answer is : {l}
The answer is - {l}
The answer is... {l}!
The answer is {l}/{t}
The answer is {l}:{t}
The answer is {l}.{t}
The answer is {l}){t}
The answer is {l} ({t}).
The answer is {l}, {t}.
The answer is {l}; {t}.
The answer is {l} - {t}
The answer is {l}, which says "{t}".
The answer is {l}, where {t} is seen.
The answer is {l} with high confidence.
The answer is {l} from what I see.
The answer is {l} according to the video.
The answer is {l} in this video.
The answer is {l} in my opinion.
The answer is {l} based on the frames.
The answer is {l} due to the light.
The answer is {l} given the evidence.
The answer is {l} for the reason above.
The answer is {l} here.
The answer is {l} as shown at 00:32.
The answer is {l}, as can be seen at 1:05.
The answer is {l}\\n
The␣answer␣is␣{l}⏎
⏎⏎{l}⏎⏎
⇥{l}
"answer": "{l}"
'answer': '{l}'
answer={l}
answer("{l}")
{{{l}}}
{{"{l}"}}
{{"{l}": "{t}"}}
{{"answer": ["{l}"]}}
{{"answer": "{l}", "alternatives": ["{n}"]}}
{{"answers": [{{"question": 1, "answer": "{l}"}}]}}
{{"result": {{"answer": "{l}"}}}}
{{"best_option": "{l}"}}
{{"option": "{l}", "text": "{t}"}}
{{"ans": "{l}"}}
{{"label": "{l}"}}
{{"output": "{l}"}}
{{'answer': '{l}', 'reason': '{u}'}}
{{answer: "{l}"}}
{{"answer": "{l}",
{{"explanation": "Since {u} isn't shown, the answer is {l}.", "answer": "{l}"}}
<answer>{l}</answer> is my answer because {u} is not shown.
<answer>{l}<answer>
<answer>{l}</ answer>
<answer>[{l}]</answer>
<answer>'{l}'</answer>
<answer>{l}:{t}</answer>
<answer>The correct option is {l}.</answer>
<answer>{n}</answer> Wait. <answer>{l}</answer>
<answer id="1">{l}</answer>
<Answer>: {l}
<answer>: {l}</answer>
<response>{l}</response>
<solution>{l}</solution>
<letter>{l}</letter>
<correct>{l}</correct>
<best_answer>{l}</best_answer>
<output>{l}</output>
<result>{l}</result>
<selected_option>{l}</selected_option>
<your_answer>{l}</your_answer>
<answer_letter>{l}</answer_letter>
&lt;answer&gt;{l}&lt;/answer&gt;
The answer is&nbsp;{l}
&quot;{l}&quot;
<font color="red">{l}</font>
<span style="x">{l}</span>
<li>{l}</li>
<p>{l}</p>
<br>{l}<br/>
<strong>{l}. {t}</strong>
<strong>Answer: {l}</strong>
<code>{l}</code>
<td>{l}</td>
选{l}。因为视频里能看到。
{l}。因为视频里能看到。
{l}，因为视频里能看到。
{l} 是正确的。
{l}是正确答案
{l}选项正确
{l}项正确。
{l}项是正确的
选择 {l}
选择：{l}
我选择选项{l}。
我会选{l}。
应该选{l}。
这道题选{l}。
正确选择是{l}。
正确的答案是{l}：{t}
最合适的选项是{l}。
最符合的是{l}。
最符合视频内容的选项是 **{l}**。
最可能的答案是{l}
因此，正确答案是{l}
因此选{l}
所以是{l}
所以选{l}。
所以正确答案为：{l}
综上，答案为{l}。
综上所述，正确答案是 {l}. {t}
综上所述，选项{l}最符合。
结论：{l}
最终答案：{l}
最终答案是：**{l}**
最终答案：\\boxed{{{l}}}
回答：{l}
解答：{l}
解：{l}
答：{l}
答: {l}
答 {l}
選{l}
答案選{l}
答案係{l}
正確答案是{l}
我認為答案是{l}
選項{l}是正確的
不是{n}，是{l}。
不是{n}，而是{l}
排除{n}和{m}，所以选{l}。
{n}错误，{m}错误，{l}正确。
选项{n}不正确，选项{m}不正确，因此答案是{l}。
私は{l}を選びます。
{l}を選びます。
{l}が正しいです。
{l}が最も適切です。
{l}だと思います。
{l}です
{l}。
答えは選択肢{l}です。
最も適切なのは{l}です。
したがって、正解は{l}です。
最終的な答えは{l}です。
{l}를 선택합니다.
{l}가 정답입니다.
{l}이 정답입니다.
{l}번
{l}번입니다.
{l}가 맞습니다.
{l}입니다
가장 적절한 답은 {l}입니다.
정답은 '{l}'입니다.
정답은 {l}이다.
정답은 {l}예요.
정답은 {l}.
옵션 {l}가 정답입니다.
선택지 {l}
따라서 {l}입니다.
최종 답변: {l}
답변: {l}
Elijo la {l}.
Elijo la opción {l}.
La respuesta es: {l}
La respuesta es {l}, porque se ve.
La respuesta sería {l}.
La mejor respuesta es {l}.
Creo que la respuesta es {l}.
Por lo tanto, la respuesta es {l}.
Opción {l}
Opción correcta: {l}
Letra {l}
Je choisis {l}.
Je choisis la réponse {l}.
La réponse est la {l}.
La réponse est donc {l}.
C'est la réponse {l}.
C'est {l}.
La bonne réponse est l'option {l}.
L'option {l} est correcte.
Réponse {l}
Ich wähle {l}.
Ich wähle Option {l}.
Die Antwort ist Option {l}.
Die richtige Antwort wäre {l}.
Die korrekte Antwort ist {l}.
Es ist {l}.
Richtige Antwort: {l}
Lösung: {l}
A resposta é {l}.
A resposta é a letra {l}
A resposta é a opção {l}.
Resposta: letra {l}
Eu escolho {l}.
Alternativa {l}
La risposta è {l}.
La risposta è la {l}.
La risposta esatta è la {l}
Scelgo {l}.
Scelgo l'opzione {l}.
Opzione {l}
Мой ответ: {l}
Мой ответ — {l}
Правильный вариант ответа: {l}
Правильный ответ: вариант {l}.
Правильный ответ - {l}
Правильный ответ {l}
Вариант {l}
Вариант {l} верный.
Я думаю, что ответ {l}.
Выбираю {l}.
Ответ {l}.
Tôi chọn {l}.
Chọn đáp án {l}
Câu trả lời: {l}
Đáp án chính xác là {l}.
Cevap: {l}
Doğru cevap: {l}) {t}
Doğru yanıt {l} seçeneğidir.
Cevap {l}.
الإجابة {l}
الإجابة الصحيحة هي {l}.
الخيار الصحيح هو {l}
الخيار {l}
الجواب: {l}
उत्तर {l}
सही विकल्प: {l}
सही जवाब {l} है।
विकल्प {l}
विकल्प {l} सही है।
پاسخ: {l}
جواب: {l}
উত্তর: {l}
சரியான பதில்: {l}
సరైన సమాధానం: {l}
Pilihan {l}
Pilihan yang benar adalah {l}
Jawapan: {l}
Ang sagot ay {l}.
Sagot: {l}
Jibu: {l}
Vastaus: {l}
Oikea vastaus on {l}.
Válasz: {l}
A helyes válasz: {l}
Răspuns: {l}
Răspunsul corect este {l}.
Odgovor: {l}
Отговор: {l}
Верният отговор е {l}.
Svar: {l}
Rätt svar: {l}
Det rigtige svar er {l}.
Riktig svar er {l}.
Σωστή απάντηση: {l}
Resposta correcta: {l}
Kết luận: {l}
Antwoord: {l}
Het antwoord is {l}.
Optie {l}
Poprawna odpowiedź: {l}
Poprawna odpowiedź to {l}.
Správná odpověď: {l}
My final verdict is option {l}.
Response: {l}
The video makes it clear that {l} is the correct answer.
After reviewing the footage, I'd say the correct answer is **{l}**.
**Correct Answer:** {l}. {t}
**Answer: Option {l} – {t}**
I believe that the best answer is option {l}: "{t}".
The answer is thus option **({l})**.
> **{l}. {t}**
final answer → {l}
The answer that I would give is {l}.
The most plausible option is {l}.
The most reasonable choice is {l}.
Out of the options given, {l} is the most fitting.
The only option consistent with the video is {l}.
Given the above, {l} is the correct choice.
Given what we see, the answer is ({l}).
My response is {l}.
So the correct letter is {l}.
Therefore, the correct choice is **{l}**: {t}.
{l} — {t}. This is clear from the first scene.
{l}. {t} (the others do not occur)
Option {l} best answers the question.
Option {l} most closely matches the video.
Option **{l}** is the correct choice because {t} is visible.
It seems the answer is {l}.
I'm going to say {l}.
I'm pretty sure the answer is {l}.
Pretty sure it's {l}.
I am going with {l}
It can only be {l}.
The answer can only be {l}.
{l} is the only option that fits.
{l} is the most plausible answer.
{l} is most likely correct.
{l} is likely the answer.
{l} is definitely right.
The video clearly supports option {l}, not {n}.
{n}... no wait, {l}.
Answer: {n}. Oh wait, sorry, it's {l}.
I change my answer to {l}.
Edit: {l}
Revised answer: {l}
Updated answer: {l}
Corrected answer: {l}
{{"answer":"{l}","reason":"{t}"}}
{{"Answer":"Option {l}"}}
{{"response": "{l}"}}
{{"choice": "({l}) {t}"}}
{{"final": "{l}"}}
{{"answer_index": "{l}"}}
{{"analysis": "{u} is not seen", "answer": "{l}"}}
<answer>The answer is ({l}) {t}.</answer>
<final_answer>({l})</final_answer>
<answer>$${l}$$</answer>
$\\text{{Answer: }}\\boxed{{{l}}}$
\\[ \\boxed{{{l}}} \\]
\\boxed{{\\textbf{{{l}}}}}
\\boxed{{\\mathbf{{{l}}}. \\text{{{t}}}}}
**Final Answer:** \\boxed{{{l}}}
The answer is \\( {l} \\).
The answer is \\(\\boxed{{{l}}}\\).
正确答案应为{l}。
答案应该是选项{l}：{t}
答案就是{l}
我觉得是{l}
我觉得选{l}比较合适。
应该是{l}。
选项{l}最符合视频内容。
根据视频内容，正确答案是选项{l}。
最终答案为{l}。
视频显示{t}，因此答案是{l}
故正确答案为{l}。
故选{l}项
答案：【{l}】
答案是「{l}」
ベストな答えは{l}です
答えは「{l}」です。
正解は選択肢{l}です
{l}が正解です。
정답은 **{l}** 입니다.
제 답은 {l}입니다.
정답은 {l}번 입니다
답은 ({l}) 입니다.
La respuesta correcta es: **{l}**
La réponse correcte est : **{l}. {t}**
Je pense que la réponse est {l}.
Die Antwort lautet {l}.
Ich denke, die Antwort ist {l}.
A resposta correta é: {l}
Penso que a resposta é {l}.
La risposta è: {l}
Ответ — {l}
Думаю, правильный ответ {l}.
الإجابة الصحيحة هي ({l}).
सही उत्तर है {l}
Câu trả lời chính xác là {l}.
Jawabannya adalah {l}.
Doğru cevap {l} şıkkı.
คำตอบที่ถูกต้องคือ {l}. {t}
- **{l}. {t}**: Correct. It is seen at 0:14.⏎- **{n}. {u}**: Incorrect.
{n}. {u} ❌⏎{l}. {t} ✅⏎{m}. {v} ❌
Option {n} ✗⏎Option {l} ✓⏎Option {m} ✗
({n}) {u} – No.⏎({l}) {t} – Yes.⏎({m}) {v} – No.
{n}. {u} (incorrect)⏎{l}. {t} (correct)⏎{m}. {v} (incorrect)
{n}, {m} and Z are wrong. So the answer is {l}.
{n} and {m} are wrong, so {l}.
{n}, {m} do not match the frames. It is {l}.
{n} and {m} are not supported by the video. Therefore {l}.
The answer is {l}; {n} is only mentioned.
Answer: {n}... hmm, no. {l}.
It would be wrong to choose {n}. The answer is {l}.
You might think the answer is {n}.⏎⏎{l}
One might expect the answer to be {n}. In fact, it is {l}.
Some would say the answer is {n}. So, {l}.
My first guess is {n}. It does not hold. So it must be {l}.
At first, {n} seems right. However, the end contradicts it. So, {l}.
Although {n} seems correct in part, it is {l}.
The answer is {l}. (If it had been earlier, the answer would be {n}.)
The answer is {l}. If the question had asked about the start, the answer would be {n}.
It is {l}. If it had been earlier, it would be {n}.
The answer is \\boxed{{{l}}}, not \\boxed{{{n}}}.
<answer>{l}</answer>⏎{n} is only mentioned.
Let me consider each option:⏎⏎{n}. {u} — it comes first.⏎{m}. {v} — it comes last.⏎⏎Therefore: {l}
Of these, {l} is the closest.
He leaves the room. {l}.
It is not seen before. So what? He leaves. {l}
Out of all options, {l} makes the most sense.
All signs indicate {l}.
Everything points towards {l}.
{l}⏎⏎Some viewers may choose {n}, but that is a mistake.
{l}. {t}⏎⏎If the question were about the start, {n} would be right.
The answer is {l}.⏎⏎- {n}: {u} — not shown⏎- {m}: {v} — not shown
**{l}**⏎⏎Thus {n} and {m} can be ruled out.
Answer: {l}. There is no scene that matches {n}.
The answer is {l}.⏎⏎Nothing in it is something that suggests {n}.
The answer is {l}. The first scene is this: he walks, which is {n}.
The frames show it twice → {l}
That is {l}.
""")  # noqa: E501

# What is said before a choice, of other options too, and behind it; none of it chooses.
BEFORE = _forms("""
Let me consider each option:⏎⏎A. {0} — it comes first.⏎B. {1} — it is seen briefly.⏎C. {2} — at the end.⏎D. {3} — at the start.⏎⏎
Let me analyze each option:⏎- A: it appears briefly.⏎- B: this happens at 0:14.⏎- C: it is mentioned.⏎- D: there is no sign of it.⏎⏎
Let's evaluate each choice: A seems plausible at first. B is seen at 0:14. C is not visible. D never occurs.␣
**Option A:** {0} – at 0:05.⏎**Option B:** {1} – at 0:10.⏎**Option C:** {2} – at 0:15.⏎**Option D:** {3} – at 0:20.⏎⏎
Looking at the options:⏎A) {0}⏎B) {1}⏎C) {2}⏎D) {3}⏎⏎
I'll go option by option:⏎1. **A. {0}**: Not yet.⏎2. **B. {1}**: Seen at 00:14.⏎3. **C. {2}**: Maybe.⏎4. **D. {3}**: Hard to tell.⏎⏎
First, I need to understand the question. At [00:05], a person enters. At [00:32], another one leaves.␣
{n} might seem plausible, since something similar is seen.␣
At first, {n} seems right. However, later frames contradict it.␣
It could be {n} or {m}, but the end of the video makes it clear.␣
{n} and {m} are wrong.␣
{n}, {m} are not supported.␣
Options {n} and {m} can be eliminated right away.␣
You might think the answer is {n}.␣
Some would say the answer is {n}.␣
Is it {n}? That doesn't match the frames.␣
Wait, is the answer {n}? Hmm, the frames show something else.␣
My first guess is {n}. Let me verify. It does not hold.␣
The most tempting distractor is {n} ({u}).␣
If the man were inside, the answer would be {n}. But he is outside.␣
Figure A shows a man; scene B shows a woman.␣
❌ {n}⏎❌ {m}⏎✅ {l}⏎
1. {n} ✗⏎2. {m} ✗⏎
A naive answer would be {n}. It is contradicted later.␣
People often choose {n}.␣
The closest option might be {n}, but it lacks the color.␣
I was leaning towards {n}. But the last frame changes that.␣
{n} would be correct if he had left.␣
{n}: {u} — no evidence.⏎{l}: {t} — clearly visible.⏎{m}: {v} — no evidence.⏎
有人可能会选{n}，但这是错误的。
如果选{n}，则与视频矛盾。
选项A：视频开头出现。⏎选项B：0:14出现。⏎选项C：没有出现。⏎选项D：没有出现。⏎
""")  # noqa: E501
CHOICE = _forms("""
The answer is {l}.
So the answer is **{l}**.
**Final answer: {l}**
\\boxed{{{l}}}
<answer>{l}</answer>
So it must be {l}.
Therefore, {l}.
That leaves {l}.
This corresponds to option {l}.
In fact, it is {l}.
In conclusion, {l} is correct.
Option {l} fits best.
因此选{l}。
""")
BEHIND = _forms("""
⏎⏎The other options do not match the video.
⏎⏎- {n}: not seen.⏎- {m}: not seen.
␣(If it had been earlier, the answer would be {n}.)
⏎{n} is only mentioned.
⏎⏎Why not {n}? It is never shown.
""")

# No option has been chosen.
NONE = _forms("""
❌ {l}
{l} ✗
People often choose {l}.
{n}, {l} and {m} are wrong.
{n}, {l} do not match.
So {n}, {l} and {m} are wrong.
If it came first, the answer would be {l}.
You might think the answer is {l}.
Let me analyze each option:⏎- A: it appears briefly.⏎- B: it happens at 0:14.
The correct answer is
The correct answer is:
**Answer:**
Answer: (
The answer is **
\\boxed{{
<answer>
{{"answer": "
Let me think about
The video shows
Let me analyze each option. Option A
Let me analyze the video. Option {l} says that {t} is seen, while option {n} says
First, I look at {l}. {t}. Then
The options are A, B, C and D.
I need to choose between A, B, C and D.
I need to choose from A, B, C, or D.
A B C D
ABCD
({l}) ({n})
({l})({n})
Answer: ({l})({n})
Answer: ({l}) ({n})
Answer: {l} {n}
Answer: {l}{n}
Answer: {l}, {n}
Answer: {l} & {n}
Answer: {l}/{n}
Answer: {l} and {n}
Answers: {l}, {n} and {m}
{l}, {n}, {m}
{l} & {n}
{l} + {n}
{l};{n}
{l}⏎{n}
- {l}⏎- {n}
**{l}** and **{n}**
**{l}**, **{n}**
**{l}** or **{n}**
\\boxed{{{l}{n}}}
\\boxed{{{l} \\text{{ and }} {n}}}
\\boxed{{{l}}} and \\boxed{{{n}}}
\\boxed{{{l}}} or \\boxed{{{n}}}
\\boxed{{}}
\\boxed{{?}}
\\boxed{{\\text{{None}}}}
<answer></answer>
<answer> </answer>
<answer>{l} or {n}</answer>
<answer>{l}{n}</answer>
<answer>None</answer>
<answer>unknown</answer>
<answer>N/A</answer>
<answer>?</answer>
<answer>I don't know</answer>
{{"answer": ""}}
{{"answer": null}}
{{"answer": "none"}}
{{"answer": "unknown"}}
{{"answer": ["{l}", "{n}"]}}
{{"answer": "{l}, {n}"}}
{{"answer": "{l}{n}"}}
{{"answer": "{l} or {n}"}}
Both A and C
Both {l} and {n}
Both {l} and {n} are correct.
Both options {l} and {n} are correct.
Both options {l} and {n} could be right.
Options {l} and {n} are both correct.
Options {l} and {n}
Option {l} or option {n}
Option {l} or {n}
Option {l} and option {n} are both correct.
Either {l} or {n}
either {l} or {n}.
The answer could be {l} or {n}.
The answer could be either {l} or {n}.
The answer is {l} or {n}.
The answer is {l} and {n}.
The answer is both {l} and {n}.
The answers are {l} and {n}.
The correct answers are {l}, {n}.
The correct options are {l} and {n}.
The answer is {l} or maybe {n}.
The answer is {l}/{n}.
It could be {l}, or it could be {n}.
It might be {l} or {n}.
I am torn between {l} and {n}.
I'm torn between ({l}) and ({n}).
I hesitate between {l} and {n}.
I can't decide between {l} and {n}.
{l} or {n}, I am not sure.
{l} or {n}?
{l}?⏎{n}?
{l} and {n} are both correct.
{l} and {n} both fit.
{l} as well as {n}
{l} as well as {n} are correct.
{l} und {n}
{l} y {n}
{l} et {n}
{l}和{n}
{l}或{n}
{l}、{n}
选{l}和{n}
选{l}或{n}
选{l}{n}
答案是{l}或{n}
答案是{l}和{n}。
答案：{l}、{n}
答案：{l}{n}
答えは{l}と{n}です。
정답은 {l}와 {n}입니다.
정답은 {l} 또는 {n}입니다.
La respuesta es {l} o {n}.
Die Antwort ist {l} oder {n}.
La réponse est {l} ou {n}.
Ответ: {l} или {n}
It is not {l}
It is not {l}.
It's not {l}.
It isn't {l}.
It can't be {l}.
It cannot be {l}.
Not {l}
not {l}.
Not ({l})
The answer is not {l}.
The answer isn't {l}.
The answer is not option {l}.
The answer is definitely not {l}.
The answer cannot be {l}.
The answer can't be ({l}).
The correct answer is not {l}.
The correct answer is neither {l} nor {n}.
Neither {l} nor {n}.
Neither {l} nor {n} is right.
Option {l} is incorrect.
Option {l} is wrong.
Option {l} is not correct.
Option {l} is not shown.
Option {l} can be ruled out.
Option {l} can be eliminated.
Options {l} and {n} are incorrect.
{l} is incorrect.
{l} is wrong.
{l} is not correct.
{l} is not the answer.
{l} isn't the answer.
{l} can be ruled out.
({l}) is wrong.
I don't think it's {l}.
I don't think the answer is {l}.
I do not believe it is {l}.
I doubt that it is {l}.
I doubt it's {l}.
I'm not sure it's {l}.
I am not sure if the answer is {l}.
I am not sure whether it is {l} or {n}.
I would not choose {l}.
I wouldn't choose {l}.
I wouldn't go with {l}.
I won't pick {l}.
I can't choose {l}.
I cannot choose between {l} and {n}.
All but {l}.
All except {l}
Everything except {l}.
Anything but {l}.
Is it {l}?
Is it {l} or {n}?
Could it be {l}?
Would it be {l}?
Maybe {l}? Maybe {n}?
{l}? {n}?
The␣answer␣is␣{l}?␣
Is {l} correct?
Is option {l} correct?
If it is {l}, then the man walks.
If the answer were {l}, we would see it.
答案不是{l}
答案不是{l}。
不是{l}
不选{l}
选项{l}不正确。
选项{l}错误。
{l}不对
{l}不正确。
{l}错误
정답은 {l}가 아닙니다.
{l}가 아닙니다.
答えは{l}ではありません。
{l}ではない。
La respuesta no es {l}.
No es {l}.
La réponse n'est pas {l}.
Ce n'est pas {l}.
Die Antwort ist nicht {l}.
Es ist nicht {l}.
A resposta não é {l}.
La risposta non è {l}.
Ответ не {l}.
Это не {l}.
I cannot determine
I cannot determine the answer.
I can't determine the correct answer from the video.
I cannot answer this question.
I can't answer that.
I'm sorry, but I can't help with that.
I'm sorry, I can't assist with that request.
I am unable to view videos.
I am unable to determine the answer.
I'm unable to see the video, so I can't choose an option.
I don't know.
I do not know the answer.
I have no idea.
I'm not sure.
Not sure
Unknown
Unanswerable
Unclear
Undetermined
Cannot be answered.
No answer
No option is correct.
None
None of them.
None of the options match.
None of the options are correct.
None of the given options is right.
None of the options A, B, C, or D is correct.
None of the provided options (A, B, C, D) match the video.
There is no correct answer.
There isn't enough information.
There is not enough information in the video to answer.
Insufficient information.
The video does not show this.
The video does not provide enough information to answer.
The question cannot be answered from the video.
The correct answer is not listed.
The correct answer is not among the options.
The answer is unknown.
The answer is unclear.
The answer is not given.
The answer is not shown in the video.
The answer is none.
The answer is ambiguous.
The answer is a matter of taste.
The answer is a bit unclear.
The answer is in the video.
Answer: none
Answer: None of these
Answer: N/A
Answer: unknown
Answer: ?
Answer: I don't know
答案：无
答案：无法确定
无法确定。
无法回答
我不知道。
没有正确答案
分からない
わかりません。
알 수 없습니다.
No lo sé.
No se puede determinar.
Je ne sais pas.
Ich weiß es nicht.
Não sei.
Не знаю.
لا أعرف
मुझे नहीं पता
抱歉，我无法观看视频。
抱歉，我无法回答这个问题。
죄송합니다.
申し訳ありませんが、お答えできません。
Lo siento, no puedo ver el video.
Please provide the video.
Please provide more information.
Could you share the video?
Can you upload the video?
What is the question?
Sure! Please share the video.
Hello! How can I help you?
As an AI language model, I cannot watch videos.
!!!
...
-
null
nan
error
Error: timeout
[SAFETY_BLOCKED]
42
7
100%
0
2024
00:32
<think>The answer is {l}
<think>Let me see. {l}. {t}
<thinking>{l}
<think>⏎{l}⏎⏎Answer: {l}
<think></think>
<think>{l}</think>
<think>{l}</think>⏎⏎
◁think▷{l}. {t}
<|channel|>analysis<|message|>{l}. {t}
<|channel|>analysis<|message|>Answer: {l}<|end|><|start|>assistant
<|channel|>analysis<|message|>Answer: {l}<|end|><|start|>assistant<|channel|>final<|message|>
<|channel|>commentary<|message|>{l}
analysisThe answer is {l}. {t}
<reasoning>{l}. {t}
<analysis>The answer is {l}.
<|begin_of_box|><|end_of_box|>
Z
E1
F
G.
(H)
Answer: J
The answer is X.
\\boxed{{X}}
<answer>K</answer>
Option Q
Answer: AA
Answer: {l}{l}{l}{l}{l}{n}
{l}{n}{l}{n}
I think
I am a language model.
I see a person.
I
a man
A person is there.
A person walks into a room. I see a table.
An object is seen.
The man gives a talk about vitamin C and plan B.
The team scored an A in the test and a B in class.
Person A talks to person B.
Player A passes to player B.
Team A beats team B.
Grade A eggs, vitamin D, hepatitis B.
Section A is followed by section B.
In scene {l}, he walks.
Figure {l} is shown.
From A to Z
From point A to point B
A/B test
A vs. B
A&E
U.S.A.
C++ and C#
D-day
B-roll is shown.
i.e. nothing
e.g. nothing
It's a.m. or p.m.
P.S. I love it
A+ grade
I'd rate it a B+.
I think {l} and {n} are equally likely.
It is a toss-up between {l} and {n}.
{l} or possibly {n}
Probably {l} or {n}.
Answer: {l} or {n}, hard to tell
Answer: either ({l}) or ({n})
Answer: {l}, but {n} is also correct.
{{"answer": "{l} and {n}"}}
<answer>{l} and {n}</answer>
\\boxed{{{l}/{n}}}
\\boxed{{{l},{n}}}
**{l} and {n}**
Options {l}, {n} and {m} all apply.
I can rule out {l} and {n}.
We can exclude {l}.
{l} does not match the video.
{l} doesn't fit.
Option {l} doesn't match the video.
Option {l} is unlikely.
Option {l} seems unlikely.
It's unlikely to be {l}.
It is unlikely that the answer is {l}.
The answer is probably not {l}.
The answer is certainly not {l}.
I wouldn't say it's {l}.
I do not think {l} is correct.
I don't believe {l} is correct.
I'm not convinced that {l} is correct.
There's no evidence for {l}.
No evidence supports {l}.
Nothing supports {l}.
Why would it be {l}?
What about {l}?
How about {l}?
Should I choose {l}?
Should I choose {l} or {n}?
Assuming {l} is correct, he walks.
If {l} is correct, he walks.
Suppose the answer is {l}.
Please choose {l}, {n} or {m}.
Please select one of A, B, C, D.
You must choose A, B, C or D.
The possible answers are {l} and {n}.
The candidates are {l} and {n}.
I narrowed it down to {l} and {n}.
I would need to see more to choose between {l} and {n}.
The frames are too dark to see. I cannot pick an option.
I can't access the video, so I'm unable to answer.
I'm sorry, I cannot identify people in videos.
The provided frames do not contain the information needed.
It is impossible to say.
I refuse to answer.
No comment.
There's insufficient evidence to select an option.
Answer: Not enough information
Answer: None
The answer is: None of the options.
The correct answer is that it cannot be known.
The answer is hard to tell
**Answer**: unable to determine
答案：不知道
答案是无
以上都不是
没有一个选项是正确的
不确定
情報が不足しています。
모르겠습니다
No puedo determinarlo.
Je ne peux pas répondre.
Ich kann das nicht beantworten.
Não é possível determinar.
Невозможно определить.
Okay, let me look at this. The video starts with {t}, then
The user asks which option is right. Let me consider {l}: {t}. The
To determine the answer, I will look at each option. {l}
Looking at option {l}, the
So, the final answer would be
Therefore, the correct option is **
The answer is option
答案是
正确答案是：
정답은
The best answer is "
Answer: The
""")

# The option's text is read.
TEXT = _forms("""
{t}
{t}.
"{t}"
“{t}”
'{t}'
**{t}**
*{t}*
`{t}`
({t})
[{t}]
- {t}
{t}!
The answer is {t}.
The answer is "{t}".
The answer is '{t}'.
The answer is: {t}
The answer is **{t}**.
The correct answer is {t}.
The correct answer is: **{t}**
The correct option is "{t}".
The correct answer is "{t}", as the video shows.
Answer: {t}
Answer: "{t}"
Answer: **{t}**
**Answer:** {t}
Final answer: {t}
Final Answer: **{t}**
### Answer⏎{t}
\\boxed{{{t}}}
\\boxed{{\\text{{{t}}}}}
$\\boxed{{\\text{{{t}}}}}$
<answer>{t}</answer>
<answer>{t}.</answer>
<answer>"{t}"</answer>
{{"answer": "{t}"}}
{{"final_answer": "{t}"}}
{{"answer": "{t}", "confidence": 0.9}}
```json⏎{{"answer": "{t}"}}⏎```
<think>{u}</think>{t}
<think>{u}</think>⏎⏎The answer is {t}.
I choose "{t}".
I choose: {t}
I would choose "{t}".
Based on the video, the answer is "{t}".
答案是{t}
答案：{t}
答案是“{t}”。
正确答案是：{t}
정답: {t}
La respuesta es {t}
Réponse : {t}
Antwort: {t}
{T}
{T}.
The answer is {T}.
Answer: {T}
<|begin_of_box|>{t}<|end_of_box|>
{t}<|im_end|>
Option: {t}
The best option is "{t}".
My answer is "{t}".
So the answer is "{t}".
""")
