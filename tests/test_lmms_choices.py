"""Our lmms-eval protocol against lmms-eval itself, for the newer benchmarks with options or short answers."""

from __future__ import annotations

import inspect
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import responses
from choice_files import (
    TEMPCOMPASS_FORMATS,
    VIDEOMMMU_TRACKS,
    Rows,
    cgbench_rows,
    egoschema_rows,
    mmvu_rows,
    motionbench_rows,
    perceptiontest_rows,
    tempcompass_rows,
    tomato_rows,
    tomato_table,
    videomme_v2_rows,
    videommmu_rows,
    write_cgbench,
    write_egoschema,
    write_mmvu,
    write_motionbench,
    write_parquet,
    write_perceptiontest,
    write_tempcompass,
    write_videomme_v2,
    write_videommmu,
)
from needle_files import (
    COUNT_LENGTHS,
    count_rows,
    recall_rows,
    timescope_rows,
    videoeval_pro_rows,
    write_count,
    write_recall,
    write_timescope,
    write_videoeval_pro,
)
from test_lmms_agreement import Theirs

from vamba_eval import Question, Task, Video, load_task
from vamba_eval.contracts import ScoredRecord
from vamba_eval.score.statistics import summarize


@dataclass
class Both:
    """The same questions in our task and in theirs; ``pairs`` has each of ours with their document.

    share    their headline for a perfect model
    leaves   whether their headline leaves out empty responses, which we count as wrong
    """

    ours: Task
    theirs: Theirs
    pairs: list[tuple[Video, Question, dict[str, Any]]]
    share: float = 1.0
    leaves: bool = False

    @classmethod
    def of(
        cls,
        name: str,
        file: str,
        root: Path,
        documents: Rows,
        ids: list[str],
        *,
        split: str | None = None,
        metric: str | None = None,
        **about: Any,
    ) -> Both:
        ours = load_task(name)
        known = {question.id: (video, question) for video in ours.load(root, split) for question in video.questions}
        theirs = Theirs(file, documents, root, metric)
        pairs = [(*known[id], d) for id, d in zip(ids, theirs.documents, strict=True)]
        return cls(ours, theirs, pairs, **about)

    def aggregate(self, results: list[Any]) -> float:
        takes = len(inspect.signature(self.theirs.aggregate).parameters)
        figure = self.theirs.aggregate(results, *[None] * (takes - 1))  # some want the command's arguments too
        return float(figure["overall"] if isinstance(figure, dict) else figure)

    def is_right(self, document: dict[str, Any], response: str, question: Question) -> bool:
        result = self.theirs.result(document, response, question)
        if "videomme_v2" in self.ours.name:  # one right answer of a chain may be worth nothing
            return bool(result["score"])
        return self.aggregate([result]) > 0

    @property
    def ruled(self) -> list[tuple[Video, Question, dict[str, Any]]]:
        """Those that no judge grades."""
        return [pair for pair in self.pairs if not self.ours.needs_judge(pair[1])]


def videommmu(root: Path, track: str, file: str = "") -> Both:
    rows = {each: videommmu_rows(each, 25) for each in VIDEOMMMU_TRACKS}
    rows[track][3]["options"] = [f"{letter}.  {n}" for n, letter in enumerate("ABCD")]
    rows[track][3]["answer"] = "B"
    if track == "Adaptation":
        rows[track][7]["question_type"] = None  # as one published row
    write_videommmu(root, rows)
    way = file or track.lower()
    split = "knowledge_gain" if file else None
    ids = [f"{row['id']}_{way}" for row in rows[track]]
    yaml = f"videommmu/{'adaptation_' if file else ''}{way}.yaml"
    return Both.of("videommmu", yaml, root, rows[track], ids, split=split, leaves=True)


def mmvu(root: Path) -> Both:
    rows = mmvu_rows(24)
    folder = write_mmvu(root, rows, as_parquet=True)
    documents = [{**row, "video_path": f"{folder}/videos/{row['video'].partition('/videos/')[2]}"} for row in rows]
    return Both.of("mmvu", "mmvu/mmvu_val.yaml", root, documents, [row["id"] for row in rows], share=100)


def egoschema(root: Path) -> Both:
    rows = egoschema_rows(20)
    write_egoschema(root, rows)
    file = "egoschema/egoschema_subset.yaml"
    return Both.of("egoschema", file, root, rows, [row["video_idx"] for row in rows])


def perceptiontest(root: Path) -> Both:
    rows = perceptiontest_rows(20)
    write_perceptiontest(root, rows)
    file = "perceptiontest/val/perceptiontest_mc.yaml"
    ids = [f"{row['video_name']}_{row['question_id']}" for row in rows]
    return Both.of("perceptiontest", file, root, rows, ids)


def tomato(root: Path) -> Both:
    rows = tomato_table([*tomato_rows("count", 9), *tomato_rows("visual_cues", 9)])
    write_parquet(root / "tomato" / "data" / "test-00000-of-00001.parquet", rows)
    return Both.of("tomato", "tomato/tomato.yaml", root, rows, [row["id"] for row in rows])


def motionbench(root: Path) -> Both:
    rows = motionbench_rows(16)
    rows[0]["qa"][0]["question"] = " How?\n\n A) up\n B) down\nand  up\n C) no\n"
    write_motionbench(root, rows)
    ids = [asked["uid"] for row in rows for asked in row["qa"] if asked["answer"] != "NA"]
    file = "motionbench/motionbench_full.yaml"
    return Both.of("motionbench", file, root, rows, ids, metric="motionbench_acc")


def cgbench(root: Path) -> Both:
    rows = cgbench_rows(24)
    write_cgbench(root, rows)
    return Both.of("cgbench", "cgbench/cgbench.yaml", root, rows, [str(row["qid"]) for row in rows], share=100)


def tempcompass(root: Path, form: str) -> Both:
    """Its rules alone: what they leave to a judge is wrong there too."""
    rows = {each: tempcompass_rows(each, 20) for each in TEMPCOMPASS_FORMATS}
    if form == "multi-choice":
        rows[form][3] |= {"question": "Which?\nA. dancing\nB. kissing\nC.Both\n D. none", "answer": "C.Both"}
    write_tempcompass(root, rows)
    ids, places = [], Counter[str]()
    for row in rows[form]:
        place = f"{row['video_id']}_{form}_{row['dim']}"
        ids.append(f"{place}_{places[place]}")
        places[place] += 1
    file = f"tempcompass/tempcompass_{'mc' if form == 'multi-choice' else form}.yaml"
    both = Both.of("tempcompass", file, root, rows[form], ids, metric="avg_accuracy", share=100)
    both.theirs.globals["get_eval_result"] = lambda prompt: ("Incorrect", 0)
    return both


def videomme_v2(root: Path, file: str = "videomme_v2") -> Both:
    rows = videomme_v2_rows(12)
    folder = write_videomme_v2(root, rows, subtitles=True)
    ours = "videomme_v2_subtitles" if "subtitle" in file else "videomme_v2"
    ids, metric = [row["question_id"] for row in rows], "videomme_v2_overall_score"
    both = Both.of(ours, f"videomme_v2/{file}.yaml", root, rows, ids, metric=metric, share=100)
    places = {"base_cache_dir": str(folder.parent), "cache_name": folder.name}
    both.theirs.task.config.doc_to_text.__globals__.update(places)
    return both


def timescope(root: Path, name: str = "timescope") -> Both:
    rows = timescope_rows(20)
    rows[5]["answer"] = rows[5]["answer"].lower()
    write_timescope(root, rows, name)
    return Both.of(name, f"{name}/{name}.yaml", root, rows, [row["id"] for row in rows], share=100)


def longtimescope(root: Path) -> Both:
    return timescope(root, "longtimescope")


def videoeval_pro(root: Path, way: str = "choice") -> Both:
    rows = videoeval_pro_rows(20)
    rows[3]["options"][1] += " "
    write_videoeval_pro(root, rows)
    name = {"choice": "multiple-choice", "open": "open-ended"}[way]
    file = f"videoevalpro/videoevalpro{'_mcq' if way == 'choice' else ''}.yaml"
    return Both.of("videoeval_pro", file, root, rows, [f"{n}_{name}" for n in range(20)], split=way)


def vsi_super_recall(root: Path) -> Both:
    rows = recall_rows("30mins", 20)
    write_recall(root, {"30mins": rows})
    ids = [f"30mins_{n}" for n in range(20)]
    return Both.of("vsi_super_recall", "vsisuper/recall/vsr_30mins.yaml", root, rows, ids, split="30mins")


BENCHMARKS: dict[str, Callable[[Path], Both]] = {
    **{f"videommmu, {track}": lambda root, track=track: videommmu(root, track) for track in VIDEOMMMU_TRACKS},
    "videommmu, question only": lambda root: videommmu(root, "Adaptation", "question_only"),
    **{each.__name__: each for each in (mmvu, egoschema, perceptiontest, tomato, motionbench, cgbench)},
    **{
        f"tempcompass, {form}": lambda root, form=form: tempcompass(root, form)
        for form in TEMPCOMPASS_FORMATS
        if form != "captioning"
    },
    **{each.__name__: each for each in (timescope, longtimescope, videoeval_pro, vsi_super_recall)},
    "videomme_v2": videomme_v2,
    "videomme_v2, with subtitles": lambda root: videomme_v2(root, "videomme_v2_w_subtitle"),
}
DRAWN = {"egoschema"}


@pytest.fixture(params=BENCHMARKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def both(name: str, tmp_path: Path) -> Both:
    return BENCHMARKS[name](tmp_path)


def test_prompts(both: Both) -> None:
    for video, question, document in both.pairs:
        assert both.ours.prompt(video, question, "lmms-eval", None) == both.theirs.prompt(document)
        for instruction in both.ours.instructions(question, "lmms-eval"):
            assert instruction in both.theirs.prompt(document)


def test_generation_settings(both: Both) -> None:
    settings = dict(both.theirs.task.config.generation_kwargs)
    ours = both.ours.generation("lmms-eval")
    # Where its file sets no limit, models do; 128 is that of its adapter for Qwen2-VL.
    assert ours.max_new_tokens == settings.pop("max_new_tokens", 128)
    assert not ours.do_sample and not settings.pop("do_sample", False)
    assert settings.pop("until") == list(ours.until)


def stated(answer: str | None, seed: int, count: int) -> Iterator[str]:
    """Short answers in many forms, right and wrong ones."""
    rng = random.Random(seed)
    texts = [answer or "", (answer or "").upper(), "12.97", "12.970", "12.974", "1,200", "3.1e-5", "7,243,000", "-4"]
    texts += ["24/7", "x", "x = 5", "the left ventricle", "nan", "inf", ".5", "5.", "", "A"]
    frames = ["{}", "The answer is {}.", "So it is {}\nNo", "= {}", "We get y = {}", "total {} m", "It has {}, {}"]
    frames += ["<think>{}</think>{}", "{}\n\n{}", "is \nThus {}", "Therefore  {} .", "so {} is {}", "final :", "{} kg."]
    for _ in range(count):
        frame = "\n".join(rng.choice(frames) for _ in range(rng.choice([1, 1, 2, 3])))
        yield frame.replace("{}", "%s") % tuple(rng.choice(texts) for _ in range(frame.count("{}")))


def yes_or_no(seed: int, count: int) -> Iterator[str]:
    rng = random.Random(seed)
    words = [
        "yes",
        "no",
        "Yes",
        "NO",
        "Yes.",
        "nobody",
        "not",
        "none",
        "maybe",
        "it is",
        "the answer is",
        "*",
        " ",
        "\n",
    ]
    for _ in range(count):
        yield "".join(rng.choices(words, k=rng.choice([1, 1, 2, 4])))


def matching(question: Question, seed: int, count: int) -> Iterator[str]:
    rng = random.Random(seed)
    labels = [*question.extra["labels"], "A", "B", "1", "2", "C"]
    for _ in range(count):
        label, option = rng.choice(labels), rng.choice(question.options)
        forms = [
            "{0}",
            "{0}.",
            "{0}: {1}",
            "{1}",
            "A) {1}",
            "({0}) {1}",
            "{0}) {1}",
            "It is {0}",
            "{0} {1}",
            " {0}",
            "",
        ]
        yield rng.choice(forms).format(label, option)


def test_scores(name: str, both: Both) -> None:
    outcomes: Counter[str] = Counter()

    def compare(question: Question, document: dict[str, Any], said: Iterable[str]) -> None:
        for response in said:
            score = both.ours.score(question, response, "lmms-eval")
            right = both.is_right(document, response, question)
            assert score.correct == right, (response, question.options, question.answer)
            assert score.drawn is (both.theirs.drawn_from is not None), response
            if score.drawn:
                assert not score.parsed
            outcomes["drawn" if score.drawn else "right" if score.correct else "wrong"] += 1

    for i, (_, question, document) in enumerate(both.ruled):
        if "yes_no" in name:
            compare(question, document, yes_or_no(i, 100))
        elif "caption_matching" in name:
            compare(question, document, matching(question, i, 100))
        elif not question.options:
            compare(question, document, stated(question.answer, i, 200))
        elif i < 6:
            compare(question, document, responses.about(question.options))
            compare(question, document, responses.composed(i, 300, question.options))
    for _, question, document in both.ruled[1:3]:
        compare(question, document, responses.systematic())
    assert set(outcomes) == {"right", "wrong", *(["drawn"] if name in DRAWN else [])}
    assert min(outcomes.values()) > 150, outcomes


@pytest.mark.parametrize("seed", range(2))
def test_headlines(both: Both, seed: int) -> None:
    rng = random.Random(seed)
    said = list(responses.composed(seed, 200))
    records, results = [], []
    for video, question, document in both.ruled:
        wanted = f"({question.answer})" if question.options else f"It is {question.answer}"
        if both.ours.name.startswith(("tempcompass", "videomme_v2")):
            wanted = document["answer"]
        response = wanted if rng.random() < 0.4 else rng.choice(said)
        if both.leaves and not both.theirs.stripped(response):
            response = "none"
        score = both.ours.score(question, response, "lmms-eval")
        records.append(ScoredRecord(question.id, video.id, question.groups, score, question=question))
        results.append(both.theirs.result(document, response, question))
    summary = summarize(both.ours.measures, records)
    if "track" in records[0].groups or both.ours.name != "videommmu":
        assert both.share * summary.headline[1].value == pytest.approx(both.aggregate(results), abs=0.5e-5)
        assert 0 < summary.headline[1].value < 1
    else:
        assert not summary.metrics, "exercises without the lectures alone make no headline, and no gain"


def test_captions_are_graded_as_there(tmp_path: Path) -> None:
    """What a judge says of TempCompass's captions."""
    both = tempcompass(tmp_path, "captioning")
    for video, question, document in both.pairs:
        assert both.ours.prompt(video, question, "lmms-eval", None) == both.theirs.prompt(document)
    _, question, document = both.pairs[0]
    said = ["Reasoning: x\nAnswer: B. dunking", "B. dunking", "Answer: A. passing\nAnswer: B. dunking", "Answer: B"]
    said += ["Answer: B. dunking, not A. passing", "Answer: None of the choices are correct", "**Answer:** B. dunking"]
    ratings = []
    for text in said:
        asked: list[str] = []
        rating = both.theirs.globals["parse_llm_output_for_captioning"](text, document["mc_answer"])["rating"]

        def ask(messages: Any, text: str = text, asked: list[str] = asked, **options: Any) -> str:
            asked.append(messages[1]["content"])
            return text

        score = both.ours.grade(question, both.ours.judge(question, "A man dunks.", ask))
        assert score.values == {"correct": float(rating)}, text
        assert asked[0].endswith(
            "\nVideo Description:A man dunks.\nMulti-Choice Question:\nWhat is he doing?\nA. passing\nB. dunking\n"
        )
        ratings.append(rating)
    assert 0 < sum(ratings) < len(ratings)


@pytest.mark.parametrize("seed", range(6))
def test_groups_are_scored_as_there(seed: int, tmp_path: Path) -> None:
    """Video-MME-v2's figures, from few right answers to many."""
    both = videomme_v2(tmp_path)
    rng, share = random.Random(seed), (seed + 1) / 7
    records, results = [], []
    for video, question, document in rng.sample(both.pairs, len(both.pairs)):
        response = question.answer if rng.random() < share else "none"
        score = both.ours.score(question, response or "", "lmms-eval")
        records.append(ScoredRecord(question.id, video.id, question.groups, score, question=question))
        results.append(both.theirs.result(document, response or "", question))
    theirs = both.theirs.globals["_compute_all_subscores"](results)
    summary = summarize(both.ours.measures, records)
    metrics = {name: 100 * metric.value for name, metric in summary.metrics.items()}
    names = {"group score": "overall", "relevance": "relevance", "logic": "logic"}
    assert {each: metrics[each] for each in names} == pytest.approx({a: theirs[f"{b}_score"] for a, b in names.items()})
    assert metrics["accuracy"] == pytest.approx(theirs["overall_acc"])
    levels = {level: 100 * metric.value for level, metric in summary.breakdowns["level"].items()}
    assert levels == pytest.approx({level: theirs[f"level_{level}_score"] for level in "123"})
    assert 0 < metrics["group score"] < 100


def test_free_text_is_asked_and_graded_as_there(tmp_path: Path) -> None:
    """VideoEval-Pro's: what a judge is asked, but for spaces at the ends of lines, and what its letter is worth."""
    both = videoeval_pro(tmp_path, "open")
    for video, question, document in both.pairs:
        assert both.ours.prompt(video, question, "lmms-eval", None) == both.theirs.prompt(document)
    _, question, document = both.pairs[1]
    asked: list[str] = []
    for said in ("A", "B", "C", " a.", "b", "C: NOT_ATTEMPTED", "A: CORRECT"):

        def ask(messages: Any, said: str = said, **options: Any) -> str:
            asked.append(messages[0]["content"])
            return said

        score = both.ours.grade(question, both.ours.judge(question, "It is {red}.", ask))
        assert score.correct == both.theirs.globals["_parse_abc_response"](said).score, said
    there = both.theirs.globals["VIDEOEVALPRO_JUDGE_PROMPT"].format(
        question=document["question"], ground_truth=document["answer_text"], prediction="It is {red}."
    )
    assert [line.rstrip() for line in asked[0].split("\n")] == [line.rstrip() for line in there.split("\n")]


@pytest.mark.parametrize("length", COUNT_LENGTHS)
def test_counts_are_worth_what_they_are_there(length: str, tmp_path: Path) -> None:
    rows = [row for row in count_rows(length, 12) if row["split"] == length]
    rows[3]["answer"] = 0
    write_count(tmp_path, {length: rows})
    ids = [f"{length}_{n}" for n in range(12)]
    both = Both.of("vsi_super_count", f"vsisuper/count/vsc_{length}.yaml", tmp_path, rows, ids, split=length)
    settings = both.theirs.task.config.generation_kwargs
    assert both.ours.generation("lmms-eval").max_new_tokens == settings["max_new_tokens"]
    rng, seen = random.Random(length), Counter[float]()
    frames = ["{}", "{}.", "There are {} of them", "<think>{}</think>{}", "-{}", "{},{}", "{} or {}", "none", "", "1{}"]
    for video, question, document in both.pairs:
        assert both.ours.prompt(video, question, "lmms-eval", None) == both.theirs.prompt(document)
        for _ in range(400):
            frame, target = rng.choice(frames), document["answer"]
            numbers = [rng.choice([target, rng.randint(0, 2 * target + 2), f"{rng.uniform(0, 2 * target):.2f}"])] * 2
            response = frame.format(*numbers)
            score = both.ours.score(question, response, "lmms-eval")
            assert score.values["mra"] == both.theirs.result(document, response, question), (response, target)
            seen[round(score.values["mra"], 1)] += 1
    assert len(seen) == 11, "from none of the levels to all ten"
