"""`nat train`: one run, or with -m every combination of values."""

from __future__ import annotations

from collections.abc import Sequence

from nat.sweeps import composition
from nat.sweeps.suited import suited
from nat.verbs.request import help_of_train, loaded, parse, show


def main(argv: Sequence[str]) -> int:
    request = parse(argv)
    if request.asks_for_help:
        if "--hydra-help" in argv:
            return show(argv)
        print(help_of_train(request.overrides, request.config_dir))
        return 0
    if request.only_shows:
        composition.check_shown(request.overrides, request.config_dir)
        return show(argv)
    overrides = [*request.overrides, *suited(request.overrides, request.config_dir)]
    planned = composition.plan(overrides, request.multirun, request.config_dir)
    return loaded("nat.sweeps.running").run_plan(planned, request.config_dir)
