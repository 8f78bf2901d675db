"""A small draw of experiments/benchmarks/fuzz.py; `make fuzz` draws at least 100,000 inputs for each target."""

from __future__ import annotations

import importlib.util
import json
import sys
from random import Random
from types import ModuleType

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "experiments" / "benchmarks" / "fuzz.py"
TARGETS = ("parse_action", "parse_answer", "calculator", "chain_of_thought", "take_turn")


def load_fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    return module


if not SCRIPT.is_file():
    pytest.skip("experiments/ is in a checkout only, not in an sdist", allow_module_level=True)
fuzz = load_fuzz()


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
    record = json.loads(SCRIPT.with_suffix(".json").read_text())
    for name in TARGETS:
        target = record["targets"][name]
        assert target["inputs"] >= 100_000
        assert target["found"] == 0
        assert target["slowest"]["cpu_seconds"] < record["limit_cpu_seconds"] == 1.0
