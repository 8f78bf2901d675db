# `make help` lists what there is. Everything runs from .venv/, which `make setup` makes from nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two workers suit two cores; each test process keeps to one thread (see tests/conftest.py).
TEST_WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint tables bench fuzz clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## make .venv/ with nat and everything it needs, at tested versions

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nat needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Say which: make setup PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: setup ## train base, positive-only, NUT and NAT on the built-in world, evaluate, compare (about 6 minutes)
	$(BIN)/nat train experiment=demo

test: setup ## every test
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal

test-fast: setup ## the tests that take no more than a few seconds each
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal -m "not slow"

lint: setup ## ruff (lint and format), pyright, and layers that only look down
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

tables: setup ## write the tables of experiments/**/README.md from what was measured
	$(BIN)/python experiments/tables.py

bench: setup ## roll-outs: batched engine against a batch-1 generate loop, interleaved
	$(BIN)/python experiments/benchmarks/rollouts.py

fuzz: setup ## generated inputs: parsers and calculator (100,000 each), readers of trajectory files (20,000 each)
	nice -n 19 $(BIN)/python experiments/benchmarks/fuzz.py
	nice -n 19 $(BIN)/python experiments/benchmarks/fuzz_readers.py

clean: ## remove the virtual environment and caches (never outputs/)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
