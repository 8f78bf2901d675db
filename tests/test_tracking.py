from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import wandb

from nat import tracking
from nat.runs.results import Results
from nat.tracking import NoTracking, Tracker, WandbTracking, summary_of, track, tracking_id, wandb_mode
from tests.sweeps_for_tests import passed

ROOT = Path(__file__).parent.parent
RESULTS = Results(status="completed", passes=(passed(0.46, ci95=(0.4, 0.5), failures={"wrong_answer": 7}),))

OFFLINE = WandbTracking(kind="wandb", mode="offline", project="nat", entity=None, group=None, tags=["mine"], rollouts=5)
NONE = NoTracking(kind="none")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    monkeypatch.setattr(tracking, "_unreachable", set())
    for name in ("WANDB_MODE", "WANDB_DISABLED", "WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))


def tracked(config, directory, **keywords):
    arguments = {"group": "my_sweep", "job_type": "nat", "name": "cell", "negatives_per_positive": 2.0}
    arguments["selected"] = {"positives": 50, "negatives": 100}
    return track(config, directory, {"seed": 3, "mixing": {"ratio": "1:2"}}, **{**arguments, **keywords})


def inspect(directory, *options):
    (run,) = (directory / "wandb").glob("offline-run-*")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", *options, "--json", str(run)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def metrics(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_offline_run_reads_back_with_config_group_class_losses_and_summary(tmp_path, capfd):
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"hash": "abc"}')
    with tracked(OFFLINE, tmp_path, tags=("nat",)) as tracker:
        tracker.log({"loss": 1.5, "loss/correct": 1.0, "loss/incorrect": 2.0, "token_accuracy": 0.5}, step=10)
        tracker.log({"loss": 0.5, "loss/correct": 0.25, "loss/incorrect": 0.75, "token_accuracy": 0.75}, step=20)
        tracker.summary(RESULTS)
        tracker.rollouts([{"question": "2 + 3?", "success": True, "turns": ["a", "b"]}])
        tracker.artifact(manifest, "manifest")
    out, err = capfd.readouterr()
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == ["W&B offline run"]

    summary = json.loads(inspect(tmp_path, "--summary"))
    assert summary["config"] == {
        "nat": {
            "seed": 3,
            "method": "nat",
            "mixing": {"ratio": "1:2", "negatives_per_positive": 2},
            "selected": {"positives": 50, "negatives": 100},
        }
    }
    assert summary["state"] == "finished"
    assert summary["name"] == "cell"
    assert summary["tags"] == ["mine", "nat"]
    values = summary["summary"]
    assert values["success_rate"] == 0.46
    assert values["ci95"] == [0.4, 0.5]
    assert values["failures"] == {
        "wrong_answer": 7,
        "abstained": 0,
        "unparsed_action": 0,
        "tool_error": 0,
        "out_of_turns": 0,
        "no_answer": 0,
        "infrastructure": 0,
    }
    assert values["loss/incorrect"] == {"min": 0.75, "last": 0.75}
    assert values["token_accuracy"] == {"max": 0.75, "last": 0.75}
    assert values["rollouts"]["nrows"] == 1

    records = [json.loads(line) for line in inspect(tmp_path).splitlines()]
    run = next(record["run"] for record in records if record["type"] == "run")
    assert (run["run_group"], run["job_type"], run["project"]) == ("my_sweep", "nat", "nat")
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert [(item["training_step"], item["loss/correct"]) for item in history[:2]] == [(10, 1.0), (20, 0.25)]
    assert history[2]["success_rate"] == 0.46  # bar charts offer what was logged
    assert history[2]["failures.wrong_answer"] == 7
    defined = {record["metric"]["name"]: record["metric"] for record in records if "metric" in record}
    assert {name for name, metric in defined.items() if metric.get("step_metric") == "training_step"} == {
        *("loss", "loss/correct", "loss/incorrect", "token_accuracy")
    }
    assert any(record["type"] == "artifact" and record["artifact"]["type"] == "manifest" for record in records)


def test_exception_marks_the_run_failed_and_goes_on_its_way(tmp_path):
    with pytest.raises(ZeroDivisionError), tracked(OFFLINE, tmp_path) as tracker:
        tracker.log({"loss": 1.0}, step=1)
        raise ZeroDivisionError
    assert json.loads(inspect(tmp_path, "--summary"))["exit_code"] == 1
    assert wandb.run is None


def test_two_runs_in_one_process_do_not_mix(tmp_path):
    for name, loss in (("a", 1.0), ("b", 2.0)):
        with tracked(OFFLINE, tmp_path / name, name=name) as tracker:
            tracker.log({"loss": loss}, step=1)
    for name, loss in (("a", 1.0), ("b", 2.0)):
        summary = json.loads(inspect(tmp_path / name, "--summary"))
        assert (summary["name"], summary["summary"]["loss"]["last"]) == (name, loss)


def test_given_run_id_and_group_of_the_config_are_used(tmp_path):
    config = WandbTracking(kind="wandb", mode="offline", project="nat", entity=None, group="mine", tags=[], rollouts=0)
    with tracked(config, tmp_path, run_id="stable123"):
        pass
    assert json.loads(inspect(tmp_path, "--summary"))["run_id"] == "stable123"
    run = next(json.loads(line)["run"] for line in inspect(tmp_path).splitlines() if '"type":"run"' in line)
    assert run["run_group"] == "mine"


def test_the_summary_of_a_run_has_the_names_that_dashboards_ask_for():
    found = Results(
        status="completed",
        steps=20,
        training={"loss": 0.5},
        passes=(
            passed(0.5, failures={"wrong_answer": 2}),
            passed(0.75, "validation"),
            passed(0.25, "also_as", asked_for="incorrect"),
            passed(0.125, "also_at", temperature=0.7),
            passed(0.0, "also_in", environment="larger"),
        ),
        timing={"training": 12.5},
    )
    summary = summary_of(found)
    few = {"ci95": [0.0, 1.0], "n_questions": 4}
    assert summary["success_rate"] == 0.5 and summary["n_questions"] == 4 and summary["mean_turns"] == 3.0
    assert summary["failures"]["wrong_answer"] == 2 and summary["failures"]["no_answer"] == 0
    assert summary["validation"] == {"success_rate": 0.75, "mean_score": 0.75, **few}
    assert (summary["success_rate_as_incorrect"], summary["success_rate_at_0.7"]) == (0.25, 0.125)
    assert summary["also_in"] == {"larger": {"success_rate": 0.0, "mean_score": 0.0, **few}}
    assert (summary["steps"], summary["timing"]) == (20, {"training": 12.5})
    assert "training" not in summary  # logged step by step
    assert "failures" not in summary_of(Results(status="completed"))  # nothing was asked


def test_without_wandb_only_the_metrics_file_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it would fail
    with tracked(NONE, tmp_path) as tracker:
        tracker.log({"loss": 1.0}, step=1)
        tracker.summary(RESULTS)
        tracker.rollouts([{"a": 1}])
        tracker.artifact(tmp_path / "metrics.jsonl", "x")
    assert metrics(tmp_path) == [{"step": 1, "loss": 1.0}]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["metrics.jsonl"]


def test_wandb_that_is_not_installed_is_one_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with tracked(OFFLINE, tmp_path) as tracker:
        tracker.log({"loss": 1.0}, step=1)
    assert metrics(tmp_path) == [{"step": 1, "loss": 1.0}]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: tracking: W&B init failed (") and line.endswith("the run goes on")


def test_wandb_that_fails_to_start_is_one_warning(tmp_path, monkeypatch, capsys):
    def broken(**_):
        raise RuntimeError("no\nservice")

    monkeypatch.setattr(wandb, "init", broken)
    with tracked(OFFLINE, tmp_path) as tracker:
        tracker.log({"loss": 1.0}, step=1)
    assert capsys.readouterr().err.splitlines() == [
        "warning: tracking: W&B init failed (RuntimeError: no service); the run goes on"
    ]


class BrokenRun:
    id = "broken"

    error: Exception = RuntimeError("broken")

    def __getattr__(self, name):
        raise self.error


def test_wandb_that_breaks_on_the_way_warns_once_for_each_kind_and_never_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nat.tracking._init_wandb", lambda *_: BrokenRun())
    with tracked(OFFLINE, tmp_path) as tracker:
        tracker.log({"loss": 1.0}, step=1)
        tracker.log({"loss": 0.5}, step=2)
        tracker.summary(RESULTS)
        tracker.rollouts([{"a": 1}])
        tracker.artifact(tmp_path / "metrics.jsonl", "x")
    assert [line["loss"] for line in metrics(tmp_path)] == [1.0, 0.5]
    warned = [line.split(" failed")[0] for line in capsys.readouterr().err.splitlines()]
    assert warned == [
        "warning: tracking: W&B log",
        "warning: tracking: W&B summary",
        "warning: tracking: W&B rollouts",
        "warning: tracking: W&B artifact",
        "warning: tracking: W&B finish",
    ]


def test_the_process_beside_ours_that_has_ended_is_one_warning(tmp_path, monkeypatch, capsys):
    class Gone(BrokenRun):
        error = ConnectionResetError("lost")

    monkeypatch.setattr("nat.tracking._init_wandb", lambda *_: Gone())
    with tracked(OFFLINE, tmp_path) as tracker:
        tracker.log({"loss": 1.0}, step=1)
        tracker.log({"loss": 0.5}, step=2)
        tracker.summary(RESULTS)
    assert [line["loss"] for line in metrics(tmp_path)] == [1.0, 0.5]
    assert capsys.readouterr().err.splitlines() == [
        "warning: tracking: W&B log failed (ConnectionResetError: lost); the run goes on"
    ]


def test_waiting_for_the_server_is_bounded(tmp_path, monkeypatch):
    asked = {}

    def init(**arguments):
        asked.update(arguments)
        raise RuntimeError("enough")

    monkeypatch.setattr(wandb, "init", init)
    with tracked(OFFLINE, tmp_path):
        pass
    settings = asked["settings"]
    assert (settings.init_timeout, settings.finish_timeout, settings.finish_timeout_raises) == (30, 60, True)


def run_cells(directory, mode, seconds, during="", **environment):
    """Two tracked cells in one process of their own, with `seconds` to start; returns what they said on stderr.

    WANDB_SERVICE would lead them to the process that another test's wandb runs beside this one.
    """
    program = f"""
import sys
from pathlib import Path
from nat import tracking
from nat.runs.results import Results
from tests.sweeps_for_tests import passed
tracking.START_SECONDS = {seconds}
config = tracking.WandbTracking(
    kind="wandb", mode="{mode}", project="nat", entity="me", group=None, tags=[], rollouts=5
)
for name in ("a", "b"):
    with tracking.track(
        config, Path(sys.argv[1]) / name, {{}}, group="g", job_type="nat", name=name, run_id="cell-" + name
    ) as tracker:
        tracker.log({{"loss": 1.0}}, step=10)
        {during}
        tracker.log({{"loss": 0.5}}, step=20)
        tracker.summary(Results(status="completed", passes=(passed(0.5),)))
        tracker.rollouts([{{"question": "2 + 3?"}}])
"""
    process = subprocess.run(
        [sys.executable, "-c", program, str(directory)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={name: value for name, value in {**os.environ, **environment}.items() if name != "WANDB_SERVICE"},
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout == ""
    for name in ("a", "b"):
        assert [line["step"] for line in metrics(directory / name)] == [10, 20]
    return process.stderr.splitlines()


@pytest.mark.slow
def test_server_that_is_not_there_is_waited_for_once_and_the_runs_are_kept_offline(tmp_path):
    said = run_cells(tmp_path, "online", 5, WANDB_BASE_URL="http://127.0.0.1:9", WANDB_API_KEY="k" * 40)
    assert [line.split(" (")[0].split(": /")[0] for line in said] == [
        "warning: tracking: W&B init failed",
        "W&B offline run",
        "W&B offline run",
    ]
    assert said[0].endswith(f"kept offline, to be sent by: wandb sync {tmp_path}/a/wandb/offline-run-*")
    for name in ("a", "b"):
        summary = json.loads(inspect(tmp_path / name, "--summary"))
        assert (summary["run_id"], summary["state"]) == (f"cell-{name}", "finished")
        assert summary["summary"]["success_rate"] == 0.5


@pytest.mark.slow
def test_killed_process_beside_ours_costs_one_cell_its_tracking_and_nothing_else(tmp_path):
    kill = """
        if name == "a":
            import psutil
            for child in psutil.Process().children(recursive=True):
                child.kill()
                child.wait()
"""
    said = run_cells(tmp_path, "offline", 30, during=kill.strip())
    assert [line.split(" (")[0].split(": /")[0] for line in said] == [
        "W&B offline run",
        "warning: tracking: W&B log failed",
        "W&B offline run",
    ]
    assert json.loads(inspect(tmp_path / "b", "--summary"))["summary"]["success_rate"] == 0.5


@pytest.mark.slow
def test_whole_sweep_is_sent_by_one_command_and_what_was_sent_is_left_out(tmp_path):
    cells = [tmp_path / name for name in ("method=nat,ratio=1to2,seed=0-a1b2", "method=nut,ratio=1to2,seed=0-c3d4")]
    for cell in cells:
        with tracked(OFFLINE, cell, run_id=tracking_id("0123456789abcdef", cell.name)) as tracker:
            tracker.log({"loss": 1.0}, step=10)

    def dry_run():  # as in the README: wandb sync --dry-run outputs/sweeps/NAME/*/wandb/offline-run-*
        command = f"{sys.executable} -m wandb sync --dry-run ./*/wandb/offline-run-*"
        return subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, cwd=tmp_path)

    first = dry_run()
    assert first.returncode == 0, first.stderr
    lines = first.stderr.replace("wandb: ", "").splitlines()
    assert lines[0] == "Would sync 2 run(s):"
    files = [str(next(cell.glob("wandb/offline-run-*/*.wandb")).relative_to(tmp_path)) for cell in cells]
    assert [line.strip() for line in lines[1:]] == files

    (tmp_path / f"{files[0]}.synced").touch()  # what `wandb sync` leaves beside a run that it has sent
    second = dry_run().stderr.replace("wandb: ", "").splitlines()
    assert second[0].startswith("Skipped 1 synced run(s).")
    assert second[1] == "Would sync 1 run(s):"
    assert second[2].strip() == files[1]


@pytest.mark.slow
def test_cell_that_is_run_again_keeps_its_id_and_every_row(tmp_path):
    program = """
import sys
from pathlib import Path
from nat import tracking
config = tracking.WandbTracking(
    kind="wandb", mode="offline", project="nat", entity=None, group=None, tags=[], rollouts=5
)
directory, id = Path(sys.argv[1]), tracking.tracking_id("0123456789abcdef", "my_sweep")
with tracking.track(config, directory, {}, group="my_sweep", job_type="nat", name="cell", run_id=id) as tracker:
    tracker.rewind(int(sys.argv[2]))
    for step in range(int(sys.argv[2]) + 10, int(sys.argv[3]) + 10, 10):
        tracker.log({"loss": 1 / step}, step=step)
"""
    for first, last in ((0, 30), (10, 50)):  # stopped at 30, resumed from the checkpoint of 10
        command = [sys.executable, "-c", program, str(tmp_path), str(first), str(last)]
        subprocess.run(command, check=True, timeout=60, cwd=ROOT, capture_output=True)
    assert [line["step"] for line in metrics(tmp_path)] == [10, 20, 30, 40, 50]
    runs = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert [path.name.partition("-0123")[2] for path in runs] == ["456789abcdef-5249b8ad"] * 2
    steps = []
    for path in runs:
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        records = [json.loads(line) for line in out.splitlines()]
        steps.append([r["history"]["item"]["training_step"] for r in records if r["type"] == "history"])
    assert steps == [[10, 20, 30], [20, 30, 40, 50]]


def test_id_is_the_cell_s_and_the_group_s():
    # sha256("my_sweep") begins with 5249b8ad
    assert tracking_id("0123456789abcdef", "my_sweep") == "0123456789abcdef-5249b8ad"
    assert tracking_id("0123456789abcdef", None) == "0123456789abcdef"
    assert tracking_id("0123456789abcdef", "other") != tracking_id("0123456789abcdef", "my_sweep")
    assert tracking_id("0123456789abcdef", "a/b: c?") == "0123456789abcdef-ffa60210"


def test_broken_tracking_does_not_hide_the_run_s_own_error(tmp_path, monkeypatch):
    monkeypatch.setattr("nat.tracking._init_wandb", lambda *_: BrokenRun())
    with pytest.raises(ZeroDivisionError), tracked(OFFLINE, tmp_path):
        raise ZeroDivisionError


def test_metrics_file_that_cannot_be_written_is_a_warning(tmp_path, capsys):
    tracker = Tracker(tmp_path / "no such directory" / "metrics.jsonl")
    tracker.log({"loss": 1.0}, step=1)
    tracker.log({"loss": 1.0}, step=2)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_is_no_number_becomes_null(tmp_path):
    tracker = Tracker(tmp_path / "metrics.jsonl")
    tracker.log({"loss": float("nan"), "grad_norm": float("inf"), "tokens": 5}, step=1)
    assert metrics(tmp_path) == [{"step": 1, "loss": None, "grad_norm": None, "tokens": 5}]


def test_rewinding_forgets_later_lines_and_one_cut_short(tmp_path):
    tracker = Tracker(tmp_path / "metrics.jsonl")
    for step in (10, 20, 30):
        tracker.log({"loss": 1.0}, step=step)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')
    tracker.rewind(20)
    assert [line["step"] for line in metrics(tmp_path)] == [10, 20]
    tracker.rewind(0)
    assert metrics(tmp_path) == []


@pytest.mark.parametrize(
    ("environment", "mode", "expected"),
    [
        ({}, "auto", "offline"),
        ({"WANDB_API_KEY": "k" * 40}, "auto", "online"),
        ({"WANDB_API_KEY": "k" * 40}, "offline", "offline"),
        ({"WANDB_API_KEY": "k" * 40, "WANDB_MODE": "offline"}, "online", "offline"),
        ({"WANDB_MODE": "disabled"}, "online", "disabled"),
        ({"WANDB_DISABLED": "true"}, "online", "disabled"),
        ({"WANDB_MODE": "dryrun"}, "online", "offline"),
        ({}, "online", "online"),
    ],
)
def test_mode(monkeypatch, environment, mode, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wandb_mode(mode) == expected


def test_login_in_netrc_makes_auto_online(monkeypatch, tmp_path):
    path = tmp_path / "netrc"
    path.write_text("machine api.wandb.ai login user password " + "k" * 40)
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    assert wandb_mode("auto") == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080/")
    assert wandb_mode("auto") == "offline"
