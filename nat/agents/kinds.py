r"""What kind of agent a trajectory is of, from all of it: what may be asked of its turns and of its end follows.

    Thought: Look.\nAction: search[Ann]            text_actions (also in other syntaxes, and commands in code blocks)
    {"tool_calls": [{"function": ...}]}            native_calls
    2 + 3 = 5.\nAnswer: 5                          chain_of_thought: no tools, and an answer is named, or due
    You could write it like this: ...              plain_chat: no tools, and nothing says that an answer is due

Beside one of these, a `simulated_user` takes turns with the agent: such an agent never answers, it takes leave. What
the file's own environment understood counts as an action: a turn that an observation without an error answers did
something, whether or not `nat` could read it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from nat.agents.actions import FINISH, Action, UnparsedAction, parse_action, parse_answer
from nat.agents.calls import read_call
from nat.types import Message, Outcome

Writes: TypeAlias = Literal["text_actions", "native_calls", "chain_of_thought", "plain_chat"]
Kind: TypeAlias = Literal["text_actions", "native_calls", "chain_of_thought", "plain_chat", "simulated_user"]

KINDS: tuple[Kind, ...] = ("text_actions", "native_calls", "chain_of_thought", "plain_chat", "simulated_user")
COMMAND = "command"  # what a command in a code block calls
UNREAD = "action in another syntax"

OBSERVATION = re.compile(r"\s{0,8}Observation(?: ?[0-9]{1,3})?:[ \t]{0,8}")
# What simulated users of tau-bench and tau2-bench end with.
USER_STOP = re.compile(r"###(?:STOP|TRANSFER|OUT-OF-SCOPE)###")
LONGEST_ANSWER = 200  # characters of a reference that an answer could be compared with; a longer one is a whole text

_THOUGHT = re.compile(r"\s{0,8}[*_#]{0,4}thought[ \t]{0,4}[0-9]{0,3}[*_]{0,2}:", re.I)
_ACTION_LINE = re.compile(r"(?:^|\n)[ \t*#]{0,8}action[ \t]{0,4}[0-9]{0,3}[*_]{0,2}[ \t]{0,4}[:\uff1a]", re.I)
FINISH_CALL = re.compile(rf"\b{FINISH}[ \t]{{0,4}}\[", re.I)
_UNKNOWN_NAME = re.compile(r"there is no tool '([^']+)'")
# A command that a turn holds as mini-swe-agent and SWE-agent have it, in a code block of a shell or of no language,
# and as OpenHands and its kin write it as text.
_COMMAND = re.compile(
    r"^```(?:bash|sh|shell|console|terminal|mswea_bash_command)?[ \t]*\n(?P<block>.+?)\n?^```"
    r"|<execute_(?:bash|ipython|browse)>(?P<execute>.*?)</execute_|<function=(?P<function>[\w-]{1,64})>",
    re.DOTALL | re.MULTILINE,
)
_SHELL = ("```bash", "```sh", "```mswea_bash_command", "<execute_", "<function=")
_OUTPUT = re.compile(
    r"\s{0,8}(?:<returncode>|<output>|OBSERVATION:|EXECUTION RESULT|\[File: |\$ )|bash-\$\s{0,8}\Z|New Terminal Output"
)
# Names of calls and commands that end an episode, in any case.
_ENDING = re.compile(
    r"(?:[a-z]{1,20}[_.-])?(?:finish|finished|submit|submission|done|complete|completed|terminate|stop|exit|answer"
    r"|attempt_completion|transfer_to_human(?:_agents?)?)(?:[_.-](?:task|answer|solution|result|and_get_final_answer))?",
    re.I,
)
_SUBMITS = "COMPLETE_TASK_AND_SUBMIT"  # what mini-swe-agent echoes to end


class Agent(NamedTuple):
    """What kind of agent it is. `actions` are its turns, by index, as text actions are read."""

    writes: Writes
    has_user: bool  # it takes turns with a user
    actions: Mapping[int, Action | UnparsedAction]
    seen: frozenset[int]  # messages that are observations
    carried_out: frozenset[int]  # turns that an observation without an error answers
    commands: frozenset[int]  # turns that hold a command in a code block, of an agent that acts so
    is_foreign: bool  # its text actions are in a syntax that `nat` does not read
    names_answer: bool  # the last turn names an answer, of an agent none of whose text actions can be read

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return (self.writes, "simulated_user") if self.has_user else (self.writes,)


def read_agent(
    messages: Sequence[Message],
    tools: Collection[str] = (),
    refused: Collection[int | None] = (),
    *,
    answer_is_due: bool = False,
    ending: object = None,
) -> Agent:
    """What kind of agent wrote these messages.

    Args:
        tools: names of tools that exist. One that is not named but did its work exists, too.
        refused: observations, by index, that report an error.
        answer_is_due: there is something to compare an answer with (`answer_is_due_in`).
        ending: the text of a message that stood after these and was set aside.
    """
    turns = [i for i, message in enumerate(messages) if message.role == "assistant"]
    has_calls = any(message.tool_calls for message in messages)
    commands = frozenset() if has_calls else _commands(messages, turns)
    seen = _seen(messages, commands)
    carried_out = frozenset(i for i in turns if i + 1 in seen and i + 1 not in refused)
    actions = _actions(messages, turns, tools, carried_out)
    attempts = any(_is_attempt(action) for action in actions.values())
    is_readable = any(isinstance(action, Action) for action in actions.values())
    named = bool(turns) and not has_calls and not is_readable and _names_answer(messages[turns[-1]].content)
    if has_calls:
        writes = "native_calls"
    elif commands or attempts or seen or _opens_as_react(messages, turns):
        writes = "text_actions"
    else:
        writes = "chain_of_thought" if named or answer_is_due else "plain_chat"
    is_foreign = writes == "text_actions" and not is_readable and bool(commands or carried_out)
    stopped = isinstance(ending, str) and USER_STOP.search(ending) is not None
    has_user = stopped or (not commands and _takes_turns(messages, turns, seen, actions))
    return Agent(writes, has_user, actions, seen, carried_out, commands, is_foreign, named)


def _names_answer(turn: str) -> bool:
    return isinstance(parse_answer(turn), Action)


def answer_is_due_in(outcome: Outcome) -> bool:
    """Whether an episode with this outcome has an answer to compare with; a long text is compared otherwise."""
    return is_short_answer(outcome.reference)


def is_short_answer(reference: str | None) -> bool:
    return reference is not None and len(reference) <= LONGEST_ANSWER and "\n" not in reference.strip()


def takes_turns_with_user(messages: Sequence[Message]) -> bool:
    """Whether the agent answers user messages that are no observations, after the one that it began with."""
    return read_agent(messages).has_user


def is_observation(message: Message) -> bool:
    """A tool message, or a user message that says that it is one."""
    return message.role == "tool" or (message.role == "user" and OBSERVATION.match(message.content) is not None)


def calls_of(messages: Sequence[Message], agent: Agent, turn: int) -> list[str]:
    """The names of what a turn calls, in order; UNREAD for an action of an agent that writes them otherwise."""
    message, action = messages[turn], agent.actions[turn]
    if names := called(message, action, turn in agent.commands):
        return names
    is_last = turn == max(agent.actions)
    acts = turn in agent.carried_out or (_acts_in_text(message) and not (is_last and agent.names_answer))
    return [UNREAD] if agent.is_foreign and acts else []


def called(message: Message, action: Action | UnparsedAction | None, is_command: bool = False) -> list[str]:
    """The names of what a turn calls, in order."""
    if message.tool_calls:
        return [read.name if (read := read_call(call)) is not None else "?" for call in message.tool_calls]
    if is_command:
        return [COMMAND]
    return [action.tool] if isinstance(action, Action) else []


def ends_episode(message: Message, action: Action | UnparsedAction | None, is_command: bool = False) -> bool:
    """Whether a turn's call or command is one that ends an episode: it finishes, submits, hands over."""
    if is_command:
        last = list(_COMMAND.finditer(message.content))[-1]
        first_word = (last["block"] or last["execute"] or last["function"] or "").split(maxsplit=1)[:1]
        return _SUBMITS in message.content or any(_ENDING.fullmatch(word) for word in first_word)
    return any(_ENDING.fullmatch(name) for name in called(message, action))


def tool_names(tools: Sequence[Mapping[str, object]]) -> list[str]:
    """The names of tools as files list them (`Trajectory.tools`)."""
    return [read.name for tool in tools if (read := read_call(tool)) is not None]


# ---- what turns do ----


def _seen(messages: Sequence[Message], commands: Collection[int]) -> frozenset[int]:
    """Observations: tool messages, and user messages that say so or answer an action."""
    return frozenset(
        i
        for i, message in enumerate(messages)
        if is_observation(message)
        or (message.role == "user" and i and (i - 1 in commands or _acts_in_text(messages[i - 1])))
    )


def _acts_in_text(message: Message) -> bool:
    """Whether a turn writes an action that has a result: any but the one that finishes."""
    text = message.content
    return message.role == "assistant" and _ACTION_LINE.search(text) is not None and not FINISH_CALL.search(text)


def _commands(messages: Sequence[Message], turns: Sequence[int]) -> frozenset[int]:
    """Turns that hold a command in a code block; none where these blocks are only shown to a user."""
    found = [i for i in turns if _holds_command(messages[i].content)]
    if not found:
        return frozenset()
    answers = [messages[i + 1] for i in found if i + 1 < len(messages)]
    answered = any(m.role == "tool" or (m.role == "user" and _OUTPUT.search(m.content)) for m in answers)
    # An agent whose every turn is one shell command acts by it, whatever its observations look like.
    shells = sum(any(opening in messages[i].content for opening in _SHELL) for i in found)
    by_habit = shells >= 2 and shells >= 0.8 * len(turns) and bool(answers)
    return frozenset(found) if answered or by_habit else frozenset()


def _holds_command(text: str) -> bool:
    return ("```" in text or "<execute_" in text or "<function=" in text) and _COMMAND.search(text) is not None


def _actions(
    messages: Sequence[Message], turns: Sequence[int], tools: Collection[str], carried_out: Collection[int]
) -> dict[int, Action | UnparsedAction]:
    actions: dict[int, Action | UnparsedAction] = {}
    known = tools
    for i in turns:
        action = plain_action(messages[i].content, known) or parse_action(messages[i].content, known)
        # A tool that did its work exists, whether or not the settings name it.
        if isinstance(action, UnparsedAction) and action.kind == "unknown_tool" and i in carried_out:
            name = _UNKNOWN_NAME.match(action.reason)
            if name is not None:
                known = (*known, name[1])
                action = parse_action(messages[i].content, known)
        actions[i] = action
    return actions


def plain_action(turn: str, tools: Collection[str]) -> Action | None:
    """What `parse_action` gives for the turns as most are written, at a fifth of its time; None for any other turn.

    Such a turn says "action" once, before a known name in lower case and an input without brackets that ends the text.
    """
    at = turn.find("\nAction: ")
    opening = turn.find("[", at)
    if at < 0 or opening < 0 or turn[-1] != "]":
        return None
    name, input = turn[at + len("\nAction: ") : opening], turn[opening + 1 : -1]
    if (name != FINISH and name not in tools) or not name.islower() or turn.lower().count("action") != 1:
        return None
    if "[" in input or "]" in input or "\n" in input or not input.isascii():
        return None
    return Action(name, input.strip())


def _is_attempt(action: Action | UnparsedAction) -> bool:
    return isinstance(action, Action) or action.kind in ("wrong_brackets", "unknown_tool", "open_bracket")


def _opens_as_react(messages: Sequence[Message], turns: Sequence[int]) -> bool:
    """Whether a turn begins as a ReAct turn and no turn names an answer: it was cut before its action."""
    if any(_ACTION_LINE.match(messages[i].content) for i in turns):
        return True
    if not any(_THOUGHT.match(messages[i].content) for i in turns):
        return False
    return not any(_names_answer(messages[i].content) for i in turns)


def _takes_turns(
    messages: Sequence[Message],
    turns: Sequence[int],
    seen: Collection[int],
    actions: Mapping[int, Action | UnparsedAction],
) -> bool:
    """Whether a user message that is no observation stands between two turns of the agent.

    The turn before it said something to the user: what follows a turn that tried to act is the environment's.
    """
    if not turns:
        return False
    for i in range(turns[0] + 1, turns[-1]):
        if messages[i].role == "user" and i not in seen and not (i - 1 in actions and _is_attempt(actions[i - 1])):
            return True
    return False
