"""The user's own environment: a function in a package or a module of theirs, named in the configuration.

With this in `guess.py`, the overrides `environment=custom environment.target=guess:make +environment.options.largest=9`
ask its questions, and each episode counts its own guesses:

    from random import Random

    from nat.agents.scoring import numeric_score
    from nat.types import Environment, Question, Tool

    def make(largest: int) -> Environment:
        def open_tools(question: Question) -> tuple[Tool, ...]:
            guesses = []

            def guess(number: str) -> str:
                guesses.append(number)
                found = numeric_score(number, question.answer).success
                return f"guess {len(guesses)}: {'right' if found else 'wrong'}"

            return (Tool("guess", guess),)

        def questions(split: str, n: int) -> list[Question]:
            rng = Random(split)
            answers = [str(rng.randint(1, largest)) for _ in range(n)]
            text = f"Which number up to {largest} is on {split} card"
            return [Question(f"{split}-{i}", f"{text} {i}?", answer) for i, answer in enumerate(answers)]

        tools = open_tools(Question("", "", ""))  # `open_tools` makes the same ones anew for each episode
        text = "Use guess[number], then finish[number]."
        return Environment("guess", text, tools, numeric_score, 4, open_tools=open_tools, questions=questions)
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator
from pydantic.dataclasses import dataclass

from nat.agents.actions import FINISH
from nat.core.schema import OF_NO_EFFECT, STRICT
from nat.environments.benchmarks import FieldNames, OnBadRow
from nat.types import Environment, Question, RequestError, Score, StageError, Tool

_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_TOOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")  # what nat.agents.actions reads as an action's tool


@dataclass(frozen=True, config=STRICT, kw_only=True)
class CustomConfig:
    """Values and their meaning: conf/environment/custom.yaml."""

    name: str
    kind: Literal["custom"]
    target: str
    options: Mapping[str, Any]
    questions: str | None
    held_out: Annotated[float, Field(gt=0, lt=1)]
    fields: FieldNames
    on_bad_row: OnBadRow
    max_turns: PositiveInt | None
    instructions: str | None
    few_shot: Annotated[str | None, OF_NO_EFFECT]  # `nat collect` alone shows it

    @model_validator(mode="after")
    def _target_names_a_function(self) -> CustomConfig:
        if not _TARGET.fullmatch(self.target):
            raise ValueError(f"target={self.target!r}: it must be PACKAGE.MODULE:FUNCTION, e.g. my_package.worlds:make")
        return self


def make_environment(config: CustomConfig) -> Environment:
    """What the configured function returns, under the config's name, and with its instructions and turns where given.

    Raises RequestError where the function cannot be imported, fails, or returns no usable `Environment`, and passes
    on a RequestError or StageError of its own.
    """
    make = _function(config.target)
    try:
        environment = make(**config.options)
    except (RequestError, StageError):
        raise
    except Exception as error:  # whatever the user's code raises
        options = json.dumps(dict(config.options), ensure_ascii=False)
        raise RequestError(
            f"environment.target={config.target}: it failed with environment.options={options[:200]}: {_named(error)}"
        ) from error
    if not isinstance(environment, Environment):
        raise RequestError(
            f"environment.target={config.target}: it returned {_article(environment)}, not a nat.types.Environment."
        )
    if problem := _problem(environment):
        raise RequestError(f"environment.target={config.target}: its Environment {problem}.")
    return replace(
        environment,
        name=config.name,
        instructions=environment.instructions if config.instructions is None else config.instructions.strip(),
        max_turns=config.max_turns or environment.max_turns,
        score=_checked_score(config.target, environment.score),
        questions=_checked_questions(config.target, environment.questions),
    )


def own_questions(environment: Environment, split: str, n: int) -> list[Question]:
    """The first `n` questions of a split (train, validation or test), made by the environment itself.

    Raises RequestError where it makes none.
    """
    found = [] if environment.questions is None else list(environment.questions(split, n))
    if not found:
        made = "makes no questions itself" if environment.questions is None else f"has no {split} questions"
        raise RequestError(
            f"environment.questions=null: the environment {environment.name} {made}.\n"
            "Name a file (environment.questions=PATH), take environment.questions=held_out, or return an Environment "
            "with questions=FUNCTION of a split's name and a number."
        )
    return found


def source_files(config: CustomConfig) -> list[Path]:
    """The Python files that an edit of the user's environment may touch, sorted: every one of the target's package.

    Of a module outside any package its own file. Raises RequestError where there is no such module.
    """
    name = config.target.partition(":")[0]
    module = _module(config.target, name)
    if module.__file__ is None:
        return []
    file = Path(module.__file__)
    if "." not in name and file.name != "__init__.py":
        return [file]
    top = file.parents[name.count(".") - (file.name != "__init__.py")]
    return sorted(path for path in top.rglob("*.py") if path.is_file())


def _function(target: str) -> Callable[..., Any]:
    name, _, attributes = target.partition(":")
    found: Any = _module(target, name)
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            known = ", ".join(key for key in vars(found) if callable(vars(found)[key]) and not key.startswith("_"))
            raise RequestError(
                f"environment.target={target}: {name!r} has no {attribute!r}; its functions: {known[:200] or 'none'}."
            )
        found = getattr(found, attribute)
    if not callable(found):
        raise RequestError(f"environment.target={target}: it is {_article(found)}, not a function.")
    return found


def _module(target: str, name: str) -> Any:
    # Last, not first as with `python -m`: a file beside the user must not stand in for a library that nat imports.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise RequestError(f"environment.target={target}: importing {name!r} failed: {_named(error)}") from error
        raise RequestError(
            f"environment.target={target}: there is no module {error.name!r}, neither installed nor in {here}.\n"
            "Start nat where it lies, install it, or put its directory on PYTHONPATH."
        ) from None
    except (RequestError, StageError):
        raise
    except Exception as error:  # whatever the user's module does when it is imported
        raise RequestError(f"environment.target={target}: importing {name!r} failed: {_named(error)}") from error


def _problem(environment: Environment) -> str | None:
    """What would end an evaluation half way, said beforehand."""
    tools = environment.tools
    if not isinstance(tools, tuple | list) or not all(isinstance(tool, Tool) for tool in tools):
        return f"has tools={str(tools)[:80]}, which must be a tuple of nat.types.Tool"
    names = [tool.name.lower() for tool in tools]
    for name in names:
        if not _TOOL_NAME.fullmatch(name) or name == FINISH:
            return (
                f"has a tool named {name!r}; a name is a word that begins with a letter, and finish is every one's end"
            )
        if names.count(name) > 1:
            return f"has two tools named {name!r}"
    if not callable(environment.score):
        return "has a score that is no function"
    if (
        isinstance(environment.max_turns, bool)
        or not isinstance(environment.max_turns, int)
        or environment.max_turns < 1
    ):
        return f"has max_turns={environment.max_turns!r}, which must be a whole number of at least 1"
    if not isinstance(environment.instructions, str):
        return f"has instructions={environment.instructions!r:.60}, which must be text"
    return None


def _checked_score(target: str, score: Callable[[str, str], Score]) -> Callable[[str, str], Score]:
    def checked(prediction: str, reference: str) -> Score:
        try:
            given: Any = score(prediction, reference)
        except (RequestError, StageError):
            raise
        except Exception as error:  # whatever the user's code raises
            raise StageError(
                f"environment.target={target}: score({prediction[:60]!r}, {reference[:60]!r}) failed: {_named(error)}"
            ) from error
        match given:
            case (bool() as success, int() | float() as value) if 0 <= value <= 1:
                return Score(success, float(value))
        raise RequestError(
            f"environment.target={target}: score({prediction[:60]!r}, {reference[:60]!r}) gave {given!r:.80}; "
            "it must be nat.types.Score(success, score): true or false, and a number from 0 to 1."
        )

    return checked


def _checked_questions(
    target: str, questions: Callable[[str, int], Any] | None
) -> Callable[[str, int], list[Question]] | None:
    if questions is None:
        return None

    def checked(split: str, n: int) -> list[Question]:
        try:
            found = list(islice(questions(split, n), n))  # they may be made without end
        except (RequestError, StageError):
            raise
        except Exception as error:  # whatever the user's code raises
            raise RequestError(
                f"environment.target={target}: questions({split!r}, {n}) failed: {_named(error)}"
            ) from error
        wrong = next((question for question in found if not isinstance(question, Question)), None)
        if wrong is not None:
            raise RequestError(
                f"environment.target={target}: questions({split!r}, {n}) gave {_article(wrong)} among its questions; "
                "they must be nat.types.Question(id, text, answer)."
            )
        ids = [question.id for question in found]
        if len(set(ids)) < len(ids):
            twice = next(id for id in ids if ids.count(id) > 1)
            raise RequestError(f"environment.target={target}: questions({split!r}, {n}) gave the id {twice!r} twice.")
        return found

    return checked


def _named(error: Exception) -> str:
    """`ValueError: rooms must be positive (lights.py:12)`: the error and where the user's code raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if frame.filename != __file__ and not frame.filename.startswith("<")]
    where = f" ({theirs[-1].filename}:{theirs[-1].lineno})" if theirs else ""
    return f"{type(error).__name__}: {str(error)[:200]}{where}"


def _article(value: Any) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"
