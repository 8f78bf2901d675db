"""Checks of an agent's turns: empty ones, actions that cannot be read, episodes that never finish."""

from __future__ import annotations

from collections.abc import Iterator

from nat.agents.actions import FINISH, Action, UnparsedAction, parse_answer
from nat.agents.kinds import FINISH_CALL, Agent, called, ends_episode, is_observation
from nat.quality.marks import Check, Mark, View
from nat.trajectories.formats.episodes import TOOLS


def _empty_turns(view: View) -> Iterator[Mark]:
    for i, message in enumerate(view.trajectory.messages):
        is_silent = not message.tool_calls and not message.content.strip() and not message.reasoning.strip()
        if message.role == "assistant" and is_silent:
            yield Mark("empty_turn", i, 0, len(message.content), "")


def _ends_on_user_turn(view: View) -> tuple[Mark, ...]:
    messages, agent = view.trajectory.messages, view.agent
    last = len(messages) - 1
    # Who talks with a user may have the last word from them.
    if not messages or messages[last].role != "user" or last in agent.seen or agent.has_user:
        return ()
    return (Mark("ends_on_user_turn", last, 0, len(messages[last].content), ""),)


def _unfinished(view: View) -> tuple[Mark, ...]:
    if _is_finished(view):
        return ()
    messages = view.trajectory.messages
    stop = "; ends on an observation" if messages and is_observation(messages[-1]) else ""
    return (Mark("unfinished", None, 0, 0, f"no final answer in {len(view.agent.actions)} agent turns{stop}"),)


def _is_finished(view: View) -> bool:
    """Whether the last turn answers, or no answer is due.

    A record that names a prediction says that its environment took an answer. Of an agent whose tools are not those of
    the settings, it is not known how its episodes end: by a call, by what it wrote, or when the task is done.
    """
    trajectory, agent = view.trajectory, view.agent
    if trajectory.outcome.prediction is not None or trajectory.outcome.failure == "abstained":
        return True
    if not agent.actions:
        return False
    if agent.has_user or agent.writes == "plain_chat":
        return True
    last = max(agent.actions)
    action, message = agent.actions[last], trajectory.messages[last]
    # Of a run-on turn that makes up its own observations, a later action may finish.
    if (isinstance(action, Action) and action.tool == FINISH) or FINISH_CALL.search(message.content):
        return True
    if ends_episode(message, action, last in agent.commands):
        return True
    if agent.writes == "text_actions":
        return agent.is_foreign or agent.names_answer or _calls_others(view, agent)
    if agent.writes == "native_calls":
        if message.tool_calls:
            return _calls_others(view, agent)
        return last == len(trajectory.messages) - 1 and message.content.strip() != ""
    return isinstance(parse_answer(message.content), Action)


def _calls_others(view: View, agent: Agent) -> bool:
    """Whether it calls tools, and not only those of the settings and of the published episodes."""
    known = {name.lower() for name in (*view.settings.tools, *TOOLS, FINISH)}
    messages = view.trajectory.messages
    names = (name for i, action in agent.actions.items() for name in called(messages[i], action, i in agent.commands))
    return any(name.lower() not in known for name in names)


def _unparsed(view: View) -> Iterator[Mark]:
    messages, agent = view.trajectory.messages, view.agent
    if not agent.actions:
        return
    last = max(agent.actions)
    if agent.writes == "chain_of_thought" and not agent.has_user and view.trajectory.outcome.prediction is None:
        answer = parse_answer(messages[last].content)
        # An empty turn is reported as such.
        if isinstance(answer, UnparsedAction) and messages[last].content.strip():
            yield Mark("unparsed_action", last, 0, len(messages[last].content), answer.kind or answer.reason)
    if agent.writes != "text_actions" or agent.commands:
        return
    for i, action in agent.actions.items():
        if isinstance(action, UnparsedAction) and messages[i].content.strip() and not _is_understood(view, i, action):
            yield Mark("unparsed_action", i, 0, len(messages[i].content), action.kind or action.reason)


def _is_understood(view: View, turn: int, action: UnparsedAction) -> bool:
    """Whether a turn that `nat` cannot read did something, or need not do anything."""
    messages, agent = view.trajectory.messages, view.agent
    if turn in agent.carried_out:
        return action.kind in ("no_action", "no_call", "wrong_brackets")
    if turn == max(agent.actions):
        return agent.is_foreign or agent.names_answer or agent.has_user
    return agent.has_user and messages[turn + 1].role == "user" and turn + 1 not in agent.seen


CHECKS = (
    Check(
        name="empty_turn",
        place=10,
        severity="warning",
        unit="turns",
        says="A turn of the agent holds neither text nor a tool call.",
        remedy="Training on it teaches to say nothing: drop these trajectories (quality.empty_turn=true).",
        find=_empty_turns,
        rule="count",
        asks="are these turns empty, or did the export leave their texts out?",
    ),
    Check(
        name="ends_on_user_turn",
        place=20,
        severity="warning",
        unit="trajectories",
        says="The last message is the user's: the agent's answer to it is missing.",
        remedy=(
            "Look whether the export cut the last turn off, else drop these trajectories "
            "(quality.ends_on_user_turn=true)."
        ),
        find=_ends_on_user_turn,
        rule="switch",
        asks="is the last word the user's in these, as it should be?",
    ),
    Check(
        name="unfinished",
        place=30,
        severity="warning",
        unit="trajectories",
        says="The agent never gives a final answer, and does not abstain either.",
        remedy=(
            "Among failures these are turn limits and cut texts: drop them (quality.unfinished=true) if the agent "
            "should not learn to go on without end."
        ),
        find=_unfinished,
        rule="switch",
        asks="are these finished?",
    ),
    Check(
        name="unparsed_action",
        place=40,
        severity="warning",
        unit="turns",
        says="A turn of the agent holds no action, or a chain of thought no answer, that nat could carry out.",
        remedy=(
            "In evaluation such a turn fails: drop these trajectories (quality.unparsed_action=true), or name the "
            "tools."
        ),
        find=_unparsed,
        rule="count",
        asks="does their agent write its actions in another way?",
        dates_errors=True,
    ),
)
