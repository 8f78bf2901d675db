"""The formats of trajectory files, and which one a file is of: its first records say.

A format is a module in `nat/trajectories/formats/` (`alpaca.py` is an example) with two functions

    recognises(value) -> bool                  whether a record, as JSON has it, is of this format
    conversations(where, record)               what the record holds, one `Conversation` or several, by `conversation`
    grouped(records)                           where several records hold one conversation: ("file:line", record) of
                                               the file, those made one (left out by most)

and two values:

    NAME      of the format: `trajectories=NAME` exists because the module does
    PLACE     among the formats, which are listed in this order; a record that several recognise is of the first

Every place, packing and flaw of files is `read_records`' business, and what is asked in a conversation is found beside
the others of its file (`formats/conversations.py`), so the module only says what a record means. A format whose records
are no conversations has `read(path, label, on_bad, needs_label)` instead, which streams ("file:line", trajectory); one
whose records may leave their question to another file (`nat_paper.py`) has `read_questions(path, on_bad)` too, and its
`read` takes `questions`, what that returned. Modules without a `NAME` are what formats share.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, TypeAlias

from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import excerpt
from nat.core.rows.json_records import read_records
from nat.trajectories import formats
from nat.trajectories.draft import draft
from nat.trajectories.formats.conversations import Conversations, read_conversations
from nat.trajectories.mapping import PAGE
from nat.types import Question, RequestError, Trajectory

FIRST = 20  # records that are looked at
DRAFT = "mapping.yaml"  # what a draft of a mapping is to be saved as


@dataclass(frozen=True)
class Format:
    """A kind of trajectory file; `name` is also its value of `trajectories` on the command line."""

    name: str
    recognises: Callable[[Mapping[str, Any]], bool]
    read: Callable[..., Iterator[tuple[str, Trajectory]]]  # of (path, label, on_bad, needs_label)
    read_questions: Callable[..., Mapping[str, Question]] | None  # of (path, on_bad); None: records hold their question
    conversations: Conversations | None = None  # where `read` is `read_conversations` of these


def _formats() -> tuple[Format, ...]:
    """What the modules of `nat.trajectories.formats` define, by their `PLACE` and, of equals, their name."""
    modules = [import_module(f"{formats.__name__}.{module.name}") for module in iter_modules(formats.__path__)]
    of_formats = sorted((m for m in modules if hasattr(m, "NAME")), key=lambda m: (m.PLACE, m.NAME))
    return tuple(
        Format(
            m.NAME,
            partial(_is_first, m.recognises, tuple(before.recognises for before in of_formats[:place])),
            reader(m),
            getattr(m, "read_questions", None),
            getattr(m, "conversations", None),
        )
        for place, m in enumerate(of_formats)
    )


Recognises: TypeAlias = Callable[[Mapping[str, Any]], bool]


def _is_first(recognises: Recognises, others: tuple[Recognises, ...], value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format, and of none whose `PLACE` is lower."""
    return recognises(value) and not any(other(value) for other in others)


def reader(module: ModuleType) -> Callable[..., Iterator[tuple[str, Trajectory]]]:
    conversations = getattr(module, "conversations", None)
    return module.read if conversations is None else partial(read_conversations, conversations)


FORMATS = _formats()


def detect(path: Path) -> Format:
    """The format that most of the first records are of; of equals, the one whose `PLACE` is lower.

    Raises RequestError where no record can be read, and where no format recognises any.
    """
    bad: list[BadRow] = []
    found = read_records(path, lambda row: None if bad else bad.append(row))
    records = [record.value for _, record in islice(found, FIRST)]
    if not records and bad:
        raise RequestError(f"{path}: holds no record that can be read; the first problem:\n{bad[0]}")
    if not records:
        raise no_record(path)
    counts = [sum(map(format.recognises, records)) for format in FORMATS]
    if max(counts) == 0:
        keys = list(dict.fromkeys(key for record in records for key in record))
        if all({"question", "answer"} <= record.keys() and "messages" not in record for record in records):
            raise RequestError(
                f"{path}: holds questions and answers, no trajectories.\nLeave it out; nat audit compares with it as "
                f"audit.evaluation={path}, nat train asks it as environment.questions={path}."
            )
        shown = ", ".join(excerpt(key) for key in keys[:12]) + (", ..." if len(keys) > 12 else "")
        raise RequestError(
            f"{path}: no format recognises its records; their keys: {shown or '(none)'}.\n{_remedy(path, records)}"
        )
    return FORMATS[counts.index(max(counts))]


def _remedy(path: Path, records: Sequence[Mapping[str, Any]]) -> str:
    """What to do with a file of no known format: a draft of its mapping, where its records hold turns."""
    known = ", ".join(format.name for format in FORMATS)
    otherwise = f"If it is of a known format, name that (trajectories=chat); else leave the file out. Known: {known}."
    made = draft(records)
    if made is None:
        return (
            "They hold nothing that looks like the turns of an agent. If they do, say where in a mapping file "
            f"(trajectories=mapped, {PAGE}).\n{otherwise}"
        )
    drafted = "\n".join(f"  {line}" for line in made.text.splitlines())
    missing = "" if made.has_label else "It names no label: add label: EXPRESSION, or give trajectories.label=RULE.\n"
    return (
        f"A first draft of a mapping, which reads {made.reads} of the first {len(records)}; save it as "
        f"{DRAFT}, mend it, and look at what it gives:\n\n{drafted}\n\n"
        f"  nat audit {shlex.quote(str(path))} trajectories=mapped trajectories.map={DRAFT}\n\n"
        f"{missing}What the keys mean: {PAGE}.\n{otherwise}"
    )


def no_record(path: Path) -> RequestError:
    return RequestError(f"{path}: holds no record.\nLeave it out, or look at what should have written it.")
