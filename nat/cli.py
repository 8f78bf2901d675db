"""`nat VERB [POSITIONAL] [HYDRA OVERRIDES]`: finds the verb, checks the request, hands over to Hydra.

Exit codes: 0 done; 1 a stage failed; 2 the request is wrong; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nat import __version__
from nat.auditing.summary import summary
from nat.config.options import store
from nat.config.tree import check_search
from nat.core import interrupts
from nat.core.paths import CONF_DIR
from nat.reporting import dashboard
from nat.reporting.write import write
from nat.sweeps import cells, composition, sweep
from nat.sweeps.cells import run_cell
from nat.types import RequestError, StageError
from nat.verbs import audit
from nat.verbs import collect as collection
from nat.verbs import inspect as inspection

HELP = """\
nat: should I fine-tune my agent on its failures too? (Negative-Aware Training)

usage: nat VERB [overrides]

  nat train [-m]           mix, condition, fine-tune, roll out; -m sweeps over every value list a,b,c
  nat audit FILES          what is in any pile of trajectories, what is wrong with it, and a clean file to train on
  nat inspect              show training examples as the model sees them, trained tokens apart from masked ones
  nat evaluate MODEL_DIR   roll a saved model out
  nat collect              sample trajectories from a policy: scripted, a local model, an OpenAI-compatible server
  nat report DIR           compare all finished runs below DIR: use the failures, at which ratio, with which text?
  nat dashboard DIR        the same panels as a saved W&B workspace and page (extra: dashboard)

Overrides are Hydra's: GROUP=OPTION and GROUP.KEY=VALUE, with your own option files by --config-dir DIR.
  nat train method=nut mixing.ratio=1:3
  nat train -m method=positive_only,nut,nat seed=0,1,2
  nat train --help         the groups and their options
  nat train --cfg job      the composed configuration, without running it
"""

VERB_HELP = {
    "evaluate": (
        "usage: nat evaluate MODEL_DIR [overrides]   rolls out a run's model/ on its questions, under its prompt;\n"
        "e.g. nat evaluate outputs/runs/NAME/model evaluation.split=validation evaluation.decoding.temperature=0.7"
    ),
    "audit": (
        "usage: nat audit FILES [overrides]   paths, globs, gzip, Parquet, datasets folders; formats are detected\n"
        "writes audit.html, audit.json, clean.jsonl (train on it: trajectories=jsonl) and dropped.jsonl\n"
        "  nat audit 'runs/*.jsonl' environment=hotpotqa audit.evaluation=dev.json\n"
        "  nat audit good.json bad.json trajectories.questions=questions.jsonl\n"
        "  nat audit mine.jsonl \"trajectories.label='score >= 0.5'\" quality=strict audit.fail_on=error\n"
        "trajectories=FORMAT overrides the detection, audit.output=DIR says where to write;\n"
        "conf/audit/ and conf/quality/ have all keys"
    ),
    "inspect": "usage: nat inspect [overrides]   also examples=N, format=html (writes inspect.html)",
    "collect": (
        "usage: nat collect [MODEL_DIR] [overrides]   plays questions x temperatures x samples, each episode appended\n"
        "to a file of trajectories; killed and started again, it goes on. The file trains as trajectories=jsonl.\n"
        "  nat collect environment=multihop collect.n_questions=50\n"
        "  nat collect outputs/runs/NAME/model              a model that nat trained, asked as it was trained to be\n"
        "  nat collect collect=model model=hub model.path=OWNER/NAME\n"
        "  nat collect environment=hotpotqa environment.questions=FILE search=bm25 search.path=CORPUS.jsonl \\\n"
        "    collect=openai collect.endpoint.model=NAME collect.endpoint.base_url=http://localhost:8000/v1\n"
        "collect can be scripted, model, openai; conf/collect/ has their keys (temperatures, samples, output, ...)"
    ),
    "report": (
        "usage: nat report DIR|FILE.jsonl [report.KEY=VALUE]\n"
        "writes the verdict, report.md, report.html, results.csv, arms.csv and pictures\n"
        "FILE.jsonl (or report.external=FILE.jsonl): runs that nat did not make, one answer a line:\n"
        '  {"run": "my-nat-seed0", "method": "nat", "seed": 0, "question": "What is 3 + 4?", "success": true}\n'
        "  also: split (test|validation), score, strategy, positives, negatives, failure, turns\n"
        "report.smallest_effect=0.05 changes what counts as an effect; conf/report/standard.yaml has all keys"
    ),
    "dashboard": (
        "usage: nat dashboard DIR   creates or updates a saved W&B workspace and page for the sweep in DIR;\n"
        "needs pip install 'negative-aware-training[dashboard]' and a login (wandb login)"
    ),
}


@dataclass(frozen=True)
class Request:
    """What stands on a command line besides the verb."""

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


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"nat {__version__}")
        return 0
    verbs: dict[str, Callable[[Sequence[str]], int]] = {
        "train": _train,
        "evaluate": _evaluate,
        "audit": _audit,
        "inspect": _inspect,
        "collect": _collect,
        "report": _report,
        "dashboard": _dashboard,
    }
    try:
        if argv[0] not in verbs:
            raise RequestError(f"nat {argv[0]}: no such command; there are {', '.join(verbs)}. See nat --help.")
        with interrupts.remembered():
            return verbs[argv[0]](argv[1:])
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except StageError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"failed: {error.filename}: {error.strerror}" if error.filename else f"failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; what was written stays where it is", file=sys.stderr)
        return 130


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
    flags = [a for a in argv if a.startswith("-") and not a.startswith("--config")]
    return Request(tuple(arguments.overrides), tuple(flags), arguments.config_dir)


def _refuse(message: str) -> None:
    raise RequestError(f"{message}. See nat --help.")


def _train(argv: Sequence[str]) -> int:
    request = parse(argv)
    if request.asks_for_help:
        return _hydra(argv)

    flags = [a for a in argv if a not in request.overrides]
    if request.only_shows:
        composition.check_shown(request.overrides, request.config_dir)
        return _hydra([*flags, *request.overrides])
    planned = composition.plan(request.overrides, request.multirun, request.config_dir)

    if planned.is_sweep:
        done = sweep.borrow(planned, sweep.done_here(planned))
        n_questions = cells.check_data(planned, done)
        cells.make_directories(planned, done)
        return sweep.run(planned, done, request.config_dir, n_questions)
    cells.make_directories(planned)
    _hydra([*flags, *planned.arguments])
    return cells.conclude(planned)


def _hydra(argv: Sequence[str]) -> int:
    """Let Hydra run `nat.sweeps.cells.run_cell` once per cell."""
    import hydra

    store()
    sys.argv = ["nat train", *argv]
    hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(run_cell)()
    return 0


def _evaluate(argv: Sequence[str]) -> int:
    if asked_for_help(argv):
        print(VERB_HELP["evaluate"])
        return 0
    positional, rest = _positional(argv, "nat evaluate MODEL_DIR, e.g. nat evaluate outputs/runs/NAME/model")
    request = parse(rest)

    return _train(
        [
            *(flag for flag in request.flags if not flag.startswith("--config")),
            *cells.evaluation_arguments(Path(positional), request.overrides, request.config_dir),
        ]
    )


def _audit(argv: Sequence[str]) -> int:
    if asked_for_help(argv):
        print(VERB_HELP["audit"])
        return 0
    files = [a for a in argv if not a.startswith("-") and ("=" not in a or Path(a).exists())]
    rest = [a for a in argv if a not in files]
    request = parse(rest)
    if request.multirun:
        raise RequestError("nat audit reads all files as one collection; leave -m out.")
    named = {override.lstrip("+~").partition("=")[0] for override in request.overrides}
    if not files and "trajectories.path" not in named:
        raise RequestError("usage: nat audit FILES, e.g. nat audit trajectories.jsonl 'more/*.json'")

    own = {
        "trajectories": "auto",
        "training": "none",
        "evaluation": "none",
        "tracking": "none",
    }
    overrides = [f"{key}={value}" for key, value in own.items() if key not in named]
    if files:
        overrides.append(f"trajectories.path=[{','.join(map(composition.quote, files))}]")
    if "trajectories.on_bad_row" not in named:
        overrides.append("trajectories.on_bad_row=drop")
    overrides += request.overrides
    if request.only_shows:
        return _hydra([*(a for a in rest if a not in request.overrides), *overrides])
    config = composition.checked(composition.compose(overrides, request.config_dir), overrides)
    from rich.console import Console

    found = audit.audit(config, lambda line: print(line, flush=True))
    console = Console(highlight=False)
    console.print(summary(found, console.width), soft_wrap=True)
    if found.is_partial:
        return 130
    return int(audit.fails(found, config.audit.fail_on))


def _inspect(argv: Sequence[str]) -> int:
    request = parse(argv)
    if request.asks_for_help:
        print(VERB_HELP["inspect"])
        return 0
    if request.only_shows:
        return _hydra(argv)

    if request.multirun:
        raise RequestError("nat inspect shows one configuration; leave -m out.")
    composed = composition.compose(request.overrides, request.config_dir)
    # Nothing is searched where nothing is played.
    inspection.inspect(composition.checked(composed, request.overrides, inputs=False))
    return 0


def _collect(argv: Sequence[str]) -> int:
    has_model = bool(argv) and not argv[0].startswith("-") and ("=" not in argv[0] or Path(argv[0]).exists())
    given = list(argv[1:] if has_model else argv)
    request = parse(given)
    if request.asks_for_help:
        print(VERB_HELP["collect"])
        return 0
    if request.multirun:
        raise RequestError("nat collect fills one file; leave -m out, and name several values in collect.temperatures.")

    overrides, config_dir = ["training=none", *request.overrides], request.config_dir
    if has_model:  # in its own environment, asked as it was trained to be
        named = {override.lstrip("+~").partition("=")[0] for override in request.overrides}
        own = [o for o in ("collect=model", "collect.as_class=inference") if o.partition("=")[0] not in named]
        overrides = cells.evaluation_arguments(Path(argv[0]), [*own, *request.overrides], config_dir, "collect")
        config_dir = None  # it is among the arguments now
    flags = [a for a in given if a not in request.overrides]
    if request.only_shows:
        return _hydra([*flags, *overrides])
    config = composition.checked(composition.compose(overrides, config_dir), overrides)
    check_search(config.search, [config.environment], config.agent, plays=True)
    return collection.collect(config, lambda line: print(line, flush=True))


def _report(argv: Sequence[str]) -> int:
    if asked_for_help(argv):
        print(VERB_HELP["report"])
        return 0
    positional, rest = _positional(argv, "nat report DIR|FILE.jsonl, e.g. nat report outputs/sweeps/demo")
    request = parse(rest)

    if request.only_shows:
        return _hydra(rest)
    if wrong := [o for o in request.overrides if not o.lstrip("+~").startswith("report")]:
        raise RequestError(f"{wrong[0]}: nat report takes report.KEY=VALUE only; its runs are as they are.")
    config = composition.checked(composition.compose(request.overrides, request.config_dir), request.overrides)

    print(write(Path(positional), config.report))
    return 0


def _dashboard(argv: Sequence[str]) -> int:
    if asked_for_help(argv):
        print(VERB_HELP["dashboard"])
        return 0
    positional, rest = _positional(argv, "nat dashboard DIR, e.g. nat dashboard outputs/sweeps/demo")
    if rest:
        raise RequestError(f"{rest[0]}: nat dashboard takes a sweep's directory only.")

    print(dashboard.write(Path(positional)))
    return 0


def _positional(argv: Sequence[str], usage: str) -> tuple[str, list[str]]:
    if not argv or argv[0].startswith("-") or ("=" in argv[0] and not Path(argv[0]).exists()):
        raise RequestError(f"usage: {usage}")
    return argv[0], list(argv[1:])
