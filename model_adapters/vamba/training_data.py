"""What a recipe is trained on: data sets that a YAML lists, each example a function of its number alone.

Which data set and which rows the example number n is made of follows from the seed and n. So any number of processes
share the examples without talking to each other, and a training that goes on begins at the number it had reached. A row
that cannot be read leaves its place empty, and says why. docs/training.md has the YAML's form.

Knows no model; pictures stay uint8.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import itertools
import json
import math
import random
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vamba_eval import registry
from vamba_eval.contracts import Clip, FrameSampling, UserError, VideoError, first_line
from vamba_eval.files import path_inside
from vamba_eval.machine import how_to_install
from vamba_eval.video.read import read_clip

# Asked of an image that has a caption; one is drawn for each.
CAPTION_PROMPTS = (
    "Describe this image.",
    "What does this image show?",
    "Write a caption for this image.",
    "What can be seen here?",
    "Say in words what is in this picture.",
    "Give a description of the image.",
)
PLACEHOLDERS = ("<image>", "<video>")
_SHUFFLED = 1000  # rows of a shard among which the next one is drawn
_HOPELESS = 50  # rows from the beginning, none of which can be read: the data are not where the YAML says
_BLOCK = 4096  # examples whose data sets are drawn at once

Turn = tuple[str, str]  # what is asked, what is answered


@dataclass
class Sample:
    """One row: pictures, and the conversations about them.

    pictures        each (frames, height, width, 3) uint8: a video, or an image of one frame
    conversations   each of one or more turns; ``<image>`` or ``<video>`` says where a picture stands
    source          the data set that it is of
    """

    pictures: list[np.ndarray]
    conversations: list[list[Turn]]
    source: str = ""


@dataclass(frozen=True)
class PictureSizes:
    """How images and videos are brought to size; the reference's for each stage are in `training.STAGES`."""

    image_edges: tuple[int, int] | None
    video: FrameSampling


class Source(ABC):
    """A data set; row ``k`` is the k-th that is drawn of it, pass after pass without an end.

    name      in messages and in the log
    weight    how often it is drawn, relative to the others; None: the root of its length
    pack      rows of one example
    length    rows of one pass; None where nobody knows
    """

    name: str
    weight: float | None
    pack: int
    length: int | None = None

    @abstractmethod
    def sample(self, number: int, dice: random.Random) -> Sample:
        """Row ``number``. Whatever it raises but UserError is said of the row alone."""


class Conversations(Source):
    """LLaVA's form of conversations about images or videos: a JSON list, JSON lines, or Parquet files."""

    def __init__(self, entry: Mapping[str, Any], folder: Path, sizes: PictureSizes, seed: int) -> None:
        files = _files(entry, folder)
        self.media = folder / entry.get("media", ".")
        self.sizes, self.seed = sizes, seed
        self._rows = _parquet(files) if files[0].suffix == ".parquet" else [row for f in files for row in _json(f)]
        self.length = len(self._rows)
        if not self.length:
            raise UserError(f"{files[0]} holds no rows")

    def sample(self, number: int, dice: random.Random) -> Sample:
        turn, place = divmod(number, len(self._rows))
        row = self._rows[int(_order(len(self._rows), self.seed, turn)[place])]
        if row.get("video"):
            video = read_clip(self._path(row["video"]), self.sizes.video, threads=1)
            pictures = [video.frames]
        else:
            images = row.get("image") or []
            images = images if isinstance(images, list) else [images]
            pictures = [_image(self._bytes(image), self.sizes.image_edges) for image in images]
        if not pictures:
            raise ValueError("it has neither an image nor a video")
        if "caption" in row:
            conversations = [_caption(row["caption"], dice)]
        else:
            conversations = [_turns(said) for said in row.get("all_conversations") or [row["conversations"]]]
        return Sample(pictures, conversations)

    def _bytes(self, image: Any) -> Any:
        if isinstance(image, dict):  # as `datasets` stores an image
            return io.BytesIO(image["bytes"]) if image.get("bytes") else self._path(image["path"])
        return self._path(image)

    def _path(self, name: str) -> Path:
        """Raises VideoError where a row names a file outside of ``media``."""
        try:
            return path_inside(self.media, name, self.name)
        except UserError as error:
            raise VideoError(str(error)) from error


class Shards(Source):
    """WebDataset tar shards of images with captions, as CC12M and PixelProse come; read in a stream."""

    def __init__(self, entry: Mapping[str, Any], folder: Path, sizes: PictureSizes, seed: int) -> None:
        self.files = _files(entry, folder)
        self.caption = str(entry.get("caption", "txt"))
        self.length = entry.get("rows")
        self.sizes, self.seed = sizes, seed
        self._stream: Iterator[Any] = iter(())
        self._next = math.inf
        _need("datasets")

    def sample(self, number: int, dice: random.Random) -> Sample:
        if number < self._next:
            self._stream, self._next = self._all(), 0
        row = next(itertools.islice(self._stream, number - int(self._next), None))
        self._next = number + 1
        if isinstance(row, Exception):
            raise row
        image = next((row[kind] for kind in ("jpg", "jpeg", "png", "webp") if row.get(kind)), None)
        if image is None:
            raise ValueError("it has no image")
        field, *inner = self.caption.split(".")
        caption = row.get(field)
        for key in inner:
            caption = (caption or {}).get(key)
        if not isinstance(caption, str) or not caption.strip():
            raise ValueError(f"it has no caption ({self.caption})")
        return Sample([_image(io.BytesIO(image["bytes"]), self.sizes.image_edges)], [_caption(caption, dice)])

    def _all(self) -> Iterator[Any]:
        """Rows of all shards, pass after pass; an exception stands for what is broken."""
        for turn in itertools.count():
            read = 0
            for place in _order(len(self.files), self.seed, turn):
                for row in self._shard(self.files[int(place)], turn):
                    read += not isinstance(row, Exception)
                    yield row
            if not read:
                raise UserError(f"no row in the shards of {self.name}: {self.files[0]} ...")

    def _shard(self, file: Path, turn: int) -> Iterator[Any]:
        from datasets import Image as ImageFeature
        from datasets import load_dataset

        try:
            rows = load_dataset("webdataset", data_files=[str(file)], split="train", streaming=True)
            for name, feature in (rows.features or {}).items():
                if isinstance(feature, ImageFeature):
                    rows = rows.cast_column(name, ImageFeature(decode=False))  # of many rows only one is ours
            yield from rows.shuffle(seed=self.seed + turn, buffer_size=_SHUFFLED)
        except Exception as error:
            yield VideoError(f"{file.name}: {first_line(error)}")


class Generated(Source):
    """A Python function's: ``function(number)`` gives frames or a Clip, and a prompt with its answer, or several."""

    def __init__(self, entry: Mapping[str, Any], folder: Path, sizes: PictureSizes, seed: int) -> None:
        self.function = functools.partial(
            _function(str(entry.get("function", "")), folder), **entry.get("arguments", {})
        )
        self.length = entry.get("rows")
        self.first = seed << 32  # another seed makes other videos

    def sample(self, number: int, dice: random.Random) -> Sample:
        frames, *said = self.function(self.first + number)
        frames = frames.frames if isinstance(frames, Clip) else np.asarray(frames)
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not len(frames):
            raise UserError(
                f"{self.name}: the function gives frames of {frames.dtype} {frames.shape}, "
                "not uint8 (frames, height, width, 3)"
            )
        pairs = said[0] if len(said) == 1 else [tuple(said)]
        return Sample([frames], [[(str(prompt), str(answer))] for prompt, answer in pairs])


KINDS: dict[str, Callable[[Mapping[str, Any], Path, PictureSizes, int], Source]] = {
    "llava": Conversations,
    "webdataset": Shards,
    "generated": Generated,
}
_KEYS = {
    "llava": {"path", "media"},
    "webdataset": {"path", "caption", "rows"},
    "generated": {"function", "arguments", "rows"},
}
_COMMON = {"kind", "name", "weight", "pack", "frames", "longest_edge", "shortest_edge"}


def read_sources(file: Path, sizes: PictureSizes, seed: int, pack: int) -> list[Source]:
    """The data sets that a YAML lists; ``sizes`` and ``pack`` where it says nothing else. Raises UserError."""
    _need("yaml")
    import yaml

    try:
        listed = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read: {first_line(error)}") from error
    entries = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{file} lists no data: it needs a list `data:` of entries, each with a kind and a path")
    sources = []
    for number, entry in enumerate(entries):
        kind = entry.get("kind")
        name = str(entry.get("name", f"{kind} {number}"))
        if kind not in KINDS:
            raise UserError(f"{file}: {name} has the kind {kind!r}; there are {', '.join(KINDS)}")
        if unknown := set(entry) - _COMMON - _KEYS[kind]:
            known = ", ".join(sorted(_COMMON | _KEYS[kind]))
            raise UserError(f"{file}: {name} has an unknown key {min(unknown)!r}; a {kind} entry has {known}")
        try:
            source = KINDS[kind](entry, file.parent, _sizes(entry, sizes), seed)
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{file}: {name}: {first_line(error)}") from error
        source.name, source.weight = name, entry.get("weight")
        source.pack = int(entry.get("pack", 1 if kind == "generated" else pack))
        if source.pack < 1 or (source.weight is not None and not source.weight > 0):
            raise UserError(f"{file}: {name}: pack and weight must be positive")
        sources.append(source)
    if len(sources) > 1 and any(source.weight is None and source.length is None for source in sources):
        blind = next(source.name for source in sources if source.weight is None and source.length is None)
        raise UserError(f"{file}: how often is {blind} drawn? give it a weight, or the number of its rows (rows:)")
    return sources


class Examples:
    """Examples by number.

    one_pass   how many there are in one pass over all data sets; None where a length is unknown
    """

    def __init__(self, sources: Sequence[Source], seed: int) -> None:
        self.sources, self.seed = list(sources), seed
        # The reference's balance: by the root of the length.
        weights = [math.sqrt(s.length or 1) if s.weight is None else float(s.weight) for s in self.sources]
        self._shares = np.array(weights) / sum(weights)
        self._drawn = [np.zeros(len(self.sources), dtype=np.int64)]  # of each source, before each block
        self._good = [0] * len(self.sources)
        self._bad = [0] * len(self.sources)
        lengths = [None if s.length is None else math.ceil(s.length / s.pack) for s in self.sources]
        self.one_pass = None if None in lengths else sum(n for n in lengths if n)

    def __call__(self, number: int) -> tuple[list[Sample], list[tuple[str, str]]]:
        """The rows of an example, and (data set, reason) of those that cannot be read. Raises UserError where nothing
        of a data set can."""
        which, count = self._draw(number)
        source = self.sources[which]
        samples, skipped = [], []
        for k in range(count * source.pack, (count + 1) * source.pack):
            try:
                sample = source.sample(k, random.Random(f"{self.seed} {source.name} {k}"))
                samples.append(replace(sample, source=source.name))
            except UserError:
                raise
            except Exception as error:
                skipped.append((source.name, f"{type(error).__name__}: {first_line(error)}"))
                self._bad[which] += 1
                if not self._good[which] and self._bad[which] >= _HOPELESS:
                    raise UserError(
                        f"none of the first {_HOPELESS} rows of {source.name} can be read: {skipped[-1][1]}"
                    ) from error
            else:
                self._good[which] += 1
        return samples, skipped

    def _draw(self, number: int) -> tuple[int, int]:
        """The data set of an example, and how often it was drawn before."""
        if len(self.sources) == 1:
            return 0, number
        block, place = divmod(number, _BLOCK)
        while len(self._drawn) <= block:
            counted = np.bincount(self._choices(len(self._drawn) - 1), minlength=len(self.sources))
            self._drawn.append(self._drawn[-1] + counted)
        choices = self._choices(block)
        which = int(choices[place])
        return which, int(self._drawn[block][which] + (choices[:place] == which).sum())

    @functools.lru_cache(maxsize=4)  # noqa: B019 - there is one object in a process
    def _choices(self, block: int) -> np.ndarray:
        return np.random.default_rng([self.seed, block]).choice(len(self.sources), size=_BLOCK, p=self._shares)


# ---------------------------------------------------------------------------------------------------- rows and files


def _turns(said: Any) -> list[Turn]:
    """LLaVA's list of what ``human`` and ``gpt`` say in turn."""
    speakers = [part["from"] for part in said]
    if not said or speakers != ["human", "gpt"] * (len(said) // 2):
        raise ValueError(f"its speakers are {', '.join(map(str, speakers)) or 'nobody'}, not human and gpt in turn")
    texts = [part["value"] for part in said]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError("one of its texts is empty")
    return list(zip(texts[::2], texts[1::2], strict=True))


def _caption(caption: Any, dice: random.Random) -> list[Turn]:
    if not isinstance(caption, str) or not caption.strip():
        raise ValueError("its caption is empty")
    return [(dice.choice(CAPTION_PROMPTS), caption.strip())]


def _image(file: Any, edges: tuple[int, int] | None) -> np.ndarray:
    """(1, height, width, 3); ``edges`` bound the shorter and the longer one."""
    with Image.open(file) as image:
        picture = image.convert("RGB")
    if edges is not None:
        sizing = FrameSampling(shortest_edge=edges[0], longest_edge=edges[1])
        height, width = sizing.size(picture.height, picture.width)
        if (width, height) != picture.size:
            picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture)[None]


def _sizes(entry: Mapping[str, Any], sizes: PictureSizes) -> PictureSizes:
    edges: dict[str, Any] = {name: int(entry[name]) for name in ("shortest_edge", "longest_edge") if name in entry}
    if len(edges) == 1:
        raise ValueError("give both shortest_edge and longest_edge, or neither")
    video = replace(sizes.video, **edges)
    if "frames" in entry:
        video = replace(video, strategy="uniform", num_frames=int(entry["frames"]))
    image = (edges["shortest_edge"], edges["longest_edge"]) if edges else sizes.image_edges
    return PictureSizes(image, video)


@functools.lru_cache(maxsize=4)
def _order(length: int, seed: int, turn: int) -> np.ndarray:
    """In which order a pass takes its rows."""
    return np.random.default_rng([seed, turn]).permutation(length)


def _files(entry: Mapping[str, Any], folder: Path) -> list[Path]:
    """Those that ``path`` names, sorted; relative to the YAML's folder, with * and ? for many."""
    if not entry.get("path"):
        raise ValueError("it has no path")
    files = [Path(name) for name in sorted(glob(str(folder / entry["path"])))]
    if not files:
        raise UserError(f"no file at {folder / entry['path']}")
    return files


def _json(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSON list or of JSON lines."""
    try:
        text = file.read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines() if line.strip()] if file.suffix == ".jsonl" else None
        rows = json.loads(text) if rows is None else rows
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {first_line(error)}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file} is no list of rows: one is given as .json (a list) or .jsonl (a row a line)")
    return rows


def _parquet(files: Sequence[Path]) -> Any:
    _need("datasets")
    from datasets import Image as ImageFeature
    from datasets import load_dataset

    try:
        rows = load_dataset("parquet", data_files=[str(file) for file in files], split="train")
    except Exception as error:
        raise UserError(f"{files[0]} cannot be read: {first_line(error)}") from error
    for name, feature in rows.features.items():
        if isinstance(feature, ImageFeature):
            rows = rows.cast_column(name, ImageFeature(decode=False))
    return rows


def _function(text: str, folder: Path) -> Callable[..., Any]:
    """``package.module:function``, or ``file.py:function`` beside the YAML."""
    where, _, name = text.partition(":")
    if not where or not name:
        raise UserError(f"function is {text!r}: write module:function, or file.py:function")
    if where.endswith(".py"):
        module = registry.module_at(folder / where)
    else:
        try:
            module = importlib.import_module(where)
        except ImportError as error:
            raise UserError(f"the module {where} cannot be imported: {first_line(error)}") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise UserError(f"{where} has no function {name}")
    return found  # type: ignore[no-any-return]


def _need(package: str) -> None:
    if package not in sys.modules and importlib.util.find_spec(package) is None:
        raise UserError(f"training needs the package {package}: {how_to_install('train')}")
