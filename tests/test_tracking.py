from __future__ import annotations

import json
import subprocess
import sys

import pytest
import wandb

from nat.tracking import Tracker, TrackingConfig, track, wandb_mode

OFFLINE = TrackingConfig(
    kind="wandb", mode="offline", project="nat", entity=None, group=None, tags=["mine"], rollouts=5
)
NONE = TrackingConfig(kind="none", mode="auto", project="nat", entity=None, group=None, tags=[], rollouts=0)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_DISABLED", "WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))


def tracked(config, directory, **keywords):
    arguments = {"group": "my_sweep", "job_type": "nat", "name": "cell", "negatives_per_positive": 2.0}
    return track(config, directory, {"seed": 3, "mixing": {"ratio": "1:2"}}, **{**arguments, **keywords})


def inspect(directory, *options):
    (run,) = (directory / "wandb").glob("offline-run-*")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", *options, "--json", str(run)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def metrics(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_offline_run_reads_back_with_config_group_class_losses_and_summary(tmp_path, capfd):
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"hash": "abc"}')
    with tracked(OFFLINE, tmp_path, tags=("nat",)) as tracker:
        tracker.log({"loss": 1.5, "loss/correct": 1.0, "loss/incorrect": 2.0, "token_accuracy": 0.5}, step=10)
        tracker.log({"loss": 0.5, "loss/correct": 0.25, "loss/incorrect": 0.75, "token_accuracy": 0.75}, step=20)
        tracker.summary({"success_rate": 0.46, "ci95": [0.4, 0.5], "failures": {"wrong_answer": 7}})
        tracker.rollouts([{"question": "2 + 3?", "success": True, "turns": ["a", "b"]}])
        tracker.artifact(manifest, "manifest")
    out, err = capfd.readouterr()
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == ["W&B offline run"]

    summary = json.loads(inspect(tmp_path, "--summary"))
    assert summary["config"] == {"nat": {"seed": 3, "mixing": {"ratio": "1:2", "negatives_per_positive": 2}}}
    assert summary["state"] == "finished"
    assert summary["name"] == "cell"
    assert summary["tags"] == ["mine", "nat"]
    values = summary["summary"]
    assert values["success_rate"] == 0.46
    assert values["failures.wrong_answer"] == 7
    assert values["loss/incorrect"] == {"min": 0.75, "last": 0.75}
    assert values["token_accuracy"] == {"max": 0.75, "last": 0.75}
    assert values["rollouts"]["nrows"] == 1

    records = [json.loads(line) for line in inspect(tmp_path).splitlines()]
    run = next(record["run"] for record in records if record["type"] == "run")
    assert (run["run_group"], run["job_type"], run["project"]) == ("my_sweep", "nat", "nat")
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert [(item["_step"], item["loss/correct"]) for item in history] == [(10, 1.0), (20, 0.25)]
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
    config = TrackingConfig(kind="wandb", mode="offline", project="nat", entity=None, group="mine", tags=[], rollouts=0)
    with tracked(config, tmp_path, run_id="stable123"):
        pass
    assert json.loads(inspect(tmp_path, "--summary"))["run_id"] == "stable123"
    run = next(json.loads(line)["run"] for line in inspect(tmp_path).splitlines() if '"type":"run"' in line)
    assert run["run_group"] == "mine"


def test_without_wandb_only_the_metrics_file_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it would fail
    with tracked(NONE, tmp_path) as tracker:
        tracker.log({"loss": 1.0}, step=1)
        tracker.summary({"a": 1})
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

    def __getattr__(self, name):
        raise ConnectionError("gone")


def test_wandb_that_breaks_on_the_way_warns_once_for_each_kind_and_never_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nat.tracking._init_wandb", lambda *_: BrokenRun())
    with tracked(OFFLINE, tmp_path) as tracker:
        tracker.log({"loss": 1.0}, step=1)
        tracker.log({"loss": 0.5}, step=2)
        tracker.summary({"a": 1})
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
