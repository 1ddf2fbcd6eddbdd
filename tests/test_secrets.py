"""Keys and tokens are in nothing that is written, said or sent, wherever they come from."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from benchmark_files import dream1k_rows, longvideobench_rows, write_dream1k, write_longvideobench
from judge_server import Reply, judge_server
from test_sharing import Hub, hub  # noqa: F401 - a fixture

from vamba_eval import secrets
from vamba_eval.contracts import UserError
from vamba_eval.exchange.share import to_hub
from vamba_eval.secrets import holds_secret, keep_secret, without_named, without_secrets
from vamba_eval.store.records import Record
from vamba_eval.store.runs import RecordFile, Run

Cli = Callable[..., tuple[int, str, str]]
_VARIABLES = (
    *("OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY"),
    *("AWS_SECRET_ACCESS_KEY", "MY_LAB_PASSWORD", "HUGGING_FACE_HUB_TOKEN"),
)
OF_ENVIRONMENT = {name: f"planted<{number}>&{name.lower()}" for number, name in enumerate(_VARIABLES)}
ARGUMENT, PASSWORD = "planted_sk-of-an-argument", "planted-of-a-url"

ADAPTER = '''"""Repeater: says all that it knows, as no adapter should."""
import os
from vamba_eval.contracts import Answer, ModelAdapter

class Repeater(ModelAdapter):
    name = "repeater"
    reads_video = False

    def __init__(self, api_key="", token="", url="", broken=""):
        if broken:
            raise ValueError(f"cannot log in with {api_key}")
        self.said = {"api_key": api_key, "token": token, "url": url, "headers": {"Authorization": f"Bearer {api_key}"}}
        self.asked = 0
        self.all = " ".join([api_key, url, *(v for n, v in os.environ.items() if v.startswith("planted"))])

    def describe(self):
        return {**self.said, "trained_on": f"what {self.all} gives"}

    def encode(self, clip):
        return None

    def generate(self, encoded, prompts, settings):
        self.asked += 1
        if self.asked % 2:
            raise RuntimeError(f"401 for {self.all}")
        return [Answer(f"A {self.all}", thinking=self.all)]
'''


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in OF_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(secrets, "_told", set())
    yield


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    (tmp_path / "repeater.py").write_text(ADAPTER)
    return tmp_path / "repeater.py"


def leaks(*places: Path | str | bytes) -> list[str]:
    """Where "planted" stands, the names of the files or the text around it."""
    found = []
    for place in places:
        files = [path for path in place.rglob("*") if path.is_file()] if isinstance(place, Path) else []
        for name, content in [*((str(file), file.read_bytes()) for file in files), ("said", place)]:
            content = content.encode() if isinstance(content, str) else content
            if isinstance(content, bytes) and b"planted" in content:
                at = content.index(b"planted")
                found.append(f"{name}: {content[max(0, at - 60) : at + 60]!r}")
    return found


def command(adapter: Path, root: Path) -> tuple[object, ...]:
    write_longvideobench(root, longvideobench_rows(12))
    url = f"url=https://user:{PASSWORD}@example.org/v1"
    arguments = f"m:api_key={ARGUMENT},token={ARGUMENT}-too,{url}"
    common = ("--tasks", "longvideobench", "--models", f"m={adapter}", "--data-root", root, "--model-args", arguments)
    return (*common, "--output", root / "runs", "--name", "mine")


def test_a_run_and_all_that_is_made_of_it(cli: Cli, adapter: Path, tmp_path: Path) -> None:
    status, out, err = cli(*command(adapter, tmp_path))
    assert status == 1, err  # some questions fail
    info = json.loads((tmp_path / "runs" / "mine" / "run.json").read_text())
    assert info["models"]["m"]["api_key"] == "***" and "401 for ***" in out
    (records,) = (tmp_path / "runs" / "mine").glob("*.jsonl")
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    assert {line["error"] is None for line in lines} == {True, False}, "both were put to the test"
    said, results = [out, err], tmp_path / "runs"
    for more in (
        ("leaderboard", results, "--output", tmp_path / "out"),
        *(("leaderboard", results, "--format", form) for form in ("csv", "json", "latex")),
        ("report", results, "-o", tmp_path / "out" / "page.html"),
        ("export", results, "--format", "lmms-eval", "--output", tmp_path / "out"),
        ("items", results, "--output", tmp_path / "out"),
    ):
        said += cli(*more)[1:]
    assert leaks(tmp_path / "runs", tmp_path / "out", *said) == []
    again = cli(*command(adapter, tmp_path))
    assert again[0] == 1 and leaks(*again[1:]) == [], "and it goes on: hidden arguments are no others"


def test_a_model_that_cannot_be_built(cli: Cli, adapter: Path, tmp_path: Path) -> None:
    write_longvideobench(tmp_path, longvideobench_rows(2))
    common = (
        "--tasks",
        "longvideobench",
        "--models",
        f"m={adapter}",
        "--data-root",
        tmp_path,
        "--output",
        tmp_path / "r",
    )
    for key in (ARGUMENT, "short"):
        status, out, err = cli(*common, "--output", tmp_path / "r", "--model-args", f"m:api_key={key},broken=1")
        assert status == 2 and leaks(out, err, tmp_path / "r") == []
        assert "api_key=***" in err and "cannot be built" in err


def test_a_judge_that_repeats_the_key(cli: Cli, tmp_path: Path) -> None:
    from test_judging import Describer

    from vamba_eval import evaluate

    write_dream1k(tmp_path, dream1k_rows(1))
    evaluate(["dream1k"], [Describer()], data_root=tmp_path, output=tmp_path / "runs", progress=False)
    key = OF_ENVIRONMENT["OPENAI_API_KEY"]
    long = f"{'x' * 280}{key}"  # cut at 300 characters, a half of it would be no longer known
    for reply in (
        Reply(f"the key is {key}"),
        Reply(status=400, error=long),
        Reply(status=401, error=f"wrong key {key}"),
        Reply(refusal=f"not with {key}"),
        Reply(raw=json.dumps({"odd": long}).encode()),
    ):
        with judge_server(lambda _, reply=reply: reply) as server:  # type: ignore[misc]
            options = ("--judge-model", "j", "--judge-url", server.url, "--judge-cache", tmp_path / "cache")
            status, out, err = cli("judge", tmp_path / "runs", *options)
        assert server.keys[0] == f"Bearer {key}", "it was sent"
        assert status in (1, 2) and leaks(tmp_path / "runs", tmp_path / "cache", out, err) == []


def test_an_endpoint_that_repeats_the_key(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that stands in a variable of any name."""
    write_longvideobench(tmp_path, longvideobench_rows(6))
    monkeypatch.setenv("WHATEVER", "planted-in-a-variable-of-any-name")
    key = os.environ["WHATEVER"]
    replies = iter([Reply(f"A {key}"), Reply(status=400, error=f"{'x' * 280}{key}")] * 50)
    with judge_server(lambda _: next(replies)) as server:
        arguments = f"openai:model=m,url={server.url},key_env=WHATEVER,retries=0,concurrency=1"
        common = ("--tasks", "longvideobench", "--models", "openai", "--data-root", tmp_path, "--blind")
        status, out, err = cli(*common, "--model-args", arguments, "--output", tmp_path / "runs")
    assert server.keys and set(server.keys) == {f"Bearer {key}"}
    assert status == 1 and leaks(tmp_path / "runs", out, err) == []


def test_wandb_is_told_none(adapter: Path, tmp_path: Path) -> None:
    """In a process of its own, whose command line the library would log."""
    offline = {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path / "wandb"),
        "WANDB_CACHE_DIR": str(tmp_path / "cache"),
    }
    (tmp_path / "wandb").mkdir()
    program = Path(__file__).resolve().parent.parent / "run_eval.py"
    arguments = [sys.executable, str(program), *map(str, command(adapter, tmp_path)), "--wandb", "lab/videos"]
    others = {name: value for name, value in os.environ.items() if name != "WANDB_API_KEY"}
    environment = {**others, **offline, "WANDB_DATA_DIR": f"{tmp_path}/data"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert "Logged: offline" in done.stdout, done.stderr
    assert len(list((tmp_path / "wandb").rglob("run-*.wandb"))) == 1
    places = [tmp_path / name for name in ("wandb", "cache", "data", "runs")]
    assert leaks(*places, done.stdout, done.stderr) == []


def test_a_file_of_an_earlier_version_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"models": {"m": {"key": OF_ENVIRONMENT["HF_TOKEN"]}}}))
    with pytest.raises(UserError, match=r"run\.json holds a key"):
        to_hub(tmp_path, "lab/runs")


def test_what_is_no_secret_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "parallelism-1")
    monkeypatch.setenv("HF_TOKEN_PATH", "/home/token-1")
    monkeypatch.setenv("LOCAL_API_KEY", "EMPTY")
    text = "the secret is EMPTY, parallelism-1, /home/token-1, num_tokens=5, api_key"
    assert without_secrets(text) == text
    asked: dict[str, Any] = {"image_token": "<image>", "num_tokens": 5, "token": True, "tasks": {"secret": {"a": 1}}}
    assert without_named(asked) == asked
    record = Record("q", "v", [], None, {"secret": "yes", "token": "no"}, 0, response="token: abc, password=swordfish")
    with closing(RecordFile(tmp_path / "t.m.jsonl")) as file:
        file.append(record)
    assert json.loads((tmp_path / "t.m.jsonl").read_text()).items() >= {("response", record.response)}
    assert json.loads((tmp_path / "t.m.jsonl").read_text())["groups"] == record.groups


def test_every_form_of_a_secret_goes() -> None:
    keep_secret('planted "quoted" <&> é/key')
    for text in ("planted &quot;quoted&quot; &lt;&amp;&gt; é/key", json.dumps('planted "quoted" <&> é/key')):
        assert leaks(without_secrets(text)) == []
    assert without_secrets(["https://user:planted@host/v1", ("a", {"planted": 1})]) == [
        "https://***@host/v1",
        ("a", {"planted": 1}),
    ]
    hidden = without_named({"API-Key": "x", "hf_token": "y", "nested": [{"Authorization": "Bearer z"}], "url": "u"})
    assert hidden == {"API-Key": "***", "hf_token": "***", "nested": [{"Authorization": "***"}], "url": "u"}


def test_encoded_and_split_secrets_go_too() -> None:
    key = "planted-sk-4711/ä?"
    keep_secret(key)
    data = key.encode()
    encodings = [data.hex(), data.hex().upper(), json.dumps(key), json.dumps(key, ensure_ascii=False), repr(key)]
    encodings += [quote(key), quote(key, safe=""), quote_plus(key)]
    for before in (b"", b"u", b"us", b"user:"):
        for behind in (b"", b"!", b"!!"):
            encodings += [way(before + data + behind).decode() for way in (base64.b64encode, base64.urlsafe_b64encode)]
    for text in encodings:
        said = without_secrets(f"401: {text}, says the endpoint")
        assert "***" in said and said.startswith("401: ") and said.endswith(", says the endpoint"), said
        # What stands at the edges is made of others' bytes too, and tells at most a byte of the key.
        assert len(said) <= len("401: ***, says the endpoint") + 20, said
    for between in ("\n", " ", "\r\n  ", "\u200b", "\\n"):
        assert without_secrets(f"it is {key[:7]}{between}{key[7:]}.") == "it is ***."
    assert holds_secret(b"x" + base64.b64encode(data)) and not holds_secret(b"planted")
    assert without_secrets("a planted tree, sk 4711") == "a planted tree, sk 4711"


def test_names_and_places_of_secrets() -> None:
    told = ["apiKey", "x-api-key", "accessToken", "OPENAI_KEY", "client_secret", "private_key", "proxy_authorization"]
    told += ["refresh_token", "passphrase", "credentials", "hf_token"]
    kept = ["key_env", "sort_key", "image_token", "max_tokens", "tokenizer", "keys", "secretary", "author"]
    asked = dict.fromkeys([*told, *kept], "x")
    assert [name for name, value in without_named(asked).items() if value == "***"] == told
    url = "https://host/v1?api-version=3&api-key=abc&sig=d%2Fe#x"
    assert without_secrets(f"GET {url} failed") == "GET https://host/v1?api-version=3&api-key=***&sig=***#x failed"


def test_a_command_with_a_mistake_says_none(cli: Cli, tmp_path: Path) -> None:
    common = ("--tasks", "longvideobench", "--output", tmp_path / "r")
    for words in (
        ("--models", "m=openai", "--model-args", f"m:api_key={ARGUMENT},oops"),
        ("--models", "m=openai", "--model-args", "m:api_key=sk,planted"),
        ("--models", "openai", "--model-args", f"openai:model=m,api_key={ARGUMENT}"),
        ("--models", "openai", "--model-args", f"openai:model=m,url=https://h/v1?key={ARGUMENT},budget=no"),
        ("--models", f"openai:api_key={ARGUMENT}"),
        ("--api-key", ARGUMENT),
        (f"--hf-token={ARGUMENT}",),
        ("--debug", "--models", "m=openai", "--model-args", f"m:api_key={ARGUMENT},oops"),
    ):
        try:
            status, out, err = cli(*common, *words)
        except UserError as error:  # of --debug
            status, out, err = 2, "", str(error)
        assert status == 2 and leaks(out, err, tmp_path) == [], words


def test_a_traceback_shows_none() -> None:
    program = Path(__file__).resolve().parent.parent / "run_eval.py"
    done = subprocess.run([sys.executable, program, "--debug", "--api-key", ARGUMENT], capture_output=True, text=True)
    assert "Traceback" in done.stderr and "no option --api-key" in done.stderr
    assert leaks(done.stdout, done.stderr) == []


def test_a_judge_that_encodes_or_splits_the_key(cli: Cli, tmp_path: Path) -> None:
    from test_judging import Describer

    from vamba_eval import evaluate

    write_dream1k(tmp_path, dream1k_rows(1))
    evaluate(["dream1k"], [Describer()], data_root=tmp_path, output=tmp_path / "runs", progress=False)
    key = OF_ENVIRONMENT["OPENAI_API_KEY"]
    encoded = base64.b64encode(f"Bearer {key}".encode()).decode()
    for said in (encoded, f"{key[:9]}\n{key[9:]}"):
        for reply in (Reply(f"it is {said}"), Reply(status=400, error=said), Reply(refusal=said)):
            with judge_server(lambda _, reply=reply: reply) as server:  # type: ignore[misc]
                options = ("--judge-model", "j", "--judge-url", server.url, "--judge-cache", tmp_path / "cache")
                _, out, err = cli("judge", tmp_path / "runs", *options)
            assert leaks(tmp_path / "runs", tmp_path / "cache", out, err) == []
            written = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
            assert not any(encoded[12:40].encode() in content for content in [*written, out.encode(), err.encode()])


def test_a_run_that_was_begun_with_its_key_written_down_goes_on_without(tmp_path: Path) -> None:
    counts = {"videos": 1, "questions": 1}
    with Run(tmp_path / "run", {"hardware": {}}) as run:
        run.register_task("t", {"protocol": "vamba"}, counts, [f"defect {OF_ENVIRONMENT['HF_TOKEN']}"])
        run.register_model("m", {"adapter": "x", "api_key": "k"})
        run.records("t", "m").append(Record("q", "v", [], None, {}, 0, response="A"))
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    info["models"]["m"]["api_key"] = "planted as it was"
    (tmp_path / "run" / "run.json").write_text(json.dumps(info))
    with Run(tmp_path / "run", {"hardware": {}}) as run:
        run.register_model("m", {"adapter": "x", "api_key": "another"})
    assert leaks(tmp_path / "run") == []


@pytest.mark.usefixtures("hub")
def test_the_hub_is_sent_none(adapter: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    endpoint = request.getfixturevalue("hub")
    program = Path(__file__).resolve().parent.parent / "run_eval.py"
    arguments = [sys.executable, str(program), *map(str, command(adapter, tmp_path)), "--push-to-hub", "lab/runs"]
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_test", "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert "Uploaded" in done.stdout, done.stderr
    assert Hub.files and leaks(*Hub.files.values(), done.stdout, done.stderr) == []


def test_what_an_endpoint_is_told_by_its_url_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded, as HTTP sends it, or by itself."""
    monkeypatch.setattr(secrets, "_told", set())
    url = "https://user:hunt%40er7@host/v1?code=qsecretvalue99"  # pragma: allowlist secret
    secrets.keep_secrets_of(f"{url}&api-version=2024-02-01")
    sent = base64.b64encode(b"user:hunt@er7").decode()
    said = without_secrets(f"Basic {sent}, hunt@er7, hunt%40er7, qsecretvalue99 on 2024-02-01")
    assert said == "Basic ***, ***, ***, *** on 2024-02-01"


@pytest.mark.parametrize("verb", ["run", "judge"])
def test_a_password_that_an_endpoint_repeats_is_written_nowhere(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(secrets, "_told", set())
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    sent = base64.b64encode(b"user:hunt@er7").decode()
    with judge_server(lambda _: Reply(status=400, error=f"no Basic {sent}, which is user:hunt@er7")) as server:
        url = server.url.replace("://", "://user:hunt%40er7@")
        if verb == "run":
            model = ("--models", "openai", "--model-args", f"openai:model=m,url={url},retries=0", "--num-frames", "2")
            command: tuple[object, ...] = ("--tasks", "synthetic", "--limit", "1", *model, "--output", tmp_path / "out")
        else:
            write_dream1k(tmp_path, dream1k_rows(1))
            model = ("--models", "constant", "--data-root", tmp_path, "--blind")
            cli("--tasks", "dream1k", *model, "--output", tmp_path / "out", "--workers", "0")
            command = ("judge", tmp_path / "out", "--judge-model", "m", "--judge-url", url)
        _, said, errors = cli(*command)
        assert any(sent in key for key in server.keys)
    written = "".join(path.read_text(errors="replace") for path in (tmp_path / "out").rglob("*") if path.is_file())
    for form in (sent, "hunt@er7", "hunt%40er7"):
        assert form not in said + errors + written
    assert "no Basic ***" in " ".join((said + errors + written).split())
