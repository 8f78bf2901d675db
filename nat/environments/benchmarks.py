"""Published word-problem sets (GSM8K, SVAMP, MultiArith, ASDiv) from a local file or the Hugging Face hub.

One GSM8K record; the reference is what follows `####`, or the whole answer where there is no such mark:

    {"question": "A robe takes 2 bolts of blue fiber and half that much white fiber. ...",
     "answer": "It takes 2/2=<<2/2=1>>1 bolt of white fiber ...\\n#### 3"}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from nat.environments.scoring import numeric_match
from nat.schema import STRICT
from nat.tools.calculator import CALCULATOR
from nat.trajectories.json_lines import read_objects
from nat.types import Environment, Question, RequestError

FILE_TYPES = (".jsonl", ".json", ".parquet")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+){0,2}")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class BenchmarkConfig:
    """Values and their meaning: conf/environment/gsm8k.yaml."""

    name: str
    kind: Literal["benchmark"]
    instructions: str
    questions: str
    held_out: Annotated[float, Field(gt=0, lt=1)]
    max_turns: PositiveInt


def make_environment(config: BenchmarkConfig) -> Environment:
    """A calculator, numeric scoring, and the config's instructions."""
    return Environment(config.name, config.instructions.strip(), (CALCULATOR,), numeric_match, config.max_turns)


def load_questions(source: str) -> list[Question]:
    """Questions from a .jsonl, .json or .parquet file, or from the hub as `OWNER/NAME[:CONFIG[:SPLIT]]` (split test).

    Raises `RequestError` with file:line for what cannot be read, for a record without question or answer, and for a
    source without records.
    """
    path = Path(source)
    if path.suffix in FILE_TYPES or path.exists():
        rows, prefix = _rows(path), path.stem
    elif _HUB_ID.fullmatch(source):
        rows, prefix = _hub_rows(source), source
    else:
        raise RequestError(
            f"environment.questions={source}: neither a file ({', '.join(FILE_TYPES)}) nor a hub id (OWNER/NAME)"
        )
    questions = [_question(row, where, f"{prefix}-{index}") for index, (where, row) in enumerate(rows)]
    if not questions:
        raise RequestError(f"environment.questions={source}: holds no records")
    return questions


def check_split(source: str, split: Literal["validation", "test"]) -> None:
    """Refuse the validation split of a question file or hub id: its questions are all test questions.

    `held_out` has both splits.
    """
    if split == "validation" and source != "held_out":
        raise RequestError(
            f"evaluation.split=validation with environment.questions={source}: a question file is a test set.\n"
            "Take environment.questions=held_out, which keeps questions for validation, or name a file of validation "
            "questions there and evaluate with evaluation.split=test."
        )


def reference_answer(answer: str) -> str:
    """What follows the last `####`; the whole text where there is none."""
    return answer.rsplit("####", 1)[-1].strip()


def _question(row: Any, where: str, id: str) -> Question:
    if not isinstance(row, Mapping):
        raise RequestError(f"{where}: expected a record with question and answer, got {str(row)[:60]!r}")
    for field in ("question", "answer"):
        value = row.get(field)
        if not isinstance(value, (str, int, float)) or not str(value).strip():
            found = ", ".join(map(str, row)) or "nothing"
            raise RequestError(f"{where}: {field!r} is missing or empty; the record holds: {found[:200]}")
    answer = reference_answer(str(row["answer"]))
    if not answer:
        raise RequestError(f"{where}: nothing follows '####' in the answer")
    return Question(id=id, text=str(row["question"]).strip(), answer=answer)


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(file:line, record) of a local file."""
    if not path.is_file():
        raise RequestError(f"environment.questions={path}: no such file")
    if path.suffix == ".parquet":
        return _numbered(path, _parquet_rows(path))
    if path.suffix == ".jsonl":
        return read_objects(path)
    if path.suffix == ".json":
        try:
            rows = json.loads(path.read_text(encoding="utf-8-sig"))
        except json.JSONDecodeError as error:
            raise RequestError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
        except UnicodeDecodeError as error:
            raise RequestError(f"{path}: not UTF-8 ({error.reason})") from None
        if not isinstance(rows, list):
            raise RequestError(f"{path}:1: expected a list of records, got a {type(rows).__name__}")
        return _numbered(path, rows)
    raise RequestError(f"environment.questions={path}: unknown type; use {', '.join(FILE_TYPES)}")


def _numbered(path: Path, rows: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    return ((f"{path}: record {number}", row) for number, row in enumerate(rows, 1))


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise RequestError(f"{path}: not a parquet file ({str(error)[:80]})") from None


def _hub_rows(source: str) -> Iterator[tuple[str, Any]]:
    import datasets

    name, config, split = [*source.split(":"), None, None][:3]
    try:
        rows = datasets.load_dataset(name, config, split=split or "test")
    except Exception as error:  # the hub client raises a wide, changing family of errors for what a user can mend
        raise RequestError(
            f"environment.questions={source}: the hub did not give it ({type(error).__name__}: {str(error)[:120]}); "
            "check OWNER/NAME[:CONFIG[:SPLIT]] and the network, or give a local file"
        ) from None
    return ((f"{source}: record {number}", row) for number, row in enumerate(rows, 1))
