"""README.md, docs/ and CONTRIBUTING.md: every `nat` command composes, and runs shrunk; links and facts hold."""

import dataclasses
import gzip
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from nat import cli
from nat.config.errors import field_names
from nat.config.loading import load
from nat.config.tree import Config
from nat.reporting.pictures.draw import found as found_pictures
from nat.sweeps import composition
from nat.trajectories.detection import FORMATS, detect
from nat.trajectories.formats import native
from nat.types import Question
from nat.verbs.request import parse
from tests.conftest import ROOT, make_trajectory
from tests.openai_server_for_tests import KEY, MODEL, serving

MANUAL = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md")
TEXT = {page.name if page.parent == ROOT else f"docs/{page.name}": page.read_text(encoding="utf-8") for page in MANUAL}


def blocks(language: str, text: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [block for of, block in found if of == language]


def commands(text: str) -> list[str]:
    lines = [line for block in blocks("bash", text) for line in block.splitlines() if line.strip()]
    return [re.sub(r"\s+# .*", "", line).strip() for line in lines]


NAT = list(dict.fromkeys(c for text in TEXT.values() for c in commands(text) if c.startswith("nat ")))
SMALL = ("training.max_steps=1", "evaluation.n_questions=2", "evaluation.decoding.max_new_tokens=8", "tracking=none")


def table(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    below = f"\n{TEXT[page]}".split(f"\n{heading}\n", 1)[1]
    rows = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert rows, heading
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[0].splitlines()[2:]]


def section(page: str, heading: str) -> str:
    """What stands below a heading, up to the next of its level."""
    below = f"\n{TEXT[page]}".split(f"\n{heading}\n", 1)[1]
    return below.split(f"\n{heading.split()[0]} ", 1)[0]


def first_words(page: str, heading: str) -> set[str]:
    """What stands in code in the first column of a table."""
    return {word for row in table(page, heading) for word in code(row[0])}


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# ---- what the pages say ----


def test_the_first_screen_holds_the_two_commands_and_the_picture():
    screen = "\n".join(TEXT["README.md"].splitlines()[:30])
    assert commands(screen) == ["make demo", "make test"]
    assert len(re.findall(r"!\[.*\]\(.*\.svg\)", screen)) == 1


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    said = [line for text in TEXT.values() for line in (*code(text), *commands(text)) if line.startswith("make ")]
    named = {line.split()[1] for line in said}
    assert {"demo", "test", "lint"} <= named <= targets


def test_the_figures_of_the_readme_are_those_of_the_report():
    report = (ROOT / "experiments" / "ratio_sweep" / "report.md").read_text(encoding="utf-8")
    lines = report.split("\n## Arms\n", 1)[1].split("\n## ", 1)[0].splitlines()
    arms = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    found = {tuple(arm[:4]): arm[4:] for arm in arms}
    assert sum(int(arm[4]) for arm in arms) == 60
    seeds, with_failures, difference, *_ = found["nat", "suffix", "50", "400"]
    assert (seeds, with_failures, difference) == ("3", "0.369", "+30.4 [+23.5, +37.0]")
    alone = [float(rest[1]) for arm, rest in found.items() if arm[0] == "positive_only" and arm[2] == "50"]
    assert any(round(success, 2) == 0.07 for success in alone)
    said = " ".join(TEXT["README.md"].split())
    assert "60 cells" in said
    assert "from 0.07 (`positive_only`) to 0.37, by 30 points [23.5, 37.0]" in said


def test_the_map_of_the_readme_is_the_tree():
    (tree,) = (block for block in blocks("", TEXT["README.md"]) if block.startswith("nat/\n"))
    lines = [line.rstrip() for line in tree.splitlines()]
    names = re.compile(r"[a-z_]+(?:/|\.py)")
    inside = {name.rstrip("/") for line in lines if line.startswith("  ") for name in names.findall(line[2:18])}
    there = {path.name for path in (ROOT / "nat").iterdir() if not path.name.startswith("_")} - {"assets", "py.typed"}
    assert inside == there
    outside = {name.rstrip("/") for line in lines[1:] if not line.startswith(" ") for name in names.findall(line[:18])}
    assert outside == {"conf", "experiments", "tests", "docs"}


def test_the_commands_of_the_readme_are_all_that_there_are(capsys):
    assert cli.run(["--help"]) == 0
    there = set(re.findall(r"^  nat ([a-z]+) +(?!method|-)\S", capsys.readouterr().out, re.MULTILINE))
    listed = {code(row[0])[0].split()[1] for row in table("README.md", "## Commands")}
    assert listed == there
    assert {command.split()[1] for command in NAT} == there


def test_formats_that_are_listed_exist():
    rows = table("docs/trajectories.md", "## What can be read")
    listed = {word for row in rows for word in code(row[1])} - {"nat audit"}
    assert listed == {*(format.name for format in FORMATS), "mapped"}
    headings = re.findall(r"^## (.*)", TEXT["docs/formats.md"], re.MULTILINE)
    assert [name for name in listed if not any(name in heading.lower() for heading in headings)] == []


def test_options_that_are_listed_exist():
    from hydra.core.global_hydra import GlobalHydra

    rows = table("docs/configuration.md", "## Groups")
    assert {"trajectories", "mixing", "training"} <= {code(row[0])[0] for row in rows}
    with composition.shipped_configuration():
        loader = GlobalHydra.instance().config_loader()
        for group, options, *_ in rows:
            there = loader.get_group_options(code(group)[0])
            assert set(code(options)) <= set(there), group


@pytest.mark.parametrize(
    ("heading", "group"),
    [("# Mixing, marks and training", "method"), ("## Mixing", "mixing")],
    ids=["method", "mixing"],
)
def test_options_of_the_page_on_objectives(heading, group):
    listed = {code(row[0])[0] for row in table("docs/objectives.md", heading)}
    assert listed <= {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}


def test_methods_set_what_the_page_says():
    for method, mixing, strategy, _ in table("docs/objectives.md", "# Mixing, marks and training"):
        config = composition.plan([f"method={code(method)[0]}", "mixing.positives=50"]).cells[0].config
        assert [config.mixing.kind, config.strategy.name] == [code(mixing)[0], code(strategy)[0]]


def test_extras_and_versions_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [code(row[0])[0] for row in table("docs/configuration.md", "## Extras")] == [
        *project["optional-dependencies"]
    ]
    (version,) = set(re.findall(r"Python (3\.\d+) or newer", TEXT["README.md"] + TEXT["docs/configuration.md"]))
    assert project["requires-python"] == f">={version}"


def test_keys_that_are_named_exist():
    """Every `GROUP.KEY` or `GROUP.KEY=VALUE` in running text."""
    groups = {field.name for field in dataclasses.fields(Config)}
    found = set()
    for page, text in TEXT.items():
        if Path(page).name == "python.md":  # there `report.NAME` is an attribute
            continue
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        for word in (word for span in code(prose) for word in span.split()):
            group, *path = word.lstrip("+").partition("=")[0].split(".")
            names_file = path and path[-1] in ("py", "md", "html", "json")
            if group in groups and path and not names_file and not path[-1].isupper() and path[0] != "sft":
                assert path[-1] in field_names([group, *path[:-1]]), word
                found.add(word)
    assert len(found) > 40


PAGES = [
    *(path for path in ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *(path for path in (ROOT / "experiments").rglob("*.md") if "model" not in path.parts),
]


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


def test_every_page_of_the_manual_is_linked_from_its_index_and_the_readme():
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert set(re.findall(r"\]\((\w+\.md)\)", TEXT["docs/README.md"])) == pages
    assert set(re.findall(r"\]\(docs/(\w+\.md)\)", TEXT["README.md"])) == pages


def test_the_record_in_the_manual_is_one_that_nat_reads(tmp_path):
    (record,) = blocks("json", TEXT["docs/trajectories.md"])
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(json.loads(record)) + "\n")
    ((_, trajectory),) = native.read(path)
    assert trajectory.outcome.success
    assert len(trajectory.messages) == 3


FORMATS_OF_MESSAGES = ("jsonl", "nat", "react", "chat", "sharegpt", "alpaca", "gsm8k_solutions")


@pytest.mark.parametrize("format", [*FORMATS_OF_MESSAGES, "trl", "preferences", "verifiers"])
def test_the_records_on_the_page_of_formats_are_read_as_those(format, tmp_path):
    headings = re.findall(r"^## .*$", TEXT["docs/formats.md"], re.MULTILINE)
    (heading,) = (heading for heading in headings if heading[3:].partition(":")[0] == format)
    records = [json.loads(block) for block in blocks("json", section("docs/formats.md", heading))]
    assert records
    for number, record in enumerate(records):
        if record.keys() == {"id", "question", "answer"}:  # a question that a record of `nat` is joined with
            continue
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps(record) + "\n")
        assert detect(path).name == format
        alone = {"questions": {record["id"]: Question(record["id"], "Q?", "yes")}} if format == "nat" else {}
        (read,) = (one.read for one in FORMATS if one.name == format)
        assert list(read(path, **alone))


def test_the_options_of_ones_own_in_the_manual_compose(tmp_path):
    (strategy,) = blocks("yaml", TEXT["docs/objectives.md"])
    (mixing,) = (text for text in blocks("text", TEXT["docs/configuration.md"]) if "mixing" in text)
    for group, text in (("strategy", strategy), ("mixing", mixing)):
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.yaml").write_text(text)
    planned = composition.plan(["strategy=mine", "mixing=mine"], config_dir=str(tmp_path))
    config = planned.cells[0].config
    assert [class_.text for class_ in config.strategy.classes] == ["[Right]", "[Wrong]"]
    assert (config.mixing.ratio, config.mixing.hold) == ("1:4", "positives")


# ---- the files that the commands name ----


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


def _call_of_a_tool(i: int, success: bool) -> dict[str, object]:
    """A record of an agent with a tool of its own."""
    call = {"id": "c", "type": "function", "function": {"name": "book", "arguments": json.dumps({"seat": i})}}
    messages = [
        {"role": "system", "content": "You book seats."},
        {"role": "user", "content": f"Book seat {i}."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "booked" if success else "taken"},
        {"role": "assistant", "content": "It is booked."},
    ]
    return {"task_id": i, "success": success, "messages": messages}


@pytest.fixture
def files_of_the_manual(tmp_path, monkeypatch):
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
    Path("runs.json").write_text(json.dumps([_call_of_a_tool(i, i % 3 == 0) for i in range(60)]))
    Path("runs").mkdir()
    Path("runs/a.json").write_text(json.dumps({str(i): _react_episode(i) for i in range(30)}))
    resolved = {"resolved_ids": [str(i) for i in range(10)], "unresolved_ids": [str(i) for i in range(10, 30)]}
    Path("results.json").write_text(json.dumps(resolved))
    with gzip.open("more.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(dataclasses.asdict(trajectory)) + "\n" for trajectory in pool[:40])
    _write_lines("dev_questions.json", [{"question": f"Who built town {i}?", "answer": "Ada"} for i in range(3)])
    for name, reward in (("good", True), ("bad", False)):
        Path(f"{name}.json").write_text(json.dumps([_nat_row(i, reward) for i in range(60)]))
    chats = [[{"role": "user", "content": f"Is {i} odd?"}, {"role": "assistant", "content": "Yes."}] for i in range(9)]
    _write_lines("mine.jsonl", [{"messages": chat, "score": i / 9} for i, chat in enumerate(chats)])
    record, mapping = (
        blocks(kind, section("docs/formats.md", "## mapped: anything else"))[0] for kind in ("json", "yaml")
    )
    _write_lines("support.jsonl", [{**json.loads(record), "run": i, "case": f"orders/{i}"} for i in range(5)])
    Path("mapping.yaml").write_text(mapping)
    Path("outputs/audit").mkdir(parents=True)
    native.write(Path("outputs/audit/clean.jsonl"), pool)
    own = [make_trajectory(f"multihop-0-train-{i}", i < 100, question=f"Who ran {i}?") for i in range(300)]
    Path("outputs/collected").mkdir(parents=True)
    native.write(Path("outputs/collected/own.jsonl"), own)
    theirs = [{"method": method, "seed": seed} for method in ("positive_only", "nat") for seed in (0, 1)]
    counts = {"positive_only": {"positives": 5, "negatives": 0}, "nat": {"positives": 5, "negatives": 10}}
    answers = [
        {
            "run": f"{run['method']}-{run['seed']}",
            **run,
            **counts[run["method"]],
            "question": f"Is {i} odd?",
            "success": i % 3 > 0,
        }
        for run in theirs
        for i in range(9)
    ]
    _write_lines("theirs.jsonl", answers)
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


# ---- the commands ----


def configurations(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Iterator[Config]:
    """The checked configurations that a command line asks for; nothing is run."""
    if arguments[0] == "train" and "--cfg" not in arguments:
        request = parse(arguments[1:])
        planned = composition.plan(request.overrides, request.multirun, request.config_dir)
        yield from (cell.config for cell in planned.cells)
        return
    shown = [] if "--cfg" in arguments else ["--cfg=job"]
    assert cli.run([*arguments, *shown]) == 0, capsys.readouterr().err
    yield load(yaml.safe_load(capsys.readouterr().out), arguments[1:], inputs=False)


@pytest.mark.parametrize("command", [c for c in NAT if not c.startswith("nat dashboard") and "--help" not in c])
def test_a_command_composes(command, files_of_the_manual, capsys):
    Path("outputs/runs/NAME/model/conf").mkdir(parents=True)
    Path("outputs/runs/NAME/model/config.json").write_text("{}")
    shutil.copytree("outputs/runs/NAME", "outputs/runs/first")
    arguments = shlex.split(command)[1:]
    assert list(configurations(arguments, capsys))


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in NAT if "--cfg" not in command])  # those ran above
def test_a_command_runs(command, files_of_the_manual, request, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    arguments = shlex.split(command)[1:]
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
        assert {path.name for path in Path("outputs/audit").iterdir()} == first_words(
            "docs/trajectories.md", "## Audit"
        )
        return
    if "--help" in arguments:
        assert cli.run(arguments) == 0
        assert "trajectories" in capsys.readouterr().out
        return
    # One training seed of three, the first and the last ratio, in place of the printed or the experiment's own ones.
    arguments = ["seed=0" if argument == "seed=0,1,2" else argument for argument in arguments]
    arguments = [re.sub(r"^(mixing.ratio=[^,]+),.*,", r"\1,", argument) for argument in arguments]
    if "experiment=self_improvement" in arguments:
        arguments = [*arguments, "seed=0"]
    # They come after a run or a sweep.
    if arguments[0] in ("report", "evaluate") and not arguments[1].endswith(".jsonl"):
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


def _unlisted(folder: Path, listed: set[str]) -> set[str]:
    """Files of a folder that no name of a table stands for; a word in capitals is whatever it names."""
    patterns = [re.sub("[A-Z]{2,}", "*", name.rstrip("/")) for name in listed]
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return {name for name in names if not any(fnmatch(name, pattern) for pattern in patterns)}


@pytest.mark.slow
def test_the_files_of_a_run_are_those_of_the_manual(outputs_of_a_run):
    listed = first_words("docs/sweeps.md", "## One run")
    run = outputs_of_a_run / "runs" / "NAME"
    assert _unlisted(run, listed) == set()
    always = {
        "config.yaml",
        "manifest.json",
        "metrics.jsonl",
        "rollouts.jsonl",
        "outcomes.csv",
        "results.json",
        "model/",
    }
    assert always <= listed
    assert all((run / name).exists() for name in always)
    described = first_words("docs/models.md", "## A saved model")
    assert described == {"README.md", "inference.json", "nat.json", "conf/"}
    assert all((run / "model" / name).exists() for name in described)


@pytest.mark.slow
def test_the_files_of_a_report_are_those_of_the_manual(outputs_of_a_sweep):
    sweep = outputs_of_a_sweep / "sweeps" / "demo"
    listed = first_words("docs/sweeps.md", "## The report")
    files = {name for name in listed if "." in name}
    assert listed - files <= set(found_pictures())
    pictures = {f"{name}{suffix}" for name in found_pictures() for suffix in (".png", ".svg")}
    cells = {path.name for path in sweep.iterdir() if path.is_dir()}
    assert _unlisted(sweep, files | pictures | cells) == {"sweep.json"}
    assert all((sweep / name).exists() for name in files)


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
