"""Logs of lmms-eval as other machines and versions of it write them, made by hand; needs no lmms-eval."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import longvideobench_rows, videomme_rows, write_longvideobench, write_videomme
from choice_files import cgbench_rows, write_cgbench
from stored import latest_records

from vamba_eval import evaluate, load_task
from vamba_eval.contracts import (
    Answer,
    Catalogue,
    Clip,
    GenerationSettings,
    ModelAdapter,
    Question,
    Score,
    Task,
    UserError,
    Video,
)
from vamba_eval.exchange.export import export
from vamba_eval.exchange.lmms_files import find_logs
from vamba_eval.exchange.lmms_logs import Imported, import_logs
from vamba_eval.score.letters import extract_vamba, score_choice
from vamba_eval.score.scored import scored_runs
from vamba_eval.store.records import Record
from vamba_eval.store.runs import read_info
from vamba_eval.tables.leaderboard import Leaderboard

TASK = "longvideobench_val_v"
PROMPT = "What?\nA. one\nB. two\nAnswer with the option's letter from the given choices directly.\n"


def sample(number: int, response: str, **more: Any) -> dict[str, Any]:
    return {
        "doc_id": number,
        "filtered_resps": response,
        "target": "1",
        "input": PROMPT,
        "lvb_acc": {"id": f"q{number}", "answer": "B", "parsed_pred": response},
        **more,
    }


def write_log(folder: Path, samples: Sequence[dict[str, Any]], config: dict[str, Any] | None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"t_samples_{TASK}.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in samples))
    if config is not None:
        results = {"config": {"model": "m"}, "configs": {TASK: config}, "n-samples": {TASK: {"original": len(samples)}}}
        (folder / "t_results.json").write_text(json.dumps(results))
    return file


def imported(folder: Path, samples: Sequence[dict[str, Any]], config: dict[str, Any] | None) -> Imported:
    return import_logs([write_log(folder / "logs", samples, config)], folder, name="in", label="m")


def records(folder: Path, seed: int = 0) -> dict[str, dict[str, Any]]:
    return latest_records(folder / "in" / "longvideobench.m.jsonl", seed=seed)


@pytest.mark.parametrize("config", [{"repeats": 1}, None])
@pytest.mark.parametrize("filtered", ["B", ["B", "A"], ["B"]])
def test_what_pads_the_work_of_a_process_is_no_repetition(
    config: dict[str, Any] | None, filtered: Any, tmp_path: Path
) -> None:
    padded = sample(2, "B", resps=[["B", "A"]], filtered_resps=filtered)
    done = imported(tmp_path, [sample(0, "A"), sample(1, "B"), padded], config)
    assert done.num_records == 3 and not records(tmp_path, seed=1)
    assert [each["response"] for each in records(tmp_path).values()] == ["A", "B", "B"]
    (result,) = Leaderboard.from_runs(done.folders).results
    assert result.complete and result.summary.headline[1].value == pytest.approx(2 / 3)


@pytest.mark.parametrize("config", [{"repeats": 2}, None])
def test_repetitions_are_seeds_and_padding_none(config: dict[str, Any] | None, tmp_path: Path) -> None:
    samples = [sample(0, "A", resps=["A", "B"]), sample(1, "B", resps=["B", "B"])]
    padded = sample(2, "B", resps=[["B", "A", "B", "A"]])
    done = imported(tmp_path, [*samples, padded], config)
    assert done.num_records == 6
    assert [each["response"] for each in records(tmp_path).values()] == ["A", "B", "B"]
    assert [each["response"] for each in records(tmp_path, seed=1).values()] == ["B", "B", "A"]
    assert not records(tmp_path, seed=2)


@pytest.mark.parametrize("config", [{"repeats": 1}, None])
def test_padding_of_nearly_every_document_is_no_repetition(config: dict[str, Any] | None, tmp_path: Path) -> None:
    """Nine documents on eight processes: all processes but the first ask their only question twice."""
    padded = [sample(n, "B", resps=[["B", "B"]]) for n in range(1, 8)]
    done = imported(tmp_path, [sample(0, "A"), sample(8, "B"), *padded], config)
    (result,) = Leaderboard.from_runs(done.folders).results
    assert (result.answered, result.questions, result.complete, result.seeds) == (9, 9, True, 1)
    assert not any("was asked" in remark for remark in done.remarks)


def test_repetitions_that_are_not_logged_are_said(tmp_path: Path) -> None:
    """lmms-eval 0.7.3 logs the first alone where it removes reasoning, as its command does unless told otherwise."""
    done = imported(tmp_path, [sample(0, "A"), sample(1, "B", resps="<think>A</think>B")], {"repeats": 2})
    (said,) = (remark for remark in done.remarks if "was asked" in remark)
    assert "was asked 2 times, and the log holds 2 of 4 responses" in said and "--reasoning_tags none" in said
    assert done.num_records == 2 and not records(tmp_path, seed=1)


def test_a_document_that_is_logged_for_each_filter_is_one_question(tmp_path: Path) -> None:
    done = imported(tmp_path, [sample(0, "A"), sample(1, "B"), sample(0, "B"), sample(1, "B")], {"repeats": 1})
    assert done.num_records == 2 and [each["response"] for each in records(tmp_path).values()] == ["A", "B"]


def test_documents_that_name_themselves_alike_are_questions_apart(tmp_path: Path) -> None:
    samples = [sample(n, "AB"[n % 2], lvb_acc={"id": "v" if n < 2 else f"q{n}", "answer": "B"}) for n in range(3)]
    done = imported(tmp_path, samples, None)
    assert {name: each["response"] for name, each in records(tmp_path).items()} == {
        "doc-0": "A",
        "doc-1": "B",
        "q2": "A",
    }
    (result,) = Leaderboard.from_runs(done.folders).results
    assert result.summary.headline[1].value == pytest.approx(1 / 3)


def test_importing_again_adds_no_failure_either(tmp_path: Path) -> None:
    samples = [sample(0, "A"), sample(1, "[LMMS_EVAL_BUDGET_EXCEEDED]")]
    imported(tmp_path, samples, None)
    path = tmp_path / "in" / "longvideobench.m.jsonl"
    once = path.read_text()
    imported(tmp_path, samples, None)
    assert path.read_text() == once
    imported(tmp_path, [sample(0, "B"), sample(1, "B")], None)
    assert [each["response"] for each in records(tmp_path).values()] == ["A", "B"], "a response for what had failed"


def test_what_is_logged_in_place_of_a_prompt_is_none(tmp_path: Path) -> None:
    imported(tmp_path, [sample(0, "A", input={"max_new_tokens": 16})], None)
    (record,) = records(tmp_path).values()
    assert record["prompt"] is None and record["response"] == "A"


@pytest.mark.parametrize(
    "given, described",
    [
        ({"temperature": 0.7, "do_sample": True, "top_k": 0, "top_p": None}, {"temperature": 0.7, "top_k": None}),
        ({"temperature": 0.7, "do_sample": True, "top_k": -1, "top_p": 0}, {"top_k": None, "top_p": 1.0}),
        ({"temperature": 0.7, "do_sample": True, "top_k": 5, "top_p": 0.9}, {"top_k": 5, "top_p": 0.9}),
        ({"temperature": 0, "top_k": 0, "until": "\n"}, {"temperature": 1.0, "top_k": None, "until": ["\n"]}),
        ({"temperature": 0.7, "top_p": 7}, {"temperature": 0.7, "top_p": 7}),
    ],
)
def test_generation_arguments_of_every_model_are_read(given: Any, described: dict[str, Any], tmp_path: Path) -> None:
    done = imported(tmp_path, [sample(0, "A")], {"repeats": 1, "generation_kwargs": given})
    generation = read_info(done.folders[0])["tasks"]["longvideobench"]["generation"]
    assert described.items() <= generation.items()


FAILURES = [
    "[LMMS_EVAL_REQUEST_FAILED after 5 retries] Error code: 500 - Decode failed",
    "[LMMS_EVAL_BUDGET_EXCEEDED]",
    "[SAFETY_BLOCKED:finish_reason=2,HARM_CATEGORY_DANGEROUS=HIGH]",
    'Error: can only concatenate str (not "NoneType") to str',
    "[GENERATION_FAILED] out of memory",
    "[ERROR] Empty prompt",
    "Batch failed",
    "Video /data/a.mp4 can not load, check the source",
    "Video /data/a.mp4\n/data/b.mp4 generate failed, check the source",
]


def test_a_question_with_one_option_has_that_option(tmp_path: Path) -> None:
    """Five of MVBench's; what else begins with a letter in a prompt is no more telling than before."""
    lines = []
    for n, listed in enumerate((["(A) The cube."], ["(A) The cube.", "(B) The ball."])):
        prompt = "\n".join(
            ["Question:A. B. Smith collides with?", "Option:", *listed, "Only give the best option.", ""]
        )
        scored = {"pred_answer": "A", "gt_answer": "A", "score": 1}
        lines.append(
            {"doc_id": n, "filtered_resps": "A", "target": "The cube.", "input": prompt, "mvbench_accuracy": scored}
        )
    file = tmp_path / "logs" / "t_samples_mvbench_counterfactual_inference.jsonl"
    file.parent.mkdir()
    file.write_text("".join(json.dumps(each) + "\n" for each in lines))
    import_logs([file], tmp_path, name="in", label="m")
    (run,) = scored_runs([tmp_path / "in"])
    assert [record.options for record in run.records] == [["The cube."], ["The cube.", "The ball."]]
    assert [record.score.correct for record in run.scored] == [1, 1] and run.chance() == pytest.approx(0.75)


def test_failures_in_place_of_responses_are_failed_questions(tmp_path: Path) -> None:
    answers = ["B", "Error bars are shown, so B", "Error: none<tool_call>look</tool_response>B", "Batch failed: B"]
    done = imported(tmp_path, [sample(n, said) for n, said in enumerate([*FAILURES, *answers])], {"repeats": 1})
    found = records(tmp_path)
    for n, said in enumerate(FAILURES):
        record = Record.from_json(found[f"q{n}"])
        assert record is not None and record.response is None and not record.answered
        assert record.error == f"lmms-eval logged a failure: {said}"
    assert [each["response"] for each in found.values() if not each["error"]] == answers
    assert f"{TASK} (m): {len(FAILURES)} samples hold no response and count as failed" in done.remarks
    (result,) = Leaderboard.from_runs(done.folders).results
    assert not result.complete


# ------------------------------------------------------------------------------------------------- prompts


def asked(root: Path, protocol: str = "lmms-eval") -> list[dict[str, Any]]:
    """A sample a question, as lmms-eval asks it."""
    task = load_task("longvideobench")
    questions = [(video, question) for video in task.load(root) for question in video.questions]
    return [
        sample(n, "B", input=task.prompt(video, question, protocol, None), lvb_acc={"id": question.id})
        for n, (video, question) in enumerate(questions)
    ]


def test_prompts_are_those_of_the_protocol_or_it_is_said(tmp_path: Path) -> None:
    write_longvideobench(tmp_path, longvideobench_rows(6))
    samples = asked(tmp_path)

    def remarks(name: str) -> list[str]:
        log = write_log(tmp_path / name, samples, {"repeats": 1})
        return import_logs([log], tmp_path, name=f"in-{name}", label="m", data_root=tmp_path).remarks

    assert remarks("same") == []
    samples[0]["input"] = "<image>\n" + samples[0]["input"]
    samples[1]["input"] = "<image><image> " + samples[1]["input"].replace("\nA.", "\n<image>A.")
    assert remarks("marked") == []
    for n in (2, 4):
        samples[n]["input"] = samples[n]["input"].replace("Answer with", "Please answer with")
    del samples[5]["input"]
    first = samples[2]["lvb_acc"]["id"]
    said = "2 of 6 prompts are not those of our protocol 'lmms-eval', the first is that of question " + first
    assert remarks("others") == [f"{TASK} (m): {said}"]


def test_image_marks_do_not_hide_whose_prompt_it_is(tmp_path: Path) -> None:
    write_longvideobench(tmp_path, longvideobench_rows(4))
    samples = [{**each, "input": "<image>\n" + each["input"], "lvb_acc": {}} for each in asked(tmp_path)]
    log = write_log(tmp_path / "logs", samples, {"repeats": 1})
    assert import_logs([log], tmp_path, name="in", label="m", data_root=tmp_path).remarks == []
    assert list(records(tmp_path)) == [row["id"] for row in longvideobench_rows(4)]


@pytest.mark.parametrize("with_data", [True, False])
def test_logs_of_cg_bench(with_data: bool, tmp_path: Path) -> None:
    write_cgbench(tmp_path, rows := cgbench_rows(6))
    task = load_task("cgbench")
    samples = []
    for n, (video, question) in enumerate((v, q) for v in task.load(tmp_path) for q in v.questions):
        row = rows[n]
        told = {"question_id": row["qid"], "video_uid": row["video_uid"], "duration": row["duration"]}
        told |= {"category": row["domain"], "sub_category": row["sub_category"], "pred_answer": "B"}
        told |= {"answer": row["right_answer"], "score": float(row["right_answer"] == "B")}
        prompt = task.prompt(video, question, "lmms-eval", None)
        samples.append({"doc_id": n, "filtered_resps": "B", "target": row["right_answer"], "input": prompt})
        samples[-1]["cgbench_accuracy"] = told
    log = tmp_path / "logs" / "t_samples_cgbench.jsonl"
    log.parent.mkdir()
    log.write_text("".join(json.dumps(each) + "\n" for each in samples))
    done = import_logs([log], tmp_path, name="in", label="m", data_root=tmp_path if with_data else None)
    (stored,) = scored_runs(done.folders)
    known = {record.question: record for record in stored.records}
    assert len(known) == 6 and known["11"].groups["domain"] == "News" and known["11"].video == "BV0-_"
    assert known["10"].options == rows[0]["choices"] and known["10"].answer == "A"
    (result,) = Leaderboard.from_runs(done.folders).results
    assert result.summary.headline[1].value == sum(row["right_answer"] == "B" for row in rows) / 6


# --------------------------------------------------------------------------------------------- our own logs


class Sayer(ModelAdapter):
    """Says what protocols read differently: lmms-eval's finds no letter in the first two."""

    name = "m"
    reads_video = False

    def __init__(self) -> None:
        self.said = itertools.cycle(["b", "a", "I think B", "Error: A", "Because B. A"])

    def encode(self, clip: Clip | None) -> None:
        return None

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        return [Answer(next(self.said)) for _ in prompts]


@pytest.mark.parametrize("own", ["vamba", "official", "lmms-eval"])
@pytest.mark.parametrize("scored", ["vamba", "lmms-eval", None])
def test_an_export_comes_back_as_it_was_under_any_protocol(own: str, scored: str | None, tmp_path: Path) -> None:
    write_videomme(tmp_path, videomme_rows(4))
    common: dict[str, Any] = {"data_root": tmp_path, "output": tmp_path / "runs", "progress": False}
    evaluate(["videomme"], [Sayer()], protocol=own, **common)
    export([tmp_path / "runs"], tmp_path / "logs", "lmms-eval", scored)
    (run,) = scored_runs([tmp_path / "runs"])
    for name, root in (("alone", None), ("known", tmp_path)):
        done = import_logs([tmp_path / "logs"], tmp_path / "back", name=name, data_root=root)
        assert done.remarks == []
        (back,) = scored_runs(done.folders)
        assert back.protocol == own and back.summary == run.summary and len(back.answered) == 12
        for theirs, ours in zip(back.records, run.records, strict=True):
            fields = ("question", "video", "options", "answer", "groups", "extra", "prompt", "response")
            assert all(getattr(theirs, field) == getattr(ours, field) for field in fields)

    (samples,) = (tmp_path / "logs").rglob("*_samples_videomme.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    lines[7]["accuracy"] = not lines[7]["accuracy"]
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (remark,) = import_logs([tmp_path / "logs"], tmp_path / "back", name="changed").remarks
    assert "our scoring differs from the logged one on 1 questions" in remark


class Own(Task):
    """A task that is no name's: one with a group called as a field of the log is."""

    name = "own"
    version = "1"
    catalogue = Catalogue("Own")

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        asked = Question("q", "What?", ("yes", "no"), "A", groups={"answer": "short", "kind": "x"})
        return [Video("v", Path("v.mp4"), (asked,))]

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return question.text

    def score(self, question: Question, response: str, protocol: str) -> Score:
        return score_choice(question, response, extract_vamba)


def test_exports_of_a_task_of_somebodys_own_come_back(tmp_path: Path) -> None:
    evaluate([Own()], ["constant"], output=tmp_path / "runs", progress=False)
    export([tmp_path / "runs"], tmp_path / "logs", "lmms-eval")
    done = import_logs([tmp_path / "logs"], tmp_path / "back")
    (run,) = scored_runs(done.folders)
    (record,) = run.records
    assert run.summary.headline[1].value == 1 and (record.answer, record.groups) == ("A", {"kind": "x"})

    (results,) = (tmp_path / "logs").rglob("*_results.json")
    results.write_text(results.read_text().replace("test_import_lmms:Own", "no_such_module:Own"))
    with pytest.raises(UserError, match=r"not imported: .*--task-code no_such_module:Own"):
        import_logs([tmp_path / "logs"], tmp_path / "lost")
    write_log(tmp_path / "logs", [sample(0, "A")], None)
    done = import_logs([tmp_path / "logs"], tmp_path / "both")
    assert done.num_records == 1 and any("no_such_module:Own" in remark for remark in done.remarks)


def test_the_runs_of_a_ladder_come_back_apart(tmp_path: Path) -> None:
    write_videomme(tmp_path, videomme_rows(2))
    common: dict[str, Any] = {"data_root": tmp_path, "output": tmp_path / "runs", "progress": False}
    for frames in (8, 16):  # within a second, as the runs of a ladder are begun
        evaluate(["videomme"], [Sayer()], name=f"{frames}-frames", sampling={"num_frames": frames}, **common)
    for info in (tmp_path / "runs").rglob("run.json"):
        content = json.loads(info.read_text())
        info.write_text(json.dumps({**content, "begun": "2026-01-01T00:00:00+00:00"}))
    export([tmp_path / "runs"], tmp_path / "logs", "lmms-eval")
    done = import_logs([tmp_path / "logs"], tmp_path / "back")
    assert {run.fingerprint["sampling"]["num_frames"] for run in scored_runs(done.folders)} == {8, 16}


# ------------------------------------------------------------------------------------------- early versions


@pytest.mark.parametrize("key", ["model_configs", "config"])
@pytest.mark.parametrize("with_results", [True, False])
def test_logs_of_early_versions_are_one_object_a_task(key: str, with_results: bool, tmp_path: Path) -> None:
    """``args`` (the command's), the task's configuration, ``logs`` and, of some, ``time``."""
    rows = longvideobench_rows(4)
    write_longvideobench(tmp_path, rows)
    logs = []
    for n, each in enumerate(asked(tmp_path)):
        said = ["A", "B", "C", "[LMMS_EVAL_BUDGET_EXCEEDED]"][n]
        answer = "ABC"[rows[n]["correct_choice"]]
        logs.append(
            {
                "doc_id": n,
                "target": rows[n]["correct_choice"],
                "doc": {name: rows[n][name] for name in ("id", "video_path", "question", "candidates")},
                "arguments": [[each["input"], n, TASK, "validation"]],
                "resps": [[said, said]] if n == 2 else [[said]],
                "filtered_resps": [said],
                "lvb_acc": {"id": rows[n]["id"], "answer": answer, "parsed_pred": said},
            }
        )
    args = {"model": "llava_vid", "model_args": "pretrained=a/b,max_frames_num=32", "limit": None}
    config = {"task": TASK, "repeats": 1, "generation_kwargs": {"max_new_tokens": 16, "until": ["\n\n"]}}
    folder = tmp_path / "logs" / "0801_1200_llava"
    folder.mkdir(parents=True)
    file = folder / f"{TASK}.json"
    file.write_text(json.dumps({"args": args, key: config, "logs": logs, "time": "0801_1200"}, indent=4))
    if with_results:
        results = {"results": {TASK: {"lvb_acc,none": 0.75}}, "configs": {TASK: config}, "config": args}
        (folder / "results.json").write_text(json.dumps(results, indent=4))
        assert [log.file for log in find_logs([folder / "results.json"])] == [file]
    (folder / "other.json").write_text('{"doc_id": 1}')
    assert [log.file for log in find_logs([tmp_path / "logs", file])] == [file]

    done = import_logs([tmp_path / "logs"], tmp_path / "runs", data_root=tmp_path)
    assert done.remarks == [f"{TASK} (llava_vid): 1 samples hold no response and count as failed"]
    (made,) = done.folders
    assert made.name == "lmms-eval-llava_vid-0801_1200_llava"
    (run,) = scored_runs([made])
    assert [record.response for record in run.records] == ["A", "B", "C", None]
    assert [record.prompt for record in run.records] == [log["arguments"][0][0] for log in logs]
    assert run.fingerprint["sampling"]["num_frames"] == 32 and run.identity["pretrained"] == "a/b"
    assert run.fingerprint["generation"]["until"] == ["\n\n"]
    account = json.loads((made / "longvideobench.llava_vid.import.json").read_text())
    assert account["mapped"].keys() | account["not_mapped"].keys() >= logs[0].keys()
    alone = import_logs([file], tmp_path / "alone", label="m")
    (run,) = scored_runs(alone.folders)
    assert [record.question for record in run.records] == [row["id"] for row in rows]

    file.write_text('{"args": {}, "logs": [{"response": "A"}]}')
    with pytest.raises(UserError, match="doc_id"):
        import_logs([file], tmp_path / "broken")
    file.write_text('{"args": {}')
    with pytest.raises(UserError, match=f"{TASK}.json cannot be read"):
        import_logs([file], tmp_path / "broken")
