r"""What agents write: ReAct turns, each with one action, and chains of thought that end in an answer.

Thought: 3 boxes of 12 pencils make 36 pencils.
Action: calculate[3 * 12]

One parser reads actions wherever they are read: in collection, in evaluation, and in trajectories from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Literal, NamedTuple, TypeAlias

from pydantic.dataclasses import dataclass

from nat.core.schema import STRICT
from nat.types import Message

FINISH = "finish"
TOOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")  # what can be called; names differ in more than case

Rejection: TypeAlias = Literal[
    "no_action",  # nothing says "Action:"
    "no_call",  # "Action:", but no tool[input] after it
    "wrong_brackets",  # calculate(2 + 2)
    "unknown_tool",  # a call of something that the environment does not have
    "open_bracket",  # calculate[2 + 2
    "no_answer",  # a chain of thought that names no answer
]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AgentConfig:
    """Values and their meaning: conf/agent/."""

    name: str
    style: Literal["react", "cot"]
    system: str | None
    instructions: str | None


@plain_dataclass(frozen=True)
class Action:
    tool: str
    input: str


@plain_dataclass(frozen=True)
class UnparsedAction:
    """`reason` is written for the agent: it becomes part of an observation. `kind` is for counting."""

    reason: str
    kind: Rejection | None = field(default=None, compare=False)  # it follows from the reason


# ---- ReAct turns ----

# Repetitions are bounded so that a megabyte of spaces cannot make the search quadratic.
_COLON = "[:\uff1a]"
_MARKER = re.compile(
    rf"(?<![^\W_])action[ \t]{{0,4}}[0-9]{{0,3}}[ \t]{{0,4}}[*_]{{0,2}}[ \t]{{0,4}}{_COLON}[*_]{{0,2}}", re.I
)
_CALL = re.compile(rf"""[\s*`"']{{0,8}}({TOOL_NAME.pattern})[ \t*`]{{0,4}}([\[\uff3b\u3010])""")
_OTHER_CALL = re.compile(rf"""[\s*`"']{{0,8}}({TOOL_NAME.pattern})[ \t*`]{{0,4}}[({{<\uff08]""")
_CLOSING = {"[": "]", "\uff3b": "\uff3d", "\u3010": "\u3011"}  # the second and third pair: full-width and lenticular
_LINE_MARKER = re.compile(
    rf"\n[\s*#>]{{0,8}}(?:action|thought|observation)[ \t]{{0,4}}[0-9]{{0,3}}[*_]{{0,2}}[ \t]{{0,4}}{_COLON}", re.I
)
_THOUGHT = re.compile(
    rf"^[ \t*#>]{{0,8}}thought[ \t]{{0,4}}[0-9]{{0,3}}[*_]{{0,2}}[ \t]{{0,4}}{_COLON}[ \t*_]*", re.I | re.M
)


def parse_action(text: str, tools: Collection[str]) -> Action | UnparsedAction:
    """Read the first action of a turn: `Action: tool[input]`.

    Everything after its closing bracket is ignored: a full stop, further actions, observations that the model made up.
    `tools` are the tools' names; `finish` is always known. Names are compared without regard to case and returned as
    the environment spells them. Brackets inside the input are kept if they are balanced. Between thought and action no
    line break is needed; numbers (`Action 2:`), markdown and full-width brackets and colons are read as well.
    """
    call = _find_call(text, {name.lower(): name for name in (*tools, FINISH)})
    return call if isinstance(call, UnparsedAction) else call.action


def render_turn(thought: str, tool: str, input: str) -> str:
    """The text of one agent turn, as models are trained to write it."""
    return f"Thought: {thought}\nAction: {tool}[{input}]"


class _Call(NamedTuple):
    start: int  # where the "Action:" before it begins
    action: Action


def _find_call(text: str, names: Mapping[str, str] | None) -> _Call | UnparsedAction:
    """The first call of a turn; `names` maps lower-case names to their spelling, None knows every name."""
    first_start = None
    wrong_brackets = None
    for marker in _MARKER.finditer(text):
        first_start = marker.start() if first_start is None else first_start
        call = _CALL.match(text, marker.end())
        if call is None:
            # "the next action: add them up" is prose; an action may still follow.
            other = _OTHER_CALL.match(text, marker.end())
            if other and names and wrong_brackets is None:
                wrong_brackets = names.get(other[1].lower())
            continue
        name = call[1] if names is None else names.get(call[1].lower())
        if name is None:
            known = ", ".join(sorted((names or {}).values()))
            return UnparsedAction(f"there is no tool {call[1][:40]!r}; use one of {known}", "unknown_tool")
        end = _closing_bracket(text, call.end(), call[2])
        if end is None:
            return UnparsedAction(f"the bracket after {name!r} is never closed", "open_bracket")
        return _Call(marker.start(), Action(name, text[call.end() : end].strip()))
    if wrong_brackets:
        return UnparsedAction(
            f"the input of {wrong_brackets!r} must stand in square brackets: {wrong_brackets}[input]", "wrong_brackets"
        )
    if first_start is not None:
        return UnparsedAction("after 'Action:' comes no tool[input]", "no_call")
    return UnparsedAction("there is no line 'Action: tool[input]'", "no_action")


def _closing_bracket(text: str, start: int, opening: str = "[") -> int | None:
    """Index of the bracket that closes the input starting at `start`.

    The input ends before the next action, thought or observation. One that opens more brackets than it closes ends at
    the last bracket of its line.
    """
    closing = _CLOSING[opening]
    limit = _input_limit(text, start)
    depth = 1
    for bracket in re.finditer(f"[{re.escape(opening + closing)}]", text[start:limit]):
        depth += 1 if bracket[0] == opening else -1
        if depth == 0:
            return start + bracket.start()
    line_end = text.find("\n", start, limit)
    last = text.rfind(closing, start, limit if line_end < 0 else line_end)
    return None if last < 0 else last


def _input_limit(text: str, start: int) -> int:
    """Where the next action, thought or observation begins. "Live action: the film" inside an input is none of them."""
    line = _LINE_MARKER.search(text, start)
    limit = line.start() if line else len(text)
    following = (m.start() for m in _MARKER.finditer(text, start, limit) if _CALL.match(text, m.end()))
    return next(following, limit)


# ---- chains of thought ----

MAX_TRIES = 100  # empty answer lines and made-up questions that are looked at; bounds the work on a hostile text
_ANSWER_LINE = re.compile(
    rf"^[ \t>*_#`-]{{0,8}}(?:the[ \t]{{1,4}})?(?:final[ \t]{{1,4}})?answer[ \t*_`]{{0,4}}{_COLON}(.*)$", re.I | re.M
)
_ANSWER_PROSE = re.compile(r"\banswer[ \t*_]{0,4}(?:is|=|:|\uff1a|would be|must be)[ \t*_`:]{0,4}(?=\S)", re.I)
_LAST_LINE = re.compile(rf"(?:.*####|[ \t*]{{0,8}}A[ \t*]{{0,4}}{_COLON})(.*)", re.S)  # GSM8K's mark, and "A: 18"
_FINISH_CALL = re.compile(rf"\b{FINISH}[ \t]{{0,4}}([\[\uff3b\u3010])", re.I)
_NEXT_QUESTION = re.compile(
    rf"\n[ \t*#>]{{0,8}}(?:question|problem|q)[ \t*]{{0,4}}[0-9]{{0,3}}[ \t*]{{0,4}}{_COLON}", re.I
)
# The end of a sentence: not after "J." or "Dr.", and not after the longer abbreviations.
_SENTENCE_END = re.compile(
    r"(?<!\bMrs)(?<!\bProf)(?<!\bSgt)(?<!\bGen)(?<!\bRev)(?:(?<=[\d%)\]}*`$])|(?<=[^\W\d_]{3}))[.!](?=\s|$)"
)


def parse_answer(text: str) -> Action | UnparsedAction:
    r"""The answer of a chain of thought, as `Action("finish", answer)`.

    It stands on the last line `Answer: X`, or in `finish[X]`, `\boxed{X}` or, on the text's last line, after `####` or
    `A:`. Without any of these "the answer is X." counts, up to the end of the sentence. Where the model goes on to ask
    itself another question, what it answered before that counts.

    parse_answer("42-7 = 35.\nAnswer: 35") == parse_answer("So the answer is 35.") == Action("finish", "35")
    """
    for part in _NEXT_QUESTION.split(text, maxsplit=MAX_TRIES):
        answer = _marked_answer(part)
        if answer is None:
            answer = _prose_answer(part)
        if answer is not None:
            return Action(FINISH, answer)
    return UnparsedAction("there is no line 'Answer: ...'", "no_answer")


def render_solution(reasoning: str, answer: str) -> str:
    """A whole chain of thought, as models are trained to write it."""
    return f"{reasoning}\nAnswer: {answer}" if reasoning else f"Answer: {answer}"


def chain_of_thought(messages: Sequence[Message]) -> tuple[Message, ...]:
    r"""A ReAct trajectory as one agent turn that tells the same: thoughts, then what was observed as statements.

    A calculation and its result become `42-7 = 35.`, what a search found stands as it was found, without ranks, any
    other tool's result follows its input (`1790, 1768: after.`). What a tool or the environment refused is left out,
    save a sum that cannot be worked out, and so is what comes after the answer. A trajectory that never finished gets
    no answer line. A trajectory that is one chain of thought already is returned as it is.

    The new turn carries loss if all turns that went into it do: half a message cannot be masked.

    ("Thought: Subtract.\nAction: calculate[42-7]", "35", "Thought: Done.\nAction: finish[35]") becomes
    "Subtract. 42-7 = 35. Done.\nAnswer: 35"
    """
    turns = [message for message in messages if message.role == "assistant"]
    if not turns:
        return ()
    if len(messages) == 1 and isinstance(_find_call(turns[0].content, None), UnparsedAction):
        if isinstance(parse_answer(turns[0].content), Action):
            return (turns[0],)
        return (_turn(_THOUGHT.sub("", turns[0].content).strip(), turns),)
    told: list[str] = []
    used: list[Message] = []
    call: _Call | UnparsedAction | None = None
    for message in messages:
        if message.role != "assistant":
            told += _told(call, message.content, told)
            continue
        used.append(message)
        call = _find_call(message.content, None)
        thought = message.content if isinstance(call, UnparsedAction) else message.content[: call.start]
        thought = _one_line(_THOUGHT.sub("", thought)).rstrip("*#_ ")
        if thought:
            told.append(thought)
        if not isinstance(call, UnparsedAction) and call.action.tool.lower() == FINISH:
            return (_turn(render_solution(_joined(told), _one_line(call.action.input)), used),)
    return (_turn(_joined(told), used),)


def _turn(content: str, parts: Sequence[Message]) -> Message:
    return Message("assistant", content, train=all(message.train for message in parts))


_OBSERVATION = re.compile(rf"[\s*#>]{{0,8}}observation[ \t]{{0,4}}[0-9]{{0,3}}[*_]{{0,2}}[ \t]{{0,4}}{_COLON}", re.I)
_RANK = re.compile(r"(?:(?<=\s)|^)#([0-9]{1,3}):?(?=\s)")
_EQUATION_OPEN = re.compile(r"=\s*([$\u20ac\u00a3]?)$")


def _told(call: _Call | UnparsedAction | None, observation: str, told: Sequence[str]) -> Iterator[str]:
    """What an observation says without a tool to say it."""
    match = _OBSERVATION.match(observation)
    observation = _one_line(observation[match.end() :] if match else observation)
    error = re.match(r"Error:\s*", observation)
    if call is None or isinstance(call, UnparsedAction):
        if not error:
            yield observation
        return
    tool, input = call.action.tool.lower(), _one_line(call.action.input)
    if error:
        if tool == "calculate":
            yield f"{input} cannot be worked out: {observation[error.end() :]}"
    elif tool == "calculate":
        # "He has 16 - 3 = calculate[16-3]" (GSM8K) needs the value only.
        yield observation if told and _EQUATION_OPEN.search(told[-1]) else f"{input} = {observation}"
    elif tool == "search":
        yield _without_ranks(observation)
    else:
        yield f"{input}: {observation}"


def _without_ranks(observation: str) -> str:
    """`#1 ... #2 ...` as text; a "#1 hit" within it stays, ranks count up from the first word."""
    if not observation.startswith("#1"):
        return observation
    rank = 0

    def dropped(match: re.Match[str]) -> str:
        nonlocal rank
        if int(match[1]) != rank + 1:
            return match[0]
        rank += 1
        return ""

    return _one_line(_RANK.sub(dropped, observation))


def _joined(parts: Sequence[str]) -> str:
    """One line of sentences; an equation that was left open goes on with what follows it."""
    text, in_equation = "", False
    for part in parts:
        if not part:
            continue
        opened = _EQUATION_OPEN.search(text)
        if opened:
            text += part if opened[1] else f" {part}"
        elif in_equation and not part[:1].isupper():
            text += part if part[0] in ".,;:!?%)" else f" {part}"  # "= 13" was the middle of a sentence
        else:
            text = f"{_ended(text)} {part}" if text else part
        in_equation = opened is not None
    return text if _EQUATION_OPEN.search(text) else _ended(text)


def _ended(text: str) -> str:
    return text if not text or text[-1] in ".!?:;," else f"{text}."


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _marked_answer(text: str) -> str | None:
    """The last answer with a mark of its own; an empty one only if there is no other."""
    found: list[tuple[int, str]] = []
    for line in reversed(list(_ANSWER_LINE.finditer(text))[-MAX_TRIES:]):
        answer = _plain(line[1])
        if not answer:  # it stands on the next line that is not empty
            following = text[line.end() : line.end() + 300].strip().split("\n", 1)[0]
            answer = "" if _ANSWER_LINE.match(following) else _plain(following)
        found.append((line.start(), answer))
        if answer:
            break
    boxed = text.rfind("\\boxed{")
    if boxed >= 0:
        end = _closing_brace(text, boxed + len("\\boxed{"))
        if end is not None:
            found.append((boxed, _plain(text[boxed + len("\\boxed{") : end])))
    calls = list(_FINISH_CALL.finditer(text))
    if calls:
        end = _closing_bracket(text, calls[-1].end(), calls[-1][1])
        if end is not None:
            found.append((calls[-1].start(), text[calls[-1].end() : end].strip()))
    body = text.rstrip()
    start = body.rfind("\n") + 1
    last = _LAST_LINE.match(body, start)
    if last:
        found.append((start, _plain(last[1])))
    return max(found, key=lambda candidate: (candidate[1] != "", candidate[0]))[1] if found else None


def _prose_answer(text: str) -> str | None:
    matches = list(_ANSWER_PROSE.finditer(text))
    if not matches:
        return None
    answer = text[matches[-1].end() :].split("\n", 1)[0]
    end = _SENTENCE_END.search(answer)
    return _plain(answer[: end.start()] if end else answer)


_LATEX = (
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox)\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}"), r"\1/\2"),
)


def _plain(answer: str) -> str:
    r"""Without markdown and LaTeX around it: `**18**`, `\(18\)`, `$18$`, `\text{yes}`, `\frac{1}{2}`."""
    answer = answer.strip(" \t\r\n*`")
    if answer.startswith("\\(") and answer.endswith("\\)"):
        answer = answer[2:-2].strip()
    if len(answer) > 2 and answer[0] == answer[-1] == "$":
        answer = answer[1:-1].strip()
    for pattern, replacement in _LATEX:
        answer = pattern.sub(replacement, answer)
    return answer


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return start + brace.start()
    return None
