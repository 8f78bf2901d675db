"""Every `nat` command in the README runs, shrunk by overrides; every `make` target that it names exists."""

import dataclasses
import gzip
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from nat import cli
from nat.trajectories import native
from tests.conftest import ROOT, make_trajectory
from tests.openai_server_for_tests import KEY, MODEL, serving

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
NAT = [command for command in COMMANDS if command.startswith("nat ")]
SMALL = ("training.max_steps=1", "evaluation.n_questions=2", "evaluation.decoding.max_new_tokens=8", "tracking=none")


def test_the_first_screen_says_what_it_is_and_holds_the_two_commands_and_the_picture():
    screen = "\n".join(README.splitlines()[:45])
    assert "Negative-Aware Training" in screen
    assert "make demo" in screen
    assert "make test" in screen
    assert "positive_only" in screen
    assert "95% interval" in screen


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert {"demo", "test"} <= named <= targets


PAGES = [path for path in (*ROOT.glob("*.md"), *(ROOT / "experiments").rglob("*.md")) if "model" not in path.parts]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        if path.startswith(("http:", "https:")):
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
            assert anchor in slugs, link


def test_the_record_in_the_readme_is_one_that_nat_reads(tmp_path):
    (record,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(json.loads(record)) + "\n")
    ((_, trajectory),) = native.read(path)
    assert trajectory.outcome.success
    assert len(trajectory.messages) == 3


def _write_lines(name: str, rows: list[dict[str, object]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def _react_episode(i: int) -> dict[str, object]:
    f1 = (0.0, 0.5, 1.0)[i % 3]
    turns = [
        {"role": "user", "content": f"Who built town {i}?"},
        {"role": "assistant", "content": f"Thought: Search.\nAction: search[town {i}]"},
        {"role": "user", "content": f"Observation: Ada {i} did."},
        {"role": "assistant", "content": f"Thought: Ada.\nAction: finish[Ada {i}]"},
        {"role": "user", "content": f"Observation: Episode finished, reward = {f1 == 1}"},
    ]
    return {
        "reward": f1 == 1,
        "em": f1 == 1,
        "f1": f1,
        "gt": f"ada {i}",
        "pred": f"ada {i}",
        "prompt": [],
        "traj": turns,
    }


def _nat_row(i: int, reward: bool) -> dict[str, object]:
    is_odd = i % 2 == 1
    answer = "Yes" if is_odd == reward else "No"
    turn = {"role": "assistant", "content": f"Thought: Clear.\nAction: finish[{answer}]", "loss": True}
    info = {"reward": reward, "acc": reward, "gt": is_odd, "pred": answer}
    return {"conversations": [turn], "info": info, "id": f"q{i}", "source": "0.7"}


@pytest.fixture
def files_of_the_readme(tmp_path, monkeypatch):
    """The files that the commands name, small, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    pool = [make_trajectory(f"{i}/{s}", bool(s), question=f"What is {i}+7?") for i in range(60) for s in (0, 1)]
    native.write(Path("my_trajectories.jsonl"), pool)
    solution = {"is_correct": True, "solution": "3+4 = <<3+4=7>>7\nA: 7"}
    wrong = {"is_correct": False, "solution": "3*4 = <<3*4=12>>12\nA: 12"}
    with open("example_model_solutions.jsonl", "w") as file:
        for i in range(60):
            row = {"question": f"What is {i}+4?", "ground_truth": "A: 7", "a": solution, "b": wrong}
            file.write(json.dumps(row) + "\n")
    _write_lines("svamp.jsonl", [{"question": f"Add {i} to 4.", "answer": str(i + 4)} for i in range(3)])
    _write_lines("quiz.jsonl", [{"question": f"Add {i} to 5.", "answer": str(i + 5)} for i in range(3)])
    _write_lines("train.jsonl", [{"question": f"Add {i} to 6.", "answer": f"#### {i + 6}"} for i in range(3)])
    _write_lines("corpus.jsonl", [{"title": f"Town {i}", "text": f"Town {i} has {i} walls."} for i in range(5)])
    Path("react_messages.json").write_text(json.dumps({str(i): _react_episode(i) for i in range(90)}))
    for name, reward in (("positive", True), ("negative", False)):
        rows = [_nat_row(i, reward) for i in range(60)] + [{**_nat_row(60, reward), "conversations": []}]
        Path(f"{name}.json").write_text(json.dumps(rows))
    asked = [{"id": f"q{i}", "question": f"Is {i} odd?", "answer": i % 2 == 1} for i in range(61)]
    _write_lines("questions.jsonl", asked)
    Path("runs").mkdir()
    Path("runs/a.json").write_text(json.dumps({str(i): _react_episode(i) for i in range(30)}))
    with gzip.open("more.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(dataclasses.asdict(trajectory)) + "\n" for trajectory in pool[:40])
    _write_lines("dev_questions.json", [{"question": f"Who built town {i}?", "answer": "Ada"} for i in range(3)])
    for name, reward in (("good", True), ("bad", False)):
        Path(f"{name}.json").write_text(json.dumps([_nat_row(i, reward) for i in range(60)]))
    chats = [[{"role": "user", "content": f"Is {i} odd?"}, {"role": "assistant", "content": "Yes."}] for i in range(9)]
    _write_lines("mine.jsonl", [{"messages": chat, "score": i / 9} for i, chat in enumerate(chats)])
    Path("outputs/audit").mkdir(parents=True)
    native.write(Path("outputs/audit/clean.jsonl"), pool)
    own = [make_trajectory(f"multihop-0-train-{i}", i < 100, question=f"Who ran {i}?") for i in range(300)]
    Path("outputs/collected").mkdir(parents=True)
    native.write(Path("outputs/collected/own.jsonl"), own)
    Path("my_conf/strategy").mkdir(parents=True)
    original = (ROOT / "conf" / "strategy" / "prefix_correct.yaml").read_text()
    Path("my_conf/strategy/mine.yaml").write_text(original.replace("name: prefix_correct", "name: mine"))
    return tmp_path


@pytest.fixture(scope="module")
def outputs_of_a_sweep(tmp_path_factory):
    """outputs/ with the sweep `demo`; the commands that only read one share it."""
    return _trained(tmp_path_factory.mktemp("sweep"), "-m", "seed=0,1", "sweep.name=demo")


@pytest.fixture(scope="module")
def outputs_of_a_run(tmp_path_factory):
    """outputs/ with the run and the model `NAME`."""
    return _trained(tmp_path_factory.mktemp("run"), "hydra.run.dir=outputs/runs/NAME")


def _trained(folder: Path, *arguments: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.run(["train", *arguments, *SMALL]) == 0
    return folder / "outputs"


def test_there_are_commands_of_every_verb():
    assert {command.split()[1] for command in NAT} >= {"train", "audit", "inspect", "report", "evaluate", "collect"}


@pytest.mark.slow
@pytest.mark.parametrize("command", NAT)
def test_a_command_of_the_readme_runs(command, files_of_the_readme, request, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    arguments = shlex.split(command, comments=True)[1:]
    if arguments[0] == "dashboard":  # of a tracked sweep; the tests have no login
        assert cli.run(["train", "-m", "seed=0,1", "sweep.name=demo", *SMALL[:-1]]) == 0
        pytest.importorskip("wandb_workspaces", reason="the extra `dashboard` is not installed")
        assert cli.run(arguments) == 2
        assert "not logged in to W&B" in capsys.readouterr().err
        assert Path("outputs/sweeps/demo/dashboard.json").is_file()
        return
    if arguments[0] == "collect":
        _collects(arguments, capsys)
        return
    if arguments[0] == "audit":
        assert cli.run(arguments) == 0, capsys.readouterr()
        assert json.loads(Path("outputs/audit/audit.json").read_text())["trajectories"]["clean"] > 0
        return
    # One training seed of three, in place of the printed ones or of the experiment's own.
    arguments = ["seed=0" if argument == "seed=0,1,2" else argument for argument in arguments]
    if "experiment=self_improvement" in arguments:
        arguments = [*arguments, "seed=0"]
    if arguments[0] in ("report", "evaluate"):  # they come after a run or a sweep
        before = "sweep" if arguments[0] == "report" else "run"
        outputs = request.getfixturevalue(f"outputs_of_a_{before}")
        shutil.copytree(outputs, "outputs", dirs_exist_ok=True)
        if arguments[0] == "report":
            Path("outputs/sweeps/demo").rename(arguments[1])
    small = () if arguments[0] == "report" else SMALL
    if "model=hub" in arguments or "model=llama2_7b" in arguments:
        small = (*small, "model.path=tiny", "model.name=stand_in")  # no weights can be fetched in a test
    if arguments[0] == "evaluate":
        small = tuple(override for override in small if not override.startswith("training"))
    assert cli.run([*arguments, *small]) == 0, capsys.readouterr().err


def _collects(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    small = ["collect.n_questions=2"]
    if "collect=scripted" not in arguments and ("collect=model" in arguments or "=" not in arguments[1]):
        small += ["collect.turns.max_tokens=8"]
    if arguments[1] == "outputs/runs/first/model":
        train = ["environment=multihop", "method=positive_only", "hydra.run.dir=outputs/runs/first", *SMALL]
        assert cli.run(["train", *train]) == 0
        small += ["collect.output=outputs/collected/new.jsonl"]
    with serving(lambda body: "Thought: Clear.\nAction: finish[7]") as server:
        if "collect=openai" in arguments:
            small += [f"collect.endpoint.base_url={server.url}", f"collect.endpoint.model={MODEL}"]
        assert cli.run([*arguments, *small]) == 0, capsys.readouterr().err
    assert "success" in capsys.readouterr().out


def test_the_strategy_in_the_readme_composes(tmp_path):
    from nat import composition

    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "strategy").mkdir()
    (tmp_path / "strategy" / "mine.yaml").write_text(text)
    (tmp_path / "mixing").mkdir()
    (tmp_path / "mixing" / "mine.yaml").write_text("defaults: [ratio, _self_]\nratio: '1:4'\n")
    planned = composition.plan(["strategy=mine", "mixing=mine"], config_dir=str(tmp_path))
    config = planned.cells[0].config
    assert [class_.text for class_ in config.strategy.classes] == ["[Right]", "[Wrong]"]
    assert (config.mixing.ratio, config.mixing.hold) == ("1:4", "positives")
