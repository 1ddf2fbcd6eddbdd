"""Options as other evaluation programs call them, lmms-eval and lm-evaluation-harness above all, in this one's words.

What means the same here is taken, and said once; what would have no effect here is refused, with what to do instead.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vamba_eval.contracts import UserError

_SAME = {
    "--model": "--models",
    "--task": "--tasks",
    "--output_path": "--output",
    "--output-path": "--output",
    "--output-dir": "--output",
    "--frames": "--num-frames",
}

_INSTEAD = {
    "--num-fewshot": "questions are asked without examples here: leave it out",
    "--log-samples": "every prompt and response is kept anyway (RUN/TASK.MODEL.jsonl): leave it out",
    "--log-samples-suffix": "a run is called by --name",
    "--device": "a model's device is one of its arguments, such as --model-args M:device_map=cuda:1, or choose GPUs by "
    "CUDA_VISIBLE_DEVICES",
    "--use-cache": "answers are kept in the run's folder and never asked twice; --clip-cache keeps read videos",
    "--gen-kwargs": "say it with --temperature, --top-p, --top-k and --max-new-tokens",
    "--apply-chat-template": "a model's own chat template is always applied: leave it out",
    "--verbosity": "--debug shows tracebacks",
    "--include-path": "name a task of your own by its file: --tasks path/to/my_task.py",
    "--seed": "answers are sampled with --seeds N, one after the other from 0",
    "--force-simple": "leave it out",
}


def translated(words: Sequence[str], options: Collection[str]) -> tuple[list[str], list[str]]:
    """``words`` with the names of ``options``, and what was taken for what. Raises UserError for what does nothing, all
    of it at once: a command of another program is pasted whole."""
    found, said, refused = [], [], {}
    for word in words:
        name, equals, value = word.partition("=")
        if not word.startswith("--") or name in options:
            found.append(word)
            continue
        dashed = name.replace("_", "-")
        if dashed not in options and (instead := _INSTEAD.get(dashed)):
            refused[name] = f"{name} is no option here: {instead}"
        ours = _SAME.get(name, dashed)
        if ours in options and ours != name:
            if dashed != ours or name in _SAME:
                said.append(f"{name} is {ours} here")
            name = ours
        found.append(f"{name}{equals}{value}")
    if refused:
        raise UserError("\n".join(refused.values()))
    return found, list(dict.fromkeys(said))
