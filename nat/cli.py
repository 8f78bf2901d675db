"""`nat VERB [POSITIONAL] [HYDRA OVERRIDES]`: finds the verb, checks the request, hands over to Hydra.

Exit codes: 0 done; 1 a stage failed; 2 the request is wrong; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from nat.core import interrupts
from nat.core.paths import __version__
from nat.types import RequestError, StageError

VERBS = ("train", "evaluate", "audit", "inspect", "collect", "report", "dashboard")  # one module of nat.verbs each

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
    try:
        if argv[0] not in VERBS:
            raise RequestError(f"nat {argv[0]}: no such command; there are {', '.join(VERBS)}. See nat --help.")
        verb = import_module(f"nat.verbs.{argv[0]}")  # the others need not be loaded
        with interrupts.remembered():
            return verb.main(argv[1:])
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
