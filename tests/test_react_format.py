"""ReAct episodes as message lists, as one text and as chat messages; flaws; and the real files' own counts."""

import json
from collections import Counter
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.agents.actions import UnparsedAction, parse_action
from nat.core.questions import question_id
from nat.core.rows.bad import DroppedRow
from nat.examples.strategy import classify
from nat.trajectories import reading as trajectories
from nat.trajectories.config import TrajectoryFiles
from nat.trajectories.formats.episodes import TOOLS
from nat.trajectories.formats.react import split_text
from nat.types import Message, Outcome, RequestError
from tests.conftest import trajectory_files
from tests.test_strategy import shipped

ASKED = {"role": "user", "content": "Who made it?"}
SEARCH = {"role": "assistant", "content": "Thought: Look.\nAction: search[it]"}
SEEN = {"role": "user", "content": "Observation: It was made by\nAnn."}
FINISH = {"role": "assistant", "content": "Thought: So.\nAction: finish[Ann Lee]"}


def end(reward):
    return {"role": "user", "content": f"Observation: Episode finished, reward = {reward}"}


RECORD = {
    "reward": False,
    "em": False,
    "f1": 0.5,
    "gt": "ann",
    "pred": "ann lee",
    "prompt": [],
    "traj": [ASKED, SEARCH, SEEN, FINISH, end(False)],
}
TEXT = (
    "Below is an instruction.\n\n### Instruction:\nWho made it?\n\n### Response:\nThought: Look.\nAction: search[it]\n"
    "Observation: It was made by\nAnn.\nThought: So.\nAction: finish[Ann Lee]\n"
    "Observation: Episode finished, reward = False\n"
)
# What a label rule can name.
KEPT = {key: RECORD[key] for key in ("reward", "em", "f1", "gt", "pred")}
MESSAGES = (
    Message("assistant", "Thought: Look.\nAction: search[it]"),
    Message("tool", "It was made by\nAnn."),
    Message("assistant", "Thought: So.\nAction: finish[Ann Lee]"),
)


def config(path, on_bad_row: Literal["error", "drop"] = "error") -> TrajectoryFiles:
    path = [str(p) for p in path] if isinstance(path, list) else str(path)
    return trajectory_files(
        "react",
        path=path,
        on_bad_row=on_bad_row,
    )


def read(tmp_path, content, on_bad_row: Literal["error", "drop"] = "error", dropped=None, name="mine.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    return list(trajectories.read(config(path, on_bad_row), dropped))


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(("traj", "preamble"), [(RECORD["traj"], {}), (TEXT, {"preamble_messages": 1})])
def test_messages_and_one_text_give_the_same_trajectory(tmp_path, traj, preamble, indent):
    (trajectory,) = read(tmp_path, json.dumps({"6238": {**RECORD, "traj": traj}}, indent=indent))
    assert trajectory.messages == MESSAGES
    assert trajectory.outcome == Outcome(False, 0.5, "wrong_answer", "ann lee", "ann")
    assert (trajectory.id, trajectory.question) == ("6238", "Who made it?")
    assert (trajectory.question_id, trajectory.source) == (question_id("Who made it?"), "mine")
    assert trajectory.metadata == {**KEPT, **preamble, "final_observation": "Episode finished, reward = False"}


def test_chat_messages_tell_the_outcome_by_their_last_observation(tmp_path):
    lines = [{"messages": [ASKED, SEARCH, SEEN, FINISH, end(reward)]} for reward in (True, False, 1, "0.25")]
    found = read(tmp_path, "".join(f"{json.dumps(line)}\n" for line in lines), name="mine.jsonl")
    assert [(t.outcome.success, t.outcome.score) for t in found] == [(True, 1), (False, 0), (True, 1), (False, 0.25)]
    assert [t.outcome.failure for t in found] == [None, "wrong_answer", None, "wrong_answer"]
    assert [t.outcome.prediction for t in found] == ["Ann Lee"] * 4
    assert [t.id for t in found] == ["mine:1", "mine:2", "mine:3", "mine:4"]
    assert found[0].messages == MESSAGES
    (first,) = read(tmp_path, f"{json.dumps(lines[0])}\n", name="one.jsonl")
    assert first.messages == MESSAGES


def test_instructions_in_front_are_set_aside_and_counted(tmp_path):
    system = {"role": "system", "content": "Use tools."}
    asked = {"role": "user", "content": "Question: Who made it?"}
    record = {**RECORD, "traj": [system, ASKED, asked, FINISH], "prompt": [ASKED, FINISH]}
    (trajectory,) = read(tmp_path, {"a": record})
    assert trajectory.question == "Who made it?"
    assert trajectory.metadata == {
        **KEPT,
        "preamble_messages": 4,
    }  # two in front of the question, two of the few-shot prompt


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("Thought: a", [("assistant", "Thought: a")]),
        # Run-on steps without an observation between them are one turn.
        (
            "Thought: a\nAction: search[b]\nThought: c\nAction: search[d]\nObservation: e",
            [("assistant", "Thought: a\nAction: search[b]\nThought: c\nAction: search[d]"), ("user", "Observation: e")],
        ),
        # An action is missing between two observations.
        ("Observation: a\nObservation: b", [("user", "Observation: a"), ("user", "Observation: b")]),
        ("Action 1: search[a]\nObservation 1: b\nc\n\nThought 2: d",
         [("assistant", "Action 1: search[a]"), ("user", "Observation 1: b\nc"), ("assistant", "Thought 2: d")]),
        ("I see.\nObservation: none\nAction: x", [("assistant", "I see."), ("user", "Observation: none"),
                                                  ("assistant", "Action: x")]),
        ("Thought: the Observation: b", [("assistant", "Thought: the Observation: b")]),
        ("", []),
        ("\n\n", []),
    ],
)  # fmt: skip
def test_one_text_is_cut_at_observations_and_at_the_next_step(text, turns):
    assert [(m.role, m.content) for m in split_text(text)] == turns


@given(st.lists(st.sampled_from(["Thought: a", "Action: s[b]", "Observation: c", "Observation 2: d", "e f", " g"])))
def test_a_text_cut_and_joined_again_is_the_text(lines):
    text = "\n".join(lines)
    parts = split_text(text)
    assert "\n".join(part.content for part in parts) == text
    assert all(part.content.startswith("Observation") == (part.role == "user") for part in parts)


def test_the_older_form_of_one_text(tmp_path):
    text = "Question: Who made it?\nThought 1: Look.\nAction 1: search[it]\nObservation 1: Ann.\nThought 2: So.\n"
    (trajectory,) = read(tmp_path, {"a": {"em": False, "traj": text + "Action 2: finish[Bob]"}})
    assert trajectory.question == "Who made it?"
    assert [m.content for m in trajectory.messages] == [
        "Thought 1: Look.\nAction 1: search[it]",
        "Ann.",
        "Thought 2: So.\nAction 2: finish[Bob]",
    ]
    assert trajectory.outcome == Outcome(False, 0.0, "wrong_answer", "Bob", None)
    assert trajectory.metadata == {"em": False}


def test_what_the_user_says_where_no_result_is_due_stays_a_user_message(tmp_path):
    hint, thought = {"role": "user", "content": "Wrap up."}, {"role": "assistant", "content": "Thought: hm"}
    (trajectory,) = read(tmp_path, {"a": {**RECORD, "traj": [ASKED, thought, hint, SEARCH, hint, FINISH, SEEN]}})
    assert trajectory.messages[1] == Message("user", "Wrap up.")
    assert trajectory.messages[3] == Message("tool", "Wrap up.")  # in the place of the search's result
    assert trajectory.messages[5] == Message("tool", "It was made by\nAnn.")


def last_turn(content, **info):
    return {**RECORD, "pred": "", "traj": [ASKED, SEARCH, SEEN, {"role": "assistant", "content": content}], **info}


@pytest.mark.parametrize(
    ("record", "failure"),
    [
        (last_turn("Action: finish[Bob]"), "wrong_answer"),
        (last_turn("Action: finish[]"), "abstained"),
        (last_turn("Action: finish[unable to find out]", pred="bob"), "abstained"),
        (last_turn("Action: search[Bob]"), "out_of_turns"),
        (last_turn("Thought: hm"), "unparsed_action"),
        (last_turn("Action: search[Bob"), "unparsed_action"),
        (last_turn("Action: click[Bob]", pred="bob"), "wrong_answer"),
        (last_turn(""), "no_answer"),
    ],
)
def test_the_kind_of_a_failure(tmp_path, record, failure):
    (trajectory,) = read(tmp_path, {"a": record})
    assert trajectory.outcome.failure == failure


FLAWS = [
    ({"traj": []}, "empty_conversation", "'traj' is empty"),
    ({"traj": ""}, "empty_conversation", "'traj' is empty"),
    ({"traj": None}, "wrong_value", "'traj' is null; it must be a list"),
    ({"traj": "Thought: a\nAction: finish[b]"}, "missing_value", "begins with neither '### Instruction"),
    ({"traj": "### Instruction:\n \n### Response:\nThought: a"}, "missing_value", "begins with neither"),
    ({"traj": [SEARCH, SEEN]}, "missing_value", "no user message with the question"),
    ({"traj": [ASKED]}, "no_agent_turn", "none of its 0 messages is the agent's"),
    ({"traj": [ASKED, FINISH, end(False), SEARCH, end(False)]}, "goes_on_after_end", "cut them off"),
    ({"traj": [ASKED, FINISH, end(True)]}, "contradictory_label", "the record says failure"),
    ({"reward": None, "em": None, "traj": [ASKED, FINISH]}, "no_label", "success is nowhere said"),
    ({"f1": "high"}, "wrong_value", "'f1' is 'high'; it must be true, false or a number from -1 to 1"),
    ({"gt": {"a": 1}}, "wrong_value", "'gt' is {'a': 1}; it must be text"),
]


@pytest.mark.parametrize(("change", "reason", "message"), FLAWS)
def test_every_flaw_is_an_error_with_its_line_or_dropped_and_listed(tmp_path, change, reason, message):
    records = {"a": RECORD, "b": {**RECORD, **change}, "c": RECORD}
    lines = json.dumps(records, indent=1).splitlines()
    line = lines.index(' "b": {') + 1
    where = f"{tmp_path / 'mine.json'}:{line}"
    with pytest.raises(RequestError, match=message) as error:
        read(tmp_path, records)
    assert str(error.value).startswith(f"{where}: ")
    dropped: list[DroppedRow] = []
    assert [t.id for t in read(tmp_path, records, "drop", dropped)] == ["a", "c"]
    assert [(row.where, row.reason) for row in dropped] == [(where, reason)]


def test_files_of_two_policies_on_the_same_questions_are_told_apart(tmp_path):
    for name in ("small", "large"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"6238": RECORD}))
    (tmp_path / "chat.jsonl").write_text(json.dumps({"messages": RECORD["traj"]}))
    paths = [tmp_path / name for name in ("small.json", "large.json", "chat.jsonl")]
    assert [t.id for t in trajectories.read(config(paths))] == ["small:6238", "large:6238", "chat:1"]


def test_an_id_twice_in_one_object(tmp_path):
    text = f'{{"a": {json.dumps(RECORD)},\n"a": {json.dumps(RECORD)}}}'
    with pytest.raises(RequestError, match=r"mine.json:2: id 'a' was used before, at .*mine.json:1"):
        read(tmp_path, text)
    dropped: list[DroppedRow] = []
    assert len(read(tmp_path, text, "drop", dropped)) == 1
    assert [(row.where.rpartition("/")[2], row.reason) for row in dropped] == [("mine.json:2", "duplicate_id")]


@pytest.mark.parametrize(
    ("name", "counts", "failures", "graded"),
    [
        ("react_gpt-3.5_messages.json", {True: 200, False: 265}, {"wrong_answer": 258, "abstained": 7}, 127),
        ("react_llama-2-7b_text.json", {True: 131, False: 369}, {"wrong_answer": 366, "abstained": 3}, 112),
        ("react_gpt-4_positives.jsonl", {True: 500}, {}, 0),
    ],
)
def test_the_real_files_have_the_counts_that_their_documentation_states(data, name, counts, failures, graded):
    found = list(trajectories.read(config(data / "hotpotqa" / name)))
    assert Counter(t.outcome.success for t in found) == counts
    assert Counter(t.outcome.failure for t in found if not t.outcome.success) == failures
    assert sum(0 < t.outcome.score < 1 for t in found) == graded
    assert len({t.question_id for t in found}) == len(found)
    # The label is in no message: neither in what the agent reads nor in what it learns to write.
    assert not any("Episode finished" in m.content or "reward =" in m.content for t in found for m in t.messages)
    assert {t.metadata["final_observation"] for t in found} == {f"Episode finished, reward = {k}" for k in counts}
    assert all(t.messages[-1].role == "assistant" for t in found)


def test_flaws_of_the_real_files(data):
    turns = {}
    for name in ("react_gpt-3.5_messages.json", "react_llama-2-7b_text.json"):
        for t in trajectories.read(config(data / "hotpotqa" / name)):
            turns[name, t.id] = [m.content for m in t.messages if m.role == "assistant"]
    unread, run_on, repeated = Counter(), Counter(), Counter()
    for (name, _), texts in turns.items():
        actions = [parse_action(text, TOOLS) for text in texts]
        read_actions = [action for action in actions if not isinstance(action, UnparsedAction)]
        unread[name] += len(actions) - len(read_actions)
        run_on[name] += any(text.count("Action:") > 1 for text in texts)
        repeated[name] += len(set(read_actions)) < len(read_actions)
    assert unread == {"react_gpt-3.5_messages.json": 1, "react_llama-2-7b_text.json": 27}
    assert run_on == {"react_gpt-3.5_messages.json": 11, "react_llama-2-7b_text.json": 1}
    assert repeated == {"react_gpt-3.5_messages.json": 3, "react_llama-2-7b_text.json": 78}


def as_given(message: Message) -> str:
    return f"Observation: {message.content}" if message.role == "tool" else message.content


def test_real_messages_survive_word_for_word(data):
    path = data / "hotpotqa" / "react_gpt-3.5_messages.json"
    records = json.loads(path.read_text())
    for trajectory in trajectories.read(config(path)):
        question, *messages, ending = records[trajectory.id]["traj"]
        assert question["content"].strip() == trajectory.question
        assert [m["content"] for m in messages] == [as_given(m) for m in trajectory.messages]
        assert ending["content"] == f"Observation: {trajectory.metadata['final_observation']}"
    path = data / "hotpotqa" / "react_llama-2-7b_text.json"
    records = json.loads(path.read_text())
    for trajectory in trajectories.read(config(path)):
        head, _, body = records[trajectory.id]["traj"].partition("### Response:\n")
        assert head.partition("### Instruction:\n")[2].strip() == trajectory.question
        lines = [*map(as_given, trajectory.messages), f"Observation: {trajectory.metadata['final_observation']}", ""]
        assert body == "\n".join(lines)


def test_real_failures_are_graded_in_three(data):
    found = list(trajectories.read(config(data / "hotpotqa" / "react_gpt-3.5_messages.json")))
    classes = Counter(class_.name for class_ in classify(found, shipped("graded_3")))
    # One failure has the right words in another order: its f1 is 1.
    assert classes == {"correct": 201, "partly_correct": 127, "incorrect": 137}
