"""The vocabulary that everything else is written in.

The unit of work is a video with its questions: a video is read once and encoded once, then every question about it is
answered from that. Knows no benchmark, no model and no file format, and imports nothing else of the harness.
"""

from vamba_eval.contracts.data import Catalogue, Counts, Dataset, Defect, InLmmsEval
from vamba_eval.contracts.errors import (
    BudgetSpent,
    CodeError,
    MissingData,
    UserError,
    VideoError,
    error_text,
    first_line,
    raised_at,
    system_reason,
)
from vamba_eval.contracts.model import (
    Answer,
    GenerationSettings,
    Likelihood,
    Model,
    ModelAdapter,
    Prompt,
    Seen,
    ServedModel,
)
from vamba_eval.contracts.sampling import (
    BOUNDS,
    EDGES,
    STRATEGIES,
    TIMES,
    FrameSampling,
    FrameSet,
    FrameSpans,
    Ladder,
    Rung,
    Sampling,
)
from vamba_eval.contracts.score import (
    CutOff,
    Groups,
    Mean,
    Measure,
    Metric,
    Score,
    ScoredRecord,
    Summary,
    Verdict,
    mean,
)
from vamba_eval.contracts.task import Ask, Task
from vamba_eval.contracts.training import Training
from vamba_eval.contracts.video import LETTERS, Clip, Question, Trial, Video, VideoInfo

__all__ = [
    "BOUNDS",
    "EDGES",
    "LETTERS",
    "STRATEGIES",
    "TIMES",
    "Answer",
    "Ask",
    "BudgetSpent",
    "Catalogue",
    "Clip",
    "CodeError",
    "Counts",
    "CutOff",
    "Dataset",
    "Defect",
    "FrameSampling",
    "FrameSet",
    "FrameSpans",
    "GenerationSettings",
    "Groups",
    "InLmmsEval",
    "Ladder",
    "Likelihood",
    "Mean",
    "Measure",
    "Metric",
    "MissingData",
    "Model",
    "ModelAdapter",
    "Prompt",
    "Question",
    "Rung",
    "Sampling",
    "Score",
    "ScoredRecord",
    "Seen",
    "ServedModel",
    "Summary",
    "Task",
    "Training",
    "Trial",
    "UserError",
    "Verdict",
    "Video",
    "VideoError",
    "VideoInfo",
    "error_text",
    "first_line",
    "mean",
    "raised_at",
    "system_reason",
]
