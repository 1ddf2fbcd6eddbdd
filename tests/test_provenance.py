"""What stands beside a score: what the model saw and how it ran, by real runs and against values found by hand."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judge_server import Reply, judge_server
from served_models import Engine
from test_served import Folder
from tiny_models import TINY, build
from videos import make_video

from vamba_eval import Leaderboard, evaluate
from vamba_eval.report.page import write_report
from vamba_eval.score.scored import score_runs
from vamba_eval.tables.compare import compare
from vamba_eval.tables.items import analyse
from vamba_eval.tables.provenance import Provenance, View, differing_facts, provenance_markdown

pytestmark = pytest.mark.usefixtures("one_thread")

Cli = Callable[..., tuple[int, str, str]]
SERVED = ("cloud", "clips", "engine")
VERSION = __import__("transformers").__version__


def respond(request: dict[str, Any]) -> Reply:
    """Thinks about the first question of each video, and answers the last one wrongly."""
    text = json.dumps(request["messages"])
    return Reply("<think>so</think>A" if " 0?" in text else "B" if " 2?" in text else "A")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run: a model of transformers, once with fewer pixels and in half precision; an endpoint, shown pictures and
    given files; an engine; guesses. Two videos lie, one stands."""
    folder = tmp_path_factory.mktemp("provenance")
    for name, size in (("0", (128, 256)), ("1", (128, 256)), ("2", (192, 128))):
        make_video(folder / f"{name}.mp4", frames=20, size=size)
    build(TINY["qwen3_vl"], folder / "tiny")
    with judge_server(respond) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-very-secret")
        endpoint = {"model": "big-1", "url": server.url.replace("http://", "http://me:hidden@"), "price": "1000/2000"}
        tiny = {"pretrained": str(folder / "tiny"), "device": "cpu"}
        evaluate(
            [Folder()],
            ["whole=transformers", "half=transformers", "cloud=openai", "clips=openai", Engine(), "random"],
            model_args={
                "whole": {**tiny, "dtype": "float32"},
                "half": {**tiny, "dtype": "bfloat16", "total_pixels": 4 * 128 * 64},
                "cloud": {**endpoint, "times": "true"},
                "clips": {**endpoint, "frames_as": "file"},
            },
            **{"data_root": folder, "output": folder / "results", "name": "run", "progress": False},
            sampling={"num_frames": 4, "shortest_edge": None, "longest_edge": None},
            generation={"max_new_tokens": 3},
        )
    return folder / "results" / "run"


@pytest.fixture
def copy(results: Path, tmp_path: Path) -> Path:
    shutil.copytree(results, tmp_path / "copy")
    return tmp_path / "copy"


def host_of(results: Path) -> str:
    url = json.loads((results / "run.json").read_text())["models"]["cloud"]["url"]
    return re.fullmatch(r"http://(127\.0\.0\.1:\d+)/v1", url)[1]  # type: ignore[index]


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    return {result.model: result.row() for result in Leaderboard.from_runs([path]).results}


def test_each_fact_is_a_column(results: Path, tmp_path: Path) -> None:
    Leaderboard.from_runs([results]).save(tmp_path)
    with open(tmp_path / "leaderboard.csv") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    facts = ("served", "precision", "engine", "seen_as", "seen_frames_min", "seen_frames_max")
    facts += ("seen_size_min", "seen_size_max", "seen_sizes", "told_times", "seen_recorded", "thought")
    found = {model: tuple(row[fact] for fact in facts) for model, row in rows.items()}
    host = host_of(results)
    assert found == {
        "whole": ("False", "float32", f"transformers {VERSION}", "video", "4", "4",
                  "128x192", "256x128", "2", "yes", "1.0", "0.0"),
        "half": ("False", "bfloat16", f"transformers {VERSION}", "video", "4", "4",
                 "64x96", "128x64", "2", "yes", "1.0", "0.0"),
        "cloud": ("True", "", f"endpoint {host}", "images", "4", "4",
                  "128x192", "256x128", "2", "yes", "1.0", str(3 / 9)),
        "clips": ("True", "", f"endpoint {host}", "file", "", "", "", "", "", "", "", str(3 / 9)),
        "engine": ("True", "", "engine, served", "images", "4", "4",
                   "128x192", "256x128", "2", "yes", "1.0", "1.0"),
        "random": ("False", "", "random", "no video", "", "", "", "", "", "", "", "0.0"),
    }  # fmt: skip
    assert rows["cloud"]["checkpoint"] == "big-1" and rows["whole"]["checkpoint"].endswith("/tiny")
    identity = json.loads((results / "run.json").read_text())["models"]["whole"]["identity"]
    assert rows["whole"]["checkpoint_identity"] == identity and identity.startswith("weights ")


def test_the_terminal_says_it_in_eighty_columns(results: Path, cli: Cli) -> None:
    status, out, _ = cli("leaderboard", results, "--long")
    part = out.partition("\nWhat each model saw\n")[2]
    lines = part[part.index("- ") :].rstrip().splitlines()
    assert status == 0 and max(map(len, lines)) <= 80
    engine, host = f"transformers {VERSION}", host_of(results)
    assert " ".join(line.strip() for line in lines).split("- ")[1:] == [
        f"whole: video · 4 frames · 128x192 and 256x128 · with times · fp32 · {engine} · no thinking ",
        f"half: video · 4 frames · 64x96 and 128x64 · with times · bf16 · {engine} · no thinking ",
        "cloud: images · 4 frames · 128x192 and 256x128 · with times · precision not stated · "
        f"endpoint {host} · thinking in 33 % ",
        "clips: the file · frames of its own choice · precision not stated · "
        f"endpoint {host} · thinking in 33 % ",
        "engine: images · 4 frames · 128x192 and 256x128 · with times · precision not stated · "
        "engine, served · thinking ",
        "random: no video · random",
    ]  # fmt: skip
    assert not any(line.endswith((" with", " 4", " no", " and")) for line in lines), "a line ends between two facts"


def test_what_is_unlike_is_said(results: Path) -> None:
    notes = Leaderboard.from_runs([results]).notes()
    (unlike,) = [note for note in notes if note.startswith("NOT ALIKE")]
    assert unlike == (
        "NOT ALIKE on A folder of videos: shown as: video (whole, half), images (cloud, engine); "
        "size seen: 128x192 and 256x128 (whole, cloud, engine), 64x96 and 128x64 (half); "
        "frames: of its own choice, from the file (clips), chosen here (whole, half, cloud, engine); "
        "precision: fp32 (whole), bf16 (half); thinking: no (whole, half), yes (cloud, clips, engine)"
    )
    (resized,) = [note for note in notes if note.startswith("RESIZED")]
    assert resized == (
        "RESIZED: half (4 frames) on A folder of videos: its own processing made frames of 128x192 into 64x96 "
        "(on 3 of 3 videos)"
    )
    alone = Leaderboard.from_runs([results]).select(where='model in ("whole", "random")').notes()
    assert not any(note.startswith(("NOT ALIKE", "RESIZED")) for note in alone)


def test_a_comparison_says_what_both_saw(results: Path) -> None:
    (comparison,) = compare(f"{results}:whole", f"{results}:half")
    text = comparison.to_markdown()
    assert "- the two differ in size seen: 128x192 and 256x128 (A), 64x96 and 128x64 (B)\n" in text
    assert "- the two differ in precision: fp32 (A), bf16 (B)\n" in text
    assert "shown as" not in text and "differ in times" not in text
    digest = json.loads((results / "run.json").read_text())["models"]["half"]["identity"].split()[1][:8]
    assert (
        "- what B saw, and how it ran: video · 4 frames · 64x96 and 128x64 · with times · bf16 · "
        f"transformers {VERSION} · no thinking · tiny (weights {digest})"
    ) in text
    items = analyse(score_runs([results])).render("markdown")
    assert "the runs differ in precision: fp32 (whole (4 frames)), bf16 (half (4 frames))" in " ".join(items.split())


def cells_of(page: str) -> dict[str, dict[str, str]]:
    """The report's table, by model and column."""
    table = re.search(r'<table id="table">(.*?)</table>', page, re.S)[1]  # type: ignore[index]
    columns = re.findall(r"<button type=\"button\"><span>(.*?)</span>", table)
    rows = {}
    for row in re.findall(r"<tr data-task.*?</tr>", table, re.S):
        cells = [html.unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        rows[cells[0]] = dict(zip(columns, cells, strict=True))
    return rows


def test_the_report_has_columns_of_it_and_a_list(results: Path, tmp_path: Path) -> None:
    write_report([results], tmp_path / "report.html", published=True)
    page = (tmp_path / "report.html").read_text()
    cells = cells_of(page)
    assert cells["half"]["Saw"] == "video · 4 frames · 64x96 and 128x64 · with times"
    assert cells["half"]["Ran as"] == f"bf16 · transformers {VERSION} · no thinking"
    assert cells["random"]["Saw"] == "no video" and cells["clips"]["Saw"] == "the file · frames of its own choice"
    listed = re.search(r'<details class="notes" id="provenance"(.*?)</details>', page, re.S)[1]  # type: ignore[index]
    assert listed.count("<li>") == 6 and "<b>cloud</b>: images · 4 frames" in listed and "big-1</li>" in listed
    assert "me:hidden" not in page and "sk-very-secret" not in page


def test_served_rows_share_nothing_that_ranks_with_metered_ones(results: Path, tmp_path: Path) -> None:
    board = Leaderboard.from_runs([results])
    by_model = {result.model: result for result in board.results}
    # Of two videos right of three questions each; the engine is right in all, and both endpoints in two of three.
    assert [by_model[model].rank.rank for model in SERVED] == [2, 2, 1]  # type: ignore[union-attr]
    assert all(by_model[model].rank.among == 3 for model in SERVED)  # type: ignore[union-attr]
    assert by_model["random"].rank is None
    metered = [by_model[model] for model in ("whole", "half")]
    best = max(metered, key=lambda result: result.summary.headline[1].value)
    assert best.rank is not None and best.rank.rank == 1, "whatever the served ones reach"
    # None that is served has seconds by which it could be on the frontier, were it above chance.
    assert {r.model for r in board.results if r.costs.first_answer_s is None} == set(SERVED)
    write_report([results], tmp_path / "report.html")
    cells = cells_of((tmp_path / "report.html").read_text())
    header, _, *lines = board.long_markdown().splitlines()
    names = [name.strip() for name in header.strip("|").split("|")]
    for line in lines:
        row = dict(zip(names, (cell.strip() for cell in line.strip("|").split("|")), strict=True))
        served = row["Model"] in SERVED
        assert row["Rank"].endswith(", served") == served and (row["Rank"] == "-") == (row["Model"] == "random")
        assert "◆" not in row["A folder of videos"]
        assert (row["Peak GiB"] == "-") == (row["Encode s/video"] == "-" and served)
        assert (row["Latency s"] == "-") != served
        shown = cells[row["Model"]]
        assert ("–" in (shown["Memory"], shown["First answer"], shown["Answer"])) == served
        assert (shown["Latency"] == shown["Prompt"] == shown["New"] == "–") != served
    # 1,000 dollars a million prompt tokens, of which there are 100; 2,000 of 10 new ones; two of three are right.
    assert cells["cloud"]["$/1,000"] == "120" and cells["cloud"]["$/right"] == "0.18"
    assert rows_of(results)["cloud"]["price_per_question"] == pytest.approx(0.12)
    assert any("served models have ranks of their own" in note for note in board.notes())
    alone = Leaderboard.from_runs([results]).select(where="not served").notes()
    assert not any("ranks of their own" in note for note in alone)


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        change(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_wrapped_models_records_say_what_it_keeps(copy: Path) -> None:
    info = json.loads((copy / "run.json").read_text())
    info["models"]["whole"] |= {"wrap": "mine:prune", "wrap_source": "0123"}
    (copy / "run.json").write_text(json.dumps(info))
    rewrite(copy / "folder.whole.jsonl", lambda line: line["seen"].update(kept_tokens=10 + int(line["video"])))
    row = rows_of(copy)["whole"]
    assert (row["wrapped_by"], row["kept_tokens_min"], row["kept_tokens_max"]) == ("mine:prune", 10, 12)


def test_records_from_before_are_read_and_said_to_say_nothing(copy: Path) -> None:
    rewrite(copy / "folder.whole.jsonl", lambda line: line.pop("seen"))
    rewrite(copy / "folder.half.jsonl", lambda line: line.pop("seen") if line["video"] == "2" else None)
    board = Leaderboard.from_runs([copy])
    text, rows = board.provenance_markdown(), rows_of(copy)
    assert f"- whole: what it saw is not recorded · fp32 · transformers {VERSION}\n" in text, "nor whether it thought"
    about = [rows["whole"][name] for name in ("seen_as", "seen_frames_min", "seen_size_min", "told_times", "thought")]
    assert about == ["not recorded", None, "", "", None] and rows["whole"]["seen_recorded"] == 0
    (half,) = [result for result in board.results if result.model == "half"]
    assert half.provenance.saw() == [
        "video", "4 frames", "128x64", "with times", "not recorded for 1 of 3 videos"
    ]  # fmt: skip
    assert rows["half"]["seen_recorded"] == pytest.approx(2 / 3)
    (unlike,) = [note for note in board.notes() if note.startswith("NOT ALIKE")]
    assert "size seen: 128x64 (half), 128x192 and 256x128 (cloud, engine)" in unlike


def test_engines_and_precisions_are_told_by_what_the_run_says_of_a_model(copy: Path) -> None:
    info = json.loads((copy / "run.json").read_text())
    for model, about in {
        "whole": {"engine": "vllm 0.33.0", "served": True, "quantization": "fp8", "prompt": "unlike others': two more"},
        "half": {"adapter": "lmms-eval:internvl2", "args": {"dtype": "float16"}, "dtype": None},
        "engine": {"url": "https://me:hidden@[2001:db8::1]:8000/v1?key=hidden"},
        "random": {"adapter": "mine"},
    }.items():
        info["models"][model] |= about
    info["environments"].append({**info["environments"][0], "packages": {"mine": "2.0"}})
    info["environments"][0]["packages"]["mine"] = "1.0"
    (copy / "run.json").write_text(json.dumps(info))
    rewrite(copy / "folder.random.jsonl", lambda line: line.update(environment=int(line["video"]) // 2))
    board = Leaderboard.from_runs([copy])
    found = {result.model: (result.provenance.engine, result.provenance.precision) for result in board.results}
    assert found["whole"] == ("vllm 0.33.0", "float32, fp8") and found["half"] == ("lmms-eval's internvl2", "float16")
    assert found["engine"] == ("endpoint [2001:db8::1]:8000", "") and found["random"] == ("mine 1.0 and 2.0", "")
    assert any(note.startswith("PROMPT: whole ") and "two more" in note for note in board.notes())
    assert "hidden" not in board.to_markdown()


def test_reported_rows_saw_nothing_that_is_known(results: Path) -> None:
    board = Leaderboard.from_runs([], published=True)
    assert board.results and board.provenance_markdown() == ""
    assert {row["seen_as"] + row["engine"] + row["precision"] for row in (r.row() for r in board.results)} == {""}
    assert not any(note.startswith("NOT ALIKE") for note in board.notes())


# --------------------------------------------------------------------------------------------- by hand

VIEW = View(8, 270, 480, "video", True, (8, 270, 480))
ROW = Provenance("bfloat16", "vllm 0.33.0", looks=True, views={"v": frozenset({VIEW})}, videos=1, answers=4)


def seeing(*views: View) -> Provenance:
    return replace(ROW, views={str(n): frozenset({view}) for n, view in enumerate(views)}, videos=len(views))


def test_ranges_and_several_of_each() -> None:
    three = [replace(VIEW, frames=frames, width=width) for frames, width in ((8, 480), (6, 240), (7, 360))]
    assert seeing(*three).saw() == ["video", "6 to 8 frames", "240x270 to 480x270 (3 sizes)", "with times"]
    mixed = seeing(VIEW, replace(VIEW, kind="images", times=False, frames=1))
    assert mixed.saw() == ["video or images", "1 to 8 frames", "480x270", "with times for some"]
    assert mixed.row()["seen_as"] == "images; video" and mixed.row()["told_times"] == "some"
    assert seeing(replace(VIEW, frames=1)).saw()[1] == "1 frame"


def test_rows_are_compared_video_by_video() -> None:
    other = replace(VIEW, height=480, width=270)
    assert differing_facts([("a", seeing(VIEW, other)), ("b", seeing(VIEW, other))]) == []
    assert differing_facts([("a", seeing(VIEW, other)), ("b", seeing(VIEW))]) == [], "of the second nobody else knows"
    assert differing_facts([("a", seeing(VIEW, other)), ("b", seeing(other, VIEW))]) == [
        "size seen: 270x480 and 480x270, otherwise from video to video"
    ]


def test_fewer_frames_are_told_from_fewer_that_were_asked_for() -> None:
    rung = seeing(replace(VIEW, frames=4, given=(4, 270, 480)))
    assert differing_facts([("a", ROW), ("b", rung)]) == [], "the table has a column of that"
    fewer = seeing(replace(VIEW, frames=4))
    assert differing_facts([("a", seeing(VIEW)), ("b", fewer)]) == ["frames seen: 8 frames (a), 4 frames (b)"]
    assert [*fewer.remarks()] == [("FEWER FRAMES: ", ": it saw 4 of 8 (on 1 of 1 videos)")]


@pytest.mark.parametrize(
    ("height", "width", "resized"), [(270, 480, False), (280, 476, False), (160, 288, True), (448, 448, True)]
)
def test_rounding_to_patches_is_no_resizing(height: int, width: int, resized: bool) -> None:
    row = seeing(replace(VIEW, height=height, width=width))
    expected = f": its own processing made frames of 480x270 into {width}x{height} (on 1 of 1 videos)"
    assert [*row.remarks()] == [("RESIZED: ", expected)] * resized


def test_weights_of_one_name_that_are_not_the_same() -> None:
    one, other = (replace(ROW, checkpoint="me/model", identity=f"commit {n}") for n in (1, 2))
    assert differing_facts([("a", one), ("b", other)]) == ["weights of me/model: commit 1 (a), commit 2 (b)"]
    assert differing_facts([("a", one), ("b", one)]) == []


def test_a_long_name_still_wraps_between_facts() -> None:
    text = provenance_markdown([("a name that is as long as names of checkpoints are today @512", ROW)])
    first, second = text.splitlines()
    assert len(first) <= 80 and first.endswith(" ·") and second.startswith("  ") and "8 frames" in text


def test_tokens_that_a_wrapped_model_keeps() -> None:
    pruned = replace(seeing(replace(VIEW, kept=96), replace(VIEW, kept=1200)), wrap="mine:prune")
    assert str(pruned) == (
        "video · 8 frames · 480x270 · with times · keeps 96 to 1,200 tokens · bf16 · vllm 0.33.0 · "
        "wrapped by mine:prune · no thinking"
    )
    assert [pruned.row()[name] for name in ("wrapped_by", "kept_tokens_min", "kept_tokens_max")] == [
        "mine:prune", 96, 1200
    ]  # fmt: skip
    assert differing_facts([("a", ROW), ("b", pruned)]) == ["wrapped by: nothing (a), mine:prune (b)"]


def test_several_benchmarks_of_one_row() -> None:
    merged = Provenance.merged([seeing(VIEW, VIEW), replace(seeing(replace(VIEW, width=240)), thoughts=2)])
    assert (merged.videos, len(merged.views), merged.answers, merged.thoughts) == (3, 3, 8, 2)
    assert str(merged) == (
        "video · 8 frames · 240x270 and 480x270 · with times · bf16 · vllm 0.33.0 · thinking in 25 %"
    )
