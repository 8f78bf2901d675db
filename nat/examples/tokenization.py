"""From messages to `input_ids` and `labels`, through the tokenizer's own chat template.

A conversation is cut, at text level, into segments that training and roll-outs tokenise one by one in the same way, so
that a roll-out's prompt equals the training prompt token for token (with ChatML; `|` cuts, CAPITALS carry loss):

    <|im_start|>user\\nWhat is 2 + 3?<|im_end|>\\n<|im_start|>assistant\\n      prompt
    |THOUGHT: ADD. ACTION: CALCULATE[2 + 3]<|IM_END|>                          agent's turn
    |\\n<|im_start|>tool\\n5<|im_end|>\\n<|im_start|>assistant\\n               observations
    |THOUGHT: DONE. ACTION: FINISH[5]<|IM_END|>                                agent's turn
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from os.path import commonprefix
from typing import Any, Literal, NamedTuple, TypeAlias

from nat.types import Example, Message, RequestError, Role, Trajectory

DropReason: TypeAlias = Literal["too_long", "special_token_in_text", "no_trained_turn", "template_mismatch"]
MASKED = -100  # the label that PyTorch's and TRL's losses ignore

# Some templates (Llama 3.2's) print today's date: a prompt must not change from one day to the next.
_TEMPLATE_VARIABLES = {"date_string": "26 Jul 2024"}
# Quotes and a line break show a template that escapes what it renders, spaces inside one that reflows it.
_OBSERVATION_PROBE = 'seen "17"\nand  more'


class Dropped(NamedTuple):
    """A trajectory that does not train, and why."""

    trajectory_id: str
    reason: DropReason
    detail: str


class Untrainable(Exception):
    """One trajectory cannot become an example."""

    def __init__(self, reason: DropReason, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason: DropReason = reason
        self.detail = detail


@dataclass(frozen=True)
class ChatFormat:
    """What the probe of a chat template found. All fields but `tokenizer` and `end_of_turn_id` are text."""

    tokenizer: Any
    folds_system: bool  # system text goes to the first user turn, because the template refuses a system role
    observation_role: Literal["tool", "user"]
    before_content: str  # what the template puts between generation prompt and agent's text (Llama 2: one space)
    after_content: str  # ... between the agent's text and its end-of-turn token
    end_of_turn: str
    end_of_turn_id: int
    after_end_of_turn: str  # what follows the last end-of-turn token; no part of an example
    probe_head: str  # a rendered question and answer up to and including the answer's end-of-turn token
    anchor: str  # tokenised ahead of a later segment and cut off again; "" unless the tokenizer adds a leading space
    special_texts: tuple[str, ...]


_PROBE_QUESTION = Message("user", "Question: 6 + 11?")
_PROBE_ANSWER = Message("assistant", "Thought: add.\nAction: calculate[6 + 11]")


def chat_format(tokenizer: Any) -> ChatFormat:
    """Probe the tokenizer's chat template once.

    Raises:
        RequestError: no chat template; no end-of-turn token; a template that renders a turn differently once another
            one follows (Qwen3's drops and adds `<think>` blocks), under which no training prompt is a prefix of the
            trained conversation.
    """
    if not tokenizer.chat_template:
        raise _template_error(tokenizer, "the tokenizer has no chat template")
    question, answer = _PROBE_QUESTION, _PROBE_ANSWER
    prompt_text = _try_render(tokenizer, [_as_dict(question)], True)
    turn_text = _try_render(tokenizer, [_as_dict(question), _as_dict(answer)], False)
    if prompt_text is None or turn_text is None:
        raise _template_error(tokenizer, "the chat template refuses a user turn followed by an assistant turn")
    if not turn_text.startswith(prompt_text) or answer.content not in turn_text[len(prompt_text) :]:
        raise _template_error(tokenizer, "the chat template renders the agent's turn other than after its own prompt")
    before_content, _, rest = turn_text[len(prompt_text) :].partition(answer.content)

    special_texts = _special_texts(tokenizer)
    found = min(
        ((rest.index(text), -len(text), text) for text in special_texts if text in rest),
        default=None,  # earliest first, then longest: `<eos>` must not win over `<eos_of_turn>`
    )
    if found is None:
        raise _template_error(tokenizer, "the chat template ends the agent's turn without a special token")
    position, _, end_of_turn = found

    system_text = _try_render(tokenizer, [{"role": "system", "content": "Be brief."}, _as_dict(question)], True)
    turn = [_as_dict(question), _as_dict(answer)]
    tool_text = _try_render(tokenizer, [*turn, {"role": "tool", "content": _OBSERVATION_PROBE}], True)
    format = ChatFormat(
        tokenizer=tokenizer,
        folds_system=system_text is None or "Be brief." not in system_text,
        observation_role="tool" if tool_text is not None and _OBSERVATION_PROBE in tool_text else "user",
        before_content=before_content,
        after_content=rest[:position],
        end_of_turn=end_of_turn,
        end_of_turn_id=tokenizer.convert_tokens_to_ids(end_of_turn),
        after_end_of_turn=rest[position + len(end_of_turn) :],
        probe_head=turn_text[: len(turn_text) - len(rest) + position + len(end_of_turn)],
        anchor="",
        special_texts=special_texts,
    )
    return _with_anchor(format, _stable_probe_segments(format))


def encode_prompt(format: ChatFormat, prompt: Sequence[Message]) -> list[int]:
    """Tokens of everything before the agent's first turn, generation prompt included."""
    return _encode_first(format, _prompt_text(format, prompt))


def encode_agent_turn(format: ChatFormat, text: str) -> list[int]:
    """Tokens of one agent turn, with its end-of-turn token exactly once. Surrounding white space is dropped."""
    return _encode_later(format, _agent_text(format, text))


def encode_observations(format: ChatFormat, messages: Sequence[Message]) -> list[int]:
    """Tokens between two agent turns: from after the end-of-turn token through the next generation prompt."""
    return _encode_later(format, _between_text(format, messages))


def tokenize(format: ChatFormat, prompt: Sequence[Message], trajectory: Trajectory, class_name: str) -> Example:
    """The trajectory as the model sees it; only the agent's turns with `train=True` carry loss.

    Raises:
        Untrainable: `special_token_in_text`, `no_trained_turn` or `template_mismatch`.
    """
    segments = _checked_segments(format, prompt, trajectory)
    (example,) = _examples(format, [(segments, class_name, trajectory.id)])
    return example


def tokenize_all(
    format: ChatFormat, rows: Iterable[tuple[Sequence[Message], Trajectory, str]], max_length: int
) -> tuple[list[Example], list[Dropped]]:
    """Examples in the rows' order, and what was dropped. A row is (prompt, trajectory, class name).

    Args:
        max_length: tokens; a longer example is dropped (`too_long`), never cut, since its answer stands at the end.

    Raises:
        RequestError: nothing is left to train.
    """
    checked, dropped = [], []
    for prompt, trajectory, class_name in rows:
        try:
            checked.append((_checked_segments(format, prompt, trajectory), class_name, trajectory.id))
        except Untrainable as error:
            dropped.append(Dropped(trajectory.id, error.reason, error.detail))
    examples = []
    for example in _examples(format, checked):
        if len(example.input_ids) <= max_length:
            examples.append(example)
        else:
            detail = f"{len(example.input_ids)} tokens, over {max_length}"
            dropped.append(Dropped(example.trajectory_id, "too_long", detail))
    if not examples:
        counts = Counter(drop.reason for drop in dropped)
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "no trajectories given"
        remedy = "raise model.max_length" if counts["too_long"] else "look at them with `nat inspect`"
        raise RequestError(f"trajectories: nothing is left to train ({reasons}); {remedy}")
    return examples, dropped


def class_token_counts(examples: Iterable[Example]) -> dict[str, int]:
    """Trained tokens per class, in the order in which the classes first appear."""
    counts: dict[str, int] = {}
    for example in examples:
        counts[example.class_name] = counts.get(example.class_name, 0) + trained_token_count(example)
    return counts


def trained_token_count(example: Example) -> int:
    return sum(label != MASKED for label in example.labels)


# ---- text of the segments ----


def _checked_segments(format: ChatFormat, prompt: Sequence[Message], trajectory: Trajectory) -> list[tuple[str, bool]]:
    """(text, carries loss) from the prompt through the last agent turn, equal to the template's own rendering."""
    for message in (*prompt, *trajectory.messages):
        for text in format.special_texts:
            if text in message.content:  # it would become the token itself and forge the end or start of a turn
                raise Untrainable("special_token_in_text", f"{text!r} in a message of role {message.role}")
    if not any(message.role == "assistant" and message.train for message in trajectory.messages):
        raise Untrainable("no_trained_turn", f"none of its {len(trajectory.messages)} messages is trained")
    segments = _segments(format, prompt, trajectory.messages)
    text = "".join(text for text, _ in segments) + format.after_end_of_turn
    _check_rendering(format, [*prompt, *trajectory.messages[: _last_agent_turn(trajectory.messages) + 1]], text)
    return segments


def _prompt_text(format: ChatFormat, prompt: Sequence[Message]) -> str:
    return _render(format, prompt, generation_prompt=True)


def _agent_text(format: ChatFormat, text: str) -> str:
    # A template's own `| trim` would otherwise make training differ from the template, and a policy's trailing line
    # break would be learned as part of the turn.
    return format.before_content + text.strip() + format.after_content + format.end_of_turn


def _between_text(format: ChatFormat, messages: Sequence[Message]) -> str:
    return _between_text_of(format, tuple((message.role, message.content) for message in messages))


@lru_cache(maxsize=65_536)  # observations repeat (numbers do, above all), and rendering is most of the work
def _between_text_of(format: ChatFormat, messages: tuple[tuple[Role, str], ...]) -> str:
    observations = [Message(role, content) for role, content in messages]
    text = _render(format, [_PROBE_QUESTION, _PROBE_ANSWER, *observations], generation_prompt=True)
    if not text.startswith(format.probe_head):
        raise Untrainable("template_mismatch", "an earlier turn is rendered differently once observations follow")
    return text[len(format.probe_head) :]


def _segments(format: ChatFormat, prompt: Sequence[Message], messages: Sequence[Message]) -> list[tuple[str, bool]]:
    """(text, carries loss) up to and including the last agent turn; the first segment is the prompt."""
    segments = [(_prompt_text(format, prompt), False)]
    between: list[Message] = []
    for position, message in enumerate(messages[: _last_agent_turn(messages) + 1]):
        if message.role != "assistant":
            between.append(message)
            continue
        if message.tool_calls:
            raise Untrainable("template_mismatch", "structured tool calls are not rendered; write them as text")
        if position > 0:  # before the first turn, the prompt's own generation prompt stands
            segments.append((_between_text(format, between), False))
            between = []
        segments.append((_agent_text(format, message.content), message.train))
    return segments


def _last_agent_turn(messages: Sequence[Message]) -> int:
    return max((i for i, message in enumerate(messages) if message.role == "assistant"), default=-1)


def _check_rendering(format: ChatFormat, messages: Sequence[Message], text: str) -> None:
    rendered = _render(format, messages, generation_prompt=False)
    if rendered != text:
        at = len(commonprefix([rendered, text]))
        raise Untrainable(
            "template_mismatch",
            f"the template renders {rendered[at : at + 30]!r} where the turn-wise text has {text[at : at + 30]!r}",
        )


# ---- rendering ----


def _render(format: ChatFormat, messages: Sequence[Message], generation_prompt: bool) -> str:
    try:
        return _render_dicts(format.tokenizer, template_messages(format, messages), generation_prompt)
    except Exception as error:  # templates raise through jinja2, but also TypeError and KeyError of their own
        raise Untrainable("template_mismatch", f"the template refuses these roles: {error}") from error


def template_messages(format: ChatFormat, messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages in the roles that the template takes; neighbouring user turns become one (many templates demand it)."""
    rendered: list[dict[str, str]] = []
    system = ""
    for message in messages:
        role, content = message.role, message.content
        if role == "system" and format.folds_system:
            system = f"{system}{content}\n\n"
            continue
        if role == "tool" and format.observation_role == "user":
            role, content = "user", f"Observation: {content}"
        if role == "assistant":
            content = content.strip()
        if role == "user":
            content, system = system + content, ""
            if rendered and rendered[-1]["role"] == "user":
                rendered[-1]["content"] += f"\n{content}"
                continue
        rendered.append({"role": role, "content": content})
    return rendered


def _as_dict(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def _render_dicts(tokenizer: Any, messages: list[dict[str, str]], generation_prompt: bool) -> str:
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=generation_prompt, **_TEMPLATE_VARIABLES
    )


def _try_render(tokenizer: Any, messages: list[dict[str, str]], generation_prompt: bool) -> str | None:
    try:
        return _render_dicts(tokenizer, messages, generation_prompt)
    except Exception:  # a probe: whatever a template raises, the answer is that it does not take these roles
        return None


# ---- tokens ----


def _examples(format: ChatFormat, rows: Sequence[tuple[list[tuple[str, bool]], str, str]]) -> Iterator[Example]:
    """Examples of (segments, class name, trajectory id), every distinct text tokenised once and all in one call."""
    first = _encode_distinct(format, (segments[0][0] for segments, _, _ in rows), "")
    later = _encode_distinct(format, (text for segments, _, _ in rows for text, _ in segments[1:]), format.anchor)
    for segments, class_name, trajectory_id in rows:
        input_ids = list(first[segments[0][0]])
        labels = [MASKED] * len(input_ids)
        for text, trained in segments[1:]:
            input_ids += later[text]
            labels += later[text] if trained else [MASKED] * len(later[text])
        yield Example(input_ids, labels, class_name, trajectory_id)


def _encode_distinct(format: ChatFormat, texts: Iterable[str], anchor: str) -> dict[str, list[int]]:
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return {}
    encoded = format.tokenizer([anchor + text for text in distinct], add_special_tokens=False)["input_ids"]
    cut = len(_encode_first(format, anchor)) if anchor else 0
    return {text: ids[cut:] for text, ids in zip(distinct, encoded, strict=True)}


def _encode_first(format: ChatFormat, text: str) -> list[int]:
    return format.tokenizer(text, add_special_tokens=False)["input_ids"]


def _encode_later(format: ChatFormat, text: str) -> list[int]:
    return _encode_distinct(format, [text], format.anchor)[text]


def _with_anchor(format: ChatFormat, texts: list[str]) -> ChatFormat:
    """SentencePiece-like tokenizers put a space before every text they are given, so also before each segment."""
    for anchor in ("", "\n"):
        candidate = replace(format, anchor=anchor)
        ids = _encode_first(candidate, texts[0])
        for text in texts[1:]:
            ids += _encode_later(candidate, text)
        decoded = format.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if decoded.lstrip() == "".join(texts).lstrip():
            return candidate
    return format  # a tokenizer that does not give back what it was given (lower-casing, say): nothing to align


def _stable_probe_segments(format: ChatFormat) -> list[str]:
    observation = Message("tool", "17")
    prompt = [Message("system", "Be brief."), _PROBE_QUESTION]
    messages = [_PROBE_ANSWER, observation, _PROBE_ANSWER, observation, _PROBE_ANSWER]
    try:
        texts = [text for text, _ in _segments(format, prompt, messages)]
        _check_rendering(format, [*prompt, *messages], "".join(texts) + format.after_end_of_turn)
    except Untrainable as error:
        raise _template_error(format.tokenizer, f"the chat template rewrites earlier turns ({error.detail})") from error
    return texts


def _special_texts(tokenizer: Any) -> tuple[str, ...]:
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(sorted({*tokenizer.all_special_tokens, *added} - {""}))


def _template_error(tokenizer: Any, what: str) -> RequestError:
    known = set(_special_texts(tokenizer))
    other = " (or model.chat_template=chatml)" if {"<|im_start|>", "<|im_end|>"} <= known else ""
    return RequestError(
        f"model.chat_template: {what}, so training prompts and roll-out prompts would differ; "
        f"use model.chat_template=plain{other} or your own .jinja file"
    )
