"""Records that a mapping file explains, what is wrong with mapping files, and first drafts of them."""

import json
from pathlib import Path

import pytest
import yaml

from nat import cli
from nat.core.rows.bad import BadRow, refuse
from nat.sweeps import composition
from nat.sweeps.cell_hash import cell_hash
from nat.trajectories import reading
from nat.trajectories.detection import detect
from nat.trajectories.draft import draft
from nat.trajectories.mapping import path_of, read_mapping
from nat.types import Message, Outcome, RequestError
from tests.conftest import trajectory_files

RECORD = {
    "run": 7,
    "case": "orders/17",
    "graded": {"solved": True, "wanted": "yesterday"},
    "log": [
        {"who": "caller", "said": "When was order 17 sent?"},
        {
            "who": "bot",
            "said": "I look.",
            "why": "The store knows.",
            "does": [{"op": "find_order", "with": {"number": 17}}],
            "sees": "sent yesterday",
        },
        {"who": "audit", "said": "1 call so far"},
        {"who": "bot", "said": "It was sent yesterday.", "says": "yesterday"},
    ],
    "can": [{"name": "find_order"}],
}
MAPPING = {
    "turns": "log",
    "role": "who",
    "content": "said",
    "reasoning": "why",
    "calls": "does",
    "name": "op",
    "arguments": "with",
    "observation": "sees",
    "label": "graded.solved",
    "task": "case",
    "id": "run",
    "tools": "can",
    "reference": "graded.wanted",
    "prediction": "log[-1].says",
    "roles": {"caller": "user", "bot": "assistant", "audit": "skip"},
}


def write_map(tmp_path: Path, mapping: object, name: str = "mapping.yaml") -> str:
    path = tmp_path / name
    path.write_text(mapping if isinstance(mapping, str) else yaml.safe_dump(mapping))
    return str(path)


def rows_of(tmp_path: Path, mapping, *records, on_bad=refuse, **options):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    files = trajectory_files("mapped", path=str(path), map=write_map(tmp_path, mapping), **options)
    return list(reading.read_rows(files, on_bad))


def read(tmp_path: Path, mapping, *records, **options):
    return [row.trajectory for row in rows_of(tmp_path, mapping, *records, **options)]


def refused(tmp_path: Path, mapping, record) -> str:
    with pytest.raises(BadRow) as error:
        read(tmp_path, mapping, record)
    assert error.value.where == f"{tmp_path}/mine.jsonl:1"
    return f"{error.value.reason}: {error.value.problem}"


def unreadable(tmp_path: Path, mapping) -> str:
    path = write_map(tmp_path, mapping)
    with pytest.raises(RequestError) as error:
        read_mapping(path)
    said = str(error.value)
    assert said.startswith(f"trajectories.map={path}")
    return said.removeprefix(f"trajectories.map={path}")


# ---- records ----


def test_a_record_and_its_mapping(tmp_path):
    (row,) = rows_of(tmp_path, MAPPING, RECORD)
    trajectory = row.trajectory
    assert (row.format, trajectory.id, trajectory.question_id) == ("mapped", "7", "orders/17")
    assert trajectory.question == "When was order 17 sent?"
    assert trajectory.prompt == (Message("user", "When was order 17 sent?"),)
    call = {"name": "find_order", "arguments": {"number": 17}}
    assert trajectory.messages == (
        Message("assistant", "I look.", tool_calls=(call,), reasoning="The store knows."),
        Message("tool", "sent yesterday"),
        Message("assistant", "It was sent yesterday."),
    )
    assert trajectory.outcome == Outcome(True, 1.0, None, "yesterday", "yesterday")
    assert trajectory.tools == ({"name": "find_order"},)
    assert trajectory.metadata == {
        "task": "orders/17",
        "run": 7,
        "case": "orders/17",
        "graded": {"solved": True, "wanted": "yesterday"},
        "can": [{"name": "find_order"}],
        "left_out_parts": {"turn": 1},
    }


def test_a_record_without_turns_is_one_turn(tmp_path):
    mapping = {"content": "reply", "question": "asked.text", "label": "grade >= `3`"}
    good, bad = read(
        tmp_path,
        mapping,
        {"asked": {"text": "2 + 2?", "by": "Ada"}, "reply": "4", "grade": 5},
        {"asked": {"text": "2 + 3?"}, "reply": "6", "grade": 1},
    )
    assert (good.question, good.prompt) == ("2 + 2?", (Message("user", "2 + 2?"),))
    assert good.messages == (Message("assistant", "4"),)
    assert (good.outcome.success, bad.outcome.success) == (True, False)
    assert good.metadata["asked"] == {"text": "2 + 2?", "by": "Ada"}
    assert "reply" not in good.metadata


def test_steps_without_roles_are_the_agents(tmp_path):
    mapping = {
        "turns": "plan.moves",
        "content": "idea",
        "name": "do",
        "arguments": "how",
        "observation": "then",
        "question": "goal",
        "label": "won",
        "train": "!forced",
    }
    moves = [
        {"idea": "North.", "do": "go", "how": {"to": "n"}, "then": {"see": "a door"}, "forced": True},
        {"idea": "Open it.", "do": None, "then": "", "forced": False},
    ]
    (trajectory,) = read(tmp_path, mapping, {"goal": "Leave.", "won": 1, "plan": {"moves": moves, "cost": 3}})
    assert trajectory.messages == (
        Message("assistant", "North.", train=False, tool_calls=({"name": "go", "arguments": {"to": "n"}},)),
        Message("tool", '{"see": "a door"}'),
        Message("assistant", "Open it."),
    )
    assert trajectory.metadata["plan"] == {"cost": 3}


def test_calls_by_their_usual_names_and_as_text(tmp_path):
    mapping = {"turns": "steps", "content": "thought", "calls": "act", "question": "goal", "label": "won"}
    steps = [{"thought": "a", "act": {"tool": "go", "tool_input": "n"}}, {"thought": "b", "act": "look[door]"}]
    (trajectory,) = read(tmp_path, mapping, {"goal": "Leave.", "won": False, "steps": steps})
    assert trajectory.messages == (
        Message("assistant", "a", tool_calls=({"tool": "go", "tool_input": "n"},)),
        Message("assistant", "Thought: b\nAction: look[door]"),
    )


def test_records_of_a_container_share_what_that_says(tmp_path):
    mapping = {
        **{key: MAPPING[key] for key in ("turns", "role", "content", "roles")},
        "records": "runs[].episodes[]",
        "label": "ok",
        "task": "suite",
    }
    episode = {"log": RECORD["log"], "ok": True}
    both = read(tmp_path, mapping, {"suite": "shop", "runs": [{"episodes": [episode]}, {"episodes": [episode]}]})
    assert [(one.id, one.question_id) for one in both] == [("mine:1:0", "shop"), ("mine:1:1", "shop")]
    path = tmp_path / "runs.json"  # read record by record: the list stands under a known name
    path.write_text(json.dumps({"suite": "shop", "results": [episode, episode]}, indent=1))
    for records in ("results", "results[]"):
        map = write_map(tmp_path, {**mapping, "records": records})
        found = reading.read_rows(trajectory_files("mapped", path=str(path), map=map), refuse)
        assert [row.trajectory.question_id for row in found] == ["shop", "shop"]


def test_a_label_rule_takes_the_place_of_the_label(tmp_path):
    unlabelled = {**RECORD, "graded": {"points": 8}}
    mapping = {key: value for key, value in MAPPING.items() if key != "reference"}
    rows = rows_of(tmp_path, mapping, unlabelled, label="graded.points >= 5")
    (labelled,) = reading.read(
        trajectory_files("mapped", path=rows[0].path, map=str(tmp_path / "mapping.yaml"), label="graded.points >= 5")
    )
    assert labelled.outcome.success


def test_labels_of_other_files_take_the_place_of_the_label(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("id,success\n7,false\n")
    (trajectory,) = read(tmp_path, MAPPING, {**RECORD, "graded": {"wanted": "a"}}, labels=str(labels))
    assert (trajectory.id, trajectory.outcome.success) == ("7", False)


# ---- records that cannot be used ----


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"turns": "logs"}, "missing_value: turns: logs finds nothing; it must find a list.\nThe fields there: run, "),
        ({"turns": "case"}, "wrong_value: turns: case finds 'orders/17'; it must find a list.\n"),
        ({"role": "whom"}, "missing_value: role: whom finds nothing; it must find text.\nThe fields there: who, said."),
        ({"roles": {"caller": "user", "audit": "skip", "robot": "user"}, "role": "who"}, ""),
        ({"content": "why"}, "missing_value: content: why finds nothing; it must find text.\n"),
        ({"name": "does"}, "missing_value: name: does finds nothing; it must find the name of a tool.\n"),
        ({"label": "solved"}, "no_label: label: solved finds nothing; it must find true or false.\n"),
        (
            {"label": "run"},
            "wrong_value: label: run finds 7; it must be true, false or a number from 0 to 1.\n"
            "Compare it, e.g. label: run >= `0.5`.",
        ),
        (
            {"task": "graded"},
            "wrong_value: task: graded finds {'solved': True, 'wanted': 'yesterday'}; it must find text",
        ),
        ({"question": "title"}, "missing_value: question: title finds nothing; it must find text or a number.\n"),
        ({"tools": "case"}, "wrong_value: tools: case finds 'orders/17'; it must find a list of objects.\n"),
        ({"train": "who"}, "wrong_value: train: who finds 'bot'; it must find true, false or a weight.\n"),
        ({"content": "join('', said)"}, "wrong_value: content: join('', said) cannot be applied: "),
    ],
)
def test_bad_rows_name_line_key_and_expression(tmp_path, change, said):
    if not said:  # `bot` is known without being told
        assert len(read(tmp_path, {**MAPPING, **change}, RECORD)) == 1
        return
    assert refused(tmp_path, {**MAPPING, **change}, RECORD).startswith(said)


def test_a_role_that_nobody_knows(tmp_path):
    said = refused(tmp_path, {**MAPPING, "roles": {"audit": "skip"}}, RECORD)
    assert said == (
        "wrong_value: role: who finds 'caller', which is no role that is known.\n"
        f"Say in {tmp_path}/mapping.yaml what it is, e.g. roles: {{caller: assistant}}."
    )


def test_an_expression_that_never_finds_anything_is_named(tmp_path):
    bad: list[BadRow] = []
    mapping = {**MAPPING, "observation": "seen", "prediction": "answer"}
    assert len(read(tmp_path, mapping, RECORD, on_bad=bad.append)) == 1
    assert [(row.where, row.reason, row.problem) for row in bad] == [
        (f"{tmp_path}/mapping.yaml", "missing_value", f"{key} finds nothing in any record.\nMend it, or leave it out.")
        for key in ("observation: seen", "prediction: answer")
    ]


# ---- mapping files ----


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"turns": "log["}, ": turns: 'log[' is no JMESPath expression: it ends too early, at character 4"),
        ({"turns": "log..a"}, ": turns: 'log..a' is no JMESPath expression: it cannot be read on at character 5, '.'"),
        (
            {"label": "score >= 0.5"},
            ": label: 'score >= 0.5' is no JMESPath expression: it cannot be read on at character 10, 0; numbers stand "
            'in backticks (score >= `0.5`), other names in double quotes ("my-key")',
        ),
        ({"role": "lenght(who)"}, ": role: 'lenght(who)': there is no function lenght(); did you mean length()?"),
        ({"role": "join(who)"}, ": role: 'join(who)': join() takes 2 arguments, and 1 are given"),
        ({"turns": "log[::0]"}, ": turns: 'log[::0]': the step of a slice is 0; give another number"),
        ({"turns": ""}, ": turns: is empty; give a JMESPath expression, or leave the key out"),
        ({"turn": "log"}, ": turn: there is no such key; did you mean 'turns'?"),
        ({"id": 7}, ": id=7: it must be a JMESPath expression, as text; in YAML, put it in quotes"),
        (
            {"roles": {"bot": "helper"}},
            ": roles.bot='helper': it must be 'system', 'user', 'assistant', 'tool' or 'skip' (skip leaves such turns "
            "out)",
        ),
        ({"role": None}, ": roles: there is no role that they could name; say where it stands in a turn (role)"),
        (
            {"content": None, "calls": None, "name": None, "arguments": None},
            ": content: is missing; say where the text of a turn stands, or its calls",
        ),
        (
            {"calls": None, "name": None},
            ": arguments: of which call? Say its name too, or where the calls stand (calls)",
        ),
    ],
)
def test_a_wrong_mapping_names_key_value_and_remedy(tmp_path, change, said):
    assert unreadable(tmp_path, {**MAPPING, **change}) == said


def test_files_that_are_no_mapping(tmp_path):
    assert unreadable(tmp_path, "turns: [log").startswith(":1: not YAML: ")
    assert unreadable(tmp_path, "turns").startswith(": holds no keys with values, e.g. 'turns: messages'; see docs/")
    with pytest.raises(RequestError, match=r"trajectories.map=.*none.yaml: cannot be read \(No such file"):
        read_mapping(str(tmp_path / "none.yaml"))
    with pytest.raises(RequestError, match=r"trajectories.map=null: say which file maps the records"):
        read_mapping(None)


def test_a_wrong_mapping_is_refused_before_any_file_is_read(tmp_path, capsys):
    map = write_map(tmp_path, {**MAPPING, "turns": "log["})
    command = ["train", "trajectories=mapped", f"trajectories.map={map}", "trajectories.path=missing.jsonl"]
    assert cli.run(command) == 2
    assert "mapping.yaml: turns: 'log[' is no JMESPath expression" in capsys.readouterr().err


def test_the_mapping_is_an_input_of_the_cell(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(RECORD) + "\n")

    def hash_of(name: str, mapping: dict) -> str:
        overrides = [f"trajectories.map={write_map(tmp_path, mapping, name)}", f"trajectories.path={path}"]
        return cell_hash(composition.plan(["trajectories=mapped", *overrides]).cells[0].config)

    assert hash_of("a.yaml", MAPPING) == hash_of("b.yaml", MAPPING)
    assert hash_of("a.yaml", MAPPING) != hash_of("b.yaml", {**MAPPING, "label": "ok"})


@pytest.mark.parametrize(
    ("expression", "path"),
    [
        ("log", ("log",)),
        ("output.history[?role]", ("output", "history")),
        ('"my log"[].a', ("my log",)),
        ("a.b | [0]", ("a", "b")),
        ("keys(a)", ()),
        ("[a, b]", ()),
    ],
)
def test_the_keys_that_an_expression_begins_with(expression, path):
    assert path_of(expression) == path


# ---- drafts ----


def said(tmp_path: Path, *records) -> str:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(RequestError) as error:
        detect(path)
    return str(error.value)


def records(n: int = 4) -> list[dict]:
    return [{**RECORD, "run": i, "case": f"orders/{i // 2}", "graded": {"solved": i % 2 == 0}} for i in range(n)]


def test_a_file_of_no_known_format_is_answered_with_a_draft(tmp_path):
    text = said(tmp_path, *records())
    first, _, rest = text.partition("\n")
    assert first == f"{tmp_path}/mine.jsonl: no format recognises its records; their keys: run, case, graded, log, can."
    drafted = rest.split("\n\n")[1]
    assert yaml.safe_load(drafted) == {
        "turns": "log",
        "role": "who",
        "content": "said",
        "reasoning": "why",
        "calls": "does",
        "name": "op",
        "arguments": "with",
        "observation": "sees",
        "label": "graded.solved",
        "task": "case",
        "id": "run",
        "roles": {"caller": "user", "audit": "tool"},
    }
    assert f"  nat audit {tmp_path}/mine.jsonl trajectories=mapped trajectories.map=mapping.yaml\n" in text
    assert "reads 4 of the first 4; save it as mapping.yaml" in text
    assert "docs/formats.md" in text
    assert "nat/" not in text
    assert len(text.splitlines()) <= 30
    found = rows_of(tmp_path, drafted, *records())
    assert [row.trajectory.outcome.success for row in found] == [True, False, True, False]
    assert [row.trajectory.question_id for row in found] == ["orders/0", "orders/0", "orders/1", "orders/1"]


def test_drafts_of_other_shapes():
    turns = [{"role": "user", "content": "Q?"}, {"role": "agent", "content": "A."}]
    nested = [{"index": i, "output": {"history": turns, "result": {"is_correct": i > 0}}} for i in range(2)]
    made = draft(nested)
    assert made is not None
    assert yaml.safe_load(made.text) == {
        "turns": "output.history",
        "role": "role",
        "content": "content",
        "label": "output.result.is_correct",
        "id": "index",
    }
    moves = [{"thinking": "hm", "act": "go north", "then": "a wall"}, {"thinking": "so", "act": "stop", "then": "end"}]
    made = draft([{"goal": f"Leave {i}.", "plays": moves, "won": True} for i in range(2)])
    assert made is not None
    assert yaml.safe_load(made.text) == {
        "turns": "plays",
        "content": "thinking",
        "calls": "act",
        "observation": "then",
        "question": "goal",
        "label": "won",
    }
    made = draft([{"version": 1, "runs": [{"my-log": turns, "id": f"r{i}"} for i in range(3)]}])
    assert made is not None
    assert yaml.safe_load(made.text) == {
        "records": "runs",
        "turns": '"my-log"',
        "role": "role",
        "content": "content",
        "id": "id",
    }
    assert (made.reads, made.has_label) == (1, False)


def test_what_holds_no_turns_gets_no_draft(tmp_path):
    for value in ({"weights": [1, 2]}, {"title": "Emma", "body": "A novel."}, {"a": [{"b": 1}]}):
        assert draft([value, value]) is None
    text = said(tmp_path, {"weights": [1, 2]})
    assert "They hold nothing that looks like the turns of an agent." in text
    assert "trajectories=mapped, docs/formats.md" in text


def test_a_draft_without_a_label_says_so(tmp_path):
    unlabelled = [{key: value for key, value in one.items() if key != "graded"} for one in records()]
    assert "It names no label: add label: EXPRESSION, or give trajectories.label=RULE." in said(tmp_path, *unlabelled)
