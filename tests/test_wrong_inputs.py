"""Wrong inputs of every kind, to every verb: one line that names what is wrong and what to do, and no traceback."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmark_files import videomme_rows, write_videomme
from plugins import FolderTask
from videos import make_video

from vamba_eval import evaluate

PLUGINS = Path(__file__).parent / "plugins.py"
Cli = Callable[..., tuple[int, str, str]]

# ------------------------------------------------------------------------------------------- what commands are about

_ADAPTER = """from vamba_eval.contracts import Answer, ModelAdapter, Seen

class Mine(ModelAdapter):
    name = "mine"
"""
_ENCODE = "    def encode(self, clip): return 1\n"
_GENERATE = "    def generate(self, encoded, prompts, settings): return [Answer('A') for _ in prompts]\n"
_WHOLE = _ADAPTER + _ENCODE + _GENERATE
_TASK = """from pathlib import Path
from vamba_eval.contracts import Catalogue, Question, Score, Task, Video

class Mine(Task):
    name = "mine"
    version = "1"
    catalogue = Catalogue("Mine", homepage="nowhere", citation="none")
"""
_LOAD = """
    def load(self, data_root, split=None):
        return [Video("v", Path("v.mp4"), (Question("q", "t", ("a", "b"), "A"),))]
"""
_PROMPT = "    def prompt(self, video, question, protocol, clip): return question.text\n"
_SCORE = "    def score(self, question, response, protocol): return Score({'correct': 1.0})\n"

# Code of somebody's own, by the name of its file.
CODE = {
    "whole": _WHOLE,
    "no_generate": _ADAPTER + _ENCODE,
    "gives_text": f"{_ADAPTER}{_ENCODE}    def generate(self, encoded, prompts, settings): return 'A'\n",
    "gives_none": f"{_ADAPTER}{_ENCODE}    def generate(self, encoded, prompts, settings): return [Answer(None)]\n",
    "fails": f"{_ADAPTER}{_ENCODE}    def generate(self, encoded, prompts, settings): return nothing_of_the_kind\n",
    "saw_what": f"{_WHOLE}    def seen(self, encoded): return 3\n",
    "mistaken_init": f"{_WHOLE}    def __init__(self): self.size = 1 + 'a'\n",
    "broken_init": f"{_WHOLE}    def __init__(self): raise RuntimeError('no such kernel')\n",
    "lost_init": f"{_WHOLE}    def __init__(self): open('/nowhere/at/all')\n",
    "importing_init": f"{_WHOLE}    def __init__(self): import nothing_like_it\n",
    "needs_path": f"{_WHOLE}    def __init__(self, path): pass\n",
    "undescribed": f"{_WHOLE}    def describe(self): return self.nothing\n",
    "syntax": "class Mine(ModelAdapter)\n    pass\n",
    "unimportable": "import nothing_like_it\n",
    "exits": "raise SystemExit(4)\n",
    "another_class": "class Mine:\n    name = 'mine'\n",
    "task": _TASK + _LOAD + _PROMPT + _SCORE,
    "task_cannot_load": f"{_TASK}    def load(self, data_root, split=None): return 1 / 0\n{_PROMPT}{_SCORE}",
    "task_loads_none": f"{_TASK}    def load(self, data_root, split=None): return None\n{_PROMPT}{_SCORE}",
    "task_loads_text": f"{_TASK}    def load(self, data_root, split=None): return ['v.mp4']\n{_PROMPT}{_SCORE}",
    "task_cannot_ask": f"{_TASK}{_LOAD}    def prompt(self, video, question, protocol, clip): return 1 / 0\n{_SCORE}",
    "task_init": f"{_TASK}{_LOAD}{_PROMPT}{_SCORE}    def __init__(self): 1 / 0\n",
    "task_unnamed": (_TASK + _LOAD + _PROMPT + _SCORE).replace('    name = "mine"\n', ""),
    "task_unscored": _TASK + _LOAD + _PROMPT,
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Words of the commands below that stand for a place."""
    root = tmp_path_factory.mktemp("wrong")
    folders = ("films", "data", "code", "empty", "no_config", "no_weights", "bad_config", "broken_run", "bad_logs")
    for folder in folders:
        (root / folder).mkdir()
    films, data, code, no_config = root / "films", root / "data", root / "code", root / "no_config"
    make_video(films / "00.mp4", frames=4, size=(48, 64))
    write_videomme(data, videomme_rows(2))
    for number in range(2):
        shutil.copy(films / "00.mp4", data / "videomme" / "data" / f"vid_{number}.mp4")
    for name, content in CODE.items():
        (code / f"{name}.py").write_text(content)
    (no_config / "model.safetensors").write_bytes(b"")
    (root / "no_weights" / "config.json").write_text("{}")
    (root / "bad_config" / "config.json").write_text("{")
    (root / "broken_run" / "run.json").write_text("{")
    (root / "bad_logs" / "20260101_000000_samples_videomme.jsonl").write_text("{\n")
    (root / "text.txt").write_text("no more than text")
    (root / "list.json").write_text("[1]")
    evaluate([FolderTask()], ["random", "constant"], data_root=films, output=root, name="run", progress=False)
    return {
        **{each.upper(): root / each for each in folders},
        **{"RUNS": root / "run", "TEXT": root / "text.txt", "LIST": root / "list.json"},
        "FOLDER": Path(f"{PLUGINS}:FolderTask"),
    }


# --------------------------------------------------------------------------------------------------------- the table

RUN = "--tasks FOLDER --models random --data-root FILMS --output OUT"
MODELS = "--tasks FOLDER --data-root FILMS --output OUT --num-frames 2 --workers 0 --models"
TASKS = "--models random --data-root FILMS --output OUT --tasks"
VIDEOMME = "--tasks videomme --models random --data-root DATA --output OUT"
TABLES = "leaderboard RUNS --task-code FOLDER"
JUDGE = "judge RUNS --task-code FOLDER --judge-url http://127.0.0.1:9/v1"
ASK = "ask FILMS/00.mp4 what --num-frames 2"
PROFILE = "profile --output OUT --models random --frames 2"
TRAIN = "train --stage 1 --from EMPTY --data TEXT --output OUT"
EMPTY = "it is given an empty value"

# A command and what its message must say; status 2.
ROWS = [
    # Commands and options.
    ("lisst", "unknown command 'lisst' (did you mean 'list'?): there are run, list,"),
    ("evaluate", "unknown command 'evaluate': there are run, list,"),
    ("''", "unknown command '': there are run,"),
    ("run run", "unrecognized arguments: run (see"),
    ("list more", "unrecognized arguments: more (see"),
    ("list --al", "no option --al"),
    ("--versoin", "no option --versoin"),
    (f"{RUN} --protcol vamba", "no option --protcol (did you mean --protocol?)"),
    (f"{RUN} --split=a --numframes 3", "no option --numframes (did you mean --num-frames?)"),
    (f"{RUN} --temprature=1", "no option --temprature (did you mean --temperature?)"),
    (f"{RUN} --num_fewshot 2", "--num_fewshot is no option here: questions are asked without examples"),
    (f"{RUN} --device cuda", "a model's device is one of its arguments"),
    ("leaderboard RUNS --colums score", "no option --colums (did you mean --columns?)"),
    ("rescore RUNS --protocl all", "no option --protocl (did you mean --protocol?)"),
    ("judge RUNS --judge-modl x", "no option --judge-modl (did you mean --judge-model?)"),
    ("export RUNS --outptu OUT", "no option --outptu (did you mean --output?)"),
    ("train --stge 1", "no option --stge (did you mean --stage?)"),
    ("download videomme --data-rot X", "no option --data-rot (did you mean --data-root?)"),
    # Names.
    (f"{TASKS} Video-MME", "unknown task 'Video-MME' (did you mean 'videomme'?)"),
    (f"{TASKS} LongVideoBnch", "(did you mean 'longvideobench'?)"),
    (f"{TASKS} suite:lng", "unknown suite 'lng' (did you mean 'long'?)"),
    (f"{MODELS} Qwen2-VL", "unknown model 'Qwen2-VL' (did you mean 'qwen2_vl'?)"),
    (f"{MODELS} vambaa", "unknown model 'vambaa' (did you mean 'vamba'?)"),
    (f"{MODELS} a=", "a= names no model: write LABEL=MODEL, or MODEL alone"),
    (f"{MODELS} random,random", "two models have the same label: tell them apart with label=name"),
    (f"{VIDEOMME} --protocol oficial", "videomme has no protocol 'oficial' (did you mean 'official'?); it has vamba,"),
    (f"{VIDEOMME} --split Long", "videomme has no split 'Long' (did you mean 'long'?); it has test and"),
    (f"{VIDEOMME} --preset qwen25vl", "unknown preset 'qwen25vl' (did you mean 'qwen2.5-vl'?)"),
    (f"{VIDEOMME} --strategy unifrm", "there is no 'unifrm' (did you mean 'uniform'?): there are uniform,"),
    (f"{RUN} --model-args random:sed=1", "has no argument 'sed'; it takes seed (did you mean 'seed'?)"),
    (f"{RUN} --model-args randm:seed=1", "'randm', which is not among the models random (did you mean 'random'?)"),
    (f"{RUN} --model-args random:seed", "write MODEL:KEY=VALUE,KEY=VALUE, such as"),
    (f"{RUN} --model-args random:seed=x", "cannot be built with seed=x: invalid literal"),
    # Empty values.
    (f"{RUN} --name ''", f"argument --name: {EMPTY}: give one, or leave the option out"),
    (f"{RUN} --output ''", f"argument --output: {EMPTY}"),
    (f"{RUN} --data-root ''", f"argument --data-root: {EMPTY}"),
    (f"{RUN} --wandb ''", f"argument --wandb: {EMPTY}"),
    (f"{RUN} --push-to-hub=", f"argument --push-to-hub: {EMPTY}"),
    (f"{RUN} --clip-cache ' '", f"argument --clip-cache: {EMPTY}"),
    (f"{RUN} --models ''", f"argument --models: {EMPTY}"),
    (f"{RUN} --models ,", "argument --models: ',' names nothing"),
    ("leaderboard ''", f"argument RESULTS: {EMPTY}: give one (see"),
    ("report RUNS -o ''", f"argument -o/--output: {EMPTY}"),
    ("export RUNS --output ''", f"argument --output: {EMPTY}"),
    ("compare '' RUNS", f"argument RUN_A: {EMPTY}"),
    ("download '' --data-root OUT", f"argument TASK,...: {EMPTY}"),
    ("check videomme --data-root ''", f"argument --data-root: {EMPTY}"),
    ("ask '' what", f"argument VIDEO_OR_IMAGE: {EMPTY}"),
    (f"{PROFILE} --output ''", f"argument --output: {EMPTY}"),
    (f"{TRAIN} --data ''", f"argument --data: {EMPTY}"),
    # Numbers.
    (f"{RUN} --num-frames 0", "'0' is neither a number of frames nor a range of them: write numbers, such as"),
    (f"{RUN} --num-frames 8..4", "is neither a number of frames nor a range of them"),
    (f"{RUN} --limit -1", "write a number of videos, such as 20, or of questions, such as 50q"),
    (f"{RUN} --temperature nan", "argument --temperature: 'nan' is not a number"),
    (f"{RUN} --temperature -1", "temperature must be a finite number from 0 (greedy), not -1.0"),
    (f"{RUN} --fps hot", "argument --fps: 'hot' is not a number"),
    (f"{RUN} --seeds 0", "the number of seeds must be positive, not 0"),
    (f"{RUN} --seeds 3", "sample (--temperature 1), or leave out --seeds"),
    (f"{RUN} --workers -1", "workers must not be negative: -1"),
    (f"{RUN} --read-timeout 0", "stall_s must be positive, not 0.0"),
    (f"{RUN} --worker-memory-gb inf", "and no end of them, not inf"),
    (f"{RUN} --gpus-per-model inf", "the number of GPUs a model must be positive, not inf"),
    (f"{RUN} --answer-timeout 0", "the time for an answer must be a positive number of seconds"),
    (f"{RUN} --prompt-variants 9", "the number of prompt variants is from 1 to 5, not 9"),
    (f"{RUN} --longest-edge 0", "longest_edge must be positive, not 0"),
    (f"{RUN} --gpus 1 --replicas 1", "give a number of GPUs (--gpus) or of replicas without GPUs"),
    (f"{RUN} --keep-size --longest-edge 9", "--keep-size does not resize frames, --longest-edge does: give one"),
    # Places.
    ("--tasks mlvu --models random --output OUT --data-root EMPTY --data-root FILMS", "nor is it in"),
    ("--tasks mlvu --models random --output OUT --data-root TEXT", "text.txt is not a directory: give --data-root"),
    ("--tasks videomme --models qwen2_vl --data-root /nowhere --output OUT", "data root /nowhere is not a directory"),
    ("--tasks videomme --models random --output OUT", "needs its data: give --data-root"),
    (f"{RUN} --output TEXT", "is a file, not a folder: choose another --output or --name"),
    (f"{RUN} --output TEXT/below", "is a file, not a folder: choose another --output or --name"),
    (f"{RUN} --frames-from /nowhere.json", "--frames-from: /nowhere.json cannot be read: No such file"),
    (f"{RUN} --frames-from LIST", "--frames-from: it is a list without question ids"),
    (f"{RUN} --clip-cache-gb 3", "is the size of a --clip-cache, and there is none: leave it out"),
    (f"{TASKS} CODE/gone.py", "no such file: "),
    (f"{MODELS} CODE/whole.py:Yours", "should define a Model called Yours; it defines Mine"),
    # Checkpoints, and the Hub that is not to be asked.
    (f"{MODELS} /nowhere/at/all", "no checkpoint folder at /nowhere/at/all"),
    (f"{MODELS} a/b/c", "no checkpoint folder at a/b/c; a model of the Hub is named OWNER/NAME"),
    (f"{MODELS} owner/name", "there is no folder owner/name, and the Hub's cache has no model of that name"),
    (f"{MODELS} vamba --model-args pretrained=owner/name", "HF_HUB_OFFLINE is set, so the Hub is not asked"),
    (f"{MODELS} qwen2_vl --model-args pretrained=EMPTY", "it holds no config.json"),
    (f"{MODELS} vamba --model-args pretrained=NO_CONFIG", "it holds no config.json"),
    (f"{MODELS} transformers --model-args pretrained=NO_WEIGHTS", "it holds no weights (*.safetensors, *.bin)"),
    (f"{MODELS} vamba --model-args pretrained=BAD_CONFIG", "its config.json cannot be read"),
    (f"{MODELS} qwen2_vl --model-args pretrained=TEXT", "no checkpoint folder at "),
    (f"{MODELS} qwen2_vl --model-args pretrained=", "pretrained= names no checkpoint: give a folder or a Hub id"),
    (f"{MODELS} qwen2_vl --model-args pretrained=a:b", "it is neither a folder nor a Hub id"),
    (f"{MODELS} vamba --model-args dtype=int3", "unknown dtype 'int3': use auto, bfloat16, float16 or float32"),
    (f"{MODELS} vamba --model-args attn_implementation=fast", "unknown attn_implementation 'fast': use sdpa,"),
    (f"{MODELS} vamba --model-args batch_size=x", "batch_size=x: it is a whole number from 1"),
    (f"{MODELS} qwen2_vl --model-args random=huge", "random is 'huge': use small or released"),
    (f"{MODELS} transformers --model-args trust_remote_code=maybe", "which is neither true nor false"),
    (f"{MODELS} transformers --model-args frames_as=vidoe", "frames_as is 'vidoe': use auto, video or images"),
    (f"{MODELS} transformers --model-args text_positions=x", "text_positions is 'x': use original or transformers"),
    (f"{MODELS} transformers --model-args thinking=maybe", "thinking is 'maybe', which is neither true nor false"),
    (f"{MODELS} transformers --model-args wrap=nothing", "wrap is 'nothing': write module:function, or the path"),
    (f"{MODELS} transformers --model-args wrap=/nowhere.py:f", "wrap=/nowhere.py:f: no such file: /nowhere.py"),
    (f"{RUN} --push-to-hub owner/name", "it needs a token (hf auth login, or the environment variable HF_TOKEN)"),
    (f"{RUN} --push-to-hub 'a b'", "--push-to-hub a b: write OWNER/NAME"),
    ("--tasks videomme --models random --data-root hub:owner/name", "not asked: the dataset owner/name cannot be"),
    # Adapters and tasks of somebody's own.
    (f"{MODELS} CODE/no_generate.py", "it defines none; Mine (line 3) lacks generate"),
    (f"{MODELS} CODE/syntax.py", "cannot be imported: SyntaxError: expected ':' (", "syntax.py, line 1)"),
    (f"{MODELS} CODE/unimportable.py", "No module named 'nothing_like_it' (", "unimportable.py, line 1)"),
    (f"{MODELS} CODE/exits.py", "exits.py cannot be imported: SystemExit: 4 (", "exits.py, line 1)"),
    (f"{MODELS} CODE/another_class.py", "none; Mine (line 1) inherits from no ModelAdapter and no ServedModel"),
    (f"{MODELS} CODE/task.py", "it defines none; Mine (line 4) is a Task: name it with --tasks"),
    (f"{TASKS} CODE/whole.py", "it defines none; Mine (line 3) is a Model: name it with --models"),
    (f"{MODELS} CODE/mistaken_init.py", "TypeError: unsupp", "_init.py, line 7)", "OUT/folder/tracebacks.log"),
    (f"{MODELS} CODE/broken_init.py", "RuntimeError: no such", "_init.py, line 7)", "OUT/folder/tracebacks.log"),
    (f"{MODELS} CODE/lost_init.py", "FileNotFoundError", "lost_init.py, line 7)", "OUT/folder/tracebacks.log"),
    (f"{MODELS} CODE/importing_init.py", "No module named 'nothing_like_it' (", "importing_init.py, line 7)"),
    (f"{MODELS} CODE/needs_path.py", "cannot be built with its defaults: it needs path=...; it takes path"),
    (f"{MODELS} CODE/undescribed.py", "cannot describe itself: AttributeError: ", "undescribed.py, line 7)"),
    (f"{TASKS} CODE/task_cannot_load.py", "mine: its annotations cannot be loaded: Zero", "load.py, line 8)"),
    (f"{TASKS} CODE/task_loads_none.py", "Mine.load should return a list of Videos, not a NoneType"),
    (f"{TASKS} CODE/task_loads_text.py", "Mine.load should return a list of Videos, not one with a str in it"),
    (f"{TASKS} CODE/task_cannot_ask.py", "the prompt of question 'q' at the video 'v' cannot be made", "line 11)"),
    (f"{TASKS} CODE/task_init.py", "cannot be built: ZeroDivisionError: division by zero (", "task_init.py, line 13)"),
    (f"{TASKS} CODE/task_unnamed.py", "the task Mine (line 4) has no name: give its class one, name = 'mine'"),
    (f"{TASKS} CODE/task_unscored.py", "it defines none; Mine (line 4) lacks score"),
    # Tables, comparisons, pages.
    ("leaderboard", "name at least one folder of runs"),
    ("leaderboard /nowhere", "no run at or below /nowhere: expected a folder with a run.json in it"),
    ("leaderboard EMPTY", "expected a folder with a run.json in it"),
    ("leaderboard BROKEN_RUN", "run.json cannot be read"),
    ("leaderboard RUNS --task-code CODE/exits.py", "exits.py cannot be imported: SystemExit: 4"),
    ("leaderboard RUNS --task-code nothing_like_it:Task", "No module named 'nothing_like_it'"),
    (f"{TABLES} --sort scor", "--sort 'scor' is not a column (did you mean 'score'?); there are run, model,"),
    (f"{TABLES} --columns scor", "no column 'scor' (did you mean 'score'?); there are run,"),
    (f"{TABLES} --where model=random", "it is written as 'num_frames >= 64 and model == ", "Columns: run, model,"),
    (f"{TABLES} --where '('", "--where '('", "Columns: run, model,"),
    (f"{TABLES} --format markdwn", "there is no 'markdwn' (did you mean 'markdown'?)"),
    (f"{TABLES} --format csv --long", "give one of them"),
    (f"{TABLES} --output TEXT", "a file is where a folder is to be"),
    ("rescore RUNS --task-code FOLDER --protocol vmba", "folder has no protocol 'vmba' (did you mean 'vamba'?)"),
    ("items", "name at least one folder of runs"),
    ("items RUNS --task-code FOLDER --list noone", "there is no 'noone' (did you mean 'none'?): there are none, all,"),
    ("compare RUNS", "required: RUN_B"),
    ("compare /nowhere RUNS", "no run at or below /nowhere"),
    ("compare RUNS:randm RUNS:random --task-code FOLDER", "has no model 'randm' (did you mean 'random'?); it has"),
    ("report /nowhere", "no run at or below /nowhere"),
    ("report RUNS --max-thumbnails -1", "--max-thumbnails is a number of clips, not -1"),
    ("report RUNS --task-code FOLDER -o EMPTY", "empty: Is a directory"),
    ("export RUNS", "required: --output"),
    ("export RUNS --task-code FOLDER --output OUT", "its authors define no file of responses; --format lmms"),
    ("export RUNS --task-code FOLDER --format lmms --output OUT", "there is no 'lmms' (did you mean 'lmms-eval'?)"),
    ("import-lmms /nowhere --output OUT", "no such file or folder: /nowhere"),
    ("import-lmms EMPTY --output OUT", "expected *_samples_<task>.jsonl"),
    ("import-lmms BAD_LOGS --output OUT", "samples_videomme.jsonl cannot be read: Expecting property"),
    # Judges.
    ("judge RUNS", "required: --judge-model"),
    (f"{JUDGE} --judge-model m --judge-requests 0", "--judge-requests must be positive, not 0"),
    (f"{JUDGE} --judge-model m --judge-timeout 0", "--judge-timeout must be a positive number of seconds, not 0"),
    (f"{JUDGE} --judge-model m --judge-price 1", "in dollars per million tokens, such as 0.5,1.5"),
    # Data.
    ("download videomme", "required: --data-root"),
    ("download videome --data-root OUT", "(did you mean 'videomme'?)"),
    ("download videomme --data-root hub:x", "download needs a folder, not hub:x: --data-root DIR"),
    ("download videomme,mlvu --data-root OUT --repo a/b", "--repo names the source of one benchmark, not of several"),
    ("download videomme --data-root OUT", "lmms-lab/Video-MME cannot be downloaded"),
    ("check videome --data-root DATA", "(did you mean 'videomme'?)"),
    ("check videomme --data-root /nowhere", "the data root /nowhere is not a directory"),
    ("check videomme --data-root DATA --split lng", "no split 'lng' (did you mean 'long'?)"),
    ("check videomme --data-root DATA --read-timeout 0", "must be positive, not 0"),
    ("check CODE/task_cannot_load.py --data-root DATA", "its annotations cannot be loaded: ZeroDivisionError"),
    # A video of one's own.
    ("ask", "required: VIDEO_OR_IMAGE"),
    ("ask /nowhere.mp4 what --model random", "no such file: /nowhere.mp4"),
    ("ask TEXT what --model random", "text.txt is not a video but plain text"),
    (f"{ASK} --model randm", "(did you mean 'random'?)"),
    (f"{ASK} --model vamba:pretrained=owner/name", "the Hub's cache has no model of that name"),
    (f"{ASK} --model vamba:pretrained=EMPTY", "it holds no config.json"),
    (f"{ASK} --model random --num-frames 0", "num_frames must be positive"),
    (f"{ASK} --model CODE/gives_text.py", "a list of 1 Answers, one a prompt, not a str (gives_text.py:6)"),
    (f"{ASK} --model CODE/fails.py", "fails: NameError: name 'nothing_of_the_kind'", "fails.py, line 6)"),
    # What models cost.
    (f"{PROFILE} --models randm", "(did you mean 'random'?)"),
    (f"{PROFILE} --frames many", "is neither a number of frames nor a range of them"),
    (f"{PROFILE} --size 640", "write WIDTHxHEIGHT in pixels, such as 640x360"),
    (f"{PROFILE} --phase prefil", "unknown phase 'prefil' (did you mean 'prefill'?)"),
    (f"{PROFILE} --repeats 0", "--repeats must be positive, not 0"),
    (f"{PROFILE} --find-longest nan", "'nan' is not a number"),
    (f"{PROFILE} --point-timeout 0", "--point-timeout must be a positive number of seconds, not 0"),
    (f"{PROFILE} --models vamba --dtype int3", "unknown dtype 'int3'"),
    (f"{PROFILE} --models vamba --model-args vamba:pretrained=EMPTY", "it holds no config.json"),
    ("profile --tables-only --output EMPTY", "holds no sweep (no sweep.json)"),
    # Training.
    ("train", "required: --stage, --from, --data, --output"),
    (f"{TRAIN} --stage one", "argument --stage: invalid int value: 'one'"),
    (f"{TRAIN} --data /nowhere.yaml", "--data /nowhere.yaml: no such file; it lists the data sets"),
    (f"{TRAIN} --output TEXT", "is a file, not a folder"),
    (TRAIN, "it holds no config.json"),
    (f"{TRAIN} --from owner/name", "the Hub's cache has no model of that name"),
    (f"{TRAIN} --model random", "the model 'random' cannot be trained"),
    (f"{TRAIN} --model openai", "the model 'openai' is served"),
    (f"{TRAIN} --learning-rate nan", "argument --learning-rate: 'nan' is not a number"),
]  # fmt: skip

# Runs that end with failed questions; status 1. The message is that of the questions.
FAILING = [
    (f"{MODELS} CODE/gives_text.py", "should give a list of 1 Answers, one a prompt, not a str (gives_text.py:6)"),
    (f"{MODELS} CODE/gives_none.py", "should give Answers with a text, not one whose text is None (gives_none.py:6)"),
    (f"{MODELS} CODE/fails.py", "NameError: name 'nothing_of_the_kind' is not defined (fails.py:6)"),
    (f"{MODELS} CODE/saw_what.py", "should say what it saw as a Seen, or None, not 3 (saw_what.py:7)"),
]


def words_of(command: str, places: dict[str, Path], out: Path) -> list[str]:
    words = shlex.split(command)
    for name, place in {**places, "OUT": out}.items():
        words = [
            word.replace(name, str(place), 1) if word.partition("=")[2] == name or _begins(word, name) else word
            for word in words
        ]
    return words


def _begins(word: str, name: str) -> bool:
    return word == name or word.startswith((f"{name}/", f"{name}:")) or word.endswith(f"={name}")


@pytest.mark.parametrize(("command", "said"), [(row[0], row[1:]) for row in ROWS], ids=[row[0] for row in ROWS])
def test_wrong_inputs_get_one_line(
    cli: Cli, places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, said: tuple[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # where a default of --output would go
    status, _, errors = cli(*words_of(command, places, tmp_path / "out"))
    assert status == 2 and "Traceback" not in errors, errors
    line = errors.splitlines()[-1]
    assert line.startswith("error: ") and errors.count("error: ") == 1, errors
    for part in said:
        assert part.replace("OUT", str(tmp_path / "out")) in line, line


@pytest.mark.parametrize(("command", "said"), FAILING)
def test_wrong_answers_fail_their_questions(
    cli: Cli, places: dict[str, Path], tmp_path: Path, command: str, said: str
) -> None:
    status, _, errors = cli(*words_of(command, places, tmp_path / "out"))
    assert status == 1 and "Traceback" not in errors, errors
    (records,) = (tmp_path / "out" / "folder").glob("*.jsonl")
    assert all(said in json.loads(line)["error"] for line in records.read_text().splitlines())
    kept = tmp_path / "out" / "folder" / "tracebacks.log"
    assert f"the tracebacks of what failed are in {kept}" in errors
    assert (
        kept.read_text().count("Traceback (most recent call last)") <= 2 and said.partition(" (")[0] in kept.read_text()
    )
