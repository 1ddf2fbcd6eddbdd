"""Our lmms-eval protocol against lmms-eval itself: its own tasks on the same documents and responses."""

from __future__ import annotations

import ast
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import responses
from benchmark_files import (
    MVBENCH_TASKS,
    NEXTQA_COUNTS,
    longvideobench_rows,
    lvbench_rows,
    lvbench_videos,
    mvbench_rows,
    nextqa_rows,
    videomme_rows,
    write_longvideobench,
    write_lvbench,
    write_mvbench,
    write_nextqa,
    write_videomme,
)

from vamba_eval import Question, Task, Video, load_task
from vamba_eval.contracts import ScoredRecord, Summary
from vamba_eval.score.statistics import summarize

with pytest.MonkeyPatch.context() as patch:
    patch.setitem(sys.modules, "nltk", None)  # with it, NExT-QA's module fetches word lists (for the open-ended task)
    import lmms_eval.tasks
    from lmms_eval import utils as lmms_utils
    from lmms_eval.api.reasoning import parse_reasoning_tags_config, strip_reasoning_tags
    from lmms_eval.api.task import ConfigurableTask
    from loguru import logger

LMMS_TASKS = Path(lmms_eval.tasks.__file__).parent

OPTIONS = [
    ["walk up", "sit, then stand", "no", "a (red) door."],
    ["red", "dark red", "Red.", "the answer is B"],
    ["I do not know", "(A) man", "D. none", "一只猫"],
    ["12", "1,200", "3.5 times", "'once'"],
]
FIVE_OPTIONS = [
    ["clap proudly", "the lady sitting down", "lay on floor", "just picked it up", "crawl"],
    ["no", "a dog", "dog", " happy ", "A (red) ball"],
    ["bear", "black bear", "Brown Bear", "bear", "eleven"],  # two are equal, as in published rows
]


class Theirs:
    """A task of lmms-eval, made from its own file as its command makes it, but for where the documents are from."""

    def __init__(self, file: str, documents: Sequence[dict[str, Any]], folder: Path, metric: str | None = None) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "nltk", None)
            config = lmms_utils.load_yaml_config(LMMS_TASKS / file)
        path = folder / f"{config['task']}.jsonl"
        path.write_text("".join(json.dumps(document) + "\n" for document in documents), encoding="utf-8")
        config |= {"dataset_path": "json", "dataset_kwargs": {"data_files": {config["test_split"]: str(path)}}}
        config.pop("dataset_name", None)
        self.task = ConfigurableTask(config=config, model_name="any model without arguments of its own")
        self.documents = list(self.task.test_docs())
        aggregations = self.task.aggregation()
        (self.metric,) = [metric] if metric else aggregations  # some report several figures
        self.aggregate = aggregations[self.metric]
        self.drawn_from: list[str] | None = None
        self.draws_as = ""
        self.globals = config["process_results"].__globals__
        if "random" in self.globals:
            self.globals["random"] = SimpleNamespace(choice=self._draw)

    def _draw(self, choices: Sequence[str]) -> str:
        """In place of its unseeded draw; the same option as ours, so that all that follows can be compared."""
        self.drawn_from = list(choices)
        return random.Random(self.draws_as).choice(choices)

    def prompt(self, document: dict[str, Any]) -> str:
        return self.task.fewshot_context(document, 0)

    def result(self, document: dict[str, Any], response: str, question: Question) -> Any:
        """What its evaluator makes of a response, by its command's defaults."""
        self.drawn_from, self.draws_as = None, question.id
        return self.task.process_results(document, [self.stripped(response)])[self.metric]

    @staticmethod
    def stripped(response: str) -> str:
        return strip_reasoning_tags(response, REASONING_TAGS)


def _default_reasoning_tags() -> list[list[str]]:
    from lmms_eval.__main__ import parse_eval_args

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lmms_eval"])
        return parse_reasoning_tags_config(cli_value=parse_eval_args()[1].reasoning_tags)


REASONING_TAGS = _default_reasoning_tags()


@dataclass
class Both:
    """The same questions in our task and in theirs; ``pairs`` has each of ours with their document."""

    ours: Task
    theirs: Theirs
    pairs: list[tuple[Video, Question, dict[str, Any]]]

    @classmethod
    def of(cls, name: str, file: str, root: Path, documents: list[dict[str, Any]], ids: list[str]) -> Both:
        ours = load_task(name)
        known = {question.id: (video, question) for video in ours.load(root) for question in video.questions}
        theirs = Theirs(file, documents, root)
        return cls(ours, theirs, [(*known[id], d) for id, d in zip(ids, theirs.documents, strict=True)])


def options_of(i: int) -> list[str]:
    return OPTIONS[i % len(OPTIONS)]


def videomme(root: Path) -> Both:
    rows = videomme_rows(12)
    for i, row in enumerate(rows):
        row["options"] = [f"{letter}. {option}" for letter, option in zip("ABCD", options_of(i), strict=True)]
    write_videomme(root, rows)
    return Both.of("videomme", "videomme/videomme.yaml", root, rows, [row["question_id"] for row in rows])


def mlvu(root: Path) -> Both:
    rows = []
    for kind in ("plotQA", "needle", "ego", "count", "order", "anomaly_reco", "topic_reasoning"):
        for i in range(2 + len(kind) % 3):
            options = "\n".join(f"({letter}) {option}" for letter, option in zip("ABCD", options_of(i), strict=True))
            text = f"{kind} {i}?\n{options}"
            row = {"video_name": f"{kind}_{i}.mp4", "question": text, "answer": "ABCD"[i % 4], "task_type": kind}
            rows.append({**row, "question_id": f"{kind}-{i}"})
    folder = root / "mlvu"
    folder.mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "test-00000-of-00001.parquet")
    return Both.of("mlvu", "mlvu/mlvu_dev.yaml", root, rows, [row["question_id"] for row in rows])


def longvideobench(root: Path) -> Both:
    rows = longvideobench_rows(24)
    for i, row in enumerate(rows):
        row["candidates"] = [*options_of(i), "five"][: len(row["candidates"])]
    write_longvideobench(root, rows)
    documents = []
    for row in rows:
        listed = {f"option{n}": row["candidates"][n] if n < len(row["candidates"]) else "N/A" for n in range(5)}
        documents.append({**{key: value for key, value in row.items() if key != "candidates"}, **listed})
    file = "longvideobench/longvideobench_val_v.yaml"
    return Both.of("longvideobench", file, root, documents, [row["id"] for row in rows])


def lvbench(root: Path, shape: str) -> Both:
    """With the options in the text, in a column, or in both, where lmms-eval shows them twice."""
    rows = lvbench_rows(lvbench_videos(3, 24), "video_path", options=shape == "column")
    for i, row in enumerate(rows):
        if shape != "text":
            row["options"] = options_of(i)
    write_lvbench(root, rows, "data/train-00000-of-00001.parquet")
    return Both.of("lvbench", "lvbench/lvbench.yaml", root, rows, [row["uid"] for row in rows])


def mvbench(root: Path, kind: str) -> Both:
    rows = mvbench_rows(kind, 8)
    rows[5] |= {"candidates": ["one", "two", "two", "three"], "answer": "two"}
    # It finds no letter beyond E, but a lone one.
    rows[6] |= {"candidates": [f"thing {n}" for n in range(7)], "answer": "thing 5"}
    rows[7] |= {"candidates": ["one alone"], "answer": "one alone"}
    write_mvbench(root, 1, {kind: rows})
    return Both.of("mvbench", f"mvbench/mvbench_{kind}.yaml", root, rows, [f"{kind}-{i}" for i in range(len(rows))])


def nextqa(root: Path) -> Both:
    rows = nextqa_rows(5, dict.fromkeys(NEXTQA_COUNTS, 3))
    for i, row in enumerate(rows):
        row |= {f"a{n}": option for n, option in enumerate(FIVE_OPTIONS[i % 3])}
    rows[3]["question"] = " why  is it so "
    write_nextqa(root, rows)
    return Both.of("nextqa", "nextqa/nextqa_mc_test.yaml", root, rows, [f"{row['video']}_{row['qid']}" for row in rows])


BENCHMARKS: dict[str, Callable[[Path], Both]] = {
    "videomme": videomme,
    "mlvu": mlvu,
    "longvideobench": longvideobench,
    "lvbench, options in the text": lambda root: lvbench(root, "text"),
    "lvbench, options in a column": lambda root: lvbench(root, "column"),
    "lvbench, options in both": lambda root: lvbench(root, "both"),
    **{f"mvbench, {kind}": lambda root, kind=kind: mvbench(root, kind) for kind in MVBENCH_TASKS},
    "nextqa": nextqa,
}
# One of each rule suffices where responses are scored by thousands.
SCORED = ["videomme", "mlvu", "longvideobench", "lvbench, options in the text", "mvbench, action_antonym", "nextqa"]


@pytest.fixture(params=BENCHMARKS)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Both:
    return BENCHMARKS[request.param](tmp_path)


def is_right(result: Any) -> bool:
    """What each of its tasks calls right; some leave the comparison to the aggregation."""
    if not isinstance(result, dict):
        return bool(result)
    if "score" in result:
        return bool(result["score"])
    return result["answer"] == result.get("parsed_pred", result.get("pred_answer"))


def test_every_task_of_lmms_evals_is_compared() -> None:
    from test_lmms_choices import BENCHMARKS as CHOICES

    from vamba_eval import registry

    named = {name for name in registry.names(Task) if (LMMS_TASKS / name).is_dir()}
    grounding = {"charades_sta", "timelens"}  # test_grounding.py
    compared = {name.partition(",")[0] for name in (*BENCHMARKS, *CHOICES)}
    called_otherwise = {"videoeval_pro", "vsi_super_recall"}
    assert named | called_otherwise == compared | grounding
    assert all("lmms-eval" in load_task(name).protocols for name in named)
    assert "lmms-eval" not in load_task("hourvideo").protocols


def test_prompts(both: Both) -> None:
    for video, question, document in both.pairs:
        assert both.ours.prompt(video, question, "lmms-eval", None) == both.theirs.prompt(document)


def test_generation_settings(both: Both) -> None:
    settings = dict(both.theirs.task.config.generation_kwargs)
    ours = both.ours.generation("lmms-eval")
    # Where its file sets no limit (NExT-QA), models do; 128 is that of its adapter for Qwen2-VL.
    assert ours.max_new_tokens == settings.pop("max_new_tokens", 128)
    assert not ours.do_sample and not settings.pop("do_sample", False)
    assert settings.pop("until") == list(ours.until), "some models' adapters cut the response there, and so do we"
    assert settings.pop("temperature", 0) == 0 and settings.pop("top_p", 1) == settings.pop("num_beams", 1) == 1
    assert not settings


@pytest.mark.parametrize("name", SCORED)
def test_scores(name: str, tmp_path: Path) -> None:
    both = BENCHMARKS[name](tmp_path)
    outcomes: Counter[str] = Counter()

    def compare(question: Question, document: dict[str, Any], said: Iterable[str]) -> None:
        letters = responses.LETTERS + "FG"
        for response in said:
            result = both.theirs.result(document, response, question)
            score = both.ours.score(question, response, "lmms-eval")
            assert score.correct == is_right(result), (response, question.options, question.answer)
            assert score.drawn is (both.theirs.drawn_from is not None), response
            if score.drawn:
                assert both.theirs.drawn_from == list(letters[: len(question.options)]) and not score.parsed
            predicted = result.get("parsed_pred", result.get("pred_answer")) if isinstance(result, dict) else None
            if predicted is not None and "mvbench" not in name:  # which keeps the whole response there
                assert (score.extracted or "") == predicted, response
            assert score.parsed is (not score.drawn and (score.extracted or "?") in letters[: len(question.options)])
            outcomes["drawn" if score.drawn else "right" if score.correct else "wrong"] += 1

    for i, (_, question, document) in enumerate(both.pairs):
        if i < 8:
            compare(question, document, responses.about(question.options))
            compare(question, document, responses.composed(i, 400, question.options))
    for _, question, document in both.pairs[1:3]:
        compare(question, document, responses.systematic())
    draws = name in ("longvideobench", "nextqa")
    assert set(outcomes) == {"right", "wrong", *(["drawn"] if draws else [])} and min(outcomes.values()) > 500


def answered(both: Both, seed: int) -> tuple[Summary, list[Any]]:
    """Our summary and their results, where each question has a response; about half of them are right."""
    rng = random.Random(seed)
    said = list(responses.composed(seed, 200))
    records, results = [], []
    for video, question, document in both.pairs:
        response = f"({question.answer})" if rng.random() < 0.4 else rng.choice(said)
        if not response.strip() or re.fullmatch(r"(?s)\s*<(think|analysis)>.*</\1>\s*", response):
            response = "none"  # see the test of empty responses
        score = both.ours.score(question, response, "lmms-eval")
        records.append(ScoredRecord(question.id, video.id, question.groups, score))
        results.append(both.theirs.result(document, response, question))
    return summarize(both.ours.measures, records), results


@pytest.mark.parametrize("seed", range(3))
def test_headlines(both: Both, seed: int) -> None:
    summary, results = answered(both, seed)
    value = both.theirs.aggregate(results)
    name = both.ours.name
    if name == "mvbench":
        # Each of its 20 tasks has a figure; it makes no mean of them.
        ours = summary.breakdowns["task"][both.theirs.task.config.task.removeprefix("mvbench_")]
    else:
        ours = summary.headline[1]
    percent = 100 if name in ("videomme", "mlvu", "mvbench") else 1
    rounding = 0.5e-5 if name == "longvideobench" else 1e-12
    assert percent * ours.value == pytest.approx(value, abs=rounding) and 0 < ours.value < 1


@pytest.mark.parametrize("name", ["videomme", "mlvu", "longvideobench"])
def test_breakdowns(name: str, tmp_path: Path) -> None:
    """It writes them to its log, to a decimal."""
    both = BENCHMARKS[name](tmp_path)
    summary, results = answered(both, 5)
    messages: list[str] = []
    sink = logger.add(lambda message: messages.append(message.record["message"]), level="INFO")
    both.theirs.aggregate(results)
    logger.remove(sink)
    if name == "longvideobench":
        theirs = {str(key): entry for key, entry in ast.literal_eval(messages[-1]).items() if key != "Overall"}
        ours = summary.breakdowns["duration_group"] | summary.breakdowns["question_category"]
        assert {key: metric.num_questions for key, metric in ours.items()} == {k: e["num"] for k, e in theirs.items()}
        assert {key: round(metric.value, 5) for key, metric in ours.items()} == {k: e["acc"] for k, e in theirs.items()}
        return
    groups = {
        "video Type": "duration",
        "Categories": "domain",
        "Video Sub Categories": "sub_category",
        "Task Categories": "task_type" if name == "videomme" else "question_type",
    }
    found = [re.fullmatch(r"Evaluation on ([\w ]+?): (.+): *([\d.]+)%", message) for message in messages]
    lines = [(groups[match[1]], match[2], match[3]) for match in found if match]
    compared = 0
    for group, value, shown in lines:
        if metric := summary.breakdowns[group].get(value):
            assert f"{100 * metric.value:.1f}" == shown
            compared += 1
        else:
            assert float(shown) == 0, "of those that no question is in"
    assert compared == sum(len(by_value) for group, by_value in summary.breakdowns.items() if group in groups.values())


def test_its_mvbench_leaves_empty_responses_out(tmp_path: Path) -> None:
    """We count them as wrong, as all other rules do."""
    both = mvbench(tmp_path, "action_count")
    records, results = [], []
    for (video, question, document), response in zip(
        both.pairs, ["A", "", " ", "<think>B</think>", *"BCAB"], strict=True
    ):
        score = both.ours.score(question, response, "lmms-eval")
        records.append(ScoredRecord(question.id, video.id, question.groups, score))
        results.append(both.theirs.result(document, response, question))
    right = sum(bool(record.score.correct) for record in records)
    assert right and both.theirs.aggregate(results) == pytest.approx(100 * right / 5)
    assert summarize(both.ours.measures, records).breakdowns["task"]["action_count"].value == right / 8


def test_mlvus_m_avg_is_over_the_types_that_were_asked(tmp_path: Path) -> None:
    """It divides by seven, however few they are; with all seven both agree."""
    both = mlvu(tmp_path)
    pairs = [pair for pair in both.pairs if pair[1].groups["question_type"] in ("ego", "count")]
    records, results = [], []
    for video, question, document in pairs:
        score = both.ours.score(question, question.answer, "lmms-eval")
        records.append(ScoredRecord(question.id, video.id, question.groups, score))
        results.append(both.theirs.result(document, question.answer, question))
    assert summarize(both.ours.measures, records).headline[1].value == 1
    assert both.theirs.aggregate(results) == pytest.approx(200 / 7)
