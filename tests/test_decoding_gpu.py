"""The GPU's own video decoders give the bytes that the CPU gives, or leave a file to it. Needs an NVIDIA GPU."""

from __future__ import annotations

import ctypes
import logging
import random
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from videos import MPEG4, VP9, X264_CLOSED, X264_OPEN, X265_CLOSED, X265_OPEN, make_video, remux

from vamba_eval import FrameSampling, read_clip
from vamba_eval.contracts import Clip, FrameSet, Ladder, UserError, Video, VideoError
from vamba_eval.reading.reader import Reader, Reading
from vamba_eval.video import lanes, nvdec, on_gpu
from vamba_eval.video.canvas import Hooks

SIZE = (240, 426)


def has_gpu() -> bool:
    try:
        nvdec.gpu()
    except nvdec.GpuError:
        return False
    return True


needs_gpu = pytest.mark.skipif(not has_gpu(), reason="no NVIDIA GPU")

Maker = Callable[[Path], Path]


def made(codec: str = "libx264", name: str = "video.mp4", **settings: Any) -> Maker:
    return lambda folder: make_video(folder / name, codec, **{"size": SIZE, "frames": 150} | settings)


def copied(name: str, make: Maker, **settings: Any) -> Maker:
    return lambda folder: remux(make(folder), folder / name, **settings)


# What the GPU decodes.
ON_GPU: dict[str, Maker] = {
    "h264": made(options=X264_CLOSED),
    "h264 in matroska": made(name="video.mkv", options=X264_CLOSED),
    "h264 without b-frames": made(options={"x264-params": "bframes=0:keyint=30"}),
    "h264 baseline": made(options={"profile": "baseline"}),
    "h264 of many slices": made(options=X264_CLOSED | {"slices": "4"}),
    "h264 intra only": made(options={"x264-params": "keyint=1"}),
    "h264 of many references": made(options={"x264-params": "keyint=60:ref=16:bframes=8:b-pyramid=normal"}),
    "h264 of variable rate": made(options=X264_CLOSED, variable=True),
    "h264 later": made(options=X264_CLOSED, first_pts=1000),
    "h264 in full range": made(options=X264_CLOSED, pixel_format="yuvj420p", colorspace=1, full_range=True),
    "h264 of bt709": made(options=X264_CLOSED, colorspace=1),
    "h264 of 1080 lines, cropped": made(options=X264_CLOSED, size=(1080, 1920), frames=40),
    "h264 of 90 lines, cropped": made(options=X264_CLOSED, size=(90, 162)),
    "hevc": made("libx265", options=X265_CLOSED),
    "hevc of open groups": made("libx265", options=X265_OPEN),
    "vp9": made("libvpx-vp9", "video.webm", options=VP9),
}
# What it leaves to the CPU, whatever cannot be proven; and what it may leave to it.
OTHERS: dict[str, Maker] = {
    "h264 of open groups": made(options=X264_OPEN),
    "h264 of 10 bits": made(options=X264_CLOSED, pixel_format="yuv420p10le"),
    "h264 of 4:4:4": made(options=X264_CLOSED, pixel_format="yuv444p"),
    "h264 interlaced": made(options={"x264-params": "tff=1:keyint=30"}),
    "h264 gradually refreshed": made(options={"x264-params": "intra-refresh=1:keyint=30"}),
    "h264 of odd size": made(options=X264_CLOSED, size=(91, 161), pixel_format="yuv444p"),
    "h264 in ts": copied("video.ts", made(options=X264_CLOSED)),
    "h264 in avi": made(name="video.avi", options={"x264-params": "bframes=0"}),
    "hevc of 10 bits": made("libx265", options=X265_CLOSED, pixel_format="yuv420p10le"),
    "hevc too small": made("libx265", options=X265_CLOSED, size=(96, 160)),
    "mpeg4": made("mpeg4", options=MPEG4),
    "mpeg2": made("mpeg2video", "video.mkv"),
    "vp8": made("libvpx", "video.webm", options={"deadline": "realtime", "cpu-used": "8"}),
    "mjpeg": made("mjpeg", "video.avi", pixel_format="yuvj420p"),
}


def same(one: Clip, other: Clip) -> bool:
    return (
        np.array_equal(one.frames, other.frames)
        and np.array_equal(one.timestamps_s, other.timestamps_s)
        and (one.note, one.source_fps, one.duration_s) == (other.note, other.source_fps, other.duration_s)
    )


@needs_gpu
@pytest.mark.parametrize("kind", [*ON_GPU, *OTHERS])
def test_clips_are_the_same_wherever_they_are_decoded(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = (ON_GPU | OTHERS)[kind](tmp_path)
    with caplog.at_level(logging.DEBUG, "vamba_eval"):
        for sampling in (FrameSampling(num_frames=7), FrameSampling(num_frames=64), FrameSampling(num_frames=150)):
            plain = read_clip(path, sampling)
            for place in ("gpu", "auto"):
                assert same(read_clip(path, sampling, decode_on=place), plain), (sampling, place)
    left = [message for message in caplog.messages if "on the CPU" in message]
    assert not (left and kind in ON_GPU), left


@needs_gpu
def test_damage_is_seen_by_the_gpu(tmp_path: Path) -> None:
    """But for the few flipped bits of which its decoder says nothing: docs/videos.md tells of them."""
    differ = []
    whole = made(options=X264_CLOSED, frames=120)(tmp_path)
    with av.open(str(whole)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for seed in range(30):
        rng = random.Random(seed)
        content = bytearray(whole.read_bytes())
        begin, size = packets[rng.randrange(len(packets))]
        for _ in range(rng.choice((1, 2, 20))):
            content[begin + rng.randrange(min(40, size - 1), size)] ^= 1 << rng.randrange(8)
        if seed % 5 == 0:
            content[begin + size // 2 : begin + size] = bytes(size - size // 2)
        path = tmp_path / f"{seed}.mp4"
        path.write_bytes(content)
        clips = [read_clip(path, FrameSampling(num_frames=30), decode_on=place) for place in ("cpu", "gpu")]
        if not same(*clips):
            differ.append(seed)
    assert len(differ) <= 2, differ


@needs_gpu
def test_workers_share_the_gpu(tmp_path: Path) -> None:
    paths = [remux(made(options=X264_CLOSED)(tmp_path), tmp_path / f"{number}.mp4") for number in range(6)]
    videos = [Video(path.stem, path, ()) for path in paths]
    clips = {}
    for place in ("cpu", "gpu", "auto"):
        with Reader(Reading(workers=2, decode_on=place)) as reader:
            clips[place] = {loaded.video.id: loaded for loaded in reader.clips(videos, FrameSampling(num_frames=30))}
    for number in range(6):
        (digest,) = {clips[place][str(number)].digest for place in clips}
        assert digest is not None


@needs_gpu
def test_a_driver_that_fails_leaves_the_rest_to_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a file, as a GPU does that falls off its bus."""
    path = made(options=X264_CLOSED, frames=300)(tmp_path)
    plain = read_clip(path, FrameSampling(num_frames=100))
    found = nvdec.gpu()
    calls = 0
    decode_picture = found.cuvid.cuvidDecodePicture

    def failing(*arguments: Any) -> int:
        nonlocal calls
        calls += 1
        return 999 if calls > 60 else decode_picture(*arguments)

    failing.__name__ = "cuvidDecodePicture"
    monkeypatch.setattr(found.cuvid, "cuvidDecodePicture", failing)
    try:
        assert same(read_clip(path, FrameSampling(num_frames=100), decode_on="gpu"), plain)
        assert not found.works
        assert same(read_clip(path, FrameSampling(num_frames=100), decode_on="gpu"), plain)
    finally:
        found.works = True


# ----------------------------------------------------------------------------------- what needs no GPU


class StandIn:
    """In place of ``nvdec.Session``: FFmpeg decodes what the GPU would be given. It stands at the driver's border; all
    that chooses packets, proves frames, converts pictures and shares the work is the real thing."""

    broken_after = 10**9  # pictures, of all sessions
    taken = 0

    def __init__(self, codec: str, size: tuple[int, int]) -> None:
        self._codec = codec

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def decode(
        self,
        pictures: Iterable[tuple[bytes, int]],
        wanted: Collection[int],
        take: Callable[[int, nvdec.Nv12], None],
    ) -> None:
        context: Any = av.CodecContext.create(self._codec, "r")
        context.thread_count = 1
        remaining = set(wanted)

        def show(frames: list[Any]) -> None:
            for frame in frames:
                if frame.pts in remaining:
                    remaining.discard(frame.pts)
                    luma, blue, red = (
                        np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
                        for plane in frame.planes
                    )
                    type(self).taken += 1
                    if self.taken > self.broken_after:
                        raise nvdec.GpuError("damaged, as the stand-in says")
                    take(frame.pts, nvdec.Nv12(luma.copy(), np.stack([blue, red], axis=-1)))

        for data, pts in pictures:
            packet = av.Packet(data)
            packet.pts = pts
            show(context.decode(packet))
        show(context.decode(None))
        if remaining:
            raise nvdec.GpuError("not all pictures came out")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    class Fresh(StandIn):
        pass

    monkeypatch.setattr(on_gpu, "Session", Fresh)
    monkeypatch.setattr(lanes, "sessions", lambda codec, sharing: 3 if codec in nvdec.CODECS else 0)
    return Fresh


@pytest.mark.parametrize("kind", [*ON_GPU, *OTHERS])
def test_what_stands_in_for_the_gpu_gives_the_same_clips(kind: str, stand_in: type[StandIn], tmp_path: Path) -> None:
    path = (ON_GPU | OTHERS)[kind](tmp_path)
    for count in (7, 64):
        plain = read_clip(path, FrameSampling(num_frames=count))
        for place in ("gpu", "auto"):
            stand_in.taken = 0
            assert same(read_clip(path, FrameSampling(num_frames=count), decode_on=place), plain)
            if kind in ON_GPU and place == "gpu":
                assert stand_in.taken >= min(count, 40)


@pytest.mark.parametrize("place", ["gpu", "auto"])
@pytest.mark.parametrize("broken_after", [5, 30, 60])
def test_what_it_does_not_finish_the_cores_do(
    place: str, broken_after: int, stand_in: type[StandIn], tmp_path: Path
) -> None:
    path = made(options=X264_CLOSED)(tmp_path)
    stand_in.broken_after = broken_after
    plain = read_clip(path, FrameSampling(num_frames=100))
    assert same(read_clip(path, FrameSampling(num_frames=100), decode_on=place), plain)


def test_a_clip_that_has_no_room_says_so_at_once(stand_in: type[StandIn], tmp_path: Path) -> None:
    path = made(options=X264_CLOSED)(tmp_path)

    def no_room(shape: tuple[int, ...]) -> np.ndarray:
        raise VideoError("no room")

    with pytest.raises(VideoError, match="no room"):
        read_clip(path, FrameSampling(num_frames=150), decode_on="gpu", threads=1, hooks=Hooks(no_room))
    assert stand_in.taken < 80, "16 proven, a few that waited; not all the film"


def test_a_ladder_without_a_frame_says_why(stand_in: type[StandIn], tmp_path: Path) -> None:
    path = made(options=X264_CLOSED)(tmp_path)
    for place in ("cpu", "gpu", "auto"):
        with pytest.raises(VideoError, match="9999"):
            read_clip(path, Ladder((FrameSet((9999,), FrameSampling()),)), decode_on=place)


def test_layouts_are_those_of_the_driver() -> None:
    """Sizes and places as a C compiler has them for cuviddec.h and nvcuvid.h on x86-64."""
    for kind, size, places in (
        (nvdec._Caps, 88, {"engines": 25}),
        (nvdec._Format, 64, {"shown": 24, "chroma": 40}),
        (nvdec._Picture, 4280, {"is_reference": 56, "of_codec": 184}),
        (nvdec._Shown, 24, {"time": 16}),
        (nvdec._ParserParameters, 136, {"on_sequence": 48, "sequence_header": 128}),
        (nvdec._Packet, 32, {}),
        (nvdec._DecoderParameters, 176, {"output_format": 88, "output_surfaces": 112, "histogram": 136}),
        (nvdec._Processing, 264, {"stream": 56}),
        (nvdec._Status, 192, {}),
        (nvdec._Copy, 128, {"target_host": 80}),
    ):
        assert ctypes.sizeof(kind) == size, kind
        assert {name: getattr(kind, name).offset for name in places} == places, kind


@pytest.mark.parametrize(
    ("codec", "name", "options"), [("libx264", "h264", X264_CLOSED), ("libx265", "hevc", X265_OPEN)]
)
def test_what_the_gpu_is_given_is_the_stream(codec: str, name: str, options: dict[str, str], tmp_path: Path) -> None:
    """FFmpeg finds the same frames in it; and those without which it does just as well are known."""
    path = make_video(tmp_path / "video.mp4", codec, options=options)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        coded = list(on_gpu._coded((packet for packet in container.demux(stream) if packet.size), stream, name))
        skipped = [data for data, _ in coded if on_gpu._unreferenced(data, name)]
    (tmp_path / "stream").write_bytes(b"".join(data for data, _ in coded))
    (tmp_path / "needed").write_bytes(b"".join(data for data, _ in coded if data not in skipped))

    def pictures(path: Path, format: str | None = None) -> list[bytes]:
        with av.open(str(path), format=format) as container:
            return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]

    whole = pictures(path)
    assert pictures(tmp_path / "stream", name) == whole
    needed = pictures(tmp_path / "needed", name)
    assert 20 < len(skipped) < 70
    assert len(needed) == len(whole) - len(skipped)
    assert set(needed) <= set(whole)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p"])
@pytest.mark.parametrize("size", [(96, 160), (50, 70), (90, 162)])
def test_a_picture_becomes_the_frame_that_the_cpu_gives(pixel_format: str, size: tuple[int, int]) -> None:
    height, width = size
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
    luma, blue, red = (
        np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    )
    picture = nvdec.Nv12(luma.copy(), np.stack([blue, red], axis=-1))

    class Of:
        _like = frame

    found = on_gpu.GpuStream.frame(Of, picture)  # type: ignore[arg-type]
    assert found.format.name == pixel_format
    assert found.to_ndarray().tobytes() == frame.to_ndarray().tobytes()


def test_damage_within_a_unit_is_seen(tmp_path: Path) -> None:
    assert list(on_gpu._units(b"\0\0\0\2\x41\x9a\0\0\0\1\x65", 4)) == [b"\x41\x9a", b"\x65"]
    for data in (b"\0\0\0\x09\x41\x9a", b"\0\0\0\x08\x41\x9a\0\0\0\0\0\1"):
        with pytest.raises(nvdec.GpuError, match="damaged"):
            list(on_gpu._units(data, 4))


def test_without_a_gpu_the_cpu_decodes(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", options=X264_CLOSED)
    plain = read_clip(path, FrameSampling(num_frames=8))
    for place in ("gpu", "auto"):
        assert same(read_clip(path, FrameSampling(num_frames=8), decode_on=place), plain)
    if not has_gpu():
        with pytest.raises(UserError, match="videos cannot be decoded on the GPU"):
            Reader(Reading(decode_on="gpu"))
    with pytest.raises(ValueError, match="decode_on must be one of"):
        read_clip(path, decode_on="tpu")
    with pytest.raises(ValueError, match="does not decode on the GPU"):
        read_clip(path, decode_on="gpu", backend="pyav-plain")
