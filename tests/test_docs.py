"""The pages of docs/ against the code: prompts, rules, defaults and reported scores are computed anew."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmark_files import (
    hourvideo_annotations,
    lvbench_videos,
    mvbench_rows,
    nextqa_rows,
    stand_in_videos,
    write_hourvideo,
    write_lvbench,
    write_mvbench,
    write_nextqa,
)

from vamba_eval import Question, Task, load_task, registry
from vamba_eval.tables.published import published_results

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
OPTIONS = [f"{{option {letter}}}" for letter in "ABCDE"]


def table(text: str, first_heading: str) -> list[dict[str, str]]:
    """The rows of the Markdown table whose first column is called so."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {first_heading} |"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    header, _, *body = rows
    return [dict(zip(header, row, strict=True)) for row in body]


def in_code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# ------------------------------------------------------------------------------------------------ protocols.md

PROTOCOLS = (DOCS / "protocols.md").read_text(encoding="utf-8")


# HourEval's ids tell the source's rule.
CHOICES = [
    name
    for name in registry.names(Task)
    if name != "houreval" and not load_task(name).needs_judge(Question("q", "?")) and not load_task(name).asks_times
]


def right_for(task: Task, response: str, options: list[str], protocol: str) -> str:
    """The letters for which ``response`` would be right."""
    questions = [Question("q", "", tuple(options), letter) for letter in "ABCD"]
    scores = [task.score(question, response, protocol) for question in questions]
    if any(score.drawn for score in scores):
        return "drawn"
    return " ".join(q.answer or "" for q, score in zip(questions, scores, strict=True) if score.correct) or "none"


def test_the_table_of_responses() -> None:
    options = re.findall(r"^    \([A-D]\) (.+)$", PROTOCOLS, re.MULTILINE)
    assert len(options) == 4
    rows = table(PROTOCOLS, "response")
    assert len(rows) > 20
    for row in rows:
        shown = row.pop("response")
        (response,) = [""] if shown == "(empty)" else in_code(shown)
        for heading, cell in row.items():
            (protocol,), names = in_code(heading), re.findall(r"\w+", heading.partition(":")[2])
            for name in names or [name for name in CHOICES if protocol in load_task(name).protocols]:
                found = right_for(load_task(name), response.replace("\\n", "\n"), options, protocol)
                assert found == cell, (shown, heading, name)


def test_the_example_of_a_stop_sequence() -> None:
    text = re.search(r"of `(.+)`, `(.+)` is left", PROTOCOLS)
    assert text is not None
    response, left = (part.replace("\\n", "\n") for part in text.groups())
    for name in CHOICES:
        for protocol in load_task(name).protocols:
            cut = load_task(name).generation(protocol).cut(response)
            # What is generated here has no protocol of lmms-eval's to follow in this.
            assert cut == (left if protocol == "lmms-eval" and name != "synthetic" else response), (name, protocol)


# ------------------------------------------------------------------------------------------------- benchmarks/


def lvbench(root: Path) -> None:
    lines = lvbench_videos(1, 1)
    lines[0]["qa"][0]["question"] = "\n".join(["{question}", *(f"({o[-2]}) {o}" for o in OPTIONS[:4])])
    write_lvbench(root, lines)


def hourvideo(root: Path) -> None:
    entries = hourvideo_annotations(1, 1)
    (row,) = entries["uid-0"]["benchmark_dataset"]
    row |= {"question": "{question}", "mcq_test": "\n".join(f"{o[-2]}. {o}" for o in OPTIONS)}
    write_hourvideo(root, entries)


def mvbench(root: Path) -> None:
    row = {**mvbench_rows("action_sequence", 1)[0], "question": "{question}", "candidates": OPTIONS[:4]}
    write_mvbench(root, 1, {"action_sequence": [{**row, "answer": OPTIONS[0]}]})


def nextqa(root: Path) -> None:
    row = nextqa_rows(1, {"CW": 1})[0] | {"question": "{question}"}
    write_nextqa(root, [row | {f"a{n}": option for n, option in enumerate(OPTIONS)}])


def synthetic(root: Path) -> None:
    stand_in_videos(root)


@pytest.mark.parametrize("write", [lvbench, hourvideo, mvbench, nextqa, synthetic])
def test_prompts_are_quoted_word_for_word(write: Callable[[Path], None], tmp_path: Path) -> None:
    name = write.__name__
    page = (DOCS / "benchmarks" / f"{name}.md").read_text(encoding="utf-8")
    quoted = dict(re.findall(r"### `([\w-]+)`\n[^#]*?```text\n(.*?)\n```", page, re.DOTALL))
    write(tmp_path)
    task = load_task(name)
    video = task.load(tmp_path)[0]
    if name == "synthetic":
        question = dataclasses.replace(video.questions[0], text="{question}", options=tuple(OPTIONS[:4]))
        video = dataclasses.replace(video, questions=(question,))
    assert quoted.keys() == set(task.protocols) - {"flexible"}
    asked_as = re.search(r"`flexible` asks as `(\w+)`", page)
    assert asked_as is not None
    assert task.prompt(video, video.questions[0], "flexible", None) == task.prompt(
        video, video.questions[0], asked_as.group(1), None
    )
    for protocol, text in quoted.items():
        prompt = task.prompt(video, video.questions[0], protocol, None)
        assert prompt.removesuffix("\n") == text
        assert prompt.endswith("\n") == (
            "ends in a newline" in page.partition(f"### `{protocol}`")[2].partition("```")[0]
        )


def test_the_table_of_benchmarks() -> None:
    rows = {
        in_code(row["task"])[0]: row
        for row in table((DOCS / "benchmarks" / "README.md").read_text(encoding="utf-8"), "task")
    }
    assert rows.keys() == set(registry.names(Task)), "a row for every task that is built in"
    for name, row in rows.items():
        task = load_task(name)
        edges = [task.sampling.longest_edge, task.sampling.shortest_edge]
        shown = "as they are" if edges == [None, None] else "{}/{}".format(*edges)
        assert row["frames"] == f"{task.sampling.num_frames}, {shown}", name
        assert in_code(row["protocols"]) == list(task.protocols), name
        assert row["headline"] == next(iter(task.measures)), name


@pytest.mark.parametrize(
    ("name", "file", "column"),
    [
        *(("lvbench", "hour_long", "lvbench_test"), ("hourvideo", "hour_long", "hourvideo_dev")),
        *(("houreval", "hour_long", "houreval_test"), ("mvbench", "medium_short", "mvbench_test")),
        ("nextqa", "medium_short", "nextqa_mc"),
    ],
)
def test_reported_scores_are_the_published_ones(name: str, file: str, column: str) -> None:
    page = (DOCS / "benchmarks" / f"{name}.md").read_text(encoding="utf-8")
    with (ROOT / "results" / "published" / f"{file}.csv").open() as stream:
        published = list(csv.DictReader(stream))
    expected = []
    for row in published:
        measured = name in row.get("measured_by_vamba_authors", "").split(";")
        if row[column]:
            expected.append((row["model"], row["size"] or "-", row[column] + (" †" if measured else "")))
    assert [tuple(row.values()) for row in table(page, "model")] == expected
    assert load_task(name).catalogue.reported_as == column


CHOOSING = table((DOCS / "benchmarks" / "choosing.md").read_text(encoding="utf-8"), "task")


def test_the_page_for_choosing_has_every_benchmark() -> None:
    assert {in_code(row["task"])[0] for row in CHOOSING} == set(registry.names(Task))


@pytest.mark.parametrize("row", CHOOSING, ids=lambda row: in_code(row["task"])[0])
def test_the_page_for_choosing_is_about_what_is_published(row: dict[str, str]) -> None:
    """Its counts are the catalogue's, its best score is the best of results/published/."""
    (name,) = in_code(row["task"])
    task = load_task(name)
    (whole, *_) = (*task.catalogue.counts.values(), None)
    if whole:
        assert row["questions"] == f"{whole.questions:,}"
        assert whole.videos is None or row["videos"] == f"{whole.videos:,}"
    best = "unknown"
    if reported := published_results({name}):
        first = max(reported, key=lambda result: result.summary.headline[1].value)
        metric = first.summary.headline[1]
        best = f"{metric.value * (100 if metric.unit == '%' else 1):.1f} {first.model}"
    assert row["best read"] == best


def test_links_lead_somewhere() -> None:
    """Within the repository."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page, target)
