"""Logs of lmms-eval as other machines and versions of it write them, made by hand; needs no lmms-eval."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from stored import latest_records

from vamba_eval.exchange.lmms_logs import Imported, import_logs
from vamba_eval.store.records import Record
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
