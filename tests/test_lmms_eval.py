"""The real lmms-eval, as a command, with its own tasks on small local data and our package installed beside it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from judge_server import Reply, judge_server
from lmms_local import TASKS, install, results, run_lmms, samples, write_data, write_tasks
from stored import latest_records
from vamba_eval.model_adapters.vamba.adapter import VambaAdapter

from vamba_eval import registry
from vamba_eval.contracts import UserError
from vamba_eval.exchange.lmms_files import find_logs
from vamba_eval.exchange.lmms_logs import import_logs
from vamba_eval.store.runs import read_info
from vamba_eval.tables.leaderboard import Leaderboard

OURS = [ours for _, ours, _, _ in TASKS.values()]
FEW = "device=cpu,num_frames=8,workers=1"


@dataclass
class Place:
    """Everything that the runs of this module share."""

    root: Path

    home = property(lambda self: self.root / "home")
    site = property(lambda self: self.root / "site")
    tasks = property(lambda self: self.root / "tasks")
    checkpoint = property(lambda self: self.root / "checkpoint")

    def lmms(self, name: str, model: str, model_args: str, *more: object, processes: int = 1) -> Path:
        """The output folder of a run, with its logs."""
        output = self.root / name
        common = ["--model", model, "--model_args", model_args, "--include_path", self.tasks, "--batch_size", 1]
        common += ["--tasks", ",".join(TASKS), "--output_path", output, "--log_samples"]
        arguments = [*common, *more]
        done = run_lmms(self.site, self.home, self.root, *arguments, processes=processes)
        assert done.returncode == 0 and samples(output), f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        (output / "stdout.txt").write_text(done.stdout + done.stderr)
        return output


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("lmms"))
    write_data(place.home)
    write_tasks(place.tasks, place.home)
    install(place.site)
    adapter = VambaAdapter(seed=5)
    adapter.model.save_pretrained(place.checkpoint)
    adapter.processor.save_pretrained(place.checkpoint)
    return place


@pytest.fixture(scope="module")
def chat(place: Place) -> Path:
    return place.lmms("chat", "vamba", f"pretrained={place.checkpoint},{FEW}", "--use_cache", place.root / "cache")


@pytest.fixture(scope="module")
def native(place: Place) -> Path:
    """The same with ``run_eval.py --protocol lmms-eval``."""
    from vamba_eval.cli.main import main

    output = place.root / "native"
    common = ["--data-root", str(place.home), "--num-frames", "8", "--workers", "1", "--output", str(output)]
    model = ["--models", "vamba", "--model-args", f"vamba:pretrained={place.checkpoint},device=cpu"]
    assert main(["--tasks", ",".join(OURS), *model, "--protocol", "lmms-eval", "--name", "native", *common]) == 0
    return output / "native"


def responses(output: Path) -> dict[str, dict[int, Any]]:
    return {task: {n: row["filtered_resps"] for n, row in rows.items()} for task, rows in samples(output).items()}


def scores(output: Path) -> dict[str, dict[str, Any]]:
    return {
        task: {name: value for name, value in fields.items() if name != "alias" and "stderr" not in name}
        for task, fields in results(output)["results"].items()
    }


# ---------------------------------------------------------------------------------- installed beside it


def test_installing_costs_lmms_eval_nothing(place: Place) -> None:
    helped = run_lmms(place.site, place.home, place.root, "--help")
    assert helped.returncode == 0 and "usage" in helped.stdout.lower()
    code = (
        "import sys; from lmms_eval import models\n"
        "names = models.list_available_models()\n"
        "assert {'vamba', 'vamba_qwen2_vl', 'vamba_transformers', 'vamba_openai'} <= set(names), names\n"
        "assert {'qwen2_vl', 'openai', 'llava_onevision'} <= set(names) and 'vamba_random' not in names, names\n"
        "mine = sorted(m for m in sys.modules if m.startswith('vamba_eval'))\n"
        "assert mine == ['vamba_eval', 'vamba_eval._version', 'vamba_eval.lmms', 'vamba_eval.lmms.manifest'], mine\n"
        "assert models.get_model('dummy').__module__.startswith('lmms_eval.')\n"
        "assert not models.get_model('vamba').is_simple and models.get_model('vamba', force_simple=True).is_simple\n"
        "assert models.get_model('vamba_qwen2_vl').__module__ == 'vamba_eval.lmms.models'\n"
    )
    environment = {"PYTHONPATH": str(place.site), "PATH": "/usr/bin:/bin", "HF_HOME": str(place.home)}
    done = subprocess.run([sys.executable, "-c", code], cwd=place.root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


# --------------------------------------------------------------------------------------- the same numbers


def test_same_responses_and_scores_as_run_eval(place: Place, chat: Path, native: Path) -> None:
    by_task, scored = samples(chat), scores(chat)
    board = {result.task: result for result in Leaderboard.from_runs([native]).results}
    different = set()
    for theirs, (_, ours, _, _) in TASKS.items():
        records = latest_records(native / f"{ours}.vamba.jsonl")
        assert len(records) == len(by_task[theirs]) >= 4
        asked = {(record["prompt"], record["response"]) for record in records.values()}
        logged = {(row["input"], row["filtered_resps"]) for row in by_task[theirs].values()}
        assert asked == logged
        different |= {response for _, response in logged}
    assert len(different) > 8, "the model must tell questions apart"
    accuracy = {task: result.summary.metrics["accuracy"].value for task, result in board.items()}
    assert scored["local_videomme"]["videomme_perception_score,none"] == pytest.approx(100 * accuracy["videomme"])
    assert scored["local_lvbench"]["lvbench_score,none"] == pytest.approx(accuracy["lvbench"])
    assert scored["local_nextqa_mc_test"]["exact_match,none"] == pytest.approx(accuracy["nextqa"])
    assert scored["local_longvideobench_val_v"]["lvb_acc,none"] == pytest.approx(accuracy["longvideobench"])
    # lmms-eval divides by its seven types, of which these data have two.
    mean = board["mlvu"].summary.metrics["M-Avg"].value
    assert scored["local_mlvu_dev"]["mlvu_percetion_score,none"] == pytest.approx(100 * mean * 2 / 7)


def test_two_processes_give_what_one_gives_and_encode_each_video_once(place: Place, chat: Path) -> None:
    two = place.lmms("two", "vamba", f"pretrained={place.checkpoint},{FEW}", processes=2)
    assert responses(two) == responses(chat) and scores(two) == scores(chat)
    # What the first process says of itself: 5 of the 10 videos, with all that is asked about them.
    assert [results(run)["throughput"]["avg_videos"] for run in (chat, two)] == [10, 5]
    assert results(two)["throughput"]["avg_questions"] in (10, 11, 12)


def test_simple_models_and_the_response_cache(place: Place, chat: Path) -> None:
    model_args = f"pretrained={place.checkpoint},{FEW}"
    simple = place.lmms("simple", "vamba", model_args, "--force_simple")
    assert responses(simple) == responses(chat)
    again = place.lmms("again", "vamba", model_args, "--use_cache", place.root / "cache")
    assert responses(again) == responses(chat) and scores(again) == scores(chat)
    assert "22 requests served from cache" in (again / "stdout.txt").read_text()


def test_options_are_scored_without_parsing(place: Place) -> None:
    task = {
        "include": str(place.tasks / "local_videomme.yaml"),
        "task": "local_options",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_target": "answer",
        "doc_to_choice": ["A", "B", "C", "D"],
        "target_delimiter": "",
        "process_results": None,
        "generation_kwargs": None,
        "cluster_key": None,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (place.tasks / "local_options.yaml").write_text(json.dumps(task))
    try:
        output = place.lmms(
            "options", "vamba_qwen2_vl", f"pretrained=random,{FEW}", "--force_simple", "--tasks", "local_options"
        )
    finally:
        (place.tasks / "local_options.yaml").unlink()
    rows = samples(output)["local_options"]
    assert len(rows) == 6
    for row in rows.values():
        losses = [float(loss) for loss, _ in row["filtered_resps"]]
        assert len(losses) == 4 and row["acc"] == float("ABCD"[losses.index(min(losses))] == row["target"])
    with pytest.raises(UserError, match="nothing was imported"):
        import_logs([output], place.root / "none")


def asked_here(place: Place, name: str, model: str, model_args: str) -> dict[str, list[dict[str, Any]]]:
    """The records of Video-MME and NExT-QA under the protocol lmms-eval."""
    from vamba_eval.cli.main import main

    common = [
        "--data-root",
        str(place.home),
        "--num-frames",
        "8",
        "--workers",
        "1",
        "--output",
        str(place.root / "own"),
    ]
    arguments = ["--tasks", "videomme,nextqa", "--models", model, "--model-args", f"{model}:{model_args}", *common]
    assert main([*arguments, "--protocol", "lmms-eval", "--name", name]) in (0, 1)
    files = {ours: place.root / "own" / name / f"{ours}.{model}.jsonl" for ours in ("videomme", "nextqa")}
    return {ours: list(latest_records(file).values()) for ours, file in files.items()}


def test_models_of_transformers_answer_there_as_here(place: Place) -> None:
    tiny_models.build(tiny_models.TINY["qwen2_5_vl"], place.root / "tiny")
    two = ("--tasks", "local_videomme,local_nextqa_mc_test")
    there = samples(place.lmms("tiny-there", "vamba_transformers", f"pretrained={place.root / 'tiny'},{FEW}", *two))
    here = asked_here(place, "tiny", "transformers", f"pretrained={place.root / 'tiny'},device=cpu")
    said = set()
    for theirs, ours in (("local_videomme", "videomme"), ("local_nextqa_mc_test", "nextqa")):
        logged = {(row["input"], row["filtered_resps"]) for row in there[theirs].values()}
        assert logged == {(each["prompt"], each["response"]) for each in here[ours]}
        said |= {response for _, response in logged}
    assert len(said) > 4, "the model must tell questions apart"


def test_an_endpoint_answers_there_as_here(
    place: Place, tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    def respond(request: dict[str, Any]) -> Reply:
        """It depends on every pixel and letter; one question always fails."""
        asked = json.dumps(request["messages"])
        failing = "item 1 of scene 0" in asked
        return Reply(status=500) if failing else Reply(hashlib.sha256(asked.encode()).hexdigest()[:8])

    two = ("--tasks", "local_videomme,local_nextqa_mc_test")
    with judge_server(respond) as server:
        arguments = f"model=m,url={server.url},retries=0,price=1/2,concurrency=3"
        output = place.lmms("served", "vamba_openai", f"{arguments},num_frames=8,workers=1", *two)
        there = samples(output)
        here = asked_here(place, "served", "openai", arguments)
    failed = 0
    for theirs, ours in (("local_videomme", "videomme"), ("local_nextqa_mc_test", "nextqa")):
        logged = {(row["input"], row["filtered_resps"]) for row in there[theirs].values() if row["filtered_resps"]}
        assert logged == {(each["prompt"], each["response"]) for each in here[ours] if each["error"] is None}
        failed += sum(each["error"] is not None for each in here[ours])
    throughput = results(output)["throughput"]
    total = sum(map(len, there.values()))
    assert failed == throughput["avg_unanswered"] == 1 and throughput["avg_questions"] == total
    assert throughput["avg_price"] == pytest.approx((total - 1) * 120 / 1e6)
    assert f"1 of {total} questions have no response" in (output / "stdout.txt").read_text()
    status, _, _ = cli("import-lmms", output, "--output", tmp_path, "--name", "in", "--data-root", place.home)
    assert status == 0
    imported = latest_records(tmp_path / "in" / "videomme.vamba_openai.jsonl").values()
    assert sum(record["error"] is not None for record in imported) == 1, "a failure, not a wrong answer"


# ------------------------------------------------------------------------------------------------ logs in


def test_logs_stand_beside_native_runs(
    place: Place, chat: Path, native: Path, tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    status, out, _ = cli("import-lmms", chat, "--output", tmp_path, "--name", "in", "--data-root", place.home)
    assert status == 0 and "22 responses imported" in out
    for ours in OURS:
        imported = latest_records(tmp_path / "in" / f"{ours}.vamba.jsonl")
        known = latest_records(native / f"{ours}.vamba.jsonl")
        fields = ("video", "options", "answer", "groups", "prompt", "response", "num_tokens")
        assert imported.keys() == known.keys()
        for question, record in imported.items():
            assert [record[field] for field in fields] == [known[question][field] for field in fields]
    both = Leaderboard.from_runs([tmp_path / "in", native])
    for ours in OURS:
        first, second = (result for result in both.results if result.task == ours)
        assert first.summary == second.summary and first.complete
    status, out, _ = cli("compare", tmp_path / "in", native)
    assert status == 0 and out.count("0 questions flipped") == len(OURS)
    lines = (tmp_path / "in" / "mlvu.vamba.jsonl").read_text()
    assert cli("import-lmms", chat, "--output", tmp_path, "--name", "in", "--data-root", place.home)[0] == 0
    assert (tmp_path / "in" / "mlvu.vamba.jsonl").read_text() == lines, "a second import adds nothing"
    account = json.loads((tmp_path / "in" / "mlvu.vamba.import.json").read_text())
    seen = set(next(iter(samples(chat)["local_mlvu_dev"].values()))) | {f"results.{key}" for key in results(chat)}
    assert seen == account["mapped"].keys() | account["not_mapped"].keys(), "every field is mapped or listed"
    assert account["results"] == results(chat) and account["remarks"] == []


def test_logs_alone_give_the_same_accuracy(chat: Path, native: Path, tmp_path: Path) -> None:
    done = import_logs([chat], tmp_path, name="in", label="theirs")
    mine = {result.task: result for result in Leaderboard.from_runs([tmp_path / "in"]).results}
    for result in Leaderboard.from_runs([native]).results:
        assert mine[result.task].summary.headline[1].value == result.summary.headline[1].value
        assert mine[result.task].model == "theirs"
    told = latest_records(tmp_path / "in" / "videomme.theirs.jsonl")
    assert told.keys() == latest_records(native / "videomme.vamba.jsonl").keys()
    assert told["002-1"]["video"] == "vid_1" and told["002-1"]["groups"]["duration"] == "medium"
    assert any("names no videos" in remark for remark in done.remarks)
    assert not any("scoring differs" in remark for remark in done.remarks)
    info = read_info(tmp_path / "in")
    assert info["tasks"]["mlvu"]["generation"] | {"seed": 0} == {
        **{"max_new_tokens": 16, "do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": None, "seed": 0},
        "until": ["\n\n"],
    }
    assert info["models"]["theirs"]["adapter"] == "lmms-eval:vamba"


def test_logs_of_other_models_and_our_own_export(native: Path, chat: Path, tmp_path: Path, cli: Any) -> None:
    other = tmp_path / "other"
    shutil.copytree(next(chat.rglob("*_results.json")).parent, other)
    (file,) = other.glob("*_results.json")
    content = json.loads(file.read_text())
    content["config"] |= {"model": "llava_onevision", "model_args": "pretrained=a/b,max_frames_num=32"}
    file.write_text(json.dumps(content))
    changed = next(other.glob("*_samples_local_lvbench.jsonl"))
    changed.write_text(changed.read_text().replace('"lvbench_score": true', '"lvbench_score": false'))
    done = import_logs([file], tmp_path / "in")
    (folder,) = done.folders
    board = Leaderboard.from_runs([folder])
    assert {result.model for result in board.results} == {"llava_onevision"} and board.to_markdown()
    assert {result.num_frames for result in board.results} == {32}
    wrong = [remark for remark in done.remarks if "scoring differs from the logged one on" in remark]
    assert len(wrong) == 1 and wrong[0].startswith("local_lvbench")

    assert cli("export", native, "--format", "lmms-eval", "--output", tmp_path / "logs")[0] == 0
    import_logs([tmp_path / "logs"], tmp_path / "back", name="back")
    for ours in OURS:
        back, known = (latest_records(f / f"{ours}.vamba.jsonl") for f in (tmp_path / "back" / "back", native))
        assert {q: (r["video"], r["response"], r["answer"]) for q, r in back.items()} == {
            q: (r["video"], r["response"], r["answer"]) for q, r in known.items()
        }


def test_logs_that_cannot_be_imported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        import_logs([tmp_path / "none"], tmp_path)
    (tmp_path / "logs").mkdir()
    with pytest.raises(UserError, match="--log_samples"):
        import_logs([tmp_path / "logs"], tmp_path)
    file = tmp_path / "logs" / "20260101_000000_samples_mmmu_val.jsonl"
    file.write_text('{"doc_id": 0, "filtered_resps": "A", "target": "A", "input": "?"}\n')
    with pytest.raises(UserError, match="none of our tasks asks what 'mmmu_val' asks"):
        import_logs([tmp_path / "logs"], tmp_path)
    file.write_text('{"response": "A"}\n')
    with pytest.raises(UserError, match="doc_id"):
        import_logs([tmp_path / "logs"], tmp_path)


def test_repetitions_and_missing_responses(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    prompt = "What?\nA. one\nB. two\nAnswer with the option's letter from the given choices directly.\n"
    rows = [
        {
            "doc_id": 0,
            "resps": ["A", "B"],
            "filtered_resps": "A",
            "target": "0",
            "input": prompt,
            "lvb_acc": {"id": "x"},
        },
        {"doc_id": 1, "filtered_resps": "", "token_counts": [None], "target": "1", "input": prompt},
    ]
    file = tmp_path / "logs" / "t_samples_longvideobench_val_v.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "logs" / "t_results.json").write_text(json.dumps({"config": {"model": "vamba"}}))
    assert [log.model for log in find_logs([file])] == ["vamba"]
    import_logs([file], tmp_path, name="in")
    first = latest_records(tmp_path / "in" / "longvideobench.vamba.jsonl", seed=1)
    assert [record["response"] for record in first.values()] == ["B"]
    second = latest_records(tmp_path / "in" / "longvideobench.vamba.jsonl")
    assert second["x"]["options"] == ["one", "two"] and second["x"]["answer"] == "A"
    assert second["doc-1"]["error"] and second["doc-1"]["response"] is None


@pytest.mark.parametrize(
    ("model", "model_args", "frames"),
    [
        ("vamba_openai", "model=m,num_frames=8", {"strategy": "uniform", "num_frames": 8, "longest_edge": 480}),
        (
            "vamba_transformers",
            "pretrained=a/b,num_frames=8,fps=2",
            {"strategy": "by lmms-eval's model", "num_frames": 8},
        ),
        ("vamba_vllm", "pretrained=a/b,preset=qwen3-vl", {"strategy": "by lmms-eval's model"}),
        ("vamba_openai", "model=m,frames_as=file", {"strategy": "by lmms-eval's model"}),
        ("openai", "model_version=m,num_frames=8", {"strategy": "by lmms-eval's model", "num_frames": 8}),
    ],
)
def test_imported_runs_say_no_more_of_frames_than_is_known(
    model: str, model_args: str, frames: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "logs").mkdir()
    row = {"doc_id": 0, "filtered_resps": "", "token_counts": [None], "target": "1", "input": "What?\nA. one\nB. two\n"}
    file = tmp_path / "logs" / "t_samples_longvideobench_val_v.jsonl"
    file.write_text(json.dumps(row) + "\n")
    about = {"config": {"model": model, "model_args": model_args}}
    (tmp_path / "logs" / "t_results.json").write_text(json.dumps(about))
    import_logs([file], tmp_path, name="in")
    sampling = read_info(tmp_path / "in")["tasks"]["longvideobench"]["sampling"]
    assert sampling.items() >= frames.items() and ("longest_edge" in sampling) == ("longest_edge" in frames)
    (record,) = latest_records(tmp_path / "in" / f"longvideobench.{model}.jsonl").values()
    assert (record["error"] is not None) == (model != "openai"), "ours have no other way to say it"


def test_tasks_of_lmms_eval_are_known_by_name_or_functions() -> None:
    def name(task: str, *functions: str) -> tuple[str, str | None] | None:
        found = registry.task_of_lmms(task, functions)
        return found and (found[0].name, found[1])

    assert name("longvideobench_test_v") == ("longvideobench", "test")
    assert name("mvbench_action_count") == ("mvbench", None)
    assert name("mine", "videomme_doc_to_visual", "videomme_doc_to_text") == ("videomme", None)
    subtitled = name("mine", "videomme_doc_to_visual", "videomme_doc_to_text_subtitle")
    assert subtitled == ("videomme_subtitles", None)
    assert name("mine", "longvideobench_doc_to_visual_i", "longvideobench_doc_to_text") is None
    assert name("mmmu_val") is None
