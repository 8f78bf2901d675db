from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from nat.reporting import dashboard
from nat.runs.directory import write_results
from nat.runs.results import Coordinates, Results
from nat.tracking import WandbTracking, track
from nat.types import RequestError, StageError
from tests.sweeps_for_tests import passed

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("wandb_workspaces") is None,
    reason=f"the extra `dashboard` is not installed: {dashboard.INSTALL}",
)
CONFIG = {
    "seed": 0,
    "mixing": {"ratio": "1:2"},
    "strategy": {"name": "suffix", "classes": [{"name": "correct"}, {"name": "incorrect"}]},
    "tracking": {"kind": "wandb", "project": "agents", "entity": "us", "group": None},
    "sweep": {"name": "ratio_sweep"},
}
COORDINATES = Coordinates(
    method="nat",
    environment="arithmetic",
    strategy="suffix",
    ratio="1:2",
    positives=20,
    negatives=40,
    seed=0,
    model="tiny",
    split="test",
    manifest="abc",
)
RESULTS = Results(
    status="completed",
    tracking_id="0123456789abcdef-11111111",
    coordinates=COORDINATES,
    passes=(passed(0.5, mean_score=0.625, failures={"wrong_answer": 3}), passed(0.25, "validation")),
    steps=20,
    timing={"training": 12.5},
)


@pytest.fixture(autouse=True)
def logged_out(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))


def make_cell(directory: Path, config=None, method: str = "nat", **results) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.merge(CONFIG, config or {})))
    place = replace(COORDINATES, method=method)
    write_results(directory, replace(RESULTS, coordinates=place, **results))
    return directory


@pytest.fixture
def sweep(tmp_path) -> Path:
    make_cell(tmp_path / "sweep" / "method=nat,ratio=1to2-a1")
    make_cell(
        tmp_path / "sweep" / "method=nut,ratio=1to2-b2",
        {"strategy": {"name": "none"}},
        tracking_id="fedcba9876543210-11111111",
        method="nut",
    )
    return tmp_path / "sweep"


def specification(sweep) -> dict:
    return json.loads((sweep / "dashboard.json").read_text())


def workspace_panels(document) -> list[dict]:
    bank = document["workspace"]["section"]["panelBankConfig"]
    return [panel for section in bank["sections"] for panel in section["panels"]]


def page_panels(document) -> list[dict]:
    grids = [block for block in document["page"]["blocks"] if block["type"] == "panel-grid"]
    return [panel for grid in grids for panel in grid["metadata"]["panelBankSectionConfig"]["panels"]]


@needs_package
def test_sections_are_those_of_the_report_and_filtered_to_the_sweep(sweep):
    assert dashboard.write(sweep, save=False) == f"written to {sweep}/dashboard.json"
    document = specification(sweep)
    assert (document["project"], document["entity"], document["group"]) == ("agents", "us", "ratio_sweep")
    names = [
        "Success against the number of negatives",
        "Methods",
        "Conditioning texts",
        "Failures",
        "Loss",
        "Cost",
        "Roll-outs",
    ]
    section = document["workspace"]["section"]
    assert [part["name"] for part in section["panelBankConfig"]["sections"]] == names
    headings = [b["children"][0]["text"] for b in document["page"]["blocks"] if b["type"] == "heading"]
    assert headings == names

    only_the_group = [
        {"key": {"section": "run", "name": "group"}, "op": "=", "value": "ratio_sweep", "disabled": False}
    ]
    (run_set,) = section["runSets"]
    assert run_set["filters"]["filters"] == only_the_group
    grids = [block["metadata"] for block in document["page"]["blocks"] if block["type"] == "panel-grid"]
    assert all(grid["runSets"][0]["filters"]["filters"] == only_the_group for grid in grids)
    colours = {"0123456789abcdef-11111111": "#0072B2", "fedcba9876543210-11111111": "#D55E00"}  # as in the pictures
    assert section["customRunColors"] == colours
    assert section["settings"]["maxRuns"] == 500


@needs_package
def test_axes_and_groups_of_the_panels(sweep):
    dashboard.write(sweep, save=False)
    panels = [(panel["viewType"], panel["config"]) for panel in workspace_panels(specification(sweep))]
    points = [(c["xAxis"], c["yAxis"]) for kind, c in panels if kind == "Scatter Plot"]
    assert points == [
        ("config:nat.value.selected.negatives", "summary:success_rate"),
        ("config:nat.value.mixing.negatives_per_positive", "summary:success_rate"),
        ("config:nat.value.selected.negatives", "summary:validation.success_rate"),
        ("summary:training_step", "summary:success_rate"),
        ("summary:tokens", "summary:success_rate"),
        ("summary:timing.training", "summary:success_rate"),
    ]
    bars = [(c["metrics"][0], c["groupBy"], c["groupAgg"]) for kind, c in panels if kind == "Bar Chart"]
    assert bars == [
        ("success_rate", "jobType", "mean"),
        ("mean_score", "jobType", "mean"),
        ("success_rate", "nat.value.strategy.name", "mean"),
        ("failures.wrong_answer", "jobType", "mean"),
    ]
    curves = [(c["xAxis"], c["metrics"], c["groupBy"]) for kind, c in panels if kind == "Run History Line Plot"]
    assert curves == [
        ("training_step", ["loss"], "jobType"),
        ("training_step", ["loss/correct"], "jobType"),
        ("training_step", ["loss/incorrect"], "jobType"),
    ]
    assert [kind for kind, _ in panels][-1] == "Weave"


@pytest.mark.slow
@needs_package
def test_panels_name_only_what_tracking_logs(sweep, tmp_path):
    config = WandbTracking(kind="wandb", mode="offline", project="agents", entity=None, group=None, tags=[], rollouts=5)
    arguments = {"group": "ratio_sweep", "job_type": "nat", "name": "cell", "negatives_per_positive": 2.0}
    selected = {"positives": 50, "negatives": 100}
    with track(config, tmp_path / "run", CONFIG, selected=selected, **arguments) as tracker:
        tracker.log({"loss": 1.0, "loss/correct": 0.5, "loss/incorrect": 1.5, "tokens": 100}, step=10)
        tracker.summary(RESULTS)
        tracker.rollouts([{"question": "2 + 3?", "success": True}])
    (run,) = (tmp_path / "run" / "wandb").glob("offline-run-*")

    def inspect(*options):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", *options, "--json", str(run)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    logged = json.loads(inspect("--summary"))
    records = [json.loads(line) for line in inspect().splitlines()]
    history = {key for record in records if "history" in record for key in record["history"]["item"]}

    def number_at(tree, keys):
        for key in keys:
            tree = tree[key]
        assert isinstance(tree, int | float), keys

    dashboard.write(sweep, save=False)
    document = specification(sweep)
    assert len(workspace_panels(document)) == len(page_panels(document)) == 14
    for panel in [*workspace_panels(document), *page_panels(document)]:
        settings = panel["config"]
        for axis in (settings.get("xAxis", ""), settings.get("yAxis", "")):
            section, _, key = axis.partition(":")
            if section == "config":
                top, value, *rest = key.split(".")
                assert value == "value"  # where W&B's server keeps a value of the configuration
                number_at(logged["config"], [top, *rest])
            elif section == "summary":
                number_at(logged["summary"], key.split("."))
        assert set(settings.get("metrics", [])) <= history
        if panel["viewType"] == "Run History Line Plot":
            assert settings["xAxis"] in history
        if panel["viewType"] == "Weave":
            key = settings["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"]
            assert logged["summary"][key]["_type"] == "table-file"
    assert logged["config"]["nat"]["strategy"]["name"] == "suffix"
    run_record = next(record["run"] for record in records if record["type"] == "run")
    assert (run_record["run_group"], run_record["job_type"]) == ("ratio_sweep", "nat")


def without_empty(value):
    """Reading back fills in some empty lists."""
    if isinstance(value, dict):
        return {key: without_empty(inner) for key, inner in value.items() if inner != []}
    return [without_empty(inner) for inner in value] if isinstance(value, list) else value


@needs_package
def test_specifications_can_be_read_back(sweep):
    from wandb_workspaces.reports.v2.internal import Spec
    from wandb_workspaces.workspaces.internal import WorkspaceViewspec

    dashboard.write(sweep, save=False)
    document = specification(sweep)
    for kind, key in ((WorkspaceViewspec, "workspace"), (Spec, "page")):
        again = json.loads(kind.model_validate(document[key]).model_dump_json(by_alias=True, exclude_none=True))
        assert without_empty(again) == without_empty(document[key])


@needs_package
def test_verdict_of_the_report_stands_on_the_page(sweep):
    dashboard.write(sweep, save=False)
    blocks = [block for block in specification(sweep)["page"]["blocks"] if block["type"] == "markdown-block"]
    assert [block["content"] for block in blocks] == [
        "No verdict yet: `nat report` writes it into the sweep's report.md."
    ]
    (sweep / "report.md").write_text("# ratio_sweep\n\n## Verdict\n\nUse them: **yes**.\n\n## Methods\n\nmore\n")
    dashboard.write(sweep, save=False)
    blocks = [block for block in specification(sweep)["page"]["blocks"] if block["type"] == "markdown-block"]
    assert [block["content"] for block in blocks] == ["## Verdict\n\nUse them: **yes**."]


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ("# demo\n\nUse them.\n\n| method |\n|---|\n", "Use them."),
        ("# demo\n\nUse them.\n![rates](a.svg)\n", "Use them."),
        ("# demo\n\nUse them.\n\n- leak\n\n## A\na\n## B\nb", "Use them.\n\n- leak\n\n## A\na"),
        ("", ""),
    ],
)
def test_words_taken_from_a_report(tmp_path, report, words):
    (tmp_path / "report.md").write_text(report)
    assert dashboard.verdict(tmp_path) == words


def test_sweep_is_read_from_the_files_of_its_cells(sweep):
    make_cell(sweep / "graded", {"strategy": {"name": "graded", "classes": [{"name": "low"}, {"name": "correct"}]}})
    (sweep / "cut").mkdir()
    (sweep / "cut" / "results.json").write_text('{"status": "running"')
    make_cell(sweep / "elsewhere", {"tracking": {"kind": "none", "project": "nat"}})
    assert dashboard.read_sweep(sweep) == dashboard.Sweep(
        project="agents",
        entity="us",
        group="ratio_sweep",
        classes=("low", "correct", "incorrect"),
        strategies=("graded", "suffix", "none"),
        has_validation=True,
        methods={"0123456789abcdef-11111111": "nat", "fedcba9876543210-11111111": "nut"},
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sweep": {"name": "other"}}, "runs of several sweeps (agents/other, agents/ratio_sweep); give one sweep's"),
        ({"tracking": {"project": "b"}}, "runs of several sweeps (agents/ratio_sweep, b/ratio_sweep)"),
    ],
)
def test_runs_of_several_sweeps_are_refused(sweep, config, message):
    make_cell(sweep / "third", config)
    with pytest.raises(RequestError) as error:
        dashboard.read_sweep(sweep)
    assert message in str(error.value)


def test_group_of_the_tracking_configuration_wins(tmp_path):
    make_cell(tmp_path / "cell", {"tracking": {"group": "mine"}})
    assert dashboard.read_sweep(tmp_path).group == "mine"


def test_nothing_tracked_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"it holds no run; nothing is in W&B to show"):
        dashboard.read_sweep(tmp_path)
    make_cell(tmp_path / "cell", {"tracking": {"kind": "none"}})
    with pytest.raises(RequestError, match=r"its 1 runs were made with tracking=none"):
        dashboard.read_sweep(tmp_path)
    with pytest.raises(RequestError, match=r"no such directory"):
        dashboard.read_sweep(tmp_path / "absent")


def test_group_that_a_filter_cannot_name_is_refused(tmp_path):
    make_cell(tmp_path / "cell", {"sweep": {"name": "lr=0.1"}})
    with pytest.raises(RequestError, match=r"cannot filter by the group 'lr=0.1'"):
        dashboard.read_sweep(tmp_path)


def test_missing_package_names_the_extra(sweep, monkeypatch):
    for name in ("wandb_workspaces", "wandb_workspaces.workspaces", "wandb_workspaces.reports.v2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RequestError) as error:
        dashboard.write(sweep)
    assert str(error.value).endswith("pip install 'negative-aware-training[dashboard]'")
    assert "\n" not in str(error.value)


@needs_package
def test_not_logged_in_is_one_line_and_the_specification_is_kept(sweep):
    with pytest.raises(RequestError) as error:
        dashboard.write(sweep)
    assert str(error.value).startswith("nat dashboard: not logged in to W&B (`wandb login`, or WANDB_API_KEY)")
    assert "\n" not in str(error.value)
    assert specification(sweep)["group"] == "ratio_sweep"


class Server:
    """W&B's views, in memory: what the package sends to be saved, and gives back when asked."""

    def __init__(self) -> None:
        self.views: dict[str, dict] = {}

    def execute(self, api, query, variables):
        if "upsertView" in query:
            id = variables.get("id") or f"Vmlldzo{len(self.views)}"
            view = {"id": id, "name": variables["name"], "displayName": variables["displayName"]}
            view |= {"spec": variables["spec"], "project": {"name": "agents", "entityName": variables["entityName"]}}
            self.views[id] = view
            return {"upsertView": {"view": view, "inserted": True}}
        if "allViews" in query:
            nodes = [{"node": view} for view in self.views.values() if view["name"] == variables["viewName"]]
            return {"project": {"allViews": {"edges": nodes}}}
        raise AssertionError(query)


@pytest.fixture
def server(monkeypatch):
    import wandb

    served = Server()
    for module in ("wandb_workspaces.workspaces.internal", "wandb_workspaces.reports.v2.interface"):
        monkeypatch.setattr(f"{module}.execute_graphql", served.execute)
    api = SimpleNamespace(
        client=SimpleNamespace(app_url="https://wandb.example"),
        default_entity="me",
        projects=lambda entity: [SimpleNamespace(name="agents")],
    )
    monkeypatch.setattr(wandb, "Api", lambda: api)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    return served


@needs_package
def test_second_call_updates_what_the_first_one_saved(sweep, server):
    said = dashboard.write(sweep)
    first = specification(sweep)
    workspace = f"https://wandb.example/us/agents?nw={first['workspace_url'].partition('?nw=')[2]}"
    page = f"https://wandb.example/us/agents/reports/nat:-ratio_sweep--{first['page_id']}"
    assert said == f"workspace {workspace}\nreport    {page}"
    assert sorted(view["displayName"] for view in server.views.values()) == ["nat: ratio_sweep"] * 2

    make_cell(sweep / "third", tracking_id="third-11111111", method="positive_only")
    (sweep / "report.md").write_text("# ratio_sweep\n\nUse them.\n")
    assert dashboard.write(sweep) == said
    assert len(server.views) == 2
    specs = {view["id"]: json.loads(view["spec"]) for view in server.views.values()}
    page_spec = specs.pop(first["page_id"])
    (workspace_spec,) = specs.values()
    assert workspace_spec["section"]["customRunColors"]["third-11111111"] == "#CC79A7"
    assert page_spec["blocks"][1]["content"] == "Use them."


@needs_package
def test_workspace_that_was_deleted_is_made_again(sweep, server):
    dashboard.write(sweep)
    page_id = specification(sweep)["page_id"]
    for id in [id for id in server.views if id != page_id]:
        del server.views[id]
    dashboard.write(sweep)
    assert len(server.views) == 2


@needs_package
def test_other_sweep_in_the_same_directory_is_not_written_over(sweep, server):
    dashboard.write(sweep)
    for path in sweep.glob("*/config.yaml"):
        path.write_text(path.read_text().replace("ratio_sweep", "again"))
    dashboard.write(sweep)
    assert sorted(view["displayName"] for view in server.views.values()) == [
        "nat: again",
        "nat: again",
        "nat: ratio_sweep",
        "nat: ratio_sweep",
    ]


@needs_package
def test_default_entity_is_asked_for(tmp_path, server):
    make_cell(tmp_path / "sweep" / "cell", {"tracking": {"entity": None}})
    dashboard.write(tmp_path / "sweep")
    assert specification(tmp_path / "sweep")["entity"] == "me"


@needs_package
def test_server_that_refuses_is_one_line(sweep, server, monkeypatch):
    def refuse(*_):
        raise ConnectionError("no\nroute")

    monkeypatch.setattr("wandb_workspaces.reports.v2.interface.execute_graphql", refuse)
    with pytest.raises(StageError) as error:
        dashboard.write(sweep)
    assert str(error.value) == "nat dashboard: W&B did not save it (ConnectionError: no route)"
