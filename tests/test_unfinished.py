"""Files that end too early, hold nothing by their own rules, or cannot be read on in the middle: said, never a shorter
video without a word."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from videos import MPEG4, VP9, X264_CLOSED, all_frames, make_video, picture, remux

from vamba_eval import FrameSampling, read_clip
from vamba_eval.contracts import VideoError


def full_size(n: int = 512) -> FrameSampling:
    return FrameSampling(num_frames=n, shortest_edge=None, longest_edge=None)


def animation(path: Path, count: int = 30, **options: object) -> list[Image.Image]:
    """An animated picture of which only a part changes from frame to frame, and its frames."""
    images = []
    for number in range(count):
        image = picture(0, 96, 160)
        image[10:20, 4 * number : 4 * number + 10] = (255, 8 * number, 0)
        images.append(Image.fromarray(image))
    images[0].save(path, save_all=True, append_images=images[1:], loop=0, **{"duration": 40, **options})
    return images


STRUCTURED = {
    "v.avi": ("mpeg4", MPEG4),
    "h264.avi": ("libx264", X264_CLOSED),
    "v.wmv": ("wmv2", {}),
    "live.mkv": ("libx264", X264_CLOSED),
    "v.gif": ("gif", {}),
    "v.apng": ("apng", {}),
}
FORMATS = {"v.gif": "rgb8", "v.apng": "rgb24"}


@pytest.mark.parametrize("share", [0.9, 0.6, 0.2])
@pytest.mark.parametrize("name", STRUCTURED)
def test_a_file_knows_its_own_length(tmp_path: Path, name: str, share: float) -> None:
    codec, options = STRUCTURED[name]
    path = make_video(
        tmp_path / name,
        codec,
        frames=300,
        options=options,
        pixel_format=FORMATS.get(name, "yuv420p"),
    )
    assert read_clip(path, full_size(4)).note == ""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(VideoError, match=r"is cut off: .*; download it again|not a video, or damaged"):
        read_clip(path, full_size(4))


def test_an_avi_without_an_outer_length_knows_that_of_its_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.avi", "mpeg4", frames=200, options=MPEG4)
    content = bytearray(path.read_bytes())
    content[4:8] = bytes(4)
    path.write_bytes(content)
    truth = all_frames(path)
    assert np.array_equal(read_clip(path, full_size(5)).frames, truth[full_size(5).indices(200, 25.0)])
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(VideoError, match="is cut off: "):
        read_clip(path, full_size(4))


def test_what_stands_behind_a_whole_file_does_not_matter(tmp_path: Path) -> None:
    for name, (codec, options) in STRUCTURED.items():
        path = make_video(tmp_path / name, codec, frames=40, options=options, pixel_format=FORMATS.get(name, "yuv420p"))
        before = read_clip(path, full_size(4))
        path.write_bytes(path.read_bytes() + bytes(500))
        assert np.array_equal(read_clip(path, full_size(4)).frames, before.frames)


def test_a_container_that_cannot_be_read_on_is_told(tmp_path: Path) -> None:
    """Its demuxer ends there without an error, as at the file's end."""
    path = make_video(tmp_path / "v.mkv", frames=90, size=(192, 320), options=X264_CLOSED)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + middle // 2] = bytes(middle // 2)
    path.write_bytes(content)
    notes = {read_clip(path, full_size(n)).note for n in (2, 7, 512)}
    assert len(notes) == 1 and "no frame is found in the last" in notes.pop()


def test_a_demuxer_s_error_in_mid_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "v.ts", frames=60, options=X264_CLOSED)
    from vamba_eval.video import packets

    read_on = packets.packets_of

    def failing(container: object, stream: object = None) -> object:
        for number, packet in enumerate(read_on(container, stream)):  # type: ignore[arg-type]
            if number == 40:
                raise av.InvalidDataError(1094995529, "Invalid data found when processing input")
            yield packet

    monkeypatch.setattr(packets, "packets_of", failing)
    assert "it cannot be read to its end (Invalid data" in read_clip(path, full_size(4)).note


def edited(path: Path, media_time: int, duration: int) -> Path:
    """The one entry of an edit list of version 0 (ISO/IEC 14496-12, 8.6.6): how much is shown, from when."""
    content = bytearray(path.read_bytes())
    place = content.index(b"elst") + 12
    content[place : place + 4] = duration.to_bytes(4, "big")
    content[place + 4 : place + 8] = media_time.to_bytes(4, "big", signed=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("media_time", "duration"), [(0, 0), (20_000, 0), (2_000_000, 5_000), (-1, 5_000), (61_400, 0)], ids=str
)
@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_an_edit_list_that_leaves_nothing_does_not_count(
    tmp_path: Path, ending: str, media_time: int, duration: int
) -> None:
    path = make_video(tmp_path / f"v.{ending}", frames=120, options=X264_CLOSED)
    before = read_clip(path, full_size())
    edited(path, media_time, duration)
    with av.open(str(path)) as container:
        if list(container.decode(video=0)):
            pytest.skip("this FFmpeg shows frames of it")
    for backend in ("pyav", "pyav-plain"):
        for n in (1, 5, 512):
            clip = read_clip(path, full_size(n), backend=backend)
            assert np.array_equal(clip.frames, before.frames[clip.frame_indices])
            assert clip.note == "its edit list, which leaves no frame, does not count"
            assert clip.timestamps_s == pytest.approx(clip.frame_indices / 25)


# ------------------------------------------------------------------------------------------- animated pictures


@pytest.mark.parametrize("name", ["v.webp", "v.png", "v.apng", "webp.mp4", "png.mp4"])
@pytest.mark.parametrize("backend", ["pyav", "pyav-plain"])
def test_animated_pictures_are_videos(tmp_path: Path, name: str, backend: str) -> None:
    kind = "WEBP" if "webp" in name else "PNG"
    path = tmp_path / name
    images = animation(path, duration=[40 * (1 + n % 3) for n in range(30)], format=kind, lossless=True)
    times = np.cumsum([0] + [40 * (1 + n % 3) for n in range(29)]) / 1000
    for n in (1, 4, 512):
        clip = read_clip(path, full_size(n), backend=backend)
        assert np.array_equal(clip.frames, np.stack([np.asarray(images[i]) for i in clip.frame_indices]))
        assert clip.timestamps_s == pytest.approx(times[clip.frame_indices], abs=1e-3)
        assert clip.note == "" and clip.source_fps == pytest.approx(29 / times[-1])
    part = read_clip(path, full_size(), start_s=0.5, end_s=1.0, backend=backend)
    assert part.timestamps_s == pytest.approx(times[(times >= 0.5) & (times <= 1.0)], abs=1e-3)


def test_an_animation_is_drawn_over_what_was_there(tmp_path: Path) -> None:
    """With transparency and a frame's rest to be cleared away: as PIL composes it."""
    images = []
    for number in range(8):
        image = np.zeros((64, 96, 4), np.uint8)
        image[8 * number : 8 * number + 8, :, :] = (250, 30 * number, 0, 255)
        images.append(Image.fromarray(image))
    images[0].save(tmp_path / "v.webp", save_all=True, append_images=images[1:], duration=100, lossless=True)
    with Image.open(tmp_path / "v.webp") as read:
        composed = []
        for number in range(8):
            read.seek(number)
            composed.append(np.asarray(read.convert("RGB")))
    assert np.array_equal(read_clip(tmp_path / "v.webp", full_size()).frames, np.stack(composed))


def test_an_unfinished_animation_is_an_error(tmp_path: Path) -> None:
    for name in ("v.webp", "v.png"):
        animation(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
        with pytest.raises(VideoError, match=r"is cut off: .*; download it again"):
            read_clip(tmp_path / name, full_size())


def test_a_still_webp_is_a_picture(tmp_path: Path) -> None:
    for number, options in enumerate(({"lossless": True}, {"quality": 50}, {"lossless": True, "exif": b"Exif\0\0MM"})):
        Image.fromarray(picture(0, 96, 160)).save(tmp_path / f"{number}.webp", **options)
        assert read_clip(tmp_path / f"{number}.webp", full_size()).frames.shape == (1, 96, 160, 3)


@pytest.mark.parametrize(
    "name", ["image%03d.png", "image%d.jpg", "image*.png", "image%03d.webp", "img-%05d.bmp", "a?.jpg"]
)
def test_a_picture_s_name_is_a_name(tmp_path: Path, name: str) -> None:
    """Not a pattern of many names, whether such files are beside it or not."""
    image = Image.fromarray(picture(3, 96, 160))
    image.save(tmp_path / name, quality=95)
    for other in range(4):
        Image.fromarray(picture(50 + other, 48, 80)).save(tmp_path / f"image{other:03}.png")
    clip = read_clip(tmp_path / name, full_size())
    assert clip.frames.shape == (1, 96, 160, 3)
    assert np.abs(clip.frames[0].astype(int) - np.asarray(Image.open(tmp_path / name).convert("RGB"))).mean() < 9


@pytest.mark.parametrize("name", ["v.webm", "v.mp4"])
def test_a_video_s_name_may_be_a_pattern_too(tmp_path: Path, name: str) -> None:
    path = make_video(tmp_path / name, "libvpx-vp9", frames=30, options=VP9)
    other = remux(path, tmp_path / f"clip%03d.{name[2:]}")
    assert np.array_equal(read_clip(other, full_size()).frames, all_frames(path))
