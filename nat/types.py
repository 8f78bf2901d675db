"""The values that flow from stage to stage. Imports nothing local and nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
Failure: TypeAlias = Literal[
    "wrong_answer",  # finished with an answer that the environment's scorer rejects
    "abstained",  # finished without an answer ("unknown", nothing)
    "unparsed_action",  # the last turn held no action that could be read
    "tool_error",  # the last action was refused by its tool
    "out_of_turns",  # the turn limit came before an answer
    "no_answer",  # the turn's token limit or the context's end came before an answer
    "infrastructure",  # the episode broke for reasons that are not the policy's
]


class RequestError(Exception):
    """The request is wrong: a config value or an input file. Ends with exit code 2 and no traceback.

    The message says what, where (the full key, or file:line), the offending value and the remedy.
    """


class StageError(Exception):
    """A stage failed on a request that was right. Ends with exit code 1; the traceback goes to the log."""


@dataclass(frozen=True)
class Message:
    """One message: what it says, what the agent thought before (`reasoning`) and the tools that it calls.

    `train` says whether an agent's turn may carry loss; other roles never do. `weight` is what that loss counts, as the
    file says it (1 where it says nothing); a weight of 0 is `train=False`.
    """

    role: Role
    content: str
    train: bool = True
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    reasoning: str = ""
    weight: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """How an episode ended: `score` in [0, 1] grades what `success` decides; `failure` is None on success."""

    success: bool
    score: float
    failure: Failure | None = None
    prediction: str | None = None
    reference: str | None = None


@dataclass(frozen=True)
class Question:
    """One thing to ask an agent, with the reference answer that scores it."""

    id: str
    text: str
    answer: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trajectory:
    """What one agent did on one question.

    `messages` start at the agent's first turn on it. In an environment that `nat` has, the prompt before it (system
    text, instructions, question, condition text) is made by `nat.examples.prompts.prompt_messages`, in training and at
    inference alike. `prompt` is what stood there in the file: system text, instructions, examples, priming turns and
    the question, which `environment=own` trains under; so are the `tools` that the agent was given, as they stand.
    `question_id` is the task's id where the file has one: all trials of a task are one question.
    """

    id: str
    question_id: str
    question: str
    messages: tuple[Message, ...]
    outcome: Outcome
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    prompt: tuple[Message, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Example:
    """A trajectory as the model sees it. `labels[i]` is `input_ids[i]` where the token carries loss, else -100."""

    input_ids: list[int]
    labels: list[int]
    class_name: str
    trajectory_id: str


@dataclass(frozen=True)
class Rollout:
    """One evaluated (or collected) episode; `messages` start at the agent's first turn, as in `Trajectory`."""

    question: Question
    messages: tuple[Message, ...]
    outcome: Outcome
    generated_tokens: int = 0


@dataclass(frozen=True)
class Tool:
    """`run` takes the text between the brackets and returns the observation; raises `ToolError` to refuse it."""

    name: str
    run: Callable[[str], str]


class ToolError(Exception):
    """The tool refuses its input. The message becomes the observation."""


class Score(NamedTuple):
    """How right an answer is: `score` in [0, 1] grades what `success` decides (exact match beside token F1)."""

    success: bool
    score: float


@dataclass(frozen=True)
class Environment:
    """Questions' tools, turn protocol and scoring. `score` maps (prediction, reference) to a `Score`.

    `finish[...]` is every environment's last action and no tool. `protocol` says how an agent's turn is read: `react`
    turns hold one action each; a `cot` turn is the whole solution, ends with its answer, and no tool is at hand; `own`
    turns are as the user's files have them, and nothing is played.
    `grades_by_f1`: success is an exact match, the score token F1. `open_tools`, where given, makes the tools of one
    episode (a simulator's state, a question's recordings); their names are those of `tools`. `questions`, where given,
    maps (split, n) to the environment's own questions.
    """

    name: str
    instructions: str
    tools: tuple[Tool, ...]
    score: Callable[[str, str], Score]
    max_turns: int
    protocol: Literal["react", "cot", "own"] = "react"
    grades_by_f1: bool = False
    open_tools: Callable[[Question], tuple[Tool, ...]] | None = None
    questions: Callable[[str, int], Sequence[Question]] | None = None
