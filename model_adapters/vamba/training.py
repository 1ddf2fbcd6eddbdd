"""Vamba's recipe: from Qwen2-VL in two stages, on transformers' Trainer.

Stage 1 trains what Vamba adds to Qwen2-VL, on images with captions; stage 2 tunes the text model on instructions about
images and videos. docs/training.md has every number's source. One process for each GPU, by ``accelerate launch``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import SchedulerType

from vamba_eval.contracts import FrameSampling, Training, UserError
from vamba_eval.files import replace_text

from .. import _transformers
from . import starts
from .modeling import VambaDecoderLayer
from .processing import VambaProcessor
from .teacher import Teacher
from .training_batches import MicroBatch, MicroBatches
from .training_data import Examples, PictureSizes, read_sources
from .training_model import Group, TopTokens, VambaForTraining

logger = logging.getLogger(__name__)

SETTINGS = "training.json"
LOG = "training_log.jsonl"
_SHOWN = 5  # rows that cannot be read, each said in a line of its own; the rest are counted


@dataclass(frozen=True)
class Stage:
    """A stage's defaults, as TIGER-AI-Lab/Vamba has them (scripts/ and train/data_configs/ at 4464145).

    trainable   parts of weights' names, of which any makes a weight trained
    pack        rows of one example (of images)
    """

    trainable: tuple[str, ...]
    batch_size: int
    learning_rate: float
    save_every: int
    keep: int
    image_edges: tuple[int, int] | None
    pack: int = 8
    warmup: float = 0.03
    schedule: str = "cosine"
    weight_decay: float = 0.01


STAGES = {
    1: Stage(("cross_attn", "vision_mixer", "alpha"), 16, 1e-5, 1000, 10, None),  # pretrain_vamba.sh
    2: Stage(("visual.merger", "model"), 32, 5e-6, 100, 3, (128, 1920)),  # sft_vamba.sh
}
# "auto" frames within max_img_seq_len 120,000, two frames to a patch; data_llava_ov_video_packed.yaml's edges.
VIDEO = FrameSampling("auto", token_budget=240_000, shortest_edge=128, longest_edge=1280)


def train(training: Training) -> Path:
    """Run a stage; the folder with the trained model. In every process of several. Raises UserError."""
    if training.stage not in STAGES:
        raise UserError(f"the recipe has the stages {', '.join(map(str, STAGES))}, not {training.stage}")
    stage = STAGES[training.stage]
    training = _filled(training, stage)
    checkpoint = _checkpoint(training)
    video = VIDEO if training.frames is None else replace(VIDEO, strategy="uniform", num_frames=training.frames)
    sources = read_sources(training.data, PictureSizes(stage.image_edges, video), training.seed, stage.pack)
    examples = Examples(sources, training.seed)
    arguments = _arguments(training, _steps(training, examples))
    model, processor, origin = starts.load(training.start, VambaForTraining, training.seed)
    model.pixels = processor.settings
    if training.trainable is None:
        # Of random weights nothing is worth freezing.
        training = replace(training, trainable=("all",) if origin == "random" else stage.trainable)
    freeze(model, training.trainable or ())
    _keep_settings(training, arguments.max_steps)
    model.config.distill_coeff = training.distill
    if training.recompute:
        _transformers.checkpoint_activations(model.train())
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    trainer = RecipeTrainer(model, arguments, examples, processor, training, _teacher(training, origin, processor))
    if trainer.steps_of(checkpoint) < arguments.max_steps:
        trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_trained()
    elif arguments.should_save:  # ended between its last checkpoint and what is to be saved
        model, _, _ = starts.load(str(checkpoint), VambaForTraining, training.seed)
        starts.save(model, processor, training.output, None, _save_dtype(training, arguments.device))
    return training.output


def freeze(model: Any, trainable: tuple[str, ...]) -> None:
    """Train the weights whose name has one of ``trainable`` in it (all: every one), and no other.

    Never the last layer's mixer: what it puts out is used by nobody. Raises UserError where nothing is left to train.
    """
    last = f"model.layers.{model.config.text_config.num_hidden_layers - 1}.vision_mixer."
    for name, weight in model.named_parameters():
        chosen = trainable == ("all",) or any(part in name for part in trainable)
        weight.requires_grad_(chosen and not name.startswith(last))
    for part in trainable:
        if part != "all" and not any(part in name for name, _ in model.named_parameters()):
            raise UserError(
                f"no weight has {part!r} in its name; name parts such as cross_attn, visual.merger, model, all"
            )


class RecipeTrainer(Trainer):
    """transformers' Trainer with the recipe's loss, the step's mean over all answer tokens of all processes."""

    def __init__(
        self,
        model: VambaForTraining,
        arguments: TrainingArguments,
        examples: Examples,
        processor: VambaProcessor,
        training: Training,
        teacher: Teacher | None,
    ) -> None:
        super().__init__(model=model, args=arguments, callbacks=[GatherForVideos()])
        self.examples, self.processor, self.training, self.teacher = examples, processor, training, teacher
        self.model_accepts_loss_kwargs = True  # the loss is not to be divided by the number of micro-batches
        self._first = self._logged_at = 0
        self._sums: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        if teacher is not None:
            teacher.model.to(arguments.device)

    def steps_of(self, checkpoint: str | None) -> int:
        """Steps that a checkpoint has, which training goes on from."""
        if checkpoint is None:
            return 0
        state = json.loads((Path(checkpoint) / "trainer_state.json").read_text(encoding="utf-8"))
        self._first = self._logged_at = int(state["global_step"])
        for entry in state["log_history"]:  # cumulative: the last has all
            if "skipped_rows" in entry:
                self._skipped["before"] = int(entry["skipped_rows"])
        return self._first

    def get_train_dataloader(self) -> DataLoader:
        """This process's own micro-batches, from the first that is not trained on yet."""
        arguments = self.args
        batches = MicroBatches(
            self.examples,
            self.processor,
            rank=arguments.process_index,
            world=arguments.world_size,
            size=arguments.per_device_train_batch_size,
            first=self._first * arguments.gradient_accumulation_steps,
        )
        workers = arguments.dataloader_num_workers
        return DataLoader(batches, batch_size=None, num_workers=workers, prefetch_factor=2 if workers else None)

    def get_batch_samples(
        self, epoch_iterator: Iterator[MicroBatch | UserError], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """The micro-batches of a step, and how many answer tokens they have in all processes."""
        batches = []
        for _ in range(num_batches):
            if isinstance(batch := next(epoch_iterator), UserError):
                raise batch
            batches.append(batch)
        counted = torch.tensor(sum(batch.answer_tokens for batch in batches), device=device)
        for batch in batches:
            self._say(batch.skipped)
        return [{"groups": batch.groups} for batch in batches], self.accelerator.gather(counted).sum().clamp(min=1)

    def compute_loss(  # type: ignore[override]
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Tensor | None = None
    ) -> Tensor:
        """Its share in the step's mean, times the processes whose gradients are averaged."""
        device = self.args.device
        groups = [
            Group([p.to(device) for p in group.pictures], group.ids.to(device), group.labels.to(device))
            for group in inputs["groups"]
        ]
        tops: list[TopTokens] | None = None
        if self.teacher is not None:
            tops = [self.teacher.top_tokens(group) for group in groups]
        loss, distance = model(groups, tops)
        assert num_items_in_batch is not None
        scale = self.accelerator.num_processes / num_items_in_batch
        if self.teacher is not None:
            self._sums["answer_loss"] += (loss.detach() * scale).item()
            self._sums["distill_loss"] += (distance.detach() * scale).item()
        return (loss + self.training.distill * distance) * scale

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Trainer's, with the parts of the loss and the rows that were skipped; kept in the log's file, too.

        Raises UserError where the loss is no number any more.
        """
        if "loss" in logs:
            steps = max(1, self.state.global_step - self._logged_at)
            self._logged_at = self.state.global_step
            names = sorted({"answer_loss", "distill_loss"} & set(self._sums))
            mine = torch.tensor(
                [
                    *(self._sums[name] / steps for name in names),
                    float(sum(self._skipped.values()) - self._skipped["before"]),
                ],
                device=self.args.device,
            )
            everywhere = self.accelerator.gather(mine[None])
            logs |= dict(zip(names, everywhere[:, :-1].mean(0).tolist(), strict=True))
            logs["skipped_rows"] = int(everywhere[:, -1].sum()) + self._skipped["before"]
            self._sums.clear()
        super().log(logs, start_time)
        if self.is_world_process_zero():
            with open(self.training.output / LOG, "a", encoding="utf-8") as file:
                file.write(json.dumps(self.state.log_history[-1]) + "\n")
        if "loss" in logs and not math.isfinite(logs["loss"]):
            raise UserError(
                f"the loss is {logs['loss']} at step {self.state.global_step}: begin again with a lower learning rate; "
                f"{self.args.output_dir} keeps the last checkpoint before it"
            )

    def save_trained(self) -> None:
        """Write the trained model, whole also where processes hold parts of it. To be called in all of them."""
        state = self.accelerator.get_state_dict(self.model) if self.is_fsdp_enabled else None
        self._save(None, state)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """In the released layout: in float32 to go on from, in the end as asked for."""
        if not self.args.should_save:
            return
        folder = Path(output_dir) if output_dir else self.training.output
        ends = folder == self.training.output
        model = self.accelerator.unwrap_model(self.model)
        dtype = _save_dtype(self.training, self.args.device) if ends else torch.float32
        starts.save(model, self.processor, folder, state_dict, dtype)

    def _say(self, skipped: list[tuple[str, str]]) -> None:
        for name, reason in skipped:
            self._skipped[name] += 1
            if self._skipped[name] <= _SHOWN:
                more = "; further ones are only counted" if self._skipped[name] == _SHOWN else ""
                logger.warning("skipped a row of %s: %s%s", name, reason, more)


class GatherForVideos(TrainerCallback):
    """Under FSDP, which cuts a layer's weights up, they are gathered for ``encode_video`` as for ``forward``."""

    def on_train_begin(self, *_: Any, model: Any = None, **__: Any) -> None:
        gather_for_videos(model)


def gather_for_videos(model: Any) -> None:
    """Tell FSDP that a layer is not only called. Of no effect on what FSDP does not hold."""
    from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

    for layer in model.modules():
        if isinstance(layer, VambaDecoderLayer) and isinstance(layer, FSDPModule):
            register_fsdp_forward_method(layer, VambaDecoderLayer.encode_video.__name__)


def _filled(training: Training, stage: Stage) -> Training:
    """With the stage's values where none is given."""
    names = ("batch_size", "learning_rate", "warmup", "schedule", "weight_decay", "save_every", "keep")
    return replace(training, **{name: getattr(stage, name) for name in names if getattr(training, name) is None})


def _steps(training: Training, examples: Examples) -> int:
    if training.steps is not None:
        return training.steps
    if examples.one_pass is None:
        raise UserError("the data's length is not known: give steps, or the number of rows (rows:) of each data set")
    return math.ceil(examples.one_pass / (training.batch_size or 1))


def _arguments(training: Training, steps: int) -> TrainingArguments:
    if training.report_to != "none" and importlib.util.find_spec(training.report_to) is None:
        raise UserError(f"report_to {training.report_to} needs its package: pip install {training.report_to}")
    world = _processes()
    at_once = world * training.micro_batch
    batch_size = training.batch_size or at_once
    if batch_size % at_once:
        raise UserError(
            f"a batch of {batch_size} examples does not divide into {world} processes with {training.micro_batch} at "
            f"once: batch_size must be a multiple of {at_once}"
        )
    cpu = training.device == "cpu" or not torch.cuda.is_available()
    schedules = [str(kind.value) for kind in SchedulerType]
    if training.schedule not in schedules:
        raise UserError(f"schedule is {training.schedule!r}: use one of {', '.join(schedules)}")
    return TrainingArguments(
        output_dir=str(training.output),
        max_steps=steps,
        per_device_train_batch_size=training.micro_batch,
        gradient_accumulation_steps=batch_size // at_once,
        learning_rate=training.learning_rate or 0.0,
        weight_decay=training.weight_decay or 0.0,
        warmup_steps=training.warmup or 0.0,  # below 1: a share of the steps
        lr_scheduler_type=training.schedule or "cosine",
        bf16=_compute_dtype(training, cpu) == torch.bfloat16,
        use_cpu=cpu,
        logging_steps=training.log_every,
        logging_nan_inf_filter=False,  # which would write another step's loss in its place
        save_steps=training.save_every or steps,
        save_total_limit=training.keep,
        seed=training.seed,
        data_seed=training.seed,
        dataloader_num_workers=training.workers,
        remove_unused_columns=False,
        ignore_data_skip=True,  # examples are numbered: none need be read again
        ddp_find_unused_parameters=False,
        report_to=training.report_to,
        run_name=training.output.name,
        disable_tqdm=not sys.stderr.isatty(),
    )


def _processes() -> int:
    """How many train together, as their launcher says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _compute_dtype(training: Training, cpu: bool) -> torch.dtype:
    return _transformers.choose_dtype(training.dtype, torch.device("cpu" if cpu else "cuda"))


def _save_dtype(training: Training, device: torch.device) -> torch.dtype:
    named = training.dtype if training.save_dtype == "auto" else training.save_dtype
    return _transformers.choose_dtype(named, device)


def _teacher(training: Training, origin: str, processor: VambaProcessor) -> Teacher | None:
    if not training.distill:
        return None
    if training.teacher is None and origin != "qwen2_vl":
        raise UserError("distill needs a teacher, a Qwen2-VL: name its checkpoint (training begins with no Qwen2-VL)")
    return Teacher(starts.load_qwen2_vl(training.teacher or training.start), processor.settings)


def _checkpoint(training: Training) -> str | None:
    """The checkpoint to go on from. Raises UserError where ``output`` holds another training."""
    folder = training.output
    last = _last_checkpoint(folder)
    if training.resume:
        if last is None:
            raise UserError(f"no checkpoint in {folder} to go on from: leave out resume")
        return last
    if last is not None or (folder / "config.json").exists():
        raise UserError(f"{folder} holds a training already: resume goes on with it, or choose another output")
    return None


def _last_checkpoint(folder: Path) -> str | None:
    """The latest that was written to its end, of which Trainer's state is."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


# What may differ when a training goes on: it changes no weight.
_FREE = (
    *("resume", "output", "workers", "report_to", "save_every", "keep", "log_every", "save_dtype", "device"),
    *("micro_batch", "processes"),
)


def _keep_settings(training: Training, steps: int) -> None:
    """Write what the training is, or compare it with what was begun. Raises UserError for a difference."""
    file = training.output / SETTINGS
    digest = hashlib.sha256(training.data.read_bytes()).hexdigest()[:16]  # the list may change, its name stay
    settings = {**asdict(training), "steps": steps, "data sets": digest, "processes": _processes()}
    settings = json.loads(json.dumps(settings, default=str))
    if training.resume and file.exists():
        begun = json.loads(file.read_text(encoding="utf-8"))
        for name, value in settings.items():
            if name not in _FREE and begun.get(name) != value:
                raise UserError(f"{training.output} was begun with {name} {begun.get(name)}, not {value}")
        return
    if int(os.environ.get("RANK", "0")) == 0:
        training.output.mkdir(parents=True, exist_ok=True)
        replace_text(file, json.dumps(settings, indent=2) + "\n")
