"""The tool `search[query]` that real benchmarks use: over a corpus, from recordings, or on the web."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from pydantic.dataclasses import dataclass

from nat.schema import STRICT
from nat.trajectories.json_lines import DroppedRow
from nat.types import Question, RequestError, Tool

NAME = "search"  # the tool's, in an agent's actions
# What each kind cannot do without; `path` has a check of its own, because no option can have a value for it.
NEEDED: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "bm25": ("on_bad_row", "results", "max_characters"),
    "replay": ("format", "on_bad_row"),
    "web": ("results", "max_characters", "url", "key_variable", "timeout", "attempts", "concurrency"),
}
# Besides these and `path`; whatever else is given would be silently without effect.
OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "bm25": ("index",),
    "replay": ("questions", "fuzzy"),
    "web": ("parameters", "cache"),
}
# Keys that decide what a search costs and where things lie, never what it finds.
OF_NO_EFFECT = ("index", "key_variable", "timeout", "attempts", "concurrency", "cache")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SearchConfig:
    """Values and their meaning: conf/search/. What a kind does not use is null."""

    kind: Literal["none", "bm25", "replay", "web"]
    path: str | list[str] | None
    format: Literal["jsonl", "react", "nat"] | None
    questions: str | None
    on_bad_row: Literal["error", "drop"] | None
    index: str | None
    results: PositiveInt | None
    max_characters: Annotated[int, Field(ge=20)] | None
    fuzzy: Annotated[float, Field(gt=0, le=100)] | None
    url: str | None
    key_variable: str | None
    parameters: dict[str, str | int | float | bool] | None
    timeout: PositiveFloat | None
    attempts: PositiveInt | None
    concurrency: PositiveInt | None
    cache: str | None

    @model_validator(mode="after")
    def _suits_the_kind(self) -> SearchConfig:
        for name in NEEDED[self.kind]:
            if getattr(self, name) is None:
                raise ValueError(f"{name}=null: search={self.kind} needs it; conf/search/{self.kind}.yaml has a value")
        if self.path is not None and self.kind in ("none", "web"):
            raise ValueError(
                f"path={self.path!r}: search={self.kind} reads no file; choose search=bm25 (a corpus) or search=replay "
                "(recorded observations) with it"
            )
        used = (*NEEDED[self.kind], *OPTIONAL[self.kind], "kind", "path")
        for name in (field.name for field in fields(self) if field.name not in used):
            if (value := getattr(self, name)) is not None:
                raise ValueError(f"{name}={value!r}: search={self.kind} does not use it; it must be null")
        if self.questions is not None and self.format != "nat":
            raise ValueError(f"questions={self.questions!r}: only recordings of search.format=nat are joined with it")
        if reserved := {"q", "num"} & set(self.parameters or {}):
            raise ValueError(f"parameters={self.parameters!r}: nat itself sends {min(reserved)!r}; leave it out there")
        return self


@plain_dataclass(frozen=True)
class Search:
    """A search tool, ready. `dropped` are the rows of its files that were left out (`search.on_bad_row=drop`)."""

    tool: Tool  # for any question; keeps nothing between calls
    open_tools: Callable[[Question], tuple[Tool, ...]] | None  # of one episode, where its question matters (replay)
    dropped: tuple[DroppedRow, ...]
    summary: str  # one line: what is searched, with counts


def make_search(config: SearchConfig) -> Search | None:
    """The configured tool; None for search=none.

    May take minutes the first time (an index is built). Raises RequestError for what `check` refuses and for files
    that cannot be used.
    """
    check(config)
    match config.kind:
        case "bm25":
            from nat.tools import bm25

            assert config.on_bad_row and config.results and config.max_characters
            corpus = bm25.open_corpus(files(config), Path(config.index) if config.index else None, config.on_bad_row)
            tool = bm25.make_tool(corpus.bm25, config.results, config.max_characters)
            return Search(tool, None, corpus.dropped, f"{len(corpus.bm25.documents)} documents of {_shown(config)}")
        case "replay":
            from nat.tools import replay

            assert config.format and config.on_bad_row
            read = replay.read_recordings(files(config), config.format, config.questions, config.on_bad_row)
            recordings = replay.Recordings(read.recordings, config.fuzzy)
            return Search(
                replay.make_tool(recordings, None),
                lambda question: (replay.make_tool(recordings, question.text),),
                read.dropped,
                f"{len(read.recordings)} recorded observations of {_shown(config)}",
            )
        case "web":
            from nat.tools import web_search

            assert config.url and config.key_variable and config.results and config.max_characters
            assert config.timeout and config.attempts and config.concurrency
            web = web_search.WebSearch(
                url=config.url,
                key_variable=config.key_variable,
                results=config.results,
                parameters=dict(config.parameters or {}),
                timeout=config.timeout,
                attempts=config.attempts,
                concurrency=config.concurrency,
                directory=web_search.response_directory(config.cache),
            )
            return Search(web_search.make_tool(web, config.max_characters), None, (), config.url)
        case "none":
            return None


def check(config: SearchConfig) -> None:
    """Refuse what can be seen to fail before anything heavy is imported: a missing file, a missing key.

    Only the chosen kind is looked at: no other one's file or key is asked for.
    """
    if config.kind in ("bm25", "replay"):
        files(config)
    if config.kind == "replay" and config.questions is not None and not Path(config.questions).is_file():
        raise RequestError(f"search.questions={config.questions}: {Path(config.questions).absolute()} does not exist.")
    if config.kind == "web":
        from nat.tools.web_search import check_url, read_key

        assert config.url and config.key_variable
        check_url(config.url)
        read_key(config.key_variable)


def files(config: SearchConfig) -> list[Path]:
    """The files that decide what a search finds, each once, in the order given; none for the web and for no search.

    Raises RequestError where none is named, for a pattern that matches nothing, and for what is no file.
    """
    if config.kind not in ("bm25", "replay"):
        return []
    if not config.path:
        corpus = config.kind == "bm25"
        what = "a corpus: JSON Lines of title and text" if corpus else "trajectories to replay"
        given = "null" if config.path is None else config.path
        raise RequestError(
            f"search.path={given}: say which file to search ({what}), e.g. "
            f"search.path={'my_corpus' if corpus else 'my_trajectories'}.jsonl "
            "(a path, a glob in quotes, or a list [a.jsonl,b.jsonl])."
        )
    found: dict[Path, Path] = {}
    for item in [config.path] if isinstance(config.path, str) else config.path:
        is_pattern = glob.has_magic(item) and not os.path.lexists(item)
        matches = sorted(glob.glob(item, recursive=True)) if is_pattern else [item]
        if not matches:
            raise RequestError(f"search.path={item}: the pattern matches no file below {Path.cwd()}.")
        for match in map(Path, matches):
            if not match.is_file():
                kind = "is a directory" if match.is_dir() else "does not exist"
                raise RequestError(f"search.path={item}: {match.absolute()} {kind}.\nGive a file or a glob.")
            found.setdefault(match.resolve(), match)
    return list(found.values())


def _shown(config: SearchConfig) -> str:
    return config.path if isinstance(config.path, str) else f"{len(config.path or ())} files"
