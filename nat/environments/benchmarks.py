"""Question sets with reference answers: published benchmarks and the user's own, from a local file or the hub.

One GSM8K record; the reference is what follows `####`, or the whole answer where there is no such mark:

    {"question": "A robe takes 2 bolts of blue fiber and half that much white fiber. ...",
     "answer": "It takes 2/2=<<2/2=1>>1 bolt of white fiber ...\\n#### 3"}

A file is JSON Lines, Parquet, or JSON: a list of records, or an object whose keys are the records' ids.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import Field, PositiveInt, model_validator
from pydantic.dataclasses import dataclass

from nat.agents.actions import FINISH
from nat.agents.scoring import exact_match_score, numeric_score, yes_no_score
from nat.core.questions import normalise
from nat.core.rows.bad import BadRow, DroppedRow
from nat.core.rows.json_lines import read_objects, refuse_constant
from nat.core.schema import OF_NO_EFFECT, STRICT
from nat.tools.calculator import CALCULATOR
from nat.types import Environment, Question, RequestError, Score, Tool

Row: TypeAlias = tuple[str, Any]  # "file:line" or "file: record N", and the record, or the BadRow that it is
OnBadRow: TypeAlias = Literal["error", "drop"]

FILE_TYPES = (".jsonl", ".json", ".parquet")
ID_FIELDS = ("id", "qid", "_id")  # GSM8K-like sets, StrategyQA, HotpotQA
KEPT_METADATA = ("type", "level")  # HotpotQA's kind of question and difficulty
SHOWN_ROWS = 3  # bad rows quoted before "and N more": an error stays on a few lines
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+){0,2}")

SCORERS: Mapping[str, Callable[[str, str], Score]] = {
    "numeric": numeric_score,
    "exact_match": exact_match_score,
    "yes_no": yes_no_score,
}
# How a tool is called, and what an agent is told about it where the instructions say {actions} and {tools}.
TOOL_TEXTS: Mapping[str, tuple[str, str]] = {
    "calculate": (
        "calculate[expression]",
        "calculate gives you the value of an arithmetic expression, for example calculate[(12 + 3) * 4]. "
        "Its result is your next message.",
    ),
    "search": (
        "search[query]",
        "search looks a few words up, for example search[Mont Blanc height]. "
        "What it finds, short numbered excerpts, is your next message.",
    ),
}


@dataclass(frozen=True, config=STRICT, kw_only=True)
class FieldNames:
    """What a question file calls its fields; values and their meaning: conf/environment/gsm8k.yaml."""

    id: str | None
    question: str
    answer: str


@dataclass(frozen=True, config=STRICT, kw_only=True)
class BenchmarkConfig:
    """Values and their meaning: conf/environment/gsm8k.yaml."""

    name: str
    kind: Literal["benchmark"]
    instructions: str
    few_shot: Annotated[str | None, OF_NO_EFFECT]  # `nat collect` alone shows it
    questions: str
    held_out: Annotated[float, Field(gt=0, lt=1)]
    fields: FieldNames
    on_bad_row: OnBadRow
    tools: list[Literal["calculate", "search"]]
    scorer: Literal["numeric", "exact_match", "yes_no"]
    max_turns: PositiveInt

    @model_validator(mode="after")
    def _instructions_name_the_tools_that_there_are(self) -> BenchmarkConfig:
        if len(set(self.tools)) < len(self.tools):
            raise ValueError(f"tools={self.tools}: each tool is named once")
        for key in ("instructions", "few_shot"):
            called = re.findall(r"\b(calculate|search)\[", getattr(self, key) or "")
            if absent := [tool for tool in dict.fromkeys(called) if tool not in self.tools]:
                raise ValueError(
                    f"{key} tell of {absent[0]}[...], which is not among environment.tools={self.tools}; "
                    f"add the tool, or give another text as environment.{key}"
                )
        return self


def make_environment(
    config: BenchmarkConfig,
    search: Tool | None,
    open_search: Callable[[Question], tuple[Tool, ...]] | None = None,
) -> Environment:
    """The config's tools in their order, its scorer and instructions.

    Args:
        search: the tool of the `search` group; None leaves it out, for an agent that calls no tool
            (`nat.config.tree.Config.check` refuses search=none for any other).
        open_search: the search tools of one episode, where its question matters (recordings).
    """
    tools = tuple(CALCULATOR if name == "calculate" else search for name in config.tools)
    tools = tuple(tool for tool in tools if tool is not None)

    def of_one_episode(question: Question) -> tuple[Tool, ...]:
        assert open_search is not None
        opened = {tool.name: tool for tool in open_search(question)}
        return tuple(opened.get(tool.name, tool) for tool in tools)

    return Environment(
        config.name,
        instructions_text(config.instructions, config.tools),
        tools,
        SCORERS[config.scorer],
        config.max_turns,
        grades_by_f1=config.scorer == "exact_match",
        open_tools=of_one_episode if "search" in config.tools and open_search is not None else None,
    )


def instructions_text(instructions: str, tools: Iterable[str]) -> str:
    """`{actions}` becomes `calculate[expression] or finish[answer]`, and `{tools}` a line about each tool."""
    known = [TOOL_TEXTS[tool] for tool in tools]
    actions = " or ".join([*(call for call, _ in known), f"{FINISH}[answer]"])
    about = "".join(f"{text}\n" for _, text in known)
    text = instructions.replace("{actions}", actions)
    return re.sub(r"\{tools\}\n?", lambda _: about, text).strip()


# Questions


class LoadedQuestions(NamedTuple):
    questions: list[Question]
    dropped: list[DroppedRow]


def load_questions(
    source: str, fields: FieldNames, on_bad_row: OnBadRow, score: Callable[[str, str], Score]
) -> LoadedQuestions:
    """Questions from a .jsonl, .json or .parquet file, or from the hub as `OWNER/NAME[:CONFIG[:SPLIT]]` (split test).

    A row without question or answer, with an id or a text that another row has, or with an answer that `score` itself
    rejects, is a bad one: RequestError that counts and names them, or, with `drop`, `dropped`. A question that is
    asked twice with the same answer is asked once, the first time, and always listed in `dropped`: published sets
    hold some, and nowhere in `nat` are two questions of one text two questions. Where the answers differ nobody knows
    which is right: all of them are bad rows. Raises RequestError for a source that cannot be read or has no records.
    """
    path = Path(source)
    if path.suffix in FILE_TYPES or path.exists():
        rows, prefix = _rows(path, fields.id or ID_FIELDS[0]), path.stem
    elif _HUB_ID.fullmatch(source):
        rows, prefix = _hub_rows(source), source
    else:
        raise RequestError(
            f"environment.questions={source}: neither a file ({', '.join(FILE_TYPES)}) nor a hub id (OWNER/NAME)"
        )
    if not rows:
        raise RequestError(f"environment.questions={source}: holds no records")
    loaded = _checked(rows, prefix, fields, score)
    bad = [drop for drop in loaded.dropped if drop.reason != "duplicate_question"]
    if bad and on_bad_row == "error":
        shown = [f"{drop.where}: {drop.detail}" for drop in bad[:SHOWN_ROWS]]
        more = [f"... and {len(bad) - SHOWN_ROWS} more"] if len(bad) > SHOWN_ROWS else []
        raise RequestError(
            "\n".join([
                f"environment.questions={source}: {len(bad)} of {len(rows)} rows cannot be used:",
                *shown,
                *more,
                "Mend them, or leave them out with environment.on_bad_row=drop.",
            ])
        )  # fmt: skip
    if not loaded.questions:
        raise RequestError(
            f"environment.questions={source}: none of the {len(rows)} rows can be used.\n"
            f"The first: {bad[0].where}: {bad[0].detail}"
        )
    return loaded


def check_split(source: str | None, split: Literal["validation", "test"]) -> None:
    """Refuse the validation split of a question file or hub id: its questions are all test questions.

    `held_out` has both splits, and so have questions that an environment makes itself (null).
    """
    if split == "validation" and source not in ("held_out", None):
        raise RequestError(
            f"evaluation.split=validation with environment.questions={source}: a question file is a test set.\n"
            "Take environment.questions=held_out, which keeps questions for validation, or name a file of validation "
            "questions there and evaluate with evaluation.split=test."
        )


def reference_answer(answer: str) -> str:
    """What follows the last `####`; the whole text where there is none."""
    return answer.rsplit("####", 1)[-1].strip()


def _checked(
    rows: Iterable[Row], prefix: str, fields: FieldNames, score: Callable[[str, str], Score]
) -> LoadedQuestions:
    kept: dict[str, tuple[str, Question]] = {}  # by normalised text: where it stands
    contradicted: set[str] = set()
    ids: dict[str, str] = {}
    dropped: list[DroppedRow] = []
    for index, (where, row) in enumerate(rows):
        question = _question(row, where, f"{prefix}-{index}", fields, score)
        if isinstance(question, DroppedRow):
            dropped.append(question)
            continue
        if question.id in ids:
            detail = f"id {question.id!r} was used before, at {ids[question.id]}"
            dropped.append(DroppedRow(where, "duplicate_id", detail))
            continue
        ids[question.id] = where
        text = normalise(question.text)
        if text not in kept:
            kept[text] = (where, question)
            continue
        first, other = kept[text]
        if score(question.answer, other.answer).success:
            dropped.append(DroppedRow(where, "duplicate_question", f"the same question as at {first}"))
            continue
        contradicted.add(text)
        answers = f"{_short(other.answer)} at {first}, {_short(question.answer)} here"
        dropped.append(DroppedRow(where, "contradictory_answer", f"the same question has two answers: {answers}"))
    for text in sorted(contradicted):
        where, _ = kept.pop(text)
        detail = "the same question has another answer further down"
        dropped.append(DroppedRow(where, "contradictory_answer", detail))
    return LoadedQuestions([question for _, question in kept.values()], dropped)


def _question(
    row: Any, where: str, id: str, fields: FieldNames, score: Callable[[str, str], Score]
) -> Question | DroppedRow:
    if isinstance(row, BadRow):
        reason = "duplicate_id" if row.reason == "duplicate_id" else "not_json"
        return DroppedRow(where, reason, row.problem)
    if not isinstance(row, Mapping):
        detail = f"expected a record with question and answer, got {_short(row)}"
        return DroppedRow(where, "wrong_value", detail)
    for field in (fields.question, fields.answer):
        if not _text(row.get(field)):
            found = ", ".join(map(str, row)) or "nothing"
            detail = f"{field!r} is missing or empty; the record holds: {found[:200]}"
            return DroppedRow(where, "missing_value", detail)
    text, answer = _text(row[fields.question]), reference_answer(_text(row[fields.answer]))
    if not answer:
        return DroppedRow(where, "missing_value", "nothing follows '####' in the answer")
    try:
        (text + answer).encode()
    except UnicodeEncodeError:  # no tokenizer, hash or file could take it
        return DroppedRow(where, "wrong_value", "half of a surrogate pair in the text is no character")
    given = [row.get(name) for name in (ID_FIELDS if fields.id is None else (fields.id,))]
    own = next((str(value) for value in given if _is_id(value)), None)
    if own is None and fields.id is not None:
        return DroppedRow(where, "missing_value", f"{fields.id!r} is missing; it must be text or a whole number")
    if not score(answer, answer).success:
        detail = f"the answer {_short(answer)} is not counted as right itself by the scorer"
        return DroppedRow(where, "unscorable", detail)
    metadata = {key: row[key] for key in KEPT_METADATA if isinstance(row.get(key), str | int)}
    return Question(id if own is None else own, text, answer, metadata)


def _text(value: Any) -> str:
    """A question or an answer as text, empty for what is neither text, nor a number, nor true or false."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and not math.isfinite(value):  # how tables write a missing value
        return ""
    return str(value).strip() if isinstance(value, str | int | float) else ""


def _is_id(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, str | int) and bool(str(value).strip())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _rows(path: Path, id_field: str) -> list[Row]:
    """(file:line, record) of a local file; the ids of a JSON object are put into `id_field`."""
    if not path.is_file():
        raise RequestError(f"environment.questions={path}: no such file")
    if path.suffix == ".parquet":
        return _numbered(path, _parquet_rows(path))
    if path.suffix == ".jsonl":
        rows: list[Row] = []
        rows.extend(read_objects(path, lambda bad: rows.append((bad.where, bad))))
        return rows
    if path.suffix == ".json":
        return _json_rows(path, id_field)
    raise RequestError(f"environment.questions={path}: unknown type; use {', '.join(FILE_TYPES)}")


def _numbered(source: Path | str, rows: Iterable[Any]) -> list[Row]:
    return [(f"{source}: record {number}", row) for number, row in enumerate(rows, 1)]


def _json_rows(path: Path, id_field: str) -> list[Row]:
    twice: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(made := dict(found)) < len(found):  # an id that two records share; dict() keeps the last
            names = [name for name, _ in found]
            twice.extend(name for name in made if names.count(name) > 1)
        return made

    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text, parse_constant=refuse_constant, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise RequestError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: not UTF-8 ({error.reason})") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path}: not JSON ({str(error)[:80]})") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}") from None
    if isinstance(rows, list):
        found = _numbered(path, rows)
    elif isinstance(rows, dict) and any(isinstance(row, dict) for row in rows.values()):
        found = [
            (f"{path}: record {id!r}", {**row, id_field: id} if isinstance(row, dict) else row)
            for id, row in rows.items()
        ]
    else:
        raise RequestError(
            f"{path}:1: expected a list of records or an object of id: record, got a {type(rows).__name__}"
        )
    bad = [BadRow(str(path), "duplicate_id", f"the key {name!r} stands twice in one object") for name in twice]
    return found + [(row.where, row) for row in bad]


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise RequestError(f"{path}: not a parquet file ({str(error)[:80]})") from None


def _hub_rows(source: str) -> list[Row]:
    import datasets

    name, config, split = [*source.split(":"), None, None][:3]
    try:
        rows = datasets.load_dataset(name, config, split=split or "test")
    except Exception as error:  # the hub client raises a wide, changing family of errors for what a user can mend
        raise RequestError(
            f"environment.questions={source}: the hub did not give it ({type(error).__name__}: {str(error)[:120]}); "
            "check OWNER/NAME[:CONFIG[:SPLIT]] and the network, or give a local file"
        ) from None
    return _numbered(source, rows)
