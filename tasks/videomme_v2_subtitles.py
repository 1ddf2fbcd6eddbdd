"""Video-MME-v2 with subtitles: all words that are said in the video stand before the question.

Paper: Fu et al., arXiv 2604.05015. Data set card: MME-Benchmarks/Video-MME-v2, whose subtitles are files of JSON lines,
a word each. The authors also put them between the frames; that is not here.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from vamba_eval.contracts import Defect, InLmmsEval, MissingData, UserError, Video, VideoError

from ._annotations import read_rows
from .videomme_v2 import FRAMES, VideoMMEv2

_LISTED = "This video's subtitles are listed below:"


class VideoMMEv2Subtitles(VideoMMEv2):
    name = "videomme_v2_subtitles"
    catalogue = replace(
        VideoMMEv2.catalogue,
        title="Video-MME-v2 (with subtitles)",
        reads_data_of=("videomme_v2",),
        in_lmms_eval=InLmmsEval(
            tasks={"videomme_v2_w_subtitle": None},
            functions=frozenset({"videomme_v2_doc_to_visual", "videomme_v2_doc_to_text_subtitle"}),
            groups={"group_type": "group_type"},
            video="video_id",
        ),
    )

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        videos = super().load(data_root, split)
        if videos and not any(video.subtitles for video in videos):
            raise UserError(
                f"{self.name}: none of its videos has a file subtitle/{{video_id}}.jsonl: unpack the data set's "
                "subtitle.zip, or fetch it: run_eval.py download videomme_v2"
            )
        for video in videos:
            if video.subtitles is None:
                problem = "no file of subtitles, where the data set has one"
                self.defects.append(Defect(f"video {video.id}", problem, "it is asked without"))
        return videos

    def _before(self, video: Video, protocol: str) -> str:
        """Raises VideoError for subtitles that cannot be read."""
        said = "" if video.subtitles is None else _words(video.subtitles)
        if not said:
            return super()._before(video, protocol)
        if protocol == "official":
            return f"{FRAMES} {_LISTED}\n{said}\n"
        return f"{_LISTED}\n{said}\n\n"


@lru_cache(maxsize=4)  # the four questions about a video follow one another
def _words(path: Path) -> str:
    try:
        return " ".join(map(_word, read_rows(path)))
    except (MissingData, KeyError, TypeError) as error:
        raise VideoError(f"the subtitles {path} cannot be read: {error}") from error


def _word(row: Any) -> str:
    return str(row["text"])
