"""What stands on a command line besides the verb, and what Hydra answers without running anything."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from nat.config.options import store
from nat.config.tree import Config
from nat.core.paths import CONF_DIR
from nat.sweeps import composition
from nat.sweeps.suited import suited
from nat.types import RequestError

VALUED = ("--cfg", "-c", "--config-dir", "-cd", "--package", "-p", "--info", "-i")  # Hydra's flags that take a value


@dataclass(frozen=True)
class Request:
    """Hydra's overrides, its flags, and the directory of the user's own option files."""

    overrides: tuple[str, ...]
    flags: tuple[str, ...]
    config_dir: str | None

    @property
    def multirun(self) -> bool:
        return "-m" in self.flags or "--multirun" in self.flags

    @property
    def asks_for_help(self) -> bool:
        return asked_for_help(self.flags)

    @property
    def only_shows(self) -> bool:
        """Hydra answers these itself: nothing is run."""
        return any(flag.split("=")[0] in ("--cfg", "-c", "--info", "-i") for flag in self.flags)


def asked_for_help(argv: Sequence[str]) -> bool:
    return any(argument in ("--help", "-h", "--hydra-help") for argument in argv)


def parse(argv: Sequence[str]) -> Request:
    """Split Hydra's flags from overrides, as Hydra's own parser does."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    # argparse would end the program with its own message and exit code.
    parser.error = _refuse  # pyright: ignore[reportAttributeAccessIssue]
    arguments, unknown = parser.parse_known_intermixed_args([a for a in argv if a not in ("--help", "-h")])
    for name in ("config_name", "config_path"):
        if getattr(arguments, name) is not None:
            raise RequestError(
                f"--{name.replace('_', '-')}: nat has one configuration; add to it with --config-dir DIR."
            )
    if unknown:
        raise RequestError(f"{unknown[0]}: no such flag. See nat --help.")
    if arguments.config_dir is not None and not Path(arguments.config_dir).is_dir():
        raise RequestError(f"--config-dir {arguments.config_dir}: there is no such directory.")
    overrides = tuple(arguments.overrides)
    own = ("--config-dir", "-cd")
    flags = []
    for argument in argv:
        is_value = argument in overrides or argument == arguments.config_dir
        if not is_value and argument.split("=")[0] not in own:
            flags.append(argument)
    return Request(tuple(composition.with_rules_quoted(overrides)), tuple(flags), arguments.config_dir)


def _refuse(message: str) -> NoReturn:
    raise RequestError(f"{message}. See nat --help.")


def positional(argv: Sequence[str], usage: str) -> tuple[str, list[str]]:
    """The first argument, which must be no override and no flag, and the others."""
    if not argv or argv[0].startswith("-") or ("=" in argv[0] and not Path(argv[0]).exists()):
        raise RequestError(f"usage: {usage}")
    return argv[0], list(argv[1:])


def named(overrides: Sequence[str]) -> set[str]:
    """The keys that overrides give a value."""
    return {override.lstrip("+~").partition("=")[0] for override in overrides}


def configured(overrides: Sequence[str], config_dir: str | None, *, inputs: bool = True) -> Config:
    """Composed and checked. `inputs`: what is searched must be at hand."""
    overrides = [*overrides, *suited(overrides, config_dir)]
    return composition.checked(composition.compose(overrides, config_dir), overrides, inputs=inputs)


def loaded(module: str) -> Any:
    """A module that carries out a request, loaded once it is known to be right: a wrong one is answered sooner."""
    return import_module(module)


def show(argv: Sequence[str]) -> int:
    """Let Hydra answer what it answers itself: --cfg, --info, --hydra-help."""
    import hydra

    store()
    sys.argv = ["nat train", *composition.with_rules_quoted(argv)]
    run_cell = loaded("nat.sweeps.cells").run_cell
    hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(run_cell)()
    return 0


def help_of_train(overrides: Sequence[str], config_dir: str | None) -> str:
    """The groups with their options, and the composed configuration.

    As Hydra's own help says it, which takes seconds to find the options.
    """
    from omegaconf import OmegaConf

    composed = composition.compose(overrides, config_dir)
    groups = composition.groups(config_dir)
    config = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    return "\n".join([
        "nat train is powered by Hydra.",
        "",
        "== Configuration groups ==",
        "Compose your configuration from those groups (group=option)",
        "",
        *(f"{group}: {', '.join(options)}" for group, options in groups.items()),
        "",
        "",
        "== Config ==",
        "Override anything in the config (foo.bar=value)",
        "",
        OmegaConf.to_yaml(config),
        "",
        "Powered by Hydra (https://hydra.cc)",
        "Use --hydra-help to view Hydra specific help",
        "",
    ])  # fmt: skip
