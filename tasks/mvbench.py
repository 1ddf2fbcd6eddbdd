"""MVBench: 4,000 questions of 20 kinds about motion and order in short videos.

Paper: Li et al., arXiv 2311.17005. Data set card: OpenGVLab/MVBench. Both of its layouts are read: the official one
(branch main, the Vamba scripts' too) and that of lmms-eval (branch video), where the parts that questions are
about are cut out beforehand, so that frames are others there. The Vamba scripts resize videos, but not the
extracted frames of episodic reasoning; here all frames are resized.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from vamba_eval.contracts import (
    LETTERS,
    Catalogue,
    Clip,
    Counts,
    Dataset,
    FrameSampling,
    GenerationSettings,
    InLmmsEval,
    MissingData,
    Question,
    Score,
    ScoredRecord,
    Task,
    Video,
    mean,
)
from vamba_eval.score.flexible import score_flexible
from vamba_eval.score.letters import extract_lmms_word, extract_vamba, score_choice

from ._annotations import (
    FLEXIBLE,
    FLEXIBLE_SETTINGS,
    BadRow,
    Collector,
    asked_as,
    check_split,
    find_folder,
    first_existing,
    first_responses,
    lettered,
    list_field,
    read_rows,
    text_field,
)

# Each task's folder of videos, official (mvbench.ipynb of OpenGVLab/Ask-Anything) and, where it is another, in
# lmms-eval (lmms_eval/tasks/mvbench/utils.py).
_CHARADES = ("star/Charades_v1_480", "star/Charades_segment")
_CLEVRER = ("clevrer/video_validation",)
_PERCEPTION = ("perception/videos",)
_FOLDERS = {
    "action_sequence": _CHARADES,
    "action_prediction": _CHARADES,
    "action_antonym": ("ssv2_video", "ssv2_video_mp4"),
    "fine_grained_action": ("Moments_in_Time_Raw/videos",),
    "unexpected_action": ("FunQA_test/test",),
    "object_existence": _CLEVRER,
    "object_interaction": _CHARADES,
    "object_shuffle": _PERCEPTION,
    "moving_direction": _CLEVRER,
    "action_localization": ("sta/sta_video", "sta/sta_video_segment"),
    "scene_transition": ("scene_qa/video",),
    "action_count": _PERCEPTION,
    "moving_count": _CLEVRER,
    "moving_attribute": _CLEVRER,
    "state_change": _PERCEPTION,
    "fine_grained_pose": ("nturgbd", "nturgbd_convert"),
    "character_order": _PERCEPTION,
    "egocentric_navigation": ("vlnqa",),
    "episodic_reasoning": ("tvqa/frames_fps3_hq", "tvqa/video_fps3_hq_segment"),
    "counterfactual_inference": _CLEVRER,
}
# Their questions are about the part of the video from ``start`` to ``end``.
_BOUNDED = (
    *("action_sequence", "action_prediction", "object_interaction", "action_localization"),
    "episodic_reasoning",
)
_FRAMES_PER_SECOND = 3.0  # of TVQA's folders of frames, which episodic reasoning shows
# data0613.zip holds what was added in June 2024.
_ROOTS = ("video", "video/data0613", "", "data0613")
# mvbench.ipynb of OpenGVLab/Ask-Anything, which puts it before the question and asks greedily for 100 tokens.
_OFFICIAL_INSTRUCTION = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
    "objects, and the action and pose of persons. Based on your observations, select the best option that accurately "
    "addresses the question."
)
_LETTER_ONLY = "Answer with the option's letter from the given choices directly."
_BEST_ONLY = "Only give the best option."
_CUT_OUT = re.compile(r"_[\d.]+_[\d.]+\.mp4$")  # how a part that was cut out ends: its start and end in seconds


class MVBench(Task):
    name = "mvbench"
    version = "1"
    catalogue = Catalogue(
        title="MVBench",
        homepage="https://huggingface.co/datasets/OpenGVLab/MVBench",
        citation="Li et al., MVBench, CVPR 2024, arXiv 2311.17005",
        reported_as="mvbench_test",
        # Branch main has an archive a folder, branch video (16 GB) lmms-eval's files as they are.
        dataset=Dataset(
            hub_id="OpenGVLab/MVBench",
            files=(
                "json/*",
                "video/*",
                *(f"{folder.split('/')[0]}/*" for kind in _FOLDERS.values() for folder in kind),
            ),
            elsewhere="The 200 videos of fine_grained_pose are NTU RGB+D's, which may not be passed on: ask for them "
            "at https://rose1.ntu.edu.sg/dataset/actionRecognition/ and put those that "
            "video/MVBench_videos_ntu.txt names into mvbench/video/nturgbd/",
            lmms_eval="mvbench_video",
            lmms_ids=("OpenGVLab/MVBench@video",),
        ),
        counts={"test": Counts(videos=None, questions=4000)},  # paper, table 1: 200 a task
        in_lmms_eval=InLmmsEval(
            tasks={"mvbench_*": None},
            functions=frozenset({"mvbench_doc_to_visual", "mvbench_doc_to_text"}),
            groups={"*": "task"},
        ),
    )
    measures: ClassVar = {"mean over tasks": mean("correct", over="task"), "accuracy": mean("correct")}
    protocols = ("vamba", "lmms-eval", "official", "flexible")
    # Its scripts number frames by the rate that decord reads from the header.
    sampling = FrameSampling(strategy="segments", rate="header")

    def generation(self, protocol: str) -> GenerationSettings:
        if protocol == FLEXIBLE:
            return FLEXIBLE_SETTINGS
        if protocol == "lmms-eval":
            return GenerationSettings.lmms_eval(16)
        return GenerationSettings(max_new_tokens=100 if protocol == "official" else 512)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        check_split(self, split)
        expected = ("json/action_sequence.json", "MVBench/json/action_sequence.json")
        _, first = find_folder(self, data_root, expected)
        folder = first.parent.parent
        collector = Collector(self, "the last one that is the answer counts (under lmms-eval the first)")
        for kind in _FOLDERS:
            file = first.parent / f"{kind}.json"
            if not file.exists():
                raise MissingData(
                    f"mvbench: {file} is missing. The benchmark is published at {self.catalogue.homepage}"
                )
            for number, row in enumerate(read_rows(file)):
                self._add(folder, kind, number, row, collector)
        return collector.videos()

    def _add(self, folder: Path, kind: str, number: int, row: Any, collector: Collector) -> None:
        where = f"{kind}.json row {number}"
        video_id = path = None
        about: dict[str, Any] = {}
        try:
            name = text_field(row, "video")
            video_id, path = f"{_FOLDERS[kind][0]}/{name}", _path(folder, kind, name, row)
            if kind in _BOUNDED and _CUT_OUT.search(path.name):
                video_id = f"{_FOLDERS[kind][0]}/{path.name}"
            elif kind in _BOUNDED:
                about = {"start_s": _seconds(row, "start"), "end_s": _seconds(row, "end")}
                if about["end_s"] < about["start_s"]:
                    raise BadRow(f"its part ends at {about['end_s']} s, before it starts at {about['start_s']} s")
                # One video is shown in several parts; as media fragments (W3C) are called.
                video_id += f"#t={about['start_s']},{about['end_s']}"
            if kind == "episodic_reasoning":
                about["frames_per_second"] = _FRAMES_PER_SECOND
            question = self._question(row, kind, number, where, collector)
        except BadRow as problem:
            collector.broken(where, str(problem), video_id, path, **about)
            return
        collector.add(where, video_id, path, question, **about)

    def _question(self, row: dict[str, Any], kind: str, number: int, where: str, collector: Collector) -> Question:
        candidates = list_field(row, "candidates", least=1)
        if len(candidates) == 1:  # five of the published rows of counterfactual inference
            collector.defect(
                where, "it has one candidate", "it is asked as published, as the Vamba scripts and lmms-eval do"
            )
        return Question(
            id=f"{kind}-{number}",
            text=text_field(row, "question"),
            options=tuple(candidates),
            answer=_letter(text_field(row, "answer"), candidates, where, collector),
            groups={"task": kind},
            extra={key: value for key, value in row.items() if key not in ("question", "candidates")},
        )

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        protocol = asked_as(protocol, "official")
        if protocol == "lmms-eval":
            options = lettered(question.options, "({}) {}")
            return "\n".join([f"Question:{question.text}", "Option:", *options, _BEST_ONLY, ""])
        if protocol == "official":
            listed = "\n".join(lettered(question.options, "({}) {}")).rstrip()
            # The authors begin the response with the last line; here it ends the prompt.
            lines = [f"Question: {question.text}", "Options:", listed, _BEST_ONLY, "Best option:("]
            return "\n".join([_OFFICIAL_INSTRUCTION, *lines])
        return "\n".join([f"Question: {question.text}", *lettered(question.options), _LETTER_ONLY])

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        instructions = {"vamba": (_LETTER_ONLY,), "lmms-eval": (_BEST_ONLY,)}
        return instructions.get(protocol, (_OFFICIAL_INSTRUCTION, _BEST_ONLY))

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        if protocol == "official":
            return _score_official(question, response)
        if protocol != "lmms-eval":
            return score_choice(question, response, extract_vamba)
        if question.answer:
            # Of equal candidates it takes the first, the Vamba scripts the last.
            first = question.options.index(question.options[LETTERS.index(question.answer)])
            question = replace(question, answer=LETTERS[first])
        return score_choice(question, response, extract_lmms_word)

    def submission(self, responses: Sequence[ScoredRecord]) -> tuple[str, str]:
        """What the authors' notebook writes for their leaderboard: each kind's accuracy and all questions', in %."""
        right: dict[str, list[bool]] = {}
        for each in first_responses(responses).values():
            right.setdefault(str(each.groups["task"]), []).append(bool(each.values["correct"]))
        accuracies = {_official_name(kind): 100 * sum(own) / len(own) for kind, own in right.items()}
        every = [correct for own in right.values() for correct in own]
        accuracies["Avg"] = 100 * sum(every) / len(every)
        return "upload_leaderboard.json", json.dumps(accuracies, indent=1) + "\n"


def _official_name(kind: str) -> str:
    return kind.replace("_", " ").title().replace("Fine Grained", "Fine-grained")


def _score_official(question: Question, response: str) -> Score:
    """The authors' ``check_ans``: the response's first word holds "(B)", or "(" and the word are part of it.

    Only the first line counts. What holds every option's letter, or no letter at all, is right whatever the answer
    is; such a response counts as right and as unparsed (of a single option, what holds no letter does).
    """
    word = f"({response.strip()}".split("\n")[0].lower().split(" ")[0]
    marks = {letter: f"({letter.lower()})" for letter in LETTERS[: len(question.options)]}
    matching = [letter for letter, mark in marks.items() if word.replace(".", "") in mark or mark in word]
    values = {} if question.answer is None else {"correct": float(question.answer in matching)}
    parsed = len(matching) == 1 and word.replace(".", "") != "("
    return Score(values, matching[0] if parsed else None, parsed=parsed)


def _path(folder: Path, kind: str, name: str, row: dict[str, Any]) -> Path:
    """Where the media are, in either layout."""
    stem = re.sub(r"\.(mp4|webm|avi|gif)$", "", name)
    # lmms-eval's layout has the same name for what was cut out or converted, if the annotations are the official ones.
    names = dict.fromkeys([name, f"{stem}_{row.get('start')}_{row.get('end')}.mp4", f"{stem}.mp4"])
    return first_existing([folder / root / at / n for root, at, n in product(_ROOTS, _FOLDERS[kind], names)])


def _seconds(row: dict[str, Any], name: str) -> float:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadRow(f"field {name!r} is {'missing' if value is None else f'{value!r}, not a number of seconds'}")
    return float(value)


def _letter(answer: str, candidates: list[str], where: str, collector: Collector) -> str:
    """The letter of the last candidate that is the answer; "" (never right) if none is."""
    if answer not in candidates:
        collector.defect(where, f"the answer {answer!r} is none of the candidates", "the question counts as wrong")
        return ""
    return LETTERS[len(candidates) - 1 - candidates[::-1].index(answer)]
