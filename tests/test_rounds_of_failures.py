"""experiments/self_improvement/rounds.py: models that train on their own roll-outs, round after round."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

import nat
from nat import cli
from nat.comparison.types import Arm, RunResult
from nat.runs.directory import write_results
from nat.runs.outcomes import Answer
from nat.runs.results import Coordinates, Results
from nat.trajectories.formats import native
from nat.types import Message, Outcome, RequestError, Trajectory
from tests.conftest import ROOT
from tests.sweeps_for_tests import passed

SCRIPT = ROOT / "experiments" / "self_improvement" / "rounds.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rounds", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["rounds"] = module
    spec.loader.exec_module(module)
    return module


if not SCRIPT.is_file():
    pytest.skip("experiments/ is in a checkout only, not in an sdist", allow_module_level=True)
rounds = load_script()


def request(output: Path, *arguments: str):
    return rounds.read_arguments(["--output", str(output), "--seeds", "0", *arguments])


def own(successes: int, failures: int):
    return rounds.Own(episodes=100, solved=50, successes=successes, failures=failures)


def complete(cell: Path, arguments: list[str], positives: int = 80, negatives: int = 0) -> None:
    """A finished cell, as `nat train` leaves it."""
    cell.mkdir(parents=True, exist_ok=True)
    place = Coordinates(
        method="nut",
        environment="multihop",
        strategy="none",
        ratio=None,
        positives=positives,
        negatives=negatives,
        seed=0,
        model="tiny_search",
        split="test",
        manifest=None,
    )
    own = passed(0.25, mean_score=0.5)
    found = Results(status="completed", overrides=tuple(arguments), coordinates=place, passes=(own,), seconds=9.0)
    write_results(cell, found)


# ---- how many of its own a model trains on ----


@pytest.mark.parametrize(
    ("method", "successes", "failures", "expected"),
    [
        ("nat", 80, 160, []),
        ("nat", 57, 400, ["mixing.positives=57", "mixing.ratio=57:114"]),
        ("nut", 90, 101, ["mixing.positives=80", "mixing.ratio=80:101"]),
        ("nut", 90, 0, ["mixing.positives=80", "mixing.ratio=80:0"]),
        ("positive_only", 90, 0, []),  # failures do not matter to it
        ("positive_only", 3, 0, ["mixing.positives=3", "mixing.ratio=3:6"]),
    ],
)
def test_a_chain_with_too_few_of_its_own_takes_as_many_as_there_are(method, successes, failures, expected):
    config = rounds.checked(["experiment=self_improvement", f"method={method}"])
    assert (config.mixing.positives, config.mixing.ratio) == (80, "1:2")
    chosen = rounds.mixing_arguments(config, own(successes, failures))
    assert chosen == expected
    composed = rounds.checked(["experiment=self_improvement", f"method={method}", *chosen]).mixing
    assert composed.positives == min(80, successes)


def test_a_chain_without_a_success_ends_and_the_others_go_on(tmp_path, monkeypatch):
    """Round 1 of NUT leaves it none; NAT trains in all three rounds."""
    asked = request(tmp_path, "--methods", "nut,nat", "--rounds", "3")
    trained = []

    def run_nat(arguments, folder=None):
        (run_dir,) = [one.partition("=")[2].strip('"') for one in arguments if one.startswith("hydra.run.dir=")] or [""]
        if arguments[0] == "train":
            cell = ((folder or Path()) / run_dir).resolve()
            trained.append(f"{cell.parent.name}/{cell.name}")
            complete(cell, list(arguments[1:-1]))
        return 0

    def count(arguments, rollouts, pool):
        return own(0, 90) if rollouts.parent.name.startswith("method=nut") else own(85, 170)

    monkeypatch.setattr(rounds, "run_nat", run_nat)
    monkeypatch.setattr(rounds, "count", count)
    failed = rounds.play(asked)
    assert failed == {}
    assert trained == [
        "round_0/method=positive_only,seed=0",
        "round_1/method=nut,seed=0",
        "round_1/method=nat,seed=0",
        "round_2/method=nat,seed=0",
        "round_3/method=nat,seed=0",
    ]
    rows = {(row["round"], row["method"]): row for row in rounds.rows_of(asked, failed)}
    assert (rows[2, "nut"]["status"], rows[2, "nut"]["note"]) == ("ended", "no success of its own to train on")
    assert (rows[3, "nut"]["status"], rows[3, "nut"]["note"]) == ("not run", "")
    assert [rows[3, "nat"][key] for key in ("status", "successes", "failures", "success")] == [
        "completed",
        85,
        170,
        0.25,
    ]

    trained.clear()
    assert rounds.play(asked) == {} and trained == []  # the same command has nothing left to do


@pytest.mark.slow
def test_a_chain_that_fails_leaves_the_others_alone(tmp_path, monkeypatch):
    def run_nat(arguments, folder=None):
        if arguments[0] == "train" and "method=nut" in arguments:
            return 1
        if arguments[0] == "train":
            run_dir = arguments[-1].partition("=")[2].strip('"')
            complete((folder or Path()) / run_dir, list(arguments[1:-1]))
        return 0

    monkeypatch.setattr(rounds, "run_nat", run_nat)
    monkeypatch.setattr(rounds, "count", lambda arguments, rollouts, pool: own(85, 170))
    asked = request(tmp_path, "--rounds", "2")
    failed = rounds.play(asked)
    assert failed == {(1, "nut", 0): "nat train failed"}
    status = {(row["round"], row["method"]): row["status"] for row in rounds.rows_of(asked, failed)}
    assert status == {
        (0, "positive_only"): "completed",
        (1, "positive_only"): "completed",
        (1, "nut"): "failed",
        (1, "nat"): "completed",
        (2, "positive_only"): "completed",
        (2, "nut"): "not run",
        (2, "nat"): "completed",
    }


def test_another_command_does_not_go_on_with_these_cells(tmp_path):
    rounds.keep_settings(request(tmp_path, "training.max_steps=2"))
    rounds.keep_settings(request(tmp_path, "--rounds", "5", "--methods", "nat", "training.max_steps=2"))  # more of them
    with pytest.raises(RequestError, match=r"train: \['training.max_steps=2'\], now \['training.max_steps=3'\]"):
        rounds.keep_settings(request(tmp_path, "training.max_steps=3"))
    with pytest.raises(RequestError, match="questions: 300, now 40"):
        rounds.keep_settings(request(tmp_path, "--questions", "40", "training.max_steps=2"))


def test_a_mistake_is_told_before_anything_is_made(tmp_path, capsys):
    for mistake in ("modle=tiny", "trajectories.failures_rate=0.6"):  # the second is one from round 1 on
        assert rounds.main(["--output", str(tmp_path / "out"), mistake]) == 2
        assert mistake.partition("=")[0] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_no_question_is_asked_in_two_rounds_nor_played_by_the_scripted_policy(tmp_path, monkeypatch):
    """100 of 200 scripted successes; 300 questions a round: 300 to 599, 600 to 899, 900 to 1199."""
    collected = []
    monkeypatch.setattr(rounds, "run_nat", lambda arguments, folder=None: collected.append(arguments) or 1)
    for round in (1, 2, 3):
        with pytest.raises(rounds.ChainEnded, match="nat collect failed"):
            rounds.own_of(request(tmp_path), round, "nat", 0, [])
        # The ids of the episodes decide what is chosen: they must not hold the output's name.
        assert f"collect.name=round_{round - 1}" in collected[-1]
    assert [[one for one in arguments if "questions" in one] for arguments in collected] == [
        ["collect.n_questions=300", "collect.skip_questions=300"],
        ["collect.n_questions=300", "collect.skip_questions=600"],
        ["collect.n_questions=300", "collect.skip_questions=900"],
    ]
    first = rounds.checked(rounds.train_arguments(request(tmp_path), 0, "positive_only", 0))
    assert (first.mixing.positives, first.trajectories.successes) == (100, 200)
    from nat.run import trajectories_of

    solved = [trajectory.question_id for trajectory in trajectories_of(first) if trajectory.outcome.success]
    assert len(solved) == 200 and all(int(question.rpartition("-")[2]) < 300 for question in solved)


# ---- with the teacher's failures ----


def episodes_of_its_own(path: Path) -> None:
    """Two successes and one failure, each with an id of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    outcomes = {"a": True, "b": False, "c": True}
    made = [
        Trajectory(
            f"own-{id}", f"question-{id}", f"How many are {id}?", (Message("assistant", f"Action: finish[{id}]"),),
            Outcome(success, float(success), None if success else "wrong_answer", id, "c"), "round_0",
        )
        for id, success in outcomes.items()
    ]  # fmt: skip
    native.write(path, made)


@pytest.mark.slow
def test_the_teachers_failures_take_the_place_of_its_own_beside_the_same_successes(tmp_path):
    asked = request(tmp_path, "--first", "3", "mixing.positives=2", 'mixing.ratio="1:2"')
    episodes_of_its_own(rounds.rollouts_of(tmp_path, 1, "nat+teacher", 0))
    rounds.add_teacher(asked, 1, "nat+teacher", 0)
    pool = tmp_path / "round_0/method=positive_only,seed=0/own_and_teacher_for_round_1.jsonl"
    written = [trajectory for _, trajectory in native.read(pool)]
    assert [trajectory.id for trajectory in written[:2]] == ["own-a", "own-c"]
    assert all(trajectory.source == "scripted" and not trajectory.outcome.success for trajectory in written[2:])
    assert len(written) == 2 + 8  # two times the four that 2 successes at 1:2 take

    arguments = rounds.train_arguments(asked, 1, "nat+teacher", 0)
    assert "method=nat" in arguments and "trajectories.path=own_and_teacher_for_round_1.jsonl" in arguments
    counted = rounds.count(arguments, rounds.rollouts_of(tmp_path, 1, "nat+teacher", 0), pool)
    assert counted == rounds.Own(episodes=3, solved=2, successes=2, failures=8)
    assert rounds.mixing_arguments(rounds.checked(arguments), counted) == []


def test_the_teacher_at_the_papers_scale_is_the_file_of_the_first_model(tmp_path, monkeypatch):
    """What `nat train` of round 0 reads; nothing is generated."""
    asked = request(
        tmp_path, "--environment", "gsm8k", "--first", "2", "scale=paper", f"environment.questions={tmp_path}"
    )
    read = []
    failure = Trajectory("gpt-1", "1", "?", (), Outcome(False, 0.0, "wrong_answer", "1", "2"), "gpt-3.5")
    monkeypatch.setattr("nat.run.trajectories_of", lambda config: read.append(config.trajectories) or [failure])
    episodes_of_its_own(rounds.rollouts_of(tmp_path, 1, "nut+teacher", 0))
    rounds.add_teacher(asked, 1, "nut+teacher", 0)
    (one,) = read
    assert one.kind == "nat" and not hasattr(one, "failures")
    written = rounds.pool_of(tmp_path, 1, "nut+teacher", 0).read_text().splitlines()
    assert [json.loads(line)["id"] for line in written] == ["own-a", "own-c", "gpt-1"]


@pytest.mark.slow
def test_a_teacher_without_failures_is_told_before_anything_is_made(tmp_path, monkeypatch, capsys):
    success = Trajectory("scripted-1", "1", "?", (), Outcome(True, 1.0, None, "2", "2"), "scripted")
    monkeypatch.setattr("nat.run.trajectories_of", lambda config: [success])
    assert rounds.main(["--output", str(tmp_path / "out"), "--methods", "nut,nat+teacher"]) == 2
    assert "--methods nat+teacher: the trajectories that the first model learns from hold no failure" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_successes_alone_have_no_use_for_a_teachers_failures(tmp_path, capsys):
    with pytest.raises(SystemExit):
        request(tmp_path, "--methods", "positive_only,positive_only+teacher")
    assert "--methods positive_only+teacher: positive_only trains on no failures" in capsys.readouterr().err


# ---- what is said of them ----


def arm(method: str, *answers: str) -> Arm:
    """A run a seed; "110" solves two of three questions."""
    runs = tuple(
        RunResult(
            f"{method}{seed}", None, "completed", method, "none", 80, 0, seed, {},
            {"test": {f"q{n}": Answer(letter == "1", float(letter)) for n, letter in enumerate(letters)}},
        )
        for seed, letters in enumerate(answers)
    )  # fmt: skip
    return Arm(method, method, "none", 80, 0, {}, runs)


def test_the_table_holds_means_differences_and_what_there_was_to_train_on():
    arms = {
        (0, "positive_only"): arm("positive_only", "10000000", "11000000"),
        (1, "positive_only"): arm("positive_only", "11100000", "11110000"),
        (1, "nat"): arm("nat", "11000000", "11100000"),
    }
    rows = [
        dict.fromkeys(rounds.COLUMNS, "")
        | {"round": 1, "method": "nat", "episodes": 600, "successes": s, "failures": f}
        for s, f in ((84, 301), (57, 322))
    ]
    shown = rounds.table(arms, rows).splitlines()
    start = shown.index("|---|---|---|---|---|---|---|---|") + 1
    first, alone, marked = (line.strip("| ").split(" | ") for line in shown[start : start + 3])
    assert first[:4] == ["0", "successes of the scripted policy", "-", "0.188 (.125, .250)"]
    assert first[5:] == ["-", "-", "0"]
    assert alone[3] == "0.438 (.375, .500)"
    assert alone[5:] == ["-", "-", "+25.0 [25.0, 25.0]"]  # both seeds solve two more of eight
    assert marked[:4] == ["1", "NAT", "84, 301; 57, 322", "0.312 (.250, .375)"]
    assert marked[5].startswith("-12.5 [")  # to positives only: one question of eight
    assert marked[7] == "+12.5 [12.5, 12.5]"


def test_a_second_table_sets_its_own_failures_against_the_teachers():
    arms = {
        (1, "nut"): arm("nut", "11110000", "11100000"),
        (1, "nut+teacher"): arm("nut", "11000000", "11000000"),
    }
    row = dict.fromkeys(rounds.COLUMNS, "") | {"round": 1, "episodes": 9, "successes": 70, "failures": 240}
    shown = rounds.table(arms, [row | {"method": "nut+teacher"}]).splitlines()
    assert any(line.startswith("| 1 | NUT, teacher's failures | 70 | 0.250 (.250, .250)") for line in shown)
    place = shown.index("| round | method | own minus the teacher's, each seed | points | p |")
    compared = [cell.strip() for cell in shown[place + 2].strip("|").split("|")]
    assert compared[:3] == ["1", "NUT", "+25.0, +12.5"]
    assert compared[3].startswith("+18.8 [") and 0 < float(compared[4]) <= 1


def test_without_the_model_s_own_failures_there_is_no_second_table():
    shown = rounds.table({(1, "nut+teacher"): arm("nut", "1100", "1000")}, [])
    assert "own minus the teacher's" not in shown


def test_arms_are_compared_on_the_seeds_that_both_have():
    """Of three and two runs one seed is shared: 3 of 4 against 1 of 4."""
    some = arm("nut", "1111", "1110", "0000")
    first, second = arm("nut", "1000", "1100").runs
    others = dataclasses.replace(some, runs=(dataclasses.replace(first, seed=1), dataclasses.replace(second, seed=7)))
    pair = rounds.paired_seeds(some, others)
    assert rounds.by_seed(pair) == [0.5]
    assert rounds.to_first(some, others) == "+50.0"
    apart = dataclasses.replace(others, runs=(others.runs[1],))
    assert rounds.paired_seeds(some, apart) is None
    assert rounds.to_first(some, apart) == "-"


def test_a_note_names_what_ran_out_and_nothing_else(tmp_path):
    """The command's own mixing.ratio is no reason for a note."""
    asked = request(tmp_path, "mixing.ratio=1:3")

    def note(method: str, own, **results: int) -> str:
        cell = rounds.cell_of(tmp_path, 1, method, 0)
        complete(cell, ["mixing.ratio=1:3"], **results)
        (cell / "own.json").write_text(json.dumps(vars(own)))
        return rounds.row_of(asked, 1, method, 0, None)["note"]

    assert note("nut", own(300, 600), positives=60, negatives=180) == ""
    assert note("nut", own(60, 600), positives=60, negatives=180) == "all that there are: 60 successes of its own"
    assert note("nat+teacher", own(90, 50), positives=60, negatives=50) == (
        "all that there are: 50 failures of its teacher"
    )
    assert note("positive_only", own(40, 0), positives=40, negatives=0) == "all that there are: 40 successes of its own"


def test_the_committed_tables_are_what_their_cells_say():
    folder = SCRIPT.parent.with_name("self_improvement_rounds")
    methods = "positive_only,nut,nat,nut+teacher,nat+teacher"
    rows = list(rounds.rows_of(request(folder, "--seeds", "0,1,2", "--methods", methods), {}))
    table = rounds.table(rounds.arms_of(folder, rows), rows)
    assert (folder / "rounds.md").read_text() == table
    with open(folder / "rounds.csv", newline="") as file:
        assert list(csv.DictReader(file)) == [{key: str(value) for key, value in row.items()} for row in rows]


# ---- at the paper's scale ----


def test_the_commands_of_the_papers_scale_compose_to_its_values(tmp_path):
    """Of the docstring: the first model from GPT-3.5's successes, later ones from what the one before did."""
    paper = ("--environment", "gsm8k", "--first", "2000", "scale=paper", f"environment.questions={tmp_path}/test.json")
    asked = request(tmp_path, *paper)
    for round, method, kind in ((0, "positive_only", "nat"), (1, "nat", "jsonl")):
        config = rounds.checked(rounds.train_arguments(asked, round, method, 0))
        assert (config.trajectories.kind, config.mixing.positives) == (kind, 2000)
        assert (config.training.epochs, config.training.sft["learning_rate"]) == (2.0, 5e-5)
        assert (config.model.path, config.evaluation.n_questions) == ("meta-llama/Llama-2-7b-chat-hf", 1319)
        assert config.environment.questions == f"{tmp_path}/test.json"
        path = config.trajectories.path
    assert path == "rollouts_for_round_1.jsonl"


# ---- the whole of it ----


def test_a_command_runs_in_a_process_of_its_own_and_is_printed_for_a_shell(tmp_path, capfd):
    assert rounds.run_nat(["--version"], tmp_path) == 0
    printed = capfd.readouterr().out.splitlines()
    assert printed[1:] == [f"$ (cd {tmp_path} && nat --version)", f"nat {nat.__version__}"]


@pytest.mark.slow
def test_two_rounds_of_two_chains_from_the_command_line(tmp_path, monkeypatch):
    """The scripted policy stands in for the models, whose two steps would solve nothing; killed once on the way."""
    monkeypatch.chdir(tmp_path)
    command = [
        *("--output", "out", "--rounds", "2", "--seeds", "0", "--methods", "positive_only,nat", "--questions", "12"),
        *("--first", "4", "--collect", "collect=scripted"),
        *("training.max_steps=2", "training.sft.per_device_train_batch_size=2", "training.sft.logging_steps=1"),
        *("evaluation.n_questions=4", "evaluation.decoding.max_new_tokens=8", "evaluation.also_as=[]"),
    ]
    calls = []

    def in_this_process(arguments, folder=None):
        calls.append(arguments[0])
        with contextlib.chdir(folder or "."):
            return cli.run(arguments)

    def killed_at_the_fourth(arguments, folder=None):
        if len(calls) == 3:
            raise KeyboardInterrupt
        return in_this_process(arguments, folder)

    monkeypatch.setattr(rounds, "run_nat", killed_at_the_fourth)
    assert rounds.main(command) == 130
    assert calls == ["train", "collect", "train"]
    calls.clear()
    monkeypatch.setattr(rounds, "run_nat", in_this_process)
    assert rounds.main(command) == 0
    # The first model and the first cell of round 1 are there; nat collect finds its episodes.
    assert calls == ["collect", "train", *["collect", "train"] * 2, "report"]

    with open("out/rounds.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["round"], row["method"], row["status"]) for row in rows] == [
        (number, method, "completed")
        for number, method in [("0", "positive_only")] + [(n, m) for n in "12" for m in ("positive_only", "nat")]
    ]
    assert all(int(row["positives"]) == int(row["successes"]) for row in rows[1:])
    assert [row["negatives"] for row in rows if row["method"] == "positive_only"] == ["0", "0", "0"]
    assert "all that there are" in rows[-1]["note"]
    for name in ("rounds.md", "rounds.png", "rounds.svg", "report.md", "results.csv"):
        assert Path("out", name).stat().st_size, name
    with open("out/arms.csv", newline="") as file:
        assert {arm["n_seeds"] for arm in csv.DictReader(file)} == {"1"}
