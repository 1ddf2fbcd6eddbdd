"""What stands in the place of a file in somebody else's results: nothing hangs, or is read or written elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
from invented_runs import invent_run, invented_videos
from PIL import Image

from vamba_eval.contracts import UserError
from vamba_eval.exchange.share import _check_files
from vamba_eval.files import lines_of_others, open_to_append, read_of_others, replace_text
from vamba_eval.run.tracebacks import Tracebacks
from vamba_eval.store.runs import RecordFile, read_lines
from vamba_eval.store.thumbnails import read_strip

Cli = Callable[..., tuple[int, str, str]]
RECORDS = "videomme.alpha.jsonl"
FILES = ("run.json", RECORDS, "videomme.alpha.judged.jsonl", "leaderboard.json")
PRIVATE = "nobody else's business"


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """What waits for a pipe waits forever."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def invented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("invented")
    videos = invented_videos(root / "data", 2)
    for name in ("theirs", "sound"):
        invent_run(root / "runs" / name, "videomme", videos, ["alpha", "delta"])
    return root / "runs"


@pytest.fixture
def runs(invented: Path, tmp_path: Path) -> Path:
    """Somebody's run, and a sound one beside it."""
    return Path(shutil.copytree(invented, tmp_path / "runs"))


def of_a_task_that_is_not_here(run: Path) -> None:
    """So that its own table would be shown."""
    info = json.loads((run / "run.json").read_text())
    info["tasks"]["videomme"]["source"] = "theirs.py"
    (run / "run.json").write_text(json.dumps(info))


@pytest.mark.parametrize("kind", ["pipe", "link to a device", "folder", "larger than any"])
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_costs_its_own_run_alone(cli: Cli, runs: Path, name: str, kind: str) -> None:
    path = runs / "theirs" / name
    if name == "leaderboard.json":
        of_a_task_that_is_not_here(runs / "theirs")
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 2**29)  # of a disk it takes nothing
    status, said, errors = cli("leaderboard", runs, "--format", "csv")
    assert status in (0, 1) and "sound,alpha" in said and "Traceback" not in errors
    if name in ("run.json", RECORDS) and kind != "larger than any":
        assert status == 1 and f"left out: {runs / 'theirs'}" in errors and "theirs,alpha" not in said


def test_a_picture_that_is_none(cli: Cli, runs: Path) -> None:
    pictures = sorted((runs / "theirs" / "thumbnails").iterdir())
    about = json.loads(Image.open(pictures[0]).info["comment"])
    digest = pictures[0].stem
    for path in pictures:
        path.unlink()
    os.mkfifo(pictures[1])
    for comment in ("[" * 100_000, json.dumps({**about, "total": 1e999}), "null"):
        Image.new("RGB", (8, 8)).save(pictures[0], "JPEG", comment=comment.encode()[:60_000])
        assert read_strip(runs / "theirs", digest) is None
    Image.new("RGB", (8, 8)).save(pictures[0], "PNG")
    assert read_strip(runs / "theirs", digest) is None
    Image.new("RGB", (8, 8)).save(pictures[0], "JPEG", comment=json.dumps(about))
    jpeg = pictures[0].read_bytes()
    header = jpeg.index(b"\xff\xc0") + 5
    pictures[0].write_bytes(jpeg[:header] + b"\xff\xff\xff\xff" + jpeg[header + 4 :])  # 65,535 x 65,535
    assert read_strip(runs / "theirs", digest) is None
    assert cli("report", runs, "-o", runs.parent / "page.html")[0] == 0


def test_what_a_link_leads_to_is_not_shown(cli: Cli, runs: Path, tmp_path: Path) -> None:
    path = runs / "theirs" / RECORDS
    line = json.loads(path.read_text().splitlines()[0])
    (tmp_path / "private.jsonl").write_text(json.dumps({**line, "response": PRIVATE}) + "\n")
    path.unlink()
    path.symlink_to(tmp_path / "private.jsonl")
    for command in (("report", runs, "-o", tmp_path / "out" / "page.html"), ("export", runs, "--format", "lmms-eval")):
        status, _, errors = cli(*command, *(() if "-o" in command else ("--output", tmp_path / "out")))
        assert status == 0 and "a link out of its folder" in errors
    assert not any(PRIVATE in file.read_text() for file in (tmp_path / "out").rglob("*") if file.is_file())


def test_what_a_link_in_a_log_leads_to_is_not_imported(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "private").write_text(json.dumps({"doc_id": 0, "filtered_resps": [PRIVATE]}) + "\n")
    (tmp_path / "logs" / "1_samples_videomme.jsonl").symlink_to(tmp_path / "private")
    status, said, errors = cli("import-lmms", tmp_path / "logs", "--output", tmp_path / "out")
    assert status == 2 and "a link out of its folder" in errors and PRIVATE not in said + errors
    (tmp_path / "logs" / "1_samples_videomme.jsonl").unlink()
    os.mkfifo(tmp_path / "logs" / "1_samples_videomme.jsonl")
    status, _, errors = cli("import-lmms", tmp_path / "logs", "--output", tmp_path / "out")
    assert status == 2 and "not a file" in errors


def test_a_snapshot_of_the_hub_can_be_read(cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All its files are links to others in the cache."""
    hub = runs.parent / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    snapshot = hub / "datasets--a--b" / "snapshots" / "c0ffee"
    snapshot.parent.mkdir(parents=True)
    shutil.move(runs / "theirs", snapshot)
    (hub / "datasets--a--b" / "blobs").mkdir()
    for number, file in enumerate(sorted(path for path in snapshot.rglob("*") if path.is_file())):
        blob = file.rename(hub / "datasets--a--b" / "blobs" / str(number))
        file.symlink_to(os.path.relpath(blob, file.parent))
    status, said, errors = cli("leaderboard", snapshot, "--format", "csv")
    assert status == 0 and not errors and "c0ffee,alpha" in said
    assert cli("report", snapshot, "-o", runs / "page.html")[0] == 0
    assert 'type="image/jpeg" id="strip-0"' in (runs / "page.html").read_text()


@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe"])
def test_nothing_is_written_through_what_stands_there(tmp_path: Path, kind: str) -> None:
    """As when somebody else's responses are judged, or their run is gone on with."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    theirs.mkdir()
    text = "export A=1\nand a last line without its end"
    if kind == "link":
        mine.write_text(text)
    for name in ("a.jsonl", "tracebacks.log", "leaderboard.md"):
        os.mkfifo(theirs / name) if kind == "pipe" else (theirs / name).symlink_to(mine)
    records = RecordFile(theirs / "a.jsonl")
    for act in (lambda: records.append({"question": "q"}), records.drop_torn_line):
        with pytest.raises(UserError, match="is not written to"):
            act()
    assert not Tracebacks(theirs).keep(ValueError("x").with_traceback(_traceback()), "a question")
    replace_text(theirs / "leaderboard.md", "a table")  # a file in the link's place
    assert (theirs / "leaderboard.md").read_text() == "a table" and not (theirs / "leaderboard.md").is_symlink()
    assert mine.read_text() == text if kind == "link" else not mine.exists()


def test_no_link_is_sent_anywhere(runs: Path) -> None:
    run = runs / "sound"
    _check_files(run)
    (run / "thumbnails" / "more.jpg").symlink_to("/etc/hostname")
    with pytest.raises(UserError, match=r"more\.jpg is a link: .* before the run is sent"):
        _check_files(run)


def _traceback() -> object:
    try:
        raise ValueError
    except ValueError as error:
        return error.__traceback__


def test_lines_that_are_longer_than_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vamba_eval.files._LONGEST_LINE", 20)
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n' + "x" * 20 + "\n" + "x" * 50 + '{"a": 2}\n{"a": 3}\n{"a": 4}')
    assert list(lines_of_others(path)) == ['{"a": 1}\n', '{"a": 3}\n', '{"a": 4}']
    assert list(read_lines(path)) == [{"a": 1}, {"a": 3}]
    assert read_of_others(path, path.stat().st_size) == path.read_bytes()
    with pytest.raises(UserError, match="larger than"):
        read_of_others(path, path.stat().st_size - 1)


@pytest.mark.parametrize("block", [1, 3, 100])
@pytest.mark.parametrize("text", ["", "a\n", "a\nbc", "abc", "a\n\n", "\n"])
def test_a_torn_line_is_cut_off_wherever_blocks_end(
    tmp_path: Path, text: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vamba_eval.store.runs._BLOCK_BYTES", block)
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    RecordFile(path).drop_torn_line()
    assert path.read_text() == text[: text.rfind("\n") + 1]
    with open_to_append(path) as file:
        file.write(b"more\n")
    assert path.read_text() == text[: text.rfind("\n") + 1] + "more\n"
