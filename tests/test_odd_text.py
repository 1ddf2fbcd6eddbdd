"""What models, annotations and damaged files may hold costs no table, and whatever is written can be read by others."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import nextqa_rows, write_nextqa
from invented_runs import invent_run, invented_videos

from vamba_eval import Leaderboard
from vamba_eval.contracts import MissingData, UserError
from vamba_eval.plain import json_text, json_value, valid, visible
from vamba_eval.registry import load_task
from vamba_eval.store.records import Record
from vamba_eval.store.runs import latest_records
from vamba_eval.tables.text import markdown_table, short, tabulated, write_csv

Cli = Callable[..., tuple[int, str, str]]
CSV = "test.csv"
HALF = "half \ud83d of a pair"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs of two models, of which tests damage one."""
    videos = invented_videos(tmp_path / "data", 4)
    for name in ("one", "two"):
        invent_run(tmp_path / "runs" / name, "videomme", videos, ["alpha", "delta"], pictures=False)
    return tmp_path / "runs"


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the first line of a record file."""
    first, *others = file.read_text().splitlines(keepends=True)
    line = json.loads(first)
    change(line)
    file.write_text(json.dumps(line) + "\n" + "".join(others))


def records(runs: Path) -> Path:
    return runs / "one" / "videomme.alpha.jsonl"


def everything(cli: Cli, runs: Path, output: Path) -> str:
    """All that is made of runs succeeds; all that was written and said, as one text."""
    said = []
    for command in (
        ("leaderboard", runs, "--output", output / "tables"),
        *(("leaderboard", runs, "--format", form) for form in ("csv", "json", "latex")),
        ("rescore", runs, "--protocol", "all", "--output", output / "rescored"),
        ("compare", runs / "one:alpha", runs / "one:delta", "--output", output / "compared"),
        ("items", runs, "--list", "all", "--output", output / "items"),
        ("export", runs, "--format", "lmms-eval", "--output", output / "logs"),
        ("report", runs, "-o", output / "page.html"),
    ):
        status, out, err = cli(*command)
        assert status in (0, 1) and "Traceback" not in err, (command, err)
        assert status == 0, (command, err)
        said += [out, err]
    written = [path for path in sorted(output.rglob("*")) if path.is_file()]
    assert len(written) > 15
    for path in written:
        if path.suffix == ".json":
            strictly(path.read_text(encoding="utf-8"))
    return "\n".join([*said, *(path.read_text(encoding="utf-8") for path in written)])


def strictly(text: str) -> Any:
    """As other programs than Python read JSON."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


# ------------------------------------------------------------------------------------------------- half characters


@pytest.mark.parametrize("field", ["response", "error", "groups", "text", "options", "question", "video", "prompt"])
def test_half_a_surrogate_pair_costs_no_table(cli: Cli, runs: Path, tmp_path: Path, field: str) -> None:
    def put(line: dict[str, Any]) -> None:
        if field == "error":
            line.update(response=None, error=HALF)
        elif field == "groups":
            line["groups"]["domain"] = HALF
        elif field == "options":
            line["options"][0] = HALF
        else:
            line[field] = HALF

    edit(records(runs), put)
    assert "half � of a pair" in everything(cli, runs, tmp_path / "out")
    line = json.loads(records(runs).read_text().splitlines()[0])
    assert HALF in [
        line["groups"]["domain"],
        *line["options"],
        *(line[name] for name in line if name != "groups" and name != "options"),
    ]
    kept = next(each.to_json() for each in latest_records(records(runs)) if each.question == line["question"])
    assert kept == {name: line[name] for name in kept}, "what is stored stays as it was"


def test_half_characters_in_names(cli: Cli, runs: Path, tmp_path: Path) -> None:
    """A label of another version, and a folder whose name is no UTF-8."""
    run = runs / "one"
    info = json.loads((run / "run.json").read_text())
    info["models"]["al\udcffpha"] = info["models"].pop("alpha")
    (run / "run.json").write_text(json.dumps(info))
    records(runs).rename(run / "videomme.al\udcffpha.jsonl")
    run.rename(runs / "o\udcffne")
    for command in (
        ("leaderboard", runs, "--output", tmp_path / "tables"),
        ("export", runs, "--format", "lmms-eval", "--output", tmp_path / "logs"),
        ("report", runs, "-o", tmp_path / "page.html"),
    ):
        status, _, err = cli(*command)
        assert status == 0, (command, err)
    assert "al�pha" in (tmp_path / "tables" / "leaderboard.md").read_text(encoding="utf-8")
    assert "al�pha" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_pairs_stay_and_halves_go() -> None:
    assert valid("a\ud83d\ude00b\ud83d") == "a\U0001f600b�"
    assert valid("\ufeff plain é 😀") == "\ufeff plain é 😀"


# ------------------------------------------------------------------------------------------------- no numbers


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_known(cli: Cli, runs: Path, tmp_path: Path, number: float) -> None:
    def put(line: dict[str, Any]) -> None:
        line.update(encode_s=number, generate_s=number, load_s=number, latency_s=number, price=number)
        line["cost"] = {"encode": {"s": number, "energy_j": number}, "generate": {"s": 1.0, "gpu_allocated": number}}
        line["seen"] = {"frames": 8, "height": number, "width": 2}
        line["extra"] = {"score_of_2031": number}

    without = {(result.run, result.model): result.row() for result in Leaderboard.from_runs([runs]).results}
    edit(records(runs), put)
    text = everything(cli, runs, tmp_path / "out")
    assert "NaN" not in (tmp_path / "out" / "tables" / "leaderboard.json").read_text()
    assert text
    for result in Leaderboard.from_runs([runs]).results:
        row = result.row()
        assert row["score"] == without[result.run, result.model]["score"]
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
    page = (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    strictly(page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])


def test_json_that_every_program_reads() -> None:
    odd = {"a": [math.nan, 1.5, {"b": -math.inf}], "c": "NaN", "d": (math.inf, 2)}
    assert strictly(json_text(odd)) == {"a": [None, 1.5, {"b": None}], "c": "NaN", "d": [None, 2]}
    assert json_value('{"a": [NaN, 1e999, -Infinity, 1.5], "b": "NaN"}') == {"a": [None, None, None, 1.5], "b": "NaN"}
    for broken in ("[" * 100_000, '{"a": ' + "9" * 5000 + "}", "{"):
        with pytest.raises(ValueError):
            json_value(broken)


# ------------------------------------------------------------------------------------------------- damaged runs


def damages() -> Iterator[Any]:
    def info(change: Callable[[Any], object]) -> Callable[[Path], object]:
        def damage(runs: Path) -> None:
            file = runs / "one" / "run.json"
            value = json.loads(file.read_text())
            change(value)
            file.write_text(json.dumps(value))

        return damage

    def line(**values: Any) -> Callable[[Path], object]:
        return lambda runs: edit(records(runs), lambda entry: entry.update(values))

    yield "broken run.json", lambda runs: (runs / "one" / "run.json").write_text("{"), ("alpha", "delta")
    yield "empty run.json", lambda runs: (runs / "one" / "run.json").write_text(""), ("alpha", "delta")
    yield "another schema", info(lambda value: value.update(schema=99)), ("alpha", "delta")
    yield "no counts", info(lambda value: value["counts"].clear()), ("alpha", "delta")
    yield "a task that is text", info(lambda value: value["tasks"].update(videomme="x")), ("alpha", "delta")
    yield "no protocol", info(lambda value: value["tasks"]["videomme"].pop("protocol")), ("alpha", "delta")
    for name, value in {"seeds": "two", "trials": {}, "questions": 10**400, "videos": -1, "seeds ": None}.items():
        changed = {name.strip(): value}
        yield f"counts of {changed}", info(lambda v, c=changed: v["counts"]["videomme"].update(c)), ("alpha", "delta")
    for name, value in {"split": 0.5, "protocol": 7, "source": {}, "sampling": {"num_frames": []}}.items():
        changed = {name: value}
        yield f"a task of {changed}", info(lambda v, c=changed: v["tasks"]["videomme"].update(c)), ("alpha", "delta")
    yield "a model that may look", info(lambda v: v["models"]["alpha"].update(reads_video=[])), ("alpha", "delta")
    yield "a model that is text", info(lambda value: value["models"].update(alpha="x")), ("alpha", "delta")
    for name, value in {
        "question": 5,
        "options": "ABCD",
        "answer": ["A"],
        "groups": {"domain": [["a"]]},
        "response": {"text": "A"},
        "error": 5,
        "seed": "0",
        "environment": 77,
        "encode_s": "fast",
        "cost": {"encode": 5},
        "size": ["a", "b"],
        "seen": {"frames": "many", "height": [], "width": {}},
        "peak_bytes": 10**400,
        "video": None,
        "extra": [],
    }.items():
        yield f"{name} = {value!r}", line(**{name: value}), ("alpha",)


@pytest.mark.parametrize(("damage", "gone"), [pytest.param(*rest, id=name) for name, *rest in damages()])
def test_a_damaged_run_is_left_out_by_name(
    cli: Cli, runs: Path, tmp_path: Path, damage: Callable[[Path], object], gone: tuple[str, ...]
) -> None:
    damage(runs)
    board = Leaderboard.from_runs([runs])
    kept = {("one", "alpha"), ("one", "delta"), ("two", "alpha"), ("two", "delta")} - {("one", model) for model in gone}
    assert {(result.run, result.model) for result in board.results} == kept
    assert board.left_out and all(str(runs / "one") in line for line in board.left_out)
    for command in (
        ("leaderboard", runs, "--output", tmp_path / "tables"),
        ("report", runs, "-o", tmp_path / "page.html"),
        ("export", runs, "--format", "lmms-eval", "--output", tmp_path / "logs"),
        ("items", runs),
    ):
        status, _, err = cli(*command)
        assert status in (0, 1), (command, err)
        if command[0] in ("leaderboard", "report"):  # others need not meet what is wrong
            assert str(runs / "one") in err, (command, err)
    with pytest.raises(UserError, match="one"):  # where nothing else is there, that is what to say
        Leaderboard.from_runs([runs / "one" if len(gone) == 2 else _alone(runs)])


def _alone(runs: Path) -> Path:
    (runs / "one" / "videomme.delta.jsonl").unlink()
    return runs / "one"


def test_a_run_does_not_go_on_over_a_record_it_cannot_read(runs: Path) -> None:
    edit(records(runs), lambda line: line.update(seed="0"))
    with pytest.raises(UserError, match=r"videomme\.alpha\.jsonl.*'seed' is '0', not int"):
        latest_records(records(runs))
    assert Record.from_json({"question": "somebody else's"}) is None


# ------------------------------------------------------------------------------------------------- long cells


def test_an_over_long_cell_refuses_no_benchmark(tmp_path: Path) -> None:
    rows = nextqa_rows(4, {"CW": 4, "TN": 4})
    rows[0]["question"] = "so long " * 20_000
    file = write_nextqa(tmp_path, rows, CSV) / CSV
    limit = csv.field_size_limit()
    videos = load_task("nextqa").load(tmp_path)
    lengths = [len(question.text) for video in videos for question in video.questions]
    assert len(lengths) == 8 and max(lengths) > 131_072
    assert csv.field_size_limit() == limit, "nobody else's reader is changed"
    file.write_text(file.read_text() + '"never closed,' + "a,b\n" * 50_000)
    with pytest.raises(MissingData, match="never closed"):
        load_task("nextqa").load(tmp_path)


# ------------------------------------------------------------------------------------------------- forms


FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "=cmd|' /C calc'!A0", "＝1+1"]


def test_spreadsheets_compute_nothing(tmp_path: Path) -> None:
    unchanged = ["-", "", "a=1", "-5.25", "+3", "-1e-5", "'=1", "5 - 3", "é"]
    rows = [{"=head": text, "number": number} for text in FORMULAS + unchanged for number in (-1.5, 7, None, True)]
    write_csv(tmp_path / "t.csv", rows)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        head, *cells = csv.reader(file)
    assert head == ["'=head", "number"] and len(cells) == len(rows)
    for (text, number), row in zip(cells, rows, strict=True):
        assert number == ("" if row["number"] is None else str(row["number"])), "numbers stay as they are"
        if row["=head"] in FORMULAS:
            assert text[0] == "'" and text[1:].replace("\\r", "\r") == row["=head"]
        else:
            assert text == row["=head"]
    assert "\r" not in (tmp_path / "t.csv").read_bytes().decode()


def test_a_cell_stays_a_cell_in_markdown() -> None:
    odd = "a|b \\| c\\\nd <script>x</script> <!-- 1 < 2 \x1b[31m"
    table = markdown_table([{"x|y": odd, "z": "last"}])
    lines = table.splitlines()
    assert len(lines) == 3
    for line in lines:  # as GitHub reads it: a backslash takes the next character with it
        assert len(re.sub(r"\\.", "", line).split("|")) == 4, line
    assert "<script" not in table and "</script" not in table and "<!--" not in table and "1 < 2" in table
    assert "\x1b" not in table and "\\x1b[31m" in table
    assert short("a|b\nc") == "a|b c", "escaped once, where the table is made"


def test_latex_takes_text_for_text() -> None:
    table = tabulated([{"a_b": "50% & $5 #1 {x} ~ ^ \\input{/etc/passwd}\n\nnext"}], "latex")
    (row,) = [line for line in table.splitlines() if "50" in line]
    text = row.strip().removesuffix("\\\\")
    for plain, written in {"%": "\\%", "&": "\\&", "$": "\\$", "#": "\\#", "{x}": "\\{x\\}"}.items():
        assert written in text, plain
    assert "\\textbackslash{}input\\{" in text and "\\textasciitilde{}" in text and "\\^{}" in text
    assert "a\\_b" in table and text.rstrip().endswith("next")


def test_a_label_is_no_markup_in_any_form(cli: Cli, runs: Path, tmp_path: Path) -> None:
    label = "=a|b&<img src=x onerror=alert(1)>_%"
    run = runs / "one"
    info = json.loads((run / "run.json").read_text())
    info["models"][label] = info["models"].pop("alpha")
    (run / "run.json").write_text(json.dumps(info))
    records(runs).rename(run / f"videomme.{label}.jsonl")
    assert cli("leaderboard", runs, "--output", tmp_path)[0] == 0
    assert cli("report", runs, "-o", tmp_path / "page.html")[0] == 0
    with (tmp_path / "leaderboard.csv").open(newline="") as file:
        models = {row["model"] for row in csv.DictReader(file)}
    assert f"'{label}" in models and label not in models
    assert label in {row["model"] for row in json.loads((tmp_path / "leaderboard.json").read_text())}
    assert "=a\\|b&&lt;img" in (tmp_path / "leaderboard.md").read_text()
    assert "=a|b\\&" in (tmp_path / "leaderboard.tex").read_text()
    for name in ("leaderboard.md", "page.html"):
        assert "<img src=x" not in (tmp_path / name).read_text(encoding="utf-8"), name


def test_the_page_names_what_may_act_in_it(cli: Cli, runs: Path, tmp_path: Path) -> None:
    assert cli("report", runs, "-o", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        assert "unsafe" not in rules[kind]
        for text in re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in rules[kind].split(), kind


# ------------------------------------------------------------------------------------------------- terminals


def test_a_terminal_obeys_nothing(cli: Cli, runs: Path) -> None:
    edit(
        records(runs),
        lambda line: line.update(response=None, error="\x1b[2J\x1b]0;owned\x07 \u202egnp.exe\x9b1m\rgone"),
    )
    info = json.loads((runs / "one" / "run.json").read_text())
    info["models"]["alpha"]["trained_on"] = "\x1b[31mred"
    (runs / "one" / "run.json").write_text(json.dumps(info))
    for command in (("leaderboard", runs), ("leaderboard", runs / "one\x1b[31m")):
        _, out, err = cli(*command)
        assert not set(out + err) & set("\x1b\x07\x9b\r\u202e"), command
        assert "\\x1b[" in out + err
    assert visible("a\tb\nc é 😀 \x1b") == "a\tb\nc é 😀 \\x1b"
