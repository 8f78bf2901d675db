"""The choice of a search tool: what each option of conf/search/ holds, needs and refuses, and what it gives."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from nat.core.schema import values_of_effect
from nat.search.config import SearchConfig
from nat.search.replay import MISS
from nat.search.search import check, files, make_search
from nat.types import Question, RequestError

CONF = Path(__file__).parent.parent / "conf" / "search"
KINDS = ("none", "bm25", "replay", "web")
VARIABLE = "SERPER_API_KEY"


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


def config(kind: str, /, **changes: Any) -> SearchConfig:
    tree = {**yaml.safe_load((CONF / f"{kind}.yaml").read_text(encoding="utf-8")), **changes}
    return TypeAdapter(SearchConfig).validate_json(json.dumps(tree), strict=True)


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def corpus(path: Path) -> str:
    return write(
        path, {"title": "Owl", "text": "The owl hunts at night."}, {"title": "Hen", "text": "Lays eggs by day."}
    )


def episode(question: str, query: str, observation: str) -> dict[str, Any]:
    messages = [
        {"role": "assistant", "content": f"Thought: look.\nAction: search[{query}]"},
        {"role": "tool", "content": observation},
        {"role": "assistant", "content": "Action: finish[x]"},
    ]
    return {"question": question, "messages": messages, "outcome": {"success": False}}


# ---- configuration ----


def test_there_is_an_option_for_each_kind():
    assert sorted(path.stem for path in CONF.glob("*.yaml")) == sorted(KINDS)
    for kind in KINDS:
        assert config(kind).kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_gives_the_keys_of_its_kind_in_their_order_with_their_meaning(kind):
    lines = (CONF / f"{kind}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    keys = [re.fullmatch(r"(\w+): \S.*?  # \w.*", line) for line in lines[1:]]
    assert [match and match[1] for match in keys] == [field.name for field in fields(config(kind))]


@pytest.mark.parametrize(
    ("kind", "without"),
    [
        ("none", set()),
        ("bm25", {"index"}),
        ("replay", set()),
        ("web", {"key_variable", "timeout", "attempts", "concurrency", "cache"}),
    ],
)
def test_what_a_search_costs_and_where_things_lie_is_of_no_effect(kind, without):
    assert asdict(config(kind)).keys() - values_of_effect(config(kind)).keys() == without


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("bm25", {"results": None}, "bm25.results\n  Input should be a valid integer"),
        ("bm25", {"on_bad_row": None}, "bm25.on_bad_row\n  Input should be 'error' or 'drop'"),
        ("replay", {"format": None}, "replay.format\n  Input should be 'jsonl', 'react' or 'nat'"),
        ("web", {"url": None}, "web.url\n  Input should be a valid string"),
        ("none", {"path": "x.jsonl"}, "none.path\n  Unexpected keyword argument"),
        ("web", {"path": "x.jsonl"}, "web.path\n  Unexpected keyword argument"),
        ("replay", {"questions": "q.jsonl"}, "questions='q.jsonl': only recordings of search.format=nat"),
        ("web", {"parameters": {"q": "x"}}, "nat itself sends 'q'"),
        ("bm25", {"results": 0}, "greater than 0"),
        ("bm25", {"max_characters": 5}, "greater than or equal to 20"),
        ("none", {"questions": "q.json", "format": "nat"}, "none.format\n  Unexpected keyword argument"),
        ("bm25", {"fuzzy": 85.0}, "bm25.fuzzy\n  Unexpected keyword argument"),
        ("replay", {"results": 3}, "replay.results\n  Unexpected keyword argument"),
        ("web", {"index": None}, "web.index\n  Unexpected keyword argument"),
        ("replay", {"fuzzy": 101.0}, "less than or equal to 100"),
        ("bm25", {"kind": "bm26"}, "'none', 'bm25', 'replay', 'web'"),
        ("bm25", {"paths": "x"}, "Unexpected keyword"),
    ],
)
def test_what_cannot_be_meant_is_refused(kind, changes, message):
    with pytest.raises(ValidationError) as caught:
        config(kind, **changes)
    assert message in str(caught.value)


# ---- check ----


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("bm25", {}, r"search\.path=null: say which file to search \(a corpus: JSON Lines of title and text\)"),
        ("replay", {}, r"search\.path=null: say which file to search \(trajectories to replay\)"),
        ("bm25", {"path": []}, r"search\.path=\[\]: say which file"),
        ("bm25", {"path": "none.jsonl"}, r"search\.path=none\.jsonl: .*none\.jsonl does not exist"),
        ("bm25", {"path": "*.none"}, r"search\.path=\*\.none: the pattern matches no file below"),
        ("bm25", {"path": "folder"}, r"search\.path=folder: .*folder is a directory"),
        (
            "replay",
            {"path": "a.jsonl", "format": "nat", "questions": "q.jsonl"},
            r"search\.questions=q\.jsonl: .*q\.jsonl does",
        ),
        ("web", {}, r"search\.key_variable=SERPER_API_KEY: the environment variable SERPER_API_KEY is not set"),
        ("web", {"url": "serper"}, r"search\.url='serper': it must be an address"),
    ],
)
def test_what_is_missing_is_said_at_once(tmp_path, monkeypatch, kind, changes, message):
    monkeypatch.chdir(tmp_path)
    corpus(tmp_path / "a.jsonl")
    (tmp_path / "folder").mkdir()
    for refuse in (check, make_search):
        with pytest.raises(RequestError, match=message) as caught:
            refuse(config(kind, **changes))
        assert len(str(caught.value).splitlines()) <= 2


def test_only_the_chosen_kind_needs_anything(tmp_path, monkeypatch):
    """No key with bm25, replay or none; no file with web."""
    path = corpus(tmp_path / "a.jsonl")
    check(config("none"))
    check(config("bm25", path=path))
    check(config("replay", path=path))
    monkeypatch.setenv(VARIABLE, "a key")
    check(config("web"))


def test_files_are_found_by_pattern_each_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.jsonl", "a.jsonl", "c[1].jsonl"):
        corpus(tmp_path / name)
    assert files(config("bm25", path="?.jsonl")) == [Path("a.jsonl"), Path("b.jsonl")]
    assert files(config("bm25", path=["b.jsonl", "*.jsonl"])) == [Path("b.jsonl"), Path("a.jsonl"), Path("c[1].jsonl")]
    assert files(config("bm25", path="c[1].jsonl")) == [Path("c[1].jsonl")]
    assert files(config("none")) == files(config("web")) == []


def test_nothing_heavy_is_imported_before_a_tool_is_made(tmp_path):
    program = (
        "import sys, nat.search.search\n"
        "heavy = {'bm25s', 'numpy', 'httpx', 'tenacity', 'rapidfuzz', 'torch', 'filelock', 'datasets'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# ---- tools ----


def test_none_gives_no_tool():
    assert make_search(config("none")) is None


def test_bm25_gives_numbered_snippets(tmp_path):
    search = make_search(config("bm25", path=corpus(tmp_path / "birds.jsonl"), results=1, max_characters=20))
    assert search is not None
    assert search.tool.name == "search"
    assert search.tool.run("what hunts at night") == "#1 Owl: The owl hunts…"
    assert search.open_tools is None
    assert search.dropped == ()
    assert search.summary == f"2 documents of {tmp_path}/birds.jsonl"


def test_bm25_lists_what_it_dropped(tmp_path):
    path = write(tmp_path / "a.jsonl", {"title": "Owl", "text": "An owl."}, {"title": "Hen"})
    search = make_search(config("bm25", path=path, on_bad_row="drop", index=str(tmp_path / "index")))
    assert search is not None
    assert [(row.where, row.reason) for row in search.dropped] == [(f"{path}:2", "missing_value")]
    assert len(list((tmp_path / "index").glob("*/summary.json"))) == 1


def test_replay_tries_the_questions_own_recordings_first(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        episode("Who is it?", "name of the owl", "Archimedes"),
        episode("And who is that?", "name of the owl", "Hedwig"),
        episode("Another one?", "name of the hen", "Ginger"),
    )
    search = make_search(config("replay", path=path))
    assert search is not None and search.open_tools is not None
    (own,) = search.open_tools(Question("q", "and  WHO is that?", "x"))
    assert own.name == search.tool.name == "search"
    assert own.run("name of the owl") == "Hedwig"
    assert own.run("the name of the hen") == "Ginger"
    assert search.tool.run("name of the owl") == "Archimedes"
    assert search.tool.run("capital of France") == MISS
    assert search.summary == f"3 recorded observations of {tmp_path}/a.jsonl"


def test_replay_of_two_files_and_a_list(tmp_path):
    paths = [write(tmp_path / f"{i}.jsonl", episode("Q?", f"query {i}", f"seen {i}")) for i in (1, 2)]
    search = make_search(config("replay", path=paths, fuzzy=None))
    assert search is not None
    assert [search.tool.run(f"query {i}") for i in (1, 2, 3)] == ["seen 1", "seen 2", MISS]
    assert search.summary == "2 recorded observations of 2 files"


def test_web_takes_its_key_from_the_variable_and_shows_it_nowhere(monkeypatch):
    monkeypatch.setenv(VARIABLE, "k3y-0123456789")
    search = make_search(config("web"))
    assert search is not None
    assert search.tool.name == "search"
    assert search.summary == "https://google.serper.dev/search"
    assert "k3y" not in repr(search) + repr(config("web"))
