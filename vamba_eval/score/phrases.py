"""Words with which a response tells its answer, in the languages that models answer in. All in lower case."""

from __future__ import annotations

import unicodedata


def _words(text: str) -> tuple[str, ...]:
    """In the characters of a response that is made plain: Thai vowels, for one, are written in two ways."""
    text = unicodedata.normalize("NFKC", text)
    return tuple(word.strip() for word in text.replace("\n", ",").split(",") if word.strip())


# "Answer: B", "the answer is B".
ANSWER_NOUNS = _words("""
    answer, answers, ans, conclusion, prediction, guess, solution
    答案, 正解, 答え, 解答, 回答, 정답, 답
    respuesta, réponse, reponse, antwort, lösung, resposta, risposta, ответ, відповідь
    đáp án, câu trả lời, cevap, cevabı, yanıt, الإجابة, الاجابة, إجابة, الجواب, جواب, پاسخ
    उत्तर, जवाब, jawaban, jawabannya, jawapan, antwoord, odpowiedź, คำตอบ, svar, svaret, odpověď, উত্তর, התשובה, תשובה
    απάντηση, vastaus, válasz, răspuns, răspunsul, odgovor, отговор, отговорът, sagot, jibu, பதில், సమాధానం, yanıtı
    결론, 답변, 结论, 結論, decision, verdict, selection, pick
""")
# No answer by itself: it takes one of the qualifiers before it, or a verb or a colon behind it.
OPTION_NOUNS = _words("""
    option, choice, letter, result, response, match, 选项, 選項, 选择, 選択肢, 옵션, 선택지, 보기
    opción, opcion, opção, opcao, opzione, alternativa, choix, вариант, lựa chọn, seçenek
    الخيار, विकल्प, pilihan, optie, letra, lettre, lettera, buchstabe
""")
QUALIFIERS = _words("""
    correct, right, best, final, my, accurate, appropriate, suitable, fitting, likely, true, closest, better
    正确, 正確, 最佳, 最终, 正しい, correcta, correcto, bonne, exacte, richtige, korrekte, correta
    最符合, 最合适, 最接近, 最可能, 最恰当, 最適切, 最も適切
    certa, corretta, giusta, правильный, верный, đúng, doğru, الصحيحة, الصحيح, सही, benar
""")
VERBS = _words("""
    choose, chose, chosen, choosing, pick, picked, picking, select, selected, selecting
    go with, going with, opt for, opting for, vote for, settle on, settled on, lean towards, lean toward
    leaning towards, leaning toward, settled for, settle for, decided on, decide on, opted for, voting for
    i vote, my vote goes to, my vote is for, i'll take, i'd take, i suggest
    故选, 应选, 應選, 选, 選, 选择, 選擇, 应选择, 应该选, 应该选择
    chọn, elijo, escolho, scelgo, je choisis, ich wähle, выбираю
""")
# They replace what was said before.
CORRECTIONS = (*_words("but, wait, actually, no, yes, rather, correction, instead, sorry, 而是"), ",是")
CONCLUSIONS = _words("""
    so, therefore, thus, hence, consequently, it is, it's, must be, i think, i believe, i'd say
    i would say, i guess, indicates, indicate, points towards, points to, matches, corresponds to, supports
    concluded, 所以, 因此
    this is, that is, that's, which is, this means, makes, making, leaves, leaving, left with, looks like, look like
    seems like, has to be, appears to be, suggests, confirms, identified, consider, find, c'est, es ist, ergo, remains
    fits best
    i will say, going to say, can only be, 应该是, 觉得是, 就是
    i say, would be, should be, seems to be, i will answer, i'll answer, i would answer, i'd answer
""")
COPULAS = _words("""
    is, are, was, be, would, should, must, will, seems, appears, to, comes, out, as, with
    es, est, ist, é, è, lautet, это, là, هي, هو, है, adalah, jest, är, je, คือ, 's, היא, הוא, είναι, on, este, er, е, ay
    是, 就是, 为, 為, 係, 应该, 應該, 应, は, が, 은, 는, 이, 가, sería, serait, wäre, seria, sarebbe
""")
# What may stand between an answer's noun or verb and its letter, and says nothing.
FILLERS = _words("""
    the, this, that, it, option, choice, answer, letter, question, here, above, correct, right
    best, final, most, likely, probably, clearly, definitely, therefore, thus, then, hence, i
    think, believe, indeed, obviously, certainly, simply, just, of, in, for, on, video, given
    number, labeled, labelled, marked, accurate, appropriate, one, my, i'd, say, so, would
    clear, obvious, simple, follows, still, again, actually, maybe, perhaps, possibly, only, it's, both, either, us
    with, that's, be, is, of course, i'm, am, sure, confident, certain, esatta, corect, finale, donc, ответа
    chính, xác, ที่ถูกต้อง
    הנכונה, صحیح
    la, le, el, die, der, das, il, a, l'opzione, l'option, opción, opcion, letra
    opção, opcao, opzione, alternativa, lettre, lettera, buchstabe, choix, вариант, буква
    correcta, correcto, correcte, exacte, bonne, richtige, richtig, correta, certa, corretta, giusta
    правильный, верный, đúng, đáp, án, doğru, şık, seçenek, الصحيحة, الصحيح, الخيار, सही
    विकल्प, 选项, 選項, 項, 项, 选, 正确, 的, 选择, 番, 選択肢, 옵션, 선택지, 보기, 번, yang, benar
""")
# Fields of JSON that hold an answer.
KEYS = _words("""
    answer, final_answer, final answer, finalanswer, choice, option, selected_option, selected, letter
    correct_answer, correct_option, best_answer, best_option, selected_answer, predicted_answer
    answer_choice, label, output, ans, prediction, result, response, answer_letter, answer_index, selection, 答案
""")
