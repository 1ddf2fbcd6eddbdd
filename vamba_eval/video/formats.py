"""Which files are opened as videos, and what the others are.

FFmpeg also opens playlists, lists of files and manifests, whatever a file is called, and with them what they name: any
file of this machine, or an address. A video is one file, so only formats that hold their pictures are opened, and no
protocol by which they could name others.

Knows the first bytes of files, not what reads them.
"""

from __future__ import annotations

import codecs
import re

# FFmpeg's names. Those of sound are here because a file of sound is better told that it has no pictures.
_VIDEO = (
    "3dostr,4xm,amv,apng,asf,asf_o,av1,avi,avs,avs2,avs3,bink,cavsvideo,cdxl,cine,dhav,dirac,dnxhd,dv,dxa,ea,evc,"
    "film_cpk,flic,flv,gif,gxf,h261,h263,h264,hevc,idcin,ipmovie,ivf,ivr,jv,kux,live_flv,lmlm4,lxf,m4v,matroska,mjpeg,"
    "mjpeg_2000,mov,mpeg,mpegts,mpegvideo,mpjpeg,mtv,mv,mvi,mxf,mxg,nsv,nut,nuv,obu,ogg,pmp,pva,r3d,rl2,rm,roq,rpl,"
    "smjpeg,smk,swf,thp,tmv,vc1,vc1test,vivo,vmd,vvc,webm,wsvqa,wtv,xmv,yop,yuv4mpegpipe"
)
_PICTURES = "bmp_pipe,gif_pipe,jpeg_pipe,jpegxl_anim,jpegxl_pipe,png_pipe,tiff_pipe,webp_pipe"
_SOUND = "aac,ac3,aiff,amr,au,caf,dts,eac3,flac,mp3,truehd,w64,wav"

# Options of FFmpeg: AVFormatContext.format_whitelist and protocol_whitelist. There is no protocol of that name.
OPEN_OPTIONS = {"format_whitelist": ",".join((_VIDEO, _PICTURES, _SOUND)), "protocol_whitelist": "none"}

HEAD_BYTES = 4096  # what ``other_kind`` looks at

_BINARY = (
    (0, b"PK\x03\x04", "a ZIP archive: unpack it"),
    (0, b"\x1f\x8b", "compressed by gzip: unpack it"),
    (0, b"7z\xbc\xaf", "a 7z archive: unpack it"),
    (0, b"Rar!", "a RAR archive: unpack it"),
    (257, b"ustar", "a tar archive: unpack it"),
    (0, b"%PDF", "a PDF document"),
)
_TEXTS = (
    (r"version https://git-lfs", "a Git LFS pointer: fetch the file itself with git lfs pull"),
    (r"#EXTM3U", "a playlist (HLS or M3U), which names files elsewhere"),
    (r"ffconcat", "a list of other files (ffconcat)"),
    (r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<MPD\b", "a manifest (DASH), which names files elsewhere"),
    (
        r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b",
        "a web page (HTML), as servers send one in place of a file: download it again",
    ),
    (r"<[?!a-z]", "XML text"),
    (r"""[{\[]\s*(["{\[\d\]}]|$)""", "JSON text"),
    (r"WEBVTT", "subtitles (WebVTT)"),
)


def other_kind(head: bytes) -> str | None:
    """What a file is that begins with ``head``, if it is known to be no video."""
    for place, mark, what in _BINARY:
        if head.startswith(mark, place):
            return what
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)  # the last letter may be cut in two
    except UnicodeDecodeError:
        return None
    if (
        not text
        or text.startswith("YUV4MPEG2")
        or any(ord(letter) < 32 and letter not in "\t\n\f\r" for letter in text)
    ):
        return None
    for pattern, what in _TEXTS:
        if re.match(pattern, text.lstrip(), re.IGNORECASE | re.DOTALL):
            return what
    return "plain text"
