"""What a training is asked for: from which weights, on which data, for how long. Knows no model and no data format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vamba_eval.contracts.errors import UserError

REPORTS = ("none", "tensorboard", "wandb")


@dataclass(frozen=True)
class Training:
    """One run of a model's recipe. None leaves a value to the recipe's stage.

    start           the weights to begin with: a checkpoint's folder or Hub id, or a configuration (.json) of a model
                    whose weights are all random
    data            a YAML file that lists data sets
    output          the folder for checkpoints, the log and the trained model
    stage           of the recipe, from 1
    steps           optimizer steps; None: one pass over the data, where its length is known
    batch_size      examples of one step, all processes together
    micro_batch     examples that one process computes at once; the rest of a batch is accumulated
    learning_rate   the highest; it rises over ``warmup`` (a share of the steps) and falls by ``schedule``
    frames          of each video; None: the stage's rule
    trainable       parts of weights' names, of which any makes a weight trained; ("all",) is all of them
    distill         how much the distance to a teacher's predictions counts beside the loss; 0: no teacher
    teacher         its checkpoint; None: ``start``
    seed            of random weights, and of which examples come when
    save_every      steps between checkpoints; the last ``keep`` are kept
    resume          go on from the last checkpoint in ``output``
    workers         processes that read examples, for each process that trains
    report_to       where the log goes besides the folder: none, tensorboard or wandb
    dtype           of the matrix products: auto, bfloat16 or float32. Weights and optimizer are float32
    save_dtype      of the trained model's weights: auto (as ``dtype``), bfloat16 or float32
    recompute       activations are computed again in backward instead of kept (gradient checkpointing)
    device          auto or cpu
    """

    start: str
    data: Path
    output: Path
    stage: int
    steps: int | None = None
    batch_size: int | None = None
    micro_batch: int = 1
    learning_rate: float | None = None
    warmup: float | None = None
    schedule: str | None = None
    weight_decay: float | None = None
    frames: int | None = None
    trainable: tuple[str, ...] | None = None
    distill: float = 0.0
    teacher: str | None = None
    seed: int = 42
    save_every: int | None = None
    keep: int | None = None
    log_every: int = 1
    resume: bool = False
    workers: int = 0
    report_to: str = "none"
    dtype: str = "auto"
    save_dtype: str = "auto"
    recompute: bool = True
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "micro_batch", "frames", "save_every", "keep", "log_every"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise UserError(f"learning_rate must be positive, not {self.learning_rate}")
        if self.warmup is not None and not 0 <= self.warmup < 1:
            raise UserError(f"warmup is a share of the steps, from 0 to below 1, not {self.warmup}")
        for name in ("distill", "weight_decay", "workers"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise UserError(f"{name} must not be negative, as {value} is")
        if self.teacher is not None and not self.distill:
            raise UserError("a teacher without distill has no effect: give its weight, such as distill 1, or leave it")
        if self.report_to not in REPORTS:
            raise UserError(f"report_to is {self.report_to!r}: use {', '.join(REPORTS)}")
        for name in ("dtype", "save_dtype"):
            if getattr(self, name) not in ("auto", "bfloat16", "float32"):
                raise UserError(f"{name} is {getattr(self, name)!r}: use auto, bfloat16 or float32")
        if self.device not in ("auto", "cpu"):
            raise UserError(f"device is {self.device!r}: use auto or cpu; CUDA_VISIBLE_DEVICES chooses among GPUs")
