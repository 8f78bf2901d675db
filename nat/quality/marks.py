"""What a check of trajectories says: a mark, its place and its kind; and the list of all checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

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


Severity: TypeAlias = Literal["error", "warning", "note"]


SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # worst first
