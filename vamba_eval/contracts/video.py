"""Videos, questions about them, and the frames that a model is given."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vamba_eval.contracts.errors import VideoError

if TYPE_CHECKING:
    import numpy as np

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Question:
    """One question about a video.

    ``options`` come without letters; empty for a question answered in free text. ``answer`` is the letter
    of the right option, a reference text, or None where a benchmark withholds it. ``groups`` are the
    breakdowns it counts in (a tuple value counts in each of its members); ``extra`` keeps the
    annotation's other fields. ``problem`` says why a broken annotation row cannot be asked: such a
    question is recorded as failed instead of vanishing.
    """

    id: str
    text: str
    options: tuple[str, ...] = ()
    answer: str | None = None
    groups: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None

    def rotated(self, places: int) -> Question:
        """With its options turned: the one at ``places`` comes first, those before it last. The answer goes along."""
        if not self.options:
            return self
        places %= len(self.options)
        answer, letters = self.answer, LETTERS[: len(self.options)]
        if answer and answer in tuple(letters):
            answer = letters[(letters.index(answer) - places) % len(letters)]
        return replace(self, options=(*self.options[places:], *self.options[:places]), answer=answer)


class Trial(NamedTuple):
    """One of the times that a question is asked.

    rotation   by how many places its options are turned
    variant    which wording of the instruction it has; 0 is the protocol's own
    """

    seed: int = 0
    rotation: int = 0
    variant: int = 0

    def published(self, letter: str | None, num_options: int) -> str | None:
        """The letter in the published order of the option that has ``letter`` in this trial; what is no letter of an
        option stays as it is."""
        letters = LETTERS[:num_options]
        if not self.rotation or not letter or letter not in tuple(letters):
            return letter
        return letters[(letters.index(letter) + self.rotation) % num_options]


@dataclass(frozen=True)
class Video:
    """A video file (or a folder of extracted frames) with all questions about it.

    ``start_s`` and ``end_s`` bound the part that is shown, in seconds; None shows all of it.
    ``frames_per_second`` is the rate of a folder of extracted frames, which have no times without it.
    ``duration_s`` is the length that the annotations state, in seconds; None where they state none. ``cluster`` is
    the id of the Video that shows the same, where two files hold one film: questions about both vary together, so
    statistics take them for one video.
    """

    id: str
    path: Path
    questions: tuple[Question, ...]
    start_s: float | None = None
    end_s: float | None = None
    frames_per_second: float | None = None
    subtitles: Path | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    duration_s: float | None = None
    cluster: str | None = None


@dataclass(frozen=True)
class VideoInfo:
    """What a file's header says of its video, right or wrong; decoders are not asked.

    ``fps`` is NaN, ``duration_s`` (in seconds) and ``frames`` are None where it says nothing; where it states no number
    of frames that is what its length and rate make.
    """

    codec: str
    width: int
    height: int
    fps: float
    duration_s: float | None
    frames: int | None = None


@dataclass
class Clip:
    """The sampled frames of one video.

    frames          (T, H, W, 3) uint8, RGB, at the size that the model gets; not to be written to, as others may look
                    at the same memory
    timestamps_s    (T,) float64, seconds since the video's first frame; NaN for extracted frames of unknown rate
    frame_indices   (T,) int64, positions in the video's presentation order
    source_fps      average frames a second of the source, by its frames' times; NaN if unknown
    duration_s      of the whole source, in seconds; NaN if unknown
    note            what a reader of the results should know about these frames, in a line; mostly empty
    captions        text between the frames, where a protocol interleaves them: (i, text) stands before frame i,
                    (T, text) behind the last one; in order. With any, each frame is a picture of its own
    parts           where several samplings were read at once (``Ladder``): each one's frames, as positions in
                    ``frames``, or why it has none
    path            the file that holds what the frames are of and nothing else, for a service that samples by itself;
                    None for a part of a file, a folder of frames, frames in another order, and where it is not known
    header          what the file says of itself, for a task whose prompts need a clip: a task opens no file
    """

    frames: np.ndarray
    timestamps_s: np.ndarray
    frame_indices: np.ndarray
    source_fps: float
    duration_s: float
    note: str = ""
    captions: tuple[tuple[int, str], ...] = ()
    parts: tuple[np.ndarray | str, ...] = ()
    path: Path | None = None
    header: VideoInfo | None = None

    def part(self, number: int) -> Clip:
        """The clip that the sampling of that number would have given alone. Raises VideoError, as it would have."""
        chosen = self.parts[number]
        if isinstance(chosen, str):
            raise VideoError(chosen)
        times, indices = self.timestamps_s[chosen], self.frame_indices[chosen]
        return replace(self, frames=self.frames[chosen], timestamps_s=times, frame_indices=indices, parts=())

    def shuffled(self, seed: str) -> Clip:
        """The same frames in another order, the same for the same ``seed``; their times stay in order, so that a model
        that is told times is told wrong ones."""
        import numpy as np

        digest = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).digest()
        order = np.random.default_rng(int.from_bytes(digest[:8], "big")).permutation(len(self.frames))
        note = "; ".join(text for text in (self.note, "its frames are shuffled") if text)
        return replace(self, frames=self.frames[order], note=note, path=None)
