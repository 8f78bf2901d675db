"""One turn, and one episode, of an agent in an environment."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nat.agents.actions import FINISH, Action, AgentConfig, UnparsedAction, parse_action, parse_answer
from nat.agents.scoring import is_abstention
from nat.types import (
    Environment,
    Failure,
    Message,
    Outcome,
    Question,
    RequestError,
    Rollout,
    StageError,
    Tool,
    ToolError,
)

logger = logging.getLogger(__name__)

# Both bounds stand far above what honest agents write and tools answer; they keep hostile input away from tools that
# would take minutes over it, and a tool's megabytes out of the context and the files.
MAX_INPUT = 10_000  # characters that reach a tool or a scorer
MAX_OBSERVATION = 20_000  # characters that an agent is shown, about 5000 tokens

# Tabs and line breaks are text. Surrogates cannot be written to a file; JSON from a server may hold them.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Turn:
    """What a turn led to. Exactly one of `observation` and `outcome` is set: the episode goes on, or it is over.

    `problem` names what was wrong with a turn after which the episode goes on.
    """

    observation: str | None
    outcome: Outcome | None
    problem: Failure | None


def for_agent(environment: Environment, agent: AgentConfig) -> Environment:
    """The environment as this agent meets it: its instructions, and for `cot` one turn without tools."""
    environment = replace(
        environment,
        protocol=agent.style,
        instructions=environment.instructions if agent.instructions is None else agent.instructions.strip(),
    )
    if agent.style == "cot":
        return replace(environment, tools=(), open_tools=None, max_turns=1)
    return environment


def open_tools(environment: Environment, question: Question) -> tuple[tuple[Tool, ...], Outcome | None]:
    """The tools of one episode; with an outcome, the episode is over before it began: they could not be opened."""
    if environment.open_tools is None:
        return environment.tools, None
    try:
        return tuple(environment.open_tools(question)), None
    except (RequestError, StageError):
        raise
    except Exception as error:
        return (), _broken(question, error, f"tools of {environment.name!r} could not be opened")


def take_turn(
    environment: Environment, question: Question, turn_number: int, text: str, tools: Sequence[Tool] | None = None
) -> Turn:
    """Run the action of one agent turn. `turn_number` starts at 1; the last turn's problem becomes the failure.

    `tools` are the episode's own (`open_tools`), None those of the environment. A chain of thought ends the episode:
    with its answer, or as `unparsed_action` if it names none (`no_answer` stays for one that was cut off).

    Input that no tool should see (over MAX_INPUT characters, control characters) is refused with an observation. What
    a tool or the scorer raises other than `ToolError` ends the episode as `infrastructure`, so that one broken tool
    does not end a batch of episodes; RequestError and StageError pass: with them the next episode would fail as well.
    """
    if environment.protocol == "cot":
        action = parse_answer(text)
        if isinstance(action, UnparsedAction):
            return Turn(None, failed(question, "unparsed_action"), None)
        return Turn(None, _finished(environment, question, action.input), None)
    tools = environment.tools if tools is None else tools
    action = parse_action(text, [tool.name for tool in tools])
    refusal = None if isinstance(action, UnparsedAction) else _refusal(action)
    if refusal is not None:
        observation, problem = f"Error: {refusal}.", "tool_error"
    elif isinstance(action, UnparsedAction):
        observation, problem = f"Error: {action.reason}.", "unparsed_action"
    elif action.tool == FINISH:
        return Turn(None, _finished(environment, question, action.input), None)
    else:
        tool = next(tool for tool in tools if tool.name == action.tool)
        try:
            observation, problem = _run(tool, action.input)
        except (RequestError, StageError):
            raise
        except Exception as error:
            return Turn(None, _broken(question, error, f"tool {tool.name!r} of {environment.name!r} failed"), None)
    if turn_number >= environment.max_turns:
        return Turn(None, failed(question, problem or "out_of_turns"), problem)
    return Turn(observation, None, problem)


def play(environment: Environment, question: Question, policy: Callable[[tuple[Message, ...]], str]) -> Rollout:
    """One episode with a policy that is asked turn by turn; it gets the messages since the prompt."""
    messages: tuple[Message, ...] = ()
    tools, outcome = open_tools(environment, question)
    if outcome is not None:
        return Rollout(question, messages, outcome)
    for turn_number in range(1, environment.max_turns + 1):
        text = policy(messages)
        turn = take_turn(environment, question, turn_number, text, tools)
        messages += (Message("assistant", text),)
        if turn.outcome is not None:
            return Rollout(question, messages, turn.outcome)
        assert turn.observation is not None
        messages += (Message("tool", turn.observation),)
    return Rollout(question, messages, failed(question, "out_of_turns"))


def failed(question: Question, failure: Failure, prediction: str | None = None) -> Outcome:
    """The outcome of an episode that ended without a scored answer."""
    return Outcome(False, 0.0, failure, prediction, question.answer)


def _refusal(action: Action) -> str | None:
    """Why this input reaches no tool and no scorer."""
    if len(action.input) > MAX_INPUT:
        return f"the input of {action.tool!r} is longer than {MAX_INPUT} characters"
    control = _CONTROL.search(action.input)
    return None if control is None else f"the input of {action.tool!r} holds the character {control[0]!a}"


def _run(tool: Tool, input: str) -> tuple[str, Failure | None]:
    try:
        observation = tool.run(input)
    except ToolError as error:
        return _shortened(f"Error: {error}."), "tool_error"
    if not isinstance(observation, str):
        raise TypeError(f"tool {tool.name!r} returned {type(observation).__name__}, not text")
    return _shortened(observation), None


def _shortened(observation: str) -> str:
    if len(observation) <= MAX_OBSERVATION:
        return observation
    return f"{observation[:MAX_OBSERVATION]} ... (cut: {len(observation)} characters)"


def _finished(environment: Environment, question: Question, prediction: str) -> Outcome:
    if _refusal(Action(FINISH, prediction)):  # of a chain of thought, which cannot be asked again
        return failed(question, "wrong_answer", _CONTROL.sub("\ufffd", prediction[:MAX_INPUT]))
    try:
        success, score = environment.score(prediction, question.answer)
    except (RequestError, StageError):
        raise
    except Exception as error:
        return _broken(question, error, f"scorer of {environment.name!r} failed on {prediction[:100]!r}")
    if success:
        return Outcome(True, score, None, prediction, question.answer)
    failure: Failure = "abstained" if is_abstention(prediction) else "wrong_answer"
    return Outcome(False, score, failure, prediction, question.answer)


def _broken(question: Question, error: Exception, what: str) -> Outcome:
    logger.error("question %s: %s", question.id, what, exc_info=error)
    return failed(question, "infrastructure", f"{type(error).__name__}: {error}"[:1000])
