"""Sweeps through the command line's own entry point: what is skipped, what runs again, what is said."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from nat import cli, tracking
from nat.core import questions as question_sets
from nat.reporting import write as writing
from nat.sweeps import cells, composition, sweep
from nat.trajectories.formats import native
from tests.conftest import make_trajectory

# The untrained model on a few questions: a cell of a second.
CELLS = ("method=base", "evaluation.n_questions=3", "evaluation.decoding.max_new_tokens=8", "tracking=none")
TRAINED = (
    *("mixing.positives=8", "trajectories.successes=8", "trajectories.failures=8", "training.max_steps=2"),
    *("evaluation.n_questions=3", "evaluation.decoding.max_new_tokens=8", "tracking=none", "sweep.name=s"),
)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def undrawn(monkeypatch) -> None:
    """A sweep ends with its report, whose pictures take longer than these cells; test_run.py has a sweep with them."""
    monkeypatch.setattr(writing.pictures, "draw", lambda *_: {})


def nat(*arguments: str) -> int:
    return cli.run(arguments)


def found(directory: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(directory.glob("*/results.json"))}


def finished(directory: Path) -> dict[str, int]:
    """When each completed cell was written: a cell that ran again has another time."""
    return {
        path.parent.name: path.stat().st_mtime_ns
        for path in directory.glob("*/results.json")
        if json.loads(path.read_text())["status"] == "completed"
    }


@pytest.mark.slow
def test_completed_cells_are_not_run_again_whatever_their_directory_is_called(here, capsys):
    assert nat("train", "-m", *CELLS, "seed=0,1", "sweep.name=s") == 0
    sweep_dir = here / "outputs/sweeps/s"
    first = finished(sweep_dir)
    assert len(first) == 2
    renamed = sweep_dir / "somebody_renamed_it"
    next(sweep_dir.glob("seed=0-*")).rename(renamed)
    assert nat("train", "-m", *CELLS, "seed=0,1,2", "sweep.name=s") == 0
    out = capsys.readouterr().out
    assert "3 cells below outputs/sweeps/s: 2 completed before, 1 to run" in out
    again = finished(sweep_dir)
    assert sorted(name.partition("-")[0] for name in again) == ["seed=1", "seed=2", "somebody_renamed_it"]
    assert sorted(again.values())[:2] == sorted(first.values())


@pytest.mark.slow
def test_the_same_name_over_other_content_is_another_cell_and_keeps_the_old_one(here):
    questions = here / "questions.jsonl"
    questions.write_text('{"question": "What is 1+1?", "answer": "2"}\n')
    arguments = (*CELLS, "environment=gsm8k", "trajectories=jsonl", "environment.questions=questions.jsonl")
    assert nat("train", "-m", *arguments, "seed=0", "sweep.name=s") == 0
    questions.write_text('{"question": "What is 1+2?", "answer": "3"}\n')
    assert nat("train", "-m", *arguments, "seed=0", "sweep.name=s") == 0
    assert len(finished(here / "outputs/sweeps/s")) == 2


@pytest.mark.slow
def test_failed_and_killed_cells_run_again(here, capsys):
    arguments = ("train", "-m", *CELLS, "seed=0,1,2", "sweep.name=s")
    assert nat(*arguments) == 0
    zero, one, two = sorted((here / "outputs/sweeps/s").glob("seed=*"))
    for directory, status in ((zero, "failed"), (one, "running")):
        results = json.loads((directory / "results.json").read_text())
        (directory / "results.json").write_text(json.dumps({**results, "status": status}))
    before = finished(here / "outputs/sweeps/s")
    assert list(before) == [two.name]
    capsys.readouterr()
    assert nat(*arguments) == 0
    assert "3 cells below outputs/sweeps/s: 1 completed before, 2 to run" in capsys.readouterr().out
    after = finished(here / "outputs/sweeps/s")
    assert len(after) == 3
    assert after[two.name] == before[two.name]


@pytest.mark.slow
def test_a_failing_cell_is_printed_as_it_happens_and_again_at_the_end(here, capsys):
    # An unknown optimiser is found when TRL is loaded, in the middle of a run.
    assert nat("train", "-m", "training.sft.optim=no_such_optimiser,adamw_torch", *TRAINED) == 1
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if "no_such_optimiser" in line and "optim=" in line]
    assert [line.partition(" ")[0] for line in lines] == ["failed", "failed:"]
    assert "Traceback (most recent call last)" not in captured.err
    assert "1 of 2 cells are not completed; the same command with sweep.name=s runs them again." in captured.out
    assert sorted(one["status"] for one in found(here / "outputs/sweeps/s").values()) == ["completed", "failed"]


@pytest.mark.slow
def test_a_cell_that_another_process_runs_is_left_to_it(here, capsys):
    arguments = ("train", "-m", *CELLS, "seed=0,1", "sweep.name=s")
    assert nat(*arguments) == 0
    zero = next((here / "outputs/sweeps/s").glob("seed=0-*"))
    results = json.loads((zero / "results.json").read_text())
    (zero / "results.json").write_text(json.dumps({**results, "status": "running"}))
    written = (zero / "results.json").stat().st_mtime_ns
    with cells.lock(zero) as is_ours:
        assert is_ours
        assert nat(*arguments) == 1
    assert (zero / "results.json").stat().st_mtime_ns == written
    assert f"running: {zero.name}" in capsys.readouterr().err


def test_one_directory_takes_one_process(here, capsys):
    (here / "r").mkdir()
    with cells.lock(here / "r") as is_ours:
        assert is_ours
        assert nat("train", *CELLS, "hydra.run.dir=r") == 2
    assert "another process is running there" in capsys.readouterr().err
    assert not (here / "r" / "results.json").exists()


def test_a_sweep_says_what_it_can_show_before_it_starts(here, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "launch", lambda *_: None)
    assert nat("train", "-m", "method=nut,nat", "seed=0,1,2", "evaluation.n_questions=400", "sweep.name=s") == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "6 cells below outputs/sweeps/s"
    assert "400 questions" in out[1]
    assert "2 points" in out[2]


def basic_launcher() -> type:
    """The class that Hydra will use: its search for plugins imports their modules anew."""
    from hydra.core.plugins import Plugins

    return Plugins.instance().class_name_to_class["hydra._internal.core_plugins.basic_launcher.BasicLauncher"]


def test_where_the_launcher_breaks_the_other_cells_get_another(here, capsys, monkeypatch):
    """A worker that is killed at its cell takes the launcher along; every killed cell has two attempts."""
    tried: list[list[str]] = []

    def launch(self, batches, initial_job_idx):
        names = [batch[-1].partition("=")[2].strip("'") for batch in batches]
        tried.append([name.partition("-")[0] for name in names])
        path = Path("outputs/sweeps/s") / names[0] / "results.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "status": "running"}))
        raise MemoryError("a worker was killed")

    monkeypatch.setattr(basic_launcher(), "launch", launch)
    assert nat("train", "-m", *CELLS, "seed=0,1", "sweep.name=s") == 1
    assert tried == [["seed=0", "seed=1"], ["seed=1", "seed=0"], ["seed=0", "seed=1"], ["seed=1"]]
    err = capsys.readouterr().err
    assert err.count("warning: the launcher ended early (MemoryError: a worker was killed)") == 4
    assert err.count("\nkilled: seed=") == 2


def test_a_cell_at_which_the_launcher_cannot_begin_is_given_up_with_its_reason(here, capsys, monkeypatch):
    tried: list[int] = []

    def launch(self, batches, initial_job_idx):
        tried.append(len(batches))
        raise OSError("no room")

    monkeypatch.setattr(basic_launcher(), "launch", launch)
    assert nat("train", "-m", *CELLS, "seed=0,1", "sweep.name=s") == 1
    assert tried == [2, 1]
    assert capsys.readouterr().err.splitlines()[-1].endswith("the launcher ended early (OSError: no room)")


def test_a_missing_external_file_is_found_before_the_first_cell(here, capsys):
    assert nat("train", "-m", *CELLS, "seed=0,1", "report.external=nowhere.jsonl") == 2
    assert "report.external=nowhere.jsonl: there is no such file." in capsys.readouterr().err


@pytest.mark.parametrize("override", ["hydra.sweeper.max_batch_size=2", "hydra.sweeper._target_=somebodys.Sweeper"])
def test_other_sweepers_are_refused(here, capsys, override):
    assert nat("train", "-m", *CELLS, "seed=0,1", override) == 2
    assert "hydra.sweeper: nat runs every combination" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launchers_run_every_cell_and_joblib_shares_the_threads(here, capsys, monkeypatch, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.removesuffix('_local')}_launcher", reason="extra not installed")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    arguments = (*CELLS, "seed=0,1", "sweep.name=s", f"hydra/launcher={launcher}")
    more = ("hydra.launcher.n_jobs=2", "model.threads=null") if launcher == "joblib" else ()
    assert nat("train", "-m", *arguments, *more) == 0
    assert len(finished(here / "outputs/sweeps/s")) == 2
    if launcher == "joblib":
        threads = {results["threads"] for results in found(here / "outputs/sweeps/s").values()}
        assert threads == {max(1, (os.cpu_count() or 1) // 2)}
    assert capsys.readouterr().err.count("done    seed=") == 2


@pytest.mark.slow
def test_cells_that_run_out_of_disk_fail_and_the_others_finish(here, capsys):
    arguments = ("-m", *CELLS, "seed=range(0,4)", "sweep.name=s")
    sizes = ("4k", "8k", "24k")  # each is full at another file of the cell
    *full, _ = (cell.directory for cell in composition.plan(arguments[1:], multirun=True).cells)
    with ExitStack() as mounted:
        for directory, size in zip(full, sizes, strict=True):
            directory.mkdir(parents=True)
            mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory]
            if subprocess.run(mount, capture_output=True, check=False).returncode:
                pytest.skip("no small file system can be mounted here (mount -t tmpfs needs root)")
            mounted.callback(subprocess.run, ["umount", directory], check=True)
        assert nat("train", *arguments) == 1
        captured = capsys.readouterr()
        said = [line for line in captured.err.splitlines() if "No space left on device" in line]
        for directory in full:
            assert sum(directory.name in line for line in said) >= 2  # as it happens, and again at the end
        last = captured.err.splitlines()[-3:]
        assert all(
            name.name in line and "No space left on device" in line for name, line in zip(full, last, strict=True)
        )
        assert "Traceback (most recent call last)" not in captured.err
        assert len(finished(here / "outputs/sweeps/s")) == 1
    assert nat("train", *arguments) == 0
    assert len(finished(here / "outputs/sweeps/s")) == 4


@pytest.mark.slow
def test_an_unreachable_tracker_costs_no_cell(here, capsys, monkeypatch):
    monkeypatch.setattr(tracking, "START_SECONDS", 5)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert nat("train", "-m", *CELLS[:3], "tracking=wandb", "seed=0", "sweep.name=s") == 0
    assert len(finished(here / "outputs/sweeps/s")) == 1
    assert "warning: tracking" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_killed_at_any_moment_goes_on_and_ends_as_one_that_nobody_killed(here):
    """Every cell completed exactly once, with the results of an uninterrupted sweep."""
    axes = ("train", "-m", "mixing.ratio='1:0','1:1'", "seed=0,1", *TRAINED)
    program = [sys.executable, "-m", "nat", *axes]
    sweep_dir = here / "outputs/sweeps/s"
    kept: dict[str, int] = {}

    def is_running() -> bool:
        return any(results["status"] == "running" for results in found(sweep_dir).values())

    moments: list[Callable[[], bool]] = [
        lambda: time.monotonic() > started + 1.0,  # in planning
        is_running,  # as the first cell begins
        lambda: len(finished(sweep_dir)) > len(kept) and is_running(),  # as a later one begins
    ]
    for is_moment in moments:
        started = time.monotonic()
        process = subprocess.Popen(
            program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while not is_moment() and process.poll() is None and time.monotonic() < started + 120:
            time.sleep(0.02)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        now = finished(sweep_dir)
        assert kept.items() <= now.items()  # what was completed stays as it is
        kept = now
    assert nat(*axes) == 0
    assert kept.items() <= finished(sweep_dir).items()
    assert nat(*axes, "sweep.name=unbroken") == 0

    def outcomes(directory: Path) -> dict[str, str]:
        return {path.parent.name: path.read_text() for path in sorted(directory.glob("*/outcomes.csv"))}

    assert len(outcomes(sweep_dir)) == 4
    assert outcomes(sweep_dir) == outcomes(here / "outputs/sweeps/unbroken")


@pytest.mark.slow
def test_an_interrupt_ends_the_sweep_and_keeps_what_is_done(here):
    program = [sys.executable, "-m", "nat", "train", "-m", *CELLS, "seed=range(0,12)", "sweep.name=s"]
    process = subprocess.Popen(
        program,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that a shell runs in the background inherit ignored interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    sweep_dir = here / "outputs/sweeps/s"
    deadline = time.monotonic() + 120
    while not finished(sweep_dir) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; what was written stays where it is" in err
    assert "the same command with sweep.name=s goes on with the cells that are left" in err
    assert 1 <= len(finished(sweep_dir)) < 12


@pytest.mark.slow
def test_the_advice_counts_the_questions_that_the_files_hold_out(here, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "launch", lambda *_: None)
    pool = [make_trajectory(f"{i}/{s}", bool(s), question=f"What is {i}+7?") for i in range(200) for s in (0, 1)]
    native.write(here / "mine.jsonl", pool)
    mine = ("environment=gsm8k", "trajectories=jsonl", "trajectories.path=mine.jsonl", "mixing.positives=20")
    assert nat("train", "-m", *mine, "method=nut,nat", "seed=0,1,2", "sweep.name=s") == 1
    (asked,) = re.findall(r"With (\d+) questions", capsys.readouterr().out)
    held_out = [t.question for t in pool if t.outcome.success and question_sets.is_held_out(t, 0.1)]
    assert int(asked) == len(held_out) < 40


def test_cells_of_a_sweep_beside_are_copied_and_not_run_again(here, capsys, monkeypatch):
    ran: list[str] = []
    monkeypatch.setattr(sweep, "launch", lambda plan, left, *_: ran.extend(cell.directory.name for cell in left))
    axes = ["method=positive_only", "tracking=none", "seed=0,1"]
    earlier = composition.plan([*axes, "sweep.name=earlier"], multirun=True)
    first, second = earlier.cells
    for cell, status in ((first, "completed"), (second, "failed")):
        (cell.directory / "wandb").mkdir(parents=True)
        (cell.directory / "results.json").write_text(json.dumps({"status": status, "cell": cell.hash}))
    assert nat("train", "-m", *axes, "sweep.name=later") == 1  # one is left, and the stub runs nothing
    here_now = here / "outputs/sweeps/later" / first.directory.name
    assert json.loads((here_now / "results.json").read_text())["cell"] == first.hash
    assert not (here_now / "wandb").exists()
    assert ran == [second.directory.name]
    assert "1 cells are those of outputs/sweeps/earlier, and were copied from there" in capsys.readouterr().out
    saving = composition.plan([*axes, "sweep.name=saves", "training.save=true"], multirun=True)
    assert sweep.borrow(saving, {}) == {}
