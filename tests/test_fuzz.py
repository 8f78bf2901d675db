"""A small draw of experiments/benchmarks/fuzz.py and fuzz_readers.py; `make fuzz` draws 100,000 inputs and more."""

from __future__ import annotations

import sys
from random import Random

import pytest

from nat.trajectories.detection import FORMATS
from nat.trajectories.formats import native
from tests.conftest import ROOT

BENCHMARKS = ROOT / "experiments" / "benchmarks"
if not (BENCHMARKS / "fuzz_readers.py").is_file():
    pytest.skip("experiments/ is in a checkout only, not in an sdist", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
import fuzz  # noqa: E402  # pyright: ignore[reportMissingImports]
import fuzz_readers  # noqa: E402  # pyright: ignore[reportMissingImports]
from fuzz import run  # noqa: E402  # pyright: ignore[reportMissingImports]
from results import noted  # noqa: E402  # pyright: ignore[reportMissingImports]

TARGETS = ("parse_action", "parse_answer", "calculator", "chain_of_thought", "take_turn")


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


# ---- parsers and tools ----


def test_every_target_is_drawn_here():
    assert tuple(fuzz.TARGETS) == TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_raises_hangs_or_reads_wrongly(name):
    result = fuzz.run(fuzz.TARGETS[name], name, 2000)
    assert result["findings"] == []
    assert sum(result["outcomes"].values()) == 2000
    assert len(result["outcomes"]) > 3  # the draw reaches more than one kind of outcome


def test_what_is_drawn_depends_on_the_number_alone():
    draw = fuzz.TARGETS["parse_action"]
    assert draw(Random("0/x/7")).input == draw(Random("0/x/7")).input
    assert fuzz.run(draw, "x", 5, first=3)["characters"] == sum(
        fuzz.run(draw, "x", 1, first=index)["characters"] for index in range(3, 8)
    )


def test_a_fault_is_found(monkeypatch):
    """A parser that raises, one that reads wrongly, one that is slow."""

    def case(call, judge=lambda value: "done"):
        return fuzz.run(lambda random: fuzz.Case("input", call, judge), "fault", 1)

    def wrong(value):
        raise AssertionError("7 is not 8")

    assert case(lambda: 1 / 0)["findings"][0]["found"] == "ZeroDivisionError: division by zero"
    assert case(lambda: 7, wrong)["findings"][0]["found"] == "AssertionError: 7 is not 8"
    monkeypatch.setattr(fuzz, "LIMIT", 0.0)
    assert "took" in case(lambda: sum(range(100_000)))["findings"][0]["found"]


def test_a_calculator_that_is_wrong_is_found(monkeypatch):
    monkeypatch.setattr(fuzz, "calculate", lambda text: "7")
    result = fuzz.run(fuzz.TARGETS["calculator"], "calculator", 50)
    assert result["found"] > 5
    assert "AssertionError: 7 is not" in result["findings"][0]["found"]


def test_the_committed_run():
    """At least 100,000 inputs of each kind, and nothing found."""
    record = noted("fuzz")
    for name in TARGETS:
        target = record["targets"][name]
        assert target["inputs"] >= 100_000
        assert target["found"] == 0
        assert target["slowest"]["cpu_seconds"] < record["limit_cpu_seconds"] == 1.0
