"""Everything that `nat report` writes: text, page, tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nat.comparison.compare import compare
from nat.comparison.config import ReportConfig
from nat.comparison.types import Comparison
from nat.core.files import write_text
from nat.core.paths import CONF_DIR
from nat.reporting import page as report_page
from nat.reporting.pictures import draw as pictures
from nat.reporting.tables import arm_row, as_csv, run_row
from nat.reporting.text import markdown, terminal


@dataclass(frozen=True)
class Report:
    """What a report says, and the files that it is written to."""

    comparison: Comparison
    directory: Path
    files: tuple[str, ...]  # below the directory
    pictures: Mapping[str, Path]  # the PNG files, by name
    text: str  # for a terminal

    def frame(self) -> Any:
        """The finished cells as a pandas DataFrame: the rows of results.csv."""
        import pandas

        return pandas.DataFrame([run_row(run) for run in self.comparison.runs])

    def __str__(self) -> str:
        return self.text


def report(directory: Path, config: ReportConfig | None = None) -> Report:
    """Compare all runs below a directory, or those of a per-question results file, and write what came out.

    The report of a file goes into a directory beside it, `NAME_report`. Without a config the values of
    conf/report/standard.yaml hold.

    Raises RequestError where there is no such directory, no run in it, or a wrong line in a per-question file.
    """
    config = standard() if config is None else config
    comparison = compare(directory, config)
    place = directory
    if directory.is_file():
        place = directory.with_name(f"{directory.stem}_report")
        place.mkdir(exist_ok=True)
    written = ["report.md"]
    drawn: Mapping[str, pictures.Drawn] = {}
    if comparison.runs:
        drawn = pictures.draw(comparison, place)
        write_text(place / "results.csv", as_csv(map(run_row, comparison.runs)))
        write_text(place / "arms.csv", as_csv(arm_row(comparison, arm) for arm in comparison.arms))
        write_text(place / "report.html", report_page.page(comparison, drawn, config.browser_questions))
        written += ["report.html", "results.csv", "arms.csv", *(f"{name}.png/svg" for name in drawn)]
    write_text(place / "report.md", markdown(comparison, {name: one.svg.name for name, one in drawn.items()}))
    text = terminal(comparison, f"written to {place}: {', '.join(written)}")
    return Report(comparison, place, tuple(written), {name: one.png for name, one in drawn.items()}, text)


def standard() -> ReportConfig:
    """The values of conf/report/standard.yaml."""
    import json

    import yaml
    from pydantic import TypeAdapter

    values = yaml.safe_load((CONF_DIR / "report" / "standard.yaml").read_text(encoding="utf-8"))
    return TypeAdapter(ReportConfig).validate_json(json.dumps(values), strict=True)
