from __future__ import annotations

import json

import pytest

from nat import run
from nat.core.questions import normalise, question_id
from nat.quality import leaks as leaks_module
from nat.quality.leaks import leaks
from nat.sweeps import composition
from nat.trajectories.formats import gsm8k_solutions
from nat.types import Message, Outcome, Question, Trajectory


def trajectory(id, success, messages, question=None, failure="wrong_answer", source="s") -> Trajectory:
    question = question or f"What is {id}?"
    outcome = Outcome(success, float(success), None if success else failure)
    return Trajectory(id, question_id(question), question, tuple(messages), outcome, source)


def pool(success_says, failure_says, n=20, **fields) -> list[Trajectory]:
    """`n` successes and `n` failures, each on a question of its own, with one observation after the agent's turn."""
    made = []
    for i in range(n):
        for success, says in ((True, success_says), (False, failure_says)):
            messages = [Message("assistant", f"finish[{i}]"), Message("user", says.format(i=i))]
            made.append(trajectory(f"{'p' if success else 'n'}{i}", success, messages, **fields))
    return made


def asked(*texts) -> list[Question]:
    return [Question(str(i), text, "1") for i, text in enumerate(texts)]


def test_a_verdict_in_the_last_observation_is_found_with_its_figures():
    (line,) = leaks(pool("Episode {i} finished, reward = True", "Episode {i} finished, reward = False"), [])
    assert line == (
        "labels leak: the last observation tells them; "
        "'reward = True' stands in 20 of 20 successes and 0 of 20 failures "
        "(e.g. p0, after the agent's last turn, where nat trains nothing); "
        "'reward = False' stands in 0 of 20 successes and 20 of 20 failures "
        "(e.g. n0, after the agent's last turn, where nat trains nothing)"
    )


def test_a_verdict_of_one_direction_and_in_the_agents_own_text():
    made = [
        trajectory(f"{ok}{i}", ok, [Message("assistant", f"It is {i}." + (" Well done!" if ok else ""))])
        for i in range(20)
        for ok in (True, False)
    ]
    (line,) = leaks(made, [])
    assert line == (
        "labels leak: the agent's last message tells them; "
        "'Well done' stands in 20 of 20 successes and 0 of 20 failures (e.g. True0)"
    )


def test_a_verdict_in_an_earlier_observation_that_is_trained_on():
    made = [
        trajectory(
            f"{ok}{i}",
            ok,
            [
                Message("assistant", f"look[{i}]"),
                Message("tool", f"{i}. Label: {'good' if ok else 'bad'}"),
                Message("assistant", f"look[{i}, again]"),
                Message("tool", "nothing"),
                Message("assistant", f"finish[{i}]"),
            ],
        )
        for i in range(20)
        for ok in (True, False)
    ]
    (line,) = leaks(made, [])
    assert line.startswith("labels leak: an observation tells them; ")
    assert "'Label: good' stands in 20 of 20 successes and 0 of 20 failures (e.g. True0)" in line


def test_texts_that_both_classes_have_or_too_few_do_are_no_leak():
    same = pool("The sum is {i}.", "The sum is {i}.")
    assert leaks(same, []) == []
    # 9 of 20 failures is less than half
    rare = [*pool("ok {i}", "ok {i}", n=20)]
    marked = [
        trajectory(t.id, False, [t.messages[0], Message("user", "wrong")], t.question) if t.id in NINE else t
        for t in rare
    ]
    assert leaks(marked, []) == []


NINE = {f"n{i}" for i in range(9)}


def test_a_text_that_a_task_brings_about_is_no_leak():
    """Failures by running out of turns end with an error; among wrong answers nothing differs."""
    made = pool("The sum is {i}.", "The sum is {i}.")
    made += [
        trajectory(
            f"o{i}", False, [Message("assistant", "?"), Message("user", "Error: no action")], None, "out_of_turns"
        )
        for i in range(60)
    ]
    assert leaks(made, []) == []


def test_fewer_than_twenty_questions_of_a_class_say_nothing():
    made = pool("yes", "no", n=20)
    assert len(leaks(made, [])) == 1
    assert leaks([t for t in made if t.id != "p0"], []) == []
    many_attempts_at_one_question = [
        trajectory(f"{ok}{i}", ok, [Message("assistant", "x"), Message("user", "about dogs" if ok else "about cats")],
                   "dogs" if ok else "cats")
        for i in range(50) for ok in (True, False)
    ]  # fmt: skip
    assert leaks(many_attempts_at_one_question, []) == []


def test_one_leaking_source_among_clean_ones_is_found():
    clean = [t for n in range(3) for t in renamed(pool("saw {i}", "saw {i}", source=f"clean{n}"), f"c{n}")]
    (line,) = leaks([*clean, *pool("saw {i} yes", "saw {i} no", source="leaky")], [])
    assert line.startswith("labels leak: the last observation of source leaky tells them; 'yes' stands in 20 of 20")


def renamed(made, prefix):
    return [
        trajectory(prefix + t.id, t.outcome.success, t.messages, prefix + t.question, source=t.source) for t in made
    ]


def test_only_a_thousand_questions_of_a_class_are_read(monkeypatch):
    monkeypatch.setattr(leaks_module, "MOST", 25)
    (line,) = leaks(pool("yes", "no", n=60), [])
    assert "'yes' stands in 20 of 20 successes" in line  # every third of 60


def test_questions_that_differ_in_case_and_punctuation_only():
    questions = asked("How many are 1,000 apples?", "How many are 6 apples?", "How many are 7 apples?")
    made = [
        trajectory("a", True, [], "how many are 1000 apples"),
        trajectory("b", True, [], "How many are 66 apples?"),
        trajectory("c", True, [], "How many are 7 apples"),
    ]
    assert leaks(made, questions) == [
        "questions leak: 2 of 3 evaluation questions are training questions, too, up to case and punctuation, "
        "e.g. 'How many are 1,000 apples?' in a"
    ]


def test_questions_inside_messages_and_longer_questions():
    questions = asked(
        "Who wrote the book about the red fox?", "Where was the author of Nine Rivers born?", "Who is she?"
    )
    made = [
        trajectory("a", True, [Message("assistant", "search[who wrote the book about the RED fox]")]),
        trajectory("b", True, [], "Question: Where was the author of Nine Rivers born? Answer briefly."),
        trajectory("c", True, [Message("tool", "Who is she?")]),  # short: it recurs by chance
        trajectory("d", True, [Message("tool", "who wrote the book about the red foxes")]),
    ]
    assert leaks(made, questions) == [
        "questions leak: 2 of 3 evaluation questions stand inside questions or messages of training trajectories, "
        "e.g. 'Who wrote the book about the red fox?' in a"
    ]


def test_nothing_leaks_out_of_nothing():
    assert leaks([], []) == []
    assert leaks([], asked("Who?")) == []
    assert leaks([trajectory("a", True, [])], asked("", "?")) == []


def test_the_built_in_world_gives_no_alarm():
    arguments = ["trajectories.successes=100", "trajectories.failures=300", "evaluation.n_questions=100"]
    for rate in (0.15, 0.6):
        config = composition.plan([*arguments, f"environment.failure_rate={rate}"]).cells[0].config
        apart = run.gather(config).apart
        assert leaks(apart.kept, apart.questions) == []


def test_real_gsm8k_solutions_give_no_alarm(data):
    made = [t for _, t in gsm8k_solutions.read(data / "gsm8k" / "example_model_solutions.jsonl")]
    train = (json.loads(line)["question"] for line in (data / "gsm8k" / "train.jsonl").read_text().splitlines())
    assert leaks(made, asked(*train)) == []


@pytest.mark.slow
def test_real_hotpotqa_trajectories_tell_their_reward(data):
    records = json.loads((data / "hotpotqa" / "react_gpt-3.5_messages.json").read_text())
    made = []
    for id, record in records.items():
        asks, *rest = [Message(message["role"], message["content"]) for message in record["traj"]]
        made.append(trajectory(id, bool(record["reward"]), rest, asks.content))
    (line,) = leaks(made, [])
    assert "'reward = True' stands in 200 of 200 successes and 0 of 265 failures" in line
    assert "'reward = False' stands in 0 of 200 successes and 265 of 265 failures" in line
    without = [
        trajectory(t.id, t.outcome.success, [m for m in t.messages if "reward = " not in m.content], t.question)
        for t in made
    ]
    assert leaks(without, []) == []
    # In its dev questions all of them stand; string-equal ones are removed before training, others are told of.
    others = [
        question["question"]
        for question in json.loads((data / "hotpotqa" / "dev_questions.json").read_text())
        if normalise(question["question"]) not in {normalise(t.question) for t in made}
    ]
    assert all("up to case" not in line for line in leaks(without, asked(*others[:500])))


def test_a_trajectory_in_one_text_tells_its_reward_where_it_is_trained_on(data):
    records = json.loads((data / "hotpotqa" / "react_llama-2-7b_text.json").read_text())
    made = []
    for id, record in records.items():
        question, _, turns = record["traj"].partition("### Response:")
        made.append(trajectory(id, bool(record["reward"]), [Message("assistant", turns)], question))
    (line,) = leaks(made, [])
    assert line.startswith("labels leak: the agent's last message tells them; 'reward = True' stands in 131 of 131")
    assert "nat trains nothing" not in line
