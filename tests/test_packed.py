"""A sweep packed into one file: the same report, the same cells, nothing lost."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from nat import cli
from nat.comparison.cells import read
from nat.reporting.write import report
from nat.runs.packed import look_below, pack, packed_runs, run_files, runs_below
from nat.sweeps import composition, sweep
from nat.types import RequestError
from tests.conftest import ROOT
from tests.sweeps_for_tests import plan, without_new_pictures, write_cell, write_sweep

RATES = {("positive_only", 0): 0.4, ("nut", 200): 0.55, ("nat", 200): 0.55}
DEMO = ROOT / "experiments" / "demo"
BASE = ["method=base", "tracking=none", "seed=0,1"]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def packed_away(directory: Path) -> Path:
    """A copy beside it, in which nothing but the packed file is left."""
    copied = directory.with_name("packed") / directory.name
    copied.mkdir(parents=True)
    shutil.copy(pack(directory), copied)
    return copied


def complete(directory: Path, *axes: str) -> composition.Plan:
    """A sweep whose cells are all completed, with a success rate that their seed tells."""
    planned = composition.plan([*axes, f"hydra.sweep.dir={directory}"], multirun=True)
    for cell in planned.cells:
        rate = "11" if cell.config.seed else "10"
        write_cell(cell.directory, "base", rate, seed=cell.config.seed, cell=cell.hash, seconds=1.0)
    return planned


# ---- the file ----


def test_the_same_cells_give_the_same_bytes_wherever_and_whenever_they_are_packed(tmp_path):
    first = write_sweep(tmp_path / "a", RATES, n_questions=20)
    plan(first, ["one"])
    second = tmp_path / "b"
    for path in sorted(first.rglob("*"), reverse=True):  # made in another order, at another time
        if path.is_file():
            (second / path.relative_to(first)).parent.mkdir(parents=True, exist_ok=True)
            (second / path.relative_to(first)).write_bytes(path.read_bytes())
    content = pack(first).read_bytes()
    assert pack(second).read_bytes() == content
    assert pack(first).read_bytes() == content  # over itself
    assert pack(packed_away(first)).read_bytes() == content  # without the folders
    with zipfile.ZipFile(first / "cells.zip") as archive:
        members = archive.infolist()
    assert len(members) == 9 * 3 + 1
    assert [member.filename for member in members][-4:] == [
        "positive_only-100-0-2/config.yaml",
        "positive_only-100-0-2/outcomes.csv",
        "positive_only-100-0-2/results.json",
        "sweep.json",
    ]
    assert {(m.date_time, m.external_attr, m.compress_type) for m in members} == {
        ((1980, 1, 1, 0, 0, 0), 0o644 << 16, 8)
    }


def test_only_completed_cells_are_packed_and_of_them_what_is_small(tmp_path, capsys):
    done = write_cell(tmp_path / "s" / "done", "nat")
    for name in ("metrics.jsonl", "rollouts.jsonl", "nat.log", "manifest.json", "own.json"):
        (done / name).write_text("{}\n")
    (done / "model").mkdir()
    (done / "model" / "config.json").write_text("{}")
    write_cell(tmp_path / "s" / "dead", "nut", status="running")
    pack(tmp_path / "s")
    assert capsys.readouterr().out == f"1 cells in {tmp_path / 's' / 'cells.zip'} (0 before)\n"
    (packed,) = packed_runs(tmp_path / "s")
    assert packed.name == "done"
    assert sorted(packed.packed) == ["config.yaml", "metrics.jsonl", "outcomes.csv", "own.json", "results.json"]
    pack(tmp_path / "s", manifests=["done"])
    pack(tmp_path / "s")  # what is packed stays, though its cell is packed again
    (packed,) = packed_runs(tmp_path / "s")
    assert packed.read_text("manifest.json") == "{}\n"
    assert packed.read_text("rollouts.jsonl") is None


def test_a_folder_takes_the_place_of_the_packed_cell_of_its_hash_or_name(tmp_path):
    for name, hash in (("kept", "h0"), ("renamed", "h1"), ("changed", "h2"), ("left", "h3")):
        write_cell(tmp_path / name, "nut", "10", cell=hash)
    pack(tmp_path)
    shutil.rmtree(tmp_path / "left")
    (tmp_path / "renamed").rename(tmp_path / "another name")
    shutil.rmtree(tmp_path / "changed")
    write_cell(tmp_path / "changed", "nut", "11", cell="h4")
    pack(tmp_path)
    found = {run.name: json.loads(run.read_text("results.json") or "")["cell"] for run in packed_runs(tmp_path)}
    assert found == {"another name": "h1", "changed": "h4", "kept": "h0", "left": "h3"}


def test_two_folders_with_one_hash_are_both_packed_and_packed_again(tmp_path):
    for name in ("a", "b"):
        write_cell(tmp_path / name, "nut", cell="same")
    content = pack(tmp_path).read_bytes()
    assert pack(tmp_path).read_bytes() == content
    assert [run.name for run in packed_runs(tmp_path)] == ["a", "b"]


def test_a_directory_without_a_completed_cell_is_refused(tmp_path):
    write_cell(tmp_path / "dead", "nut", status="failed")
    with pytest.raises(RequestError, match="no completed cell below it, nothing to pack"):
        pack(tmp_path)
    assert not (tmp_path / "cells.zip").exists()


# ---- reports ----


def reported(directory: Path) -> dict[str, bytes]:
    """Everything that `nat report` writes, by name."""
    before = set(directory.iterdir())
    report(directory)
    return {path.name: path.read_bytes() for path in set(directory.iterdir()) - before}


@pytest.mark.skipif(not (DEMO / "cells.zip").exists(), reason="the committed cells are in a checkout only")
def test_the_report_of_a_packed_sweep_is_that_of_its_folders(tmp_path):
    """A committed sweep's, word for word and picture for picture: loss curves come from metrics.jsonl."""
    folders, packed = tmp_path / "demo", tmp_path / "packed" / "demo"
    packed.mkdir(parents=True)
    shutil.copy(DEMO / "cells.zip", packed)
    for run in packed_runs(DEMO):
        run.unpack(folders / run.name)
    expected, found = reported(folders), reported(packed)
    assert expected.keys() == found.keys() >= {"report.md", "report.html", "results.csv", "arms.csv", "loss.svg"}
    assert [name for name in expected if expected[name] != found[name]] == []
    committed = (DEMO / "report.md").read_text()
    assert without_new_pictures(found["report.md"].decode(), committed) == committed


def test_nested_sweeps_are_reported_alike_packed_together_one_by_one_or_not(tmp_path):
    for number in (1, 2):
        cell = tmp_path / "s" / f"round_{number}" / "method=nut"
        write_cell(cell, "nut", cell=f"h{number}", setting={"training.max_steps": number})
        plan(tmp_path / "s" / f"round_{number}", [f"never {number}"])
    expected = read(tmp_path / "s")
    assert expected.missing == ("round_1/never 1: not started", "round_2/never 2: not started")
    together = packed_away(tmp_path / "s")
    one_by_one = tmp_path / "one by one"
    for number in (1, 2):
        (one_by_one / f"round_{number}").mkdir(parents=True)
        shutil.copy(pack(tmp_path / "s" / f"round_{number}"), one_by_one / f"round_{number}")
    for directory in (together, one_by_one):
        found = read(directory)
        assert [run.name for run in found.runs] == [run.name for run in expected.runs]
        assert [run.answers for run in found.runs] == [run.answers for run in expected.runs]
        assert [run.setting for run in found.runs] == [run.setting for run in expected.runs]
        assert (found.missing, found.planned, found.notes) == (expected.missing, 2, ())


def test_a_cell_in_a_folder_and_packed_counts_once_and_the_completed_one(tmp_path):
    for name in ("a", "b"):
        write_cell(tmp_path / name, "nut", "10", setting={"training.max_steps": name})
    plan(tmp_path, ["a", "b", "c"])
    pack(tmp_path)
    (tmp_path / "b" / "results.json").write_text(json.dumps({"status": "running", "cell": f"{'b':->16}"}))
    found = read(tmp_path)
    assert [run.name for run in found.runs] == ["a", "b"]
    assert [run.files.directory for run in found.runs if run.files] == [tmp_path / "a", None]
    assert (found.missing, found.planned, found.notes) == (("c: not started",), 3, ())
    assert [run.directory for run in runs_below(tmp_path)] == [tmp_path / "a", tmp_path / "b", None]
    assert run_files(tmp_path / "a", tmp_path).directory == tmp_path / "a"
    assert run_files(tmp_path / "b", tmp_path).directory is None
    assert run_files(tmp_path / "c", tmp_path).directory == tmp_path / "c"


def test_the_plan_in_the_directory_is_later_than_the_packed_one(tmp_path):
    write_cell(tmp_path / "a", "nut")
    plan(tmp_path, ["a"])
    pack(tmp_path)
    plan(tmp_path, ["a", "b"])
    assert read(tmp_path).planned == 2
    (tmp_path / "sweep.json").unlink()
    assert read(tmp_path).planned == 1


# ---- sweeps ----


def test_a_sweep_runs_only_the_cells_that_are_not_packed(here, capsys, monkeypatch):
    ran: list[str] = []
    monkeypatch.setattr(sweep, "launch", lambda plan, left, *_: ran.extend(cell.directory.name for cell in left))
    planned = complete(here / "s", *BASE)
    pack(here / "s")
    for cell in planned.cells:
        shutil.rmtree(cell.directory)
    assert cli.run(["train", "-m", *BASE, "hydra.sweep.dir=s"]) == 0
    said = capsys.readouterr()
    assert "2 cells below s: 2 completed before, 0 to run" in said.out
    assert "best so far" not in said.err  # no board where nothing runs
    assert not [cell for cell in planned.cells if cell.directory.exists()]  # nothing is unpacked
    assert cli.run(["train", "-m", *BASE[:2], "seed=0,1,2", "hydra.sweep.dir=s"]) == 1
    said = capsys.readouterr()
    assert "3 cells below s: 2 completed before, 1 to run" in said.out
    assert "2 of 3 cells done" in said.err
    assert "best so far 1.000 on test" in said.err  # the board reads the packed results
    assert [name.partition("-")[0] for name in ran] == ["seed=2"]


def test_a_packed_cell_whose_weights_are_wanted_is_run_again(here, monkeypatch):
    ran: list[str] = []
    monkeypatch.setattr(sweep, "launch", lambda plan, left, *_: ran.extend(cell.directory.name for cell in left))
    trained = ["method=positive_only", "mixing.positives=2", "trajectories.successes=4", "tracking=none", "seed=0,1"]
    planned = complete(here / "s", *trained)
    pack(here / "s")
    first, second = planned.cells
    shutil.rmtree(second.directory)
    assert cli.run(["train", "-m", *trained, "training.save=true", "hydra.sweep.dir=s"]) == 1
    assert ran == [second.directory.name]  # the folder of the first may have its weights
    assert first.directory.exists()


def test_packed_cells_of_a_sweep_beside_are_unpacked_here_and_not_run_again(here, capsys, monkeypatch):
    ran: list[str] = []
    monkeypatch.setattr(sweep, "launch", lambda plan, left, *_: ran.extend(cell.directory.name for cell in left))
    complete(here / "sweeps" / "earlier", *BASE)
    packed = packed_runs(pack(here / "sweeps" / "earlier").parent)
    for run in packed:
        shutil.rmtree(here / "sweeps" / "earlier" / run.name)
    assert cli.run(["train", "-m", *BASE[:2], "seed=0,1,2", "hydra.sweep.dir=sweeps/later"]) == 1
    said = capsys.readouterr().out
    assert "2 cells are those of sweeps/earlier, and were copied from there" in said
    assert "3 cells below sweeps/later: 2 completed before, 1 to run" in said
    for run in packed:
        (unpacked,) = (one for one in runs_below(here / "sweeps" / "later") if one.name == run.name)
        assert {name: unpacked.read_text(name) for name in run.packed} == {n: run.read_text(n) for n in run.packed}
    assert [name.partition("-")[0] for name in ran] == ["seed=2"]


# ---- damage ----


def damaged(path: Path) -> bytes:
    """The file with a byte of its first member's content changed."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)
    return bytes(content)


def test_a_damaged_file_is_one_clear_line_and_costs_nothing_else(here, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "launch", lambda *_: None)
    directory = write_sweep(here / "sweeps" / "s", {("nut", 200): 0.5, ("nat", 200): 0.5}, n_questions=20)
    pack(directory)
    shutil.rmtree(directory / "nut-100-200-0")
    content = damaged(directory / "cells.zip")
    found = read(directory)
    assert len(found.runs) == 5
    (line,) = found.missing
    assert line.startswith("cells.zip cannot be read (")
    assert line.endswith("); restore it, or delete it and run its cells again")

    with pytest.raises(RequestError, match=r"s/cells\.zip cannot be read \(.*\); restore it"):
        pack(directory)
    assert (directory / "cells.zip").read_bytes() == content

    assert cli.run(["train", "-m", *BASE, "hydra.sweep.dir=sweeps/s"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "sweeps/s/cells.zip cannot be read (" in line

    assert cli.run(["train", "-m", *BASE, "hydra.sweep.dir=sweeps/beside"]) == 1  # the stub runs nothing
    assert "warning: sweeps/s/cells.zip cannot be read (" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip file at all", None])
def test_whatever_stands_in_place_of_a_packed_file_is_told(tmp_path, content):
    directory = write_sweep(tmp_path / "s", {("nut", 200): 0.5}, n_questions=20, seeds=1)
    whole = pack(directory).read_bytes()
    (directory / "cells.zip").write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert look_below(directory).damaged[0].startswith("cells.zip cannot be read (")
    with pytest.raises(RequestError, match=r"cells\.zip cannot be read"):
        list(runs_below(directory))
