"""Finished runs, read back from their files: `nat`'s own cells, and runs that others made
(`nat.comparison.external`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from nat.comparison.arms import OF_THE_METHOD
from nat.comparison.external import read_external
from nat.comparison.types import RunResult
from nat.runs import results as result_files
from nat.runs.outcomes import OUTCOMES, Answer, outcomes_of, read_outcomes, read_rollouts, rollouts_file
from nat.runs.packed import RESULTS, Below, RunFiles, look_below
from nat.runs.results import Results
from nat.types import RequestError

# Keys without effect on what a run's answers are worth, nor on which it gave.
OF_NO_EFFECT = (
    *("sweep", "tracking", "report", "format", "examples", "hydra", "experiment", "scale", "seed"),
    *("training.save", "training.checkpoint_every"),
)
# Keys that change results by rounding at most, only which questions were asked, or what an arm's counts say already:
# they part two runs of the same seed where nothing else does.
OF_LITTLE_EFFECT = (
    *("training.device", "model.threads", "evaluation.decoding.batch_size", "training.sft.logging_steps"),
    *("evaluation.n_questions", "evaluation.n_validation", "evaluation.also_as", "evaluation.split", "also_in"),
    *("method", "mixing.kind", "mixing.ratio", "mixing.positives", "mixing.negatives", "mixing.total", "mixing.tokens"),
)
OF_TRAINING = ("training", "trajectories", "mixing", "strategy", "method")  # no meaning for a run that trains nothing


@plain_dataclass(frozen=True)
class Found:
    """What lies below a directory."""

    runs: tuple[RunResult, ...]  # completed ones with answers, or losses of unseen trajectories
    missing: tuple[str, ...]  # one line each, with the reason
    planned: int  # cells that the sweeps planned; 0 where there is no plan
    notes: tuple[str, ...]  # what was left out on purpose


@plain_dataclass(frozen=True)
class _Cell:
    run: RunResult
    config: Mapping[str, str] | None  # flattened config.yaml; None where there is none
    problem: str | None = None  # why it counts as missing

    @property
    def hash(self) -> str | None:
        return self.run.results.cell


def read_runs(directory: Path, external: Sequence[Path] = ()) -> tuple[list[RunResult], list[str]]:
    """Completed runs below a directory (or of a per-question results file), and one line for each that is missing.

    Raises RequestError where there is no such directory, no run in it, or a wrong line in a per-question file.
    """
    found = read(directory, external)
    return list(found.runs), list(found.missing)


def read(directory: Path, external: Sequence[Path] = ()) -> Found:
    """As `read_runs`, with the number of planned cells and what was left out on purpose."""
    files = list(external)
    cells: list[_Cell] = []
    missing: list[str] = []
    notes: list[str] = []
    planned = 0
    if directory.is_file():
        files.insert(0, directory)
    elif not directory.is_dir():
        raise RequestError(f"nat report {directory}: there is no such directory.")
    else:
        below = look_below(directory)
        found, problems = _read_cells(below)
        cells, notes = _once(found)
        done = [cell for cell in cells if cell.problem is None]
        missing = [*problems, *(f"{cell.run.name}: {cell.problem}" for cell in cells if cell.problem is not None)]
        never, planned = _never_started(below, found)
        missing += never
        cells = _told_apart(done)
        if not found and not problems and not planned and not files:
            raise RequestError(
                f"nat report {directory}: no run below it (no results.json).\n"
                "Name the directory of a run or of a sweep, or a file of per-question results (.jsonl)."
            )
    runs = [cell.run for cell in cells]
    names = {run.name for run in runs}
    asked = {question for run in runs for given in run.answers.values() for question in given}
    for path in files:
        for run in read_external(path, asked):
            # Two files, or a file and a cell, may use the same name; and whose runs they are tells arms apart.
            name = run.name if run.name not in names else f"{path.stem}/{run.name}"
            setting = {"from": path.name} if cells or len(files) > 1 else {}
            runs.append(replace(run, name=name, setting=setting))
            names.add(name)
    return Found(tuple(runs), tuple(sorted(missing)), planned, tuple(notes))


# ---- cells ----


def _read_cells(below: Below) -> tuple[list[_Cell], list[str]]:
    cells, problems = [], list(below.damaged)
    for files in below.runs:
        name = files.name
        try:
            tree = json.loads(files.read_text(RESULTS) or "")
            if not isinstance(tree, dict) or "status" not in tree:
                if files.exists("config.yaml"):
                    problems.append(f"{name}: {RESULTS} was not written by nat (it has no status)")
                continue  # another program's file of the same name
            if not {"method", "cell"} & tree.keys() and not files.exists("config.yaml"):
                continue  # another program's, that has a status too
            results = result_files.read(tree)
        except (ValueError, OSError) as error:
            reason = f"cannot be read ({str(error).splitlines()[0]})"
            problems.append(f"{name}: {RESULTS} {reason}; delete the run, or run it again")
            continue
        cells.append(_read_cell(files, results))
    return cells, problems


def _read_cell(files: RunFiles, results: Results) -> _Cell:
    problem = None
    given = Given({}, {})
    if results.status == "completed":
        try:
            given = read_answers(files, results)
            problem = None if any(given) or results.class_losses else "completed without roll-outs"
        except RequestError as error:
            problem = str(error)
    else:
        message = results.error.first_line if results.error is not None else ""
        status_words = {"running": "running, or killed", "planned": "not started"}.get(results.status, results.status)
        problem = f"{status_words}{': ' + message if message else ''}"
    leaks = dict.fromkeys([*results.leaks, *_leaks_of_manifest(files)])
    place = results.coordinates
    run = RunResult(
        name=files.name,
        files=files,
        status=results.status,
        method=place.method if place else "unknown",
        strategy=place.strategy if place else "none",
        positives=place.positives if place else None,
        negatives=place.negatives if place else None,
        seed=place.seed if place else 0,
        setting={},
        answers=given.own,
        answers_in=given.elsewhere,
        results=replace(results, leaks=tuple(leaks)),
    )
    return _Cell(run, _flat_config(files), problem)


def _leaks_of_manifest(files: RunFiles) -> list[str]:
    manifest = _json(files, "manifest.json")
    leaks = manifest.get("leaks") if isinstance(manifest, Mapping) else None
    return [str(leak) for leak in leaks] if isinstance(leaks, list) else []


def _json(files: RunFiles, name: str) -> Any:
    try:
        return json.loads(files.read_text(name) or "")
    except (ValueError, OSError):
        return None


class Given(NamedTuple):
    """The answers of a run, asked for the inference class: question to answer."""

    own: dict[str, dict[str, Answer]]  # by split
    elsewhere: dict[str, dict[str, Answer]]  # by the further environment's name


def read_answers(files: RunFiles, results: Results) -> Given:
    """Of `outcomes.csv`, or of a cell's roll-outs. Raises RequestError where a file cannot be understood."""
    if files.exists(OUTCOMES):
        passes = read_outcomes(files)
    elif files.directory is not None:
        rollouts = [(one, files.directory / rollouts_file(one)) for one in results.passes]
        passes = [outcomes_of(one, read_rollouts(path)) for one, path in rollouts if path.exists()]
    else:
        passes = []  # roll-outs are not packed
    given = Given({}, {})
    for asked, answers in ((one.asked, dict(one.answers)) for one in passes if one.answers):
        if asked.kind in ("inference", "validation"):
            given.own[asked.split] = answers
        elif asked.kind == "also_in":
            given.elsewhere[str(asked.environment)] = answers
    return given


def _flat_config(files: RunFiles) -> dict[str, str] | None:
    """`config.yaml` as full key to value; None where it is missing, empty or no mapping."""
    import yaml

    try:
        tree = yaml.load(files.read_text("config.yaml") or "", Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return dict(_flat(tree)) if isinstance(tree, dict) and tree else None


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _once(cells: Sequence[_Cell]) -> tuple[list[_Cell], list[str]]:
    """Each cell once by its hash, a completed one before others; and a note on those left out."""
    by_hash: dict[str, _Cell] = {}
    for cell in cells:
        if cell.hash is not None:
            kept = by_hash.setdefault(cell.hash, cell)
            if kept.problem is not None and cell.problem is None:
                by_hash[cell.hash] = cell
    kept = [cell for cell in cells if cell.hash is None or by_hash[cell.hash] is cell]
    twice = []
    for cell in cells:
        if cell.hash is not None and by_hash[cell.hash] is not cell and cell.problem is None:
            counted = by_hash[cell.hash].run
            if n := _disagreements(cell.run, counted):
                twice.append(
                    f"{cell.run.name} is the same cell as {counted.name}, and {n} of its answers are others: one of "
                    f"both is not what its files say. {counted.name} counts."
                )
            else:
                twice.append(f"{cell.run.name} is the same cell as {counted.name} and counts once.")
    return kept, twice


def _disagreements(run: RunResult, other: RunResult) -> int:
    """On how many questions two runs' outcomes differ, or only one has any."""
    return sum(
        first.get(place, {}).get(question) != second.get(place, {}).get(question)
        for first, second in ((run.answers, other.answers), (run.answers_in, other.answers_in))
        for place in {*first, *second}
        for question in {**first.get(place, {}), **second.get(place, {})}
    )


def _never_started(below: Below, cells: Sequence[_Cell]) -> tuple[list[str], int]:
    """One line for each planned cell of which there is no trace, and how many cells were planned.

    A planned cell is known by its hash; one without a hash, from an older file, by its name.
    """
    hashes = {cell.hash for cell in cells if cell.hash is not None}
    names = {cell.run.name for cell in cells}
    lines, planned = [], 0
    for folder, text in sorted(below.plans.items()):
        if any(place.as_posix() in names for place in (PurePosixPath(folder), *PurePosixPath(folder).parents)):
            continue  # a file of a cell
        prefix = f"{folder}/" if folder else ""
        try:
            for cell in json.loads(text)["cells"]:
                planned += 1
                known = cell["cell"] in hashes if cell.get("cell") else f"{prefix}{cell['name']}" in names
                if not known:
                    lines.append(f"{prefix}{cell['name']}: not started")
        except (ValueError, KeyError, TypeError, AttributeError):
            lines.append(f"{prefix}sweep.json cannot be read: cells that never started are not known")
    return lines, planned


# ---- in what runs differ besides their method and seed ----


def _told_apart(cells: Sequence[_Cell]) -> list[_Cell]:
    """The cells with `setting` filled in: the fewest keys that part those which differ in more than method and seed."""
    # Where a cell's config is gone, the overrides have to do for all of them.
    complete = all(cell.config is not None for cell in cells)
    configs = [_masked(cell, cell.config if complete and cell.config else _overrides(cell.run)) for cell in cells]
    swept = {key for cell in cells for key in _overrides(cell.run)}
    keys = dict.fromkeys(key for config in configs for key in config if not _is_under(key, OF_NO_EFFECT))
    # A group's name says more than its values; what was swept more than what follows from it.
    order = sorted(keys, key=lambda key: (not key.endswith(".name"), key not in swept))
    settings: list[dict[str, str]] = [{} for _ in cells]

    def part(key: str, apart: Sequence[Any]) -> None:
        """Take the key in if runs that are the same so far differ in it."""
        values: dict[str, set[str]] = {}
        for place, config in enumerate(configs):
            if key in config:
                values.setdefault(repr((apart[place], settings[place])), set()).add(config[key])
        if any(len(different) > 1 for different in values.values()):
            for setting, config in zip(settings, configs, strict=True):
                if key in config:
                    setting[key.removesuffix(".name")] = _readable(config[key])

    for key in order:
        if not _is_under(key, OF_LITTLE_EFFECT):
            # What makes the method counts only where the same method, strategy and counts hide a difference.
            of_method = _is_under(key, OF_THE_METHOD)
            part(key, [_identity(cell) if of_method else None for cell in cells])
    for config, setting in zip(configs, settings, strict=True):
        if config.get("mixing.hold") == "tokens":  # the counts then follow from the tokens, and differ by the seed
            setting |= {key: config[key] for key in ("mixing.tokens", "mixing.ratio") if key in config}
    # Two runs of the same seed: whatever else there is must part them.
    for key in order:
        if _is_under(key, OF_LITTLE_EFFECT):
            part(key, [(_identity(cell), cell.run.seed) for cell in cells])
    taken: dict[str, int] = {}
    for place, cell in enumerate(cells):
        arm = repr((_identity(cell), cell.run.seed, settings[place]))
        if arm in taken:
            settings[place]["cell"] = (cell.hash or "")[:6] or cell.run.name
        taken[arm] = place
    return [
        replace(cell, run=replace(cell.run, setting=setting)) for cell, setting in zip(cells, settings, strict=True)
    ]


def _identity(cell: _Cell) -> tuple[Any, ...]:
    run = cell.run
    counts = (
        None if (cell.config or {}).get("mixing.hold") == "tokens" else (run.positives, run.negatives)
    )  # `hold=tokens`: see above
    return run.method, run.strategy, counts


def _masked(cell: _Cell, config: Mapping[str, str]) -> dict[str, str]:
    """Without what means nothing for this run: the training of a model that was only evaluated."""
    if config.get("training.objective") != "none" and cell.run.method != "base":
        return dict(config)
    unknown = OF_TRAINING if cell.run.method == "base" else (*OF_TRAINING, "model")  # a saved model's own folder
    return {key: value for key, value in config.items() if not _is_under(key, unknown)}


def _overrides(run: RunResult) -> dict[str, str]:
    pairs = (override.lstrip("+").partition("=") for override in run.results.overrides)
    return {key: value.strip("'\"") for key, _, value in pairs}


def _is_under(key: str, groups: Iterable[str]) -> bool:
    return any(key == group or key.startswith(f"{group}.") for group in groups)


def _readable(value: str) -> str:
    """A path by its last part: where a file lies differs between machines, and tells a reader nothing."""
    return value.rstrip("/").rpartition("/")[2] if value.startswith(("/", "~")) else value
