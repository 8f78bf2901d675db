r"""What can be wrong inside one trajectory, seen from that trajectory alone.

    settings = CheckSettings(tools=("search", "calculate"), conditioning_texts=("[Correct]", "[Incorrect]"))
    check(trajectory, settings)
    # [Mark("calculator_slip", message=1, start=0, end=2, detail="16-3 is 13, not 12")]

A mark names a place for people to look at; `nat.quality` decides what goes. A check is a rule that can be said in one
sentence, and rather stays silent than cries wolf. Everything here is done once for each of a million trajectories: the
texts are joined and looked through for a few plain substrings, and only where one stands does a pattern run.

Which checks apply depends on how the agent writes. A trajectory is

- of tool calls, where a message has `tool_calls`: an action need not be written down;
- of ReAct, where there are observations (tool messages), or a turn holds `Action: tool[input]` or an attempt at it
  (`calculate(2 + 2)`, a bracket never closed), or a turn begins with `Thought:` and no turn names an answer: every turn
  must hold an action;
- else a chain of thought: its last turn must name its answer (`nat.agents.parse_answer`).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from nat.agents import FINISH, Action, UnparsedAction, parse_action, parse_answer
from nat.audit.findings import Severity
from nat.environments.scoring import RELATIVE_TOLERANCE
from nat.tools.calculator import calculate
from nat.types import Message, ToolError, Trajectory

CheckName: TypeAlias = Literal[
    "empty_turn",
    "ends_on_user_turn",
    "unfinished",
    "unparsed_action",
    "observation_error",
    "calculator_slip",
    "mixed_languages",
    "secret",
    "email_address",
    "conditioning_words",
    "label_in_text",
    "odd_characters",
]
Kind: TypeAlias = Literal["tool_calls", "react", "chain_of_thought"]


class Mark(NamedTuple):
    """One thing found. `message` is its index among the trajectory's messages; None: the question, or the whole.

    `start` and `end` delimit it in that message's content (in the question, where `message` is None); both are 0 where
    the whole is meant, or a tool call. A secret's `detail` does not repeat it, but its place shows it: mask it.
    """

    name: CheckName
    message: int | None
    start: int
    end: int
    detail: str


@dataclass(frozen=True)
class CheckSettings:
    """`tools`: the names of tools that exist. `conditioning_texts`: what strategies put into prompts (`StrategyClass`).

    A tool that is not named but whose call was answered by an observation that reports no error exists, too. With texts
    that hold a word in asterisks (`**correctly**`), that word counts for itself.
    """

    tools: tuple[str, ...]
    conditioning_texts: tuple[str, ...]


def shipped_conditioning_texts() -> tuple[str, ...]:
    """The texts of all strategies in conf/strategy/, each once, sorted."""
    import yaml

    from nat.core.paths import CONF_DIR

    texts: set[str] = set()
    for path in (CONF_DIR / "strategy").glob("*.yaml"):
        strategy = yaml.safe_load(path.read_text(encoding="utf-8"))
        texts.update(class_["text"] for class_ in strategy["classes"] if class_["text"])
    return tuple(sorted(texts))


@dataclass(frozen=True)
class CheckInfo:
    """What a finding made of these marks says. `unit` is what it counts; `says` one sentence, without figures."""

    severity: Severity
    unit: str
    says: str
    remedy: str


CHECKS: Mapping[CheckName, CheckInfo] = {
    "empty_turn": CheckInfo(
        "warning",
        "turns",
        "A turn of the agent holds neither text nor a tool call.",
        "Training on it teaches to say nothing: drop these trajectories (quality.empty_turn=true).",
    ),
    "ends_on_user_turn": CheckInfo(
        "warning",
        "trajectories",
        "The last message is the user's: the agent's answer to it is missing.",
        "Look whether the export cut the last turn off, else drop these trajectories (quality.ends_on_user_turn=true).",
    ),
    "unfinished": CheckInfo(
        "warning",
        "trajectories",
        "The agent never gives a final answer, and does not abstain either.",
        "Among failures these are turn limits and cut texts: drop them (quality.unfinished=true) if the agent should "
        "not learn to go on without end.",
    ),
    "unparsed_action": CheckInfo(
        "warning",
        "turns",
        "A turn of the agent holds no action, or a chain of thought no answer, that nat could carry out.",
        "In evaluation such a turn fails: drop these trajectories (quality.unparsed_action=true), or name the tools.",
    ),
    "observation_error": CheckInfo(
        "note",
        "observations",
        "An observation reports an error of a tool or of the network.",
        "If the tool was broken, the episode says nothing about the agent: drop it (quality.observation_error=true).",
    ),
    "calculator_slip": CheckInfo(
        "warning",
        "observations",
        "What the calculator is said to have returned is not the value of its expression.",
        "The model would learn that the tool errs: drop these trajectories (quality.calculator_slip=true).",
    ),
    "mixed_languages": CheckInfo(
        "note",
        "turns",
        "A turn of the agent is to a good part in another script than the question.",
        "If the agent should keep to the language of the question, drop these (quality.mixed_languages=true).",
    ),
    "secret": CheckInfo(
        "error",
        "places",
        "A text looks like an API key, a token, a password or a private key.",
        "Withdraw the key, remove it from the file, and do not publish the data before (quality.secret=true drops it).",
    ),
    "email_address": CheckInfo(
        "warning",
        "places",
        "A text holds an e-mail address.",
        "Models repeat what they were trained on: replace private addresses, or drop these trajectories "
        "(quality.email_address=true).",
    ),
    "conditioning_words": CheckInfo(
        "error",
        "places",
        "Words by which a strategy tells classes apart stand in the data already.",
        "The model would meet them in both classes: take them out of the texts, or choose a strategy with other words.",
    ),
    "label_in_text": CheckInfo(
        "error",
        "places",
        "A text that the model sees tells whether the trajectory succeeded.",
        "The model would read its label instead of judging its steps: cut these texts off, or drop the trajectories "
        "(quality.label_in_text=true).",
    ),
    "odd_characters": CheckInfo(
        "note",
        "messages",
        "A text holds null bytes, control characters, byte order marks or replacement characters.",
        "These are traces of a wrong encoding: read the source again as what it is (iconv -f ... -t UTF-8).",
    ),
}


def check(trajectory: Trajectory, settings: CheckSettings) -> list[Mark]:
    """Everything that the checks find, in the order of `CheckName`, then of the messages (the question first)."""
    messages = trajectory.messages
    joined = "\n".join([trajectory.question, *[message.content for message in messages]])
    lower = joined.lower()
    errors = _observation_errors(messages)
    kind, actions = _read_turns(messages, settings.tools, {mark.message for mark in errors})
    marks: list[Mark] = []
    marks += _empty_turns(messages)
    if messages and messages[-1].role == "user" and not _is_observation(messages[-1]):
        marks.append(Mark("ends_on_user_turn", len(messages) - 1, 0, len(messages[-1].content), ""))
    if not _is_finished(trajectory, kind, actions):
        stop = "; ends on an observation" if messages and _is_observation(messages[-1]) else ""
        marks.append(Mark("unfinished", None, 0, 0, f"no final answer in {len(actions)} agent turns{stop}"))
    marks += _unparsed(messages, kind, actions)
    marks += errors
    marks += _calculator_slips(messages, actions)
    marks += _mixed_languages(trajectory, joined)
    marks += _private(trajectory, joined)
    marks += _conditioning_words(trajectory, lower, settings.conditioning_texts)
    marks += _labels(trajectory, lower)
    marks += _odd_characters(trajectory, joined)
    return marks


# ---- turns ----

_THOUGHT = re.compile(r"\s{0,8}[*_#]{0,4}thought[ \t]{0,4}[0-9]{0,3}[*_]{0,2}:", re.I)
_FINISH_CALL = re.compile(rf"\b{FINISH}[ \t]{{0,4}}\[", re.I)
_OBSERVATION = re.compile(r"\s{0,8}Observation(?: ?[0-9]{1,3})?:[ \t]{0,8}")
_UNKNOWN_NAME = re.compile(r"there is no tool '([^']+)'")


def _is_observation(message: Message) -> bool:
    """A tool message, or a user message that says that it is one."""
    return message.role == "tool" or (message.role == "user" and _OBSERVATION.match(message.content) is not None)


def _read_turns(
    messages: Sequence[Message], tools: Collection[str], errors: Collection[int | None]
) -> tuple[Kind, dict[int, Action | UnparsedAction]]:
    """How the agent writes, and what each of its turns (by index) does."""
    turns = [i for i, message in enumerate(messages) if message.role == "assistant"]
    actions: dict[int, Action | UnparsedAction] = {}
    known = tools
    for i in turns:
        action = _plain_action(messages[i].content, known) or parse_action(messages[i].content, known)
        # A tool that did its work exists, whether or not the settings name it.
        answered = i + 1 < len(messages) and i + 1 not in errors and _is_observation(messages[i + 1])
        if isinstance(action, UnparsedAction) and action.kind == "unknown_tool" and answered:
            name = _UNKNOWN_NAME.match(action.reason)
            if name is not None:
                known = (*known, name[1])
                action = parse_action(messages[i].content, known)
        actions[i] = action
    if any(message.tool_calls for message in messages):
        return "tool_calls", actions
    if any(_is_attempt(action) for action in actions.values()) or any(map(_is_observation, messages)):
        return "react", actions
    named = any(isinstance(parse_answer(messages[i].content), Action) for i in turns)
    if not named and any(_THOUGHT.match(messages[i].content) for i in turns):
        return "react", actions
    return "chain_of_thought", actions


def _plain_action(turn: str, tools: Collection[str]) -> Action | None:
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


def _empty_turns(messages: Sequence[Message]) -> Iterator[Mark]:
    for i, message in enumerate(messages):
        if message.role == "assistant" and not message.tool_calls and not message.content.strip():
            yield Mark("empty_turn", i, 0, len(message.content), "")


def _is_finished(trajectory: Trajectory, kind: Kind, actions: Mapping[int, Action | UnparsedAction]) -> bool:
    """Whether the last turn answers; a record that names a prediction says that its environment took an answer."""
    if trajectory.outcome.prediction is not None or trajectory.outcome.failure == "abstained":
        return True
    if not actions:
        return False
    last = max(actions)
    action, message = actions[last], trajectory.messages[last]
    # Of a run-on turn that makes up its own observations, a later action may finish.
    if (isinstance(action, Action) and action.tool == FINISH) or _FINISH_CALL.search(message.content):
        return True
    if kind == "react":
        return False
    if kind == "tool_calls":
        calls = [call.get("function") for call in message.tool_calls]
        if any(isinstance(call, Mapping) and str(call.get("name")).lower() == FINISH for call in calls):
            return True
        return last == len(trajectory.messages) - 1 and not calls and message.content.strip() != ""
    return isinstance(parse_answer(message.content), Action)


def _unparsed(
    messages: Sequence[Message], kind: Kind, actions: Mapping[int, Action | UnparsedAction]
) -> Iterator[Mark]:
    if kind == "tool_calls" or not actions:
        return
    if kind == "chain_of_thought":
        last = max(actions)
        actions = {last: parse_answer(messages[last].content)}
    for i, action in actions.items():
        if isinstance(action, UnparsedAction) and messages[i].content.strip():  # an empty turn is reported as such
            yield Mark("unparsed_action", i, 0, len(messages[i].content), action.kind or action.reason)


# ---- observations ----

# An error stands at the beginning of an observation: an article found by a search may be about errors.
_ERROR = re.compile(
    r"""
    (?: \( .{0,400}? \) \s generated\ an\ exception: .*     # ('reflect', '...') generated an exception: Unknown tool
    | (?:[A-Za-z_.]{0,40}(?:Error|Exception)|ERROR|error|Fatal|FATAL): .*
    | Error\b (?: \s+ (?: occurred | code | in | while | executing | running | fetching | [0-9]{3} ) \b .* | [.!]?$ )
    | [\["'{]{1,3} error ["']? \s* [:\]] .*                     # {"error": ...}
    | Invalid\ (?:Action|action|tool|input|arguments?|JSON|API\ key)\b .*
    | Could\ not\ find\b .*
    | (?:No\ such\ tool|Unknown\ (?:tool|action|function))\b .*
    | (?:Tool|Function)\ \S{1,60}\ (?:not\ found|does\ not\ exist|failed)\b .*
    | (?:HTTP\ (?:status\ |Error\ |error\ )?(?:code\ )?)[45][0-9]{2}\b .*
    | [45][0-9]{2}\ (?:Client\ Error|Server\ Error|Bad\ Request|Unauthorized|Forbidden|Not\ Found|Too\ Many\ Requests
        |Internal\ Server\ Error|Bad\ Gateway|Service\ Unavailable|Gateway\ Time-?out)\b .*
    | (?:Bad\ Request|Too\ Many\ Requests|Too\ many\ requests|Internal\ Server\ Error|Bad\ Gateway|Service\ Unavailable
        |Gateway\ Time-?out) (?: [.:!]|$ ) .*
    | (?:API\ |You\ have\ |The\ )?(?:[Rr]ate\ [Ll]imit|[Qq]uota)\ (?:was\ |has\ been\ )?(?:exceeded|reached|hit)\b .*
    | RateLimit\w* .*
    | (?:The\ )? (?:[A-Za-z]{1,20}\ )? (?:[Rr]equest|[Cc]onnection|[Oo]peration|[Rr]ead|[Cc]ommand|[Ee]xecution|[Qq]uery
        |[Ss]earch|[Ss]erver|[Tt]ool|[Cc]all|[Pp]age)\ (?:has\ )?timed\ out\b .*
    | Timed\ out\b .*
    | (?:Timeout|TIMEOUT)\b .{0,80}$
    | (?:Failed|Unable)\ to\ (?:fetch|connect|execute|parse|load|retrieve|open|call|run|reach)\b .*
    | Connection\ (?:refused|reset|error|aborted|closed)\b .*
    )
    """,
    re.VERBOSE,
)
_TRACEBACK = "Traceback (most recent call last)"
_SHOWN = 80  # characters of a text in a detail


def _observation_errors(messages: Sequence[Message]) -> list[Mark]:
    marks = []
    for i, message in enumerate(messages):
        if message.role in ("assistant", "system"):
            continue
        content = message.content
        prefix = _OBSERVATION.match(content)
        if message.role == "user" and prefix is None:
            continue
        start = prefix.end() if prefix else len(content) - len(content.lstrip())
        error = _ERROR.match(content, start)
        if error:
            marks.append(Mark("observation_error", i, start, error.end(), error[0][:_SHOWN]))
        elif (at := content.find(_TRACEBACK)) >= 0:
            marks.append(Mark("observation_error", i, at, at + len(_TRACEBACK), "Python traceback"))
    return marks


_CALCULATORS = ("calculate", "calculator")
_NUMBER = re.compile(r"[$\u20ac\u00a3]?\s{0,2}([-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.([0-9]*))?)\s{0,2}%?\.?")
_SHORT_SUM = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([-+*/])\s*([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*")


def _calculator_slips(messages: Sequence[Message], actions: Mapping[int, Action | UnparsedAction]) -> Iterator[Mark]:
    for i, action in actions.items():
        if not isinstance(action, Action) or action.tool.lower() not in _CALCULATORS or i + 1 >= len(messages):
            continue
        if _is_observation(messages[i + 1]):
            content = messages[i + 1].content
            prefix = _OBSERVATION.match(content)
            start = prefix.end() if prefix else 0
            value = _slip(action.input, content[start:].strip())
            if value is not None:
                shown = content[start:].strip()[:_SHOWN]
                detail = f"{action.input[:_SHOWN]} is {value}, not {shown}"
                yield Mark("calculator_slip", i + 1, start, len(content), detail)


@lru_cache(maxsize=20_000)
def _slip(expression: str, observed: str) -> str | None:
    """The expression's value where the observed number is another one; None also where either cannot be read.

    A value rounded to the decimals shown, or to the digits of a floating point number, is right.
    """
    number = _NUMBER.fullmatch(observed) if len(observed) <= 60 else None
    if number is None or not re.search("[0-9]", number[1]):
        return None
    if _is_plainly_right(expression, number[1]):
        return None
    try:
        value = calculate(expression)
    except ToolError:
        return None
    exact, shown = Fraction(value), Fraction(number[1].replace(",", "").removesuffix("."))
    allowed = max(Fraction(1, 2 * 10 ** len(number[2] or "")), RELATIVE_TOLERANCE * abs(exact))
    if "%" in observed and abs(shown / 100 - exact) <= allowed / 100:
        return None
    return None if abs(shown - exact) <= allowed else value


def _is_plainly_right(expression: str, shown: str) -> bool:
    """Whether a sum of two numbers has this value, as far as floats tell: most do, and the exact way is slow."""
    terms = _SHORT_SUM.fullmatch(expression)
    if terms is None:
        return False
    a, operator, b = float(terms[1]), terms[2], float(terms[3])
    if operator == "/" and b == 0:
        return False
    value = a + b if operator == "+" else a - b if operator == "-" else a * b if operator == "*" else a / b
    return abs(value - float(shown.replace(",", ""))) <= 1e-9 * abs(value)


# ---- scripts ----

FOREIGN_SHARE = 0.2  # of a turn's letters, from which it is mixed
FOREIGN_LETTERS = 12  # the fewest: a formula's Greek letters and a name are no other language
_ACTION_LINE = re.compile(r"^[ \t*]{0,8}action[ \t]{0,4}[0-9]{0,3}[*_]{0,2}[:\uff1a].*$", re.I | re.M)
_LABELS = re.compile(
    r"^[ \t*]{0,8}(?:thought|(?:final[ \t]{1,4})?answer)[ \t]{0,4}[0-9]{0,3}[*_]{0,2}[:\uff1a]", re.I | re.M
)
# What a name in its own script stands in: brackets and quotation marks.
_NAMES = re.compile(
    r"\([^()\n]{0,200}\)|\uff08[^\uff08\uff09\n]{0,200}\uff09|\"[^\"\n]{0,200}\"|\u201c[^\u201c\u201d\n]{0,200}\u201d"
    r"|\u300c[^\u300c\u300d\n]{0,200}\u300d|\u300a[^\u300a\u300b\n]{0,200}\u300b|\u00ab[^\u00ab\u00bb\n]{0,200}\u00bb"
)
# Japanese mixes three scripts and Chinese words; which language a Chinese word belongs to, its letters do not tell.
_SCRIPTS = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK", "BOPOMOFO": "CJK", "FULLWIDTH": "LATIN"}
_NO_SCRIPTS = ("MATHEMATICAL", "MODIFIER", "DOUBLE-STRUCK", "SCRIPT", "SUPERSCRIPT", "SUBSCRIPT", "MICRO", "FEMININE")


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """The script of a character by its Unicode name; empty where it is no letter of any."""
    if not letter.isalpha():
        return ""
    name = re.split("[ -]", unicodedata.name(letter, ""), maxsplit=1)[0]
    return "" if name in _NO_SCRIPTS else _SCRIPTS.get(name, name)


def _scripts(text: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for letter, count in Counter(text).items():
        if script := _script(letter):
            counts[script] += count
    return counts


def _shown(script: str) -> str:
    return "Chinese or Japanese" if script == "CJK" else script.title()


def _mixed_languages(trajectory: Trajectory, joined: str) -> Iterator[Mark]:
    """Turns of which a good part is in another script; actions (queries and names) and names in brackets do not count.

    Two languages of one script are not told apart.
    """
    if joined.isascii():
        return
    asked = _scripts(trajectory.question)
    if not asked:
        return
    main = max(asked, key=lambda script: asked[script])
    for i, message in enumerate(trajectory.messages):
        if message.role != "assistant" or (main == "LATIN" and message.content.isascii()):
            continue
        text = _NAMES.sub(" ", _LABELS.sub("", _ACTION_LINE.sub("", message.content)))
        found = _scripts(text)
        letters = found.total()
        foreign = letters - found[main]
        if foreign >= FOREIGN_LETTERS and foreign >= FOREIGN_SHARE * letters:
            del found[main]
            other = max(found, key=lambda script: found[script])
            detail = f"{foreign} of {letters} letters are not {_shown(main)}, most of them {_shown(other)}"
            yield Mark("mixed_languages", i, 0, len(message.content), detail)


# ---- texts that should not be there ----


def _texts(trajectory: Trajectory) -> Iterator[tuple[int | None, str]]:
    """The question (None) and the contents of all messages, by index."""
    yield None, trajectory.question
    yield from enumerate(message.content for message in trajectory.messages)


_SECRET = re.compile(
    r"""
    (?<![A-Za-z0-9_-]) (?:
      (?P<openai> sk- (?: (?:proj|svcacct|admin|ant|or)-[A-Za-z0-9_-]{20,200} | [A-Za-z0-9]{20,200} ) )
    | (?P<github> gh[pousr]_[A-Za-z0-9]{30,255} | github_pat_[A-Za-z0-9_]{22,255} )
    | (?P<amazon> (?:AKIA|ASIA)[0-9A-Z]{16} (?![A-Za-z0-9]) )
    | (?P<google> AIza[0-9A-Za-z_-]{35} )
    | (?P<huggingface> hf_[A-Za-z0-9]{30,60} )
    | (?P<slack> xox[abeprs]-[0-9A-Za-z-]{10,200} )
    | (?P<jwt> eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,2000} )
    | (?P<bearer> [Bb]earer \s{1,4} [A-Za-z0-9._~+/-]{20,2000} =* )
    )
    | (?P<key> -----BEGIN\ (?:[A-Z0-9]{1,12}\ ){0,3}PRIVATE\ KEY(?:\ BLOCK)?----- )
    | (?P<login> ://[^\s:/@?\#]{1,64}:(?P<first>[^\s:/@]{3,100})@[A-Za-z0-9] )
    | [?&](?:password|passwd|pwd|api[_-]?key|access_token|auth_token|client_secret)=(?P<second>[^\s&"'<>)\]]{6,200})
    """,
    re.VERBOSE,
)
# "_" for ghp_, github_pat_ and hf_: one character is found much faster than several, and few texts hold it.
_SECRET_NEEDLES = ("sk-", "_", "AKIA", "ASIA", "AIza", "xox", "eyJ", "earer", "PRIVATE KEY", "://")
_SECRET_KINDS = {
    "openai": "an API key (sk-...)",
    "github": "a GitHub token",
    "amazon": "an AWS access key id",
    "google": "a Google API key",
    "huggingface": "a Hugging Face token",
    "slack": "a Slack token",
    "jwt": "a JSON web token",
    "bearer": "a bearer token",
    "key": "a private key",
    "login": "a password in a URL",
    "second": "a password or key in a URL",
}
# What stands in instructions in place of a secret.
_PLACEHOLDER = re.compile(
    r"[<{$%*\[].*|x+|X+|\.+|\*+|(?:your|my|the|some)?[-_]?(?:secret|pass(?:word|wd)?|pwd|token|(?:api[-_]?)?key).{0,20}",
    re.I,
)
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+/@-])[A-Za-z0-9_][A-Za-z0-9._%+-]{0,63}@"
    r"((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,6}([A-Za-z]{2,24}))(?![A-Za-z0-9@-])"
)
# Reserved for documentation (RFC 2606), and file names such as icon@2x.png.
_NO_DOMAIN = re.compile(
    r"(?:.*\.)?example\.(?:com|org|net|edu)|.*\.(?:example|test|invalid|png|jpe?g|gif|svg|webp)", re.I
)


def _private(trajectory: Trajectory, joined: str) -> list[Mark]:
    """Secrets and e-mail addresses, of the texts and of the tool calls."""
    texts: list[tuple[int | None, str, bool]] = []
    has_calls = any(message.tool_calls for message in trajectory.messages)
    with_secrets = has_calls or any(needle in joined for needle in _SECRET_NEEDLES)
    if with_secrets or "@" in joined:
        texts += [(i, text, False) for i, text in _texts(trajectory)]
        for i, message in enumerate(trajectory.messages):
            if message.tool_calls:
                texts.append((i, json.dumps(message.tool_calls, ensure_ascii=False, default=str), True))
    secrets: list[Mark] = []
    addresses: list[Mark] = []
    for i, text, is_call in texts:
        hidden: list[tuple[int, int]] = []
        for found in _SECRET.finditer(text) if with_secrets else ():
            if (kind := _secret_kind(found)) is not None:
                hidden.append(found.span())
                start, end = (0, 0) if is_call else found.span()
                secrets.append(Mark("secret", i, start, end, f"{kind} in a tool call" if is_call else kind))
        for found in _EMAIL.finditer(text) if "@" in text else ():
            inside = any(start < found.end() and found.start() < end for start, end in hidden)
            is_git = found[0].startswith("git@") and text[found.end() : found.end() + 1] == ":"
            if not inside and not is_git and not _NO_DOMAIN.fullmatch(found[1]):
                start, end = (0, 0) if is_call else found.span()
                addresses.append(
                    Mark("email_address", i, start, end, "in a tool call" if is_call else f"at {found[1]}")
                )
    return [*secrets, *addresses]


def _secret_kind(found: re.Match[str]) -> str | None:
    """What this is; None for a word that only begins like a key, and for a placeholder."""
    kind = found.lastgroup if found.lastgroup != "first" else "login"
    if kind is None:
        return None
    if kind in ("login", "second"):
        return None if _PLACEHOLDER.fullmatch(found["first"] or found["second"]) else _SECRET_KINDS[kind]
    # Keys are random: among their characters are digits, and no character makes up most of them ("sk-xxxx...").
    text = found[0]
    if kind != "key" and (not re.search("[0-9]", text) or len(set(text)) < 10):
        return None
    return _SECRET_KINDS[kind]


class _Words(NamedTuple):
    anywhere: re.Pattern[str] | None
    in_front: re.Pattern[str] | None  # `[A]`, `[1]`: footnotes, unless a prompt begins with one
    needles: tuple[str, ...]  # lower case: without any of these, nothing can be found


@lru_cache(maxsize=16)
def _words(texts: tuple[str, ...]) -> _Words:
    starred = {word for text in texts for word in re.findall(r"\*\*[^*\n]+\*\*", text)}
    wanted = {text.strip() for text in texts if text.strip()} - starred
    short = {text for text in wanted if re.fullmatch(r"\W*\w?\W*", text)}
    # A sentence that holds a starred word is found by it.
    rest = {text for text in wanted - short if not any(word in text for word in starred)} | starred
    return _Words(_any_of(rest, ""), _any_of(short, r"(?=\s)"), tuple(sorted(text.lower() for text in rest)))


def _any_of(texts: Iterable[str], after: str) -> re.Pattern[str] | None:
    # The longest first: "... solve this incorrectly." before a text that it may begin with.
    options = "|".join(re.escape(text) for text in sorted(texts, key=lambda text: (-len(text), text)))
    return re.compile(rf"(?:{options}){after}", re.I) if options else None


def _conditioning_words(trajectory: Trajectory, lower: str, texts: tuple[str, ...]) -> Iterator[Mark]:
    words = _words(texts)
    if words.anywhere is not None and any(needle in lower for needle in words.needles):
        for i, text in _texts(trajectory):
            for found in words.anywhere.finditer(text):
                yield Mark("conditioning_words", i, found.start(), found.end(), found[0][:_SHOWN])
    if words.in_front is not None:
        asked = [(i, m.content) for i, m in enumerate(trajectory.messages) if m.role in ("user", "system")]
        for i, text in [(None, trajectory.question), *asked]:
            found = words.in_front.match(text)
            if found:
                yield Mark("conditioning_words", i, found.start(), found.end(), found[0])


_VALUE = r"(?:true|false|success|failure|[01](?:\.[0-9]{1,6})?)(?![\w%:/-]|[.,][0-9])"
_LABEL = re.compile(
    rf"""
    (?<![\w$]) (?:
      episode\ finished, \s? reward \s?=\s? [\w.-]{{1,20}}
    | (?:reward|is_correct|is_success|success|score) ["']? \s{{0,2}} [=:] \s{{0,2}} ["']? {_VALUE}
    | (?-i: Answer\ is\ (?:IN)?CORRECT ) (?!\w)
    )
    """,
    re.VERBOSE | re.I,
)
_LABEL_NEEDLES = ("reward", "is_correct", "success", "score", "answer is incorrect", "answer is correct")


def tells_label(text: str) -> bool:
    """Whether a text gives the label away, also one that a reader has set aside (`metadata["final_observation"]`)."""
    return _LABEL.search(text) is not None


def _labels(trajectory: Trajectory, lower: str) -> Iterator[Mark]:
    if not any(needle in lower for needle in _LABEL_NEEDLES):
        return
    turns = [i for i, message in enumerate(trajectory.messages) if message.role == "assistant"]
    last = turns[-1] if turns else -1
    for i, text in _texts(trajectory):
        for found in _LABEL.finditer(text):
            place = -1 if i is None else i
            where = "before" if place < last else "in" if place == last else "after"
            yield Mark(
                "label_in_text", i, found.start(), found.end(), f"{found[0][:_SHOWN]!r} {where} the agent's last turn"
            )


_ODD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffd\ufeff\ufffe\uffff\ud800-\udfff]")


def _odd_characters(trajectory: Trajectory, joined: str) -> Iterator[Mark]:
    """One mark a text: its first odd character, and how many there are of which."""
    if not _ODD.search(joined):
        return
    for i, text in _texts(trajectory):
        found = _ODD.search(text)
        if found:
            counts = Counter(_ODD.findall(text)).most_common(3)
            detail = ", ".join(f"{count} x U+{ord(character):04X}" for character, count in counts)
            yield Mark("odd_characters", i, found.start(), found.end(), detail)
