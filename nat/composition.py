"""From a command line to checked cells: what Hydra will run, composed and validated before it runs."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nat.config import CONF_DIR, Config, field_names, load
from nat.types import RequestError

MAX_NAME = 120  # characters of a cell's directory name before its hash; file systems stop at 255


@dataclass(frozen=True)
class Cell:
    """One run of a command: its overrides, its checked configuration and its directory."""

    overrides: tuple[str, ...]
    config: Config
    directory: Path


@dataclass(frozen=True)
class Plan:
    """What a command line asks for. `arguments` are the ones to hand to Hydra: explicit, with directories fixed."""

    cells: tuple[Cell, ...]
    is_sweep: bool
    directory: Path
    arguments: tuple[str, ...]


def register_resolvers() -> None:
    """`${cell_name:...}`, used by `hydra.sweep.subdir`; also called where a launcher starts another process."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("cell_name", cell_name, replace=True)


def cell_name(override_dirname: str, overrides: Sequence[str]) -> str:
    """A directory name for a cell: its swept keys and values, safe in every file system, and a hash.

    `mixing.ratio=1\\:3,seed=0` becomes `ratio=1to3,seed=0-` and six hexadecimal digits. The hash is of all overrides,
    so that two commands that share a sweep's directory but differ in a value that neither sweeps do not share a cell's.
    """
    exact = override_dirname.replace("\\", "")
    told = sorted(o for o in map(str, overrides) if not o.startswith(("sweep.name=", "tracking")))
    parts = [part.rpartition(".")[2] if "=" not in part else _short_part(part) for part in exact.split(",")]
    readable = re.sub(r"[^A-Za-z0-9=,._+-]+", "_", ",".join(parts))[:MAX_NAME]
    return f"{readable or 'cell'}-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:6]}"


def _short_part(part: str) -> str:
    key, _, value = part.partition("=")
    ratio = re.sub(r"^'?([0-9.]+):([0-9.]+)'?$", r"\1to\2", value)
    return f"{key.rpartition('.')[2]}={ratio}"


def compose(overrides: Sequence[str], config_dir: str | None = None) -> Any:
    """Compose with Hydra, its own part included. Raises RequestError instead of Hydra's exceptions."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register_resolvers()
    GlobalHydra.instance().clear()
    searchpath = [f"hydra.searchpath=[{quote('file://' + str(Path(config_dir).absolute()))}]"] if config_dir else []
    with composition_errors(), initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return hydra_compose("config", overrides=[*overrides, *searchpath], return_hydra_config=True)


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
        where = f" in {group!r}" if group else ""
        if group == "training.sft":
            if close := difflib.get_close_matches(name, _preset_names(), n=1, cutoff=0.8):
                return f"{key}: there is no key {name!r} in 'training.sft'. Did you mean training.sft.{close[0]}?"
            return f"{key}: not among the values of this preset; a field of TRL's SFTConfig is added as +{key}=VALUE"
        return f"{key}: there is no key {name!r}{where}.{_near(key)}"
    if match := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{match[1]}: must be given on the command line, as {match[1]}=VALUE."
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
    group, _, name = key.rpartition(".")
    known = field_names(group.split(".") if group else [])
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f" Did you mean {f'{group}.' if group else ''}{close[0]}?"
    return f"\nKnown there: {', '.join(known)}" if known else ""


def plan(overrides: Sequence[str], multirun: bool = False, config_dir: str | None = None) -> Plan:
    """Compose, check and name every cell that a command line asks for.

    Raises RequestError for the first wrong cell: a sweep with a mistake in its last cell does not start.
    """
    with composition_errors():
        return _plan(list(overrides), multirun, config_dir)


def _plan(overrides: Sequence[str], multirun: bool, config_dir: str | None) -> Plan:
    from hydra.types import RunMode

    parsed = _parse(overrides)
    fixed = [o.input_line or "" for o in parsed if not o.is_sweep_override()]
    swept = [o for o in parsed if o.is_sweep_override()]
    # Without -m Hydra itself refuses a list of values.
    first = compose(fixed if multirun or not swept else list(overrides), config_dir)
    if not (multirun or first.hydra.mode == RunMode.MULTIRUN):
        directory = Path(first.hydra.run.dir)
        task = _task_overrides(overrides)
        cell = Cell(tuple(task), checked(first, task), directory)
        return Plan(
            (cell,), False, directory, (*_without(overrides, "hydra.run.dir"), f"hydra.run.dir={quote(directory)}")
        )

    # A prepared sweep's own axes, unless the command line says something else about the same key.
    named = {o.key_or_group for o in parsed}
    axes = [f"{key}={value}" for key, value in (first.hydra.sweeper.params or {}).items() if key not in named]
    arguments = [*axes, *overrides]
    directory = Path(first.hydra.sweep.dir)
    batches = _batches(arguments)
    swept_keys = set(first.hydra.sweeper.params or {}) | {
        o.key_or_group for o in _parse(arguments) if o.is_sweep_override()
    }
    extra = [
        f"hydra.sweep.dir={quote(directory)}",
        f"sweep.name={quote(first.sweep.name)}",
        "hydra.sweeper.params=null",
    ]
    # A cell is named by what is swept, not by what all cells share.
    shared = {o.split("=")[0].lstrip("+~") for o in _task_overrides([*arguments, *extra])} - swept_keys
    keys = ",".join(quote(key) for key in sorted(shared))
    extra.append(f"hydra.job.config.override_dirname.exclude_keys=[{keys}]")
    arguments = _without(arguments, *(o.partition("=")[0] for o in extra))
    cells = []
    for number, batch in enumerate(batches):
        batch = _without(batch, *(o.partition("=")[0] for o in extra))
        task = _task_overrides([*batch, *extra])
        composed = compose([*batch, *extra, f"hydra.job.num={number}", f"hydra.job.id={number}"], config_dir)
        cells.append(Cell(tuple(task), checked(composed, task), directory / composed.hydra.sweep.subdir))
    if len({cell.directory for cell in cells}) < len(cells):
        raise RequestError("two cells of this sweep are the same; name every value of an axis once.")
    return Plan(tuple(cells), True, directory, (*arguments, *extra))


def checked(composed: Any, task_overrides: Sequence[str]) -> Config:
    """The dataclasses of a composed tree, Hydra's own part left out."""
    return load(resolved(composed), task_overrides)


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
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        return OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))


def _without(overrides: Sequence[str], *keys: str) -> list[str]:
    """Drop overrides of keys that are about to be given with their resolved value."""
    return [o for o in overrides if o.lstrip("+").partition("=")[0] not in keys]


def _task_overrides(overrides: Sequence[str]) -> list[str]:
    return [o for o in overrides if not o.lstrip("+~").startswith("hydra")]


def quote(value: Any) -> str:
    """A value as Hydra's override grammar takes it, whatever characters it has."""
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
