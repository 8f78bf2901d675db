"""The tool `search[query]` that real benchmarks use: over a corpus, from recordings, or on the web."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from pathlib import Path

from nat.core.rows.bad import DroppedRow
from nat.core.urls import check_url
from nat.search import bm25, replay
from nat.search import web as web_search
from nat.search.config import Bm25Search, FileSearch, NoSearch, ReplaySearch, SearchConfig, WebSearch
from nat.search.web import read_key
from nat.types import Question, RequestError, Tool

NAME = "search"  # the tool's, in an agent's actions


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
    match config:
        case Bm25Search():
            corpus = bm25.open_corpus(files(config), Path(config.index) if config.index else None, config.on_bad_row)
            tool = bm25.make_tool(corpus.bm25, config.results, config.max_characters)
            return Search(tool, None, corpus.dropped, f"{len(corpus.bm25.documents)} documents of {_shown(config)}")
        case ReplaySearch():
            read = replay.read_recordings(files(config), config.format, config.questions, config.on_bad_row)
            recordings = replay.Recordings(read.recordings, config.fuzzy)
            return Search(
                replay.make_tool(recordings, None),
                lambda question: (replay.make_tool(recordings, question.text),),
                read.dropped,
                f"{len(read.recordings)} recorded observations of {_shown(config)}",
            )
        case WebSearch():
            web = web_search.WebSearch(
                url=config.url,
                key_variable=config.key_variable,
                results=config.results,
                parameters=dict(config.parameters),
                timeout=config.timeout,
                attempts=config.attempts,
                concurrency=config.concurrency,
                directory=web_search.response_directory(config.cache),
            )
            return Search(web_search.make_tool(web, config.max_characters), None, (), config.url)
        case NoSearch():
            return None


def check(config: SearchConfig) -> None:
    """Refuse what can be seen to fail before anything heavy is imported: a missing file, a missing key.

    Only the chosen kind is looked at: no other one's file or key is asked for.
    """
    files(config)
    if isinstance(config, ReplaySearch) and config.questions is not None and not Path(config.questions).is_file():
        raise RequestError(f"search.questions={config.questions}: {Path(config.questions).absolute()} does not exist.")
    if isinstance(config, WebSearch):
        check_url(config.url)
        read_key(config.key_variable)


def files(config: SearchConfig) -> list[Path]:
    """The files that decide what a search finds, each once, in the order given; none for the web and for no search.

    Raises RequestError where none is named, for a pattern that matches nothing, and for what is no file.
    """
    if not isinstance(config, FileSearch):
        return []
    if not config.path:
        corpus = isinstance(config, Bm25Search)
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


def _shown(config: FileSearch) -> str:
    return config.path if isinstance(config.path, str) else f"{len(config.path or ())} files"
