"""Whole runs of the built-in world, and of real GSM8K solutions, through the command line's own entry point."""

import dataclasses
import json
import re
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import yaml

from nat import cli, run
from nat.agents.scoring import numeric_score
from nat.core import cache
from nat.core import questions as question_sets
from nat.core.rows.bad import DroppedRow
from nat.environments.worlds import earning
from nat.stages import evaluation, examples
from nat.stages.environment import make_environment
from nat.stages.evaluation import evaluate, passes_of
from nat.stages.manifest import Prepared, describe
from nat.stages.questions import SetApart
from nat.stages.saving import coordinates, save_configuration
from nat.sweeps import composition
from nat.trajectories.formats import native
from nat.types import Environment, Message, Outcome, Question, RequestError, Rollout
from tests.conftest import ROOT, make_trajectory

QUICK = ("training.max_steps=3", "evaluation.n_questions=6", "tracking=none", "trajectories.failures=100")


def results(directory: Path) -> dict:
    return json.loads((directory / "results.json").read_text())


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def nat(*arguments: str) -> int:
    return cli.run(arguments)


@pytest.mark.slow
def test_a_run_leaves_every_file_of_its_directory(here):
    assert (
        nat(
            "train",
            "mixing.ratio=1:2",
            "mixing.positives=20",
            "strategy=prefix_correct",
            *QUICK[:2],
            "trajectories.failures=40",
            "trajectories.successes=20",
            "hydra.run.dir=r",
        )
        == 0
    )
    files = {path.name for path in (here / "r").iterdir()}
    assert {
        "config.yaml",
        "manifest.json",
        "metrics.jsonl",
        "rollouts.jsonl",
        "results.json",
        "model",
        "wandb",
    } <= files
    found = results(here / "r")
    assert (found["status"], found["method"], found["positives"], found["negatives"]) == ("completed", "nat", 20, 40)
    assert found["n_questions"] == 6
    assert found["ci95"][0] <= found["success_rate"] <= found["ci95"][1]
    own, other = found["passes"]
    assert (own["kind"], own["asked_for"], own["success_rate"]) == ("inference", "correct", found["success_rate"])
    assert (other["kind"], other["asked_for"]) == ("also_as", "incorrect")
    assert 0 <= other["success_rate"] <= 1
    assert sum(found["failures"].values()) == round(6 * (1 - found["success_rate"]))
    assert {"prepare", "load_model", "training", "evaluation"} <= found["timing"].keys()
    assert {"nat", "torch", "transformers", "trl"} <= found["versions"].keys()
    manifest = json.loads((here / "r" / "manifest.json").read_text())
    assert manifest["selected"] == {"positives": 20, "negatives": 40}
    assert len(manifest["positives"]) == 20
    assert set(manifest["trained_tokens"]) == {"correct", "incorrect"}
    config = yaml.safe_load((here / "r" / "config.yaml").read_text())
    assert config["strategy"]["classes"][0]["text"] == "[Correct]"
    metrics = [json.loads(line) for line in (here / "r" / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "loss/correct", "loss/incorrect", "learning_rate", "tokens"} <= metrics[-1].keys()
    assert len((here / "r" / "rollouts.jsonl").read_text().splitlines()) == 6
    prompt = json.loads((here / "r" / "model" / "inference.json").read_text())["prompt"]
    assert prompt[0]["content"].startswith("[Correct]\n")
    assert prompt[0]["content"].endswith("{question}")


@pytest.mark.slow
def test_the_same_command_twice_gives_the_same_run(here):
    for directory in ("a", "b"):
        assert nat("train", *QUICK, "training.save=false", f"hydra.run.dir={directory}") == 0
    a, b = results(here / "a"), results(here / "b")
    assert a["manifest"] == b["manifest"]

    def losses(directory: str) -> list[dict]:
        lines = [json.loads(line) for line in (here / directory / "metrics.jsonl").read_text().splitlines()]
        return [{key: value for key, value in line.items() if "per_second" not in key} for line in lines]

    assert losses("a") == losses("b") != []
    assert (here / "a" / "rollouts.jsonl").read_text() == (here / "b" / "rollouts.jsonl").read_text()


@pytest.mark.slow
def test_a_sweep_over_ratios_has_a_cell_for_each_and_a_report(here, capsys):
    arguments = ("mixing.ratio=1:0,1:1,1:3", "mixing.positives=10", "sweep.name=s", *QUICK)
    assert nat("train", "-m", *arguments) == 0
    cells = {path.parent.name: json.loads(path.read_text()) for path in here.glob("outputs/sweeps/s/*/results.json")}
    assert sorted(name.partition("-")[0] for name in cells) == ["ratio=1to0", "ratio=1to1", "ratio=1to3"]
    by_ratio = {cell["ratio"]: (cell["positives"], cell["negatives"], cell["method"]) for cell in cells.values()}
    assert by_ratio == {"1:0": (10, 0, "positive_only"), "1:1": (10, 10, "nat"), "1:3": (10, 30, "nat")}
    out = capsys.readouterr().out
    table = [line for line in out.splitlines() if line.startswith(("positive_only", "nat"))]
    assert len(table) == 3
    assert (here / "outputs/sweeps/s/report.md").exists()
    assert nat("report", "outputs/sweeps/s") == 0
    again = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("positive_only", "nat"))]
    assert again == table


def test_a_sweep_over_files_is_counted_before_its_first_cell_starts(here, capsys):
    write_pile(here / "mine.jsonl")
    assert nat("train", "-m", *MINE, "mixing.ratio=1:1,1:5", "sweep.name=s") == 2
    err = capsys.readouterr().err
    assert "cell ratio=1to5" in err
    assert "asks for" in err
    assert not list(here.glob("outputs/sweeps/s/*/results.json"))


def test_more_negatives_than_exist_are_refused_before_a_model_loads(here, capsys):
    code = (
        "import sys; from nat import cli; code = cli.run(sys.argv[1:]);"
        "assert not {'torch', 'trl', 'wandb', 'datasets'} & set(sys.modules), 'a heavy library was imported';"
        "sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "train", "mixing.ratio=1:30", "hydra.run.dir=r"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=here)
    assert ended.returncode == 2, ended.stderr
    assert "asks for 100 positives and 3000 negatives; there are 100 and 900" in ended.stderr
    assert "the largest feasible mixing.positives is 30" in ended.stderr
    assert len(ended.stderr.splitlines()) <= 6
    assert "Traceback" not in ended.stderr


def write_pile(path: Path, n: int = 40) -> None:
    pool = [make_trajectory(f"p{i}", question=f"What is {i}+7?") for i in range(n)]
    pool += [make_trajectory(f"n{i}", success=False, question=f"What is {i}+7?") for i in range(n)]
    native.write(path, pool)


MINE = ("environment=gsm8k", "trajectories=jsonl", "trajectories.path=mine.jsonl", *QUICK[:3])


@pytest.mark.parametrize(
    ("line", "arguments", "message"),
    [
        (None, (), r"trajectories.path=mine.jsonl: .* does not exist"),
        ('{"question": "q"', (), r"mine\.jsonl:[12]: not valid JSON"),
        ('{"question": "q", "messages": []}', (), r"mine\.jsonl:1: 'outcome' is missing"),
        ("pile", ("mixing.ratio=1:5",), "asks for .* positives"),
        (
            "pile",
            ("environment.questions=asked.jsonl", "mixing.positives=5"),
            "38 successes and 38 failures are kept out of training: their questions are evaluated on",
        ),
    ],
)
def test_wrong_data_ends_with_code_2_and_a_few_lines(here, capsys, line, arguments, message):
    if line == "pile":
        write_pile(here / "mine.jsonl")
        asked = [json.dumps({"question": f"What is {i}+7?", "answer": str(i + 7)}) for i in range(38)]
        (here / "asked.jsonl").write_text("\n".join(asked))
    elif line:
        (here / "mine.jsonl").write_text(line + "\n")
    assert nat("train", *MINE, *arguments, "hydra.run.dir=r") == 2
    err = capsys.readouterr().err
    assert re.search(message, err)
    assert len(err.splitlines()) <= 6
    if line:  # a missing file is found before the run has a directory
        assert results(here / "r")["status"] == "failed"
    else:
        assert not (here / "r").exists()


def test_a_strategy_on_a_field_that_the_data_lack_ends_with_code_2(here, capsys):
    write_pile(here / "mine.jsonl")
    (here / "conf" / "strategy").mkdir(parents=True)
    classes = [
        {"name": "good", "when": {"field": "metadata.reward", "above": 0.5}, "text": "+"},
        {"name": "bad", "text": "-"},
    ]
    mine = {"name": "mine", "classes": classes, "place": "prefix", "infer_as": "good"}
    (here / "conf" / "strategy" / "mine.yaml").write_text(yaml.safe_dump(mine))
    assert nat("train", "--config-dir", "conf", "strategy=mine", *MINE, "hydra.run.dir=r") == 2
    assert "strategy.classes[0].when.field='metadata.reward' is in none of the" in capsys.readouterr().err


def test_held_out_questions_take_all_their_trajectories_with_them(here):
    write_pile(here / "mine.jsonl", n=60)
    planned = composition.plan([*MINE, "mixing=all"])
    config = planned.cells[0].config
    questions, _, kept, held_out, _ = run.gather(config).apart
    assert len(kept) + len(held_out) == 120
    assert {q.text for q in questions} <= {t.question for t in held_out}
    assert not {t.question for t in kept} & {t.question for t in held_out}
    validation = composition.plan([*MINE, "mixing=all", "evaluation.split=validation"]).cells[0].config
    others, _, kept_too, *_ = run.gather(validation).apart
    assert not {q.text for q in others} & {q.text for q in questions}
    assert kept_too == kept


def test_questions_of_a_file_are_kept_out_of_training(here):
    write_pile(here / "mine.jsonl", n=10)
    (here / "test.jsonl").write_text(json.dumps({"question": "what IS  3+7?", "answer": "#### 10"}) + "\n")
    config = composition.plan([*MINE, "environment.questions=test.jsonl"]).cells[0].config
    questions, _, kept, held_out, _ = run.gather(config).apart
    assert [q.text for q in questions] == ["what IS  3+7?"]
    assert {t.id for t in held_out} == {"p3", "n3"}
    assert len(kept) == 18


@pytest.mark.slow
def test_real_gsm8k_solutions_from_end_to_end(here, data):
    path = data / "gsm8k" / "example_model_solutions.jsonl"
    arguments = (
        "environment=gsm8k",
        "trajectories=gsm8k_solutions",
        f"trajectories.path={path}",
        "mixing.positives=40",
    )
    assert nat("train", *arguments, *QUICK[:3], "hydra.run.dir=r") == 0
    manifest = json.loads((here / "r" / "manifest.json").read_text())
    for label, total in (("positives", 2001), ("negatives", 3275)):
        counts = [manifest[part][label] for part in ("selected", "unused", "held_out")]
        counts += [number[label] for number in manifest["dropped"].values()]
        assert sum(counts) == total
    assert manifest["held_out"]["positives"] > 0
    selected = {int(id.split("/")[0]) for id in manifest["positives"] + manifest["negatives"]}
    lines = path.read_text().splitlines()
    asked = {json.loads(line)["question"]["text"] for line in (here / "r" / "rollouts.jsonl").read_text().splitlines()}
    assert not asked & {json.loads(lines[number - 1])["question"] for number in selected}
    assert results(here / "r")["status"] == "completed"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["nut", "nat"])
def test_a_saved_model_is_evaluated_as_in_its_own_run(here, capsys, method):
    conf = here / "conf" / "strategy"
    conf.mkdir(parents=True)
    text = (ROOT / "conf" / "strategy" / "prefix_correct.yaml").read_text()
    (conf / "mine.yaml").write_text(text.replace("[Correct]", "[Yes]").replace("name: prefix_correct", "name: mine"))
    marked = ("--config-dir", "conf", "strategy=mine") if method == "nat" else ()
    assert nat("train", f"method={method}", *marked, *QUICK, "mixing.positives=30", "hydra.run.dir=r") == 0
    (here / "r" / "model").rename(here / "it's moved")
    assert nat("evaluate", "it's moved", "hydra.run.dir=e") == 0
    found = results(here / "e")
    assert (found["method"], found["positives"], found["negatives"]) == (method, 30, 30)
    assert (here / "e" / "rollouts.jsonl").read_text() == (here / "r" / "rollouts.jsonl").read_text()
    assert not (here / "e" / "wandb").exists()
    assert nat("evaluate", "it's moved", "evaluation.n_questions=2", "hydra.run.dir=f") == 0
    assert results(here / "f")["n_questions"] == 2
    assert nat("evaluate", "r", "hydra.run.dir=e") == 2
    assert "no model there" in capsys.readouterr().err


def configured(*overrides: str):
    return composition.checked(composition.compose(overrides), overrides)


def write_lines(path: Path, *rows: dict) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def attempt(number: int, success: bool, failure: str | None = None) -> dict:
    outcome = {"success": success, "reference": "1", **({"failure": failure} if failure else {})}
    message = {"role": "assistant", "content": f"Action: finish[{1 if success else 2}]"}
    return {"id": f"t{number}", "question": f"question {number}?", "messages": [message], "outcome": outcome}


def prepared(environment: Environment | None = None, questions: list[Question] | None = None) -> Prepared:
    """Of a run that trains nothing."""
    nothing: Any = None
    environment = environment or Environment("arithmetic", "", (), numeric_score, 1)
    apart = SetApart(questions or [], [], [], [], [])
    return Prepared(environment, {}, apart, nothing, nothing, nothing, None, {"hash": None}, {})


def test_files_of_questions_stand_in_a_saved_model_with_their_whole_path(here):
    write_lines(here / "t.jsonl", attempt(1, True), attempt(2, False))
    write_lines(here / "q.jsonl", {"question": "Why?", "answer": "1"})
    (here / "r.json").write_text("{}")
    files = ("environment=gsm8k", "trajectories=jsonl", "trajectories.path=t.jsonl", "tracking=none")
    place = coordinates(configured(*files), prepared())
    save_configuration(configured(*files, "environment.questions=q.jsonl"), place, here / "a")
    save_configuration(configured(*files), place, here / "b")
    recorded = ("environment=hotpotqa", "search=replay", "search.path=t.jsonl", "search.questions=r.json")
    save_configuration(configured(*files, *recorded, "search.format=nat"), place, here / "c")

    def saved(name: str, group: str) -> dict:
        return yaml.safe_load((here / name / "conf" / group / "saved.yaml").read_text())

    assert saved("a", "environment")["questions"] == str(here / "q.jsonl")
    assert saved("b", "environment")["questions"] == "held_out"
    assert saved("c", "search")["questions"] == str(here / "r.json")


@pytest.mark.slow
def test_a_saved_model_is_evaluated_on_its_questions_from_another_directory(here, monkeypatch):
    write_lines(here / "t.jsonl", *(attempt(number, number % 2 == 0) for number in range(8)))
    write_lines(here / "q.jsonl", {"question": "Why?", "answer": "1"})
    files = ("environment=gsm8k", "environment.questions=q.jsonl", "trajectories=jsonl", "trajectories.path=t.jsonl")
    assert nat("train", "method=nut", *files, "training.max_steps=1", "tracking=none", "hydra.run.dir=r") == 0
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert nat("evaluate", "../r/model", "hydra.run.dir=e") == 0
    assert results(Path("e"))["n_questions"] == 1


def test_rows_that_are_left_out_are_listed_where_nothing_is_trained(here):
    write_lines(here / "t.jsonl", *(attempt(number, True) for number in range(30)), {"question": "?"})
    files = ("environment=gsm8k", "trajectories=jsonl", "trajectories.path=t.jsonl", "trajectories.on_bad_row=drop")
    config = configured(*files, "training=none", "mixing=positive_only", "environment.held_out=0.9")
    prepared = run.prepare(config)
    [row] = prepared.manifest["bad_rows"]
    assert (row["where"], row["reason"]) == ("t.jsonl:31", "missing_value")
    assert "left out      1 rows of the files: missing_value (listed in manifest.json)" in describe(config, prepared)


def test_episodes_that_broke_train_nothing_and_are_counted(here):
    write_lines(here / "t.jsonl", attempt(1, True), attempt(2, False, "infrastructure"), attempt(3, False))
    dropped: list[DroppedRow] = []
    config = configured("environment=gsm8k", "trajectories=jsonl", "trajectories.path=t.jsonl")
    assert [trajectory.id for trajectory in run.trajectories_of(config, dropped)] == ["t1", "t3"]
    assert [(row.where, row.reason) for row in dropped] == [("t.jsonl:2", "infrastructure")]


def test_quality_drops_are_counted_and_listed_and_evaluation_stays_as_it_is(here):
    same = [{**attempt(number, True), "id": f"again{number}"} for number in range(30)]
    write_lines(here / "t.jsonl", *(attempt(number, True) for number in range(30)), *same)
    files = ("environment=gsm8k", "trajectories=jsonl", "trajectories.path=t.jsonl", "environment.held_out=0.3")
    controlled = run.prepare(configured(*files, "method=positive_only", "mixing=all"))
    all_of_them = run.prepare(configured(*files, "method=positive_only", "mixing=all", "quality=none"))
    assert controlled.apart.questions == all_of_them.apart.questions
    manifest = controlled.manifest
    n = manifest["selected"]["positives"]
    assert 10 < n < 30
    assert all_of_them.manifest["selected"]["positives"] == 2 * n
    assert manifest["dropped"] == {"exact_duplicates": {"positives": n, "negatives": 0}}
    assert len(manifest["dropped_trajectories"]) == n
    first = manifest["dropped_trajectories"][0]
    assert first["reason"] == "exact_duplicates"
    assert first["detail"].startswith("the same text with the same label as ")
    with pytest.raises(RequestError, match=r"drop every one of the \d+ trajectories \(min_agent_turns"):
        run.prepare(configured(*files, "method=positive_only", "mixing=all", "quality.min_agent_turns=99"))


def test_episodes_that_broke_in_an_evaluation_are_warned_of(here, monkeypatch):
    questions = [Question("a", "?", "1"), Question("b", "?", "1"), Question("c", "?", "1")]
    failures = (None, "infrastructure", "wrong_answer")
    rollouts = [
        Rollout(question, (), Outcome(failure is None, float(failure is None), failure))
        for question, failure in zip(questions, failures, strict=True)
    ]
    monkeypatch.setattr(evaluation, "roll_out", lambda *given: rollouts)
    config = configured("evaluation.also_as=[]")
    ready = prepared(make_environment(config.environment, config.agent), questions)
    asked = passes_of(ready, config.evaluation, config.strategy, "arithmetic")
    said: list[str] = []
    (found,) = evaluate(ready, None, asked, here, said.append)
    assert found.failures == {"infrastructure": 1, "wrong_answer": 1}
    assert [line for line in said if line.startswith("warning: ")] == [
        "warning: evaluating: 1 of 3 episodes broke (infrastructure); they count as no success, though the model is "
        "not to blame"
    ]


@pytest.mark.parametrize(("strategy", "is_warned_of"), [("suffix", True), ("inverse", True), ("prefix_correct", False)])
def test_marks_that_tell_of_actions_are_warned_of_for_a_chain_of_thought(strategy, is_warned_of):
    config = configured("agent=cot", f"strategy={strategy}")
    of_cot = Environment("arithmetic", "", (), numeric_score, 1, protocol="cot")
    lines = [line for line in describe(config, prepared(of_cot)) if "Action" in line or "prefix_correct" in line]
    assert (
        lines
        == [
            f"warning: strategy={strategy} tells of Action steps; agent=cot takes none.",
            "         strategy=prefix_correct marks the classes without a word about them",
        ]
        * is_warned_of
    )
    unmarked = configured(f"strategy={strategy}")
    assert not any("Action" in line for line in describe(unmarked, prepared()))


@pytest.mark.slow
def test_the_base_is_evaluated_without_training(here):
    assert nat("train", "method=base", "evaluation.n_questions=6", "tracking=none", "hydra.run.dir=r") == 0
    found = results(here / "r")
    assert (found["method"], found["positives"], found["negatives"], found["steps"]) == ("base", 0, 0, 0)


STRATEGIES = sorted(path.stem for path in (ROOT / "conf" / "strategy").glob("*.yaml"))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_trained_tokens_are_the_agents_turns_and_both_prompts_are_the_same_tokens(strategy):
    """For every shipped strategy, on the built-in world: what carries loss, and what a roll-out begins with."""
    small = ("mixing.positives=8", "trajectories.successes=8", "trajectories.failures=8", "evaluation.n_questions=1")
    config = composition.plan([f"strategy={strategy}", *small]).cells[0].config
    prepared = run.prepare(config)
    assert prepared.made is not None
    trajectories = {trajectory.id: trajectory for trajectory in prepared.made.mixed.selected}
    decode = prepared.format.tokenizer.decode
    for example in prepared.examples:
        trajectory = trajectories[example.trajectory_id]
        trained = [token for token in example.labels if token != -100]
        turns = [message.content for message in trajectory.messages if message.role == "assistant"]
        assert decode(trained) == "".join(f"{turn}<|end|>" for turn in turns)
        text = config.strategy.class_named(example.class_name).text
        instructions = "Use calculate[expression], then finish[answer]."
        parts = {
            "prefix": [text, instructions, trajectory.question],
            "suffix": [instructions, trajectory.question, text],
        }[config.strategy.place]
        prompt = "<|user|>" + "\n".join(part for part in parts if part) + "<|end|><|assistant|>"
        first = next(place for place, label in enumerate(example.labels) if label != -100)
        assert decode(example.input_ids[:first]) == prompt

        asked = Question("q", trajectory.question, "0")
        assert rolled_out_prompt(config, prepared, asked, example.class_name) == example.input_ids[:first]


def rolled_out_prompt(config, prepared, question, class_name) -> list[int]:
    """The tokens that a roll-out feeds before its first turn, caught where they enter the engine."""
    from nat.evaluation import decoding, rollouts
    from nat.model import load_model

    caught: list[list[int]] = []
    original = decoding.Rows.start

    def start(self, row, tokens):
        caught.append(list(tokens))
        original(self, row, tokens)

    global MODEL
    MODEL = MODEL or load_model(config.model, "cpu")
    settings = dataclasses.replace(config.evaluation.decoding, max_new_tokens=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding.Rows, "start", start)
        rollouts.roll_out(
            MODEL,
            prepared.format,
            prepared.environment,
            [question],
            lambda question: prepared.prompt(prepared.environment, question.text, class_name),
            settings,
        )
    return caught[0]


MODEL = None  # loaded once for all strategies


@pytest.mark.slow
def test_an_offline_wandb_run_of_a_cell_can_be_read_back(here):
    arguments = [override for override in QUICK if override != "tracking=none"]
    assert nat("train", "-m", "mixing.ratio=1:3", "mixing.positives=10", "sweep.name=s", *arguments) == 0
    (path,) = here.glob("outputs/sweeps/s/*/wandb/offline-run-*/*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in ended.stdout.splitlines()]
    (started,) = [record["run"] for record in records if record["type"] == "run"]
    config = started["config"]["update"]["nat"]
    assert started["run_group"] == "s"
    assert started["job_type"] == "nat"
    assert config["mixing"]["negatives_per_positive"] == 3
    assert config["strategy"]["name"] == "suffix"
    assert config["seed"] == 0
    for name in ("loss/correct", "loss/incorrect", "success_rate", "ci95"):
        assert f'"{name}' in ended.stdout


@pytest.mark.slow
def test_a_run_killed_in_training_goes_on_where_it_was(here):
    """The same losses, metrics and roll-outs as a run that nobody killed; one W&B id throughout."""
    arguments = (
        *("train", "mixing.positives=10", "training.max_steps=60", "training.checkpoint_every=10", "tracking=none"),
        *("training.save=false", "evaluation.n_questions=4"),
    )
    assert nat(*arguments, "hydra.run.dir=whole") == 0
    program = [sys.executable, "-m", "nat", *arguments, "hydra.run.dir=killed"]
    process = subprocess.Popen(program, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(here.glob("killed/checkpoints/checkpoint-2*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    before = results(here / "killed")
    assert before["status"] == "running"
    assert nat(*arguments, "hydra.run.dir=killed") == 0
    after = results(here / "killed")
    assert after["tracking_id"] == before["tracking_id"]

    def losses(directory: str) -> list[tuple[int, float]]:
        lines = [json.loads(line) for line in (here / directory / "metrics.jsonl").read_text().splitlines()]
        return [(line["step"], line["loss"]) for line in lines]

    assert losses("killed") == losses("whole")
    assert [step for step, _ in losses("killed")] == [10, 20, 30, 40, 50, 60]
    assert (here / "killed" / "rollouts.jsonl").read_text() == (here / "whole" / "rollouts.jsonl").read_text()
    assert not (here / "killed" / "checkpoints").exists()


@pytest.mark.slow
def test_windows_line_ends_a_bom_and_a_message_of_a_megabyte_train_like_any_other(here, capsys):
    write_pile(here / "mine.jsonl", n=30)
    lines = (here / "mine.jsonl").read_text().splitlines()
    long = json.loads(lines[0])
    long["messages"][0]["content"] = "Thought: " + "ж" * 1_000_000
    text = "\ufeff" + "\r\n\r\n".join([json.dumps(long, ensure_ascii=False), *lines[1:]]) + "\r\n"
    (here / "mine.jsonl").write_bytes(text.encode())
    planned = composition.plan([*MINE, "mixing=all", "environment.held_out=0.5"])
    prepared = run.prepare(planned.cells[0].config)
    counted = [prepared.manifest[part] for part in ("selected", "unused", "held_out")]
    dropped = prepared.manifest["dropped"].get("too_long", {"positives": 0, "negatives": 0})
    assert sum(part["positives"] for part in (*counted, dropped)) == 30
    assert sum(part["negatives"] for part in (*counted, dropped)) == 30
    long_is_held_out = question_sets.is_held_out(make_trajectory("long", question=long["question"]), 0.5)
    assert sum(dropped.values()) == (0 if long_is_held_out else 1)


def test_trajectories_are_earned_until_both_numbers_are_there():
    config = composition.plan(["trajectories.successes=7", "trajectories.failures=11"]).cells[0].config
    pool = run.trajectories_of(config)
    assert [sum(t.outcome.success for t in pool), sum(not t.outcome.success for t in pool)] == [7, 11]
    assert pool == run.trajectories_of(config)


@pytest.mark.slow
def test_a_wrong_request_costs_no_earlier_results(here, capsys):
    arguments = ("mixing.positives=5", *QUICK, "training.save=false", "evaluation=none", "hydra.run.dir=r")
    assert nat("train", *arguments) == 0
    before = {path.name: path.read_bytes() for path in (here / "r").iterdir() if path.is_file()}
    assert nat("train", *arguments, "seed=1") == 2
    assert "holds a finished run of another configuration" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (here / "r").iterdir() if path.is_file()} == before


@pytest.mark.parametrize("flags", [("hydra.run.dir=file",), ("-m", "seed=0,1", "hydra.sweep.dir=file")])
def test_a_directory_that_cannot_be_made_ends_with_code_2(here, capsys, flags):
    (here / "file").write_text("")
    assert nat("train", *flags, *QUICK) == 2
    assert "cannot be made" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_one_line(here, capsys):
    assert cli.run(["train", "method=base", *QUICK[1:3], "hydra.run.dir=r"]) == 0
    (here / "r" / "report.md").mkdir()
    assert nat("report", "r") == 1
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("failed: ")
    assert "Traceback" not in "".join(err)


def test_own_files_in_the_built_in_world_are_warned_of(here, capsys):
    write_pile(here / "mine.jsonl")
    own = ("trajectories=jsonl", "trajectories.path=mine.jsonl", "evaluation=none", "tracking=none", "training=sft")
    config = composition.plan([*own]).cells[0].config
    assert any(line.startswith("warning: trained on your files") for line in describe(config, run.prepare(config)))


@pytest.fixture
def shared_work(tmp_path, monkeypatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("NAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_memory", OrderedDict())
    return tmp_path / "cache"


@pytest.mark.slow
def test_selections_are_those_of_the_measured_cells(shared_work):
    """Figures under experiments/ can be made again only as long as these hashes stay."""
    found = {}
    for ratio in ("1:0", "1:1"):
        arguments = ["experiment=ratio_sweep", "hydra.mode=RUN", "method=nat", "mixing.positives=50", "seed=0"]
        config = composition.plan([*arguments, f"mixing.ratio={ratio}", "evaluation.n_questions=1"]).cells[0].config
        found[ratio] = run.prepare(config).manifest["hash"]
    assert found == {"1:0": "5af05c5a4195b52c", "1:1": "e068e4102a5d9861"}


def test_prepared_cells_are_the_same_with_and_without_a_cache(shared_work, monkeypatch):
    small = ["trajectories.successes=15", "trajectories.failures=30", "evaluation.n_questions=5", "mixing.ratio=1:2"]
    config = composition.plan([*small, "evaluation.n_validation=4"]).cells[0].config

    def prepared(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        made = run.prepare(config)
        return made.manifest, made.made, made.apart

    computed = prepared(NAT_CACHE="off")
    written = prepared(NAT_CACHE=str(shared_work))
    assert {path.name.partition("-")[0] for path in shared_work.iterdir()} == {
        "trajectories",
        "questions",
        "tokens",
        "leaks",
    }
    for name in ("endless_trajectories", "make_questions"):  # nothing of it is done again
        monkeypatch.setattr(earning.worlds, name, None)
    monkeypatch.setattr(examples, "tokenize_all", None)
    monkeypatch.setattr(examples, "leaks", None)
    from_memory = prepared()
    cache._memory.clear()
    from_disk = prepared()
    assert computed == written == from_memory == from_disk


def test_leaks_are_told_and_kept_in_the_manifest(here):
    def write(verdict: str) -> None:
        pool = []
        for i in range(40):
            for success in (True, False):
                made = make_trajectory(f"{'p' if success else 'n'}{i}", success, question=f"What is {i} + 7?")
                turns = (
                    Message("assistant", f"finish[{i + success}]"),
                    Message("user", f"Episode finished{verdict}{success}"),
                )
                pool.append(dataclasses.replace(made, messages=turns if verdict else turns[:1]))
        native.write(here / "mine.jsonl", pool)

    write(", reward = ")
    config = composition.plan([*MINE, "environment.held_out=0.1", "mixing=all"]).cells[0].config
    prepared = run.prepare(config)
    (leak,) = prepared.manifest["leaks"]
    assert leak.startswith("labels leak: the last observation tells them; 'reward = True' stands in")
    assert f"warning: {leak}" in list(describe(config, prepared))
    write("")
    assert "leaks" not in run.prepare(config).manifest


@pytest.mark.slow
def test_a_cell_trained_by_two_processes_is_evaluated_and_saved_like_any_other(here):
    arguments = ("mixing.positives=10", "training.max_steps=4", "evaluation.n_questions=4", "tracking=none")
    batches = ("training.sft.per_device_train_batch_size=2", "training.sft.logging_steps=2")
    assert nat("train", *arguments, *batches, "training.processes=2", "hydra.run.dir=r") == 0
    found = results(here / "r")
    assert (found["status"], found["steps"], found["n_questions"]) == ("completed", 4, 4)
    assert found["training"]["loss"] > 0
    metrics = [json.loads(line) for line in (here / "r" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == [2, 4]
    assert (here / "r" / "model" / "inference.json").exists()
    assert not {".training", "checkpoints"} & {path.name for path in (here / "r").iterdir()}
