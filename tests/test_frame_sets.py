"""Frames of each question, as a frame selector chose them: exactly these, read once a video, encoded once a set."""

from __future__ import annotations

import csv
import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cluster_models import Seeing
from plugins import FolderTask
from served_models import Engine
from stored import latest_records
from videos import MPEG4, make_video

from vamba_eval import Leaderboard, evaluate, read_clip
from vamba_eval.contracts import (
    Answer,
    Clip,
    FrameSampling,
    FrameSet,
    GenerationSettings,
    Ladder,
    Question,
    UserError,
    Video,
    VideoError,
)
from vamba_eval.reading import worker
from vamba_eval.reading.cache import frames_digest
from vamba_eval.reading.reader import Reading
from vamba_eval.run.plan import prepare_task
from vamba_eval.store.records import Record
from vamba_eval.store.runs import read_info, read_records
from vamba_eval.tables.costs import costs_of

SIZE = {"longest_edge": 64, "shortest_edge": 32}
SIZING = FrameSampling(**SIZE)
EVERY = FrameSampling(num_frames=1000, **SIZE)
# Two of the first video's questions share a set; the second's differ, and overlap.
SETS = {
    **{"one-0": [3, 17, 39], "one-1": [0, 17], "one-2": [3, 17, 39]},
    **{"two-0": [5], "two-1": [5, 6, 7, 8], "two-2": [0, 29]},
}


class Three(FolderTask):
    """Three questions about each video; ``only`` those."""

    only: Sequence[str] = ()

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        videos = []
        for path in sorted(Path(str(data_root)).glob("*.mp4")):
            ids = [f"{path.stem}-{n}" for n in range(3)]
            questions = [Question(each, f"{each}?", ("yes", "no"), "A") for each in ids]
            kept = tuple(each for each in questions if not self.only or each.id in self.only)
            videos += [Video(path.stem, path, kept)] if kept else []
        return videos


class Watching(Seeing):
    """Answers by what it sees, counts what it encodes, and ends after ``most`` answers."""

    def __init__(self, most: int = 10**6) -> None:
        super().__init__()
        self.encoded: list[tuple[int, ...]] = []
        self.answered, self.most = 0, most

    def encode(self, clip: Clip | None) -> Any:
        if clip is None:
            return "nothing"
        assert clip.path is None, "no file shows just these frames"
        self.encoded.append(tuple(clip.frame_indices.tolist()))
        return super().encode(clip)

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        self.answered += len(prompts)
        if self.answered > self.most:
            raise KeyboardInterrupt
        return super().generate(encoded, prompts, settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_video(folder / "one.mp4", frames=40)
    make_video(folder / "two.mp4", frames=30)
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded, each time."""
    names: list[str] = []

    def counting(path: Path, *args: Any, **more: Any) -> Clip:
        names.append(path.stem)
        return read_clip(path, *args, **more)

    monkeypatch.setattr(worker, "read_clip", counting)
    return names


def run(
    folder: Path, output: Path, model: Any, frames_from: Any = SETS, task: Any = None, **more: Any
) -> tuple[dict[str, dict[str, Any]], Leaderboard]:
    """The records of a run, by question, and its leaderboard."""
    more = {"sampling": SIZE, "progress": False, "reading": Reading(workers=0), **more}
    board = evaluate(
        [task or Three()], [model], data_root=folder, output=output, name="run", frames_from=frames_from, **more
    )
    (path,) = (output / "run").glob(f"folder.{model.name}.jsonl")
    return latest_records(path), board


def only(question: str) -> Three:
    task = Three()
    task.only = (question,)
    return task


def costless(record: dict[str, Any]) -> dict[str, Any]:
    measured = {"load_s", "encode_s", "generate_s", "wait_s", "peak_bytes", "host_bytes", "cost", "warmup"}
    return {key: value for key, value in record.items() if key not in measured | {"fingerprint"}}


# ------------------------------------------------------------------------------------------------ what is shown


def test_each_question_is_asked_as_in_a_run_of_its_own(folder: Path, tmp_path: Path, reads: list[str]) -> None:
    model = Watching()
    records, _ = run(folder, tmp_path / "all", model)
    assert reads == ["one", "two"], "a video is decoded once, whatever its questions are asked about"
    assert sorted(model.encoded) == sorted([(3, 17, 39), (0, 17), (5,), (5, 6, 7, 8), (0, 29)]), "once for each set"
    for question, frames in SETS.items():
        every = read_clip(folder / f"{question[:3]}.mp4", EVERY)
        assert records[question]["frames_digest"] == frames_digest(every.frames[frames])
        assert records[question]["frames"] == len(frames)
        alone, _ = run(folder, tmp_path / question, Watching(), {question: frames}, only(question))
        assert costless(alone[question]) == costless(records[question])
    assert len({record["frames_digest"] for record in records.values()}) == 5
    strips = {path.stem for path in (tmp_path / "all" / "run" / "thumbnails").iterdir()}
    assert strips == {record["frames_digest"] for record in records.values()}


def test_served_models_see_the_same_frames(folder: Path, tmp_path: Path, reads: list[str]) -> None:
    class Noting(Engine):
        name = "engine"
        shown: Counter[tuple[str, ...]] = Counter()

        async def answer(self, clip: Clip | None, prompts: Sequence[str], settings: GenerationSettings) -> Any:
            assert clip is not None and clip.path is None
            self.shown[(frames_digest(clip.frames), *prompts)] += 1
            async for each in super().answer(clip, prompts, settings):
                yield each

    engine = Noting()
    records, _ = run(folder, tmp_path / "served", engine)
    here, _ = run(folder, tmp_path / "here", Watching())
    assert reads == ["one", "two"] * 2
    assert all(records[each]["frames_digest"] == here[each]["frames_digest"] for each in SETS)
    assert engine.shown[(here["one-0"]["frames_digest"], "one-0?", "one-2?")] == 1, "equal sets are sent together"
    assert set(engine.shown.values()) == {1} and len(engine.shown) == 5


def test_replicas_on_ray_see_the_same_frames(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    tests = Path(__file__).parent
    file = tmp_path / "frames.json"
    file.write_text(json.dumps(SETS | {"one-1": [17, 40]}))
    for name, more in (("here", ()), ("ray", ("--replicas", "1"))):
        command = [
            "run_eval.py",
            "--tasks",
            f"{__file__}:Three",
            "--models",
            f"seeing={tests}/cluster_models.py:Seeing",
        ]
        command += ["--data-root", folder, "--output", tmp_path, "--name", name, "--frames-from", file, *more]
        command += ["--longest-edge", 64, "--shortest-edge", 32, "--workers", 1]
        paths = os.pathsep.join([str(tests), str(tests.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=tests.parent,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1, done.stderr
    here, ray = (latest_records(tmp_path / name / "folder.seeing.jsonl") for name in ("here", "ray"))
    assert {name: costless(each) for name, each in ray.items()} == {name: costless(each) for name, each in here.items()}
    assert "frame 40, but the video's 40 frames are 0 to 39" in ray["one-1"]["error"] and ray["one-0"]["response"]
    strips = [{path.name for path in (tmp_path / name / "thumbnails").iterdir()} for name in ("here", "ray")]
    assert strips[0] == strips[1] and len(strips[0]) == 4


def test_an_interrupted_run_goes_on_with_the_same_frames(folder: Path, tmp_path: Path, reads: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path, Watching(most=2))
    path = tmp_path / "run" / "folder.seeing.jsonl"
    before = [record.question for record in read_records(path)]
    assert before == ["one-0", "one-2"], "those with equal sets are asked together"
    model = Watching()
    records, _ = run(folder, tmp_path, model)
    assert model.encoded[0] == (0, 17) and len(model.encoded) == 4, "what is answered is not encoded again"
    whole, _ = run(folder, tmp_path / "whole", Watching())
    assert {name: each["response"] for name, each in records.items()} == {
        name: each["response"] for name, each in whole.items()
    }
    assert Counter(record.question for record in read_records(path)) == Counter(list(SETS))


def test_limit_and_blind(folder: Path, tmp_path: Path, reads: list[str]) -> None:
    model = Watching()
    first = {name: frames for name, frames in SETS.items() if name.startswith("one")}
    records, _ = run(folder, tmp_path, model, first, limit=1, blind=True)
    assert records.keys() == first.keys() and reads == ["one"] and len(model.encoded) == 2
    blind = latest_records(tmp_path / "run" / "folder.seeing-blind.jsonl")
    assert blind.keys() == first.keys() and not any("frames" in record for record in blind.values())


def test_the_clip_cache_knows_sets_apart(folder: Path, tmp_path: Path, reads: list[str]) -> None:
    reading = Reading(workers=0, cache=tmp_path / "cache")
    other = SETS | {"one-1": [0, 18], "two-0": [30]}
    first, _ = run(folder, tmp_path / "a", Watching(), reading=reading)
    again, _ = run(folder, tmp_path / "b", Watching(), reading=reading)
    assert reads == ["one", "two"]
    assert [each["frames_digest"] for each in first.values()] == [each["frames_digest"] for each in again.values()]
    for name in ("c", "d"):
        changed, _ = run(folder, tmp_path / name, Watching(), other, reading=reading)
        assert changed["one-1"]["frames_digest"] != first["one-1"]["frames_digest"]
        assert "frame 30" in changed["two-0"]["error"] and changed["two-1"]["response"] == first["two-1"]["response"]
    assert reads == ["one", "two"] * 2, "the cache holds why a set has no clip, too"


# ------------------------------------------------------------------------------------------------- what is read


def test_frames_are_those_of_the_whole_file_as_decoded(tmp_path: Path) -> None:
    path = make_video(tmp_path / "film.mp4", frames=100)
    every = read_clip(path, EVERY)
    sets = (FrameSet((2, 50, 99), SIZING), FrameSet((50,), SIZING), FrameSet((7, 100), SIZING))
    for backend in ("pyav", "pyav-plain", "torchcodec"):
        together = read_clip(path, Ladder(sets), backend=backend)
        assert together.frame_indices.tolist() == [2, 50, 99]
        for number in (0, 1):
            part, chosen = together.part(number), list(sets[number].frames)
            assert part.frame_indices.tolist() == chosen and np.allclose(part.timestamps_s, every.timestamps_s[chosen])
            if backend.startswith("pyav"):
                assert np.array_equal(part.frames, every.frames[chosen])
        with pytest.raises(VideoError, match="frame 100, but the video's 100 frames are 0 to 99"):
            together.part(2)
        with pytest.raises(VideoError, match="frame 100"):
            read_clip(path, Ladder(sets[2:]), backend=backend)
    part = read_clip(path, sets[1], start_s=1.0, end_s=3.0)
    assert np.array_equal(part.frames, every.frames[[50]])
    with pytest.raises(VideoError, match="frame 2, but the part that is shown is frames 25 to 75 of the file"):
        read_clip(path, sets[0], start_s=1.0, end_s=3.0)


def test_a_file_whose_index_cannot_be_trusted(tmp_path: Path) -> None:
    # Of times that are those of decoding, the number of packets says nothing for sure.
    path = make_video(tmp_path / "film.avi", "mpeg4", frames=50, options=MPEG4)
    total = len(read_clip(path, EVERY).frames)
    clip = read_clip(path, Ladder((FrameSet((0, total - 1), SIZING), FrameSet((total,), SIZING))))
    assert clip.part(0).frame_indices.tolist() == [0, total - 1]
    with pytest.raises(VideoError, match=f"frame {total}"):
        clip.part(1)
    with pytest.raises(VideoError, match=f"frame {total}"):
        read_clip(path, FrameSet((total,), SIZING))


def test_a_question_beyond_the_end_fails_alone(folder: Path, tmp_path: Path) -> None:
    records, board = run(folder, tmp_path, Watching(), SETS | {"one-1": [3, 40], "two-0": [9, 1234]})
    errors = {name: record["error"] for name, record in records.items() if record["error"]}
    assert errors == {
        "one-1": "it is to be asked about frame 40, but the video's 40 frames are 0 to 39",
        "two-0": "it is to be asked about frame 1234, but the video's 30 frames are 0 to 29",
    }
    assert board.num_failed == 2


class Timed(Three):
    """Says between its frames and in its prompts when these are."""

    interleaved = ("vamba", "lmms-eval")
    protocols = ("vamba", "lmms-eval")
    prompts_need_clip = True

    def captions(self, video: Video, clip: Clip, protocol: str) -> Sequence[tuple[int, str]]:
        return [(place, f"frame {index} ") for place, index in enumerate(clip.frame_indices.tolist())]

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        assert clip is not None
        return f"{question.id} {clip.timestamps_s.round(2).tolist()}"


class Captioned(Watching):
    takes_captions = True

    def encode(self, clip: Clip | None) -> Any:
        return super().encode(clip) + "".join(text for _, text in clip.captions) if clip is not None else ""

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        return [Answer(encoded[64:]) for _ in prompts]


def test_text_between_frames_and_in_prompts_is_that_of_each_questions_frames(folder: Path, tmp_path: Path) -> None:
    records, _ = run(folder, tmp_path, Captioned(), task=Timed(), blind=True)
    assert records["one-1"]["response"] == "frame 0 frame 17 " and records["one-1"]["prompt"] == "one-1 [0.0, 0.68]"
    assert records["one-2"]["response"] == "frame 3 frame 17 frame 39 "
    blind = latest_records(tmp_path / "run" / "folder.seeing-blind.jsonl")
    assert {name: each["prompt"] for name, each in blind.items()} == {
        name: each["prompt"] for name, each in records.items()
    }
    with pytest.raises(UserError, match="places text between frames by times that evenly spread frames would have"):
        run(folder, tmp_path, Captioned(), task=Timed(), protocol="lmms-eval")


# ------------------------------------------------------------------------------------ what is known of a run


def test_the_fingerprint_has_the_sets_and_not_the_path(folder: Path, tmp_path: Path) -> None:
    about = {"selector": "AKS", "seconds_per_question": 2.5, "frames": SETS}
    prints = []
    for name, content in (("a", about), ("b", about), ("c", {**about, "frames": SETS | {"two-0": [6]}}), ("d", SETS)):
        file = tmp_path / name / "frames.json"
        file.parent.mkdir()
        file.write_text(json.dumps(content))
        run(folder, tmp_path / name, Watching(), file)
        prints.append(read_info(tmp_path / name / "run")["tasks"]["folder"]["sampling"])
    assert prints[0] == prints[1] != prints[2]
    assert prints[0] == {
        **{"strategy": "given", "num_frames": "1 to 4", **SIZE, "frames": prints[0]["frames"]},
        **{"selector": "AKS", "seconds_per_question": 2.5},
    }
    assert prints[3]["frames"] == prints[0]["frames"] and "selector" not in prints[3]
    with pytest.raises(UserError, match=r"frames: \w+ there, \w+ now"):
        run(folder, tmp_path / "d", Watching(), SETS | {"two-0": [6]})


def test_a_run_without_has_the_fingerprint_that_it_had(folder: Path) -> None:
    task = Three()
    job = prepare_task(task, "vamba", None, None, None, "pyav")
    assert job.fingerprint(task.load(folder))["sampling"] == {
        "strategy": "uniform",
        **{"num_frames": 512, "shortest_edge": 256, "longest_edge": 480},
    }


def test_tables_show_the_selectors_time_beside_and_never_within(folder: Path, tmp_path: Path) -> None:
    about = {"selector": "AKS", "seconds_per_question": 2.5, "frames": SETS}
    _, board = run(folder, tmp_path, Watching(), about, blind=True)
    text = board.to_markdown()
    assert "Select s/question" in text and "AKS's 1 to 4" in text and "choosing them takes 2.5 s a question" in text
    (seeing,) = (result for result in board.results if result.reads_video)
    (blind,) = (result for result in board.results if not result.reads_video)
    assert seeing.costs.select_s_per_question == 2.5 and blind.costs.select_s_per_question is None
    assert seeing.costs.encode_s_per_video is not None and seeing.costs.encode_s_per_video.count == 4, (
        "all but the first"
    )
    assert seeing.costs.first_answer_s is not None and seeing.costs.first_answer_s.median < 2.5
    assert not [result for result in board.frontier() if result.selected], "it may not seem as fast as it is not"
    board.save(tmp_path)
    rows = list(csv.DictReader((tmp_path / "leaderboard.csv").open()))
    assert [row["select_s_per_question"] for row in rows if row["model"] == "seeing"] == ["2.5"]
    _, board = run(folder, tmp_path / "without", Watching())
    assert "takes time that nobody states" in board.to_markdown() and "Select s" not in board.to_markdown()


def test_costs_count_each_encoding_once() -> None:
    def record(question: str, video: str, digest: str, encode_s: float) -> Record:
        return Record(question, video, [], None, {}, 0, response="A", frames_digest=digest, load_s=5.0,
                      encode_s=encode_s, generate_s=1.0)  # fmt: skip

    some = [
        record("a", "v", "x", 2.0),
        record("b", "v", "x", 2.0),
        record("c", "v", "y", 4.0),
        record("d", "w", "x", 3),
    ]
    costs = costs_of(some)
    assert costs.encode_s_per_video is not None and costs.encode_s_per_video.count == 3
    assert costs.encode_s_per_video.median == 3.0
    assert costs.load_s_per_video is not None and costs.load_s_per_video.count == 2, "a video is read once"


# -------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            SETS | {"nine-0": [1]},
            r"1 of its 7 questions are not in folder, such as 'nine-0': is it of another benchmark",
        ),
        (
            {"one-0": [1], "two-2": [0]},
            r"4 of the 6 questions of folder .* have no frames there, such as 'one-1', 'one-2'",
        ),
        (SETS | {"one-0": []}, "1 questions have no frame, such as 'one-0'"),
        (SETS | {"one-0": [1, -2]}, "the frames of 'one-0' are no list of whole numbers from 0 on"),
        (SETS | {"one-0": [1.5]}, "no list of whole numbers"),
        (SETS | {"one-0": [True]}, "no list of whole numbers"),
        (SETS | {"one-0": "1,2"}, "no list of whole numbers"),
        ({}, "holds no frame sets"),
        ({"frames": {}}, "holds no frame sets"),
        ({"frames": SETS, "cost": 3}, "a field 'cost'; there are frames, selector, seconds_per_question"),
        ({"frames": SETS, "selector": 3}, "its selector is no name"),
        ({"frames": SETS, "seconds_per_question": -1}, "are no number of seconds"),
        ({"frames": SETS, "seconds_per_question": "2"}, "are no number of seconds"),
    ],
)
def test_files_that_are_refused(folder: Path, tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "frames.json"
    file.write_text(json.dumps(content))
    model = Watching()
    with pytest.raises(UserError, match=message):
        run(folder, tmp_path, model, file)
    assert not model.encoded and not (tmp_path / "run").exists(), "before anything is run"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"one-0": [1], "one-0": [2]}', "'one-0' is there twice"),
        ('{"one-0": [NaN]}', "no list of whole numbers"),
        ("[[29.0, 58.0], [0.0, 90.0]]", "a list without question ids.*join the two"),
        ('[{"id": "one-0", "frame_idx": [1]}, {"id": "one-0", "frame_idx": [2]}]', "'one-0' is there twice"),
        ('[{"id": "one-0", "frame_idx": [1], "use_topk": false}]', "'one-0' has use_topk false"),
    ],
)
def test_texts_that_are_refused(folder: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "frames.json").write_text(text)
    with pytest.raises(UserError, match=message):
        run(folder, tmp_path, Watching(), tmp_path / "frames.json")
    with pytest.raises(UserError, match="cannot be read: No such file"):
        run(folder, tmp_path, Watching(), tmp_path / "another.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling": {"num_frames": 8}}, "--num-frames has no effect"),
        ({"sampling": {"fps": 1.0}}, "--fps has no effect"),
        ({"sampling": {"strategy": "middle"}}, "--strategy has no effect"),
        ({"sampling": {"token_budget": 1000}}, "--token-budget has no effect"),
        ({"sampling": FrameSampling()}, "give sampling= as fields"),
        ({"ladder": (2, 4)}, "--num-frames has no effect"),
        ({"sampling": {"total_pixels": 10**6}}, "gives each number a size of its own: size frames by an edge"),
        ({"sampling": {}, "preset": "qwen2.5-vl"}, "gives each number a size of its own"),
    ],
)
def test_options_beside_it_that_would_have_no_effect(
    folder: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(folder, tmp_path, Watching(), **options)


def test_frames_sized_by_area(folder: Path, tmp_path: Path) -> None:
    records, _ = run(folder, tmp_path, Watching(), sampling={"max_pixels": 5000, "edge_multiple": 28})
    assert {tuple(record["size"]) for record in records.values()} == {(28, 84)}
    sampling = read_info(tmp_path / "run")["tasks"]["folder"]["sampling"]
    assert (sampling["max_pixels"], sampling["edge_multiple"], sampling["longest_edge"]) == (5000, 28, None)


def test_what_else_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the frames of one benchmark: name one task"):
        evaluate([Three(), "synthetic"], [Watching()], data_root=folder, output=tmp_path, frames_from=SETS)

    class Alone(Engine):
        def describe(self) -> dict[str, Any]:
            return {"samples_itself": True}

    with pytest.raises(UserError, match="'engine' is given whole files and chooses frames by itself"):
        run(folder, tmp_path, Alone())


def test_annotations_with_their_frames_as_aks_writes_them(folder: Path, tmp_path: Path) -> None:
    rows = [
        {"question_id": name, "question": "?", "frame_idx": [float(frame) for frame in frames], "use_topk": True}
        for name, frames in SETS.items()
    ]
    (tmp_path / "include_frame_idx.json").write_text(json.dumps(rows))
    ours, _ = run(folder, tmp_path / "ours", Watching())
    theirs, _ = run(folder, tmp_path / "theirs", Watching(), tmp_path / "include_frame_idx.json")
    assert {name: costless(each) for name, each in ours.items()} == {
        name: costless(each) for name, each in theirs.items()
    }
    infos = [read_info(tmp_path / name / "run")["tasks"] for name in ("ours", "theirs")]
    assert infos[0] == infos[1]


def test_frames_out_of_order_and_repeated_are_said(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain, _ = run(folder, tmp_path / "plain", Watching())
    with caplog.at_level(logging.WARNING):
        odd, _ = run(folder, tmp_path / "odd", Watching(), SETS | {"one-0": [39, 3, 17], "two-2": [0, 0, 29]})
    assert "the frames of 1 questions ('one-0') are not in the order of time" in caplog.text
    assert "the frames of 1 questions ('two-2') repeat: each is shown once" in caplog.text
    assert {name: costless(each) for name, each in odd.items()} == {
        name: costless(each) for name, each in plain.items()
    }
