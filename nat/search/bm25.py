"""BM25 over documents of a title and a text: in memory, or from a corpus file with an index on disk.

A corpus is a .jsonl or .json (a list) file of such rows; other keys are ignored, `id` is optional:

    {"id": "12", "title": "Ed Wood", "text": "Edward Davis Wood Jr. was an American filmmaker, actor, and author."}

Its index is built once for each content, in a directory named by that content's hash, and memory-mapped from then on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

from nat.core.cache import cache_directory
from nat.core.progress import progress
from nat.core.rows.bad import BadRow, DroppedRow, OnBad
from nat.core.rows.json_lines import read_objects, readable, require
from nat.core.rows.json_lines import shorten as shorten_text
from nat.core.rows.json_records import read_records
from nat.types import RequestError, Tool, ToolError

logger = logging.getLogger(__name__)

MAX_QUERY_CHARACTERS = 500  # the longest query of some 3,000 recorded ones has 190
NOTHING = "Nothing was found."
FORMAT = 1  # of the index; to be raised when its layout, or what `words` returns, changes
SHOWN_ROWS = 3  # bad rows that an error lists by place
ROWS_BETWEEN_REPORTS = 1000


class Document(NamedTuple):
    title: str
    text: str


def words(text: str) -> list[str]:
    """The terms of a text: lower-case runs of letters and digits."""
    return re.findall(r"[^\W_]+", text.casefold())


class Bm25:
    """An index and its documents. `search` gives the best documents first, none without a term of the query."""

    def __init__(self, documents: Sequence[Document], index: Any = None) -> None:
        """`index`: a `bm25s.BM25` over exactly these documents; by default it is made, in memory."""
        self.documents = documents
        self._index: Any = index
        if index is None:
            self._index = _bm25s().BM25()
            self._index.index([words(f"{d.title} {d.text}") for d in documents], show_progress=False)

    def search(self, query: str, n: int) -> list[Document]:
        import numpy as np

        terms = [term for term in words(query) if term in self._index.vocab_dict]
        if not terms:
            return []
        scores = self._index.get_scores(terms)
        if n < len(scores):  # all that may be among the best, ties included: sorting every document takes longer
            candidates = np.flatnonzero(scores >= np.partition(scores, -n)[-n])
        else:
            candidates = np.arange(len(scores))
        # Ties go to the earlier document.
        best = candidates[np.lexsort((candidates, -scores[candidates]))][:n]
        return [self.documents[place] for place in best.tolist() if scores[place] > 0]


def snippets(documents: Sequence[Document]) -> str:
    """`#1 ... #2 ...`, one line."""
    return " ".join(f"#{number} {document.text}" for number, document in enumerate(documents, 1))


# ---- the tool ----


def make_tool(bm25: Bm25, results: int, max_characters: int) -> Tool:
    """`search[query]`: the best `results` documents as one line of numbered snippets."""

    def search(query: str) -> str:
        check_query(query)
        # Each word counts once: one that is repeated a hundred times would cost a hundred times as much.
        distinct = " ".join(dict.fromkeys(words(query)))
        return titled_snippets(bm25.search(distinct, results), max_characters)

    return Tool(name="search", run=search)


def check_query(query: str) -> None:
    """Refuse, as an observation, what is no query: nothing to look for, or a text that would take long."""
    if len(query) > MAX_QUERY_CHARACTERS:
        raise ToolError(f"the query is longer than {MAX_QUERY_CHARACTERS} characters")
    if not words(query):
        raise ToolError("the query holds no words")


def titled_snippets(documents: Sequence[Document], max_characters: int) -> str:
    """`#1 Title: text… #2 Title: text`, one line; `NOTHING` without documents.

    Each snippet has at most `max_characters`, its title included and its number not.
    """
    texts = [f"{document.title}: {document.text}" if document.title else document.text for document in documents]
    return " ".join(f"#{number} {shorten(text, max_characters)}" for number, text in enumerate(texts, 1)) or NOTHING


def shorten(text: str, max_characters: int) -> str:
    """The text on one line without control characters, cut between two words, with `…` where it was cut."""
    # Some characters more, since runs of spaces become one; a document may have megabytes.
    line = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+", " ", text[: 4 * max_characters]).split())
    if len(line) <= max_characters:
        return line if len(text) <= 4 * max_characters else f"{line[: max_characters - 1]}…"
    start = line[:max_characters].rpartition(" ")[0] or line[: max_characters - 1]
    return f"{start.rstrip(' ,;:')[: max_characters - 1]}…"


# ---- a corpus with its index on disk ----


@dataclass(frozen=True)
class Corpus:
    bm25: Bm25
    dropped: tuple[DroppedRow, ...]


def open_corpus(paths: Sequence[Path], directory: Path | None, on_bad_row: Literal["error", "drop"]) -> Corpus:
    """The corpus of these files, indexed; the index is built if `directory` does not hold one of the same content.

    Args:
        directory: keeps any number of indexes; None: nat's cache directory, and memory alone where there is none.

    Any number of processes may ask at once: one builds, the others wait for it. Raises RequestError with file:line and
    counts for rows that cannot be used (`error`; `drop` leaves them out), for a corpus without documents, and for a
    given directory that cannot be written.
    """
    from filelock import FileLock

    is_given = directory is not None
    if directory is None:
        cache = cache_directory()
        directory = cache / "bm25" if cache else None
    if directory is None:
        return _in_memory(paths, on_bad_row)
    place = directory / _key(paths, on_bad_row)
    if corpus := _load(place):
        return corpus
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / f".{place.name}.lock"):
            if corpus := _load(place):  # another process has built it in the meantime
                return corpus
            _build(place, paths, on_bad_row)
    except OSError as error:
        if is_given:
            raise RequestError(
                f"search.index={directory}: the index cannot be written ({error.strerror or error}).\n"
                "Name a directory that can be, or leave search.index=null."
            ) from None
        logger.warning("the index cannot be kept in %s (%s); it is built in memory", directory, error)
        return _in_memory(paths, on_bad_row)
    corpus = _load(place)
    if corpus is None:
        raise RequestError(f"search.index={directory}: the index just built cannot be read back.")
    return corpus


def _key(paths: Sequence[Path], on_bad_row: str) -> str:
    """Names an index by what it was made from and with; not by the files' names, nor by nat's version."""
    parts: list[Any] = [FORMAT, _bm25s().__version__, on_bad_row]
    for path in paths:
        _count_lines(path)  # says what is wrong with a file that cannot be read
        with path.open("rb") as file:
            parts.append([path.suffix, hashlib.file_digest(file, "sha256").hexdigest()])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _in_memory(paths: Sequence[Path], on_bad_row: Literal["error", "drop"]) -> Corpus:
    dropped: list[DroppedRow] = []
    documents = list(_documents(paths, on_bad_row, dropped))
    return Corpus(Bm25(documents), tuple(dropped))


def _build(place: Path, paths: Sequence[Path], on_bad_row: Literal["error", "drop"]) -> None:
    """Make the index beside its place and move it there whole. The caller holds the lock."""
    import numpy as np

    unfinished = place.with_name(f".{place.name}.unfinished")
    for old in (unfinished, place):  # of a killed process; one that could not be read
        shutil.rmtree(old, ignore_errors=True)
    unfinished.mkdir()
    try:
        vocabulary: dict[str, int] = {}
        terms: list[list[int]] = []
        dropped: list[DroppedRow] = []
        ends = [0]
        with (unfinished / "documents").open("wb") as file:
            for document in _documents(paths, on_bad_row, dropped):
                encoded = json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
                file.write(encoded)
                ends.append(ends[-1] + len(encoded))
                found = words(f"{document.title} {document.text}")
                terms.append([vocabulary.setdefault(word, len(vocabulary)) for word in found])
        index = _bm25s().BM25()
        index.index((terms, vocabulary), show_progress=sys.stderr.isatty())
        index.save(unfinished, allow_pickle=False)
        np.save(unfinished / "ends.npy", np.array(ends, dtype=np.int64))
        sizes = {path.name: path.stat().st_size for path in sorted(unfinished.iterdir())}
        summary = {"documents": len(terms), "dropped": dropped, "sizes": sizes}
        (unfinished / "summary.json").write_text(json.dumps(summary, ensure_ascii=False) + "\n", encoding="utf-8")
        unfinished.rename(place)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _load(place: Path) -> Corpus | None:
    """The index at this place, memory-mapped; None where there is none that can be used."""
    try:
        summary = json.loads((place / "summary.json").read_text(encoding="utf-8"))
        if any((place / name).stat().st_size != size for name, size in summary["sizes"].items()):
            raise ValueError("a file has another size than it was written with")
        documents = _MappedDocuments(place / "documents", place / "ends.npy")
        index = _bm25s().BM25.load(place, mmap=True)
        dropped = tuple(DroppedRow(*row) for row in summary["dropped"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("the index %s cannot be read (%s); it is built again", place, error)
        return None
    return Corpus(Bm25(documents, index), dropped)


class _MappedDocuments(Sequence[Document]):
    """Documents that stay on disk until they are asked for; may be read by several threads at once."""

    def __init__(self, documents: Path, ends: Path) -> None:
        import numpy as np

        self._ends = np.load(ends, mmap_mode="r", allow_pickle=False)
        with documents.open("rb") as file:
            self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        encoded = self._content[self._ends[place] : self._ends[place + 1]]
        return Document(*json.loads(encoded.decode("utf-8", "surrogatepass")))


# ---- reading a corpus ----


def _documents(
    paths: Sequence[Path], on_bad_row: Literal["error", "drop"], dropped: list[DroppedRow]
) -> Iterator[Document]:
    """Stream the usable documents; the other rows are added to `dropped`.

    Raises RequestError at the end where rows are bad and must not be, and where no document is left.
    """

    def drop(bad: BadRow) -> None:
        dropped.append(DroppedRow(bad.where, bad.reason, bad.problem))

    ids: dict[str, str] = {}
    n_good = 0
    total = sum(map(_count_lines, paths))
    with progress(total, "corpus", "lines") as advance:
        for path in paths:
            for _, document in readable(_rows(path, drop), partial(_document, ids=ids), drop):
                n_good += 1
                if n_good % ROWS_BETWEEN_REPORTS == 0:
                    advance(min(n_good + len(dropped), total), f"{n_good} documents")
                yield document
        advance(total, f"{n_good} documents")
    counts = ", ".join(f"{count} {reason}" for reason, count in Counter(row.reason for row in dropped).most_common())
    listed = [f"{row.where}: {row.detail}" for row in dropped[:SHOWN_ROWS]]
    if len(dropped) > SHOWN_ROWS:
        listed.append(f"... and {len(dropped) - SHOWN_ROWS} more")
    if not n_good:
        raise RequestError("\n".join([f"search.path={', '.join(map(str, paths)):.200}: holds no document.", *listed]))
    if dropped and on_bad_row == "error":
        problem = (
            f"search.path: {len(dropped)} of {n_good + len(dropped)} rows of the corpus cannot be used ({counts}):"
        )
        remedy = "Correct them, or leave them out with search.on_bad_row=drop"
        raise RequestError("\n".join([problem, *listed, remedy]))
    if dropped:
        logger.warning("%d of %d rows of the corpus are left out: %s", len(dropped), n_good + len(dropped), counts)


def _document(where: str, row: Mapping[str, Any], ids: dict[str, str]) -> Document:
    """A row's document. Raises BadRow; a title may be empty, a text may not."""
    title, text = (require(row, key, str, where).strip() for key in ("title", "text"))
    if not words(text):
        raise BadRow(where, "wrong_value", f"'text' is {shorten_text(text)!r}; it must hold a word.")
    id = row.get("id", row.get("_id"))
    if id is not None:
        before = ids.setdefault(str(id), where)
        if before != where:
            problem = f"id {shorten_text(str(id))!r} was used before, at {before}; give each document its own, or none."
            raise BadRow(where, "duplicate_id", problem)
    return Document(title, text)


def _rows(path: Path, on_bad: OnBad) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix == ".jsonl":
        return read_objects(path, on_bad)
    return ((where, record.value) for where, record in read_records(path, on_bad))


def _count_lines(path: Path) -> int:
    """For the progress bar. Raises RequestError for a file that is no corpus or cannot be read."""
    if path.suffix not in (".jsonl", ".json"):
        raise RequestError(f"search.path={path}: unknown type; a corpus is a .jsonl or .json file of title and text.")
    try:
        with path.open("rb") as file:
            return 1 + sum(chunk.count(b"\n") for chunk in iter(partial(file.read, 1 << 20), b""))
    except OSError as error:
        raise RequestError(f"search.path={path}: cannot be read ({error.strerror or error}).") from None


def _bm25s() -> Any:
    """The library, without its debug messages in our log."""
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)
    return bm25s
