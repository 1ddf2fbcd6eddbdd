"""Files that are no videos are called what they are, and no file is opened but the one that is named."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from test_read_errors import backends
from videos import X264_CLOSED, make_video, picture

from vamba_eval import FrameSampling, read_clip
from vamba_eval.contracts import VideoError
from vamba_eval.video import formats
from vamba_eval.video.read import probe

SAMPLING = FrameSampling(num_frames=4, shortest_edge=32, longest_edge=64)


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that nobody asked for, in a folder of its own."""
    folder = tmp_path_factory.mktemp("private")
    make_video(folder / "private.mp4", frames=30, options=X264_CLOSED)
    make_video(folder / "private.ts", frames=30, options=X264_CLOSED)
    return folder


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\n{private}/private.ts\n#EXT-X-ENDLIST\n"
MANIFEST = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1.2S">
<Period><AdaptationSet mimeType="video/mp4">
<Representation id="0" bandwidth="1"><BaseURL>{private}/private.mp4</BaseURL>
</Representation></AdaptationSet></Period></MPD>"""
LISTS = {
    "playlist.m3u8": (PLAYLIST, "a playlist (HLS or M3U), which names files elsewhere"),
    "playlist.mp4": (PLAYLIST, "a playlist (HLS or M3U), which names files elsewhere"),
    "manifest.mpd": (MANIFEST, "a manifest (DASH), which names files elsewhere"),
    "list.mp4": ("ffconcat version 1.0\nfile private.mp4\n", "a list of other files (ffconcat)"),
    "itself.mp4": ("ffconcat version 1.0\nfile itself.mp4\n", "a list of other files (ffconcat)"),
}


def listing(tmp_path: Path, private: Path, name: str) -> Path:
    """A file that names another, which lies beside it too."""
    shutil.copy(private / "private.mp4", tmp_path)
    path = tmp_path / name
    path.write_text(LISTS[name][0].format(private=private))
    return path


@backends
@pytest.mark.parametrize("name", LISTS)
def test_what_names_other_files_is_not_followed(tmp_path: Path, private: Path, name: str, backend: str) -> None:
    path = listing(tmp_path, private, name)
    with pytest.raises(VideoError, match=r"is not a video but") as caught:
        read_clip(path, SAMPLING, backend=backend)
    assert LISTS[name][1] in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(VideoError, match=r"is not a video but"):
        probe(path)


@pytest.mark.parametrize("name", ["playlist.m3u8", "list.mp4", "itself.mp4"])
def test_the_lists_of_formats_and_protocols_hold_by_themselves(
    tmp_path: Path, private: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever the first bytes are taken for."""
    path = listing(tmp_path, private, name)
    monkeypatch.setattr("vamba_eval.video.packets.other_kind", lambda head: None)
    with pytest.raises(VideoError, match=r"is in no format of videos that is read|cannot be read as a video"):
        read_clip(path, SAMPLING)
    monkeypatch.setitem(formats.OPEN_OPTIONS, "format_whitelist", "hls,concat,mov,mpegts")
    with pytest.raises(VideoError):
        read_clip(path, SAMPLING)
    if name != "itself.mp4":
        with av.open(str(path), options={"safe": "0"} if name == "list.mp4" else {}) as container:
            assert sum(1 for _ in container.decode(video=0)) == 30, "FFmpeg alone follows it"


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("strace") is None, reason="needs strace")
def test_no_other_file_is_opened(tmp_path: Path, private: Path) -> None:
    for name in LISTS:
        path = listing(tmp_path, private, name)
        code = f"""
from vamba_eval import FrameSampling, read_clip
from vamba_eval.contracts import VideoError
try:
    read_clip({str(path)!r}, FrameSampling(num_frames=2))
except VideoError:
    print("refused")
"""
        done = subprocess.run(
            ["strace", "-f", "-e", "trace=open,openat", sys.executable, "-c", code], capture_output=True, text=True
        )
        assert done.stdout == "refused\n"
        assert str(path) in done.stderr and "private." not in done.stderr


def archives(folder: Path, video: Path) -> dict[str, str]:
    with zipfile.ZipFile(folder / "zip.mp4", "w") as archive:
        archive.write(video, "v.mp4")
    with tarfile.open(folder / "tar.mp4", "w") as archive:
        archive.add(video, "v.mp4")
    (folder / "gzip.mp4").write_bytes(gzip.compress(video.read_bytes()))
    return {
        "zip.mp4": "a ZIP archive: unpack it",
        "tar.mp4": "a tar archive: unpack it",
        "gzip.mp4": "compressed by gzip: unpack it",
    }


TEXTS = {
    "page.mp4": ("\n<!DOCTYPE html>\n<html><title>403 Forbidden</title></html>", "a web page (HTML), as servers send"),
    "bom.mp4": ("\ufeff<HTML lang='en'>", "a web page (HTML), as servers send"),
    "comment.mp4": ("<!-- saved from -->\n<html>", "a web page (HTML), as servers send"),
    "xhtml.mp4": ('<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-">', "a web page (HTML), as servers send"),
    "denied.mp4": ('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML text"),
    "answer.mp4": ('{"error": "quota exceeded"}', "JSON text"),
    "array.mp4": ("[\n  {}\n]", "JSON text"),
    "lfs.mp4": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 123\n",
        "a Git LFS pointer: fetch the file itself with git lfs pull",
    ),
    "notes.mp4": ("Too many requests, try again in 日本 minutes" * 400, "plain text"),
    "winamp.mp4": ("[playlist]\nFile1=a.mp4\n", "plain text"),
    "captions.mp4": ("WEBVTT\n\n00:01.000 --> 00:02.000\nhello\n", "subtitles (WebVTT)"),
}


def test_what_is_no_video_is_called_what_it_is(tmp_path: Path, private: Path) -> None:
    expected = archives(tmp_path, private / "private.mp4")
    for name, (text, what) in TEXTS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        expected[name] = what
    for name, what in expected.items():
        with pytest.raises(VideoError) as caught:
            read_clip(tmp_path / name, SAMPLING)
        assert f"{tmp_path / name} is not a video but {what}" in str(caught.value)


def test_a_video_is_one_whatever_it_is_called(tmp_path: Path, private: Path) -> None:
    expected = read_clip(private / "private.mp4", SAMPLING)
    for name in ("v.m3u8", "v.txt", "v.mpd", "v.jpg", "v", "v.concat"):
        shutil.copy(private / "private.mp4", tmp_path / name)
        assert np.array_equal(read_clip(tmp_path / name, SAMPLING).frames, expected.frames)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("v.mov", "libx264", "yuv420p"),
        ("v.webm", "libvpx", "yuv420p"),
        ("v.avi", "mpeg4", "yuv420p"),
        ("v.flv", "flv", "yuv420p"),
        ("v.ts", "libx264", "yuv420p"),
        ("v.mpg", "mpeg2video", "yuv420p"),
        ("v.wmv", "wmv2", "yuv420p"),
        ("v.nut", "mpeg4", "yuv420p"),
        ("v.mxf", "mpeg2video", "yuv420p"),
        ("v.ivf", "libvpx", "yuv420p"),
        ("v.h264", "libx264", "yuv420p"),
        ("v.mjpeg", "mjpeg", "yuvj420p"),
        ("v.gif", "gif", "rgb8"),
        ("v.apng", "apng", "rgb24"),
        ("v.y4m", "rawvideo", "yuv420p"),
    ],
)
def test_formats_of_videos_are_read(tmp_path: Path, name: str, codec: str, pixel_format: str) -> None:
    path = make_video(tmp_path / name, codec, frames=12, pixel_format=pixel_format)
    assert len(read_clip(path, SAMPLING).frames) == 4


def test_a_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    for ending in ("png", "jpg", "bmp", "webp", "tiff"):
        Image.fromarray(picture(0, 48, 64)).save(tmp_path / f"v.{ending}")
        assert len(read_clip(tmp_path / f"v.{ending}", SAMPLING).frames) == 1


def test_no_format_on_the_list_names_other_files() -> None:
    follow = {"hls", "dash", "concat", "imf", "image2", "sdp", "rtsp", "rtp", "vobsub", "webm_dash_manifest", "lavfi"}
    assert not follow & set(formats.OPEN_OPTIONS["format_whitelist"].split(","))
