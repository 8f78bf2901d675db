"""A small draw of experiments/benchmarks/fuzz_readers.py; `make fuzz` draws at least 200,000 files in all."""

from __future__ import annotations

import sys

import pytest

from nat.trajectories.detection import FORMATS
from nat.trajectories.formats import native
from tests.conftest import ROOT

BENCHMARKS = ROOT / "experiments" / "benchmarks"
if not (BENCHMARKS / "fuzz_readers.py").is_file():
    pytest.skip("experiments/ is in a checkout only, not in an sdist", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
import fuzz_readers  # noqa: E402  # pyright: ignore[reportMissingImports]
from fuzz import run  # noqa: E402  # pyright: ignore[reportMissingImports]


def test_formats_are_drawn():
    drawn = {format.reader.NAME for format in fuzz_readers.READERS.values()}
    assert {"jsonl", "nat", "react", "gsm8k_solutions", "sharegpt", "chat", "alpaca"} <= drawn
    assert drawn <= {"mapped", *(format.name for format in FORMATS)}


@pytest.mark.parametrize("name", fuzz_readers.TARGETS)
def test_nothing_raises_hangs_or_costs_a_good_row(name):
    result = run(fuzz_readers.TARGETS[name], name, 40)
    assert result["findings"] == []
    assert len(result["outcomes"]) > 1


def test_a_lost_row_and_an_error_are_found(monkeypatch):
    target = fuzz_readers.TARGETS["jsonl"]
    read = native.read

    def forgetful(path, *arguments, **options):
        rows = list(read(path, *arguments, **options))
        return rows[:-1] if len(rows) > 1 else rows

    monkeypatch.setattr(native, "read", forgetful)
    assert any("a good row was lost" in finding["found"] for finding in run(target, "jsonl", 20)["findings"])

    def broken(path, *arguments, **options):
        rows = list(read(path, *arguments, **options))
        return rows if len(rows) < 2 else 1 / 0

    monkeypatch.setattr(native, "read", broken)
    assert any("ZeroDivisionError" in finding["found"] for finding in run(target, "jsonl", 20)["findings"])
