"""Every door by which a checkpoint could run code of its own, through everything here that loads one.

Code planted behind each door writes a marker. Afterwards there is none, nothing was asked on the terminal, and the
checkpoint either works or is refused in one line.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_checkpoint import write_checkpoint
from vamba_eval.model_adapters import _templates
from vamba_eval.model_adapters.vamba import starts
from vamba_eval.model_adapters.vamba.modeling import VambaForConditionalGeneration
from vamba_eval.model_adapters.vamba.processing import VambaProcessor
from vamba_eval.model_adapters.vamba_small import FOLDER as VAMBA

from vamba_eval import load_adapter
from vamba_eval.contracts import Clip, GenerationSettings, ModelAdapter, UserError

pytestmark = pytest.mark.usefixtures("one_thread")
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("qwen"))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Somebody who would say yes to everything, at the terminal or by a pipe."""
    said = io.StringIO("y\n" * 100)
    monkeypatch.setattr("sys.stdin", said)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked on the terminal"))
    yield said
    assert said.tell() == 0, "it took an answer"


class Planted:
    """A checkpoint's folder to be tampered with, and the marker that code in it would leave."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.marker = folder, folder.parent / "marker"

    def change(self, name: str, **values: Any) -> None:
        path = self.folder / name
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(known | values))

    def code(self, name: str, *classes: str) -> None:
        """A module that leaves the marker when it is run, with classes to be named by an auto_map."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"open({str(self.marker)!r}, 'w').write('ran')", "import transformers"]
        lines += [f"class Theirs{each}(transformers.{each}): pass" for each in classes]
        path.write_text("\n".join([*lines, "def generate(*_, **__): pass", ""]))

    def bomb(self) -> Any:
        marker = str(self.marker)

        class Bomb:
            def __reduce__(self) -> Any:
                return os.mkdir, (marker,)

        return Bomb()

    def without_weights(self) -> dict[str, torch.Tensor]:
        from safetensors.torch import load_file

        (file,) = self.folder.glob("*.safetensors")
        weights = load_file(file)
        file.unlink()
        return weights


Door = Callable[[Planted], None]
DOORS: dict[str, Door] = {}


def door(function: Door) -> Door:
    DOORS[function.__name__] = function
    return function


# ------------------------------------------------------------------------------------------- modules of its own


@door
def auto_map_of_the_configuration(p: Planted) -> None:
    p.code("theirs.py", "Qwen2VLConfig", "Qwen2VLForConditionalGeneration")
    model = "theirs.TheirsQwen2VLForConditionalGeneration"
    autos = ("AutoModel", "AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForMultimodalLM")
    p.change("config.json", auto_map={"AutoConfig": "theirs.TheirsQwen2VLConfig", **dict.fromkeys(autos, model)})


@door
def auto_map_of_an_unknown_type(p: Planted) -> None:
    auto_map_of_the_configuration(p)
    p.change("config.json", model_type="theirs_alone", architectures=["TheirsAlone"])


@door
def auto_map_of_another_repository(p: Planted) -> None:
    p.change("config.json", auto_map={"AutoConfig": "some/where--theirs.C", "AutoModel": "some/where--theirs.M"})
    p.change("tokenizer_config.json", auto_map={"AutoTokenizer": ["some/where--theirs.T", None]})


@door
def auto_map_within_the_configuration(p: Planted) -> None:
    p.code("theirs.py", "Qwen2VLConfig")
    config = json.loads((p.folder / "config.json").read_text())
    inner = {"auto_map": {"AutoConfig": "theirs.TheirsQwen2VLConfig", "AutoModel": "theirs.TheirsQwen2VLConfig"}}
    for name in ("text_config", "vision_config"):
        if name in config:
            p.change("config.json", **{name: config[name] | inner})


@door
def auto_map_of_the_tokenizer(p: Planted) -> None:
    p.code("theirs.py", "PreTrainedTokenizerFast")
    name = "theirs.TheirsPreTrainedTokenizerFast"
    p.change("tokenizer_config.json", auto_map={"AutoTokenizer": [name, name]})


@door
def a_tokenizer_class_of_its_own(p: Planted) -> None:
    auto_map_of_the_tokenizer(p)
    p.change("tokenizer_config.json", tokenizer_class="TheirsPreTrainedTokenizerFast")
    p.code("tokenization_theirs.py", "PreTrainedTokenizerFast")


@door
def a_tokenizer_class_of_an_unknown_type(p: Planted) -> None:
    a_tokenizer_class_of_its_own(p)
    p.change("config.json", model_type="theirs_alone", tokenizer_class="TheirsPreTrainedTokenizerFast")


@door
def auto_map_of_the_processor(p: Planted) -> None:
    p.code("theirs.py", "Qwen2VLProcessor")
    own = {"processor_class": "TheirsQwen2VLProcessor", "auto_map": {"AutoProcessor": "theirs.TheirsQwen2VLProcessor"}}
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json", "config.json"):
        p.change(name, **own)


@door
def auto_map_of_what_processes_pictures(p: Planted) -> None:
    p.code("theirs.py", "Qwen2VLImageProcessor", "Qwen2VLVideoProcessor", "FeatureExtractionMixin")
    own = {
        "image_processor_type": "TheirsQwen2VLImageProcessor",
        "video_processor_type": "TheirsQwen2VLVideoProcessor",
        "feature_extractor_type": "TheirsFeatureExtractionMixin",
        "auto_map": {
            "AutoImageProcessor": "theirs.TheirsQwen2VLImageProcessor",
            "AutoVideoProcessor": "theirs.TheirsQwen2VLVideoProcessor",
            "AutoFeatureExtractor": "theirs.TheirsFeatureExtractionMixin",
        },
    }
    for name in ("preprocessor_config.json", "video_preprocessor_config.json", "config.json"):
        p.change(name, **own)
    nested = dict.fromkeys(("image_processor", "video_processor", "feature_extractor"), own)
    p.change("processor_config.json", **nested)


@door
def a_generate_of_its_own(p: Planted) -> None:
    p.code("custom_generate/generate.py")
    (p.folder / "custom_generate" / "requirements.txt").write_text("no-such-package-at-all\n")
    p.change("generation_config.json", custom_generate=str(p.folder), trust_remote_code=True)


@door
def a_generate_that_its_configuration_names(p: Planted) -> None:
    p.code("custom_generate/generate.py")
    for name in ("assistant", "prompt_lookup_num_tokens", "cache_implementation", "penalty_alpha"):
        p.change("generation_config.json", **{name: "some/where"})
    p.change("generation_config.json", num_beams=2, num_beam_groups=2, diversity_penalty=1.0)


# ------------------------------------------------------------------------------------------------------ kernels


@door
def attention_by_the_name_of_a_kernel(p: Planted) -> None:
    config = json.loads((p.folder / "config.json").read_text())
    names = ("_attn_implementation", "attn_implementation", "_attn_implementation_internal", "_experts_implementation")
    own = {**dict.fromkeys(names, "some/kernel:f"), "use_kernels": True}
    inner = {name: config[name] | own for name in ("text_config", "vision_config") if name in config}
    p.change("config.json", **own, **inner)


@door
def kernels_of_a_configuration(p: Planted) -> None:
    mapping = {"RMSNorm": "some/kernel:RMSNorm", "Qwen2RMSNorm": {"cuda": "some/kernel:RMSNorm"}}
    p.change("config.json", use_kernels=True, kernel_config={"kernel_mapping": mapping}, kernel_mapping=mapping)


# ------------------------------------------------------------------------------------------------------ weights


@door
def weights_as_a_pickle(p: Planted) -> None:
    p.without_weights()
    with open(p.folder / "pytorch_model.bin", "wb") as file:
        pickle.dump({"model.embed_tokens.weight": p.bomb()}, file)


@door
def weights_as_a_pickle_of_torch(p: Planted) -> None:
    weights = p.without_weights()
    torch.save({**weights, "theirs": p.bomb()}, p.folder / "pytorch_model.bin")


@door
def an_index_of_pickles(p: Planted) -> None:
    weights = p.without_weights()
    torch.save({**weights, "theirs": p.bomb()}, p.folder / "part.bin")
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(weights, "part.bin")}
    for name in ("pytorch_model.bin.index.json", "model.safetensors.index.json"):
        (p.folder / name).write_text(json.dumps(index))


@door
def a_pickle_called_safetensors(p: Planted) -> None:
    p.without_weights()
    with open(p.folder / "model.safetensors", "wb") as file:
        pickle.dump({"x": p.bomb()}, file)


@door
def weights_that_the_configuration_names(p: Planted) -> None:
    weights = p.without_weights()
    torch.save({**weights, "theirs": p.bomb()}, p.folder / "adapter_model.bin")
    p.change("config.json", transformers_weights="adapter_model.bin")


@door
def an_adapter_beside_the_weights(p: Planted) -> None:
    (p.folder / "theirs_library.py").write_text(f"open({str(p.marker)!r}, 'w')\n")
    torch.save({"base_model.model.x.lora_A.weight": p.bomb()}, p.folder / "adapter_model.bin")
    about = {"base_model_class": "TheirsModel", "parent_library": "theirs_library"}
    values = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "target_modules": ["q_proj"], "lora_alpha": 2}
    p.change("adapter_config.json", **values, base_model_name_or_path=str(p.folder), auto_mapping=about)


@door
def an_adapter_in_the_place_of_weights(p: Planted) -> None:
    p.without_weights()
    other = p.folder.parent / "other"
    shutil.copytree(p.folder, other)
    p.code("theirs.py", "Qwen2VLConfig", "Qwen2VLForConditionalGeneration")
    shutil.move(p.folder / "theirs.py", other / "theirs.py")
    with open(other / "pytorch_model.bin", "wb") as file:
        pickle.dump(p.bomb(), file)
    an_adapter_beside_the_weights(p)
    p.change("adapter_config.json", base_model_name_or_path=str(other))


def an_index_to(place: str) -> Door:
    def plant(p: Planted) -> None:
        from safetensors.torch import save_file

        weights = p.without_weights()
        save_file(weights, p.folder.parent / "elsewhere.safetensors", metadata={"format": "pt"})
        (p.folder / "inner").mkdir()
        name = place.format(folder=p.folder)
        index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(weights, name)}
        (p.folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return plant


ELSEWHERE = ("../elsewhere.safetensors", "inner/../../elsewhere.safetensors", "{folder}/../elsewhere.safetensors")
DOORS |= {f"an index to {place}": an_index_to(place) for place in ELSEWHERE}


@door
def gguf(p: Planted) -> None:
    p.without_weights()
    (p.folder / "model.gguf").write_bytes(b"GGUF\x03\0\0\0" + bytes(64))


METHODS = (
    *("gptq", "awq", "aqlm", "bitsandbytes", "bitsandbytes_8bit", "quanto", "eetq", "hqq", "compressed-tensors"),
    *("fbgemm_fp8", "torchao", "bitnet", "vptq", "spqr", "fp8", "auto-round", "mxfp4", "quark", "theirs"),
)


def quantised(method: str) -> Door:
    def plant(p: Planted) -> None:
        odd = {"quant_method": method, "bits": 4, "group_size": 8, "modules_to_not_convert": ["theirs"]}
        odd |= {"quant_type": {"default": {"_type": "os.system", "_data": {"command": f"touch {p.marker}"}}}}
        odd |= {"custom_mode": "theirs", "quant_library": "theirs_library"}
        (p.folder / "theirs_library.py").write_text(f"open({str(p.marker)!r}, 'w')\n")
        p.change("config.json", quantization_config=odd, compression_config=odd)

    return plant


DOORS |= {f"quantised by {method}": quantised(method) for method in METHODS}


# ------------------------------------------------------------------------------------------------------ loaders

SMALL = {"device": "cpu", "dtype": "float32"}


def used(adapter: ModelAdapter) -> None:
    """As far as a run goes: a clip, a question, an answer."""
    import numpy as np

    clip = Clip(np.zeros((2, 56, 56, 3), np.uint8), np.arange(2.0), np.arange(2), 1.0, 2.0)
    (answer,) = adapter.generate(adapter.encode(clip), ["What?"], GenerationSettings(max_new_tokens=2))
    assert answer.num_tokens


def adapter(name: str) -> Callable[[Path], None]:
    return lambda folder: used(load_adapter(name, pretrained=str(folder), **SMALL))  # type: ignore[arg-type]


LOADERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "transformers": ("qwen", adapter("transformers")),
    "qwen2_vl": ("qwen", adapter("qwen2_vl")),
    "vamba": ("vamba", adapter("vamba")),
    "training on": ("vamba", lambda folder: starts.load(str(folder), VambaForConditionalGeneration, 0)),
    "training from": ("qwen", lambda folder: starts.load(str(folder), VambaForConditionalGeneration, 0)),
    "the class": ("vamba", lambda folder: VambaForConditionalGeneration.from_pretrained(folder)),
    "the processor": ("vamba", lambda folder: VambaProcessor.from_pretrained(folder)),
    "teacher": ("qwen", lambda folder: starts.load_qwen2_vl(str(folder))),
}


@pytest.fixture
def theirs_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint's folder as the current one, where Python may look for modules; and the library of kernels."""
    monkeypatch.syspath_prepend(str(tmp_path / "checkpoint"))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))

    def get_kernel(*_: Any, **__: Any) -> Any:
        (tmp_path / "marker").touch()
        return types.SimpleNamespace()

    kernels = types.ModuleType("kernels")
    kernels.get_kernel = kernels.load_kernel = kernels.get_local_kernel = get_kernel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kernels", kernels)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def planted(tmp_path: Path, qwen: Path) -> Callable[[str], Planted]:
    def plant(kind: str) -> Planted:
        shutil.copytree(qwen if kind == "qwen" else VAMBA, tmp_path / "checkpoint")
        return Planted(tmp_path / "checkpoint")

    return plant


@pytest.mark.usefixtures("terminal", "theirs_can_be_imported")
@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("name", DOORS)
def test_no_door_opens(name: str, loader: str, planted: Callable[[str], Planted]) -> None:
    kind, load = LOADERS[loader]
    p = planted(kind)
    DOORS[name](p)
    # The classes that stand for themselves raise what transformers' raise.
    refusals = (UserError,) if not loader.startswith("the ") else (Exception,)
    try:
        load(p.folder)
    except refusals as error:
        said = str(error)
        if refusals == (UserError,):
            assert "\n" not in said and str(p.folder) in said
            assert "custom code" not in said or ("trust_remote_code=true" in said and "auto_map in" in said)
    else:
        assert name not in REFUSED or loader in REFUSED[name], "it was loaded"
    assert not p.marker.exists()
    assert "theirs_library" not in sys.modules and "theirs" not in sys.modules


# What must not be loaded at all, and by which loaders it is all the same: those that read no weights, or no more.
_ALONE = ("the class", "the processor")
REFUSED = {
    **dict.fromkeys(("weights_as_a_pickle", "weights_as_a_pickle_of_torch", "an_index_of_pickles"), ("the processor",)),
    **dict.fromkeys(("a_pickle_called_safetensors", "weights_that_the_configuration_names"), ("the processor",)),
    **dict.fromkeys(("attention_by_the_name_of_a_kernel", "an_adapter_beside_the_weights"), _ALONE),
    **{f"an index to {place}": _ALONE for place in ELSEWHERE},
}


@pytest.mark.parametrize("loader", ["training on", "training from"])
def test_training_begins_with_no_quantised_weights(loader: str, planted: Callable[[str], Planted]) -> None:
    kind, load = LOADERS[loader]
    p = planted(kind)
    DOORS["quantised by fp8"](p)
    with pytest.raises(UserError, match=r"is quantised \(quantization_config in its config.json\)"):
        load(p.folder)


@pytest.mark.usefixtures("terminal", "theirs_can_be_imported")
@pytest.mark.parametrize("name", ["auto_map_of_an_unknown_type", "a_tokenizer_class_of_its_own", "weights_as_a_pickle"])
def test_a_question_opens_none_either(name: str, planted: Callable[[str], Planted], cli: Cli) -> None:
    p = planted("qwen")
    DOORS[name](p)
    Image.new("RGB", (56, 56)).save(p.folder.parent / "picture.png")
    status, _, err = cli("ask", p.folder.parent / "picture.png", "What?", "--model", p.folder, "--max-new-tokens", 2)
    assert status in (0, 2) and "Traceback" not in err and not p.marker.exists()
    assert status == 0 or err.startswith(f"error: the checkpoint {p.folder} cannot be loaded: ")


def test_code_that_is_trusted_is_run(planted: Callable[[str], Planted], tmp_path: Path) -> None:
    """So that the marker tells anything at all."""
    p = planted("qwen")
    auto_map_of_what_processes_pictures(p)
    with suppress(UserError):
        load_adapter("transformers", pretrained=str(p.folder), trust_remote_code=True, **SMALL)  # type: ignore[arg-type]
    assert p.marker.exists()


# --------------------------------------------------------------------------------------------------- templates

_GLOBALS = ("cycler.__init__", "joiner.__init__", "namespace.__init__", "lipsum", "raise_exception", "strftime_now")
_LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
_POWER = "{{ 7 ** (7 ** 12) }}"
_DOUBLED = (
    "{% set n = namespace(x='x' * 999999) %}{% for a in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}"
)
TEMPLATES = {
    **{f"{{{{ {name}.__globals__['os'].mkdir('MARKER') }}}}": "" for name in _GLOBALS},
    **{f"{{{{ {name}.__globals__.__builtins__.open('MARKER', 'w') }}}}": "" for name in _GLOBALS},
    "{{ ''.__class__.__mro__[1].__subclasses__()[100]('MARKER', 'w') }}": "",
    "{{ (''|attr('__class__')|attr('__mro__'))[1].__subclasses__() }}": "",
    "{{ '{0.__class__.__init__.__globals__}'.format(cycler) }}": "",
    "{{ ['{0.__class__.__mro__}']|map('format', messages)|list }}": "",
    "{{ self.__init__.__globals__.os.mkdir('MARKER') }}": "",
    "{% include 'MARKER' %}": "",
    "{% import 'os' as os %}{{ os.mkdir('MARKER') }}": "",
    "{{ messages.append(1) }}": "",
    "{% for": "",
    "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}": "recursion",
    "{% for a in range(10 ** 9) %}{% endfor %}": "Range too big",
    _LOOP: "gave no text within 1 s",
    _POWER: "",
    "{{ 'x' * 30000000 }}": "more than 16 MiB of text",
    "{{ 'x' * 10 ** 11 }}": "more than 1024 MiB of memory",
    "{{ '%99999999999d' % 1 }}": "",
    "{{ 'x'.ljust(10 ** 11) }}": "more than 1024 MiB of memory",
    _DOUBLED: "more than 1024 MiB of memory",
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_reaches_nothing_and_ends(
    template: str, planted: Callable[[str], Planted], monkeypatch: pytest.MonkeyPatch
) -> None:
    if template in (_LOOP, _POWER):  # others end by themselves, on a slow machine not within a second
        monkeypatch.setattr(_templates, "_CPU_S", 1)
    p = planted("qwen")
    right = "{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}"
    for file in p.folder.glob("*.jinja"):
        file.unlink()
    p.change("tokenizer_config.json", chat_template=template.replace("MARKER", str(p.marker)) + right)
    start = time.monotonic()
    with pytest.raises(UserError, match=f"its chat template fails: .*{TEMPLATES[template]}") as caught:
        load_adapter("transformers", pretrained=str(p.folder), frames_as="video", **SMALL)  # type: ignore[arg-type]
    assert time.monotonic() - start < 40 and "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    assert not p.marker.exists()
