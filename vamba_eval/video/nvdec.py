"""The video decoders of an NVIDIA GPU, through the driver's own libraries (libcuda and libnvcuvid).

The libraries that wrap them copy every decoded picture into a frame, by kernels that take turns with the model's: half
the model's speed. Here a picture is only decoded, by engines that compute nothing else, unless it is asked for. And the
decoder's own word on each picture, whether its data were sound, is heard, which no wrapper passes on.

Names and layouts are those of NVIDIA's Video Codec SDK (cuviddec.h, nvcuvid.h; interface version 12 and later), which
stay as they are from driver to driver. Knows coded pictures and their times; knows neither files nor clips.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Collection, Iterable
from ctypes import POINTER, byref, c_char_p, c_int, c_longlong, c_short, c_size_t, c_ubyte, c_uint, c_ulong, c_void_p
from dataclasses import dataclass
from time import monotonic, sleep

import numpy as np

CODECS = {"h264": 4, "hevc": 8, "vp9": 10, "av1": 11}  # enum cudaVideoCodec
_TELLS_DAMAGE = {"h264", "hevc"}  # those of which the decoder says whether a picture's data were sound

# A session keeps its pictures on the GPU. More than this (8K, or absurd headers) is left to the CPU.
MOST_SESSION_BYTES = 512 * 2**20

_DISPLAY_DELAY = 4  # pictures between decoding and showing one, so that several are on their way
_LIMIT_S = 10.0  # for one picture, which takes milliseconds


class GpuError(Exception):
    """The GPU cannot decode this stream, or its frames would not be those of the file."""


class DriverError(GpuError):
    """The driver failed: what it says of the GPU from now on cannot be relied on."""


class _Caps(ctypes.Structure):
    _fields_ = [
        ("codec", c_int),
        ("chroma", c_int),
        ("depth_minus_8", c_uint),
        ("reserved1", c_uint * 3),
        ("supported", c_ubyte),
        ("engines", c_ubyte),
        ("output_formats", ctypes.c_ushort),
        ("max_width", c_uint),
        ("max_height", c_uint),
        ("max_macroblocks", c_uint),
        ("min_width", ctypes.c_ushort),
        ("min_height", ctypes.c_ushort),
        ("histogram", c_ubyte),
        ("counter_depth", c_ubyte),
        ("bins", ctypes.c_ushort),
        ("reserved3", c_uint * 10),
    ]


class _Area(ctypes.Structure):
    _fields_ = [(name, c_int) for name in ("left", "top", "right", "bottom")]


class _ShortArea(ctypes.Structure):
    _fields_ = [(name, c_short) for name in ("left", "top", "right", "bottom")]


class _Format(ctypes.Structure):
    _fields_ = [
        ("codec", c_int),
        ("rate", c_uint * 2),
        ("progressive_sequence", c_ubyte),
        ("luma_depth_minus_8", c_ubyte),
        ("chroma_depth_minus_8", c_ubyte),
        ("least_surfaces", c_ubyte),
        ("coded_width", c_uint),
        ("coded_height", c_uint),
        ("shown", _Area),
        ("chroma", c_int),
        ("bitrate", c_uint),
        ("aspect", c_int * 2),
        ("signal", c_ubyte * 4),
        ("sequence_header_bytes", c_uint),
    ]


class _Picture(ctypes.Structure):
    _fields_ = [
        ("width_in_macroblocks", c_int),
        ("height_in_macroblocks", c_int),
        ("index", c_int),
        ("is_field", c_int),
        ("bottom_field", c_int),
        ("second_field", c_int),
        ("bytes", c_uint),
        ("data", c_void_p),
        ("slices", c_uint),
        ("slice_offsets", c_void_p),
        ("is_reference", c_int),
        ("is_intra", c_int),
        ("reserved", c_uint * 30),
        ("of_codec", c_uint * 1024),
    ]


class _Shown(ctypes.Structure):
    _fields_ = [
        ("index", c_int),
        ("progressive", c_int),
        ("top_field_first", c_int),
        ("repeat_first_field", c_int),
        ("time", c_longlong),
    ]


class _ParserParameters(ctypes.Structure):
    _fields_ = [
        ("codec", c_int),
        ("most_surfaces", c_uint),
        ("clock_rate", c_uint),
        ("error_threshold", c_uint),
        ("display_delay", c_uint),
        ("flags", c_uint),
        ("reserved1", c_uint * 4),
        ("user", c_void_p),
        ("on_sequence", c_void_p),
        ("on_decode", c_void_p),
        ("on_display", c_void_p),
        ("on_operating_point", c_void_p),
        ("on_message", c_void_p),
        ("reserved2", c_void_p * 5),
        ("sequence_header", c_void_p),
    ]


class _Packet(ctypes.Structure):
    _fields_ = [("flags", c_ulong), ("size", c_ulong), ("data", c_char_p), ("time", c_longlong)]


class _DecoderParameters(ctypes.Structure):
    _fields_ = [
        ("width", c_ulong),
        ("height", c_ulong),
        ("surfaces", c_ulong),
        ("codec", c_int),
        ("chroma", c_int),
        ("flags", c_ulong),
        ("depth_minus_8", c_ulong),
        ("intra_only", c_ulong),
        ("max_width", c_ulong),
        ("max_height", c_ulong),
        ("reserved1", c_ulong),
        ("shown", _ShortArea),
        ("output_format", c_int),
        ("deinterlacing", c_int),
        ("target_width", c_ulong),
        ("target_height", c_ulong),
        ("output_surfaces", c_ulong),
        ("lock", c_void_p),
        ("target", _ShortArea),
        ("histogram", c_ulong),
        ("reserved2", c_ulong * 4),
    ]


class _Processing(ctypes.Structure):
    _fields_ = [
        ("progressive", c_int),
        ("second_field", c_int),
        ("top_field_first", c_int),
        ("unpaired_field", c_int),
        ("reserved_flags", c_uint),
        ("reserved_zero", c_uint),
        ("raw_input", ctypes.c_ulonglong),
        ("raw_input_pitch", c_uint),
        ("raw_input_format", c_uint),
        ("raw_output", ctypes.c_ulonglong),
        ("raw_output_pitch", c_uint),
        ("reserved1", c_uint),
        ("stream", c_void_p),
        ("reserved", c_uint * 46),
        ("histogram", c_void_p),
        ("reserved2", c_void_p),
    ]


class _Status(ctypes.Structure):
    _fields_ = [("status", c_int), ("reserved", c_uint * 31), ("reserved2", c_void_p * 8)]


class _Copy(ctypes.Structure):
    _fields_ = [
        ("source_x", c_size_t),
        ("source_y", c_size_t),
        ("source_kind", c_int),
        ("source_host", c_void_p),
        ("source_device", ctypes.c_ulonglong),
        ("source_array", c_void_p),
        ("source_pitch", c_size_t),
        ("target_x", c_size_t),
        ("target_y", c_size_t),
        ("target_kind", c_int),
        ("target_host", c_void_p),
        ("target_device", ctypes.c_ulonglong),
        ("target_array", c_void_p),
        ("target_pitch", c_size_t),
        ("width", c_size_t),
        ("height", c_size_t),
    ]


_CALLBACK = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p)
_HOST, _DEVICE = 1, 2  # enum CUmemorytype
_420, _NV12 = 1, 0  # enums cudaVideoChromaFormat and cudaVideoSurfaceFormat
_PREFER_ENGINES = 4  # cudaVideoCreate_PreferCUVID
_IN_PROGRESS, _SUCCESS = 1, 2  # enum cuvidDecodeStatus
_END_OF_STREAM, _HAS_TIME, _END_OF_PICTURE = 1, 2, 8  # enum CUvideopacketflags
_OF_ITS_OWN = 1  # CU_STREAM_NON_BLOCKING: a stream that does not wait for the default one
_NOT_READY = 600  # CUDA_ERROR_NOT_READY
_NOT_SUPPORTED = 801  # CUDA_ERROR_NOT_SUPPORTED


class Gpu:
    """The first GPU that this process may use, and its video decoders."""

    def __init__(self) -> None:
        """Raises GpuError where there is none, or none that decodes."""
        self.cuda, self.cuvid = _libraries()
        self.works = True
        self._context, device = c_void_p(), c_int()
        self.do(self.cuda.cuDeviceGet, byref(device), 0)
        # The one that PyTorch uses too, if it is in this process: each further one takes half a GiB.
        self.do(self.cuda.cuDevicePrimaryCtxRetain, byref(self._context), device)

    def do(self, function: Callable[..., int], *arguments: object) -> None:
        """Call a function of the driver. Raises DriverError."""
        self.check(function.__name__, function(*arguments))

    def check(self, what: str, code: int) -> None:
        """Raises DriverError if ``code`` is not 0."""
        if code:
            name = c_char_p()
            self.cuda.cuGetErrorName(code, byref(name))
            self.works = False
            raise DriverError(f"{what}: {name.value.decode() if name.value else f'error {code}'}")

    def enter(self) -> None:
        """Let this thread use the GPU."""
        self.do(self.cuda.cuCtxSetCurrent, self._context)

    def capabilities(self, codec: str) -> _Caps:
        """What the GPU decodes of ``codec``, at 8 bits and 4:2:0."""
        caps = _Caps(codec=CODECS[codec], chroma=_420, depth_minus_8=0)
        self.do(self.cuvid.cuvidGetDecoderCaps, byref(caps))
        return caps

    def free_bytes(self) -> int:
        """Of the GPU's memory."""
        free, total = c_size_t(), c_size_t()
        self.do(self.cuda.cuMemGetInfo_v2, byref(free), byref(total))
        return free.value

    def engines(self, codec: str) -> int:
        """How many pictures of ``codec`` it decodes at once; 0 if none."""
        caps = self.capabilities(codec)
        return max(1, caps.engines) if caps.supported and caps.output_formats >> _NV12 & 1 else 0


def _libraries() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """libcuda, ready, and libnvcuvid. Raises GpuError where they or a GPU are missing."""
    try:
        cuda, cuvid = ctypes.CDLL("libcuda.so.1"), ctypes.CDLL("libnvcuvid.so.1")
    except OSError as error:
        raise GpuError(f"NVIDIA's driver is not there, or not its part for video ({error})") from error
    count = c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(byref(count)) or not count.value:
        raise GpuError("there is no NVIDIA GPU that this process may use")
    return cuda, cuvid


def check_gpu() -> None:
    """Raises GpuError where no GPU can decode; takes nothing of its memory."""
    _libraries()


_gpu_lock = threading.Lock()
_gpu: list[Gpu | str] = []


def gpu() -> Gpu:
    """The GPU of this process. Raises GpuError where there is none, or where it failed before."""
    with _gpu_lock:
        if not _gpu:
            try:
                _gpu.append(Gpu())
            except GpuError as error:
                _gpu.append(str(error))
        found = _gpu[0]
        if isinstance(found, str):
            raise GpuError(found)
        if not found.works:
            raise GpuError("the driver failed before")
        return found


@dataclass(frozen=True)
class Nv12:
    """A decoded picture: (height, width) luma and (height / 2, width / 2, 2) chroma, uint8."""

    luma: np.ndarray
    chroma: np.ndarray


class Session:
    """A decoder of one stream; a context manager, for one thread."""

    def __init__(self, codec: str, size: tuple[int, int]) -> None:
        """``size`` is (height, width), as shown. Raises GpuError for what the GPU does not decode."""
        self._gpu = found = gpu()
        self._codec, self._size = codec, size
        found.enter()
        if not found.engines(codec):
            raise GpuError(f"this GPU does not decode {codec}")
        self._wanted: set[int] = set()
        self._take: Callable[[int, Nv12], None] = lambda time, picture: None
        self._failure: BaseException | None = None
        self._decoder, self._parser, self._stream = c_void_p(), c_void_p(), c_void_p()
        self._host = c_void_p()  # memory that the GPU writes to by itself, for one picture
        self._format: bytes | None = None
        self._surfaces = 0
        self._busy: set[int] = set()  # surfaces whose decoding was not yet seen to end well
        self._area = _Area()
        # Kept for as long as the parser may call them.
        self._callbacks = [_CALLBACK(self._guarded(f)) for f in (self._on_sequence, self._on_decode, self._on_display)]
        calls = [ctypes.cast(callback, c_void_p) for callback in self._callbacks]
        parameters = _ParserParameters(codec=CODECS[codec], most_surfaces=1, display_delay=_DISPLAY_DELAY)
        parameters.on_sequence, parameters.on_decode, parameters.on_display = calls
        found.do(found.cuvid.cuvidCreateVideoParser, byref(self._parser), byref(parameters))

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        cuda, cuvid = self._gpu.cuda, self._gpu.cuvid
        ends = (cuvid.cuvidDestroyVideoParser, cuvid.cuvidDestroyDecoder, cuda.cuStreamDestroy_v2, cuda.cuMemFreeHost)
        for end, what in zip(ends, (self._parser, self._decoder, self._stream, self._host), strict=True):
            if what:
                end(what)
        self._parser, self._decoder, self._stream, self._host = c_void_p(), c_void_p(), c_void_p(), c_void_p()

    def decode(
        self, pictures: Iterable[tuple[bytes, int]], wanted: Collection[int], take: Callable[[int, Nv12], None]
    ) -> None:
        """Decode ``pictures``, from a key frame on and in the order of decoding, each with the time when it is shown;
        those of the ``wanted`` times are given to ``take``.

        Raises GpuError where one does not come out or data were damaged, and what ``take`` raises.
        """
        self._wanted, self._take = set(wanted), take
        for data, time in pictures:
            self._parse(_Packet(_HAS_TIME | _END_OF_PICTURE, len(data), data, time))
        self._parse(_Packet(_END_OF_STREAM, 0, None, 0))
        for index in tuple(self._busy):
            self._see_to_end(index)
        if self._wanted:
            raise GpuError("not all pictures came out")

    def _parse(self, packet: _Packet) -> None:
        self._gpu.do(self._gpu.cuvid.cuvidParseVideoData, self._parser, byref(packet))
        if self._failure is not None:
            raise self._failure

    def _guarded(self, act: Callable[[int], int]) -> Callable[[int, int], int]:
        """``act`` as a callback: an exception cannot pass through the driver, so it waits behind it."""

        def guarded(_: int, address: int) -> int:
            if self._failure is not None:
                return 0
            try:
                return act(address)
            except BaseException as error:
                self._failure = error
                return 0

        return guarded

    def _on_sequence(self, address: int) -> int:
        """A sequence header. The answer is the number of surfaces."""
        found = _Format.from_address(address)
        area, (height, width) = found.shown, self._size
        found.bitrate = 0  # said of one sequence, not of the pictures
        told = bytes(found)
        if self._format is not None:
            if told != self._format:
                raise GpuError("the stream changes")
            return self._surfaces
        caps = self._gpu.capabilities(self._codec)
        if found.chroma != _420 or found.luma_depth_minus_8 or found.chroma_depth_minus_8:
            raise GpuError("not 8 bits and 4:2:0")
        if self._codec == "h264" and not found.progressive_sequence:
            raise GpuError("interlaced")
        if (area.bottom - area.top, area.right - area.left) != (height, width) or height % 2 or width % 2:
            raise GpuError("a size of its own")
        if area.left % 2 or area.top % 2:
            raise GpuError("it begins within a pair of chroma")
        wide, high = found.coded_width, found.coded_height
        fits = caps.min_width <= wide <= caps.max_width and caps.min_height <= high <= caps.max_height
        if not fits or wide * high // 256 > caps.max_macroblocks:
            raise GpuError(f"this GPU does not decode {self._codec} of {wide}x{high}")
        self._surfaces = found.least_surfaces + _DISPLAY_DELAY
        if self._surfaces * wide * high * 3 // 2 > MOST_SESSION_BYTES:
            raise GpuError("it would take too much of the GPU's memory")
        self._format, self._area = told, _Area.from_buffer_copy(area)
        self._coded_height = (high + 1) // 2 * 2
        parameters = _DecoderParameters(
            width=wide,
            height=high,
            surfaces=self._surfaces,
            codec=CODECS[self._codec],
            chroma=_420,
            flags=_PREFER_ENGINES,
            max_width=wide,
            max_height=high,
            shown=_ShortArea(0, 0, wide, high),
            output_format=_NV12,
            target_width=wide,
            target_height=self._coded_height,
            output_surfaces=1,
        )
        cuda = self._gpu.cuda
        self._gpu.do(self._gpu.cuvid.cuvidCreateDecoder, byref(self._decoder), byref(parameters))
        self._gpu.do(cuda.cuStreamCreate, byref(self._stream), _OF_ITS_OWN)
        self._gpu.do(cuda.cuMemHostAlloc, byref(self._host), c_size_t(height * width * 3 // 2), 0)
        return self._surfaces

    def _on_decode(self, address: int) -> int:
        picture = _Picture.from_address(address)
        if self._codec == "av1" and picture.of_codec[4] >> 24 & 1:  # CUVIDAV1PICPARAMS.enable_fgs
            raise GpuError("film grain")
        if picture.is_field:
            raise GpuError("interlaced")
        self._see_to_end(picture.index)
        self._gpu.do(self._gpu.cuvid.cuvidDecodePicture, self._decoder, c_void_p(address))
        self._busy.add(picture.index)
        return 1

    def _on_display(self, address: int) -> int:
        if address:
            shown = _Shown.from_address(address)
            if shown.time in self._wanted:
                self._wanted.discard(shown.time)
                self._take(shown.time, self._copied(shown.index))
        return 1

    def _copied(self, index: int) -> Nv12:
        """The picture in host memory."""
        cuvid, surface, pitch = self._gpu.cuvid, ctypes.c_ulonglong(), c_uint()
        how = _Processing(progressive=1, top_field_first=1, stream=self._stream)
        self._gpu.do(cuvid.cuvidMapVideoFrame64, self._decoder, index, byref(surface), byref(pitch), byref(how))
        try:
            (height, width), luma_bytes = self._size, self._size[0] * self._size[1]
            self._copy(surface.value, pitch.value, self._area.top, height, 0)
            self._copy(surface.value, pitch.value, self._coded_height + self._area.top // 2, height // 2, luma_bytes)
            self._wait(self._copy_ended)
        finally:
            cuvid.cuvidUnmapVideoFrame64(self._decoder, surface)
        self._see_to_end(index)
        content = np.ctypeslib.as_array(ctypes.cast(self._host, POINTER(c_ubyte)), (luma_bytes * 3 // 2,)).copy()
        luma, chroma = content[:luma_bytes], content[luma_bytes:]
        return Nv12(luma.reshape(height, width), chroma.reshape(height // 2, width // 2, 2))

    def _copy(self, surface: int, pitch: int, first_row: int, rows: int, target: int) -> None:
        """``rows`` of a surface to host memory, ``target`` bytes from its start.

        By a stream of its own into memory that is locked, so that an engine for copies does it beside the model's work.
        """
        width = self._size[1]
        copy = _Copy(
            source_x=self._area.left,
            source_y=first_row,
            source_kind=_DEVICE,
            source_device=surface,
            source_pitch=pitch,
            target_kind=_HOST,
            target_host=(self._host.value or 0) + target,
            target_pitch=width,
            width=width,
            height=rows,
        )
        self._gpu.do(self._gpu.cuda.cuMemcpy2DAsync_v2, byref(copy), self._stream)

    def _copy_ended(self) -> bool:
        code = self._gpu.cuda.cuStreamQuery(self._stream)
        if code == _NOT_READY:
            return False
        self._gpu.check("cuStreamQuery", code)
        return True

    def _see_to_end(self, index: int) -> None:
        """Wait until the surface's picture is decoded. Raises GpuError if its data were damaged."""
        if index not in self._busy:
            return
        status = _Status()

        def ended() -> bool:
            code = self._gpu.cuvid.cuvidGetDecodeStatus(self._decoder, index, byref(status))
            if code == _NOT_SUPPORTED and self._codec not in _TELLS_DAMAGE:
                return True
            self._gpu.check("cuvidGetDecodeStatus", code)
            return status.status != _IN_PROGRESS

        self._wait(ended)
        if status.status != _SUCCESS and self._codec in _TELLS_DAMAGE:
            raise GpuError("damaged, as the decoder says")
        self._busy.discard(index)

    def _wait(self, ended: Callable[[], bool]) -> None:
        """The driver's own waiting takes a core, or an interrupt that some virtual machines do not hand on."""
        limit = monotonic() + _LIMIT_S
        while not ended():
            if monotonic() > limit:
                self._gpu.works = False
                raise DriverError(f"a picture was not there within {_LIMIT_S:g} s")
            sleep(0.0002)
