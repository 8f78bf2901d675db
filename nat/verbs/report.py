"""`nat report DIR`: all finished runs below a directory, compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nat.reporting.write import Report
from nat.reporting.write import report as write
from nat.types import RequestError
from nat.verbs.request import asked_for_help, configured, parse, positional, show

HELP = (
    "usage: nat report DIR|FILE.jsonl [report.KEY=VALUE]\n"
    "writes the verdict, report.md, report.html, results.csv, arms.csv and pictures\n"
    "FILE.jsonl (or report.external=FILE.jsonl): runs that nat did not make, one answer a line:\n"
    '  {"run": "my-nat-seed0", "method": "nat", "seed": 0, "question": "What is 3 + 4?", "success": true}\n'
    "  also: split (test|validation), score, strategy, positives, negatives, failure, turns\n"
    "report.smallest_effect=0.05 changes what counts as an effect; conf/report/standard.yaml has all keys"
)


def main(argv: Sequence[str]) -> int:
    if asked_for_help(argv):
        print(HELP)
        return 0
    place, rest = positional(argv, "nat report DIR|FILE.jsonl, e.g. nat report outputs/sweeps/demo")
    request = parse(rest)
    if request.only_shows:
        return show(rest)
    print(report(Path(place), request.overrides, request.config_dir).text)
    return 0


def report(place: Path, overrides: Sequence[str], config_dir: str | None = None) -> Report:
    """Compare and write; see `nat.reporting.write.report`. Raises RequestError."""
    if wrong := [o for o in overrides if not o.lstrip("+~").startswith("report")]:
        raise RequestError(f"{wrong[0]}: nat report takes report.KEY=VALUE only; its runs are as they are.")
    return write(place, configured(overrides, config_dir).report)
