"""One turn, and one episode, of an agent in an environment."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from nat.agents import FINISH, Action, UnparsedAction, parse_action
from nat.environments.scoring import is_abstention
from nat.types import Environment, Failure, Message, Outcome, Question, Rollout, ToolError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Turn:
    """What a turn led to. Exactly one of `observation` and `outcome` is set: the episode goes on, or it is over.

    `problem` names what was wrong with a turn after which the episode goes on.
    """

    observation: str | None
    outcome: Outcome | None
    problem: Failure | None


def take_turn(environment: Environment, question: Question, turn_number: int, text: str) -> Turn:
    """Run the action of one agent turn. `turn_number` starts at 1; the last turn's problem becomes the failure."""
    action = parse_action(text, [tool.name for tool in environment.tools])
    if not isinstance(action, UnparsedAction) and action.tool == FINISH:
        return Turn(None, _finished(environment, question, action.input), None)
    try:
        observation, problem = _observe(environment, action)
    except Exception as error:  # a tool may only raise ToolError; one broken tool must not end a batch of episodes
        logger.exception("question %s: tool of %r failed", question.id, environment.name)
        return Turn(None, failed(question, "infrastructure", f"{type(error).__name__}: {error}"), None)
    if turn_number >= environment.max_turns:
        return Turn(None, failed(question, problem or "out_of_turns"), problem)
    return Turn(observation, None, problem)


def play(environment: Environment, question: Question, policy: Callable[[tuple[Message, ...]], str]) -> Rollout:
    """One episode with a policy that is asked turn by turn; it gets the messages since the prompt."""
    messages: tuple[Message, ...] = ()
    for turn_number in range(1, environment.max_turns + 1):
        text = policy(messages)
        turn = take_turn(environment, question, turn_number, text)
        messages += (Message("assistant", text),)
        if turn.outcome is not None:
            return Rollout(question, messages, turn.outcome)
        assert turn.observation is not None
        messages += (Message("tool", turn.observation),)
    return Rollout(question, messages, failed(question, "out_of_turns"))


def failed(question: Question, failure: Failure, prediction: str | None = None) -> Outcome:
    """The outcome of an episode that ended without a scored answer."""
    return Outcome(False, 0.0, failure, prediction, question.answer)


def _observe(environment: Environment, action: Action | UnparsedAction) -> tuple[str, Failure | None]:
    if isinstance(action, UnparsedAction):
        return f"Error: {action.reason}.", "unparsed_action"
    tool = next(tool for tool in environment.tools if tool.name == action.tool)
    try:
        return tool.run(action.input), None
    except ToolError as error:
        return f"Error: {error}.", "tool_error"


def _finished(environment: Environment, question: Question, prediction: str) -> Outcome:
    score = environment.score(prediction, question.answer)
    if score >= 1:
        return Outcome(True, score, None, prediction, question.answer)
    failure: Failure = "abstained" if is_abstention(prediction) else "wrong_answer"
    return Outcome(False, score, failure, prediction, question.answer)
