"""`nat collect collect=openai` against a real server over HTTP (tests/openai_server_for_tests.py), faults injected."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nat.collection import openai_policy
from nat.collection.episodes import Episode
from nat.collection.openai_policy import Answer, read_answer, retry_after
from nat.trajectories.formats import native
from nat.types import Outcome, Question, RequestError, Rollout, StageError, Trajectory
from nat.verbs.collect import collect
from tests.openai_server_for_tests import KEY, MODEL, arithmetic_solver, serving
from tests.test_collection import config_of, ids, quietly


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def asking(url: str, output: Path, *overrides: str) -> Any:
    """Four questions once, at one temperature, one after the other; tries follow each other at once."""
    config = config_of(
        "environment=arithmetic",
        "collect=openai",
        f"collect.endpoint.model={MODEL}",
        "collect.endpoint.timeout=5",
        "collect.endpoint.tries=3",
        "collect.endpoint.longest_wait=0.01",
        "collect.n_questions=4",
        "collect.temperatures=[0.5]",
        "collect.turns.at_once=1",
        *overrides,
    )
    assert config.collect.endpoint is not None
    endpoint = replace(config.collect.endpoint, base_url=url)
    return replace(config, collect=replace(config.collect, output=str(output), endpoint=endpoint))


def solve(body: dict[str, Any]) -> str:
    """One calculation, whatever the question, then its result as the answer."""
    last = body["messages"][-1]["content"]
    if not last.startswith("Observation: "):
        return "Thought: add.\nAction: calculate[3+4]"
    return f"Thought: done.\nAction: finish[{last.removeprefix('Observation: ')}]"


def episodes(output: Path) -> list[Trajectory]:
    return [trajectory for _, trajectory in native.read(output)]


def test_what_goes_over_the_wire_and_what_is_kept(tmp_path):
    output = tmp_path / "a.jsonl"
    with serving(solve) as server:
        config = asking(
            server.url,
            output,
            "collect.n_questions=1",
            "environment.instructions=Solve.",
            "agent.system='Be brief.'",
            "collect.turns.max_tokens=50",
            "+collect.endpoint.extra.top_k=20",
        )
        assert collect(config, quietly).n_broken == 0
    first, second = server.requests
    seeds = [body.pop("seed") for body in (first, second)]
    assert seeds[0] != seeds[1] and all(0 <= seed < 2**31 for seed in seeds)
    [trajectory] = episodes(output)
    prompt = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"Solve.\n{trajectory.question}"},
    ]
    common = {
        "model": "solver",
        "temperature": 0.5,
        "top_p": 1.0,
        "max_tokens": 50,
        "stop": ["\nObservation:"],
        "top_k": 20,
    }
    assert first == {**common, "messages": prompt}
    turns = [
        {"role": "assistant", "content": "Thought: add.\nAction: calculate[3+4]"},
        {"role": "user", "content": "Observation: 7"},
    ]
    assert second == {**common, "messages": prompt + turns}
    assert [(m.role, m.content) for m in trajectory.messages] == [
        ("assistant", "Thought: add.\nAction: calculate[3+4]"),
        ("tool", "7"),
        ("assistant", "Thought: done.\nAction: finish[7]"),
    ]
    assert (trajectory.id, trajectory.source) == ("arithmetic-0-train-00000/solver-t0.5-s0", "solver")
    metadata = dict(trajectory.metadata)
    del metadata["settings"]
    # The server counts words: 4 and 4 generated, and says 10 read for each request.
    assert metadata == {"temperature": 0.5, "sample": 0, "policy": "openai", "tokens": 8, "prompt_tokens": 20}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["429", "500", "503", "cut", "malformed", "empty", "html", "slow"])
def test_a_fault_that_passes_changes_nothing(tmp_path, fault):
    output = tmp_path / "a.jsonl"
    with serving(arithmetic_solver(4), faults=[fault, None, fault, fault, None]) as server:
        overrides = ("collect.endpoint.timeout=0.4",) if fault == "slow" else ()
        assert collect(asking(server.url, output, *overrides), quietly).n_broken == 0
        faulty = output.read_text()
    with serving(arithmetic_solver(4)) as faultless:
        output.unlink()
        collect(asking(faultless.url, output), quietly)
    assert faulty == output.read_text()
    assert len(server.requests) == len(faultless.requests) + 3
    assert len(ids(output)) == 4


@pytest.mark.parametrize("fault", ["429", "500", "cut", "malformed", "slow"])
def test_a_fault_that_stays_is_infrastructure_and_played_again(tmp_path, fault):
    output, broken = tmp_path / "a.jsonl", tmp_path / "a.infrastructure.ndjson"
    with serving(solve, faults=[None, None, None, fault, fault, fault]) as server:
        overrides = ("collect.endpoint.timeout=0.2",) if fault == "slow" else ()
        said: list[str] = []
        assert collect(asking(server.url, output, *overrides), said.append).n_broken == 1
        assert len(ids(output)) == 3
        [record] = [json.loads(line) for line in broken.read_text().splitlines()]
        assert record["outcome"]["failure"] == "infrastructure"
        assert record["outcome"]["prediction"].startswith(f"{server.url}/: ")
        assert record["id"].startswith("arithmetic-0-train-00001/")
        assert [message["role"] for message in record["messages"]] == ["assistant", "tool"]
        assert said[-1].startswith("warning: 1 episodes broke (infrastructure)")
        assert collect(asking(server.url, output), quietly).n_broken == 0
    assert len(ids(output)) == len(set(ids(output))) == 4
    assert not broken.exists()
    assert "infrastructure" not in output.read_text()


def test_many_at_once_under_random_faults_lose_and_double_nothing(tmp_path):
    output = tmp_path / "a.jsonl"
    kinds = [None, "429", None, "500", None, "cut", None, "malformed", None, None]

    def slowly(body: dict[str, Any]) -> str:
        time.sleep(0.02)
        return solve(body)

    with serving(slowly, fault_of=lambda number: kinds[number % 10]) as server:
        overrides = ("collect.turns.at_once=5", "collect.temperatures=[0.2,0.5,0.7]", "collect.endpoint.tries=9")
        assert collect(asking(server.url, output, *overrides), quietly).n_broken == 0
    assert len(ids(output)) == len(set(ids(output))) == 12
    assert 2 <= server.most_at_once <= 5
    assert {trajectory.outcome.failure for trajectory in episodes(output)} <= {None, "wrong_answer"}


def test_an_endpoint_that_goes_down_ends_the_collection_with_one_reason(tmp_path):
    output = tmp_path / "a.jsonl"
    with serving(solve, faults=[None] * 4, fault_of=lambda number: "503") as server:
        with pytest.raises(StageError) as error:
            collect(asking(server.url, output, "collect.n_questions=50"), quietly)
        assert str(error.value) == (
            f"3 episodes in a row broke (infrastructure), the last one by: {server.url}/: 503: overloaded\n"
            f"2 of 50 episodes are safe in {output}; the same command goes on from there."
        )
        # Three tries for each of three episodes, and at most those of a fourth that had begun.
        assert 4 + 3 * 3 <= len(server.requests) <= 4 + 4 * 3
    assert len(ids(output)) == 2


def test_an_endpoint_that_was_never_there(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"  # bound, but nobody listens
        overrides = ("collect.turns.at_once=4", "collect.n_questions=50")
        with pytest.raises(StageError, match=r"4 episodes in a row broke .*refused\nNothing was collected into"):
            collect(asking(url, tmp_path / "a.jsonl", *overrides), quietly)


def test_a_wrong_key_is_one_line_that_does_not_hold_it(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with serving(solve) as server, pytest.raises(RequestError) as error:
        collect(asking(server.url, tmp_path / "a.jsonl", "collect.turns.at_once=4"), quietly)
    first = str(error.value).split("\n")[0]
    assert first == (
        f"collect.endpoint.key_variable=OPENAI_API_KEY: the server refuses its key: {server.url}/: 401: "
        "Incorrect API key provided: Bearer [key]"
    )
    assert len(server.requests) <= 4


def test_a_key_that_is_not_set(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    with pytest.raises(RequestError, match="has no such variable"):
        collect(asking("http://127.0.0.1:9/v1", tmp_path / "a.jsonl"), quietly)
    with serving(solve) as server, pytest.raises(RequestError, match="refuses requests without a key"):
        collect(asking(server.url, tmp_path / "a.jsonl", "collect.endpoint.key_variable=null"), quietly)


def test_an_unknown_model_and_a_wrong_path(tmp_path):
    output = tmp_path / "a.jsonl"
    with serving(solve) as server:
        with pytest.raises(
            RequestError, match=r"^collect\.endpoint\.model=qwen: .* 404: The model 'qwen' does not exist"
        ):
            collect(asking(server.url, output, "collect.endpoint.model=qwen"), quietly)
        with pytest.raises(RequestError, match=r"404: no route .*\nCheck the name, and that .*base_url ends where"):
            collect(asking(server.url.removesuffix("/v1"), tmp_path / "b.jsonl"), quietly)
    assert output.read_text() == ""


def test_a_key_refused_on_the_way_costs_no_episode(tmp_path):
    output = tmp_path / "a.jsonl"
    with serving(solve, faults=[None] * 4, fault_of=lambda number: "401") as server:
        with pytest.raises(RequestError) as error:
            collect(asking(server.url, output), quietly)
        assert str(error.value).endswith(f"2 of 4 episodes are safe in {output}; the same command goes on from there.")
        server.fault_of = lambda number: None
        assert collect(asking(server.url, output), quietly).n_broken == 0
    assert len(ids(output)) == len(set(ids(output))) == 4


def test_a_refused_request_is_the_users_at_first_and_the_episodes_later(tmp_path):
    with serving(solve, faults=["400"]) as server:
        with pytest.raises(
            RequestError, match=r"^collect\.endpoint: the server refuses the request: .* 400: this content"
        ):
            collect(asking(server.url, tmp_path / "a.jsonl"), quietly)
        server.faults = [None, "400"]
        assert collect(asking(server.url, tmp_path / "b.jsonl"), quietly).n_broken == 1
    assert len(ids(tmp_path / "b.jsonl")) == 3


@pytest.mark.parametrize("fault", ["too_long", "too_long_by_code", "too_long_for_llama", "length"])
def test_an_episode_that_is_cut_off_is_the_policys_failure(tmp_path, fault):
    output = tmp_path / "a.jsonl"
    with serving(solve, faults=[None, fault]) as server:
        assert collect(asking(server.url, output, "collect.n_questions=1"), quietly).n_broken == 0
    [trajectory] = episodes(output)
    assert trajectory.outcome.failure == "no_answer"
    roles = [message.role for message in trajectory.messages]
    assert roles == (["assistant", "tool", "assistant"] if fault == "length" else ["assistant", "tool"])


@pytest.mark.parametrize("fault", ["too_long", "too_long_by_code", "too_long_for_llama"])
def test_a_first_turn_that_does_not_fit_is_no_failure_of_the_policy(tmp_path, fault):
    with serving(solve, faults=[fault]) as server:
        with pytest.raises(RequestError, match=r"^collect\.turns\.max_tokens=512: with the prompt of question 'arithm"):
            collect(asking(server.url, tmp_path / "a.jsonl"), quietly)
        assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["filtered", "cut_by_filter"])
def test_what_a_content_filter_ends_is_kept_apart_and_not_asked_again(tmp_path, fault):
    output, refused = tmp_path / "a.jsonl", tmp_path / "a.refused.ndjson"
    with serving(solve, faults=[fault]) as server:
        said: list[str] = []
        assert collect(asking(server.url, output), said.append).n_broken == 0
        [record] = [json.loads(line) for line in refused.read_text().splitlines()]
        assert record["id"].startswith("arithmetic-0-train-00000/")
        assert (record["outcome"]["failure"], record["metadata"]["refused"]) == ("infrastructure", True)
        line = f"refused       1 by the server's content filter; remove {refused} to ask them again"
        assert line in said
        assert len(ids(output)) == 3 and not (tmp_path / "a.infrastructure.ndjson").exists()
        asked = len(server.requests)
        said.clear()
        assert collect(asking(server.url, output), said.append).n_broken == 0
        assert len(server.requests) == asked and line in said
        refused.unlink()
        assert collect(asking(server.url, output), quietly).n_broken == 0
    assert len(ids(output)) == 4


def test_an_answer_that_drips_is_given_up(tmp_path):
    start = time.monotonic()
    with serving(solve, faults=["drip", "drip"]) as server:
        overrides = ("collect.endpoint.timeout=0.4", "collect.endpoint.tries=2", "collect.n_questions=1")
        assert collect(asking(server.url, tmp_path / "a.jsonl", *overrides), quietly).n_broken == 1
        assert time.monotonic() - start < 4
        assert len(server.requests) == 2
    assert "no complete answer within 0.4 s" in (tmp_path / "a.infrastructure.ndjson").read_text()


def test_a_password_in_the_address_is_refused_and_not_shown(monkeypatch, tmp_path):
    address = "http://me:secret@127.0.0.1:9/v1"
    with pytest.raises(RequestError, match=r"^collect\.endpoint\.base_url: holds a user name or password") as error:
        config_of("collect=openai", "collect.endpoint.model=m", f"collect.endpoint.base_url='{address}'")
    assert "secret" not in str(error.value)
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(RequestError, match=r"^collect\.endpoint\.base_url: holds a user name or password"):
        openai_policy.open_server(config_of("collect=openai", "collect.endpoint.model=m").collect)


@pytest.mark.parametrize("first", [StageError("in a row"), RequestError("the key"), KeyboardInterrupt()])
def test_what_is_over_behind_an_error_is_written_and_the_first_error_raised(monkeypatch, first):
    behind = {"b": None, "c": "infrastructure", "d": None}
    begun, ended, written = threading.Event(), threading.Semaphore(0), []

    def play_one(*given: Any) -> Any:
        episode = given[-1]
        if episode.id != "a":
            begun.wait(5)
            ended.release()
        outcome = Outcome(False, 0.0, behind.get(episode.id) or "wrong_answer")
        return Rollout(episode.question, (), outcome), {}

    def done(episode: Episode, rollout: Rollout, details: Any) -> None:
        if episode.id == "a":
            begun.set()
            assert all(ended.acquire(timeout=5) for _ in behind)
            time.sleep(0.2)  # from the end of `play_one` into the queue
            raise first
        if rollout.outcome.failure == "infrastructure":
            raise StageError("another one")
        written.append(episode.id)

    monkeypatch.setattr(openai_policy, "play_one", play_one)
    config = config_of("collect=openai", "collect.endpoint.model=m", "collect.turns.at_once=4").collect
    assert config.endpoint is not None
    server: Any = openai_policy.Server(None, config.endpoint, None)
    episodes = [Episode(id, Question(id, "?", "1"), 0.5, 0) for id in "abcd"]
    nothing: Any = None
    with pytest.raises(type(first)) as raised:
        openai_policy.play_all(config, server, nothing, nothing, episodes, done)
    assert raised.value is first
    assert sorted(written) == ["b", "d"]


def test_a_server_without_usage_leaves_tokens_unknown(tmp_path):
    output = tmp_path / "a.jsonl"
    with serving(solve, faults=["no_usage"]) as server:
        collect(asking(server.url, output, "collect.n_questions=2"), quietly)
    first, second = episodes(output)
    assert "tokens" not in first.metadata and second.metadata["tokens"] == 8


def test_an_answer_that_no_utf8_holds_is_written(tmp_path):
    output = tmp_path / "a.jsonl"
    with serving(lambda body: "Action: finish[\ud800]") as server:
        assert collect(asking(server.url, output, "collect.n_questions=1"), quietly).n_broken == 0
    assert episodes(output)[0].messages[0].content == "Action: finish[?]"


def test_the_key_is_nowhere_in_what_is_written(tmp_path):
    with serving(lambda body: f"{KEY} {solve(body)}", fault_of=lambda number: "500" if number > 4 else None) as server:
        server.reply = solve
        with pytest.raises(StageError):
            collect(asking(server.url, tmp_path / "a.jsonl", "collect.n_questions=20"), quietly)
    written = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {path.name for path in written} >= {"a.jsonl", "a.settings.json", "a.infrastructure.ndjson"}
    assert not any(KEY in path.read_text() for path in written)


# ---- parts ----


def completion(content: Any, reason: str = "stop", usage: Any = None) -> Any:
    return SimpleNamespace(
        choices=[SimpleNamespace(message=SimpleNamespace(content=content), finish_reason=reason)], usage=usage
    )


def test_reading_an_answer():
    usage = SimpleNamespace(completion_tokens=3, prompt_tokens=9)
    assert read_answer(completion(" a\n", usage=usage), []) == Answer("a", False, 3, 9)
    assert read_answer(completion("a", "length"), []) == Answer("a", True, None, None)
    assert read_answer(completion(None), []) == Answer("", False, None, None)
    # A server that does not heed stop texts wrote the observation itself, and on to its limit.
    text = "Action: calculate[1]\nObservation: 1\nAction: fin"
    assert read_answer(completion(text, "length"), ["\nObservation:"]) == Answer(
        "Action: calculate[1]", False, None, None
    )
    for broken in ("<html>", SimpleNamespace(choices=[]), SimpleNamespace(choices=None), completion(7)):
        with pytest.raises(openai_policy.Unreadable):
            read_answer(broken, [])


def test_retry_after_is_seconds_or_a_date():
    assert retry_after("2.5") == 2.5
    assert retry_after("-1") == 0.0
    assert retry_after("") is None and retry_after("soon") is None and retry_after("nan") is None
    assert 55 < (retry_after(formatdate(time.time() + 60, usegmt=True)) or 0) <= 60


def test_waiting_follows_the_server_up_to_the_longest_wait():
    def after(tries: int, header: str | None) -> Any:
        response = SimpleNamespace(headers={} if header is None else {"retry-after": header})
        error = RuntimeError()
        error.response = response  # pyright: ignore[reportAttributeAccessIssue]
        return SimpleNamespace(attempt_number=tries, outcome=SimpleNamespace(exception=lambda: error))

    assert openai_policy.wait_seconds(60.0, after(1, "7")) == 7.0
    assert openai_policy.wait_seconds(5.0, after(1, "7")) == 5.0
    assert 1.0 <= openai_policy.wait_seconds(60.0, after(1, None)) <= 1.5
    assert 4.0 <= openai_policy.wait_seconds(60.0, after(3, None)) <= 4.5
    assert openai_policy.wait_seconds(60.0, after(30, None)) == 60.0


def test_what_the_server_asks_for_is_what_is_waited(tmp_path, monkeypatch):
    """0.05 s, where nat alone would wait a second."""
    waits, wait = [], openai_policy.wait_seconds
    monkeypatch.setattr(openai_policy, "wait_seconds", lambda *given: waits.append(wait(*given)) or waits[-1])
    with serving(solve, faults=["429"]) as server:
        config = asking(server.url, tmp_path / "a.jsonl", "collect.n_questions=1", "collect.endpoint.longest_wait=9")
        assert collect(config, quietly).n_broken == 0
    assert waits == [0.05]
