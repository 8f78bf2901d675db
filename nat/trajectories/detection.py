"""The formats of trajectory files, and which one a file is of: its first records say.

To add a format, write a module beside this one with two functions (`react.py` is an example):

    recognises(value) -> bool                  whether a record, as JSON has it, is of this format
    read(path, label, on_bad, needs_label)     stream ("file:line", trajectory), with `read_records` and `readable`

then add it to `FORMATS`, its name to `WholeTrajectoryFiles.kind`, and a file `conf/trajectories/NAME.yaml`. Every
place, packing and flaw of files is `read_records`' business, so the module only says what a record means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from nat.core.rows.bad import BadRow
from nat.core.rows.json_lines import excerpt
from nat.core.rows.json_records import read_records
from nat.trajectories.formats import alpaca, chat, gsm8k_solutions, nat_paper, native, react, sharegpt
from nat.types import RequestError, Trajectory

FIRST = 20  # records that are looked at


@dataclass(frozen=True)
class Format:
    """A kind of trajectory file; `name` is also its value of `trajectories` on the command line."""

    name: str
    recognises: Callable[[Mapping[str, Any]], bool]
    read: Callable[..., Iterator[tuple[str, Trajectory]]]  # of (path, label, on_bad, needs_label)


FORMATS = (
    Format(native.NAME, native.recognises, native.read),
    Format(nat_paper.NAME, nat_paper.recognises, nat_paper.read),
    Format(react.NAME, react.recognises, react.read),
    Format(gsm8k_solutions.NAME, gsm8k_solutions.recognises, gsm8k_solutions.read),
    Format(sharegpt.NAME, sharegpt.recognises, sharegpt.read),
    Format(chat.NAME, chat.recognises, chat.read),
    Format(alpaca.NAME, alpaca.recognises, alpaca.read),
)


def detect(path: Path) -> Format:
    """The format that most of the first records are of; of equals, the one further up in `FORMATS`.

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
            f"{path}: no format recognises its records; their keys: {shown or '(none)'}.\n"
            f"Known are {', '.join(format.name for format in FORMATS)}. Name the one it is (trajectories=chat), write "
            "records as nat/trajectories/formats/native.py shows, or leave the file out."
        )
    return FORMATS[counts.index(max(counts))]


def no_record(path: Path) -> RequestError:
    return RequestError(f"{path}: holds no record.\nLeave it out, or look at what should have written it.")
