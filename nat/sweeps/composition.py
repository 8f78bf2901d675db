"""From a command line to checked cells: what Hydra will run, composed and validated before it runs."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nat.config.errors import field_names, who_has
from nat.config.loading import load
from nat.config.options import store
from nat.config.tree import Config
from nat.core.paths import CONF_DIR
from nat.quality.config import CHECK_RULES
from nat.sweeps.cell_hash import cell_hash
from nat.types import RequestError

QUOTES = "'\""
RULES = ("trajectories.label",)  # keys of comparisons, which Hydra's grammar has only in quotes
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
WORTH_A_WORD = 30  # cells; more take some seconds to compose
MAX_NAME = 120  # characters of a cell's directory name before its hash; file systems stop at 255


@dataclass(frozen=True)
class Cell:
    """One run of a command: its overrides, its checked configuration and its directory."""

    overrides: tuple[str, ...]
    config: Config
    directory: Path
    hash: str  # `nat.sweeps.cell_hash.cell_hash` of the configuration


@dataclass(frozen=True)
class Plan:
    """What a command line asks for.

    `arguments` are the ones to hand to Hydra, directories fixed; of a sweep those that hold for every cell.
    """

    cells: tuple[Cell, ...]
    is_sweep: bool
    directory: Path
    arguments: tuple[str, ...]


def cell_name(swept: Sequence[str], cell: str) -> str:
    """A directory name for a cell: its swept values, safe in every file system, and the start of its hash.

    `["mixing.ratio='1:3'", "seed=0"]` becomes `ratio=1to3,seed=0-` and eight hexadecimal digits. An edited input file
    or another value that is not swept gives another name: a cell never writes over another one's results.
    """
    readable = re.sub(r"[^A-Za-z0-9=,._+-]+", "_", ",".join(map(_short_part, sorted(swept))))[:MAX_NAME]
    return f"{readable or 'cell'}-{cell[:8]}"


def _short_part(part: str) -> str:
    key, _, value = part.lstrip("+").replace("\\", "").partition("=")
    ratio = re.sub(r"^'?([0-9.]+):([0-9.]+)'?$", r"\1to\2", value)
    return f"{key.rpartition('.')[2]}={ratio.strip(QUOTES)}"


def compose(overrides: Sequence[str], config_dir: str | None = None) -> Any:
    """Compose with Hydra, its own part included. Raises RequestError instead of Hydra's exceptions."""
    from hydra import compose as hydra_compose

    with composition_errors(), shipped_configuration():
        return hydra_compose("config", overrides=[*overrides, *searchpath(config_dir)], return_hydra_config=True)


@contextmanager
def shipped_configuration() -> Iterator[None]:
    """Hydra with conf/ and the formats of trajectories, in place of what it was started with before."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    store()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        yield


def groups(config_dir: str | None = None) -> dict[str, list[str]]:
    """The configuration groups, Hydra's own left out, each with its options in their order."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.object_type import ObjectType

    found: dict[str, list[str]] = {}
    with composition_errors(), shipped_configuration():
        loader: Any = GlobalHydra.instance().config_loader()
        repository = loader.repository
        if config_dir is not None:
            search_path = loader.get_search_path()
            search_path.append("--config-dir", f"file://{Path(config_dir).absolute()}")
            repository = type(repository)(search_path)

        def look(group: str) -> None:
            if options := repository.get_group_options(group, ObjectType.CONFIG):
                found[group] = sorted(options)
            for inner in repository.get_group_options(group, ObjectType.GROUP):
                look(f"{group}/{inner}")

        for group in repository.get_group_options("", ObjectType.GROUP):
            if group != "hydra":
                look(group)
    return dict(sorted(found.items()))


def searchpath(config_dir: str | None) -> list[str]:
    """The override that stands for `--config-dir`."""
    return [f"hydra.searchpath=[{quote('file://' + str(Path(config_dir).absolute()))}]"] if config_dir else []


@contextmanager
def composition_errors() -> Iterator[None]:
    """Turn what Hydra, OmegaConf and the YAML parser raise into RequestError."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import MarkedYAMLError, YAMLError

    try:
        yield
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{mark.name}:{mark.line + 1}" if mark else "a configuration file"
        raise RequestError(
            f"{where}: not valid YAML: {error.problem}; text with [ ] {{ }} : or # needs quotes."
        ) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"a configuration file is not valid YAML in UTF-8: {error}") from None
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(describe_composition_error(error)) from None


def describe_composition_error(error: Exception) -> str:
    """Hydra's message on a few lines, with what exists instead."""
    text = str(error)
    if match := re.search(r"Could not find '([^']+)'\s+Available options in '[^']+':\n((?:\t.*\n?)+)", text):
        group, _, option = match[1].rpartition("/")
        options = ", ".join(match[2].split())
        return f"{group}={option}: there is no such option.\n{group} can be: {options}"
    if match := re.search(r"Could not override '([^']+)'", text):
        key = match[1]
        group, _, name = key.rpartition(".")
        if match := re.fullmatch(r"model@(also_in\.\w+)\.model", key):
            return (
                f"{match[1]}: this environment brings a model along, and the model is the run's own.\n"
                f"Take the world alone: +environment/worlds@{match[1]}=multihop (or strategic)"
            )
        if match := re.fullmatch(r"evaluation@(also_in\.\w+)\.evaluation", key):
            return f"{match[1]}: environment=own plays nothing; name another environment there."
        if group == "training.sft" and name not in _preset_names():
            if close := difflib.get_close_matches(name, _preset_names(), n=1, cutoff=0.8):
                return f"{key}: there is no key {name!r} in 'training.sft'. Did you mean training.sft.{close[0]}?"
            return f"{key}: not among the values of this preset; a field of TRL's SFTConfig is added as +{key}=VALUE"
        if group == "quality" and name in CHECK_RULES:  # of a check that no option speaks of: it is off
            return (
                f"{key}: the chosen option of 'quality' does not name this rule, which is off; add it as +{key}=VALUE"
            )
        return f"{key}: {_near(key)}"
    if match := re.search(r"Missing mandatory value: (\S+)", text):
        # The message knows the last part of the key, the error the whole of it (or another key that refers to it).
        whole = str(getattr(error, "full_key", None) or "")
        key = whole if whole.endswith(match[1]) else match[1]
        return f"{key}: must be given on the command line, as {key}=VALUE."
    if "Ambiguous value for argument" in text:
        return text.splitlines()[0] + ".\nTo sweep over several values, add -m; for one value with a comma, quote it."
    if "mismatched input" in text or "token recognition" in text or "LexerNoViableAlt" in text:
        first = text.splitlines()[0]
        return f"{first}\nA value with spaces, commas, brackets or = needs quotes inside the shell's: \"KEY='VALUE'\""
    lines = [line.strip() for line in text.splitlines() if line.strip() and "hydra.cc" not in line]
    return "\n".join(lines[:4])


def _preset_names() -> list[str]:
    from omegaconf import OmegaConf

    return [str(name) for name in OmegaConf.load(CONF_DIR / "training" / "sft.yaml").sft]


def _near(key: str) -> str:
    """What is said of a key that the composed options have not."""
    group, _, name = key.rpartition(".")
    # Fields of SFTConfig are free, and so no keys of a kind: it is their place that an option has or not.
    if others := who_has(["training", "sft"] if group == "training.sft" else key.split(".")):
        return f"the chosen option of {key.partition('.')[0]!r} has no such key; {others}."
    missing = f"there is no key {name!r}{f' in {group!r}' if group else ''}."
    known = field_names(group.split(".") if group else [])
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close and close[0] == name:  # a key of another option of the group
        return missing
    if close:
        return f"{missing} Did you mean {f'{group}.' if group else ''}{close[0]}?"
    return f"{missing}\nKnown there: {', '.join(known)}" if known else missing


def plan(overrides: Sequence[str], multirun: bool = False, config_dir: str | None = None) -> Plan:
    """Compose, check and name every cell that a command line asks for.

    Raises RequestError for the first wrong cell: a sweep with a mistake in its last cell does not start.
    """
    with composition_errors():
        return _plan(list(overrides), multirun, config_dir)


def fixed(overrides: Sequence[str]) -> list[str]:
    """The overrides that hold for every cell: without those that give several values."""
    with composition_errors():
        return [o.input_line or "" for o in _parse(overrides) if not o.is_sweep_override()]


def check_shown(overrides: Sequence[str], config_dir: str | None = None) -> None:
    """Refuse wrong values of a configuration that is only shown: its files need not be here, nor the keys it names."""
    with composition_errors():
        fixed = [o.input_line or "" for o in _parse(overrides) if not o.is_sweep_override()]
        checked(compose(fixed, config_dir), _task_overrides(fixed), inputs=False)


def _plan(overrides: Sequence[str], multirun: bool, config_dir: str | None) -> Plan:
    from hydra.types import RunMode

    parsed = _parse(overrides)
    fixed = [o.input_line or "" for o in parsed if not o.is_sweep_override()]
    swept = [o for o in parsed if o.is_sweep_override()]
    first = compose(fixed, config_dir)
    if not (multirun or first.hydra.mode == RunMode.MULTIRUN):
        if swept:
            compose(list(overrides), config_dir)  # Hydra itself refuses a list of values in a single run
        directory = Path(first.hydra.run.dir)
        task = _task_overrides(overrides)
        config = checked(first, task).settled(is_sweep=False)
        arguments = (*_without(overrides, "hydra.run.dir"), f"hydra.run.dir={quote(directory)}")
        return Plan((Cell(tuple(task), config, directory, cell_hash(config)),), False, directory, arguments)

    # A prepared sweep's own axes, unless the command line says something else about the same key.
    named = {o.key_or_group for o in parsed}
    axes = [
        f"{key}={value}"
        for key, value in (first.hydra.sweeper.params or {}).items()
        if key not in named and value  # "": a scale takes an experiment's axis away; Hydra takes no null there
    ]
    if "hydra.sweep.subdir" in named:
        raise RequestError("hydra.sweep.subdir: nat names the cells' directories itself; set hydra.sweep.dir.")
    if first.hydra.sweeper._target_ != BASIC_SWEEPER or first.hydra.sweeper.max_batch_size is not None:
        raise RequestError(
            "hydra.sweeper: nat runs every combination of the values, as many at once as the launcher does\n"
            "(hydra.launcher.n_jobs); other sweepers and hydra.sweeper.max_batch_size are not for it."
        )
    directory = Path(first.hydra.sweep.dir)
    fixed_here = [f"hydra.sweep.dir={quote(directory)}", f"sweep.name={quote(first.sweep.name)}"]
    arguments = [*_without([*axes, *overrides], *(o.partition("=")[0] for o in fixed_here)), *fixed_here]
    swept_keys = set(first.hydra.sweeper.params or {}) | {
        o.key_or_group for o in _parse(arguments) if o.is_sweep_override()
    }
    cells = []
    batches = _batches(arguments)
    if len(batches) > WORTH_A_WORD:
        print(f"composing and checking {len(batches)} cells ...", file=sys.stderr, flush=True)
    for batch in batches:
        task = _task_overrides(batch)
        config = checked(compose(batch, config_dir), task).settled(is_sweep=True)
        cell = cell_hash(config)
        if not config.trains and cell in {other.hash for other in cells if other.overrides != tuple(task)}:
            continue  # the untrained model is one cell, whatever the sweep varies in the training of the others
        swept = [o for o in task if o.lstrip("+").partition("=")[0] in swept_keys]
        cells.append(Cell(tuple(task), config, directory / cell_name(swept, cell), cell))
    if len({cell.hash for cell in cells}) < len(cells):
        raise RequestError("two cells of this sweep are the same; name every value of an axis once.")
    # What the launcher is configured by: all that holds for every cell.
    # Hydra would write its own copy of the configuration, and break the sweep where a cell's disk is full.
    here = [*fixed_here, "hydra.mode=MULTIRUN", "hydra.output_subdir=null"]
    shared = [*_without(fixed, *(o.partition("=")[0] for o in here)), *here]
    return Plan(tuple(cells), True, directory, tuple(shared))


def checked(composed: Any, task_overrides: Sequence[str], *, inputs: bool = True) -> Config:
    """The dataclasses of a composed tree, Hydra's own part left out. `inputs`: what is searched must be at hand."""
    return load(resolved(composed), task_overrides, inputs=inputs)


def resolved(composed: Any) -> dict[str, Any]:
    """A composed tree as plain containers, interpolations resolved, without Hydra's own part."""
    from omegaconf import OmegaConf

    with composition_errors():
        ours = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
        tree = OmegaConf.to_container(ours, resolve=True, throw_on_missing=True)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def _batches(arguments: Sequence[str]) -> list[list[str]]:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    return [list(cell) for batch in BasicSweeper.split_arguments(_parse(arguments), None) for cell in batch]


def _parse(overrides: Sequence[str]) -> list[Any]:
    """Hydra's overrides; `strategy=glob(prefix_*)` needs to know the options that exist."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with shipped_configuration():
        loader = GlobalHydra.instance().config_loader()
        return OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))


def _without(overrides: Sequence[str], *keys: str) -> list[str]:
    """Drop overrides of keys that are about to be given with their resolved value."""
    return [o for o in overrides if o.lstrip("+").partition("=")[0] not in keys]


def _task_overrides(overrides: Sequence[str]) -> list[str]:
    return [o for o in overrides if not o.lstrip("+~").startswith("hydra")]


def with_rules_quoted(overrides: Sequence[str]) -> list[str]:
    """Overrides in which a rule stands as a shell leaves it (`trajectories.label=score >= 0.5`), as Hydra takes them.

    What Hydra can read stays as it is: `info.reward`, null, a rule in quotes of its own, or several of them with commas
    between, the values of a sweep.
    """
    return [_rule_quoted(o) if o.lstrip("+").partition("=")[0] in RULES else o for o in overrides]


def _rule_quoted(override: str) -> str:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, _, value = override.partition("=")
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return f"{key}={quote(value)}"
    return override


def quote(value: Any) -> str:
    """A value as Hydra's override grammar takes it, whatever characters it has."""
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
