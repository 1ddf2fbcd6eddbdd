"""Judging over HTTP: the real client library against an endpoint of the test's own."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_files import dream1k_rows, mlvu_generation_rows, write_dream1k, write_mlvu, write_mlvu_generation
from judge_server import Reply, judge_server
from vamba_eval.tasks.dream1k import DREAM1K

from vamba_eval import Leaderboard, evaluate
from vamba_eval.contracts import Answer, ModelAdapter, Question, Task, UserError
from vamba_eval.score.judge import grade_runs, judge_endpoint

Cli = Callable[..., tuple[int, str, str]]


class Describer(ModelAdapter):
    """Responds with numbered texts."""

    name = "describer"
    reads_video = False

    def __init__(self) -> None:
        self.number = 0

    def encode(self, clip: Any) -> None:
        return None

    def generate(self, encoded: Any, prompts: Sequence[str], settings: Any) -> list[Answer]:
        self.number += 1
        return [Answer(f'The "Man" makes step {self.number}.', num_tokens=5)]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run on 15 clips of DREAM-1K, three of each source."""
    write_dream1k(tmp_path, dream1k_rows(3))
    evaluate(["dream1k"], [Describer()], data_root=tmp_path, output=tmp_path / "results", progress=False)
    return tmp_path / "results" / "dream1k"


def prompt_of(request: dict[str, Any]) -> str:
    return request["messages"][-1]["content"]


def is_extraction(request: dict[str, Any]) -> bool:
    return prompt_of(request).startswith("Bellow is a description")


def events_in(request: dict[str, Any]) -> list[str]:
    match = re.search(r"\nEvents: (.*)\nOutput a JSON", prompt_of(request))
    assert match
    return ast.literal_eval(match.group(1))


def relationship(event: str) -> str:
    """What this judge thinks of an event: by its last letters."""
    return ("entailment", "neutral", "entailment", "contradiction")[sum(event.encode()) % 4]


def extracted(caption: str) -> list[str]:
    """The events that this judge finds: none to three, by the number in the caption."""
    number = int(re.findall(r"\d+", caption)[0])
    return [f"man steps {number} {n}" for n in range(number % 4)]


def autodq(request: dict[str, Any]) -> Reply:
    if is_extraction(request):
        return Reply(json.dumps({"events": extracted(prompt_of(request).split("\n")[1])}))
    entries = [{"event": e, "relationship": relationship(e), "reason": "so"} for e in events_in(request)]
    return Reply("```json\n" + json.dumps({"events": entries}, indent=2) + "\n```")


def judge(cli: Cli, run: Path, url: str, *more: object) -> tuple[int, str, str]:
    """What it printed is one line: a terminal's width is no matter here."""
    cache = run.parent / "judge_cache"
    command = ("judge", run, "--judge-model", "gpt-test", "--judge-url", url, "--judge-cache", cache, *more)
    status, output, errors = cli(*command)
    return status, " ".join(output.split()), errors


def judged_lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "dream1k.describer.judged.jsonl").read_text().splitlines()]


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "dream1k.describer.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "change",
    [
        {"judge": "gpt"},
        {"judge": {"model": 5, "url": "u"}},
        {"judge": {"model": "m", "url": "u", "more": "x"}},
        {"question": ["q"]},
        {"seed": {}},
        {"rotation": []},
        {"digest": []},
        {"error": {"why": 1}},
    ],
    ids=str,
)
def test_a_line_that_no_judge_wrote_costs_nothing(run: Path, cli: Cli, change: dict[str, Any]) -> None:
    with judge_server(autodq) as server:
        assert judge(cli, run, server.url)[0] == 0
        lines = judged_lines(run)
        damaged = json.dumps({**lines[0], **change}) + "\n"
        path = run / "dream1k.describer.judged.jsonl"
        path.write_text(damaged + "".join(json.dumps(line) + "\n" for line in lines[1:]))
        status, output, _ = judge(cli, run, server.url)
    assert status == 0 and "1 responses judged, 14 had been judged before" in output
    assert len(judged_lines(run)) == 16


# ----------------------------------------------------------------------------------------------- the whole way


def test_grades_become_the_benchmarks_score(run: Path, cli: Cli, tmp_path: Path) -> None:
    with judge_server(autodq) as server:
        status, output, _ = judge(cli, run, server.url)
    assert status == 0 and "graded by gpt-test at http://127.0.0.1" in output
    recalls: dict[str, list[float]] = {}
    precisions: dict[str, list[float]] = {}
    for row, record in zip(dream1k_rows(3), records(run), strict=True):
        for found, events in (
            (recalls, row["extra_info"]["events"]),
            (precisions, extracted(record["response"])),
        ):
            share = np.mean([relationship(e) == "entailment" for e in events]) if events else 1.0
            found.setdefault(row["dataset"], []).append(float(share))
    r = np.mean([np.mean(values) for values in recalls.values()])
    p = np.mean([np.mean(values) for values in precisions.values()])
    (row,) = csv.DictReader((run / "leaderboard.csv").open())
    assert row["metric"] == "F1" and float(row["score"]) == pytest.approx(2 * r * p / (r + p))
    assert float(row["ci95_low"]) < float(row["score"]) < float(row["ci95_high"])
    assert row["not_judged"] == "0" and row["judge"].startswith("gpt-test at ")
    metrics = {(b["group"], b["value"]): float(b["score"]) for b in csv.DictReader((run / "breakdowns.csv").open())}
    assert metrics["all", "recall"] == pytest.approx(r) and metrics["all", "precision"] == pytest.approx(p)
    for source in recalls:
        r, p = np.mean(recalls[source]), np.mean(precisions[source])
        assert metrics["source", source.removeprefix("DREAM/")] == pytest.approx(2 * r * p / (r + p))
    # Neither the benchmark's files nor the endpoint are needed any more.
    (tmp_path / "dream1k" / "DREAM-1k.jsonl").unlink()
    status, again, _ = cli("leaderboard", run)
    assert status == 0 and f"{100 * float(row['score']):.1f} [" in again


class Thinker(Describer):
    """As ``Describer``, with its thoughts in the response."""

    def generate(self, encoded: Any, prompts: Sequence[str], settings: Any) -> list[Answer]:
        (answer,) = super().generate(encoded, prompts, settings)
        return [Answer(f"<think>It may be step 99.</think>\n\n{answer.text}", num_tokens=5)]


def test_thoughts_of_judges_and_of_models_change_no_grade(run: Path, cli: Cli, tmp_path: Path) -> None:
    def thinking(request: dict[str, Any]) -> Reply:
        assert "step 99" not in prompt_of(request) and "<think>" not in prompt_of(request)
        thought = '<think>Perhaps {"events": ["x"]}, or [{"relationship": "neutral"}]?</think>\n'
        return Reply(thought + autodq(request).text)

    output = tmp_path / "thinking"
    evaluate(["dream1k"], [Thinker()], data_root=tmp_path, output=output, progress=False)
    with judge_server(autodq) as server:
        judge(cli, run, server.url)
    with judge_server(thinking) as server:
        status, _, _ = judge(cli, output / "dream1k", server.url)
    assert status == 0
    (plain,), (thought,) = (csv.DictReader((each / "leaderboard.csv").open()) for each in (run, output / "dream1k"))
    assert thought["score"] == plain["score"] and thought["not_judged"] == "0"


def test_a_run_says_what_is_not_judged_and_never_asks(run: Path, cli: Cli) -> None:
    status, output, _ = cli("leaderboard", run)
    said = " ".join(output.split())
    assert status == 0 and "not judged" in output
    assert f"NOT JUDGED: describer on DREAM-1K: 15 responses: run_eval.py judge {run} --judge-model M" in said
    (result,) = Leaderboard.from_runs([run]).results
    assert not result.summary.metrics and result.unjudged == 15 and result.failed == 0


def test_nothing_is_asked_twice(run: Path, cli: Cli) -> None:
    with judge_server(autodq) as server:
        judge(cli, run, server.url)
        asked = len(server.requests)
        first = (run / "leaderboard.csv").read_text()
        _, output, _ = judge(cli, run, server.url)
        assert "0 responses judged, 15 had been judged before, 0 failed. 0 requests" in output
        (run / "dream1k.describer.judged.jsonl").unlink()
        _, output, _ = judge(cli, run, server.url)
        assert "15 responses judged" in output and "0 requests: 0 tokens in, 0 out" in output
        assert f"from the cache {asked}: {100 * asked:,} in, {10 * asked} out" in output
    assert len(server.requests) == asked and (run / "leaderboard.csv").read_text() == first
    reference = sum(bool(row["extra_info"]["events"]) for row in dream1k_rows(3))
    own = sum(bool(extracted(record["response"])) for record in records(run))
    assert asked == 15 + reference + own, "an extraction and, where there are events, a check each way"


def test_tokens_and_cost(run: Path, cli: Cli) -> None:
    with judge_server(autodq) as server:
        _, output, _ = judge(cli, run, server.url, "--judge-price", "0.5,1.5")
    n = len(server.requests)
    dollars = (100 * n * 0.5 + 10 * n * 1.5) / 1e6
    assert f"{n} requests: {100 * n:,} tokens in, {10 * n} out, ${dollars:.4f}" in output
    lines = judged_lines(run)
    assert sum(line["usage"]["requests"] for line in lines) == n
    assert sum(line["usage"]["prompt_tokens"] for line in lines) == 100 * n
    assert lines[0]["judge"] == {"model": "gpt-test", "url": server.url}


def test_a_request_is_the_protocols(run: Path, cli: Cli) -> None:
    with judge_server(autodq) as server:
        judge(cli, run, server.url)
    assert set(server.keys) == {"Bearer sk-test"}
    for request in server.requests:
        assert set(request) == {"model", "messages"} and request["model"] == "gpt-test"
    extraction = next(prompt_of(r) for r in server.requests if is_extraction(r))
    assert re.search(r"Video Description: the 'man' makes step \d+\.\n", extraction), "lower case, no double quotes"


# ------------------------------------------------------------------------------------- what endpoints do


def test_busy_and_broken_endpoints_are_waited_for(run: Path, cli: Cli) -> None:
    trouble = [Reply(status=429, headers={"Retry-After": "1"}), Reply(status=500)]
    with judge_server(lambda request: trouble.pop(0) if trouble else autodq(request)) as server:
        status, output, _ = judge(cli, run, server.url, "--judge-requests", 1)
    assert status == 0 and "15 responses judged" in output
    assert server.times[1] - server.times[0] >= 1.0, "as long as Retry-After says"
    assert server.requests[0] == server.requests[1] == server.requests[2]


def test_requests_in_flight_are_bounded(run: Path, cli: Cli) -> None:
    with judge_server(autodq, seconds=0.05) as server:
        judge(cli, run, server.url, "--judge-requests", 3)
    assert server.most == 3


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(status=401, code="invalid_api_key"), "does not accept the key in OPENAI_API_KEY"),
        (Reply(status=403), "does not accept the key"),
        (Reply(status=404, code="model_not_found"), "check --judge-model and --judge-url"),
        (Reply(status=429, code="insufficient_quota", headers={"x-should-retry": "false"}), "quota is used up"),
    ],
)
def test_what_concerns_all_responses_ends_it_at_once(run: Path, cli: Cli, reply: Reply, message: str) -> None:
    with judge_server(lambda _: reply) as server:
        status, _, errors = judge(cli, run, server.url, "--judge-requests", 2)
    assert status == 2 and message in errors and "Traceback" not in errors
    assert len(server.requests) <= 3
    assert not (run / "dream1k.describer.judged.jsonl").exists()


def test_an_endpoint_that_keeps_failing_is_given_up(run: Path) -> None:
    with judge_server(lambda _: Reply(status=503)) as server:
        endpoint = judge_endpoint("m", server.url, cache=run / "cache", max_retries=0)
        with endpoint, pytest.raises(UserError, match=r"failed 10 times in a row, the last time with: .*503"):
            grade_runs([run], endpoint, requests=1, progress=False)
    assert len(server.requests) <= 11


def test_one_that_is_not_there_is_given_up(run: Path) -> None:
    endpoint = judge_endpoint("m", "http://127.0.0.1:9/v1", cache=run / "cache", max_retries=0)
    with endpoint, pytest.raises(UserError, match="in a row, the last time with: the judge gave no answer: Connection"):
        grade_runs([run], endpoint, progress=False)


def test_a_key_is_needed_where_openai_is_asked(run: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    status, _, errors = cli("judge", run, "--judge-model", "gpt-test")
    assert status == 2 and "set OPENAI_API_KEY" in errors
    with judge_server(autodq) as server:  # one's own server needs none
        assert judge(cli, run, server.url)[0] == 0


def test_another_variable_holds_the_key(run: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-mine")
    with judge_server(autodq) as server:
        assert judge(cli, run, server.url, "--judge-key-env", "MY_KEY")[0] == 0
    assert set(server.keys) == {"Bearer sk-mine"}


def test_urls_lose_their_credentials(run: Path, cli: Cli) -> None:
    with judge_server(autodq) as server:
        url = server.url.replace("//", "//user:secret@") + "/"
        status, output, errors = judge(cli, run, url)
        assert status == 0 and all(key.startswith("Basic ") for key in server.keys)
    assert judged_lines(run)[0]["judge"]["url"] == server.url
    assert "secret" not in output + errors + (run / "dream1k.describer.judged.jsonl").read_text()


# ------------------------------------------------------------------------------- what judges write


def test_an_answer_that_is_not_understood_is_asked_again(run: Path, cli: Cli) -> None:
    broken = ["I cannot.", '{"events": [', json.dumps({"events": []})]
    with judge_server(
        lambda request: Reply(broken.pop(0)) if broken and not is_extraction(request) else autodq(request)
    ) as server:
        status, _, _ = judge(cli, run, server.url, "--judge-requests", 1)
        assert status == 0
        asked = len(server.requests)
        relations = [r for r in server.requests if not is_extraction(r)]
        assert relations[0] == relations[1] == relations[2] == relations[3] != relations[4]
        (run / "dream1k.describer.judged.jsonl").unlink()
        judge(cli, run, server.url)
        assert len(server.requests) == asked, "the cache has all four attempts"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Reply("no JSON"), "the judge related no events in 10 tries; the last: "),
        (Reply('{"events": [', finish="length"), "was cut off after 10 tokens"),
        (Reply("", refusal="I will not"), "the judge refused: I will not"),
        (Reply("", finish="content_filter"), "withheld by a content filter"),
        (Reply(" "), "the judge's answer is empty"),
        (Reply(status=400, code="context_length_exceeded"), "the judge gave no answer: Error code: 400"),
        (Reply(raw=b"<html>busy</html>", headers={"Content-Type": "text/html"}), "is not a chat completion: '<html>"),
        (Reply(raw=b"{"), "the judge gave no answer: "),
        (Reply(raw=b'{"choices": []}'), "is not a chat completion"),
    ],
)
def test_one_bad_answer_costs_one_judgement_and_a_rerun_asks_for_it_alone(
    run: Path, cli: Cli, bad: Reply, reason: str
) -> None:
    def answer(request: dict[str, Any]) -> Reply:
        unlucky = not is_extraction(request) and "The man's step 6 0." in prompt_of(request)
        return bad if unlucky else autodq(request)

    with judge_server(answer) as server:
        status, output, _ = judge(cli, run, server.url)
        assert status == 1 and "14 responses judged, 0 had been judged before, 1 failed (first reason: " in output
        assert reason in output and "(14/15)" in output
        assert f"1 responses (1 failed; first reason: {judged_lines_error(run)})" in output
        asked = len(server.requests)
        server.answer = autodq
        status, output, _ = judge(cli, run, server.url)
        assert status == 0 and "1 responses judged, 14 had been judged before, 0 failed" in output
        assert " of 14/15" not in output and "NOT JUDGED" not in output
        new = server.requests[asked:]
        assert "The man's step 6 0." in prompt_of(new[0]) and len(new) == 2, "extraction comes from the cache"


def judged_lines_error(run: Path) -> str:
    (error,) = [line["error"] for line in judged_lines(run) if line["error"] is not None]
    return error


def test_halves_of_surrogate_pairs_can_be_judged(run: Path, cli: Cli) -> None:
    path = run / "dream1k.describer.jsonl"
    lines = records(run)
    lines[0]["response"] = "The man \ud83d walks 3."
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with judge_server(autodq) as server:
        assert judge(cli, run, server.url)[0] == 0
    assert any("the man � walks 3." in prompt_of(request) for request in server.requests)


# ----------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_judging_that_is_stopped_goes_on_where_it_was(run: Path, cli: Cli, end: int) -> None:
    root = Path(__file__).parent.parent
    with judge_server(autodq, seconds=0.1) as server:
        arguments = ["--judge-model", "gpt-test", "--judge-url", server.url, "--judge-requests", "2"]
        arguments += ["--judge-cache", str(run.parent / "judge_cache")]
        process = subprocess.Popen(
            [sys.executable, str(root / "run_eval.py"), "judge", str(run), *arguments],
            env={**os.environ, "OPENAI_API_KEY": "sk-test"},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        path = run / "dream1k.describer.judged.jsonl"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (path.exists() and path.read_bytes().count(b"\n") >= 3):
            time.sleep(0.02)
        process.send_signal(end)
        assert process.wait(timeout=120) == (-end if end == signal.SIGKILL else 130)
        before = path.read_bytes()
        done = before.count(b"\n")
        assert 3 <= done < 15
        path.write_bytes(before + b'{"question": "torn')
        asked = len(server.requests)
        server.seconds = 0.0
        status, output, _ = judge(cli, run, server.url)
    assert status == 0 and f"{15 - done} responses judged, {done} had been judged before" in output
    assert path.read_bytes().startswith(before) and len(judged_lines(run)) == 15
    lost = [r for r in server.requests[asked:] if r in server.requests[:asked]]
    assert len(lost) <= 2, "what was under way when it was killed"


def test_a_changed_response_is_judged_again(run: Path, cli: Cli) -> None:
    with judge_server(autodq) as server:
        judge(cli, run, server.url)
        lines = records(run)
        lines[3]["response"] += " And 2 more."
        (run / "dream1k.describer.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (result,) = Leaderboard.from_runs([run]).results
        assert result.unjudged == 1, "a judgement of another text does not count"
        _, output, _ = judge(cli, run, server.url)
    assert "1 responses judged, 14 had been judged before" in output
    (result,) = Leaderboard.from_runs([run]).results
    assert result.unjudged == 0


def test_two_judges_stand_in_one_file_and_tables_name_one(run: Path, cli: Cli) -> None:
    def strict(request: dict[str, Any]) -> Reply:
        reply = autodq(request)
        return Reply(reply.text.replace('"entailment"', '"neutral"')) if request["model"] == "strict" else reply

    with judge_server(strict) as server:
        judge(cli, run, server.url)
        status, output, _ = cli("judge", run, "--judge-model", "strict", "--judge-url", server.url)
        assert status == 0 and "graded by strict at" in output and "graded by gpt-test" not in output
    (either,) = Leaderboard.from_runs([run]).results
    assert not either.summary.metrics
    assert re.search(r"judged by gpt-test at \S+ and by strict at \S+: name one with --judge", either.unjudged_why)
    (lenient,) = Leaderboard.from_runs([run], judge="gpt-test").results
    (named,) = Leaderboard.from_runs([run], judge=f"strict@{server.url}").results
    assert lenient.summary.headline[1].value > named.summary.headline[1].value
    _, output, _ = cli("leaderboard", run, "--judge", "gpt-test")
    assert "graded by gpt-test at" in output
    _, output, _ = cli("leaderboard", run, "--judge", "nobody")
    assert "nobody has judged nothing here, but gpt-test at" in " ".join(output.split())


def test_runs_without_free_text_and_bad_prices_are_mistakes(tmp_path: Path, run: Path, cli: Cli) -> None:
    write_mlvu(tmp_path, 2)
    evaluate(["mlvu"], ["constant"], data_root=tmp_path, output=tmp_path / "other", progress=False)
    status, _, errors = judge(cli, tmp_path / "other", "http://127.0.0.1:9/v1")
    assert status == 2 and "no responses in free text" in errors
    status, _, errors = judge(cli, run, "http://127.0.0.1:9/v1", "--judge-price", "cheap")
    assert status == 2 and "write IN,OUT" in errors
    status, _, errors = judge(cli, run, "localhost:8000")
    assert status == 2 and "should look like https://HOST/v1" in errors


# ------------------------------------------------------------------------------------------ what is left out


def lost(folder: Path, source: str = "/gone/my_task.py") -> None:
    """The run says that its task comes from a ``source`` that is not there."""
    info = json.loads((folder / "run.json").read_text())
    info["tasks"]["dream1k"]["source"] = source
    (folder / "run.json").write_text(json.dumps(info))


def copied(run: Path, name: str) -> Path:
    folder = run.parent / name
    shutil.copytree(run, folder)
    return folder


@pytest.mark.parametrize(
    "source, reason",
    [
        ("/gone/my_task.py", "dream1k: its task is code of somebody's own, which is only run if you name it"),
        ("test_judging:Unsure", "dream1k, describer: it cannot be said what a judge grades: KeyError: 'kind'"),
        ("test_judging:Judgeless", "dream1k, describer: unsure has no method judge"),
    ],
)
def test_a_task_that_is_lost_takes_no_other_run_with_it(source: str, reason: str, run: Path, cli: Cli) -> None:
    moved = copied(run, "a-moved")  # before the sound one
    lost(moved, source)
    with judge_server(autodq) as server:
        cache = run.parent / "judge_cache"
        arguments = ("--judge-model", "gpt-test", "--judge-url", server.url, "--judge-cache", cache)
        status, output, errors = cli("judge", run.parent, *arguments)
        assert status == 1 and f"left out: {moved}, {reason}" in errors
        assert "15 responses judged" in output and "graded by gpt-test at" in output
        assert len(judged_lines(run)) == 15 and (run / "leaderboard.md").exists()
        assert not (moved / "dream1k.describer.judged.jsonl").exists()
        status, output, errors = cli("judge", moved, *arguments)
        assert status == 2 and reason in errors and not output, "nothing else is there"
        lost(moved, "dream1k")
        status, output, errors = cli("judge", run.parent, *arguments)
        assert status == 0 and "15 responses judged, 15 had been judged before" in output and "left out" not in errors


def test_a_lost_task_of_the_same_run_costs_its_tables_alone(tmp_path: Path, cli: Cli) -> None:
    write_dream1k(tmp_path, dream1k_rows(1))
    write_mlvu(tmp_path, 1)
    common = {"data_root": tmp_path, "output": tmp_path / "results", "progress": False, "name": "run"}
    evaluate(["mlvu", "dream1k"], [Describer()], **common)
    run = tmp_path / "results" / "run"
    info = json.loads((run / "run.json").read_text())
    info["tasks"]["mlvu"]["source"] = "no_such_module:Mlvu"
    (run / "run.json").write_text(json.dumps(info))
    with judge_server(autodq) as server:
        status, output, errors = judge(cli, run, server.url)
    assert status == 1 and "5 responses judged" in output and len(judged_lines(run)) == 5
    assert "left out" in errors and "--task-code no_such_module:Mlvu" in errors
    assert "dream1k" in (run / "leaderboard.csv").read_text(), "what can be scored has its tables"


class Unsure(DREAM1K):
    def needs_judge(self, question: Question) -> bool:
        return bool(question.extra["kind"])


class Judgeless(DREAM1K):
    name = "unsure"
    judge = Task.judge


# ------------------------------------------------------------------------------------------ points


def test_mlvu_generation_is_graded_in_points(tmp_path: Path, cli: Cli) -> None:
    scenes, summaries = mlvu_generation_rows("subPlot", 6), mlvu_generation_rows("summary", 4)
    write_mlvu_generation(tmp_path, scenes, summaries)
    evaluate(["mlvu_generation"], [Describer()], data_root=tmp_path, output=tmp_path / "results", progress=False)
    run = tmp_path / "results" / "mlvu_generation"

    def answer(request: dict[str, Any]) -> Reply:
        assert request["temperature"] == 0
        number = int(re.findall(r"Respondent's Answer: .*step (\d+)", prompt_of(request))[0])
        first, second = 1 + number % 5, 1 + number % 3
        if "COMPLETENESS" in request["messages"][0]["content"]:
            assert "Standard Answer: The man does " in prompt_of(request)
            return Reply(f"Good. {{'score_completeness': {first}, 'score_reliability': {second}, 'total_score': 9}}")
        assert 'Scoring Points: ["The man\'s point 0"' in prompt_of(request)
        return Reply(f'```json\n{{"score_accuracy": {first}.33, "score_relevance": {second}}}\n```')

    with judge_server(answer) as server:
        status, output, _ = judge(cli, run, server.url)
    # Responses 1 to 6 are scenes, 7 to 10 summaries; 1 + 5 % 5 + 0.33 and so on, by hand.
    scene = np.mean([2.33 + 2, 3.33 + 3, 4.33 + 1, 1.33 + 3, 2.33 + 1])  # the fourth is 5.33
    summary = np.mean([3 + 2, 4 + 3, 5 + 1, 1 + 2])
    assert status == 1, "5.33 is no grade"
    assert "score_accuracy is 5.33, not from 1 to 5" in output
    (row,) = csv.DictReader((run / "leaderboard.csv").open())
    assert row["metric"] == "G-Avg" and float(row["score"]) == pytest.approx((scene + summary) / 2)
    assert row["best"] == "10.0" or row["best"] == "10"
    assert f"{(scene + summary) / 2:.2f} [" in output and "(9/10)" in output
    metrics = {(b["group"], b["value"]): float(b["score"]) for b in csv.DictReader((run / "breakdowns.csv").open())}
    assert metrics["all", "sub_scene"] == pytest.approx(scene)
    assert metrics["question_type", "summary"] == pytest.approx(summary)
    assert metrics["all", "summary completeness"] == pytest.approx((3 + 4 + 5 + 1) / 4)
