"""Runs on a Ray cluster of two nodes on this machine, whose processes are really killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from stored import latest_records
from videos import make_video

from vamba_eval import evaluate, machine
from vamba_eval.contracts import Question, UserError, Video
from vamba_eval.reading.reader import Reading
from vamba_eval.run.occupation import likely_costs
from vamba_eval.store.runs import read_info, read_records

ray = pytest.importorskip("ray")
_ask_for_a_token = pytest.importorskip("vamba_eval.run.on_ray.cluster")._ask_for_a_token
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="clusters on loopback are tried on Linux alone")

REPOSITORY = Path(__file__).resolve().parent.parent
TESTS = Path(__file__).parent
TASK, MODEL = f"{TESTS / 'plugins.py'}:FolderTask", f"seeing={TESTS / 'cluster_models.py'}:Seeing"
NODE = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 150 * 2**20}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes, each with a GPU by its own account."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0"}
    from ray.cluster_utils import Cluster

    before = left_behind()
    for attempt in range(3):
        made = None
        try:
            made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
            made.add_node(**NODE)
            break
        except Exception:  # Ray gives a node 30 s to start, which a very busy machine may not
            if made is not None:
                made.shutdown()
            if attempt == 2:
                raise
    assert made is not None
    # Once for all tests: what reads for one then reads for the next.
    ray.init(made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()
    wait_for(lambda: not left_behind() - before, seconds=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight different videos."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(8):
        make_video(folder / f"v{number}.mp4", frames=20 + 5 * number)
    return folder


@pytest.fixture
def data(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "data"))


def run(data: Path, output: Path, **options: Any) -> Path:
    """A run of the model on the folder; its own folder."""
    options = {"sampling": {"num_frames": 8, "longest_edge": 64, "shortest_edge": 32}, "progress": False} | options
    evaluate([TASK], [MODEL], data_root=data, output=output, **options)
    return output / "folder"


def records_of(run: Path) -> dict[str, dict[str, Any]]:
    """What a run recorded, without what it measured; no question twice."""
    path = run / "folder.seeing.jsonl"
    counts = Counter(record.question for record in read_records(path))
    assert set(counts.values()) <= {1}, counts
    measured = {"load_s", "encode_s", "generate_s", "wait_s", "peak_bytes", "host_bytes", "cost", "warmup"}
    return {
        name: {key: value for key, value in record.items() if key not in measured}
        for name, record in latest_records(path).items()
    }


def left_behind() -> set[str]:
    """Clips' and objects' memory with a name."""
    return {name for name in os.listdir("/dev/shm") if name.startswith(("plasma", "vamba"))}


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def command(data: Path, output: Path, *more: object) -> list[str]:
    """The same run, as a command."""
    words = ["run_eval.py", "--tasks", TASK, "--models", MODEL, "--data-root", data, "--output", output]
    words += ["--num-frames", 8, "--longest-edge", 64, "--shortest-edge", 32, *more]
    return [sys.executable, *map(str, words)]


# ----------------------------------------------------------------------------------------- the same results


def test_records_do_not_depend_on_the_number_of_replicas(cluster: Any, data: Path, tmp_path: Path) -> None:
    alone = run(data, tmp_path / "alone")
    expected = records_of(alone)
    assert len(expected) == 16 and len({record["response"] for record in expected.values()}) == 16
    for replicas in (1, 7):
        spread = run(data, tmp_path / str(replicas), replicas=replicas, ray_address=cluster.address)
        assert records_of(spread) == expected
        ours, theirs = read_info(alone), read_info(spread)
        assert {**ours, "begun": ""} == {**theirs, "begun": ""}


def test_a_model_that_sees_sees_as_well_on_a_cluster(cluster: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"data_root": tmp_path / "videos", "limit": 5, "progress": False}
    responses = []
    for name, spread in (("alone", {}), ("spread", {"replicas": 2, "ray_address": cluster.address})):
        evaluate([f"{TESTS / 'canary.py'}:Canary"], ["vamba_small"], output=tmp_path / name, **options, **spread)
        records = latest_records(tmp_path / name / "canary" / "canary.vamba_small.jsonl")
        responses.append({question: (record["response"], record["answer"]) for question, record in records.items()})
    assert responses[0] == responses[1]
    assert sum(response == answer for response, answer in responses[0].values()) >= 39 and len(responses[0]) == 40


def test_what_one_begins_another_finishes(cluster: Any, data: Path, tmp_path: Path) -> None:
    """Alone, then on two GPUs; and the other way round. Each GPU is on a node of its own."""
    expected = records_of(run(data, tmp_path / "alone"))
    spread = {"gpus": "all", "ray_address": cluster.address}
    first = run(data, tmp_path / "first", limit=3)
    kept = (first / "folder.seeing.jsonl").read_bytes()
    assert records_of(run(data, tmp_path / "first", **spread)) == expected
    assert (first / "folder.seeing.jsonl").read_bytes().startswith(kept)
    run(data, tmp_path / "second", limit=5, **spread)
    assert records_of(run(data, tmp_path / "second")) == expected


# ----------------------------------------------------------------------------------------------------- faults


def test_every_fault_costs_its_own_questions(cluster: Any, data: Path, tmp_path: Path) -> None:
    """A replica killed once, one killed by the same video each time, one out of memory, a file that is none and a
    pipe that nobody writes to: what can be answered is."""
    marks = tmp_path / "marks"
    marks.mkdir()
    for name in ("mortal", "poison", "large"):
        shutil.copy(data / "v0.mp4", data / f"{name}.mp4")
    (data / "broken.mp4").write_bytes(b"no video")
    (data / "pipe.mp4").mkdir()
    os.mkfifo(data / "pipe.mp4" / "frame_0.jpg")
    spread = {"replicas": 3, "ray_address": cluster.address, "reading": Reading(stall_s=1.0)}
    made = run(data, tmp_path / "out", model_args={"seeing": {"marks": str(marks)}}, **spread)
    records = records_of(made)
    assert len(records) == 2 * 13
    errors = {name: record["error"] for name, record in records.items() if record["error"] is not None}
    assert errors.keys() == {f"{name}-{n}" for name in ("poison", "broken", "pipe") for n in range(2)} | {"large-1"}
    assert "given up after 3 tries: the process of replica" in errors["poison-0"]
    assert errors["large-1"].startswith("out of memory while answering")
    assert "is not a video but plain text" in errors["broken-0"] and "is not a file" in errors["pipe-1"]
    assert len(list(marks.glob("*.started"))) > 3, "new processes for those that died"


def test_a_replica_whose_model_never_comes_back_is_replaced(cluster: Any, data: Path, tmp_path: Path) -> None:
    log, model = tmp_path / "log", f"seeing={TESTS / 'hanging_models.py'}:Hanging"
    hanging = {"seeing": {"log": str(log), "at": "v1 0?", "how": "hold"}}
    options: dict[str, Any] = {"data_root": data, "output": tmp_path / "out", "progress": False}
    options |= {"sampling": {"num_frames": 2}, "model_args": hanging, "answer_timeout": 3.0}
    evaluate([TASK], [model], replicas=2, ray_address=cluster.address, **options)
    records = records_of(tmp_path / "out" / "folder")
    errors = {name: record["error"] for name, record in records.items() if record["error"] is not None}
    assert errors == {"v1-0": "answering took longer than 3 s (--answer-timeout)"} and len(records) == 16
    assert records["v1-0"]["given_up_s"] == 3 and records["v1-1"]["response"] == "A", "another replica went on"
    evaluate([TASK], [model], **options)  # here it would end this process
    assert log.read_text().splitlines().count("v1 0?") == 1


def test_what_is_wrong_with_all_videos_ends_the_run(cluster: Any, data: Path, tmp_path: Path) -> None:
    spread = {"replicas": 2, "ray_address": cluster.address}
    with pytest.raises(UserError, match="use --num-frames 4"):
        run(data, tmp_path / "out", model_args={"seeing": {"refuse": "4"}}, **spread)
    assert not records_of(tmp_path / "out" / "folder")


def test_a_lost_node_loses_no_question(cluster: Any, data: Path, tmp_path: Path) -> None:
    """One of three nodes, each with a GPU, goes with its replica and its clips; another replica is killed besides."""
    marks = tmp_path / "marks"
    marks.mkdir()
    expected = records_of(run(data, tmp_path / "alone"))
    node = cluster.add_node(**NODE)
    more = ("--gpus", "all", "--ray-address", cluster.address)
    slow = ("--model-args", f"seeing:marks={marks},seconds=0.8")
    words = command(data, tmp_path / "out", *more, *slow)
    process = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    path = tmp_path / "out" / "folder" / "folder.seeing.jsonl"
    started: dict[int, str] = {}

    def on_two() -> bool:
        started.update({int(mark.stem): mark.read_text() for mark in marks.glob("*.started")})
        return path.exists() and node.node_id in started.values() and len(set(started.values())) > 1

    wait_for(on_two)
    cluster.remove_node(node, allow_graceful=False)
    os.kill(next(pid for pid, where in started.items() if where != node.node_id), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    same = {name: {**record, "environment": 0} for name, record in records_of(path.parent).items()}
    assert same == expected


def test_a_killed_driver_leaves_nothing_and_loses_nothing(data: Path, tmp_path: Path) -> None:
    """On a Ray that the run starts by itself; then the run is finished without Ray."""
    marks = tmp_path / "marks"
    marks.mkdir()
    expected = records_of(run(data, tmp_path / "alone"))
    slow = ("--model-args", f"seeing:marks={marks},seconds=0.3")
    words = command(data, tmp_path / "out", "--replicas", 2, *slow)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(words, cwd=REPOSITORY, env=environment, stderr=subprocess.DEVNULL)
    path = tmp_path / "out" / "folder" / "folder.seeing.jsonl"
    wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= 2, seconds=90)
    # All but Ray's own two agents, which notice about a minute later.
    started = [c for c in psutil.Process(process.pid).children(recursive=True) if "Agent" not in c.name()]
    assert {int(mark.stem) for mark in marks.glob("*.started")} <= {child.pid for child in started}
    process.kill()
    process.wait()
    before = path.read_bytes()
    _, alive = psutil.wait_procs(started, timeout=90)
    assert not [child for child in alive if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    finished = subprocess.run(command(data, tmp_path / "out", *slow), cwd=REPOSITORY, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert path.read_bytes().startswith(before[: before.rfind(b"\n") + 1]), "what was answered is untouched"
    assert records_of(path.parent) == expected


# --------------------------------------------------------------------------------------------------- bad input


def test_what_the_cluster_cannot_do_is_said(
    cluster: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options, message in (
        ({"gpus": 3}, "3 GPUs were asked for, but Ray knows of 2"),
        ({"gpus": "all", "gpus_per_model": 2}, "2 GPUs of one machine, but there are 1"),
        ({"gpus": 1, "replicas": 1}, "not both"),
        ({"replicas": 0}, "must be positive"),
        ({"replicas": 1, "model_args": {"seeing": {"sekonds": 1}}}, "no argument 'sekonds'"),
        ({"replicas": 1, "model_args": {"seeing": {"seconds": "x"}}}, "cannot be built with seconds=x"),
    ):
        with pytest.raises(UserError, match=message):
            run(data, tmp_path / "out", ray_address=cluster.address, **options)
    real = machine.environment()
    newer = {**real, "packages": {**real["packages"], "av": "99.0"}}
    monkeypatch.setattr(machine, "environment", lambda: newer)
    with pytest.raises(UserError, match=r"packages.av: 99.0 with the driver, .* there") as caught:
        run(data, tmp_path / "out", replicas=1, ray_address=cluster.address)
    assert "other packages than the driver" in str(caught.value)
    spread = {"replicas": 1, "ray_address": cluster.address, "accept_environment": True}
    made = run(data, tmp_path / "out", limit=1, **spread)
    assert read_info(made)["environments"] == [json.loads(json.dumps(real))], "that in which it was answered"


@pytest.mark.parametrize(
    ("nodes", "layout", "slots"),
    [
        ([(32, 2)], {"gpus": "all"}, 7),
        ([(32, 2)], {"gpus": 1}, 7),
        ([(32, 2)], {"replicas": 2}, 8),  # without GPUs, models and readers share all cores anyway
        ([(96, 8), (96, 8)], {"gpus": "all"}, 44),
        ([(96, 8), (96, 8)], {"gpus": "all", "gpus_per_model": 4}, 46),
        ([(2, 1)], {"gpus": "all"}, 1),
    ],
)
def test_readers_leave_a_core_to_each_replica_with_a_gpu(
    nodes: list[tuple[int, int]], layout: dict[str, Any], slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vamba_eval.run.on_ray.cluster import Cluster
    from vamba_eval.run.plan import Layout

    alive = [{"Alive": True, "Resources": {"CPU": float(cores), "GPU": float(gpus)}} for cores, gpus in nodes]
    monkeypatch.setattr(ray, "nodes", lambda: alive)
    cluster = Cluster(Layout(**layout), Reading(), accept_environment=True)
    cluster._measure()
    assert cluster.read_slots == slots and cluster.read_threads == (4 if nodes[0][0] > 4 else 1)


def test_without_ray_nothing_changes_but_what_needs_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys, vamba_eval.cli.main, vamba_eval.run.evaluate; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
    monkeypatch.delitem(sys.modules, "vamba_eval.run.on_ray.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert len(records_of(run(data, tmp_path / "out", limit=2))) == 4
    with pytest.raises(UserError, match="pip install"):
        run(data, tmp_path / "out", gpus="all")


def test_the_longest_come_first(tmp_path: Path) -> None:
    def video(name: str, seconds: float | None, questions: int, size: int, end_s: float | None = None) -> Video:
        path = tmp_path / name
        path.write_bytes(bytes(size))
        asked = tuple(Question(str(n), "?") for n in range(questions))
        return Video(name, path, asked, duration_s=seconds, end_s=end_s)

    long, short = video("long", 3600.0, 1, 10), video("short", 60.0, 1, 1000)
    assert likely_costs([long, short])[0] > likely_costs([long, short])[1]
    assert (
        likely_costs([long, video("unknown", None, 1, 20)])[0] < likely_costs([short, video("unknown", None, 1, 20)])[0]
    )
    assert likely_costs([video("asked", 60.0, 9, 1000)])[0] > likely_costs([short])[0]
    part = video("part", 3600.0, 1, 10, end_s=30.0)
    assert likely_costs([part, short])[0] < likely_costs([part, short])[1]


# ------------------------------------------------------------------------------------------------ who gets in


def test_a_stranger_gets_no_code_into_a_ray_of_our_own(data: Path, tmp_path: Path) -> None:
    """Another user of the machine, who knows the address but not the token; and one who brings another token."""
    home = tmp_path / "home"
    home.mkdir()
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")} | {"HOME": str(home)}
    (tmp_path / "marks").mkdir()
    slow = ("--model-args", f"seeing:marks={tmp_path / 'marks'},seconds=10")
    words = command(data, tmp_path / "out", "--replicas", 1, *slow)
    process = subprocess.Popen(words, cwd=REPOSITORY, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: (tmp_path / "out" / "folder" / "folder.seeing.jsonl").exists())
        assert (home / ".ray" / "auth_token").stat().st_mode & 0o077 == 0
        servers = [each for each in psutil.Process(process.pid).children(recursive=True) if each.name() == "gcs_server"]
        (port,) = {conn.laddr.port for each in servers for conn in each.net_connections() if conn.status == "LISTEN"}
        code = (
            "import ray, os, sys\n"
            "ray.init(sys.argv[1], log_to_driver=False)\n"
            "print('in', ray.get(ray.remote(num_cpus=0)(os.getpid).remote(), timeout=20))\n"
        )
        asked = [sys.executable, "-c", code, f"{ray.util.get_node_ip_address()}:{port}"]
        strangers = [
            subprocess.Popen(
                asked,
                env={**own, "HOME": str(tmp_path), **known},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for known in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "ab" * 32})
        ]
        for stranger in strangers:
            out, err = stranger.communicate(timeout=120)
            assert stranger.returncode and "in" not in out.split() and "Unauthenticated" in err, err
        assert process.poll() is None, "it was there all the while"
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_what_lets_anybody_in_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for mode, address in (("disabled", "local"), ("disabled", "10.0.0.1:6379"), (None, "10.0.0.1:6379")):
        monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
        if mode:
            monkeypatch.setenv("RAY_AUTH_MODE", mode)
        caplog.clear()
        _ask_for_a_token(address)
        assert "asks for no token: whoever reaches it runs code as you" in caplog.text
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    caplog.clear()
    _ask_for_a_token("10.0.0.1:6379")
    assert not caplog.text
