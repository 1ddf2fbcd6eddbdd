"""Models behind an OpenAI-compatible endpoint, by the real client library, against a server that misbehaves."""

from __future__ import annotations

import asyncio
import base64
import inspect
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import JudgeServer, Reply, judge_server
from PIL import Image
from plugins import FolderTask
from stored import latest_records
from vamba_eval.model_adapters import _pictures
from vamba_eval.model_adapters.openai import OpenAIEndpoint
from videos import make_video, picture

from vamba_eval import Clip, Leaderboard, evaluate
from vamba_eval.contracts import Answer, BudgetSpent, GenerationSettings, Question, Seen, UserError, Video
from vamba_eval.run.probes import Probes

Cli = Callable[..., tuple[int, str, str]]
Respond = Callable[[dict[str, Any]], Reply]
SECRET = "sk-very-secret-4711"
GREEDY = GenerationSettings(max_new_tokens=40)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def make_clip(frames: int = 3, height: int = 36, width: int = 64) -> Clip:
    pictures = np.stack([picture(7 * n, height, width) for n in range(frames)])
    return Clip(pictures, np.arange(frames) * 0.5, np.arange(frames) * 12, 24.0, 10.0)


def ask(
    url: str, clip: Clip | None = None, prompts: tuple[str, ...] = ("What?",), settings: Any = GREEDY, **more: Any
) -> list[Answer | Exception]:
    """What comes of each prompt."""
    model = OpenAIEndpoint(model="m", url=url, **{"retries": 0, **more})

    async def collect() -> list[Answer | Exception]:
        found = {place: answer async for place, answer in model.answer(clip, prompts, settings)}
        return [found[place] for place in range(len(prompts))]

    return asyncio.run(collect())


def outcome(respond: Respond, **more: Any) -> tuple[Answer | Exception, JudgeServer]:
    """What comes of one question, and the server that it was asked of."""
    with judge_server(respond) as server:
        return ask(server.url, **more)[0], server


def answer_to(reply: Reply, **more: Any) -> Answer:
    answer, _ = outcome(lambda _: reply, **more)
    assert isinstance(answer, Answer), answer
    return answer


def failure_of(reply: Reply, **more: Any) -> str:
    answer, server = outcome(lambda _: reply, **more)
    assert isinstance(answer, Exception) and not isinstance(answer, UserError), answer
    assert len(server.requests) == 1, "tried once"
    return str(answer)


def in_turn(*replies: Reply) -> Respond:
    """A reply after the other, the last one for ever."""
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


# ------------------------------------------------------------------------------------------------ what is sent


def pixels(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def test_frames_are_pictures_in_order() -> None:
    clip = make_clip()
    _, server = outcome(lambda _: Reply("B"), clip=clip, image="png", system="Be brief.")
    (request,) = server.requests
    system, user = request["messages"]
    assert system == {"role": "system", "content": "Be brief."} and user["role"] == "user"
    assert [part["type"] for part in user["content"]] == ["image_url"] * 3 + ["text"]
    shown = [pixels(part["image_url"]["url"]) for part in user["content"][:3]]
    assert np.array_equal(shown, clip.frames) and user["content"][3]["text"] == "What?"
    assert user["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert request["model"] == "m" and request["temperature"] == 0 and request["max_tokens"] == 40
    assert not {"seed", "top_p", "top_k", "chat_template_kwargs", "reasoning_effort"} & request.keys()
    assert server.keys == [f"Bearer {SECRET}"]


def test_jpegs_of_the_quality_asked_for() -> None:
    def sent(**more: Any) -> list[bytes]:
        _, server = outcome(lambda _: Reply("B"), clip=make_clip(2, 144, 256), **more)
        parts = server.requests[0]["messages"][0]["content"][:-1]
        assert all(part["image_url"]["url"].startswith("data:image/jpeg;base64,") for part in parts)
        return [base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in parts]

    default, rough = sent(), sent(quality="40")
    for data, frame in zip(default, make_clip(2, 144, 256).frames, strict=True):
        again = io.BytesIO()
        Image.fromarray(frame).save(again, "JPEG", quality=95)
        assert data == again.getvalue()
    assert sum(map(len, rough)) < sum(map(len, default)) / 2


def test_times_and_captions_stand_between_the_frames() -> None:
    clip = make_clip()
    clip.captions = ((0, "first"), (2, "a"), (2, "b"), (3, "last"))
    _, server = outcome(lambda _: Reply("B"), clip=clip, times="true")
    parts = server.requests[0]["messages"][0]["content"]
    assert [part.get("text", "*") for part in parts] == [
        *("first", "[0.0 s]", "*", "[0.5 s]", "*", "a", "b", "[1.0 s]", "*", "last", "What?"),
    ]
    clip.timestamps_s = np.full(3, np.nan)
    with judge_server(lambda _: Reply("B")) as server, pytest.raises(ValueError, match="times are not known"):
        ask(server.url, clip, times=True)
    assert server.requests == []


def test_one_video_with_its_metadata() -> None:
    clip = make_clip()
    _, server = outcome(lambda _: Reply("B"), clip=clip, frames_as="video")
    (request,) = server.requests
    video, text = request["messages"][0]["content"]
    assert video["type"] == "video_url" and text["text"] == "What?"
    head, *pictures = video["video_url"]["url"].split(",")
    assert head == "data:video/jpeg;base64" and len(pictures) == 3
    assert all(Image.open(io.BytesIO(base64.b64decode(each))).size == (64, 36) for each in pictures)
    assert request["media_io_kwargs"] == {
        "video": {"num_frames": -1, "fps": 24.0, "frames_indices": [0, 12, 24], "total_num_frames": 240}
    }
    model = OpenAIEndpoint(model="m", frames_as="video")
    assert model.seen(clip) == Seen(3, 36, 64, kind="video", times=True)
    assert OpenAIEndpoint(model="m").seen(clip) == Seen(3, 36, 64, kind="images", times=False)
    clip.source_fps = float("nan")
    with pytest.raises(ValueError, match="frame rate is not known"):
        ask("http://127.0.0.1:9/v1", clip, frames_as="video")
    clip.source_fps, clip.captions = 24.0, ((0, "text"),)
    with pytest.raises(UserError, match="frames_as=images"):
        ask("http://127.0.0.1:9/v1", clip, frames_as="video")


def test_a_file_goes_as_it_is_and_the_row_says_so(folder: Path, tmp_path: Path) -> None:
    with judge_server(lambda _: Reply("A")) as server:
        board = run(folder, tmp_path, server.url, frames_as="file")
        shuffled = run(folder, tmp_path / "shuffled", server.url, frames_as="file", probes=Probes(shuffle_frames=True))
    assert len(server.requests) == 12 and shuffled.num_failed == 12
    sent = {question_of(request)[0]: request["messages"][0]["content"][0] for request in server.requests}
    for name, part in sent.items():
        head, data = part["video_url"]["url"].split(",")
        assert head == "data:video/mp4;base64" and base64.b64decode(data) == (folder / f"{name}.mp4").read_bytes()
    (result,) = board.results
    assert result.num_frames == "its own" and result.own_frames and result.size == ""
    assert any(note.startswith("OWN FRAMES: openai") for note in board.notes())
    identity = json.loads((tmp_path / "run" / "run.json").read_text())["models"]["openai"]
    assert identity["samples_itself"] and "seen" not in records_of(tmp_path)["0-0"]
    with pytest.raises(ValueError, match="no file shows just this"):
        ask(server.url, make_clip(), frames_as="file")


def test_asked_blind_it_gets_the_text_alone() -> None:
    _, server = outcome(lambda _: Reply("B"))
    assert server.requests[0]["messages"] == [{"role": "user", "content": "What?"}]


def test_settings_become_options() -> None:
    sampled = GenerationSettings(64, do_sample=True, temperature=0.7, top_p=0.9, top_k=20, seed=3)
    _, server = outcome(
        lambda _: Reply("B"),
        settings=sampled,
        thinking="false",
        reasoning_effort="low",
        max_tokens_as="max_completion_tokens",
    )
    (request,) = server.requests
    del request["messages"], request["model"]
    assert request == {
        **{"max_completion_tokens": 64, "temperature": 0.7, "top_p": 0.9, "top_k": 20, "seed": 3},
        **{"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}},
    }
    with pytest.raises(UserError, match="at least"):
        ask("http://127.0.0.1:9/v1", settings=GenerationSettings(min_new_tokens=4))


def test_a_video_is_encoded_once_in_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, plain = [], _pictures.encoded

    def counted(*arguments: Any) -> list[str]:
        threads.append(threading.current_thread())
        return plain(*arguments)

    monkeypatch.setattr(_pictures, "encoded", counted)
    prompts = tuple(f"question {n}" for n in range(12))
    with judge_server(lambda request: Reply(request["messages"][0]["content"][-1]["text"]), seconds=0.05) as server:
        answers = ask(server.url, make_clip(), prompts, concurrency="4")
    assert len(threads) == 1 and threads[0] is not threading.main_thread()
    assert [answer.text for answer in answers if isinstance(answer, Answer)] == list(prompts)
    assert server.most == 4, "so many were in flight"
    in_flight = [answer.in_flight for answer in answers if isinstance(answer, Answer)]
    assert max(in_flight) == 4 and min(in_flight) == 1
    latencies = [answer.latency_s for answer in answers if isinstance(answer, Answer)]
    assert all(latency is not None and latency >= 0.05 for latency in latencies)


# ------------------------------------------------------------------------------------------------ what is answered


def test_tokens_price_and_who_answered() -> None:
    usage = {"prompt_tokens": 1000, "prompt_tokens_details": {"cached_tokens": 600}, "total_tokens": 1010}
    reply = Reply("B", usage=usage, model="m-2026-11-01")
    answer = answer_to(reply, price="2/10/0.5")
    assert (answer.text, answer.num_tokens, answer.prompt_tokens, answer.cached_tokens) == ("B", 10, 1000, 600)
    assert answer.served_by == "m-2026-11-01" and answer.finish_reason == "stop"
    assert answer.price == pytest.approx((400 * 2 + 600 * 0.5 + 10 * 10) / 1e6)
    assert answer_to(reply, price="2/10").price == pytest.approx((1000 * 2 + 10 * 10) / 1e6)
    assert answer_to(reply).price is None
    thought = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1090}
    assert answer_to(Reply("B", usage=thought), price="0/1").price == pytest.approx(90 / 1e6), "thoughts are paid"
    unknown = answer_to(Reply("B", usage=None), price="2/10")
    assert (unknown.price, unknown.prompt_tokens) == (None, 0)


def test_thinking_is_kept_apart() -> None:
    for field in ("reasoning_content", "reasoning"):
        answer = answer_to(Reply("B", message={field: "It is A. No."}))
        assert (answer.text, answer.thinking) == ("B", "It is A. No.")
    for text in ("<think>It is A. No.</think>\n\nB", "It is A. No.</think>B", "◁think▷It is A. No.◁/think▷B"):
        answer = answer_to(Reply(text), thinking=True)
        assert (answer.text, answer.thinking) == ("B", "It is A. No.")
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "A?"}]}, {"type": "text", "text": "B"}]
    assert answer_to(Reply(message={"content": parts})).text == "B"
    cut = answer_to(Reply("<think>x</think>The answer is", finish="length"))
    assert (cut.text, cut.finish_reason) == ("The answer is", "length"), "an answer that is cut off is one"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply("<think>It may be", finish="length"), "cut off after 10 tokens, before its thinking ended"),
        (Reply(message={"content": None, "reasoning": "Hm"}, finish="length"), "cut off after 10 tokens"),
        (Reply("", finish="length"), "raise --max-new-tokens"),
        (Reply("<think>So it is B.</think>"), "the answer is empty, after its thinking"),
        (Reply(" \n"), "the answer is empty (finish_reason 'stop')"),
        (Reply(message={"content": None}, finish="tool_calls"), "the answer is empty (finish_reason 'tool_calls')"),
        (Reply("I will not", refusal="I cannot help with that"), "refused: I cannot help with that"),
        (Reply("B", finish="content_filter"), "withheld by a content filter"),
        (Reply(raw=b'{"choices": [{"message": {"content": "B'), "not a chat completion"),
        (Reply(raw=b"<html>Bad gateway</html>"), "not a chat completion: '<html>Bad gateway</html>'"),
        (Reply(raw=b'{"error": {"message": "overloaded"}}'), "overloaded"),
        (Reply(raw=b"[1]"), "not a chat completion"),
        (Reply(raw=b'{"choices": [7]}'), "not a chat completion"),
        (Reply(raw=b'{"choices": []}'), "holds no choice"),
        (Reply(status=400, error="the prompt is too long: 9,000 of 8,192 tokens"), "too long: 9,000 of 8,192"),
        (Reply(status=422, error="no such picture"), "no such picture"),
        (Reply(status=413), "413"),
    ],
)
def test_what_is_no_answer_is_a_failed_question(reply: Reply, reason: str) -> None:
    assert reason in failure_of(reply, retries=3)


def test_thinking_without_marks_that_is_cut_off_is_no_answer() -> None:
    reply = Reply("The video shows a cat. It may be", finish="length")
    assert "before its thinking ended" in failure_of(reply, thinking=True)
    assert answer_to(reply).finish_reason == "length", "where nobody asked it to think"


# ------------------------------------------------------------------------------------------------ trying again


def test_busy_and_failing_endpoints_are_asked_again() -> None:
    answer, server = outcome(in_turn(Reply(status=429, headers={"Retry-After": "2"}), Reply("B")), retries=2)
    assert isinstance(answer, Answer) and len(server.requests) == 2
    assert server.times[1] - server.times[0] >= 2, "it waits as long as it is told"
    assert answer.latency_s is not None and answer.latency_s < 1, "waiting is no latency"
    answer, server = outcome(in_turn(Reply(status=500), Reply(status=503), Reply("B")), retries=2)
    assert isinstance(answer, Answer) and len(server.requests) == 3
    answer, server = outcome(in_turn(Reply(status=500)), retries=1)
    assert "500" in str(answer) and not isinstance(answer, UserError) and len(server.requests) == 2
    answer, server = outcome(in_turn(Reply(status=429, headers={"Retry-After": "3600"})), retries=2)
    assert "429" in str(answer) and not isinstance(answer, UserError)


def test_a_server_that_is_silent_or_slow_is_given_up() -> None:
    answer, server = outcome(in_turn(Reply(wait=1.5), Reply("B")), retries=1, timeout="0.5")
    assert isinstance(answer, Answer) and len(server.requests) == 2
    answer, server = outcome(in_turn(Reply(wait=1.5)), retries=1, timeout="0.3")
    assert "no whole response in 0.3 s, tried 2 times" in str(answer) and len(server.requests) == 2
    answer, _ = outcome(in_turn(Reply("B", drip=10)), timeout="0.5")
    assert "no whole response in 0.5 s" in str(answer)


def test_an_endpoint_that_is_not_there_is_a_failed_question() -> None:
    (answer,) = ask("http://127.0.0.1:9/v1")
    assert "Connection error" in str(answer) and not isinstance(answer, UserError)


# ------------------------------------------------------------------------------------------------ the end of a run


class Folder(FolderTask):
    """Three questions about each video of a folder."""

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        return [
            Video(path.stem, path, tuple(Question(f"{path.stem}-{n}", f"{path.stem} {n}?", ("yes", "no"), "A")
                                         for n in range(3)))
            for path in sorted(Path(str(data_root)).glob("*.mp4"))
        ]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for n in range(4):
        make_video(folder / f"{n}.mp4", frames=12, size=(48, 64))
    return folder


def run(folder: Path, output: Path, url: str, probes: Probes | None = None, **more: Any) -> Leaderboard:
    model = OpenAIEndpoint(model="m", url=url, **{"retries": 0, "concurrency": 1, **more})
    return evaluate([Folder()], [model], data_root=folder, output=output, name="run", progress=False,
                    sampling={"num_frames": 3}, probes=probes)  # fmt: skip


def records_of(output: Path) -> dict[str, dict[str, Any]]:
    return latest_records(output / "run" / "folder.openai.jsonl")


def question_of(request: dict[str, Any]) -> str:
    content = request["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(status=401, error=f"wrong key {SECRET}"), "does not accept the key in OPENAI_API_KEY"),
        (Reply(status=403), "does not accept the key"),
        (Reply(status=404), "check model= and url="),
        (Reply(status=402), "quota is used up"),
        (Reply(status=429, code="insufficient_quota"), "quota is used up"),
        (
            Reply(status=400, error="Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
            "give max_tokens_as=max_completion_tokens",
        ),
        (Reply(status=400, error="'temperature' does not support 0 with this model"), "--temperature"),
        (
            Reply(status=307, headers={"Location": "https://a:b@elsewhere.test/v1/x?key=c"}),
            "https://elsewhere.test/v1/x",
        ),
    ],
)
def test_what_every_request_would_meet_ends_the_run(reply: Reply, reason: str, folder: Path, tmp_path: Path) -> None:
    with judge_server(lambda _: reply) as server, pytest.raises(UserError) as ended:
        run(folder, tmp_path, server.url)
    assert reason in str(ended.value) and SECRET not in str(ended.value)
    assert len(server.requests) == 1, "no further request was sent"
    assert records_of(tmp_path) == {}, "no question is called failed"


def test_a_server_that_takes_no_metadata_of_frames_says_what_to_do(folder: Path, tmp_path: Path) -> None:
    said = "Per-request media_io_kwargs are disabled by default because they can change resource usage"  # vLLM 0.32
    with judge_server(lambda _: Reply(status=400, error=said)) as server:
        with pytest.raises(UserError, match="start vLLM with --trust-request-mm-kwargs"):
            run(folder, tmp_path, server.url, frames_as="video")
        assert len(server.requests) == 1 and records_of(tmp_path) == {}


def test_a_key_that_is_revoked_later_leaves_the_answers(folder: Path, tmp_path: Path) -> None:
    with judge_server(in_turn(*[Reply("A")] * 5, Reply(status=401))) as server:
        with pytest.raises(UserError, match="does not accept the key"):
            run(folder, tmp_path, server.url)
        assert [record["response"] for record in records_of(tmp_path).values()] == ["A"] * 5
        assert len(server.requests) == 6
        server.answer = lambda _: Reply("B")
        (result,) = run(folder, tmp_path, server.url).results
        assert result.complete and len(server.requests) == 6 + 7, "nothing is asked twice"


def test_a_question_that_moderation_refuses_ends_nothing(folder: Path, tmp_path: Path) -> None:
    def respond(request: dict[str, Any]) -> Reply:
        return Reply(status=403, error="flagged") if question_of(request) == "1 1?" else Reply("A")

    with judge_server(respond) as server:
        run(folder, tmp_path, server.url)
    errors = {question: record["error"] for question, record in records_of(tmp_path).items() if record["error"]}
    assert errors.keys() == {"1-1"} and "flagged" in errors["1-1"]


def test_a_redirect_takes_neither_frames_nor_key_elsewhere(folder: Path) -> None:
    with judge_server(lambda _: Reply("B")) as elsewhere:
        moved = Reply(status=308, headers={"Location": f"{elsewhere.url}/chat/completions"})
        with judge_server(lambda _: moved) as server, pytest.raises(UserError, match=r"give it as url="):
            ask(server.url, make_clip())
    assert len(server.requests) == 1 and elsewhere.requests == []


def test_a_budget_ends_the_run_and_the_same_command_goes_on(folder: Path, tmp_path: Path, cli: Cli) -> None:
    command = ["--tasks", f"{Path(__file__)}:Folder", "--models", "openai", "--data-root", folder, "--name", "run"]
    command += ["--output", tmp_path, "--num-frames", "3"]
    with judge_server(lambda _: Reply("A", prompt_tokens=900_000, completion_tokens=100_000)) as server:
        arguments = f"openai:model=m,url={server.url},price=1/1,concurrency=1"  # a dollar a question
        for budget, asked in ((5, 5), (5, 10)):
            status, out, err = cli(*command, "--model-args", f"{arguments},budget={budget}")
            assert status == 1 and "the budget of $5 for m is spent ($5.0000)" in err and "goes on from here" in err
            assert len(server.requests) == len(records_of(tmp_path)) == asked
        status, out, err = cli(*command, "--model-args", f"{arguments},budget=5")
        assert status == 0 and len(server.requests) == 12, "prices and budgets do not change the run"
    assert "$/1,000" in out and "1,000\n" in out


def test_failed_questions_count_for_the_budget(folder: Path, tmp_path: Path) -> None:
    reply = Reply("", finish="length", prompt_tokens=900_000, completion_tokens=100_000)
    with judge_server(lambda _: reply) as server, pytest.raises(BudgetSpent):
        run(folder, tmp_path, server.url, price="1/1", budget="2.5")
    assert len(server.requests) == 3 and all("cut off" in each["error"] for each in records_of(tmp_path).values())
    with judge_server(lambda _: Reply("A", usage=None)) as server, pytest.raises(UserError, match="no budget"):
        run(folder, tmp_path / "other", server.url, price="1/1", budget="2.5")
    assert len(server.requests) == 1 and len(records_of(tmp_path / "other")) == 1, "its answer is kept"


# ------------------------------------------------------------------------------------------------ a whole run


def every_text(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.read_bytes().decode("utf-8", "replace")


def test_the_key_is_nowhere(folder: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f"{SECRET}\n")
    monkeypatch.delenv("OPENAI_API_KEY")
    replies = [
        Reply("A"),
        Reply(status=400, error=f"bad request with {SECRET} and pass-word"),
        Reply(raw=f"no JSON, {SECRET}".encode()),
        Reply(status=500, error=SECRET),
    ]
    with judge_server(in_turn(*replies, Reply("A"))) as server:
        url = server.url.replace("http://", "http://user:pass-word@") + "?token=to-ken"
        status, out, err = cli(
            *("--tasks", f"{Path(__file__)}:Folder", "--models", "openai", "--data-root", folder, "--debug"),
            *("--output", tmp_path, "--name", "run", "--num-frames", "3"),
            *("--model-args", f"openai:model=m,url={url},key_env=MY_KEY,retries=0,concurrency=1"),
        )
    assert status == 1 and sum(record["error"] is not None for record in records_of(tmp_path).values()) == 3
    texts = [out, err, *every_text(tmp_path)]
    assert len(texts) > 6 and any("***" in text for text in texts)
    for text in texts:
        assert not any(secret in text for secret in (SECRET, "pass-word", "to-ken"))


def test_the_run_says_what_was_asked_and_the_table_what_it_cost(folder: Path, tmp_path: Path) -> None:
    def respond(request: dict[str, Any]) -> Reply:
        return Reply("A" if question_of(request)[0] in "012" else "B", model=f"m-{question_of(request)[0]}")

    with judge_server(respond) as server:
        board = run(folder, tmp_path, server.url, price="1000/2000", times=True, concurrency=4, system="Short.")
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["models"]["openai"] == {
        **{"adapter": "openai", "reads_video": True, "served": True, "model": "m", "url": server.url},
        **{"frames_as": "images", "image": "jpeg", "quality": 95, "times": True, "system": "Short."},
    }
    records = records_of(tmp_path)
    one = records["2-1"]
    assert one["served_by"] == "m-2" and one["price"] == pytest.approx(0.12) and one["finish_reason"] == "stop"
    assert (one["prompt_tokens"], one["num_tokens"]) == (100, 10) and one["latency_s"] > 0
    assert one["seen"] == {
        **{"frames": 3, "height": one["size"][0], "width": one["size"][1], "video_tokens": None},
        **{"kind": "images", "times": True},
    }
    assert max(record["in_flight"] for record in records.values()) == 4
    header, _, row = board.long_markdown().splitlines()[:3]
    cells = dict(zip(*([cell.strip() for cell in line.strip("|").split("|")] for line in (header, row)), strict=True))
    assert cells["Latency s"].endswith(", 4 at once") and cells["Peak GiB"] == cells["Encode s/video"] == "-"
    assert (cells["Prompt tokens"], cells["New tokens"]) == ("100 (100 to 100)", "10 (10 to 10)")
    assert (cells["Price $"], cells["$/1,000 questions"], cells["$/right answer"]) == ("1.44", "120", "0.16")
    assert any("SEVERAL MODELS" in note and "m-0, m-1, m-2, m-3" in note for note in board.notes())
    (result,) = board.results
    assert board.frontier() == [] and result.hardware == "", "nor is the client's machine the server's"
    assert result.row()["price_per_correct"] == pytest.approx(0.16) and result.row()["in_flight"] == 4


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "which model"),
        ({"model": "m", "url": "localhost:8000"}, "https://HOST/v1"),
        ({"model": "m", "url": "http://user:pass@host:x/v1"}, "cannot be read"),
        ({"model": "m", "key_env": "NOT_SET"}, "set NOT_SET"),
        ({"model": "m", "frames_as": "gif"}, "images, video, file"),
        ({"model": "m", "image": "png", "quality": "80"}, "leave one of them out"),
        ({"model": "m", "image": "png", "frames_as": "video"}, "leave one of them out"),
        ({"model": "m", "image": "png", "frames_as": "file"}, "leave one of them out"),
        ({"model": "m", "quality": "80", "frames_as": "file"}, "leave one of them out"),
        ({"model": "m", "quality": "101"}, "from 1 to 100"),
        ({"model": "m", "times": "yes"}, "true, false"),
        ({"model": "m", "times": "true", "frames_as": "video"}, "sends none"),
        ({"model": "m", "max_tokens_as": "n"}, "max_completion_tokens"),
        ({"model": "m", "price": "1"}, "IN/OUT"),
        ({"model": "m", "price": "1/-2"}, "IN/OUT"),
        ({"model": "m", "budget": "5"}, "give price="),
        ({"model": "m", "concurrency": "0"}, "from 1"),
    ],
)
def test_mistakes_in_the_arguments_are_said(arguments: dict[str, str], reason: str) -> None:
    with pytest.raises(UserError) as mistake:
        OpenAIEndpoint(**arguments)
    assert reason in str(mistake.value) and "pass" not in str(mistake.value)


def test_openai_itself_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="set OPENAI_API_KEY"):
        OpenAIEndpoint(model="gpt")
    assert OpenAIEndpoint(model="m", url="http://localhost:8000/v1/").describe()["url"] == "http://localhost:8000/v1"


def test_the_page_names_the_arguments_that_there_are() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "served.md").read_text(encoding="utf-8")
    known = inspect.signature(OpenAIEndpoint).parameters
    rows = re.findall(r"^\| (`[^|]*) \| ([^|]*) \|", page.split("## Arguments")[1].split("\n## ")[0], re.MULTILINE)
    said = {name: default for names, default in rows for name in re.findall(r"\w+", names)}
    assert said.keys() == known.keys()
    for name in ("key_env", "frames_as", "max_tokens_as"):
        assert said[name] == f"`{known[name].default}`"
    for name, default in (("concurrency", "8"), ("timeout", "600, 5"), ("retries", "600, 5")):
        assert said[name] == default and f"{known[name].default:g}" in default.split(", ")
    examples = re.findall(r"openai:(model=[^\s'\"]+)", page)
    assert len(examples) == 4
    for example in examples:
        for pair in example.split(","):
            assert pair.partition("=")[0] in known, pair
