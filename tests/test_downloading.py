"""Data from a server that speaks the Hub's protocol, in the layouts in which the benchmarks are published."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import (
    MVBENCH_TASKS,
    longvideobench_rows,
    lvbench_rows,
    lvbench_videos,
    mvbench_rows,
    nextqa_rows,
    videomme_rows,
    write_longvideobench,
    write_lvbench,
    write_mlvu,
    write_mvbench,
    write_nextqa,
    write_videomme,
)
from choice_files import (
    TEMPCOMPASS_FORMATS,
    VIDEOMMMU_TRACKS,
    cgbench_rows,
    egoschema_rows,
    mmvu_rows,
    motionbench_rows,
    perceptiontest_rows,
    tempcompass_rows,
    videomme_v2_rows,
    videommmu_rows,
    write_cgbench,
    write_egoschema,
    write_mmvu,
    write_motionbench,
    write_perceptiontest,
    write_tempcompass,
    write_videomme_v2,
    write_videommmu,
)
from hub_server import COMMIT, Hub
from needle_files import (
    COUNT_LENGTHS,
    RECALL_LENGTHS,
    count_rows,
    recall_rows,
    timescope_rows,
    videoeval_pro_rows,
    write_count,
    write_recall,
    write_timescope,
    write_videoeval_pro,
)
from videos import make_video

from vamba_eval.contracts import Task, UserError
from vamba_eval.data import archives
from vamba_eval.data.download import download
from vamba_eval.registry import load_task, names

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_video(tmp_path_factory.mktemp("video") / "v.mp4", frames=25).read_bytes()


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Hub]]:
    """Serve a folder as a dataset repository, to this process and to those that it starts."""
    from contextlib import ExitStack

    from huggingface_hub import constants

    with ExitStack() as stack:

        def start(repo: str, folder: Path, **how: object) -> Hub:
            hub = stack.enter_context(Hub(repo, folder, **how).running())  # type: ignore[arg-type]
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
            monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
            template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
            monkeypatch.setenv("HF_HUB_OFFLINE", "0")
            return hub

        yield start


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return path


def split(path: Path, endings: list[str]) -> None:
    """Cut a file into parts called after it, as ``split`` does."""
    content = path.read_bytes()
    size = -(-len(content) // len(endings))
    for number, ending in enumerate(endings):
        path.with_name(path.name + ending).write_bytes(content[number * size : (number + 1) * size])
    path.unlink()


SUBTITLES = b"1\n00:00:00,000 --> 00:00:01,000\nHello.\n"


def publish_videomme(folder: Path, video: bytes, videos: int = 4) -> Path:
    """As lmms-lab/Video-MME is published: numbered archives, each whole in itself."""
    write_videomme(folder, videomme_rows(videos))
    repository = folder / "videomme"
    shutil.rmtree(repository / "data")
    half = videos // 2
    for number, chunk in enumerate((range(half), range(half, videos)), 1):
        zipped(repository / f"videos_chunked_{number:02}.zip", {f"data/vid_{v}.mp4": video for v in chunk})
    zipped(repository / "subtitle.zip", {f"subtitle/vid_{v}.srt": SUBTITLES for v in range(videos)})
    (repository / "README.md").write_text("A card.")
    return repository


def test_videomme_as_published(tmp_path: Path, video: bytes, serve: Callable[..., Hub], cli: Run) -> None:
    repository = publish_videomme(tmp_path / "published", video)
    hub = serve("lmms-lab/Video-MME", repository)
    root = tmp_path / "data"
    status, said, _ = cli("download", "videomme", "--data-root", root)
    assert status == 0, said
    assert "to fetch: 4 of 4 files" in said and "archives to unpack: 3" in said and "disk needed: about" in said

    videos = load_task("videomme").load(root)
    assert [v.id for v in videos] == [f"vid_{n}" for n in range(4)]
    assert all(v.path.read_bytes() == video and v.subtitles.read_bytes() == SUBTITLES for v in videos)
    there = {path.relative_to(root / "videomme").as_posix() for path in (root / "videomme").rglob("*.*")}
    assert not [name for name in there if name.endswith((".zip", ".incomplete", ".md"))]

    # A second call asks what there is, and fetches nothing.
    before = dict(hub.sent)
    status, said, _ = cli("download", "videomme", "--data-root", root)
    assert status == 0 and "everything is there" in said
    assert hub.sent == before

    # A video that has been lost since brings its archive, and no other, again.
    (root / "videomme" / "data" / "vid_3.mp4").write_bytes(video[:100])
    assert cli("download", "videomme", "--data-root", root)[0] == 0
    assert (root / "videomme" / "data" / "vid_3.mp4").read_bytes() == video
    again = {name for name in hub.sent if hub.sent[name] > before.get(name, 0)}
    assert again == {"videos_chunked_02.zip"}


def test_a_dry_run_touches_nothing(tmp_path: Path, video: bytes, serve: Callable[..., Hub], cli: Run) -> None:
    hub = serve("lmms-lab/Video-MME", publish_videomme(tmp_path / "published", video))
    status, said, _ = cli("download", "videomme", "--data-root", tmp_path / "data", "--dry-run")
    assert status == 0 and "to fetch: 4 of 4 files" in said
    assert hub.sent == {} and not (tmp_path / "data").exists()


@pytest.mark.parametrize("endings", [[".part.aa", ".part.ab", ".part.ac"], [".part-aa", ".part-ab"], [".001", ".002"]])
@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_split_archives(tmp_path: Path, video: bytes, serve: Callable[..., Hub], kind: str, endings: list[str]) -> None:
    """LongVideoBench's layout, with the cut through the middle of videos."""
    rows = longvideobench_rows(6)
    repository = write_longvideobench(tmp_path / "published", rows)
    (repository / "videos").rmdir()
    members = {f"videos/lvb{n}.mp4": video for n in range(3)}
    path = repository / f"videos.{kind}"
    zipped(path, members) if kind == "zip" else tarred(path, members, "w:gz" if kind == "tar.gz" else "w")
    split(path, endings)
    lines = json.dumps([{"timestamp": [0.0, 1.0], "text": "Hello."}]).encode()
    tarred(repository / "subtitles.tar", {f"subtitles/lvb{n}_en.json": lines for n in range(3)})
    serve("longvideobench/LongVideoBench", repository)
    (plan,) = download(["longvideobench"], tmp_path / "data", say=lambda text: None)
    assert [(archive.name, len(archive.parts)) for archive in plan.archives] == [
        ("subtitles.tar", 1),
        (f"videos.{kind}", len(endings)),
    ]
    videos = load_task("longvideobench").load(tmp_path / "data")
    assert len(videos) == 3
    assert all(v.path.read_bytes() == video and v.subtitles.read_bytes() == lines for v in videos)
    assert not list((tmp_path / "data" / "longvideobench").glob("videos.*"))


def test_more_than_nine_parts_stand_in_order(tmp_path: Path, serve: Callable[..., Hub]) -> None:
    content = random.Random(0).randbytes(40_000)
    repository = tmp_path / "published"
    (repository / "MC").mkdir(parents=True)
    path = zipped(repository / "videos.zip", {"NExTVideo/1.mp4": content})
    split(path, [f".part{n}" for n in range(1, 13)])
    serve("lmms-lab/NExTQA", repository)
    download(["nextqa"], tmp_path / "data", say=lambda text: None)
    assert (tmp_path / "data" / "nextqa" / "NExTVideo" / "1.mp4").read_bytes() == content


def test_pieces_that_are_called_as_if_they_were_archives(
    tmp_path: Path, video: bytes, serve: Callable[..., Hub]
) -> None:
    """CG-Bench's layout, as its unzip_hf_zip.py joins it: one archive of videos, cut into ``video..._chunk_N.zip``."""
    repository = tmp_path / "published" / "cgbench"
    write_cgbench(tmp_path / "published", cgbench_rows(4))
    path = zipped(repository / "videos", {f"cg_videos_720p/BV{n}-_.mp4": video for n in range(2)})
    split(path, [f"_chunk_{n}.zip" for n in range(12)])
    zipped(repository / "subtitles.zip", {"cg_subtitles/BV0-_.srt": SUBTITLES})
    zipped(repository / "clue_videos_chunk_0.zip", {"cg_clue_videos/10.mp4": video})
    serve("CG-Bench/CG-Bench", repository)
    (plan,) = download(["cgbench_clues"], tmp_path / "data", say=lambda text: None)
    assert [(archive.name, len(archive.parts)) for archive in plan.archives] == [
        ("subtitles.zip", 1),
        ("video.zip", 12),
    ]
    videos = load_task("cgbench_clues").load(tmp_path / "data")
    assert [each.path.read_bytes() == video for each in videos] == [True, True]
    assert [each.subtitles is not None for each in videos] == [True, False]
    assert not (tmp_path / "data" / "cgbench" / "cg_clue_videos").exists(), "clues are cut out of the whole videos"


@pytest.mark.parametrize("ends", [[f"{n:03}" for n in range(11)], ["aa", "ab", "ba"]], ids=["numbers", "letters"])
def test_pieces_of_a_tar_that_are_called_as_if_they_were_archives(
    ends: list[str], tmp_path: Path, video: bytes, serve: Callable[..., Hub]
) -> None:
    """VideoEval-Pro's layout, as its authors' README joins it."""
    repository = write_videoeval_pro(tmp_path / "published", videoeval_pro_rows(8))
    members = {f"videos_filtered/vid{n}-_.mp4": video for n in range(4)}
    path = tarred(repository / "videos" / "whole.tar.gz", members, "w:gz")
    content = path.read_bytes()
    path.unlink()
    size = -(-len(content) // len(ends))
    for n, end in enumerate(ends):
        (repository / "videos" / f"videos_part_{end}.tar.gz").write_bytes(content[n * size : (n + 1) * size])
    serve("TIGER-Lab/VideoEval-Pro", repository)
    (plan,) = download(["videoeval_pro"], tmp_path / "data", say=lambda text: None)
    assert [len(archive.parts) for archive in plan.archives] == [len(ends)]
    videos = load_task("videoeval_pro").load(tmp_path / "data")
    assert len(videos) == 4 and all(each.path.read_bytes() == video for each in videos)


def test_needles_in_hours(tmp_path: Path, video: bytes, serve: Callable[..., Hub]) -> None:
    """TimeScope's tar in parts; VSI-SUPER's archives, one or several a length."""
    made = {
        "timescope": write_timescope(tmp_path / "1", timescope_rows(3)),
        "vsi_super_recall": write_recall(tmp_path / "2", {each: recall_rows(each, 1) for each in RECALL_LENGTHS}),
        "vsi_super_count": write_count(tmp_path / "3", {each: count_rows(each, 3) for each in COUNT_LENGTHS}),
    }
    for name, repository in made.items():
        paths = [each.path.relative_to(repository).as_posix() for each in load_task(name).load(repository.parent)]
        if name == "timescope":
            split(
                tarred(repository / "compressed_archive.tar", dict.fromkeys(paths, video)),
                [f".part{n:02}" for n in range(12)],
            )
        else:
            for number, path in enumerate(paths):
                zipped(repository / f"{path.split('/')[0]}_{number}.zip", {path: video})
        dataset = load_task(name).catalogue.dataset
        assert dataset is not None
        serve(dataset.hub_id, repository)
        download([name], tmp_path / "data", say=lambda text: None)
        videos = load_task(name).load(tmp_path / "data")
        assert len(videos) == len(paths) and all(each.path.read_bytes() == video for each in videos), name


def test_the_other_layouts(tmp_path: Path, video: bytes, serve: Callable[..., Hub]) -> None:
    """Plain files (MLVU), archives in a folder that unpack beside it (LVBench) or where they stand (MVBench)."""
    root, quiet = tmp_path / "data", (lambda text: None)
    repository = tmp_path / "published"
    mlvu = write_mlvu(repository / "1")
    (mlvu / "MLVU").mkdir()
    for name in ("json", "video"):
        (mlvu / name).rename(mlvu / "MLVU" / name)
    for file in sorted((mlvu / "MLVU" / "json").iterdir()):
        for row in json.loads(file.read_text()):
            (mlvu / "MLVU" / "video" / file.stem / row["video"]).write_bytes(video)
    serve("MLVU/MVLU", mlvu)
    download(["mlvu"], root, say=quiet)

    lines = lvbench_videos(3, 6)
    lvbench = write_lvbench(repository / "2", lvbench_rows(lines, "video_path"), "data/train-00000-of-00001.parquet")
    for n in range(3):
        zipped(lvbench / "video_chunks" / f"videos_chunk_{n:03}.zip", {f"all_videos/-vid_{n}.mp4": video})
    serve("lmms-lab/LVBench", lvbench)
    download(["lvbench"], root, say=quiet)

    nextqa = write_nextqa(repository / "3", nextqa_rows(2, {"CW": 4}))
    (nextqa / "NExTVideo").rmdir()
    (nextqa / "OE").mkdir()
    (nextqa / "OE" / "train.parquet").write_bytes(b"another task's")
    zipped(nextqa / "videos.zip", {f"NExTVideo/{2_400_000_000 + n}.mp4": video for n in range(2)})
    serve("lmms-lab/NExTQA", nextqa)
    download(["nextqa"], root, say=quiet)
    assert not (root / "nextqa" / "OE").exists()

    mvbench = write_mvbench(repository / "4", 2)
    for kind, (folder, _, _) in MVBENCH_TASKS.items():
        rows = mvbench_rows(kind, 2)
        if kind == "fine_grained_pose":
            continue
        if kind == "episodic_reasoning":
            members = {f"{folder}/{row['video']}/00001.jpg": b"a picture" for row in rows}
        else:
            members = {f"{folder}/{row['video']}": video for row in rows}
        zipped(mvbench / "video" / f"{folder.partition('/')[0]}.zip", {**members, "__MACOSX/._x": b""})
    (mvbench / "assert").mkdir()
    (mvbench / "assert" / "generation.png").write_bytes(b"a picture")
    serve("OpenGVLab/MVBench", mvbench)
    said: list[str] = []
    download(["mvbench"], root, say=said.append)
    assert "rose1.ntu.edu.sg" in said[-1]
    assert not (root / "mvbench" / "assert").exists() and not list(root.rglob("__MACOSX"))

    for name in ("mlvu", "lvbench", "nextqa", "mvbench"):
        missing = [v.path for v in load_task(name).load(root) if not v.path.exists()]
        assert all("nturgbd" in str(path) for path in missing), (name, missing)
    assert {path.name for path in (root / "mvbench").iterdir()} == {"json", "video", ".vamba-eval"}


def archived(
    repository: Path, root: Path, name: str, video: bytes, archive_of: Callable[[str], tuple[str, str]]
) -> None:
    """Archives with the videos that the task looks for: ``archive_of`` names a video's, and what it is called there."""
    splits = load_task(name).splits
    videos = [video for split in splits for video in load_task(name).load(root, split)]
    members: dict[str, dict[str, bytes]] = {}
    for each in {video.path for video in videos}:
        archive, member = archive_of(each.relative_to(repository).as_posix())
        members.setdefault(archive, {})[member] = video
    for archive, files in members.items():
        zipped(repository / archive, files)


def test_the_newer_benchmarks(tmp_path: Path, video: bytes, serve: Callable[..., Hub]) -> None:
    root, quiet = tmp_path / "data", (lambda text: None)
    made = {
        "videommmu": write_videommmu(tmp_path / "1", {track: videommmu_rows(track, 6) for track in VIDEOMMMU_TRACKS}),
        "egoschema": write_egoschema(tmp_path / "2", egoschema_rows(4), egoschema_rows(6, withheld=True)),
        "perceptiontest": write_perceptiontest(tmp_path / "3", perceptiontest_rows(6)),
        "tempcompass": write_tempcompass(
            tmp_path / "4", {form: tempcompass_rows(form, 6) for form in TEMPCOMPASS_FORMATS}
        ),
        "videomme_v2": write_videomme_v2(tmp_path / "5", videomme_v2_rows(3)),
        "mmvu": write_mmvu(tmp_path / "6", mmvu_rows(6)),
        "motionbench": write_motionbench(tmp_path / "7", motionbench_rows(6)),
    }
    # Which archive of its repository holds a video, and as what.
    archives: dict[str, Callable[[str], tuple[str, str]]] = {
        "videommmu": lambda path: (f"{path.split('/')[0]}.zip", path),
        "egoschema": lambda path: ("videos_chunked_01.zip", path),
        "perceptiontest": lambda path: ("videos_chunked_01.zip", path),
        "tempcompass": lambda path: ("tempcompass_videos.zip", path),
        "videomme_v2": lambda path: ("videos/001.zip", path.removeprefix("videos/")),
    }
    for name, repository in made.items():
        if name in archives:
            archived(repository, repository.parent, name, video, archives[name])
        else:
            for each in (v for split in load_task(name).splits for v in load_task(name).load(repository.parent, split)):
                path = repository / "MotionBench" / "self-collected" / each.id if name == "motionbench" else each.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(video)
        if name == "videomme_v2":
            words = json.dumps({"text": "Hello", "start_time": 0.0, "end_time": 0.5}).encode() + b"\n"
            zipped(repository / "subtitle.zip", {f"subtitle/{v + 1:03}.jsonl": words for v in range(3)})
        dataset = load_task(name).catalogue.dataset
        assert dataset is not None
        serve(dataset.hub_id, repository)
        download([name], root, say=quiet)
        for split in load_task(name).splits:
            videos = load_task(name).load(root, split)
            assert videos and all(each.path.read_bytes() == video for each in videos), (name, split)
        assert not list((root / name).rglob("*.zip"))
    assert all(each.subtitles for each in load_task("videomme_v2_subtitles").load(root))


def test_a_connection_that_breaks(tmp_path: Path, serve: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    """What has come is not sent again."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    content = random.Random(0).randbytes(300_000)
    repository = tmp_path / "published"
    zipped(repository / "videos.zip", {"NExTVideo/1.mp4": content})
    hub = serve("lmms-lab/NExTQA", repository, cut_after={"videos.zip": 200_000})
    download(["nextqa"], tmp_path / "data", say=lambda text: None)
    assert (tmp_path / "data" / "nextqa" / "NExTVideo" / "1.mp4").read_bytes() == content
    size = (repository / "videos.zip").stat().st_size
    assert size <= hub.sent["videos.zip"] <= size + 10_000
    assert [asked[2] for asked in hub.asked if asked[1].endswith("videos.zip")][1] == "bytes=200000-"


def test_large_files_are_on_another_host_that_gets_no_token(
    tmp_path: Path, serve: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    content = random.Random(0).randbytes(100_000)
    repository = tmp_path / "published"
    zipped(repository / "videos.zip", {"NExTVideo/1.mp4": content})
    cut = {"videos.zip": 50_000}
    hub = serve("lmms-lab/NExTQA", repository, elsewhere=True, gated="hf_right", cut_after=cut)
    download(["nextqa"], tmp_path / "data", say=lambda text: None)
    assert (tmp_path / "data" / "nextqa" / "NExTVideo" / "1.mp4").read_bytes() == content
    ranges = [begin for _, path, begin in hub.asked if path == "/elsewhere/videos.zip"]
    assert ranges == [None, "bytes=50000-"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_ended_command_goes_on_in_the_middle_of_a_file(
    tmp_path: Path, serve: Callable[..., Hub], how: signal.Signals
) -> None:
    content = random.Random(0).randbytes(35_000_000)
    repository = tmp_path / "published"
    (repository / "MC").mkdir(parents=True)
    (repository / "MC" / "small.parquet").write_bytes(b"small")
    zipped(repository / "videos.zip", {"NExTVideo/1.mp4": content})
    hub = serve("lmms-lab/NExTQA", repository, hold_after={"videos.zip": 30_000_000})
    command = [sys.executable, "run_eval.py", "download", "nextqa", "--data-root", str(tmp_path / "data")]
    where = {"cwd": Path(__file__).parent.parent, "env": dict(os.environ)}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **where)
    assert hub.holding.wait(60)
    own = tmp_path / "data" / "nextqa" / ".vamba-eval" / "incomplete"
    while not any(path.stat().st_size >= 20_000_000 for path in own.iterdir()):  # the library writes 10 MB at a time
        assert process.poll() is None
    process.send_signal(how)
    hub.go_on.set()
    assert process.wait(30) == (-how if how == signal.SIGKILL else 130)
    assert not list((tmp_path / "data").rglob("*.mp4"))

    done = subprocess.run(command, capture_output=True, text=True, **where)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "nextqa" / "NExTVideo" / "1.mp4").read_bytes() == content
    last = [begin for _, path, begin in hub.asked if path.endswith("videos.zip")][-1]
    assert last is not None and int(last.removeprefix("bytes=").rstrip("-")) >= 20_000_000
    assert hub.sent["MC/small.parquet"] == 5
    if how == signal.SIGKILL:
        assert hub.sent["videos.zip"] <= (repository / "videos.zip").stat().st_size + 10_000_000
    assert not list(own.iterdir())


def test_an_interrupted_unpacking_is_done_again(
    tmp_path: Path, video: bytes, serve: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = publish_videomme(tmp_path / "published", video)
    hub = serve("lmms-lab/Video-MME", repository)
    root = tmp_path / "data"
    copy, left = shutil.copyfileobj, [3]

    def interrupted(source: io.IOBase, target: io.IOBase, size: int = 0) -> None:
        left[0] -= 1
        if left[0] == 0:
            target.write(source.read(100))
            raise KeyboardInterrupt
        copy(source, target, size)

    monkeypatch.setattr(shutil, "copyfileobj", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download(["videomme"], root, say=lambda text: None)
    monkeypatch.setattr(shutil, "copyfileobj", copy)
    sent = dict(hub.sent)
    for path in (root / "videomme" / "subtitle").glob("*.srt"):
        assert path.read_bytes() == SUBTITLES  # what has its name is whole
    download(["videomme"], root, say=lambda text: None)
    assert all(v.path.read_bytes() == video and v.subtitles for v in load_task("videomme").load(root))
    assert all(hub.sent[name] == sent[name] for name in sent)  # nothing was fetched twice
    assert not list(root.rglob("*.incomplete"))


def test_archives_may_be_kept(tmp_path: Path, video: bytes, serve: Callable[..., Hub], cli: Run) -> None:
    hub = serve("lmms-lab/Video-MME", publish_videomme(tmp_path / "published", video))
    root = tmp_path / "data"
    command = ("download", "videomme", "--data-root", root)
    assert cli(*command, "--keep-archives")[0] == 0
    assert len(list(root.rglob("*.zip"))) == 3
    sent = dict(hub.sent)
    assert "everything is there" in cli(*command, "--keep-archives")[1]
    cli(*command)
    assert hub.sent == sent and not list(root.rglob("*.zip"))


def test_files_that_somebody_else_put_there(tmp_path: Path, video: bytes, serve: Callable[..., Hub]) -> None:
    """Are taken if they are what the Hub states, and replaced if not."""
    repository = publish_videomme(tmp_path / "published", video)
    hub = serve("lmms-lab/Video-MME", repository)
    own = tmp_path / "data" / "videomme"
    own.mkdir(parents=True)
    shutil.copy(repository / "videos_chunked_01.zip", own)
    other = bytearray((repository / "videos_chunked_02.zip").read_bytes())
    other[2000] ^= 1
    (own / "videos_chunked_02.zip").write_bytes(other)
    download(["videomme"], tmp_path / "data", say=lambda text: None)
    assert "videos_chunked_01.zip" not in hub.sent and "videos_chunked_02.zip" in hub.sent
    assert all(v.path.read_bytes() == video for v in load_task("videomme").load(tmp_path / "data"))


def test_what_the_hubs_cache_has_is_not_fetched(
    tmp_path: Path, video: bytes, serve: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    repository = publish_videomme(tmp_path / "published", video)
    hub = serve("lmms-lab/Video-MME", repository)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    snapshot = tmp_path / "cache" / "datasets--lmms-lab--Video-MME" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name in ("videos_chunked_01.zip", "subtitle.zip"):
        shutil.copy(repository / name, snapshot)
    download(["videomme"], tmp_path / "data", say=lambda text: None)
    assert set(hub.sent) == {"videos_chunked_02.zip", "videomme/test-00000-of-00001.parquet"}
    assert all(v.path.read_bytes() == video for v in load_task("videomme").load(tmp_path / "data"))
    assert (snapshot / "videos_chunked_01.zip").exists()


@pytest.mark.parametrize("difference", [-10, 10])
def test_another_size_than_stated(
    tmp_path: Path, video: bytes, serve: Callable[..., Hub], cli: Run, difference: int
) -> None:
    repository = publish_videomme(tmp_path / "published", video)
    size = (repository / "videos_chunked_02.zip").stat().st_size
    hub = serve("lmms-lab/Video-MME", repository, lies={"videos_chunked_02.zip": size + difference})
    status, _, errors = cli("download", "videomme", "--data-root", tmp_path / "data")
    assert status == 2
    what = "more comes of videos_chunked_02.zip than" if difference < 0 else f"arrived with {size:,} bytes instead of"
    assert f"{what} the {size + difference:,}" in errors and "that the Hub states" in errors
    assert not (tmp_path / "data" / "videomme" / "data" / "vid_3.mp4").exists()
    hub.lies.clear()
    assert cli("download", "videomme", "--data-root", tmp_path / "data")[0] == 0
    assert (tmp_path / "data" / "videomme" / "data" / "vid_3.mp4").read_bytes() == video


def test_a_gated_dataset(
    tmp_path: Path, video: bytes, serve: Callable[..., Hub], cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = write_longvideobench(tmp_path / "published", longvideobench_rows(2))
    tarred(repository / "videos.tar", {"videos/lvb0.mp4": video})
    serve("longvideobench/LongVideoBench", repository, gated="hf_right")
    command = ("download", "longvideobench", "--data-root", tmp_path / "data")
    status, _, errors = cli(*command)
    assert status == 2
    assert "is gated: accept its terms at https://huggingface.co/datasets/longvideobench/LongVideoBench" in errors
    assert "HF_TOKEN" in errors
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert cli(*command)[0] == 2
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert cli(*command)[0] == 0
    assert load_task("longvideobench").load(tmp_path / "data")[0].path.read_bytes() == video


def test_too_little_disk_is_said_before_anything_is_fetched(
    tmp_path: Path, video: bytes, serve: Callable[..., Hub], cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = serve("lmms-lab/Video-MME", publish_videomme(tmp_path / "published", video))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 5000, 5000))
    status, said, errors = cli("download", "videomme", "--data-root", tmp_path / "data")
    assert status == 2 and "on the disk of" in errors and "which has 5 KB" in errors
    assert "disk needed: about" in said and hub.sent == {}


EVIL = {
    "zip, up": lambda path: zipped(path, {"data/a.mp4": b"a", "../../evil.mp4": b"evil"}),
    "zip, absolute": lambda path: zipped(path, {"/tmp/evil_vamba_eval.mp4": b"evil"}),
    "zip, Windows": lambda path: zipped(path, {"..\\..\\evil.mp4": b"evil", "C:\\evil.mp4": b"evil"}),
}


@pytest.mark.parametrize("kind", EVIL)
def test_members_that_lead_elsewhere(tmp_path: Path, serve: Callable[..., Hub], cli: Run, kind: str) -> None:
    repository = tmp_path / "published"
    EVIL[kind](repository / "videos.zip")
    serve("lmms-lab/NExTQA", repository)
    status, _, errors = cli("download", "nextqa", "--data-root", tmp_path / "data")
    assert status == 2 and "leads out of" in errors
    assert not list(tmp_path.rglob("evil*")) and not Path("/tmp/evil_vamba_eval.mp4").exists()


LINKS = {"soft": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "device": tarfile.CHRTYPE, "pipe": tarfile.FIFOTYPE}


@pytest.mark.parametrize("kind", [*LINKS, "soft in a zip"])
@pytest.mark.parametrize("target", ["/etc/passwd", "videos/lvb0.mp4"])
def test_links_and_devices_in_archives_are_refused(
    tmp_path: Path, serve: Callable[..., Hub], cli: Run, kind: str, target: str
) -> None:
    repository = write_longvideobench(tmp_path / "published", longvideobench_rows(2))
    if kind in LINKS:
        about = tarfile.TarInfo("videos/out")
        about.type, about.linkname = LINKS[kind], target
        path = tarred(repository / "videos.tar", {"videos/lvb0.mp4": b"a video"})
        with tarfile.open(path, "a") as archive:
            archive.addfile(about)
    else:
        member = zipfile.ZipInfo("videos/out")
        member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(repository / "videos.zip", "w") as zip_archive:
            zip_archive.writestr(member, target)
    serve("longvideobench/LongVideoBench", repository)
    status, _, errors = cli("download", "longvideobench", "--data-root", tmp_path / "data")
    assert status == 2 and "cannot be unpacked ('videos/out' is a link or a device" in errors
    assert not os.path.lexists(tmp_path / "data" / "longvideobench" / "videos" / "out")


def sparse_tar(path: Path) -> None:
    """Of 10 KB, with a member of 4 TB in it, none of which is in the archive."""
    about = tarfile.TarInfo("NExTVideo/1.mp4")
    about.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": about.name}
    about.pax_headers |= {"GNU.sparse.map": "0,0", "GNU.sparse.numblocks": "1", "GNU.sparse.size": str(2**42)}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(about)


def bomb_tar(path: Path) -> None:
    about = tarfile.TarInfo("NExTVideo/1.mp4")
    about.size = 2**24
    with tarfile.open(path, "w:gz", compresslevel=9) as archive, open("/dev/zero", "rb") as zeros:
        archive.addfile(about, zeros)


def bomb_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("NExTVideo/1.mp4", "w") as member:
        for _ in range(2**4):
            member.write(bytes(2**20))


@pytest.mark.parametrize(
    ("name", "write"),
    [("videos.tar", sparse_tar), ("videos.tar.gz", bomb_tar), ("videos.zip", bomb_zip)],
)
def test_an_archive_that_would_fill_the_disk(
    tmp_path: Path,
    serve: Callable[..., Hub],
    cli: Run,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    write: Callable[[Path], None],
) -> None:
    if write is not sparse_tar:
        monkeypatch.setattr("vamba_eval.data.archives._MOST_OF_A_SMALL_ONE", 2**20)
    (tmp_path / "published").mkdir()
    write(tmp_path / "published" / name)
    serve("longvideobench/LongVideoBench", tmp_path / "published")
    root = tmp_path / "data"
    status, _, errors = cli("download", "longvideobench", "--data-root", root)
    assert status == 2 and f"{name} holds far more than its" in errors and errors.count("\n") == 1
    assert not list(root.rglob("*.mp4*")), "it stops before it begins"


@pytest.mark.parametrize("name", ["videos.tar.xz", "videos.zip"])
def test_folders_without_end_are_given_up(
    tmp_path: Path, serve: Callable[..., Hub], cli: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Nothing is made of them; but 100 KB of an archive are a million, and each is looked at."""
    monkeypatch.setattr("vamba_eval.data.archives._MOST_OF_A_SMALL_ONE", 2**20)
    (tmp_path / "published").mkdir()
    if name.endswith(".zip"):
        with zipfile.ZipFile(tmp_path / "published" / name, "w") as zipped:
            for number in range(3000):
                zipped.writestr(f"{number}/", b"")
        monkeypatch.setattr("vamba_eval.data.archives._MOST_GROWTH", 1)
    else:
        with tarfile.open(tmp_path / "published" / name, "w:xz") as tar:
            for number in range(1000):
                folder = tarfile.TarInfo("__MACOSX/" * (number % 2) + "d")
                folder.type = tarfile.DIRTYPE
                tar.addfile(folder)
    serve("longvideobench/LongVideoBench", tmp_path / "published")
    status, _, errors = cli("download", "longvideobench", "--data-root", tmp_path / "data")
    assert status == 2 and f"{name} holds far more than its" in errors


def test_what_has_been_seen_of_a_tar_is_not_remembered() -> None:
    folder = tarfile.TarInfo("d")
    folder.type = tarfile.DIRTYPE
    content = io.BytesIO(folder.tobuf() * 20_000 + bytes(1024))
    tracemalloc.start()
    try:
        assert sum(1 for _ in archives._members("a.tar", content)) == 20_000
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2**21


def test_files_of_nothing_fill_a_disk_too(
    tmp_path: Path, serve: Callable[..., Hub], cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vamba_eval.data.archives._MOST_OF_A_SMALL_ONE", 2**20)
    tarred(tmp_path / "published" / "videos.tar.gz", {f"videos/{n}.mp4": b"" for n in range(1000)}, "w:gz")
    serve("longvideobench/LongVideoBench", tmp_path / "published")
    status, _, errors = cli("download", "longvideobench", "--data-root", tmp_path / "data")
    assert status == 2 and "videos.tar.gz holds far more than its" in errors
    assert len(list((tmp_path / "data").rglob("*.mp4"))) == 2**20 // 4096


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_would_fill_the_memory(tmp_path: Path, serve: Callable[..., Hub], cli: Run, kind: bytes) -> None:
    (tmp_path / "published").mkdir()
    about = tarfile.TarInfo("videos/1.mp4")
    about.type, about.size = kind, 2**26
    with tarfile.open(tmp_path / "published" / "videos.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("videos/0.mp4"))
        archive.addfile(about, io.BytesIO(b"A" * 2**26))
    serve("longvideobench/LongVideoBench", tmp_path / "published")
    tracemalloc.start()
    try:
        status, _, errors = cli("download", "longvideobench", "--data-root", tmp_path / "data")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert status == 2 and "cannot be unpacked (a header of 67.1 MB" in errors and most < 2**25


@pytest.mark.parametrize("name", ["", "a\nb.mp4", "\x1b[2J.mp4", "."])
def test_names_that_are_none(tmp_path: Path, serve: Callable[..., Hub], cli: Run, name: str) -> None:
    tarred(tmp_path / "published" / "videos.tar", {name: b"a"})
    serve("longvideobench/LongVideoBench", tmp_path / "published")
    status, _, errors = cli("download", "longvideobench", "--data-root", tmp_path / "data")
    assert status == 2 and "videos.tar holds a file called" in errors and "which is no name" in errors
    assert errors.count("\n") == 1


def test_an_empty_name_in_a_zip(tmp_path: Path, serve: Callable[..., Hub], cli: Run) -> None:
    path = zipped(tmp_path / "published" / "videos.zip", {"EMPTY": b"a"})
    path.write_bytes(path.read_bytes().replace(b"EMPTY", b"\0MPTY"))  # a name ends where that is
    serve("lmms-lab/NExTQA", tmp_path / "published")
    status, _, errors = cli("download", "nextqa", "--data-root", tmp_path / "data")
    assert status == 2 and "videos.zip holds a file called '', which is no name" in errors


def test_what_is_known_of_a_folder_is_not_for_others_to_write(
    tmp_path: Path, serve: Callable[..., Hub], cli: Run
) -> None:
    """Else they could say that a file is whole which is not."""
    command = ("download", "nextqa", "--data-root", tmp_path / "data")
    for name, said in (
        (".vamba-eval/lock", "where this program keeps what it knows"),
        ("a/../.vamba-eval/lock", "leads"),
    ):
        zipped(tmp_path / "published" / "videos.zip", {name: b"mine"})
        serve("lmms-lab/NExTQA", tmp_path / "published")
        status, _, errors = cli(*command)
        assert status == 2 and said in errors
    (tmp_path / "published" / "videos.zip").rename(tmp_path / "published" / "other")
    hub = serve("lmms-lab/NExTQA", tmp_path / "published")
    hub.says = lambda about: {**about, "siblings": [{**about["siblings"][0], "rfilename": ".vamba-eval/fetched.txt"}]}
    status, _, errors = cli(*command, "--repo", "lmms-lab/NExTQA")
    assert status == 2 and "where this program keeps what it knows" in errors


SHA = "0" * 40
LISTINGS: dict[str, object] = {
    "HTML": b"<!DOCTYPE html><html><body>Log in to the network</body></html>",
    "no text": b"\xff\xfe\x00",
    "nothing": b"",
    "deep JSON": b"[" * 100_000,
    "a list": lambda about: [about],
    "null": lambda about: None,
    "no files": lambda about: {**about, "siblings": None},
    "files of text": lambda about: {**about, "siblings": ["a", "b"]},
    "no commit": lambda about: {**about, "sha": None},
    "a commit elsewhere": lambda about: {**about, "sha": "../../../../etc"},
    "a digest elsewhere": lambda about: with_file(about, blobId="../../../evil"),
    "a digest elsewhere, of a large file": lambda about: with_file(about, lfs={"sha256": "../../../evil", "size": 1}),
    "no digest": lambda about: with_file(about, blobId=None),
    "a large file of text": lambda about: with_file(about, lfs="lfs"),
    "a negative size": lambda about: with_file(about, size=-1),
    "a size of text": lambda about: with_file(about, size="1"),
    "a size that is no number": lambda about: with_file(about, size=float("nan")),
    "no size": lambda about: with_file(about, size=None),
    "a name of numbers": lambda about: with_file(about, rfilename=5),
    "half a surrogate pair": lambda about: with_file(about, rfilename="\ud800.csv"),
}


def with_file(about: dict[str, Any], **changes: object) -> dict[str, Any]:
    file = {"rfilename": "MC/test-00000-of-00001.parquet", "size": 1, "blobId": SHA}
    return {**about, "siblings": [{**file, **changes}]}


@pytest.mark.parametrize("kind", LISTINGS)
def test_what_a_mirror_says_is_no_listing(tmp_path: Path, serve: Callable[..., Hub], cli: Run, kind: str) -> None:
    (tmp_path / "published").mkdir()
    hub = serve("lmms-lab/NExTQA", tmp_path / "published", says=LISTINGS[kind])
    status, _, errors = cli("download", "nextqa", "--data-root", tmp_path / "data" / "root")
    assert status == 2 and errors.startswith("error: ") and errors.count("\n") == 1, errors
    assert "lmms-lab/NExTQA" in errors and not (tmp_path / "data").exists() and not list(tmp_path.rglob("*evil*"))
    assert [path for _, path, _ in hub.asked] == ["/api/datasets/lmms-lab/NExTQA"]


@pytest.mark.parametrize("name", ["../../evil.csv", "/tmp/evil.csv", "MC/../../../evil.csv", "", "C:/evil.csv"])
def test_names_in_a_listing_that_lead_elsewhere(tmp_path: Path, serve: Callable[..., Hub], cli: Run, name: str) -> None:
    (tmp_path / "published").mkdir()
    says: Callable[[dict[str, Any]], Any] = lambda about: with_file(about, rfilename=name)  # noqa: E731
    serve("lmms-lab/NExTQA", tmp_path / "published", says=says)
    command = ("download", "nextqa", "--data-root", tmp_path / "data" / "root", "--repo", "lmms-lab/NExTQA")
    status, _, errors = cli(*command)
    assert status == 2 and errors.count("\n") == 1 and ("leads out of" in errors or "is no name" in errors), errors
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("kind", ["HTML", "a list", "null", "files of text"])
def test_what_a_mirror_says_is_no_snapshot(tmp_path: Path, serve: Callable[..., Hub], cli: Run, kind: str) -> None:
    (tmp_path / "published").mkdir()
    serve("lmms-lab/NExTQA", tmp_path / "published", says=LISTINGS[kind])
    command = ("--tasks", "nextqa", "--models", "random", "--data-root", "hub:", "--output", tmp_path / "out")
    status, _, errors = cli(*command)
    assert status == 2 and "the dataset lmms-lab/NExTQA cannot be fetched" in errors and errors.count("error: ") == 1


def test_a_file_without_end(tmp_path: Path, serve: Callable[..., Hub], cli: Run) -> None:
    repository, name = write_longvideobench(tmp_path / "published", longvideobench_rows(2)), "lvb_val.json"
    hub = serve("longvideobench/LongVideoBench", repository, endless=(name,))
    status, _, errors = cli("download", "longvideobench", "--data-root", tmp_path / "data")
    assert status == 2 and f"more comes of {name} than the" in errors and errors.count("\n") == 1
    assert hub.sent[name] < 2**26
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file() and path.stat().st_size > 1000]


def test_a_listing_without_end(
    tmp_path: Path, serve: Callable[..., Hub], cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vamba_eval.data.hub._DESCRIPTION_BYTES", 2**22)
    (tmp_path / "published").mkdir()
    serve("lmms-lab/NExTQA", tmp_path / "published", endless=("",))
    status, _, errors = cli("download", "nextqa", "--data-root", tmp_path / "data")
    assert status == 2 and "does not come to an end" in errors and errors.count("\n") == 1
    monkeypatch.setattr("vamba_eval.data.hub._DESCRIPTION_BYTES", 2**40)
    monkeypatch.setattr("vamba_eval.data.hub._DESCRIPTION_S", 0.2)
    assert "does not come to an end" in cli("download", "nextqa", "--data-root", tmp_path / "data")[2]


def test_a_broken_archive_is_kept_out(tmp_path: Path, serve: Callable[..., Hub], cli: Run) -> None:
    repository = tmp_path / "published"
    path = zipped(repository / "videos.zip", {"NExTVideo/1.mp4": bytes(5000)})
    content = bytearray(path.read_bytes())
    content[2000] ^= 1  # within the stored video, whose checksum is then another
    path.write_bytes(content)
    serve("lmms-lab/NExTQA", repository)
    status, _, errors = cli("download", "nextqa", "--data-root", tmp_path / "data")
    assert status == 2 and "videos.zip cannot be unpacked (Bad CRC-32" in errors
    assert not list((tmp_path / "data").rglob("*.mp4"))


def test_an_archive_that_begins_before_its_file(tmp_path: Path, serve: Callable[..., Hub], cli: Run) -> None:
    path = zipped(tmp_path / "published" / "videos.zip", {"NExTVideo/1.mp4": b"a"})
    content = bytearray(path.read_bytes())
    content[-6] += 7  # where the list of members begins: all places shift by the difference
    path.write_bytes(content)
    serve("lmms-lab/NExTQA", path.parent)
    status, _, errors = cli("download", "nextqa", "--data-root", tmp_path / "data")
    assert status == 2 and "videos.zip cannot be unpacked (" in errors and errors.count("\n") == 1


def test_names_that_are_not_there(tmp_path: Path, video: bytes, serve: Callable[..., Hub], cli: Run) -> None:
    repository = publish_videomme(tmp_path / "published", video)
    hub = serve("somebody/copy", repository)
    root = tmp_path / "data"
    status, _, errors = cli("download", "videomme", "--data-root", root)
    assert status == 2 and "there is no dataset lmms-lab/Video-MME on the Hub" in errors
    status, _, errors = cli("download", "videomme", "--data-root", root, "--repo", "somebody/copy", "--revision", "x")
    assert status == 2 and "has no such revision" in errors
    hub.branches = ("main", "x")
    assert cli("download", "videomme", "--data-root", root, "--repo", "somebody/copy", "--revision", "x")[0] == 0
    assert all(v.path.exists() for v in load_task("videomme").load(root))
    status, _, errors = cli("download", "videomme,mlvu", "--data-root", root, "--repo", "somebody/copy")
    assert status == 2 and "--repo names the source of one benchmark" in errors
    status, _, errors = cli("download", "videome", "--data-root", root)
    assert status == 2 and "did you mean 'videomme'" in errors
    status, _, errors = cli("download", "videomme", "--data-root", "hub:")
    assert status == 2 and "needs a folder" in errors


def test_no_network(tmp_path: Path, cli: Run) -> None:
    status, _, errors = cli("download", "videomme", "--data-root", tmp_path)
    assert status == 2 and "cannot be downloaded (Cannot reach" in errors


def test_tasks_that_share_data(tmp_path: Path, video: bytes, serve: Callable[..., Hub], cli: Run) -> None:
    serve("lmms-lab/Video-MME", publish_videomme(tmp_path / "published", video))
    variant = tmp_path / "variant.py"
    variant.write_text(
        "from dataclasses import replace\nfrom vamba_eval.tasks.videomme import VideoMME\n\n\n"
        "class Variant(VideoMME):\n    name = 'variant'\n"
        "    catalogue = replace(VideoMME.catalogue, reads_data_of=('videomme',))\n"
    )
    status, said, _ = cli("download", f"{variant},videomme", "--data-root", tmp_path / "data")
    assert status == 0 and said.count("lmms-lab/Video-MME at") == 1
    assert load_task(str(variant)).load(tmp_path / "data")[0].path.read_bytes() == video
    status, said, errors = cli("download", "houreval", "--data-root", tmp_path / "data", "--dry-run")
    assert "videomme: lmms-lab/Video-MME" in said and "no dataset MLVU/MVLU" in errors


def test_nothing_to_download(tmp_path: Path, cli: Run) -> None:
    status, said, _ = cli("download", "synthetic", "--data-root", tmp_path)
    assert status == 0 and said == "synthetic: nothing to download (generated on this machine)\n"


def test_every_task_says_where_its_data_is() -> None:
    for name in names(Task):
        task = load_task(name)
        assert task.catalogue.dataset or task.catalogue.reads_data_of or name == "synthetic", name
        for own in task.catalogue.reads_data_of:
            assert load_task(own).catalogue.dataset


def test_two_at_once(tmp_path: Path, video: bytes, serve: Callable[..., Hub]) -> None:
    from filelock import FileLock

    serve("lmms-lab/Video-MME", publish_videomme(tmp_path / "published", video))
    own = tmp_path / "data" / "videomme" / ".vamba-eval"
    own.mkdir(parents=True)
    with FileLock(own / "lock"), pytest.raises(UserError, match="another command is downloading"):
        download(["videomme"], tmp_path / "data", say=lambda text: None)
