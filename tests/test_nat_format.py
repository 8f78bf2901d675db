"""The NAT authors' format: what is read, what is refused or dropped, and the real files' own counts."""

import json
from collections import Counter
from typing import Literal

import pytest

from nat.core.questions import question_id
from nat.core.rows.bad import DroppedRow
from nat.trajectories import reading as trajectories
from nat.trajectories.formats import nat_paper
from nat.types import Message, Outcome, RequestError
from tests.conftest import trajectory_files

SEARCH = {"role": "assistant", "content": "Thought: Who?\n\nAction: search[Ann]", "loss": True}
SEEN = {"role": "user", "content": "Observation:  #1: Ann ...\n#2: Bob", "loss": False}
FINISH = {"role": "assistant", "content": "Action: finish[No]", "loss": True}
END = {"role": "user", "content": "Observation: Episode finished", "loss": False}
RECORD = {
    "conversations": [SEARCH, SEEN, FINISH, END],
    "info": {"reward": False, "acc": False, "gt": True, "pred": "No"},
    "id": "q1",
    "source": "0.2",
}
QUESTIONS = [{"id": "q1", "question": "Is it Ann?", "answer": True}, {"id": "q2", "question": "Is it Bob?"}]


def read(
    tmp_path,
    records,
    questions=QUESTIONS,
    on_bad_row: Literal["error", "drop"] = "error",
    dropped=None,
    name="mine.json",
):
    path = tmp_path / name
    path.write_text(records if isinstance(records, str) else json.dumps(records, indent=1))
    if questions is not None:
        (tmp_path / "questions.jsonl").write_text("".join(f"{json.dumps(q)}\n" for q in questions))
        questions = str(tmp_path / "questions.jsonl")
    config = trajectory_files(
        "nat",
        path=str(path),
        questions=questions,
        on_bad_row=on_bad_row,
    )
    return list(trajectories.read(config, dropped))


def test_a_record_and_its_question(tmp_path):
    (trajectory,) = read(tmp_path, [RECORD])
    assert (trajectory.id, trajectory.question_id, trajectory.question) == ("q1/1", "q1", "Is it Ann?")
    assert trajectory.messages == (
        Message("assistant", "Thought: Who?\n\nAction: search[Ann]"),
        Message("tool", "#1: Ann ...\n#2: Bob"),
        Message("assistant", "Action: finish[No]"),
    )
    assert trajectory.outcome == Outcome(False, 0.0, "wrong_answer", "No", "yes")
    assert trajectory.source == "0.2"
    assert trajectory.metadata == {"info": RECORD["info"], "final_observation": "Episode finished"}


def test_the_record_in_the_documentation_can_be_read(tmp_path):
    record, question = nat_paper.__doc__.split("\n\n")[1:3]  # type: ignore[union-attr]
    (trajectory,) = read(tmp_path, f"[{record}]", [json.loads(question)])
    assert trajectory.question_id == "b8677742616fef051f00"
    assert [m.role for m in trajectory.messages] == ["assistant", "tool", "assistant"]
    assert (trajectory.outcome.prediction, trajectory.outcome.reference) == ("No", "yes")


def test_json_lines_are_the_same(tmp_path):
    lines = "".join(f"{json.dumps(record)}\n" for record in [RECORD, RECORD])
    assert read(tmp_path, lines, name="mine.jsonl") == read(tmp_path, [RECORD, RECORD])


def test_several_trajectories_on_a_question_are_numbered_and_files_told_apart(tmp_path):
    other = {**RECORD, "id": "q2"}
    # The number counts dropped records too: an id does not depend on what is dropped.
    records = [RECORD, {**RECORD, "conversations": []}, other, RECORD]
    assert [t.id for t in read(tmp_path, records, on_bad_row="drop")] == ["q1/1", "q2/1", "q1/3"]
    read(tmp_path, [RECORD], name="bad.json")
    read(tmp_path, [RECORD], name="good.json")
    config = trajectory_files(
        "nat",
        path=[str(tmp_path / "good.json"), str(tmp_path / "bad.json")],
        questions=str(tmp_path / "questions.jsonl"),
        on_bad_row="error",
    )
    assert [t.id for t in trajectories.read(config)] == ["good:q1/1", "bad:q1/1"]


def test_turns_without_loss_do_not_train(tmp_path):
    turns = [{**SEARCH, "loss": False}, SEEN, {"role": "assistant", "content": "Action: finish[No]"}]
    (trajectory,) = read(tmp_path, [{**RECORD, "conversations": turns}])
    assert [m.train for m in trajectory.messages] == [False, True, True]


def test_a_prompt_in_front_is_set_aside_and_counted(tmp_path):
    prompt = [{"role": "user", "content": "Solve this.\nQuestion: Is it Ann?"}]
    (trajectory,) = read(tmp_path, [{**RECORD, "conversations": [*prompt, *RECORD["conversations"]]}])
    assert trajectory.messages[0].content == "Thought: Who?\n\nAction: search[Ann]"
    assert trajectory.metadata["preamble_messages"] == 1


def test_without_a_question_file_the_conversation_holds_the_question(tmp_path):
    prompt = [{"role": "system", "content": "Use tools."}, {"role": "user", "content": "Question: Is it Ann?"}]
    record = {**RECORD, "conversations": [*prompt, *RECORD["conversations"]]}
    (trajectory,) = read(tmp_path, [record], questions=None)
    assert (trajectory.question, trajectory.question_id) == ("Is it Ann?", question_id("Is it Ann?"))
    assert trajectory.id == "q1/1"
    assert trajectory.outcome.reference == "yes"  # gt
    with pytest.raises(RequestError, match=r"mine.json:\d+: no user message .*\n.* trajectories.questions=FILE"):
        read(tmp_path, [RECORD], questions=None)


def test_an_episode_that_ends_on_what_the_agent_saw_ran_out_of_turns(tmp_path):
    record = {**RECORD, "conversations": [SEARCH, SEEN], "info": {"reward": False, "gt": True}}
    (trajectory,) = read(tmp_path, [record])
    assert [m.role for m in trajectory.messages] == ["assistant", "tool"]
    assert trajectory.outcome == Outcome(False, 0.0, "out_of_turns", None, "yes")
    assert trajectory.metadata == {"info": {"reward": False, "gt": True}}


@pytest.mark.parametrize(
    ("last", "info", "failure"),
    [
        ("Action: finish[Uncertain]", {"pred": "Uncertain"}, "abstained"),
        ("Action: finish[Uncertain]", {}, "abstained"),
        ("Action: finish[No]", {}, "wrong_answer"),
        ("I would say it is so", {}, "unparsed_action"),
        ("Action: dance[now]", {}, "unparsed_action"),
        ("Action: lookup[Ann]", {}, "out_of_turns"),
        ("Action: search[Ann]\nAction: finish[No]", {"pred": "No"}, "wrong_answer"),
        (" \n", {}, "no_answer"),
    ],
)
def test_the_kind_of_a_failure_follows_from_its_last_turn(tmp_path, last, info, failure):
    turns = [SEARCH, SEEN, {"role": "assistant", "content": last}]
    (trajectory,) = read(tmp_path, [{**RECORD, "conversations": turns, "info": {"reward": False, **info}}])
    assert trajectory.outcome.failure == failure


@pytest.mark.parametrize(
    ("info", "success", "score"),
    [
        ({"reward": True}, True, 1.0),
        ({"reward": 1}, True, 1.0),
        ({"reward": 0.4}, False, 0.4),
        ({"acc": True}, True, 1.0),
        ({"em": False, "f1": 0.5}, False, 0.5),
        ({"reward": False, "acc": True}, False, 0.0),
    ],
)
def test_labels_and_grades(tmp_path, info, success, score):
    (trajectory,) = read(tmp_path, [{**RECORD, "info": info}])
    assert (trajectory.outcome.success, trajectory.outcome.score) == (success, score)


@pytest.mark.parametrize(("answer", "expected"), [(True, "yes"), (False, "no"), (18, "18"), ("6 + 12\n#### 18", "18")])
def test_answers_of_any_kind_become_text(tmp_path, answer, expected):
    (trajectory,) = read(tmp_path, [RECORD], [{"qid": "q1", "question": "Q?", "answer": answer}])
    assert trajectory.outcome.reference == expected


FLAWS = [
    ({"conversations": []}, "empty_conversation", "'conversations' is empty: the agent never acted"),
    ({"conversations": None}, "wrong_value", "'conversations' is null; it must be a list"),
    ({"conversations": [{"role": "user", "content": "Is it Ann?"}]}, "no_agent_turn", "is the agent's"),
    ({"conversations": [END]}, "no_agent_turn", "none of its 0 messages is the agent's"),
    ({"conversations": [FINISH, END, SEARCH]}, "goes_on_after_end", "messages follow 'Episode finished'"),
    ({"conversations": ["hello"]}, "wrong_value", "a message is 'hello'"),
    ({"conversations": [{**SEARCH, "role": "narrator"}]}, "wrong_value", "unknown role 'narrator'"),
    ({"conversations": [{**SEARCH, "loss": "1"}]}, "wrong_value", "'loss' is '1'; it must be true or false"),
    ({"conversations": [{"role": "user"}]}, "missing_value", "'content' is missing"),
    ({"id": "q9"}, "unknown_question", "id 'q9' is none of the 2 questions .* first is 'q1'. Is it"),
    ({"id": None}, "missing_value", "it must name a question of trajectories.questions"),
    ({"id": True}, "wrong_value", "'id' is true; it must be text or a whole number"),
    ({"info": {}}, "no_label", "success is nowhere said"),
    ({"info": None}, "no_label", "success is nowhere said"),
    ({"info": {"reward": "yes"}}, "wrong_value", "'reward' is 'yes'; it must be true, false or a number from -1 to 1"),
    ({"info": {"reward": 3}}, "wrong_value", "'reward' is 3"),
    ({"info": {"reward": True, "pred": ["a"]}}, "wrong_value", r"'pred' is \['a'\]; it must be text, a number"),
    (
        {
            "conversations": [FINISH, {"role": "user", "content": "Observation: Episode finished, reward = True"}],
            "info": {"reward": False},
        },
        "contradictory_label",
        "the record says failure, its last observation 'Episode finished, reward = True'",
    ),
]


@pytest.mark.parametrize(("change", "reason", "message"), FLAWS)
def test_every_flaw_is_an_error_with_its_line_or_dropped_and_listed(tmp_path, change, reason, message):
    # With an indent of one, a record begins on the line of its brace; the first one here has 30 lines.
    records = [RECORD, {**RECORD, **change}, {**RECORD, "id": "q2"}]
    first_lines = len(json.dumps([RECORD], indent=1).splitlines()) - 2
    where = f"{tmp_path / 'mine.json'}:{first_lines + 2}"
    with pytest.raises(RequestError, match=message) as error:
        read(tmp_path, records)
    assert str(error.value).startswith(f"{where}: ")
    assert len(str(error.value)) < 600
    dropped: list[DroppedRow] = []
    kept = read(tmp_path, records, on_bad_row="drop", dropped=dropped)
    assert [t.id for t in kept] == ["q1/1", "q2/1"]
    assert [(row.where, row.reason) for row in dropped] == [(where, reason)]
    assert str(error.value) == f"{where}: {dropped[0].detail}"


def test_flaws_of_the_question_file(tmp_path):
    for questions, message in [
        ([{"question": "Q?"}], r"questions.jsonl:1: 'id' is missing"),
        ([QUESTIONS[0], {"id": "q3", "question": " "}], r"questions.jsonl:2: 'question' is empty"),
        ([QUESTIONS[0], {**QUESTIONS[0], "answer": False}], r"questions.jsonl:2: id 'q1' has another question"),
        ([{**QUESTIONS[0], "answer": [1]}], r"questions.jsonl:1: 'answer' is \[1\]; it must be text, a number"),
    ]:
        with pytest.raises(RequestError, match=message):
            read(tmp_path, [RECORD], questions)
    # What repeats itself is no flaw, and what is dropped there is missed here.
    assert len(read(tmp_path, [RECORD], [QUESTIONS[0], QUESTIONS[0]])) == 1
    dropped: list[DroppedRow] = []
    assert (
        read(tmp_path, [RECORD], [{"id": "q1"}, {**QUESTIONS[0], "id": "q3"}], on_bad_row="drop", dropped=dropped) == []
    )
    assert [row.reason for row in dropped] == ["missing_value", "unknown_question"]
    config = trajectory_files(
        "nat",
        path=str(tmp_path / "mine.json"),
        questions="x",
        on_bad_row="drop",
    )
    with pytest.raises(RequestError, match=r"trajectories.questions=x: .*x does not exist"):
        list(trajectories.read(config))


def test_questions_by_id_in_one_object(tmp_path):
    path = tmp_path / "q.json"
    path.write_text('{"q1": {"question": "Is it Ann?", "answer": false}}')
    assert nat_paper.read_questions(path)["q1"].answer == "no"


def strategyqa(data, on_bad_row: Literal["error", "drop"]):
    folder = data / "strategyqa"
    return trajectory_files(
        "nat",
        path=[str(folder / "sample_positive.json"), str(folder / "sample_negative.json")],
        questions=str(folder / "sample_questions.jsonl"),
        on_bad_row=on_bad_row,
    )


def test_the_real_samples_have_the_counts_that_their_documentation_states(data):
    dropped: list[DroppedRow] = []
    found = list(trajectories.read(strategyqa(data, "drop"), dropped))
    # 60 successes; 60 failures, of which two hold no conversation.
    assert Counter(t.outcome.success for t in found) == {True: 60, False: 58}
    assert [(row.where.rpartition("/")[2], row.reason) for row in dropped] == [
        ("sample_negative.json:2146", "empty_conversation"),
        ("sample_negative.json:2155", "empty_conversation"),
    ]
    lines = (data / "strategyqa" / "sample_negative.json").read_text().splitlines()
    assert [line.strip() for line in lines[2145:2147]] == ["{", '"conversations": [],']
    assert Counter(t.outcome.failure for t in found) == {
        None: 60,
        "wrong_answer": 49,
        "abstained": 8,  # four times one word, "Maybe", and three that explain why nobody can say
        "out_of_turns": 1,
    }
    assert Counter(t.source for t in found) == {"0.2": 44, "0.5": 33, "0.7": 41}
    assert len({t.question_id for t in found}) == 69
    assert {t.outcome.reference for t in found} == {"yes", "no"}
    assert not any("Episode finished" in m.content for t in found for m in t.messages)
    with pytest.raises(RequestError, match=r"sample_negative.json:2146: 'conversations' is empty"):
        list(trajectories.read(strategyqa(data, "error")))


def test_the_real_conversations_survive_word_for_word(data):
    found = {t.id: t for t in trajectories.read(strategyqa(data, "drop"))}
    for name in ("sample_positive", "sample_negative"):
        numbers: Counter[str] = Counter()
        for record in json.loads((data / "strategyqa" / f"{name}.json").read_text()):
            numbers[record["id"]] += 1
            messages = record["conversations"]
            if not messages:
                continue
            trajectory = found[f"{name}:{record['id']}/{numbers[record['id']]}"]
            given = [(m["role"], m["content"]) for m in messages if not m["content"].startswith("Observation: Episode")]
            back = [
                ("user", f"Observation: {m.content}") if m.role == "tool" else (m.role, m.content)
                for m in trajectory.messages
            ]
            # A blank may stand twice after the prefix; nothing else differs.
            assert back == [(role, content.replace("Observation:  ", "Observation: ", 1)) for role, content in given]


def test_a_question_file_without_any_question_is_refused(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question": "Is it Ann?", "answer": "yes"}\n')
    with pytest.raises(RequestError, match=r"questions.jsonl: holds no question.*\n.*jsonl:1: 'id' is missing"):
        nat_paper.read_questions(path, lambda bad: None)
