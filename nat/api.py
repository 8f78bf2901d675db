"""The commands, for Python and notebooks: the same overrides, typed results.

    import nat

    results = nat.train("method=nat", "mixing.ratio=1:2", {"training.max_steps": 100, "seed": 1})
    report = nat.sweep({"method": ["positive_only", "nut", "nat"], "seed": [0, 1, 2], "sweep.name": "mine"})
    report.frame()

Overrides are those of the command line, as strings, or mappings of a key to a value: text (quoted as it needs),
numbers, True, None, a list, a mapping. In `sweep` a list stands for the values of an axis. Everywhere `config_dir`
names a directory of one's own option files.

Wrong requests raise `nat.RequestError`, stages that fail `nat.StageError`. Progress is shown, in a notebook in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from nat.auditing.findings import Audit
from nat.reporting.write import Report
from nat.run import trajectories_of
from nat.runs.results import Results
from nat.sweeps import running
from nat.sweeps.composition import quote, with_rules_quoted
from nat.types import Trajectory
from nat.verbs import audit as audits
from nat.verbs import collect as collections
from nat.verbs import evaluate as evaluations
from nat.verbs import inspect as inspections
from nat.verbs import report as reports
from nat.verbs.collect import Collected
from nat.verbs.inspect import Inspection
from nat.verbs.request import configured

Override: TypeAlias = str | Mapping[str, Any]
Place: TypeAlias = str | Path


def train(*overrides: Override, config_dir: Place | None = None) -> Results:
    """`nat train`: one run, its results. Raises RequestError or StageError where it comes to none."""
    return running.train(_strings(overrides), _folder(config_dir))


def sweep(*overrides: Override, config_dir: Place | None = None) -> Report:
    """`nat train -m`: every combination of values, compared.

    Started again with the same `sweep.name`, it goes on. Cells that failed are listed in `report.comparison.missing`.
    """
    return running.sweep(_strings(overrides, axes=True), _folder(config_dir))


def audit(files: Place | Sequence[Place], *overrides: Override, config_dir: Place | None = None) -> Audit:
    """`nat audit FILES`: what they hold and what is wrong with it; `audit.output` says where the files go."""
    named = [files] if isinstance(files, str | Path) else files
    arguments = audits.arguments([str(file) for file in named], _strings(overrides))
    return audits.audit(configured(arguments, _folder(config_dir)), print)


def collect(*overrides: Override, model: Place | None = None, config_dir: Place | None = None) -> Collected:
    """`nat collect [MODEL_DIR]`: episodes of a policy, appended to `collect.output`."""
    named = None if model is None else str(model)
    arguments = collections.arguments(named, _strings(overrides), _folder(config_dir))
    return collections.collect(collections.asked_of(arguments), print)


def evaluate(model: Place, *overrides: Override, config_dir: Place | None = None) -> Results:
    """`nat evaluate MODEL_DIR`: a saved model rolled out."""
    return evaluations.evaluate(Path(model), _strings(overrides), _folder(config_dir))


def report(place: Place, *overrides: Override, config_dir: Place | None = None) -> Report:
    """`nat report DIR|FILE.jsonl`: finished runs compared, and the files of the report written."""
    return reports.report(Path(place), _strings(overrides), _folder(config_dir))


def inspect(*overrides: Override, config_dir: Place | None = None) -> Inspection:
    """`nat inspect`: training examples as the model sees them; a notebook shows them in colour."""
    return inspections.inspect(configured(_strings(overrides), _folder(config_dir), inputs=False))


def load_trajectories(
    files: Place | Sequence[Place], *overrides: Override, config_dir: Place | None = None
) -> list[Trajectory]:
    """The labelled trajectories of files in any format that is read, each told by its content.

    A row that cannot be used raises RequestError with its file and line; `trajectories.on_bad_row=drop` leaves it out.
    """
    named = [files] if isinstance(files, str | Path) else files
    pattern = {"trajectories": "auto", "trajectories.path": [str(file) for file in named], "evaluation": "none"}
    return trajectories_of(configured(_strings([pattern, *overrides]), _folder(config_dir)))


def _folder(config_dir: Place | None) -> str | None:
    return None if config_dir is None else str(config_dir)


def _strings(overrides: Sequence[Override], axes: bool = False) -> list[str]:
    """As the command line has them. `axes`: a list's elements are an axis of a sweep."""
    strings: list[str] = []
    for override in overrides:
        if isinstance(override, str):
            strings += with_rules_quoted([override])
            continue
        for key, value in override.items():
            is_axis = axes and isinstance(value, list | tuple)
            strings.append(f"{key}={','.join(map(_value, value)) if is_axis else _value(value)}")
    return strings


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{quote(key)}:{_value(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_value, value))}]"
    return quote(value)
